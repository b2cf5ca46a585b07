/*
 * Variational learning by IVON (Shen et al., ICML 2024, arXiv:2402.17641, Algorithm 1): what
 * optimizes a network's parameters leaves behind their posterior. EVON (arXiv:2606.23357) is IVON
 * in the eigenbases of the matrices' gradients, which leaves the Kronecker structure of ivon/fit.h.
 * Bayes by Backprop (Blundell et al., ICML 2015, arXiv:1505.05424), AdamW (Loshchilov & Hutter,
 * ICLR 2019), SOAP (Vyas et al., 2024, arXiv:2409.11321), which is AdamW in such bases, and SGD
 * with momentum are there to compare with.
 *
 * The loss is the mean of L(y, f) over the examples of a mini-batch, or over their tokens, those
 * with an ignored target left out. L has no constants: −log softmax(f)_y; Σ_k softplus f − y f;
 * ½ ‖(f − y)/noise_std‖². That of classes may be smoothed and weighted, as PyTorch's
 * CrossEntropyLoss does: −Σ_c q_c log p_c, q_c = (1 − ε) w_y [c = y] + ε w_c/K, whose mean is the
 * sum over that of the w_y. Then λ is still the number of losses: the posterior is that of the sum
 * of the losses with weights whose mean over them is 1.
 *
 * A training depends on network, data, options and seed alone, to the last bit: not on threads and
 * ranks (ivon/ranks.h), and not on whether it was interrupted and resumed.
 */
#ifndef IVON_TRAIN_H
#define IVON_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "ivon/dtype.h"
#include "ivon/examples.h"
#include "ivon/influence.h"
#include "ivon/metrics.h"
#include "ivon/network.h"
#include "ivon/stream.h"
#include "ivon/task.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_method {
    IVON_METHOD_IVON,
    IVON_METHOD_ADAMW,
    IVON_METHOD_SGD,
    IVON_METHOD_EVON,
    IVON_METHOD_SOAP, /* AdamW with bases */
    IVON_METHOD_BBB   /* Bayes by Backprop */
};

struct ivon_method_traits {
    const char *name; /* "ivon", "adamw", "sgd", "evon", "soap", "bbb" */
    bool posterior;   /* it draws weights, and leaves Hessians */
    bool bases;       /* its matrices have bases */
};

/* Null where there is no such method; methods are numbered from 0 without a gap. */
IVON_API const struct ivon_method_traits *ivon_method_traits(enum ivon_method method);

/* How a sample's gradient ĝ estimates the Hessian. */
enum ivon_estimator {
    IVON_ESTIMATOR_PRICE,  /* ĝ (θ − m)/σ² */
    IVON_ESTIMATOR_SQUARED /* λ ĝ², whose factor λ is disputed */
};

/* The factor of the rate from the end of the warmup to that of the training. */
enum ivon_schedule {
    IVON_SCHEDULE_CONSTANT,
    IVON_SCHEDULE_COSINE, /* from 1 to 0 along half a cosine */
    IVON_SCHEDULE_LINEAR  /* from 1 to 0 along a line */
};

/* "constant", "cosine", "linear"; null: there is no such schedule. They are numbered from 0 on
   without gaps, as are the next. */
IVON_API const char *ivon_schedule_name(enum ivon_schedule schedule);

/* How the matrices of an architecture begin. */
enum ivon_initial {
    IVON_INITIAL_KEEP,    /* each layer by its own rule */
    IVON_INITIAL_KAIMING, /* normal, √(2/fan_in) */
    IVON_INITIAL_XAVIER,  /* uniform, √(6/(fan_in + fan_out)) */
    IVON_INITIAL_NORMAL   /* normal, 0.02 */
};

/* "keep", "kaiming", "xavier", "normal"; null: there is no such rule. */
IVON_API const char *ivon_initial_name(enum ivon_initial initial);

/* The architectures of ivon_train_start, one for each i from 0 on, with their sizes:
   "linear:IN,OUT"; null behind the last. */
IVON_API const char *ivon_architecture_usage(size_t i);

/* Random changes of images, as bits. */
enum ivon_augmentation {
    IVON_AUGMENT_FLIP = 1,    /* left and right are swapped in half of them */
    IVON_AUGMENT_CROP = 2,    /* `crop` zeros are put around them, and their size cut out again */
    IVON_AUGMENT_REFLECT = 4, /* the same, but around them is their reflection at the outer rows */
    /* A square of zeros, `cutout` wide, around a random pixel, what is within the image (DeVries &
       Taylor 2017, arXiv:1708.04552). */
    IVON_AUGMENT_CUTOUT = 8
};

