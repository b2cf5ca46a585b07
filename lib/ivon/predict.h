/*
 * Monte-Carlo prediction averaging: p̄ = Σ_m w_m (1/S) Σ_s p(f(x; θ_ms)), θ_ms drawn from posterior
 * m. Probabilities are averaged, never logits. Several posteriors are an ensemble, a mixture. (Shen
 * et al., ICML 2024, arXiv:2402.17641, section 4.)
 *
 * With predictive entropy H[p̄] and expected entropy Σ ω H[p_ms], their difference is the mutual
 * information of prediction and weights (Depeweg et al. 2018). Entropies are in nats.
 *
 * Regression: f̄ and, as the law of total variance has it, the epistemic variance of f over the
 * samples and the aleatoric noise_std², or of counts the mean itself, or where the outputs tell it
 * the mean of exp t over the samples.
 *
 * A result depends on data, posteriors, seed and tile alone: not on threads, memory, or how the
 * checkpoints are stored.
 */
#ifndef IVON_PREDICT_H
#define IVON_PREDICT_H

#include "ivon/examples.h"
#include "ivon/metrics.h"
#include "ivon/network.h"
#include "ivon/sample.h"
#include "ivon/stream.h"
#include "ivon/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Weights are drawn, or the network is linearised at the mean m: its outputs are f ~ N(f(m), C),
 * C = τ J Σ Jᵀ for each row by itself, which takes a backward pass for each output of an example.
 * In closed form that gives regressions of Gaussian targets their mean, epistemic variance diag C
 * and density, counts the mean exp(f + diag C/2) of their rates without a density, as it does
 * variances that the outputs tell, and classes and
 * events p = softmax or σ of f/√(1 + π/8 diag C) (MacKay, Neural Computation 1992), where nothing
 * is averaged that could disagree; or S draws of f stand where those of weights do. (Khan et al.,
 * NeurIPS 2019, arXiv:1906.01930; Immer et al., AISTATS 2021, arXiv:2008.08400.)
 */
enum ivon_predict_method {
    IVON_PREDICT_SAMPLES,
    IVON_PREDICT_LINEAR,      /* in closed form; `samples` say nothing */
    IVON_PREDICT_LINEAR_DRAWS /* by draws of the outputs */
};

/* One posterior of the ensemble, with the network that was bound to it. */
struct ivon_member {
    struct ivon_network *network;
    struct ivon_source *source;
    double weight;
};

struct ivon_predict_options {
    size_t size;           /* sizeof this struct: set by ivon_predict_defaults() */
    struct ivon_task task; /* noise unknown: no density of the targets, nor metrics */
    size_t samples;        /* S; 0: the posterior mean alone */
    struct ivon_sample_options sample;
    int bins;    /* of calibration errors; 0: 15 */
    bool logits; /* also the outputs at the mean (of the ensemble: their weighted mean) */
    /* Also the NLL at the mean, to compare with: see ivon_predictor_nll_at_mean. */
    bool nll_at_mean;
    bool log_likelihoods; /* also of every sample, and targets drawn from what it says */
    size_t batch;         /* examples at a time in one thread; 0: as many as suit the caches */
    /* Batch-norm statistics are computed anew from these for every sample; null: they are the
       checkpoint's. In batches of `batch`, the last incomplete one left out. */
    struct ivon_examples *recalibrate;
    /* Memory: for data and sums, beside the weights of a sample and activations; 0: 256 MiB, or a
       third of the weights' where several samples are drawn and that is more. Progress: in
       examples × samples; in examples where the network is linearised. */
    struct ivon_resources resources;
    /* Metrics, where there are targets: their errors need the sums of 16 groups of samples. Without
       them, 16 samples or fewer need a single sum. */
    bool metrics;
    bool descriptions; /* of each row its prediction, greatest probability, entropies and loss */
    enum ivon_predict_method method; /* a linearised network: of one posterior, not recalibrated */
    bool sample_outputs; /* also the outputs of every sample, or draw; not in closed form */
};

