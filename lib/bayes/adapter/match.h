/* The tensors of an adapter by module, and the base's names of these. */
#ifndef BAYES_ADAPTER_MATCH_H
#define BAYES_ADAPTER_MATCH_H

#include "bayes/adapter/config.h"
#include "bayes/adapter/names.h"
#include "ivon/stream.h"

/* An adapter's tensors of one module, or one whole tensor: their indices, by role. */
struct adapter_module {
    const char *name;
    ptrdiff_t tensors[ADAPTER_UNKNOWN]; /* -1: none */
};

struct adapter_modules {
    struct adapter_module *items; /* by rising name, modules before whole tensors */
    size_t count;
    char **names; /* of all tensors, that the items borrow */
    size_t name_count;
    /* How the model's names are the base's: without their first component, or behind a prefix. */
    bool without_first;
    char *prefix;
};

/* Sorts an adapter's tensors by module, and finds how the base names these: as the adapter does, or
   without their first component, or behind another prefix, for all of them alike. */
int adapter_modules_read(struct adapter_modules *modules, const struct ivon_source *base,
                         const struct ivon_source *factors, struct ivon_error *error);
void adapter_modules_release(struct adapter_modules *modules);

/* The name that the base has for a module's tensor, to be freed; null when memory is exhausted. An
   empty ending is that of a whole tensor. */
char *adapter_base_name(const struct adapter_modules *modules, const char *name,
                        const char *ending);

/* Returns whether these are the factors of a weight. */
bool adapter_module_has_factors(const struct adapter_module *module);

#endif