/* Reads "crop4,flip,cutout16": any of these, or reflect in crop's place, in any order, with a comma
   between them; crop and reflect are followed by 1 to 64, cutout by 1 to 1024. *crop and *cutout
   are 0 where they are not there. */
IVON_API int ivon_augmentation_parse(unsigned *augmentation, unsigned *crop, unsigned *cutout,
                                     const char *text, struct ivon_error *error);

/* Settings of the parameters whose names match a glob; NaN: those of the training. */
struct ivon_train_group {
    const char *pattern; /* as fnmatch(3) takes it, without flags */
    double rate, weight_decay;
    double ess, hessian_init; /* of methods with a posterior; else NaN */
};

struct ivon_train_options {
    size_t size; /* sizeof this struct: set by ivon_train_defaults() */
    enum ivon_method method;
    /* Gaussian targets need noise_std. The pairs of inputs have to outlive the trainer. */
    struct ivon_task task;

    double rate;         /* times what the schedule gives; required */
    double weight_decay; /* δ; of AdamW decoupled, of SGD added to the gradient */
    double beta1;        /* of SGD: the momentum */
    double beta2;        /* not of SGD */
    bool debias;         /* divide momenta by 1 − βᵗ: of IVON, EVON g alone; not of SGD */
    double norm_clip;    /* the largest norm of a gradient; INFINITY: any */
    /* IVON, EVON and, but for rescale, clip and estimator, Bayes by Backprop: */
    double ess;          /* λ; NaN: the number of losses in the data */
    double hessian_init; /* h₀; of Bayes by Backprop σ begins as 1/√(λ (h₀ + δ)) */
    bool rescale;        /* the rate is multiplied by h₀ + δ */
    double clip_radius;  /* ξ, of an element's step before the rate; INFINITY: none */
    enum ivon_estimator estimator;
    unsigned samples; /* Monte-Carlo samples of a step, at least 1 */

    enum ivon_schedule schedule;
    uint64_t warmup; /* steps */
    uint64_t steps;  /* 0: so many as `epochs` take */
    uint64_t epochs;
    size_t batch;          /* examples; at most all there are */
    size_t accumulate;     /* batches of a step, at least 1 */
    unsigned augmentation; /* of images, bits of ivon_augmentation; 0: none */
    unsigned crop; /* IVON_AUGMENT_CROP or _REFLECT: pixels on every side, 1 to 64; else 0 */
    enum ivon_initial initial;
    uint64_t seed; /* of initial values, order, augmentation and noise */
    /* Returns whether the parameter of that name is trained; null: all. The others are buffers. */
    bool (*selected)(void *context, const char *name);
    void *selected_context;

    /* Memory: for data and values, beside weights and their state; 0: any. Progress: only asked
       whether to stop, in steps and tests. */
    struct ivon_resources resources;

    /*
     * EVON and SOAP: the weights that enter by products, as those of ivon/fit.h do, convolutions as
     * o × i·kh·kw, have a basis of their inputs and one of their outputs, each unless it has more
     * rows than max_factor; of embeddings only that of outputs. All other parameters have none.
     */
    uint64_t basis_every; /* steps between new bases, at least 1 */
    double basis_beta;    /* β₃, of the moments of gradients, whose eigenvectors they are */
    size_t max_factor;

    /*
     * Groups of parameters, each in the first that its name matches; those that match none have the
     * settings above. A group without a parameter is an error. Ess and weight decay of a group are
     * attributes of its Hessians in the checkpoint, whose header has those above. With a posterior
     * as the prior all have one ess. Borrowed, until ivon_trainer_new has returned.
     */
    const struct ivon_train_group *groups;
    size_t group_count;

    /* IVON, EVON: the first step and each that is a multiple of so many steps behind it estimate
       the Hessian, which stays as it is in those between. Weights are drawn in all. At least 1. */
    uint64_t hessian_every;

    /* Warm restarts (SGDR: Loshchilov & Hutter, ICLR 2017): the schedule, which is not constant,
       begins again after so many steps behind the warmup, and each further time after
       restart_growth times as many; 0: never. PyTorch's T_0 and T_mult. */
    uint64_t restart_every, restart_growth;
    /* Categorical: ε, from 0 to 1; and w, not negative, one for each of the classes, copied; null:
       all are 1, unless they are balanced: the number of losses over that of those of the class
       and of classes, 0 of a class that has none. */
    double label_smoothing;
    const double *class_weights;
    size_t class_weight_count;
    bool balanced_classes;

    double prior_scale; /* with a posterior as the prior: its precision is multiplied by it */

