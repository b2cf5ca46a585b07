/* A base with an adapter upon it, as a source. */
#include "ivon/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bayes/adapter/adapter.h"
#include "bayes/posterior.h"
#include "bayes/structure.h"
#include "core/error.h"
#include "core/names.h"
#include "core/stream.h"

/* How a tensor of the source is made. */
enum kind {
    KIND_CARRIED,      /* as another source has it */
    KIND_PRODUCT,      /* W + s B A */
    KIND_PRODUCT_TERM, /* its Hessian */
    KIND_SHIFTED,      /* a bias + s times the adapter's */
    KIND_SHIFTED_TERM, /* its Hessian */
    KIND_ZERO          /* the Hessian of what the adapter leaves alone */
};

struct adapter_entry {
    enum kind kind;
    struct ivon_source *from; /* of what is carried, or shifted */
    size_t tensor;
    size_t weight; /* of a product */
    size_t shift;  /* the factors' tensor that is added, or its Hessian */
    double scale;  /* of the shift */
    double ess, weight_decay;
};

static int shifted_read(const struct adapter *adapter, const struct adapter_entry *entry,
                        size_t first, size_t count, double *out, struct ivon_error *error)
{
    enum { PIECE = 512 };
    double shift[PIECE];
    int code = adapter_load(entry->from, entry->tensor, first, count, out, error);
    for (size_t done = 0; done < count && !code; done += PIECE) {
        size_t piece = count - done < PIECE ? count - done : PIECE;
        code = adapter_load(adapter->factors, entry->shift, first + done, piece, shift, error);
        for (size_t i = 0; i < piece && !code; i++)
            out[done + i] += entry->scale * shift[i];
    }
    return code;
}

/* λ (h + δ)/s² is the precision of s b: h/s² and δ/s² are its parts. */
static int shifted_hessian(const struct adapter *adapter, const struct adapter_entry *entry,
                           size_t first, size_t count, double *out, struct ivon_error *error)
{
    double squared = entry->scale * entry->scale;
    int code = adapter_load(adapter->factors, entry->shift, first, count, out, error);
    for (size_t i = 0; i < count && !code; i++)
        out[i] /= squared;
    return code;
}

static int adapter_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                        struct ivon_error *error)
{
    struct adapter *adapter = self;
    const struct adapter_entry *entry = &adapter->entries[tensor];
    struct adapter_weight *weight = &adapter->weights[entry->weight];
    switch (entry->kind) {
    case KIND_CARRIED:
        return ivon_source_read(entry->from, entry->tensor, first, count, buffer, error);
    case KIND_PRODUCT:
        return adapter_weight_read(weight, &adapter->lock, first, count, buffer, error);
    case KIND_PRODUCT_TERM:
        return adapter_weight_hessian(weight, entry->ess, first, count, buffer, error);
    case KIND_SHIFTED:
        return shifted_read(adapter, entry, first, count, buffer, error);
    case KIND_SHIFTED_TERM:
        return shifted_hessian(adapter, entry, first, count, buffer, error);
    default:
        memset(buffer, 0, count * sizeof(float));
        return 0;
    }
}

static const void *adapter_view(void *self, size_t tensor)
{
    const struct adapter_entry *entry = &((struct adapter *)self)->entries[tensor];
    return entry->kind == KIND_CARRIED ? ivon_source_view(entry->from, entry->tensor, 0) : NULL;
}

/* Of a computed tensor, for the range of the base's that it is made of. */
static void adapter_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct adapter *adapter = self;
    const struct adapter_entry *entry = &adapter->entries[tensor];
    struct ivon_source *from = entry->from;
    size_t at = entry->tensor;
    if (entry->kind == KIND_PRODUCT) {
        from = adapter->weights[entry->weight].from;
        at = adapter->weights[entry->weight].tensor;
    }
    if (from)
        (advice == MADV_WILLNEED ? ivon_source_will_need : ivon_source_done_with)(from, at, first,
                                                                                  count);
}

static void adapter_close(void *self)
{
    struct adapter *adapter = self;
    for (size_t i = 0; i < adapter->weight_count; i++)
        free(adapter->weights[i].factor);
    ivon_source_close(adapter->factors);
    pthread_mutex_destroy(&adapter->lock);
    free(adapter->weights);
    free(adapter->entries);
    free(adapter->changes);
    free(adapter);
}

static const struct ivon_source_class class = {
    .read = adapter_read, .view = adapter_view, .advise = adapter_advise, .close = adapter_close};

const struct adapter_weight *adapter_source_weight(const struct ivon_source *source, size_t tensor,
                                                   const struct ivon_source *base, bool *same)
{
    const struct adapter *adapter = source_self(source, &class);
    *same = false;
    if (!adapter || adapter->base != base)
        return NULL;
    const struct adapter_entry *entry = &adapter->entries[tensor];
    *same = entry->kind == KIND_CARRIED && entry->from == base;
    if (entry->kind != KIND_PRODUCT)
        return NULL;
    const struct adapter_weight *weight = &adapter->weights[entry->weight];
    return weight->magnitude < 0 && weight->from == base ? weight : NULL;
}

