/*
 * Log-likelihoods of posterior samples as ArviZ InferenceData, a netCDF-4 file of these groups:
 *
 *     log_likelihood        y (chain, draw, y_dim_0)             f64
 *     posterior_predictive  y (chain, draw, y_dim_0[, y_dim_1])  the targets' type
 *     observed_data         y (y_dim_0[, y_dim_1])               the targets' type
 *
 * Dimensions have coordinates that count from 0, but y_dim_0 those that ivon_arviz_observe is
 * given. The draws are independent, and there is no group of the parameters: `arviz.loo(data,
 * reff=1)`. Equal contents have equal bytes.
 */
#ifndef IVON_ARVIZ_H
#define IVON_ARVIZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/dtype.h"
#include "ivon/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_arviz_options {
    size_t size;                  /* sizeof this struct: set by ivon_arviz_defaults() */
    uint64_t samples;             /* draws, in one chain; at least 1, as are the next two */
    uint64_t examples;            /* observations */
    size_t outputs;               /* elements of one target; 1: y has no further axis */
    enum ivon_dtype target_dtype; /* of y: IVON_I64 or IVON_F32 */
    bool replace;                 /* an existing file may be replaced, at commit */
    const char *creator;          /* attribute of the root; null: absent */
};

/* Only the size is set. */
IVON_API void ivon_arviz_options_init(struct ivon_arviz_options *options, size_t size);
static inline struct ivon_arviz_options ivon_arviz_defaults(void)
{
    struct ivon_arviz_options options;
    ivon_arviz_options_init(&options, sizeof options);
    return options;
}

struct ivon_arviz;

/* A file, whole or absent. */
IVON_API int ivon_arviz_create(struct ivon_arviz **arviz, const char *path,
                               const struct ivon_arviz_options *options, struct ivon_error *error);

/*
 * Writes the results of sample `sample` for the examples [first, first + count): the log-likelihood
 * of each target (count), and a replicate of y drawn from it (count × outputs, of the target's
 * type). Calls may come in any order, from any thread; each once.
 */
IVON_API int ivon_arviz_write(struct ivon_arviz *arviz, uint64_t sample, uint64_t first,
                              size_t count, const double *log_likelihoods, const void *replicates,
                              struct ivon_error *error);

/* The targets of the examples [first, first + count), count × outputs, and the examples' numbers in
   their data, in the same way. */
IVON_API int ivon_arviz_observe(struct ivon_arviz *arviz, uint64_t first, size_t count,
                                const int64_t *numbers, const void *targets,
                                struct ivon_error *error);

/* Fails unless everything was written. Makes the file durable under its name. */
IVON_API int ivon_arviz_commit(struct ivon_arviz *arviz, struct ivon_error *error);

/* A file that was not committed is gone. */
IVON_API void ivon_arviz_close(struct ivon_arviz *arviz);

#ifdef __cplusplus
}
#endif

#endif