    /*
     * d: the posterior's mean, in checkpoints as in tests, is the exponential average of the means
     * after each step, (1 − d) Σ_k d^(t−k) m_k/(1 − dᵗ), in which those at the beginning have no
     * part. The training goes on from the means themselves, with Hessians and running statistics as
     * without an average. 0: none.
     */
    double average;
    /* Of the elements that Dropout drops, from 0 to below 1; 0: it passes them on; NaN: each node's
       own. An architecture gets Dropout nodes where it is not 0: see ivon-train(1). Those of a
       network are set into evaluation, as it is written. */
    double dropout;

    unsigned cutout; /* IVON_AUGMENT_CUTOUT: pixels of a side, 1 to 1024; else 0 */

    /*
     * Low-rank adaptation (LoRA; ivon/adapter.h): returns the rank of the factors that are trained
     * beside a weight W of that name; 0: it has none. Null: all parameters are trained themselves.
     * The weights are those with names that end in .weight, of which MatMul, Gemm and Conv of one
     * group alone make products; what is returned for others does not count. The network computes
     *   y = W x + (lora_alpha/rank) B (A x),
     * A begins uniform within ±1/√inputs, B with zeros, and all else is a buffer. Batch norms are
     * as in evaluation. Where the start has such factors already they go on, and have to be those
     * that are chosen, with ranks and scale. `selected` has to be null.
     */
    int64_t (*lora_rank)(void *context, const char *name);
    void *lora_context;
    double lora_alpha; /* positive; NaN, the default: each rank, so that the scale is 1 */

    /* IVON_F32, IVON_BF16 or IVON_F16: the type of the means in checkpoints. Training, tests and
       resuming are by floats. */
    enum ivon_dtype mean_dtype;

    /* IVON, EVON, Bayes by Backprop: every second sample of the training, counted through its
       steps, takes the noise of the one before it, negated. */
    bool antithetic;

    /*
     * Into so many lanes the examples of a step are divided, which threads and ranks share, and
     * whose gradients are added in their order: another number gives other last bits. At most 1024,
     * and not more than examples; where batch norms are trained, the examples have to be a multiple
     * of it. 0: a power of two up to 8, so that each lane has 16 examples or more. Each rank holds
     * a gradient and the values of so many lanes at a time as it has threads, but of 8 at least,
     * and of 8 where resources.memory is not 0.
     */
    size_t lanes;

    /*
     * IVON with IVON_ESTIMATOR_PRICE: each lane draws weights of its own, and gradients and
     * estimates of the Hessian are their means over the lanes, weighted by their numbers of losses,
     * as workers of a distributed training have them (the paper's appendix). The noise belongs to
     * the number of a lane: other lanes make another training, and not other last bits. Each rank
     * then holds as many weights as it holds gradients.
     */
    bool lane_samples;
};

/* The defaults of a method: those of the papers and, of AdamW and SGD, PyTorch's; 1 epoch of
   batches of 50. The rate is NaN. */
IVON_API void ivon_train_options_init(struct ivon_train_options *options, size_t size,
                                      enum ivon_method method);
static inline struct ivon_train_options ivon_train_defaults(enum ivon_method method)
{
    struct ivon_train_options options;
    ivon_train_options_init(&options, sizeof options, method);
    return options;
}

/* The start of a training: an architecture or a network. */
struct ivon_train_start {
    /* linear:IN,OUT, mlp:IN,…,OUT[,relu|tanh|gelu], lenet, resnet20[-frn|-bn], textcnn:…,
       transformer:…, gpt:…: see ivon-train(1) */
    const char *architecture;
    /* Not bound yet; it will be. Must outlive the trainer. */
    struct ivon_network *network;
    /* Means and buffers, by name; what an architecture has and these have not begins anew. Null:
       those of the initialisation; of a network, its initializers, of which floats of at least one
       axis are trained, but running statistics are not. */
    struct ivon_source *weights;
    /* IVON: a posterior, of any structure, that takes the place of weight decay to zero, with its
       precision times prior_scale; null: none. It is not needed after ivon_trainer_new. */
    struct ivon_source *prior;
    /* The weights are a checkpoint of this very training, which goes on behind it. */
    bool resume;
};

struct ivon_trainer;

/*
 * Reads all examples into memory, and checks everything that can be before the work. `targets`
 * names the field of targets. Sources, examples and the selection are not needed afterwards; the
 * pairs of inputs are. With ranks (resources.ranks) each of them has the whole state, the same on
 * all; gradients and tests are shared, and their results reach all.
 */
IVON_API int ivon_trainer_new(struct ivon_trainer **trainer, const struct ivon_train_start *start,
                              struct ivon_examples *examples, const char *targets,
                              const struct ivon_train_options *options, struct ivon_error *error);
IVON_API void ivon_trainer_free(struct ivon_trainer *trainer);

