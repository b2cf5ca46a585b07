/*
 * The effect of single training examples on a trained network, by the memory-perturbation equation
 * (Nickl et al., NeurIPS 2023, arXiv:2310.19273, Eqs 6, 9-10, 12-16, 43). Removing a set M of
 * examples moves the posterior mean by ρ Σ Σ_{j∈M} g_j, with Σ = 1/(λ(h + δ)), and so the
 * outputs f_i of example i by J_i of that. With e_i = ∂L(y_i, f_i)/∂f_i, J_i = ∂f_i/∂θ and
 * g_i = J_iᵀ e_i:
 *
 *   one example, its own outputs   Δf_i = ρ J_i Σ J_iᵀ e_i     full: K × K covariance, no gradient
 *                                                              of it is ever in memory
 *   the published approximation    Δf_i = ρ v_i ⊙ e_i          diagonal: v_i = diag(J_i Σ J_iᵀ)
 *   a group M                      Δf_i = J_i ρ Σ Σ_{j∈M} g_j  exact, no |M| × |M| matrix
 *
 * where Σ may have any structure that a posterior has. With leverage the first takes the
 * example's own curvature into account. By default ρ = λ/N, so that ρΣ = 1/(N(h + δ)) whatever
 * temperature the posterior was trained at.
 *
 * Where the network has a token axis, an example is a sequence: its loss is the sum over its
 * tokens, and it is removed as a whole.
 *
 * A result depends on data, posterior, options and tile alone: not on threads or memory.
 */
#ifndef IVON_SENSITIVITY_H
#define IVON_SENSITIVITY_H

#include "ivon/examples.h"
#include "ivon/metrics.h"
#include "ivon/network.h"
#include "ivon/sample.h"
#include "ivon/stream.h"
#include "ivon/task.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_covariance { IVON_COVARIANCE_FULL, IVON_COVARIANCE_DIAGONAL };

/* Leverage: removing an example also removes its curvature, Δf_i = (I − V Λ_i)^(−1) V e_i with
   V = ρ J_i Σ J_iᵀ, one Newton step of the retraining. */
enum ivon_leverage {
    IVON_LEVERAGE_AUTO, /* where a low-rank correction holds nearly all curvature: its smallest
                           value is below .9 */
    IVON_LEVERAGE_NONE,
    IVON_LEVERAGE_NEWTON
};

/* The scores of each example, beside its loss and residual. */
enum ivon_score {
    /* ‖p(f + Δf) − p(f)‖₁, p being softmax or sigmoid; Gaussian: ‖Δf‖₁. */
    IVON_SCORE_DEVIATION,
    /* Σ_c |Λ_cc Δf_c| with the diagonal Δf, whatever the covariance, and Λ_cc = p_c − p_c²,
       Gaussian 1/noise_std²: the score of the published code. */
    IVON_SCORE_MPE,
    /* ρ g_iᵀ Σ g_i, exact whatever the covariance. */
    IVON_SCORE_SELF_INFLUENCE,
    /* L(y_i, f_i + Δf_i): the loss of an example that the network was not trained on. */
    IVON_SCORE_LOO_LOSS,
    /* ρ g_iᵀ Σ Σ_t g_t over the test examples t given to ivon_sensitivity_set_test_data: by how
       much, to first order, removing example i raises their summed loss. */
    IVON_SCORE_INFLUENCE
};

/* A score as one of several that are asked for. */
#define IVON_SCORE_BIT(score) (1u << (score))

struct ivon_score_traits {
    const char *name; /* "loo_loss" */
    bool rows;        /* rows have it, and an example the sum over its rows; else examples alone */
    bool nats;        /* it has the unit of the loss */
    bool test_data;   /* it is of an example and test data */
};

/* Null: there is no such score. They are numbered from 0 on without gaps, 32 at most. */
IVON_API const struct ivon_score_traits *ivon_score_traits(enum ivon_score score);

