#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/adapter/adapter.h"
#include "bayes/posterior.h"
#include "core/error.h"

static int adapter_refuse_shape(const struct adapter *adapter, size_t tensor, const char *expected,
                                struct ivon_error *error)
{
    char found[256];
    const struct ivon_tensor *factor = ivon_source_tensor(adapter->factors, tensor);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s' has shape %s, expected %s",
                          ivon_source_path(adapter->factors), factor->name,
                          ivon_tensor_shape_text(factor, found), expected);
}

/* Returns whether A and B of a module, r × i (and a kernel's extents) and o × r (and ones), have
   the product that a weight o × i, or i × o, takes. */
static bool adapter_product_fits(const struct ivon_tensor *a, const struct ivon_tensor *b,
                                 const struct ivon_tensor *weight, bool transposed)
{
    if (transposed)
        return a->rank == 2 && weight->rank == 2 && weight->shape[0] == a->shape[1] &&
               weight->shape[1] == b->shape[0];
    return weight->rank == a->rank && weight->shape[0] == b->shape[0] &&
           memcmp(weight->shape + 1, a->shape + 1, (size_t)(a->rank - 1) * sizeof a->shape[0]) == 0;
}

/* Finds A and B, of which the rank is as the configuration says. */
static int adapter_find_factors(const struct adapter *adapter, const struct adapter_module *module,
                                int64_t rank, bool embedding, struct adapter_weight *weight,
                                struct ivon_error *error)
{
    char expected[64];
    ptrdiff_t a = module->tensors[embedding ? ADAPTER_EMBEDDING_A : ADAPTER_A];
    ptrdiff_t b = module->tensors[embedding ? ADAPTER_EMBEDDING_B : ADAPTER_B];
    if (a < 0 || b < 0)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: module '%s' lacks its factor %c",
                              ivon_source_path(adapter->factors), module->name, a < 0 ? 'A' : 'B');
    const struct ivon_tensor *left = ivon_source_tensor(adapter->factors, (size_t)b);
    const struct ivon_tensor *right = ivon_source_tensor(adapter->factors, (size_t)a);
    weight->a = (size_t)a;
    weight->b = (size_t)b;
    weight->rank = (size_t)rank;
    if (right->rank < 2 || right->shape[0] != rank) {
        snprintf(expected, sizeof expected, "%" PRId64 " rows, its rank", rank);
        return adapter_refuse_shape(adapter, weight->a, expected, error);
    }
    bool fits = left->rank >= 2 && left->shape[1] == rank;
    for (int i = 2; i < left->rank; i++)
        fits = fits && left->shape[i] == 1;
    snprintf(expected, sizeof expected, "%" PRId64 " columns, its rank", rank);
    return fits ? 0 : adapter_refuse_shape(adapter, weight->b, expected, error);
}

/* Finds which way W lies: where its extents do not say, as the configuration does. */
static int adapter_find_layout(const struct adapter *adapter, const struct adapter_config *config,
                               bool embedding, struct adapter_weight *weight,
                               struct ivon_error *error)
{
    const struct ivon_tensor *a = ivon_source_tensor(adapter->factors, weight->a);
    const struct ivon_tensor *b = ivon_source_tensor(adapter->factors, weight->b);
    const struct ivon_tensor *mean = ivon_source_tensor(weight->from, weight->tensor);
    bool plain = !embedding && adapter_product_fits(a, b, mean, false);
    bool transposed = adapter_product_fits(a, b, mean, true);
    char shape[256], expected[512], other[256];
    if (!plain && transposed && !embedding && !config->fan_in_fan_out)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' would fit '%s', %s, only if fan_in_fan_out were true in "
                              "adapter_config.json",
                              ivon_source_path(adapter->factors), a->name, mean->name,
                              ivon_tensor_shape_text(mean, shape));
    if (!plain && !transposed) {
        snprintf(expected, sizeof expected, "one that fits '%.120s', %s, and B, %s", mean->name,
                 ivon_tensor_shape_text(mean, shape), ivon_tensor_shape_text(b, other));
        return adapter_refuse_shape(adapter, weight->a, expected, error);
    }
    weight->embedding = embedding;
    weight->transposed = transposed && (!plain || config->fan_in_fan_out);
    weight->rows = (size_t)mean->shape[0];
    weight->columns = mean->count / (weight->rows ? weight->rows : 1);
    return 0;
}

static int adapter_find_magnitude(const struct adapter *adapter,
                                  const struct adapter_config *config,
                                  const struct adapter_module *module,
                                  struct adapter_weight *weight, struct ivon_error *error)
{
    char expected[64];
    weight->magnitude = module->tensors[ADAPTER_MAGNITUDE];
    if (config->dora != (weight->magnitude >= 0))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: module '%s' has %s, and adapter_config.json says that use_dora "
                              "is %s",
                              ivon_source_path(adapter->factors), module->name,
                              config->dora ? "no magnitudes" : "magnitudes of DoRA",
                              config->dora ? "true" : "false");
    size_t outputs = adapter_outputs(weight);
    snprintf(expected, sizeof expected, "%zu elements, one for each output", outputs);
    return config->dora &&
                   ivon_source_tensor(adapter->factors, (size_t)weight->magnitude)->count != outputs
               ? adapter_refuse_shape(adapter, (size_t)weight->magnitude, expected, error)
               : 0;
}

