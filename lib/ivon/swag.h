/*
 * A Gaussian posterior from weights θ_1 ... θ_n along a training, without data: SWAG (Maddox et
 * al., NeurIPS 2019, arXiv:1902.02476, Algorithm 1). With m_i the mean of the first i and v the
 * variance of each element,
 *
 *   mean m_n,   Σ = ½ diag v + D Dᵀ / (2 (K − 1)),
 *
 * the columns of D being the last K deviations θ_i − m_i. Stored as a diagonal base of variance ½ v
 * and a low-rank correction: with W = (v (K − 1))^(−½) D and W Wᵀ = U μ Uᵀ, the values are
 * ℓ = −μ/(1 + μ). With K = 0 Σ is diag v, SWAG-Diagonal.
 *
 * Elements that never moved have the variance 1e-30, as in the published code; tensors without any
 * that did have no Hessian, and stay as they are. Results depend on neither threads nor formats.
 */
#ifndef IVON_SWAG_H
#define IVON_SWAG_H

#include <stdbool.h>

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_swag_options {
    size_t size; /* sizeof this struct: set by ivon_swag_defaults() */
    size_t rank; /* K: 0, or at least 2; fewer where there are fewer checkpoints */
    /* λ, at least 1e-6; NaN: the last checkpoint's n_train, else 1. Σ does not depend on it. */
    double ess;
    /* Returns whether the mean of that name is random; null: all. Others are averaged alone. */
    bool (*selected)(void *context, const char *name);
    void *selected_context;
    struct ivon_resources resources; /* threads, and progress: in checkpoints' elements */
};

/* K = 20. */
IVON_API void ivon_swag_options_init(struct ivon_swag_options *options, size_t size);
static inline struct ivon_swag_options ivon_swag_defaults(void)
{
    struct ivon_swag_options options;
    ivon_swag_options_init(&options, sizeof options);
    return options;
}

/* The sums over the checkpoints so far: 16 bytes for each weight and 4 K for each random one. */
struct ivon_swag;

IVON_API int ivon_swag_new(struct ivon_swag **swag, const struct ivon_swag_options *options,
                           struct ivon_error *error);
IVON_API void ivon_swag_free(struct ivon_swag *swag);

/* Adds the next checkpoint, of which the means count, the same in all (IVON_ERROR_DATA). It may be
   closed then. After a failure nothing but freeing is left. */
IVON_API int ivon_swag_add(struct ivon_swag *swag, struct ivon_source *checkpoint,
                           struct ivon_error *error);

/* After at least two: finds the posterior. IVON_ERROR_DATA where nothing random moved. */
IVON_API int ivon_swag_finish(struct ivon_swag *swag, struct ivon_error *error);

struct ivon_swag_summary {
    size_t checkpoints; /* n */
    size_t parameters;  /* with a Hessian */
    size_t still;       /* of those, that never moved */
    double ess;
    size_t rank;        /* of the correction, at most K; its first and last ℓ: */
    double first, last; /* NaN without one */
};
/* After it was finished. */
IVON_API struct ivon_swag_summary ivon_swag_summary(const struct ivon_swag *swag);

/*
 * After it was finished: the posterior as a source that lasts until that is freed or `last` closed,
 * the last checkpoint: means in the types that it has, its buffers, step and n_train, and `graph`,
 * the bytes of an ONNX file that must outlive the source, or where it is null the checkpoint's own.
 * Buffers such as batch-norm statistics belong to the last weights, not to the mean.
 */
IVON_API int ivon_swag_source(struct ivon_source **source, struct ivon_swag *swag,
                              struct ivon_source *last, const void *graph, size_t graph_size,
                              struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