struct ivon_sensitivity_options {
    size_t size;           /* sizeof this struct: set by ivon_sensitivity_defaults() */
    struct ivon_task task; /* Gaussian targets need noise_std */
    enum ivon_covariance covariance;
    unsigned scores;  /* of IVON_SCORE_BIT; 0 and nothing else below: losses alone */
    bool vectors;     /* also Δf, K for each row */
    bool variances;   /* also diag(J Σ Jᵀ), K for each row */
    bool covariances; /* also J Σ Jᵀ, (T K)² for each example of T rows */
    double rho;       /* NaN: λ/N */
    int64_t n_train;  /* N; -1: the checkpoint's, else the positions of `whole` that count */
    struct ivon_examples *whole; /* the whole training data; null: the examples that are given */
    /* Residuals are averaged over so many weight samples; 0: taken at the mean. */
    size_t samples;
    /* Seed and temperature of those. What is selected also says whose Σ counts: other parameters
       are not moved by removing examples. */
    struct ivon_sample_options sample;
    /* The tile: examples at a time in one thread; 0: as many as suit the caches and `memory`. An
       error where those that are asked for do not fit. */
    size_t batch;
    /* Memory: beside weights and covariance; 0: 1 GiB. Progress: in examples, and in examples ×
       samples where residuals are averaged first. */
    struct ivon_resources resources;
    enum ivon_leverage leverage;
};

/* Categorical, full, deviation, at the mean. */
IVON_API void ivon_sensitivity_options_init(struct ivon_sensitivity_options *options, size_t size);
static inline struct ivon_sensitivity_options ivon_sensitivity_defaults(void)
{
    struct ivon_sensitivity_options options;
    ivon_sensitivity_options_init(&options, sizeof options);
    return options;
}

/*
 * The examples [first, first + count), in R = count × max(tokens, 1) rows of K outputs. What an
 * option or a likelihood does not ask for is null. Where rows are tokens, an example's numbers are
 * the sums over those of its tokens that count (ivon/targets.h). Where none does, losses and scores
 * are 0. Borrowed until the callback returns.
 */
struct ivon_sensitivities {
    uint64_t first;
    size_t count;
    const int64_t *labels;                 /* R; Bernoulli R × K */
    const float *targets;                  /* regression: R × ivon_likelihood_targets() */
    const int64_t *prediction;             /* R; Bernoulli R × K; not of regression */
    const float *outputs;                  /* R × K: f */
    const float *means;                    /* regression: of each target, as predicted at f */
    const double *loss, *residual;         /* count: L, ‖e‖₁ */
    const double *row_loss, *row_residual; /* R */
    /* scores[s] of score s: count, if it was asked for; row_scores[s]: R, if rows have it, too. */
    const double *const *scores, *const *row_scores;
    const bool *counts;      /* R: whether the target counts */
    const size_t *positions; /* count: how many of the example's targets count */
    /* R: whether argmax f, and argmax (f + Δf), miss the target (1) or not (0); 0 where it does not
       count. Bernoulli: the share of the K events that is missed. Gaussian: null. */
    const float *row_error, *row_loo_error;
    const float *residual_vector, *deviation_vector; /* R × K: e, Δf */
    const float *variance;                           /* R × K, for ρ = 1 */
    const float *covariance;                         /* count × (T K) × (T K), for ρ = 1 */
};

struct ivon_sensitivity;

/*
 * Checks everything that can be before the work. The last field of the examples is the targets: its
 * name is `targets`. The network, which was bound to the source, and the examples must outlive it.
 */
IVON_API int ivon_sensitivity_new(struct ivon_sensitivity **sensitivity,
                                  struct ivon_network *network, struct ivon_source *source,
                                  struct ivon_examples *examples, const char *targets,
                                  const struct ivon_sensitivity_options *options,
                                  struct ivon_error *error);
IVON_API void ivon_sensitivity_free(struct ivon_sensitivity *sensitivity);

/* The values that hold. */
struct ivon_sensitivity_shape {
    int64_t tokens; /* 0: no token axis */
    size_t outputs; /* K */
    uint64_t examples;
    double rho;
    double n_train; /* N: of what a training averages its loss over, tokens where there are some */
    size_t fixed;   /* means that were to count and have no Hessian */
    size_t tile;    /* examples at a time: runs that begin at a multiple of it have the same bits */
};
IVON_API struct ivon_sensitivity_shape ivon_sensitivity_shape(
    const struct ivon_sensitivity *sensitivity);

