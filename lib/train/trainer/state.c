/* The state of a training, as a checkpoint names it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer/private.h"

void trainer_state_list(const struct ivon_trainer *trainer, size_t parameter,
                        struct state_array arrays[STATE_ARRAYS])
{
    const struct parameter_bases *bases = trainer_bases(trainer, parameter);
    const struct ivon_method_traits *traits = ivon_method_traits(trainer->options.method);
    struct optimizer *optimizer = trainer->optimizer;
    size_t n = bases ? bases->inputs : 0, o = bases ? bases->outputs : 0;
    bool right = bases && !bases->transposed; /* where the inputs are */
    bool averaged = trainer_averages_hessian(trainer);
    float *second = averaged ? NULL : optimizer_hessian(optimizer, parameter);
    /* Those of a posterior have a part of their own. */
    float *input = traits->posterior ? NULL : optimizer_basis(optimizer, parameter, right);
    float *output = traits->posterior ? NULL : optimizer_basis(optimizer, parameter, !right);
    /* Of a parameter with bases the mean itself is rotated_mean, and this one is found from it. */
    float *raw = trainer->average.arrays ? (float *)optimizer_network_mean(optimizer, parameter)
                                         : NULL;
    float *unrounded = trainer->rounded ? (float *)trainer_mean(trainer, parameter) : NULL;
    const struct state_array all[STATE_ARRAYS] = {
        [STATE_UNROUNDED] = {"unrounded_mean", unrounded, 0, 0},
        [STATE_UNAVERAGED] = {"unaveraged_mean", raw, 0, 0},
        {.data = optimizer_momentum(optimizer, parameter)},
        {"second_moment", second, 0, 0},
        {"rotated_mean", bases ? optimizer_mean(optimizer, parameter) : NULL, 0, 0},
        {"input_factor", optimizer_basis_moment(optimizer, parameter, right), n, n},
        {"output_factor", optimizer_basis_moment(optimizer, parameter, !right), o, o},
        {"input_basis", input, n, n},
        {"output_basis", output, o, o},
        {"rho", optimizer_rho(optimizer, parameter), 0, 0},
        {"rho_momentum", optimizer_rho_momentum(optimizer, parameter), 0, 0},
        {"rho_second_moment", optimizer_rho_second(optimizer, parameter), 0, 0}};
    memcpy(arrays, all, sizeof all);
}

/* PREFIX/NAME; null: no memory. */
static char *trainer_state_name(const char *prefix, const char *name)
{
    size_t size = (prefix ? strlen(prefix) : 0) + strlen(name) + 2;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "%s%s%s", prefix ? prefix : "", prefix ? "/" : "", name);
    return text;
}

/* Floats of a matrix. */
static struct ivon_tensor trainer_state_matrix(const char *name, enum ivon_part part, size_t rows,
                                               size_t columns)
{
    return (struct ivon_tensor){.name = name,
                                .part = part,
                                .dtype = IVON_F32,
                                .rank = 2,
                                .shape = {(int64_t)rows, (int64_t)columns},
                                .count = rows * columns,
                                .ess = NAN,
                                .weight_decay = NAN};
}

struct ivon_tensor trainer_state_tensor(const struct state_array *array,
                                        const struct ivon_tensor *mean)
{
    const char *name = trainer_state_name(array->prefix, mean->name);
    struct ivon_tensor tensor = *mean;
    tensor.name = name;
    tensor.part = IVON_MOMENTUM;
    return array->rows ? trainer_state_matrix(name, IVON_MOMENTUM, array->rows, array->columns)
                       : tensor;
}

struct ivon_tensor trainer_state_hessian(const struct ivon_trainer *trainer, size_t parameter)
{
    const struct parameter_bases *bases = trainer_bases(trainer, parameter);
    const struct optimizer_group *group = optimizer_group_of(trainer->optimizer, parameter);
    struct ivon_tensor tensor = *trainer_parameter(trainer, parameter);
    if (bases)
        tensor = trainer_state_matrix(tensor.name, IVON_HESSIAN, bases->outputs, bases->inputs);
    tensor.part = IVON_HESSIAN;
    tensor.ess = group->ess;
    tensor.weight_decay = group->weight_decay;
    return tensor;
}

struct ivon_tensor trainer_state_basis(const struct ivon_trainer *trainer, size_t parameter,
                                       bool input)
{
    const struct parameter_bases *bases = trainer_bases(trainer, parameter);
    size_t size = !bases ? 0 : input ? bases->inputs : bases->outputs;
    return trainer_state_matrix(trainer_parameter(trainer, parameter)->name,
                                input ? IVON_BASIS_INPUT : IVON_BASIS_OUTPUT, size, size);
}

const float *trainer_state_hessian_data(const struct ivon_trainer *trainer, size_t parameter)
{
    const struct parameter_bases *bases = trainer_bases(trainer, parameter);
    if (trainer->rho_hessian.arrays) {
        optimizer_rho_hessian(trainer->optimizer, parameter,
                              trainer->rho_hessian.arrays[parameter]);
        return trainer->rho_hessian.arrays[parameter];
    }
    if (bases && bases->transposed) {
        trainer_state_turn_hessian(trainer, parameter, false);
        return bases->hessian;
    }
    return optimizer_hessian(trainer->optimizer, parameter);
}

void trainer_state_turn_hessian(const struct ivon_trainer *trainer, size_t parameter, bool back)
{
    const struct parameter_bases *bases = &trainer->bases[parameter];
    float *state = optimizer_hessian(trainer->optimizer, parameter);
    size_t o = bases->outputs, n = bases->inputs;
    for (size_t i = 0; i < o; i++)
        for (size_t j = 0; j < n; j++)
            if (back)
                state[j * o + i] = bases->hessian[i * n + j];
            else
                bases->hessian[i * n + j] = state[j * o + i];
}