/* 64 samples of weights, categorical, with metrics and descriptions, everything else off. */
IVON_API void ivon_predict_options_init(struct ivon_predict_options *options, size_t size);
static inline struct ivon_predict_options ivon_predict_defaults(void)
{
    struct ivon_predict_options options;
    ivon_predict_options_init(&options, sizeof options);
    return options;
}

/* Returns whether more than one set of weights, or draw of outputs, predicts. With one, as at the
   mean, the mutual information and the epistemic standard deviation are exactly zero, and the
   expected entropy is the entropy; but in a linearised network's closed form, classes have neither
   of these, and the deviation is not zero. */
IVON_API bool ivon_predict_varies(const struct ivon_predict_options *options, size_t members);

/*
 * Predictions for the examples [first, first + count). R = count × max(tokens, 1) rows of K
 * outputs. What a likelihood or an option does not have is null. Borrowed until the callback
 * returns.
 */
struct ivon_predictions {
    uint64_t first;
    size_t count;
    /* Null without descriptions: prediction, max_probability, the entropies and the loss. */
    const int64_t *prediction;       /* R: argmax; Bernoulli: R × K of 0 and 1 */
    const float *probabilities;      /* R × K */
    const float *max_probability;    /* R; Bernoulli: of the K events the mean of max(p, 1 − p) */
    const float *entropy;            /* R; Bernoulli: summed over the K events */
    const float *expected_entropy;   /* R; null in a linearised network's closed form */
    const float *mutual_information; /* R, likewise */
    /* Of regression, one for each of a row's targets (ivon_likelihood_targets): */
    const float *mean; /* of y */
    const float *epistemic_std;
    const float *aleatoric_std; /* of y given its mean, where known */
    const float *logits;        /* R × K */
    /* R: −log of the averaged density of the targets, of which the metrics' NLL is the mean; of K
       events the mean of their −log p. NaN where the target does not count. */
    const double *loss;
    const int64_t *labels;   /* targets: R, or R × K of 0 and 1 */
    const float *targets;    /* targets of regression, likewise */
    const bool *counts;      /* R: whether the target counts (ivon/targets.h) */
    const size_t *positions; /* count: how many of the example's targets count */
    /* Of every sample: members × samples rows of `count`, summed over what counts of an example. */
    const double *log_likelihoods;
    /* Of every sample: targets drawn from what it says, as many as an example has; one of the two,
       as labels or targets. Where the target does not count, the label that is ignored. */
    const int64_t *label_replicates;
    const float *number_replicates;
    /* Of every sample: its outputs, members × samples rows of R × K. */
    const float *sample_outputs;
};

/* Shape of one example's prediction. */
struct ivon_predict_shape {
    int64_t tokens; /* 0: no token axis */
    size_t outputs; /* K */
    bool targets;   /* whether the data have them */
    bool losses; /* whether predictions come with their losses: null without descriptions, without
                       targets, and where these have no density */
};

/* A metric of the averaged prediction, with its standard errors. */
struct ivon_predict_metric {
    struct ivon_metric metric;
    /* Over Monte-Carlo samples, by the delete-a-group jackknife over at most 16 groups of samples;
       NaN with fewer than 2 samples. */
    double monte_carlo_error;
};

/*
 * Predictions from elsewhere, averaged: adds weight × probabilities, `rows` × K, to `sum`. Fails on
 * what is no probability, with its row, counted from `first`.
 */
IVON_API int ivon_probabilities_add(float *sum, const float *probabilities, double weight,
                                    size_t rows, size_t outputs, uint64_t first,
                                    struct ivon_error *error);

/* Describes averaged probabilities, `rows` × K of them; see struct ivon_predictions. */
IVON_API void ivon_probabilities_describe(enum ivon_likelihood likelihood, size_t rows,
                                          size_t outputs, const float *probabilities,
                                          int64_t *prediction, float *max_probability,
                                          float *entropy);

