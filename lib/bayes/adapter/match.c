#define _GNU_SOURCE
#include "bayes/adapter/match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

/* A tensor of the adapter's file. */
struct record {
    const char *name;
    enum adapter_role role;
    size_t tensor;
};

/* By kind, module and role. */
static int compare_records(const void *a, const void *b)
{
    const struct record *left = a, *right = b;
    bool left_whole = left->role == ADAPTER_WHOLE, right_whole = right->role == ADAPTER_WHOLE;
    int order = left_whole != right_whole ? left_whole - right_whole
                                          : strcmp(left->name, right->name);
    return order ? order : (int)left->role - (int)right->role;
}

bool adapter_module_has_factors(const struct adapter_module *module)
{
    return module->tensors[ADAPTER_WHOLE] < 0;
}

/* Refuses tensors of which nothing can be made. `adapter` is the one whose tensors these are. */
static int match_check_tensor(const struct ivon_source *factors, const struct ivon_tensor *tensor,
                              enum adapter_role role, struct ivon_error *error)
{
    const char *path = ivon_source_path(factors);
    if (tensor->part == IVON_OPAQUE)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s' is stored as %s, which is not read here, expected "
                              "numbers of f64, f32, f16 or bf16",
                              path, tensor->name, tensor->stored_as);
    if (role == ADAPTER_UNKNOWN)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s' is a factor of a kind of adapter that is not read "
                              "here, expected those of LoRA or DoRA as PEFT names them",
                              path, tensor->name);
    if (role != ADAPTER_WHOLE && !ivon_dtype_is_float(tensor->dtype))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: tensor '%s' is %s, expected floating-point numbers", path,
                              tensor->name, ivon_dtype_name(tensor->dtype));
    return 0;
}

static int match_add_record(struct adapter_modules *modules, struct record *record,
                            const struct ivon_source *factors, const char **adapter,
                            size_t *adapter_length, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(factors, record->tensor);
    const char *other;
    size_t other_length;
    char *name = NULL;
    record->role = adapter_name_read(tensor->name, &name, &other, &other_length);
    if (!name)
        return ivon_error_memory(error);
    modules->names[modules->name_count++] = name;
    record->name = name;
    if (other && *adapter &&
        (other_length != *adapter_length || memcmp(other, *adapter, other_length) != 0))
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: holds two adapters, '%.*s' and '%.*s', expected one",
            ivon_source_path(factors), (int)*adapter_length, *adapter, (int)other_length, other);
    if (other) {
        *adapter = other;
        *adapter_length = other_length;
    }
    return match_check_tensor(factors, tensor, record->role, error);
}

static int match_list_records(struct adapter_modules *modules, struct record *records,
                              size_t *count, const struct ivon_source *factors,
                              struct ivon_error *error)
{
    const char *adapter = NULL;
    size_t adapter_length = 0;
    int code = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(factors) && !code; i++) {
        enum ivon_part part = ivon_source_tensor(factors, i)->part;
        if (part != IVON_MEAN && part != IVON_BUFFER && part != IVON_OPAQUE)
            continue;
        records[*count].tensor = i;
        code = match_add_record(modules, &records[(*count)++], factors, &adapter, &adapter_length,
                                error);
    }
    return code;
}

/* Makes modules of sorted records. */
static int match_group(struct adapter_modules *modules, const struct record *records, size_t count,
                       const struct ivon_source *factors, struct ivon_error *error)
{
    for (size_t i = 0; i < count; i++) {
        const struct record *record = &records[i];
        bool whole = record->role == ADAPTER_WHOLE;
        struct adapter_module *module = modules->count ? &modules->items[modules->count - 1] : NULL;
        if (!module || !module->name || adapter_module_has_factors(module) == whole ||
            strcmp(module->name, record->name) != 0) {
            module = &modules->items[modules->count++];
            module->name = record->name;
            for (int role = 0; role < ADAPTER_UNKNOWN; role++)
                module->tensors[role] = -1;
        }
        ptrdiff_t *slot = &module->tensors[record->role];
        if (*slot >= 0)
            return ivon_error_set(
                error, IVON_ERROR_DATA, "%s: tensors '%s' and '%s' are the same of one module",
                ivon_source_path(factors), ivon_source_tensor(factors, (size_t)*slot)->name,
                ivon_source_tensor(factors, record->tensor)->name);
        *slot = (ptrdiff_t)record->tensor;
    }
    return 0;
}

