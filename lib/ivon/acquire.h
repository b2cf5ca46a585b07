/*
 * Acquisition for active learning: the choice of examples to label next, by what S weight samples
 * of weights ω_s, which add up to 1, predict of an example without its target, p_s(y). With the
 * average p̄ = Σ ω_s p_s and entropies H[p] = −Σ_y p log p, in nats:
 *
 *   bald             H[p̄] − Σ ω_s H[p_s], the mutual information of target and weights (Houlsby et
 *                    al. 2011, arXiv:1112.5745; Gal, Islam & Ghahramani, ICML 2017)
 *   entropy          H[p̄]
 *   variation ratio  1 − max_y p̄(y), as Gal et al. have it
 *   margin           p̄ of the most probable class less that of the next (Scheffer et al.,
 *                    IDA 2001)
 *   batchbald        for a whole batch, I(y_1 … y_b; θ) (Kirsch, van Amersfoort & Gal,
 *                    NeurIPS 2019, arXiv:1906.08158), chosen greedily
 *
 * Labels are wanted of what scores high, but for the margin, where it is low.
 */
#ifndef IVON_ACQUIRE_H
#define IVON_ACQUIRE_H

#include "ivon/options.h"
#include "ivon/predict.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_acquisition {
    IVON_ACQUIRE_BALD,
    IVON_ACQUIRE_ENTROPY,
    IVON_ACQUIRE_VARIATION_RATIO,
    IVON_ACQUIRE_MARGIN,
    IVON_ACQUIRE_BATCHBALD
};

struct ivon_acquisition_traits {
    const char *name; /* "variation-ratio" */
    bool samples;   /* it compares samples: a single one, or an average alone, has no such score */
    bool ascending; /* the least first */
    bool joint;     /* of a batch, by struct ivon_batchbald; others are of each example alone */
};

/* Null: there is no such acquisition. They are numbered from 0 on without gaps. */
IVON_API const struct ivon_acquisition_traits *ivon_acquisition_traits(
    enum ivon_acquisition acquisition);

/*
 * Sets the score of each of predictions->count examples, classes or events with descriptions, by
 * an acquisition that is not joint. One of several tokens has the mean over them. K events have the
 * sum of their entropies and mutual informations, and the means of variation ratio and margin,
 * |2p − 1|. Fails with IVON_ERROR_ARGUMENT where the predictions have not what the score is made
 * of, as those of a regression.
 */
IVON_API int ivon_acquisition_scores(enum ivon_acquisition acquisition,
                                     enum ivon_likelihood likelihood,
                                     const struct ivon_predict_shape *shape,
                                     const struct ivon_predictions *predictions, double *scores,
                                     struct ivon_error *error);

/*
 * BatchBALD. The targets y of different rows are independent given the weights, and so the joint
 * mutual information is a sum over the batch's rows in their order of
 *
 *   I(y_n; θ | y_1 … y_n−1) = Σ_c w_c H[Σ_s W_cs p_ns] − Σ_s ω_s H[p_ns]
 *
 * over the configurations c of y_1 … y_n−1, with w_c = Σ_s ω_s Π_i p_is(c_i) and
 * W_cs = ω_s Π_i p_is(c_i)/w_c. Each row is the one of greatest gain after those before it, of
 * equal ones the first. Configurations are all there are, exactly, while these are at most
 * `configurations`; beyond, as many are drawn from w (systematically over samples, then y_i from
 * p_is), each with an equal w, which estimates the sum without bias. As gains never grow with the
 * batch, a row is looked at only while its last gain reaches the best one of the step; estimated
 * gains, which may grow by their noise, are treated alike. The bits of the result depend on the
 * options but for memory and threads, and on the rows, alone.
 */
struct ivon_batchbald_options {
    size_t size;                     /* sizeof this struct: set by ivon_batchbald_defaults() */
    enum ivon_likelihood likelihood; /* of classes, or of one event */
    size_t outputs;                  /* K */
    size_t samples;                  /* S */
    const double *weights;           /* S positive numbers; null: equal */
    uint64_t rows;                   /* that will be added */
    size_t configurations;           /* 0: 10,000 */
    uint64_t seed;                   /* of the configurations that are drawn */
    /* Memory: 4 bytes for each row, sample and class, and 16 for each configuration and sample; 0:
       256 MiB. Progress: it is only asked whether to stop. */
    struct ivon_resources resources;
};

/* Classes; outputs, samples and rows are left to be set. */
IVON_API void ivon_batchbald_options_init(struct ivon_batchbald_options *options, size_t size);
static inline struct ivon_batchbald_options ivon_batchbald_defaults(void)
{
    struct ivon_batchbald_options options;
    ivon_batchbald_options_init(&options, sizeof options);
    return options;
}

struct ivon_batchbald;

/* Fails with IVON_ERROR_ARGUMENT on options that say nothing sensible, and with IVON_ERROR_MEMORY
   where the memory is too little, which it names. */
IVON_API int ivon_batchbald_new(struct ivon_batchbald **batchbald,
                                const struct ivon_batchbald_options *options,
                                struct ivon_error *error);
IVON_API void ivon_batchbald_free(struct ivon_batchbald *batchbald);

/* Adds `count` rows, numbered on from the last one: their outputs f of each sample, logits of
   classes or of the event, samples × count × K. Fails with IVON_ERROR_DATA, and the row, on one
   that is not finite, and with IVON_ERROR_ARGUMENT on more rows than were said. */
IVON_API int ivon_batchbald_add(struct ivon_batchbald *batchbald, size_t count,
                                const float *outputs, struct ivon_error *error);

struct ivon_batchbald_choice {
    uint64_t row;
    double gain; /* nats, at least 0; the sum over a batch is its joint mutual information */
    bool exact;  /* it is not estimated from configurations that were drawn */
};

/* *choices receives a batch of `most` rows, or all there are, in the order in which they were
   chosen, to be freed with free(); a smaller batch is the beginning of a larger one. */
IVON_API int ivon_batchbald_choose(const struct ivon_batchbald *batchbald, size_t most,
                                   struct ivon_batchbald_choice **choices, size_t *count,
                                   struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
