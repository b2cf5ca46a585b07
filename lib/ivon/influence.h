/*
 * The influence of training examples on queries, as a matrix: of training example i on query j
 *
 *   I_ij = ρ q_jᵀ Σ g_i,   g_i = ∂L_i/∂θ,   q_j = ∂M_j/∂θ
 *
 * with Σ the posterior's covariance, whatever its structure, and M_j what is measured of the query.
 * Removing example i moves the posterior mean by ρ Σ g_i (ivon/sensitivity.h; Nickl et al., NeurIPS
 * 2023, arXiv:2310.19273; with the inverse Hessian for Σ Koh & Liang, ICML 2017, 1703.04730), so
 * that I_ij is, to first order, by how much removing the example raises M_j. M is a loss, or the
 * negative of what is the better the larger it is: a positive influence is that of a proponent,
 * without which the query would do worse.
 *
 * The queries' Σ q_j are made once and kept; then the training data are run over, once where all
 * queries fit into memory. Where an example has one row of a weight's inputs, a, with adjoint d,
 * its gradient d aᵀ is never formed: dᵀ (Σ q) a is a product over all examples. Rows of tables are
 * looked up. Elsewhere the gradients of a few examples are formed, a piece at a time, for one
 * product with those of all queries.
 *
 * A number depends on data, posterior, options and tile alone: not on threads, memory, or how many
 * queries there are.
 */
#ifndef IVON_INFLUENCE_H
#define IVON_INFLUENCE_H

#include <stdbool.h>

#include "ivon/examples.h"
#include "ivon/network.h"
#include "ivon/sample.h"
#include "ivon/stream.h"
#include "ivon/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/* M of a query. Where it has tokens, it is the sum over those that count. */
enum ivon_measure {
    IVON_MEASURE_LOSS,  /* L(y, f) */
    IVON_MEASURE_LOGIT, /* −f_c of one output c; the query needs no target */
    /* −log(p_y/(1 − p_y)), the log odds of the right class (as in Park et al., ICML 2023,
       arXiv:2303.14186), or of each event, summed. Not of regression. */
    IVON_MEASURE_MARGIN,
    IVON_MEASURE_TOKEN_LOSS /* each token of a query is one of its own, with its loss */
};

struct ivon_influence_options {
    size_t size;           /* sizeof this struct: set by ivon_influence_defaults() */
    struct ivon_task task; /* Gaussian targets need noise_std */
    enum ivon_measure measure;
    size_t output;               /* c of IVON_MEASURE_LOGIT */
    double rho;                  /* NaN: λ/N */
    int64_t n_train;             /* N; -1: the checkpoint's, else the positions of `whole` */
    struct ivon_examples *whole; /* the whole training data; null: the examples that are given */
    bool per_token; /* each token of a training example is a row of its own, with its loss */
    bool by_tensor; /* also what each parameter has of the influence: their sum is all of it */
    struct ivon_sample_options sample; /* what is selected says whose Σ counts */
    size_t batch; /* the tile: examples at a time in one thread; 0: as suits caches and memory */
    /* Memory: beside weights and covariance, 3/8 of it for queries; 0: 1 GiB. Progress: in training
       examples times passes. */
    struct ivon_resources resources;
};

/* The categorical loss. */
IVON_API void ivon_influence_options_init(struct ivon_influence_options *options, size_t size);
static inline struct ivon_influence_options ivon_influence_defaults(void)
{
    struct ivon_influence_options options;
    ivon_influence_options_init(&options, sizeof options);
    return options;
}

struct ivon_influence;

/*
 * Checks everything that can be before the work. The examples are the training data, of which the
 * field `targets` is y. The network, which was bound to the source, and the examples must outlive
 * it.
 */
IVON_API int ivon_influence_new(struct ivon_influence **influence, struct ivon_network *network,
                                struct ivon_source *source, struct ivon_examples *examples,
                                const char *targets, const struct ivon_influence_options *options,
                                struct ivon_error *error);
IVON_API void ivon_influence_free(struct ivon_influence *influence);

/* Adds queries behind those that are there; their examples must outlive it, too. Fails where they
   are not what the network takes, or lack the field that the measure needs. */
IVON_API int ivon_influence_add_queries(struct ivon_influence *influence,
                                        struct ivon_examples *examples, const char *targets,
                                        struct ivon_error *error);

/* The values that hold. */
struct ivon_influence_shape {
    int64_t tokens;    /* 0: no token axis */
    size_t outputs;    /* K */
    uint64_t examples; /* of the training data */
    size_t rows;       /* that each makes: its tokens where each is one, else 1 */
    uint64_t queries;  /* so far; of IVON_MEASURE_TOKEN_LOSS all tokens of all sequences */
    double rho, n_train;
    size_t tensors;  /* whose parts are wanted: all that move, or 0 */
    size_t fixed;    /* means that were to count and have no Hessian */
    size_t tile;     /* examples at a time */
    uint64_t passes; /* over the training data */
};
IVON_API struct ivon_influence_shape ivon_influence_shape(const struct ivon_influence *influence);

/* The name of a tensor whose part is wanted; borrowed. Null: there is none. */
IVON_API const char *ivon_influence_tensor(const struct ivon_influence *influence, size_t i);

/* The influences of the examples [first, first + count) on the queries [first_query, first_query +
   query_count). Borrowed until the callback returns. What has no position that counts has
   influences of 0. */
struct ivon_influences {
    uint64_t first, first_query;
    size_t count, query_count;
    size_t rows;                 /* of each example: its tokens where each is one, else 1 */
    const float *influence;      /* count × rows × query_count */
    const float *const *tensors; /* the same of each tensor; null: they are not wanted */
    /* The examples' labels: count of classes, and null unless each has one. */
    const int64_t *labels;
};

/* Runs over the training data for as many queries at a time as memory holds. Blocks come by rising
   queries, and of the same queries by rising examples; `on_block` stops the run by a value other
   than 0, that is returned. Fails where there are no queries. */
IVON_API int ivon_influence_run(struct ivon_influence *influence,
                                int (*on_block)(void *context, const struct ivon_influences *block,
                                                struct ivon_error *error),
                                void *context, struct ivon_error *error);

/* After a run: as ivon_predictor_saw_probabilities. */
IVON_API bool ivon_influence_saw_probabilities(const struct ivon_influence *influence);

/*
 * The examples of greatest influence on each query, in the memory that they take: of `queries`
 * queries, `most` with the largest positive influences and `most` with the largest negative ones.
 * Those of 0, and those that are no numbers, are none of either. Equal ones stay in their order.
 */
struct ivon_influence_top;
struct ivon_influence_entry {
    uint64_t row; /* of the training data; of tokens example × T + token */
    float influence;
    int64_t label; /* where blocks have labels */
};
IVON_API int ivon_influence_top_new(struct ivon_influence_top **top, uint64_t queries, size_t most,
                                    struct ivon_error *error);
IVON_API void ivon_influence_top_free(struct ivon_influence_top *top);

/* Takes a block of a run. */
IVON_API void ivon_influence_top_add(struct ivon_influence_top *top,
                                     const struct ivon_influences *block);

/* Sets *entries to the proponents of a query, or to its opponents, the greatest first, and returns
   how many there are. Borrowed until the next block. */
IVON_API size_t ivon_influence_top_list(struct ivon_influence_top *top, uint64_t query,
                                        bool opponents,
                                        const struct ivon_influence_entry **entries);

#ifdef __cplusplus
}
#endif

#endif