char *adapter_base_name(const struct adapter_modules *modules, const char *name, const char *ending)
{
    const char *dot = modules->without_first && name ? strchr(name, '.') : NULL;
    const char *prefix = modules->prefix ? modules->prefix : "";
    char *joined;
    return !name || asprintf(&joined, "%s%s%s", prefix, dot ? dot + 1 : name, ending) < 0 ? NULL
                                                                                          : joined;
}

static bool match_base_has(const struct adapter_modules *modules, const struct ivon_source *base,
                           const struct adapter_module *module)
{
    char *name = adapter_base_name(modules, module->name,
                                   adapter_module_has_factors(module) ? ".weight" : "");
    bool has = name && ivon_source_find(base, IVON_MEAN, name) >= 0;
    free(name);
    return has;
}

/* Returns whether the base has the weight of each module with factors; where there are none, any
   of the whole tensors. */
static bool match_fits(const struct adapter_modules *modules, const struct ivon_source *base)
{
    bool any = false;
    for (size_t i = 0; i < modules->count; i++) {
        bool has = match_base_has(modules, base, &modules->items[i]);
        any = any || has;
        if (!has && adapter_module_has_factors(&modules->items[i]))
            return false;
    }
    return any;
}

/* The part of a base's name before that of the first module's weight; null for none. */
static char *match_find_prefix(const struct adapter_modules *modules,
                               const struct ivon_source *base)
{
    const struct adapter_module *first = &modules->items[0];
    char *prefix = NULL;
    char *wanted = adapter_base_name(modules, first->name,
                                     adapter_module_has_factors(first) ? ".weight" : "");
    size_t length = wanted ? strlen(wanted) : 0;
    for (size_t i = 0; wanted && i < ivon_source_tensor_count(base) && !prefix; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(base, i);
        size_t size = strlen(tensor->name);
        if (tensor->part == IVON_MEAN && size > length && tensor->name[size - length - 1] == '.' &&
            strcmp(tensor->name + size - length, wanted) == 0)
            prefix = strndup(tensor->name, size - length);
    }
    free(wanted);
    return prefix;
}

/* Names stay as they are where no rule fits. */
static void match_find_rule(struct adapter_modules *modules, const struct ivon_source *base)
{
    if (!modules->count || match_fits(modules, base))
        return;
    modules->without_first = true;
    if (match_fits(modules, base))
        return;
    modules->without_first = false;
    modules->prefix = match_find_prefix(modules, base);
    if (modules->prefix && !match_fits(modules, base)) {
        free(modules->prefix);
        modules->prefix = NULL;
    }
}

int adapter_modules_read(struct adapter_modules *modules, const struct ivon_source *base,
                         const struct ivon_source *factors, struct ivon_error *error)
{
    size_t tensors = ivon_source_tensor_count(factors), count = 0;
    *modules = (struct adapter_modules){0};
    struct record *records = calloc(tensors + 1, sizeof *records);
    modules->items = calloc(tensors + 1, sizeof *modules->items);
    modules->names = calloc(tensors + 1, sizeof *modules->names);
    int code = records && modules->items && modules->names
                   ? match_list_records(modules, records, &count, factors, error)
                   : ivon_error_memory(error);
    if (!code) {
        qsort(records, count, sizeof *records, compare_records);
        code = match_group(modules, records, count, factors, error);
    }
    if (!code && !modules->count)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: has no factors of an adapter",
                              ivon_source_path(factors));
    if (!code)
        match_find_rule(modules, base);
    free(records);
    return code;
}

void adapter_modules_release(struct adapter_modules *modules)
{
    for (size_t i = 0; i < modules->name_count; i++)
        free(modules->names[i]);
    free(modules->names);
    free(modules->items);
    free(modules->prefix);
}