/*
 * One step: the gradient of `accumulate` batches at each of the samples, and the update. The
 * examples of epoch e, from 0, come in a permutation that seed and e give; what is left of them
 * when no whole batch is, is left out. Fails with IVON_ERROR_DATA when the loss, a gradient or a
 * new value is not finite, saying what may help; the trainer can then only be freed. A step that
 * was stopped has not been made, unless it had gone on to its second sample: then it is made whole.
 */
IVON_API int ivon_trainer_step(struct ivon_trainer *trainer, struct ivon_error *error);

/* Multiplies the rate of the steps to come, beside the schedule, by a positive number; 1 at first.
   Checkpoints do not hold it. */
IVON_API void ivon_trainer_scale_rate(struct ivon_trainer *trainer, double scale);

struct ivon_train_state {
    uint64_t step, steps; /* done, of the whole training */
    uint64_t epoch_steps; /* of an epoch, at least 1 */
    double epoch;         /* how many of them are done */
    double loss;          /* of the last step, at its samples, smoothed and weighted as it is
                             trained; NaN before the first */
    double rate;          /* of the last step, with the schedule's factor */
    double ess;           /* λ; NaN unless the method has a posterior */
    uint64_t examples;
    uint64_t losses;     /* in the data: examples, or tokens; less those that are ignored */
    uint64_t parameters; /* elements */
    /* Means of `weights` that the network has no place for, and tensors of an architecture that
       `weights` does not have, with the first of each. Borrowed. */
    struct ivon_unbound unbound;
    bool
        probabilities; /* the first outputs of classes were: see ivon_predictor_saw_probabilities */
    size_t tokens;     /* of an example; 1: it has none */
};
IVON_API struct ivon_train_state ivon_trainer_state(const struct ivon_trainer *trainer);

/*
 * Loss and error on other data, at the mean: means over examples, or over their tokens, those with
 * an ignored target left out. Regression has no error: NaN. Shapes must be the training data's.
 */
IVON_API int ivon_trainer_test(struct ivon_trainer *trainer, struct ivon_examples *examples,
                               const char *targets, double *loss, double *error_rate,
                               struct ivon_error *error);

/* The same with standard errors over examples: struct ivon_ratio has their formula. */
IVON_API int ivon_trainer_test_metrics(struct ivon_trainer *trainer, struct ivon_examples *examples,
                                       const char *targets, struct ivon_metric *loss,
                                       struct ivon_metric *error_rate, struct ivon_error *error);

/*
 * Measures each query (ivon/influence.h) at the mean: a value for each example, summed over those
 * of its tokens that count; of IVON_MEASURE_TOKEN_LOSS one for each token. `output` is that of
 * IVON_MEASURE_LOGIT, which needs no targets. Fails with IVON_ERROR_DATA where an output is not
 * finite.
 */
IVON_API int ivon_trainer_measure(struct ivon_trainer *trainer, struct ivon_examples *examples,
                                  const char *targets, enum ivon_measure measure, size_t output,
                                  double *values, struct ivon_error *error);

/* The network, for writing it down; borrowed. */
IVON_API const struct ivon_network *ivon_trainer_network(const struct ivon_trainer *trainer);

/* The text of the adapter_config.json of the factors that are trained, upon the weights of the path
   `base`, to be freed; the means of ivon_trainer_source are the tensors beside it. Fails with
   IVON_ERROR_ARGUMENT where no factors are trained. */
IVON_API int ivon_trainer_adapter(const struct ivon_trainer *trainer, const char *base,
                                  char **config, struct ivon_error *error);

/*
 * The state as a checkpoint in memory: means, Hessians where the method has them, momenta and
 * buffers, and `graph`, of `graph_size` bytes, unless null. AdamW's second moments are momenta too,
 * named second_moment/NAME. Of EVON a weight with bases is a block, without the bias, with its
 * Hessian in the bases. Momenta are in them, too, and the mean in them, rotated_mean/NAME, and the
 * moments that they follow, input_factor/NAME and output_factor/NAME, are momenta; so are, of SOAP,
 * which has no block, the bases, input_basis/NAME and output_basis/NAME. Where means are averages,
 * those that the training is at are unaveraged_mean/NAME; where they are rounded, they are whole in
 * unrounded_mean/NAME. Of Bayes by Backprop, whose Hessian is 1/(λ σ²) − δ, ρ and its moments are
 * momenta: rho/NAME, rho_momentum/NAME and rho_second_moment/NAME. The checkpoint's n_train is the
 * number of losses. Data are borrowed from the trainer, and change with its next step.
 */
IVON_API int ivon_trainer_source(struct ivon_source **source, const struct ivon_trainer *trainer,
                                 const void *graph, size_t graph_size, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
