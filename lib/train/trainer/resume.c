/* The state of a training from a checkpoint. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "bayes/posterior.h"
#include "core/error.h"
#include "core/stream.h"
#include "train/trainer/private.h"

static int resume_check_header(const struct ivon_trainer *trainer, const struct ivon_source *source,
                               struct ivon_error *error)
{
    const struct ivon_header *found = ivon_source_header(source);
    const struct ivon_header expected = trainer_header(trainer);
    const char *path = ivon_source_path(source);
    if (found->step < 0)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: says no step, with which a training could go on", path);
    if (found->n_train != expected.n_train)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: was trained with %" PRId64 " losses, the data have %" PRId64,
                              path, found->n_train, expected.n_train);
    if (isnan(expected.ess) != isnan(found->ess))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: was trained with another method", path);
    if (!isnan(expected.ess) &&
        (found->ess != expected.ess || found->weight_decay != expected.weight_decay))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: was trained with ess %g and weight decay %g, expected %g and %g",
                              path, found->ess, found->weight_decay, expected.ess,
                              expected.weight_decay);
    return 0;
}

/* Reads an array of the state, which must have the expected shape. `decay`: every element and it
   must have a positive sum. */
static int resume_read(struct ivon_source *source, const struct ivon_tensor *expected, double decay,
                       float *out, struct ivon_error *error)
{
    ptrdiff_t found = ivon_source_find(source, expected->part, expected->name);
    const char *part = ivon_part_name(expected->part);
    struct net_tensor read = {0};
    int code = found < 0 ? ivon_source_refuse_opaque(source, expected->part, expected->name, error)
                         : 0;
    if (code)
        return code;
    if (found < 0 || !posterior_same_shape(expected, ivon_source_tensor(source, (size_t)found))) {
        char shape[256];
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has no %s '%s' of shape %s, with which a training could go on",
                              ivon_source_path(source), part, expected->name,
                              ivon_tensor_shape_text(expected, shape));
    }
    code = net_tensor_read(&read, source, (size_t)found, error);
    for (size_t j = 0; j < expected->count && !code; j++) {
        out[j] = ((const float *)read.data)[j];
        if (!isfinite(out[j]) || !((double)out[j] + decay > 0))
            code = ivon_error_set(
                error, IVON_ERROR_DATA, "%s: %s '%s': element %zu is %g, which no training leaves",
                ivon_source_path(source), part, expected->name, j, (double)out[j]);
    }
    free(read.data);
    return code;
}

/* Fails where a checkpoint has, of a parameter, what this training has not: it would be another. */
static int resume_refuse_other(struct ivon_source *source, const struct ivon_tensor *other,
                               struct ivon_error *error)
{
    if (ivon_source_find(source, other->part, other->name) < 0)
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: has %s '%s': was trained with another method, or other bases",
                          ivon_source_path(source), ivon_part_name(other->part), other->name);
}

/* The same of means that are averages, or rounded, the others not. */
static int resume_refuse_mean(struct ivon_source *source, const struct ivon_tensor *raw,
                              bool rounded, struct ivon_error *error)
{
    return ivon_source_find(source, raw->part, raw->name) < 0
               ? 0
               : ivon_error_set(error, IVON_ERROR_DATA,
                                rounded
                                    ? "%s: its means are rounded, expected f32"
                                    : "%s: its means are averages, expected those of a training "
                                      "without",
                                ivon_source_path(source));
}

static int resume_arrays(const struct ivon_trainer *trainer, struct ivon_source *source, size_t i,
                         struct ivon_error *error)
{
    const struct ivon_tensor *mean = trainer_parameter(trainer, i);
    struct state_array arrays[STATE_ARRAYS];
    int code = 0;
    trainer_state_list(trainer, i, arrays);
    for (size_t k = 0; k < STATE_ARRAYS && !code; k++) {
        struct ivon_tensor tensor = trainer_state_tensor(&arrays[k], mean);
        code = !tensor.name ? ivon_error_memory(error)
               : k <= STATE_UNAVERAGED && !arrays[k].data
                   ? resume_refuse_mean(source, &tensor, k == STATE_UNROUNDED, error)
               : !arrays[k].data ? resume_refuse_other(source, &tensor, error)
                                 : resume_read(source, &tensor, INFINITY, arrays[k].data, error);
        free((char *)tensor.name);
    }
    return code;
}

/* Fails where a parameter's Hessian is of another ess or weight decay than its group's. */
static int resume_check_group(const struct ivon_trainer *trainer, const struct ivon_source *source,
                              size_t i, struct ivon_error *error)
{
    const struct optimizer_group *group = optimizer_group_of(trainer->optimizer, i);
    const char *name = trainer_parameter(trainer, i)->name;
    ptrdiff_t at = ivon_source_find(source, IVON_HESSIAN, name);
    const struct ivon_tensor *found = at < 0 ? NULL : ivon_source_tensor(source, (size_t)at);
    if (!found || !ivon_method_traits(trainer->options.method)->posterior ||
        (found->ess == group->ess && found->weight_decay == group->weight_decay))
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: tensor '%s' was trained with ess %g and weight decay %g, expected "
                          "%g and %g",
                          ivon_source_path(source), name, found->ess, found->weight_decay,
                          group->ess, group->weight_decay);
}

static int resume_hessian(const struct ivon_trainer *trainer, struct ivon_source *source, size_t i,
                          struct ivon_error *error)
{
    const struct parameter_bases *bases = trainer_bases(trainer, i);
    const struct ivon_tensor tensor = trainer_state_hessian(trainer, i);
    bool turned = bases && bases->transposed;
    int code = resume_read(source, &tensor, tensor.weight_decay,
                           turned ? bases->hessian : optimizer_hessian(trainer->optimizer, i),
                           error);
    if (!code && turned)
        trainer_state_turn_hessian(trainer, i, true);
    return code;
}

static int resume_basis(const struct ivon_trainer *trainer, struct ivon_source *source, size_t i,
                        bool input, struct ivon_error *error)
{
    const struct parameter_bases *bases = trainer_bases(trainer, i);
    const struct ivon_tensor tensor = trainer_state_basis(trainer, i, input);
    bool posterior = ivon_method_traits(trainer->options.method)->posterior;
    if (!posterior || !bases || !(input ? bases->input : bases->output))
        return resume_refuse_other(source, &tensor, error);
    return resume_read(source, &tensor, INFINITY,
                       optimizer_basis(trainer->optimizer, i, input != bases->transposed), error);
}

int trainer_resume(struct ivon_trainer *trainer, struct ivon_source *source,
                   struct ivon_error *error)
{
    int code = resume_check_header(trainer, source, error);
    for (size_t i = 0; i < trainer->network->parameter_count && !code; i++) {
        code = resume_check_group(trainer, source, i, error);
        if (!code)
            code = resume_arrays(trainer, source, i, error);
        if (!code)
            code = resume_basis(trainer, source, i, true, error);
        if (!code)
            code = resume_basis(trainer, source, i, false, error);
        if (!code && trainer_averages_hessian(trainer))
            code = resume_hessian(trainer, source, i, error);
    }
    if (!code)
        optimizer_resume(trainer->optimizer, (uint64_t)ivon_source_header(source)->step);
    return code;
}