bool ivon_adapter_recognise(const struct ivon_source *source)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part == IVON_MEAN && (name_any_component(tensor->name, adapter_is_factor) ||
                                          strncmp(tensor->name, "base_model.model.", 17) == 0))
            return true;
    }
    return false;
}

static int adapter_add_entry(struct adapter *adapter, struct tensor_list *list,
                             const struct adapter_entry *entry, const struct ivon_tensor *tensor,
                             struct ivon_error *error)
{
    adapter->entries[adapter->entry_count++] = *entry;
    return tensor_list_append(list, tensor, error);
}

/* Lists a tensor of the base as the adapter has it. */
static int adapter_list_tensor(struct adapter *adapter, struct tensor_list *list, size_t index,
                               struct ivon_error *error)
{
    const struct adapter_change *change = &adapter->changes[index];
    struct adapter_entry entry = {.from = adapter->base, .tensor = index};
    struct ivon_tensor tensor = *ivon_source_tensor(adapter->base, index);
    if (change->whole >= 0) {
        const char *name = tensor.name;
        entry.from = adapter->factors;
        entry.tensor = (size_t)change->whole;
        tensor = *ivon_source_tensor(adapter->factors, entry.tensor);
        tensor.name = name;
    }
    if (change->weight >= 0) {
        entry.kind = KIND_PRODUCT;
        entry.weight = (size_t)change->weight;
        tensor.dtype = IVON_F64;
    } else if (change->shift >= 0) {
        entry.kind = KIND_SHIFTED;
        entry.shift = (size_t)change->shift;
        entry.scale = change->scale;
        tensor.dtype = IVON_F64;
    }
    return adapter_add_entry(adapter, list, &entry, &tensor, error);
}

/* The entry of the Hessian of a tensor of the base; false where there is none. */
static bool adapter_hessian_entry(const struct adapter *adapter, size_t index, const double own[2],
                                  struct adapter_entry *entry)
{
    const struct adapter_change *change = &adapter->changes[index];
    const struct ivon_tensor *hessian = NULL;
    ptrdiff_t found = -1;
    *entry = (struct adapter_entry){.kind = KIND_ZERO, .ess = own[0], .weight_decay = own[1]};
    if (change->weight >= 0) {
        const struct adapter_weight *weight = &adapter->weights[change->weight];
        entry->kind = KIND_PRODUCT_TERM;
        entry->weight = (size_t)change->weight;
        found = weight->a_hessian >= 0 ? weight->a_hessian : weight->b_hessian;
        if (weight->magnitude >= 0)
            return false;
    } else if (change->shift >= 0 || change->whole >= 0) {
        size_t mean = (size_t)(change->shift >= 0 ? change->shift : change->whole);
        found = ivon_source_find(adapter->factors, IVON_HESSIAN,
                                 ivon_source_tensor(adapter->factors, mean)->name);
        entry->kind = change->shift >= 0 ? KIND_SHIFTED_TERM : KIND_CARRIED;
        entry->shift = entry->tensor = (size_t)found;
        entry->from = change->shift >= 0 ? NULL : adapter->factors;
        entry->scale = change->scale;
    } else {
        return true;
    }
    if (found < 0)
        return false;
    hessian = ivon_source_tensor(adapter->factors, (size_t)found);
    entry->ess = hessian->ess;
    entry->weight_decay = hessian->weight_decay;
    if (change->weight >= 0)
        entry->weight_decay = 0;
    else if (change->shift >= 0)
        entry->weight_decay /= change->scale * change->scale;
    return true;
}

static int adapter_list_hessians(struct adapter *adapter, struct tensor_list *list,
                                 const struct ivon_header *header, struct ivon_error *error)
{
    const double own[2] = {header->ess, header->weight_decay};
    size_t count = ivon_source_tensor_count(adapter->base);
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        struct adapter_entry entry;
        struct ivon_tensor tensor = *ivon_source_tensor(adapter->base, i);
        if (tensor.part != IVON_MEAN || !adapter_hessian_entry(adapter, i, own, &entry))
            continue;
        if (entry.kind == KIND_CARRIED) {
            const char *name = tensor.name;
            tensor = *ivon_source_tensor(adapter->factors, entry.tensor);
            tensor.name = name;
        } else {
            tensor.part = IVON_HESSIAN;
            tensor.dtype = entry.kind == KIND_ZERO ? IVON_F32 : IVON_F64;
            tensor.ess = entry.ess;
            tensor.weight_decay = entry.weight_decay;
        }
        code = adapter_add_entry(adapter, list, &entry, &tensor, error);
    }
    return code;
}