/* The use that a run made of leverage. */
struct ivon_leverage_use {
    bool applied;
    size_t rank; /* of the posterior's low-rank correction; 0: none */
    double last; /* the smallest |ℓ| of it; NaN */
    uint64_t
        outside; /* after a run: examples without leverage, as Σ does not hold their curvature */
};
IVON_API struct ivon_leverage_use ivon_sensitivity_leverage(
    const struct ivon_sensitivity *sensitivity);

/* Sums the gradients of test examples, for IVON_SCORE_INFLUENCE. Before the run. */
IVON_API int ivon_sensitivity_set_test_data(struct ivon_sensitivity *sensitivity,
                                            struct ivon_examples *examples, const char *targets,
                                            struct ivon_error *error);

/* Runs over the examples from `first` on, in rising order, in blocks of at most about a second of
   work; each goes to `on_block`, which stops the run by a value other than 0, that is returned.
   Ranks compute blocks in turn, and all of them go to `on_block` of rank 0. What else a sensitivity
   computes, each rank computes by itself. */
IVON_API int ivon_sensitivity_run(struct ivon_sensitivity *sensitivity, uint64_t first,
                                  int (*on_block)(void *context,
                                                  const struct ivon_sensitivities *block,
                                                  struct ivon_error *error),
                                  void *context, struct ivon_error *error);

/* After a run from the first example on, or of groups: as ivon_predictor_saw_probabilities. */
IVON_API bool ivon_sensitivity_saw_probabilities(const struct ivon_sensitivity *sensitivity);

/* The removal of a whole group, by the exact group form. Losses and errors are means over the
   positions that count; NaN where there are none. */
struct ivon_group_removal {
    int64_t group;
    uint64_t count;                    /* of its examples that have a position that counts */
    double own_loss, own_loss_without; /* of its examples, as trained and with the group removed */
    double rest_loss, rest_loss_without;                                 /* of all others */
    double own_error, own_error_without, rest_error, rest_error_without; /* NaN: Gaussian */
};

/*
 * Removes each group of examples in turn: `groups` says of every example (as many as are run over)
 * in which it is. *removals, to be freed with free(), has one entry for each group, by rising
 * number. Takes one backward pass over the data for as many groups as memory holds at a time, and
 * one tangent pass for each group. Ranks take groups, and all get the results of all.
 */
IVON_API int ivon_sensitivity_groups(struct ivon_sensitivity *sensitivity, const int64_t *groups,
                                     struct ivon_group_removal **removals, size_t *count,
                                     struct ivon_error *error);

/* The removal of a whole set from the posterior itself. */
struct ivon_removal {
    uint64_t examples;         /* that have a position that counts */
    uint64_t positions;        /* of theirs that count */
    double n_train;            /* N of what remains */
    bool leverage;             /* the set's curvature was removed, too, in so many steps: */
    size_t steps;              /* of conjugate gradients */
    bool outside;              /* it was to be, and was not, as Σ does not hold it */
    double move, mean;         /* 2-norms of the move of the random means, and of these before */
    double loss, loss_without; /* mean loss of the positions, by the network at the means as they
                                  were, and as they are then */
};

/*
 * Removes all examples that it was made for, at once: the means move by
 *
 *   u = (C^(−1) − Σ_j J_jᵀ Λ_j J_j)^(−1) Σ_j g_j,   C = ρ Σ
 *
 * with leverage, as the options say of single examples; without it by u = C Σ_j g_j. N is that of
 * options.n_train, the checkpoint or options.whole, and has to be above what is removed. Takes a
 * backward pass over the examples; with leverage another one and a tangent pass for each step.
 */
IVON_API int ivon_sensitivity_remove(struct ivon_sensitivity *sensitivity,
                                     struct ivon_removal *removal, struct ivon_error *error);

/*
 * After that: the posterior without them, as a source that lasts until the sensitivity is used
 * again or freed. Random means are moved, each in its own type (IVON_ERROR_DATA where it does not
 * fit), and all other tensors are the source's. The Hessians stay; with M the positions removed,
 * ess becomes ess (N − M)/N and weight_decay becomes weight_decay N/(N − M), so that the precision
 * keeps the prior and of the data's curvature (N − M)/N. A low-rank correction holds for one weight
 * decay alone: with it both stay. n_train becomes N − M.
 */
IVON_API int ivon_sensitivity_remainder(struct ivon_source **remainder,
                                        const struct ivon_sensitivity *sensitivity,
                                        struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
