/*
 * A Gaussian posterior for any trained network: its weights are the mean, and the curvature of the
 * training loss there gives the precision λ(h + δ) (the Laplace approximation; MacKay 1992,
 * Daxberger et al. 2021, arXiv:2106.14806). The curvature is the generalized Gauss-Newton matrix
 * (1/N) Σ_n J_nᵀ Λ_n J_n, of which is kept
 *
 *   diagonal    its diagonal;
 *   Kronecker   for each weight that enters by a product the eigenvectors of the factors
 *               A = (1/N) Σ a aᵀ and B = (1/(N T)) Σ d dᵀ of its inputs a and output adjoints d,
 *               and h = (1/N) Σ_n E (U_Bᵀ G_n U_A)² in that basis (K-FAC: Martens & Grosse 2015,
 *               arXiv:1503.05671; Grosse & Martens 2016, 1602.01407; Eschenhagen et al. 2023,
 *               2311.00636; EK-FAC: George et al. 2018, 1806.03884); other parameters diagonally.
 *
 * A low-rank correction of rank r upon either takes the largest
 * differences from the whole matrix: r eigenpairs of D^(−1/2) λ(GGN + δ) D^(−1/2) − I.
 *
 * With a token axis N counts the tokens that count, h is per token, and G_n is the gradient of a
 * sequence. Results depend on the data, the weights and the options alone, not on threads.
 *
 * Ranks (resources.ranks) share the passes over the data and the eigenvectors of factors; all of
 * them have the results, but for the vectors of a low-rank correction, of which each holds a part.
 * Rank 0 alone saves states, with `save`, which all are to have; that of a correction is read in
 * the thread alone that `save` is called in.
 */
#ifndef IVON_FIT_H
#define IVON_FIT_H

#include <stdbool.h>

#include "ivon/examples.h"
#include "ivon/network.h"
#include "ivon/stream.h"
#include "ivon/task.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_fit_structure {
    IVON_FIT_DIAGONAL,
    IVON_FIT_KRONECKER,
    IVON_FIT_POSTERIOR /* the source's own Hessians, a diagonal, for a low-rank correction */
};

/* The expectation over labels that the second moment of gradients is taken with. */
enum ivon_curvature {
    IVON_CURVATURE_AUTO,   /* the next; for more than 128 outputs the one after it */
    IVON_CURVATURE_GGN,    /* Λ exactly: a backward pass for each output; in networks with a token
                                axis each token's column has a sign of its own, drawn at random */
    IVON_CURVATURE_FISHER, /* labels drawn from what the network predicts */
    IVON_CURVATURE_EMPIRICAL /* the data's own labels: an approximation that is none near a minimum
                                (Kunstner et al. 2019, arXiv:1905.12558) */
};

struct ivon_fit_options {
    size_t size;           /* sizeof this struct: set by ivon_fit_defaults() */
    struct ivon_task task; /* noise_std of Gaussian targets; NaN: the one of greatest evidence */
    enum ivon_fit_structure structure;
    size_t rank; /* of a low-rank correction; 0: none */
    enum ivon_curvature curvature;
    size_t draws;        /* of labels for each target, IVON_CURVATURE_FISHER */
    uint64_t seed;       /* of draws and signs */
    bool reduce;         /* of weights used at several positions A is of the mean of their inputs,
                              B of the sum of their adjoints; else of each position */
    bool factor_moments; /* h is the product of the factors' eigenvalues, as in K-FAC */
    bool gram;           /* A alone is computed, by a forward pass; nothing else is */
    size_t factor_rows;  /* a factor of more rows than this is the identity; 0: 8192 */
    double ess;          /* λ; NaN: N */
    double weight_decay; /* δ; NaN: the one of greatest evidence */
    bool each;           /* of each Hessian one of its own, where it is NaN */
    /* Returns whether the parameter of that name is random; null: all. */
    bool (*selected)(void *context, const char *name);
    void *selected_context;
    size_t batch; /* examples at a time in one thread; 0: as many as suit caches and memory */
    struct ivon_resources resources; /* memory: beside weights and curvature; 0: 1 GiB. Progress: in
                                        examples × passes */
    /*
     * For long runs, unless null: called with the state of a run or correction, as a checkpoint in
     * memory, which is borrowed; ivon_fit_resume goes on from a copy. It is called in the thread of
     * the caller where save_seconds have passed since the run began or the last call returned, and
     * 20 times as long as that took, between two waves of tiles; and once before a run that has
     * done anything is stopped by progress, which then takes until the end of a wave. A value other
     * than 0 ends the run and is returned.
     */
    int (*save)(void *context, struct ivon_source *state, struct ivon_error *error);
    void *save_context;
    double save_seconds; /* 0: between all waves */
    /* All else that results depend on, as bytes, such as the network's graph: states of runs that
       differ in them do not fit, as those that differ in options, weights or examples. */
    const void *run;
    size_t run_size;
};