static int adapter_find_hessians(struct adapter *adapter, struct adapter_weight *weight,
                                 struct ivon_error *error)
{
    size_t means[] = {weight->a, weight->b};
    ptrdiff_t *found[] = {&weight->a_hessian, &weight->b_hessian};
    int code = 0;
    for (int i = 0; i < 2 && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(adapter->factors, means[i]);
        *found[i] = ivon_source_find(adapter->factors, IVON_HESSIAN, mean->name);
        if (*found[i] >= 0)
            code = posterior_check_hessian(adapter->factors, mean,
                                           ivon_source_tensor(adapter->factors, (size_t)*found[i]),
                                           true, error);
    }
    return code;
}

/* Finds a tensor of the base for a module, or fails. */
static int adapter_find_in_base(const struct adapter *adapter,
                                const struct adapter_modules *modules, const char *module,
                                const char *ending, size_t *tensor, struct ivon_error *error)
{
    char *name = adapter_base_name(modules, module, ending);
    if (!name)
        return ivon_error_memory(error);
    ptrdiff_t found = ivon_source_find(adapter->base, IVON_MEAN, name);
    const char *alias = found < 0 ? ivon_source_alias(adapter->base, name) : NULL;
    const char *path = ivon_source_path(adapter->factors), *base = ivon_source_path(adapter->base);
    int code = 0;
    if (found < 0 && alias)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has factors for '%s', in the base %s a second name of '%s', "
                              "which cannot differ from it",
                              path, name, base, alias);
    else if (found < 0)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has factors for '%s', which is not in the base %s", path, name,
                              base);
    free(name);
    *tensor = (size_t)found;
    return code;
}

/* The shift of a module's bias, s times what the adapter learnt. */
static int adapter_plan_shift(struct adapter *adapter, const struct adapter_modules *modules,
                              const struct adapter_module *module, double scale,
                              struct ivon_error *error)
{
    size_t bias;
    ptrdiff_t shift = module->tensors[ADAPTER_SHIFT];
    int code = shift < 0
                   ? 0
                   : adapter_find_in_base(adapter, modules, module->name, ".bias", &bias, error);
    if (shift < 0 || code)
        return code;
    const struct ivon_tensor *mean = ivon_source_tensor(adapter->base, bias);
    const struct ivon_tensor *own = ivon_source_tensor(adapter->factors, (size_t)shift);
    char expected[256];
    if (!posterior_same_shape(mean, own))
        return adapter_refuse_shape(adapter, (size_t)shift, ivon_tensor_shape_text(mean, expected),
                                    error);
    adapter->changes[bias].shift = shift;
    adapter->changes[bias].scale = scale;
    ptrdiff_t hessian = ivon_source_find(adapter->factors, IVON_HESSIAN, own->name);
    return hessian < 0
               ? 0
               : posterior_check_hessian(adapter->factors, own,
                                         ivon_source_tensor(adapter->factors, (size_t)hessian),
                                         true, error);
}

static int adapter_refuse_twice(const struct adapter *adapter, size_t base,
                                struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: has '%s' of the base %s twice",
                          ivon_source_path(adapter->factors),
                          ivon_source_tensor(adapter->base, base)->name,
                          ivon_source_path(adapter->base));
}

static int adapter_plan_product(struct adapter *adapter, const struct adapter_config *config,
                                const struct adapter_modules *modules,
                                const struct adapter_module *module, struct ivon_error *error)
{
    size_t base;
    int64_t rank;
    double scale;
    struct adapter_weight *weight = &adapter->weights[adapter->weight_count];
    bool embedding = module->tensors[ADAPTER_EMBEDDING_A] >= 0 ||
                     module->tensors[ADAPTER_EMBEDDING_B] >= 0;
    int code = adapter_find_in_base(adapter, modules, module->name, ".weight", &base, error);
    if (!code)
        code = adapter_config_scale(config, module->name, &rank, &scale, error);
    if (code)
        return code;
    struct adapter_change *change = &adapter->changes[base];
    if (change->weight >= 0)
        return adapter_refuse_twice(adapter, base, error);
    *weight = (struct adapter_weight){.factors = adapter->factors, .scale = scale};
    weight->from = change->whole < 0 ? adapter->base : adapter->factors;
    weight->tensor = change->whole < 0 ? base : (size_t)change->whole;
    change->weight = (ptrdiff_t)adapter->weight_count++;
    code = adapter_find_factors(adapter, module, rank, embedding, weight, error);
    if (!code)
        code = adapter_find_layout(adapter, config, embedding, weight, error);
    if (!code)
        code = adapter_find_magnitude(adapter, config, module, weight, error);
    if (!code)
        code = adapter_find_hessians(adapter, weight, error);
    return code ? code : adapter_plan_shift(adapter, modules, module, scale, error);
}

int adapter_plan_changes(struct adapter *adapter, const struct adapter_config *config,
                         const struct adapter_modules *modules, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < modules->count && !code; i++) {
        const struct adapter_module *module = &modules->items[i];
        if (adapter_module_has_factors(module))
            continue;
        size_t own = (size_t)module->tensors[ADAPTER_WHOLE];
        char *name = adapter_base_name(modules, module->name, "");
        ptrdiff_t base = name ? ivon_source_find(adapter->base,
                                                 ivon_source_tensor(adapter->factors, own)->part,
                                                 name)
                              : -1;
        code = name ? 0 : ivon_error_memory(error);
        free(name);
        if (base >= 0 && adapter->changes[base].whole >= 0)
            code = adapter_refuse_twice(adapter, (size_t)base, error);
        if (base >= 0)
            adapter->changes[base].whole = (ptrdiff_t)own;
    }
    for (size_t i = 0; i < modules->count && !code; i++)
        if (adapter_module_has_factors(&modules->items[i]))
            code = adapter_plan_product(adapter, config, modules, &modules->items[i], error);
    return code;
}
