/* A base with an adapter upon it: adapter.c is the source, changes.c finds what changes. */
#ifndef BAYES_ADAPTER_ADAPTER_H
#define BAYES_ADAPTER_ADAPTER_H

#include "bayes/adapter/match.h"
#include "bayes/adapter/weight.h"

/* The parts of an adapter that belong to a tensor of the base. */
struct adapter_change {
    ptrdiff_t weight, shift, whole; /* a product, a tensor of the factors; -1: none */
    double scale;                   /* of the shift */
};

struct adapter_entry;

struct adapter {
    struct ivon_source *base, *factors;
    struct adapter_weight *weights;
    size_t weight_count;
    struct adapter_entry *entries;
    size_t entry_count;
    struct adapter_change *changes; /* by tensor of the base */
    bool with_hessian;
    pthread_mutex_t lock;
};

/* Fills ->weights and ->changes, by what the factors and the configuration say. Whole tensors come
   first: a product may lie upon one. */
int adapter_plan_changes(struct adapter *adapter, const struct adapter_config *config,
                         const struct adapter_modules *modules, struct ivon_error *error);

#endif
