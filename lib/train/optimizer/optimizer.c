#include "train/optimizer/optimizer.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "train/optimizer/basis.h"
#include "train/optimizer/private.h"

enum {
    BLOCK = 1 << 16,         /* elements of a job */
    MIN_PER_THREAD = 1 << 15 /* elements that are worth waking a thread */
};

void optimizer_free(struct optimizer *optimizer)
{
    if (!optimizer)
        return;
    for (size_t i = 0; optimizer->tensors && i < optimizer->tensor_count; i++) {
        free(optimizer->tensors[i].name);
        basis_free(optimizer->tensors[i].basis);
    }
    basis_divide_free(optimizer);
    free(optimizer->tensors);
    free(optimizer->groups);
    free(optimizer->blocks);
    free(optimizer->memory);
    free(optimizer);
}

/* Memory. */

enum { ALIGNMENT = 64, ALIGNED = ALIGNMENT / sizeof(float), ARRAYS_MAX = 10 };

/* Lists the arrays that tensors of a method have, as members of optimizer_array. */
static size_t list_arrays(const struct optimizer_options *options, size_t offsets[ARRAYS_MAX])
{
    bool backprop = options->method == OPTIMIZER_BACKPROP;
    bool draws = options->method == OPTIMIZER_IVON || backprop;
    bool sums = draws && options->samples > 1;
    const struct {
        size_t offset;
        bool wanted;
    } all[ARRAYS_MAX] = {
        {offsetof(struct optimizer_array, mean), true},
        {offsetof(struct optimizer_array, momentum), true},
        {offsetof(struct optimizer_array, hessian), options->method != OPTIMIZER_SGD},
        {offsetof(struct optimizer_array, sample), draws && !options->lanes},
        {offsetof(struct optimizer_array, gradient_sum), sums},
        {offsetof(struct optimizer_array, product_sum), sums},
        {offsetof(struct optimizer_array, noise), draws && options->antithetic && !options->lanes},
        {offsetof(struct optimizer_array, rho), backprop},
        {offsetof(struct optimizer_array, rho_momentum), backprop},
        {offsetof(struct optimizer_array, rho_second), backprop}};
    size_t count = 0;
    for (size_t i = 0; i < ARRAYS_MAX; i++)
        if (all[i].wanted)
            offsets[count++] = all[i].offset;
    return count;
}

/* Lays out the arrays, each over all tensors. Untouched pages cost nothing. */
static int optimizer_allocate(struct optimizer *optimizer, struct ivon_error *error)
{
    size_t offsets[ARRAYS_MAX], arrays = list_arrays(&optimizer->options, offsets);
    size_t total = 0, size;
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        size_t count = optimizer->tensors[i].count;
        if (count > PTRDIFF_MAX / sizeof(float) / ARRAYS_MAX - ALIGNMENT ||
            __builtin_add_overflow(total, (count / ALIGNED + 1) * ALIGNED, &total))
            return ivon_error_memory(error);
    }
    if (__builtin_mul_overflow(total, arrays * sizeof(float), &size) ||
        size > PTRDIFF_MAX - ALIGNMENT)
        return ivon_error_memory(error);
    optimizer->memory = calloc(1, size + ALIGNMENT);
    if (!optimizer->memory)
        return ivon_error_memory(error);
    float *next = (float *)(((uintptr_t)optimizer->memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct optimizer_array *tensor = &optimizer->tensors[i];
        for (size_t array = 0; array < arrays; array++)
            *(float **)(void *)((char *)tensor + offsets[array]) = next + array * total;
        next += (tensor->count / ALIGNED + 1) * ALIGNED;
    }
    return 0;
}

/* The Hessians that IVON begins with; log(e^σ − 1), of which σ is the softplus. */
static void optimizer_begin(struct optimizer_array *tensor)
{
    const struct optimizer_group *group = tensor->group;
    double deviation = 1 / sqrt(group->ess * (group->hessian_init + group->weight_decay));
    float rho = (float)(deviation + log(-expm1(-deviation)));
    for (size_t i = 0; i < tensor->count; i++)
        if (tensor->rho)
            tensor->rho[i] = rho;
        else
            tensor->hessian[i] = (float)group->hessian_init;
}

static int optimizer_divide(struct optimizer *optimizer, struct ivon_error *error)
{
    size_t count = 0, elements = 0;
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        count += optimizer->tensors[i].count / BLOCK + 1;
        elements += optimizer->tensors[i].count;
    }
    optimizer->blocks = calloc(count + 1, sizeof *optimizer->blocks);
    if (!optimizer->blocks)
        return ivon_error_memory(error);
    for (size_t i = 0; i < optimizer->tensor_count; i++)
        for (size_t first = 0; first < optimizer->tensors[i].count; first += BLOCK) {
            size_t left = optimizer->tensors[i].count - first;
            optimizer->blocks[optimizer->block_count++] = (struct optimizer_block){
                .tensor = i, .first = first, .count = left < BLOCK ? left : BLOCK};
        }
    size_t threads = elements / MIN_PER_THREAD + 1;
    optimizer->threads = threads < INT_MAX ? (int)threads : INT_MAX;
    return 0;
}