/*
 * The losses of averaged probabilities, `rows` × K, with labels as ivon_metrics_add takes them, and
 * as it averages them to the NLL: −log p of the label, or of K events the mean of theirs. NaN where
 * a label does not count (ivon/targets.h). Fails on what is no class, with its row, counted from
 * `first`.
 */
IVON_API int ivon_probabilities_losses(enum ivon_likelihood likelihood, uint64_t first, size_t rows,
                                       size_t outputs, const float *probabilities,
                                       const int64_t *labels, int64_t ignored, double *losses,
                                       struct ivon_error *error);

/* Predictions from elsewhere in files, whose first fields have K numbers, or tokens × K, for each
   of as many examples. */
struct ivon_average {
    struct ivon_examples *const *files;
    const double *weights; /* null: equal */
    size_t file_count;
    enum ivon_likelihood likelihood;
    struct ivon_ranks *ranks; /* average blocks each; null: this process is alone */
};

/* Averages them, and hands the examples out in their order, block by block, to rank 0: predictions
   with what ivon_probabilities_describe says of them. Fails as ivon_probabilities_add, and where
   the sum of the classes of a row is not 1. */
IVON_API int ivon_average_run(const struct ivon_average *average,
                              int (*on_block)(void *context,
                                              const struct ivon_predictions *predictions,
                                              struct ivon_error *error),
                              void *context, struct ivon_error *error);

struct ivon_predictor;

/* Checks everything that can be before the work: shapes of data, outputs and targets, Hessians. The
   last field of the examples is the targets if its name is `targets`; null: there are none. */
IVON_API int ivon_predictor_new(struct ivon_predictor **predictor,
                                const struct ivon_member *members, size_t member_count,
                                struct ivon_examples *examples, const char *targets,
                                const struct ivon_predict_options *options,
                                struct ivon_error *error);
IVON_API void ivon_predictor_free(struct ivon_predictor *predictor);

IVON_API struct ivon_predict_shape ivon_predictor_shape(const struct ivon_predictor *predictor);

/* How many means that were to be random have no Hessian, and stayed at the mean. */
IVON_API size_t ivon_predictor_fixed(const struct ivon_predictor *predictor);

/* Predicts all examples, in rising order, in blocks that memory holds; each goes to `on_block`,
   which stops the run by a value other than 0, that is returned. May be called once. Ranks average
   blocks in turn; all of them go to `on_block` of rank 0, which alone has metrics. */
IVON_API int ivon_predictor_run(struct ivon_predictor *predictor,
                                int (*on_block)(void *context,
                                                const struct ivon_predictions *predictions,
                                                struct ivon_error *error),
                                void *context, struct ivon_error *error);

/* After a run: returns whether the first outputs of classes were probabilities already, rows
   between 0 and 1 of sum 1. They were taken for logits (see ivon_network_adapt). */
IVON_API bool ivon_predictor_saw_probabilities(const struct ivon_predictor *predictor);

/* Returns the graph's output if it has as many rows for one example alone as there are examples:
   then the graph is run on all of them at once, and each row is taken for an example's, as of a
   graph that names the rows of its batch. Null otherwise. */
IVON_API const char *ivon_predictor_whole_output(const struct ivon_predictor *predictor);

/* After a run with `nll_at_mean` on data with targets: the NLL of predictions at the mean, of an
   ensemble at the weighted mean of its outputs there; else NaN. Averaging that makes the NLL far
   worse says that the posterior is too wide. */
IVON_API struct ivon_metric ivon_predictor_nll_at_mean(const struct ivon_predictor *predictor);

/* After a run with `metrics` on data with targets: the metrics; borrowed. Of regression null where
   the noise is unknown. */
IVON_API const struct ivon_predict_metric *ivon_predictor_metrics(struct ivon_predictor *predictor,
                                                                  size_t *count);

#ifdef __cplusplus
}
#endif

#endif