/* Kronecker, GGN, one draw, per position. */
IVON_API void ivon_fit_options_init(struct ivon_fit_options *options, size_t size);
static inline struct ivon_fit_options ivon_fit_defaults(void)
{
    struct ivon_fit_options options;
    ivon_fit_options_init(&options, sizeof options);
    return options;
}

struct ivon_fit;

/*
 * Checks everything that can be before the work. The last field of the examples is the targets: its
 * name is `targets`. The network, which was bound to the source, the source, whose means are the
 * weights, and the examples must outlive it.
 */
IVON_API int ivon_fit_new(struct ivon_fit **fit, struct ivon_network *network,
                          struct ivon_source *source, struct ivon_examples *examples,
                          const char *targets, const struct ivon_fit_options *options,
                          struct ivon_error *error);
IVON_API void ivon_fit_free(struct ivon_fit *fit);

/*
 * Before the run, takes up the state that a run with `save` was given, of the same options but for
 * threads, ranks and progress: the run ends with the same bits as one that was never stopped. Rank
 * 0 has the state, other ranks a null pointer. Examples that are in the sums are read once more,
 * for their digest. Fails with IVON_ERROR_DATA where the state
 * is of another run, another version of the library, or damaged; the fit can then only be freed. A
 * state within the correction has its weight decay, which is not to be set again.
 */
IVON_API int ivon_fit_resume(struct ivon_fit *fit, struct ivon_source *state,
                             struct ivon_error *error);

/* Passes over the examples, and tunes the weight decay, unless it was given. */
IVON_API int ivon_fit_run(struct ivon_fit *fit, struct ivon_error *error);

/* After a run: sets the weight decay of all Hessians, and the noise, if it was not given, to the
   one of greatest evidence by it. A low-rank correction has to be made anew. */
IVON_API int ivon_fit_set_weight_decay(struct ivon_fit *fit, double weight_decay,
                                       struct ivon_error *error);

/* After a run: makes the low-rank correction of the options' rank, for the weight decay as it is,
   by further passes over the examples. */
IVON_API int ivon_fit_correct(struct ivon_fit *fit, struct ivon_error *error);

struct ivon_fit_summary {
    uint64_t examples;
    double n_train;           /* N */
    double ess, weight_decay; /* NaN: Hessians differ */
    double noise_std;
    enum ivon_curvature curvature; /* as it was chosen */
    double loss;                   /* mean of L over N, at the mean */
    size_t parameters;             /* that are random: P */
    double effective;              /* γ = Σ h/(h + δ) */
    double squares;                /* ‖m‖² of those */
    double evidence;               /* log p(D | δ) / N, without what δ does not move */
    /* Newton's: N gᵀ (H + δ)^(−1) g, g the gradient of (1/N) Σ L + δ/2 ‖m‖², but at most twice
       Σ L + N δ/2 ‖m‖², from which a Newton step takes half of it. NaN: not known. See
       ivon_mean_is_far. */
    double decrement;
    size_t blocks; /* weights with a basis */
    size_t rank;   /* of the low-rank correction; its first and last ℓ: */
    double first, last;
    /* Known before the run: */
    size_t bytes;    /* of factors, bases, h and the vectors of Lanczos' method in memory, of which
                        this rank holds a part */
    size_t passes;   /* over the examples, for factors and h */
    size_t columns;  /* backward passes for each example and pass */
    size_t products; /* more passes, of a tangent and a backward one, for the correction */
    size_t tile;
    /* Of a run that was taken up: passes and products that are done, examples of the next. */
    size_t passes_done;
    uint64_t examples_done;
};
/* Before a run, what is known then. */
IVON_API struct ivon_fit_summary ivon_fit_summary(const struct ivon_fit *fit);