static int copy_tensors(struct optimizer *optimizer, const struct optimizer_tensor *tensors,
                        size_t group_count, struct ivon_error *error)
{
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct optimizer_array *tensor = &optimizer->tensors[i];
        if (tensors[i].group >= group_count)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "tensor '%s' is in group %zu, expected one below %zu",
                                  tensors[i].name, tensors[i].group, group_count);
        int code = optimizer_check_group(&optimizer->groups[tensors[i].group],
                                         optimizer->options.method, tensors[i].name, error);
        if (code)
            return code;
        tensor->count = tensors[i].count;
        tensor->group = &optimizer->groups[tensors[i].group];
        tensor->name = strdup(tensors[i].name);
        if (!tensor->name)
            return ivon_error_memory(error);
        if (tensors[i].left || tensors[i].right)
            code = optimizer_check_matrix(&tensors[i], optimizer->options.method, error);
        if (!code && (tensors[i].left || tensors[i].right))
            code = basis_new(&tensor->basis, &tensors[i], error);
        if (code)
            return code;
    }
    return 0;
}

int optimizer_new(struct optimizer **out, const struct optimizer_options *options,
                  const struct optimizer_group *groups, size_t group_count,
                  const struct optimizer_tensor *tensors, size_t tensor_count,
                  struct ivon_error *error)
{
    int code = optimizer_check_options(options, error);
    if (code)
        return code;
    struct optimizer *optimizer = calloc(1, sizeof *optimizer);
    if (!optimizer)
        return ivon_error_memory(error);
    optimizer->options = *options;
    optimizer->kept = UINT64_MAX;
    optimizer->tensor_count = tensor_count;
    optimizer->groups = calloc(group_count + 1, sizeof *optimizer->groups);
    optimizer->tensors = calloc(tensor_count + 1, sizeof *optimizer->tensors);
    if (!optimizer->groups || !optimizer->tensors)
        code = ivon_error_memory(error);
    if (!code && group_count)
        memcpy(optimizer->groups, groups, group_count * sizeof *groups);
    if (!code)
        code = copy_tensors(optimizer, tensors, group_count, error);
    if (!code)
        code = optimizer_allocate(optimizer, error);
    if (!code)
        code = optimizer_divide(optimizer, error);
    if (!code)
        code = basis_divide(optimizer, error);
    if (code) {
        optimizer_free(optimizer);
        return code;
    }
    for (size_t i = 0; i < tensor_count && optimizer_draws(optimizer); i++)
        optimizer_begin(&optimizer->tensors[i]);
    *out = optimizer;
    return 0;
}

float *optimizer_mean(const struct optimizer *optimizer, size_t tensor)
{
    return optimizer->tensors[tensor].mean;
}

float *optimizer_hessian(const struct optimizer *optimizer, size_t tensor)
{
    return optimizer->tensors[tensor].hessian;
}

float *optimizer_momentum(const struct optimizer *optimizer, size_t tensor)
{
    return optimizer->tensors[tensor].momentum;
}

float *optimizer_rho(const struct optimizer *optimizer, size_t tensor)
{
    return optimizer->tensors[tensor].rho;
}

float *optimizer_rho_momentum(const struct optimizer *optimizer, size_t tensor)
{
    return optimizer->tensors[tensor].rho_momentum;
}

float *optimizer_rho_second(const struct optimizer *optimizer, size_t tensor)
{
    return optimizer->tensors[tensor].rho_second;
}

void optimizer_rho_hessian(const struct optimizer *optimizer, size_t index, float *out)
{
    const struct optimizer_array *tensor = &optimizer->tensors[index];
    double decay = tensor->group->weight_decay;
    for (size_t i = 0; i < tensor->count; i++) {
        double rho = (double)tensor->rho[i];
        double deviation = fmax(rho, 0) + log1p(exp(-fabs(rho)));
        float h = (float)(1 / (tensor->group->ess * deviation * deviation) - decay);
        out[i] = (double)h + decay > 0 ? h : nextafterf(h, INFINITY);
    }
}

const float *optimizer_parameter(const struct optimizer *optimizer, size_t tensor)
{
    const struct optimizer_array *array = &optimizer->tensors[tensor];
    return array->basis ? array->basis->parameter : array->sample ? array->sample : array->mean;
}

const float *optimizer_network_mean(const struct optimizer *optimizer, size_t tensor)
{
    const struct optimizer_array *array = &optimizer->tensors[tensor];
    return array->basis ? array->basis->mean : array->mean;
}

float *optimizer_basis(const struct optimizer *optimizer, size_t tensor, bool right)
{
    const struct optimizer_basis *basis = optimizer->tensors[tensor].basis;
    return basis ? basis->sides[right ? BASIS_RIGHT : BASIS_LEFT].basis : NULL;
}

int optimizer_set_prior(struct optimizer *optimizer, size_t index, const float *prior_mean,
                        const float *prior_decay, const float *pull, struct ivon_error *error)
{
    struct optimizer_array *tensor = &optimizer->tensors[index];
    const struct optimizer_group *group = tensor->group;
    for (size_t i = 0; i < tensor->count; i++) {
        double decayed = group->hessian_init + (double)prior_decay[i];
        float stored = (float)(decayed - group->weight_decay);
        if (decayed > 0 && !((double)stored + group->weight_decay > 0))
            stored = nextafterf(stored, INFINITY);
        tensor->hessian[i] = stored;
        if (!isfinite(stored) || !(decayed > 0))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "prior of '%s' has precision/ess %g at element %zu, with a "
                                  "Hessian of %g expected a positive sum",
                                  tensor->name, (double)prior_decay[i], i, group->hessian_init);
    }
    tensor->prior_mean = prior_mean;
    tensor->prior_decay = prior_decay;
    tensor->prior_pull = pull;
    return 0;
}

const struct optimizer_group *optimizer_group_of(const struct optimizer *optimizer, size_t tensor)
{
    return optimizer->tensors[tensor].group;
}

uint64_t optimizer_steps(const struct optimizer *optimizer)
{
    return optimizer->steps;
}

void optimizer_resume(struct optimizer *optimizer, uint64_t steps)
{
    optimizer->steps = steps;
    optimizer->sample = 0;
}
