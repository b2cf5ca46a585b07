/* A weight of a model that an adapter changes, and its elements. */
#ifndef BAYES_ADAPTER_WEIGHT_H
#define BAYES_ADAPTER_WEIGHT_H

#include <pthread.h>

#include "ivon/stream.h"

struct adapter_weight {
    struct ivon_source *from; /* of W: the base, or the factors' file where that has it whole */
    size_t tensor;            /* W */
    struct ivon_source *factors;
    size_t a, b;                    /* rank × inputs, outputs × rank */
    ptrdiff_t a_hessian, b_hessian; /* -1: not random */
    ptrdiff_t magnitude;            /* of DoRA; -1: it is none */
    size_t rank, rows, columns;     /* rows × columns as W is stored, all but the first in one */
    bool transposed;                /* W is inputs × outputs */
    bool embedding;                 /* it is a table, which PEFT names otherwise */
    double scale;
    double *factor; /* of DoRA, by output: m/‖W + s B A‖, once it is computed */
};

/* The shape of W as a product takes it. */
static inline size_t adapter_inputs(const struct adapter_weight *weight)
{
    return weight->transposed ? weight->rows : weight->columns;
}

static inline size_t adapter_outputs(const struct adapter_weight *weight)
{
    return weight->transposed ? weight->columns : weight->rows;
}

/* Elements [first, first + count) of the changed weight. The lock protects ->factor. */
int adapter_weight_read(struct adapter_weight *weight, pthread_mutex_t *lock, size_t first,
                        size_t count, double *out, struct ivon_error *error);

/* Elements of the Hessian of the changed weight: h with ess h = 1/Var W. */
int adapter_weight_hessian(const struct adapter_weight *weight, double ess, size_t first,
                           size_t count, double *out, struct ivon_error *error);

/* A range of a tensor in double; its precision ess (h + weight_decay) of a Hessian. */
int adapter_load(struct ivon_source *source, size_t tensor, size_t first, size_t count, double *out,
                 struct ivon_error *error);
int adapter_load_precision(struct ivon_source *source, size_t hessian, size_t first, size_t count,
                           double *out, struct ivon_error *error);

/*
 * The changed weight W + s B A of a source that ivon_adapter_apply made, by its tensor; null where
 * this mean is another or DoRA's. *same receives whether it is the base's own tensor, unchanged.
 */
const struct adapter_weight *adapter_source_weight(const struct ivon_source *source, size_t tensor,
                                                   const struct ivon_source *base, bool *same);

#endif