/* After a run: the first mean by which no output has a derivative, so that its h is 0 throughout
   and its variance that of the prior; and how many there are: buffers, perhaps. Of a weight in one
   basis with its bias, both. Borrowed; null, and *count 0: none. */
IVON_API const char *ivon_fit_flat(const struct ivon_fit *fit, size_t *count);

/* After a run: as ivon_predictor_saw_probabilities. */
IVON_API bool ivon_fit_saw_probabilities(const struct ivon_fit *fit);

/*
 * After a run: the posterior as a source that lasts until the fit is changed or freed: means and
 * buffers of the source that it was made for, what was fitted, and `graph`, unless null, the bytes
 * of the network as an ONNX file, which must outlive it, too.
 *
 * With ranks and a low-rank correction all call it: rank 0 gets the source, which the calling
 * thread alone can read; the others send it what they hold until it is closed, and return then,
 * with a null source.
 */
IVON_API int ivon_fit_source(struct ivon_source **source, struct ivon_fit *fit, const void *graph,
                             size_t graph_size, struct ivon_error *error);

/*
 * The prior of a posterior that there is already, fitted or trained, chosen anew without data: its
 * Hessians, those of blocks in their bases, and |m|² are all that the evidence asks of δ. With
 * N = n_train, or the ess where that is not known, δ has the greatest evidence where
 * N δ |m|² = γ = Σ h/(h + δ) (MacKay 1992). Elements of h below 0, as a training may leave them,
 * count as 0. Means stay as they are; a temperature τ divides every ess.
 */
struct ivon_tuning;

/* The source must outlive it. Fails where a Hessian has no ess, is not that of its mean, or not
   finite; where there is none. A weight decay need not be there yet. */
IVON_API int ivon_tuning_new(struct ivon_tuning **tuning, struct ivon_source *source,
                             struct ivon_error *error);
IVON_API void ivon_tuning_free(struct ivon_tuning *tuning);

/* Sets the weight decay to the one of greatest evidence, or with `each` every Hessian's to its own.
   Fails where a Hessian is so far below 0 that h + δ is not positive, and on a low-rank correction,
   which holds for one weight decay. */
IVON_API int ivon_tuning_maximize(struct ivon_tuning *tuning, bool each, struct ivon_error *error);

/* Sets the weight decay of all Hessians, which fails likewise, or leaves it for NaN; and the
   temperature, relative to the source's ess. */
IVON_API int ivon_tuning_set(struct ivon_tuning *tuning, double weight_decay, double temperature,
                             struct ivon_error *error);

struct ivon_tuning_summary {
    double n_train;           /* N */
    double ess, weight_decay; /* NaN: Hessians differ, or have none */
    size_t hessians, parameters;
    size_t rank;      /* of the low-rank correction; 0: none */
    double least;     /* element of a Hessian: weight decays must be above −least */
    double effective; /* γ */
    double squares;   /* ‖m‖² */
    double evidence;  /* log p(D | δ) / N + mean loss, as ivon_fit_summary has both */
};
IVON_API struct ivon_tuning_summary ivon_tuning_summary(const struct ivon_tuning *tuning);

/* The posterior as it is tuned, with all the source's tensors, until the tuning is freed. */
IVON_API int ivon_tuning_source(struct ivon_source **source, const struct ivon_tuning *tuning,
                                struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