/* Lists the whole tensors that the base does not have, such as a new head. */
static int adapter_list_new(struct adapter *adapter, const struct adapter_modules *modules,
                            struct tensor_list *list, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < modules->count && !code; i++) {
        const struct adapter_module *module = &modules->items[i];
        if (adapter_module_has_factors(module))
            continue;
        struct adapter_entry entry = {.from = adapter->factors,
                                      .tensor = (size_t)module->tensors[ADAPTER_WHOLE]};
        struct ivon_tensor tensor = *ivon_source_tensor(adapter->factors, entry.tensor);
        const char *own_name = tensor.name;
        char *name = adapter_base_name(modules, module->name, "");
        tensor.name = name;
        if (!name)
            code = ivon_error_memory(error);
        else if (!tensor_name_valid(name))
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%s' has no usable name",
                                  ivon_source_path(adapter->factors), own_name);
        else if (ivon_source_find(adapter->base, tensor.part, name) < 0)
            code = adapter_add_entry(adapter, list, &entry, &tensor, error);
        ptrdiff_t hessian = ivon_source_find(adapter->factors, IVON_HESSIAN, own_name);
        if (!code && hessian >= 0 && ivon_source_find(adapter->base, tensor.part, name) < 0) {
            tensor = *ivon_source_tensor(adapter->factors, (size_t)hessian);
            tensor.name = name;
            entry.tensor = (size_t)hessian;
            code = adapter_add_entry(adapter, list, &entry, &tensor, error);
        }
        free(name);
    }
    return code;
}

static int adapter_list_tensors(struct adapter *adapter, const struct adapter_modules *modules,
                                const struct ivon_header *header, struct tensor_list *list,
                                struct ivon_error *error)
{
    int code = 0;
    size_t count = ivon_source_tensor_count(adapter->base);
    for (size_t i = 0; i < count && !code; i++) {
        enum ivon_part part = ivon_source_tensor(adapter->base, i)->part;
        if (part != IVON_HESSIAN && part != IVON_MOMENTUM && !part_is_structural(part))
            code = adapter_list_tensor(adapter, list, i, error);
    }
    if (!code && adapter->with_hessian)
        code = adapter_list_hessians(adapter, list, header, error);
    if (!code)
        code = adapter_list_new(adapter, modules, list, error);
    return code ? code : tensor_list_aliases_of(list, adapter->base, error);
}

static int adapter_allocate(struct adapter *adapter, struct ivon_error *error)
{
    size_t tensors = ivon_source_tensor_count(adapter->base);
    size_t own = ivon_source_tensor_count(adapter->factors);
    adapter->changes = calloc(tensors + 1, sizeof *adapter->changes);
    adapter->entries = calloc(2 * (tensors + own) + 1, sizeof *adapter->entries);
    adapter->weights = calloc(own + 1, sizeof *adapter->weights);
    if (!adapter->changes || !adapter->entries || !adapter->weights)
        return ivon_error_memory(error);
    for (size_t i = 0; i < tensors; i++)
        adapter->changes[i] = (struct adapter_change){-1, -1, -1, 0};
    for (size_t i = 0; i < own; i++)
        if (ivon_source_tensor(adapter->factors, i)->part == IVON_HESSIAN)
            adapter->with_hessian = true;
    return 0;
}

static int adapter_make(struct adapter *adapter, const struct adapter_config *config,
                        struct ivon_source **source, struct ivon_error *error)
{
    struct adapter_modules modules;
    struct tensor_list list = {0};
    char mapping[512];
    struct ivon_header header = ivon_header_empty();
    int code = adapter_modules_read(&modules, adapter->base, adapter->factors, error);
    if (!code)
        code = adapter_allocate(adapter, error);
    if (!code)
        code = adapter_plan_changes(adapter, config, &modules, error);
    if (!code && adapter->with_hessian) {
        header.ess = posterior_ess(adapter->factors);
        header.weight_decay = posterior_weight_decay(adapter->factors);
    }
    snprintf(mapping, sizeof mapping, "a %s adapter of %zu weights, upon '%.300s'",
             config->dora ? "DoRA" : "LoRA", adapter->weight_count,
             ivon_source_path(adapter->base));
    header.mapping = mapping;
    if (!code)
        code = adapter_list_tensors(adapter, &modules, &header, &list, error);
    if (!code)
        code = ivon_source_new(source, &class, adapter, ivon_source_path(adapter->factors), &header,
                               &list, error);
    if (code)
        tensor_list_release(&list);
    adapter_modules_release(&modules);
    return code;
}

int ivon_adapter_apply(struct ivon_source **source, struct ivon_source *base,
                       struct ivon_source *factors, const char *text, size_t size,
                       struct ivon_error *error)
{
    struct adapter_config config = {0};
    struct adapter *adapter = calloc(1, sizeof *adapter);
    if (!adapter) {
        ivon_source_close(factors);
        return ivon_error_memory(error);
    }
    adapter->base = base;
    adapter->factors = factors;
    pthread_mutex_init(&adapter->lock, NULL);
    int code = structure_refuse(factors, "factors of adapters", error);
    if (!code)
        code = adapter_config_read(&config, ivon_source_path(factors), text, size, error);
    if (!code)
        code = adapter_make(adapter, &config, source, error);
    adapter_config_release(&config);
    if (code)
        adapter_close(adapter);
    return code;
}
