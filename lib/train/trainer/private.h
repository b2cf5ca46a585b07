/*
 * The inside of a trainer: set up by trainer.c, with what it begins with from trainer/start.c, the
 * data from trainer/data.c and their loss from trainer/objective.c, a posterior as the prior from
 * trainer/prior.c, the groups of its parameters from trainer/groups.c, the bases of its matrices
 * from trainer/bases.c, low-rank factors from trainer/lora.c; gradients by trainer/lanes.c, with
 * the masks of trainer/dropout.c, steps by trainer/step.c, an average of their means by
 * trainer/average.c, the state, which trainer/state.c lists, as a checkpoint by trainer/source.c
 * and, of smaller means, trainer/rounded.c, and back by trainer/resume.c, losses on other data by
 * trainer/test.c; trainer/ranks.c compares the states of several ranks.
 */
#ifndef TRAIN_TRAINER_PRIVATE_H
#define TRAIN_TRAINER_PRIVATE_H

#include "bayes/labelled.h"
#include "bayes/precision.h"
#include "bayes/weights.h"
#include "ivon/train.h"
#include "metrics/likelihood/likelihood.h"
#include "net/graph/low_rank.h"
#include "net/graph/training.h"
#include "train/architecture/architecture.h"
#include "train/optimizer/optimizer.h"
#include "train/order.h"
#include "train/schedule.h"

/* A tensor of the checkpoint to be, with what it begins with. */
struct start_tensor {
    struct ivon_tensor tensor; /* owns its name; a mean's type is f32 */
    void *data;                /* 64-byte aligned */
    bool shared;               /* the network owns the data */
};

struct start_tensors {
    struct start_tensor *items;
    size_t count, capacity;
    struct ivon_unbound unbound;
};

/* The training data: inputs in the feed, targets in one of the two arrays. */
struct training_data {
    struct feed feed;
    uint64_t count, losses;
    size_t size; /* of the inputs, in bytes */
    int64_t *labels;
    float *numbers;
    struct augmentation augmentation;
    bool augmented;
    int64_t image[3]; /* channels, height, width */
};

/* The loss of a training where it is not the likelihood's own: see objective.c. */
struct objective {
    double
        *weights; /* w, of each class, all 1 where none are given; null: it is the likelihood's */
    double sum;   /* Σ w */
    double smoothing;
    size_t k;
};

/* An example of a step. */
struct chosen {
    uint32_t example;
    uint64_t epoch;
};

/*
 * Lanes are shares of every step's examples, each worked on by one thread, tile by tile. How many
 * there are, and which examples a lane has, depends neither on threads nor on ranks, and sums are
 * taken in the order of lanes. This is the place where one of them is worked on: where there are
 * more lanes than places of all ranks, they come in waves.
 *
 *   lanes    | 0  1 | 2  3 | 4  5 | 6  7 |     2 places on each of 2 ranks
 *   rank     |   0  |   1  |   0  |   1  |
 *   wave     |      0      |      1      |
 */
struct lane {
    struct runner_worker *worker; /* borrowed */
    struct weights gradients;     /* empty in a place that needs none beside the sum */
    struct weights drawn;         /* its own weights, then their products; likewise, or unused */
    int64_t *labels;
    float *numbers;
    float *adjoint;   /* tile × T × K: p, and then e */
    double *row_loss; /* tile × T */
    double *sums;     /* the loss over the lane's examples; statistics of batch norms:
                         net/graph/training.h */
    const struct ivon_trainer *trainer;
    const struct chosen *chosen; /* the examples of its tile */
    size_t present;              /* of them */
};

enum {
    LANES_CHOSEN_MAX = 8, /* lanes where the options leave their number open; and places, unless
                             there are more threads */
    LANES_MAX = 1024
};

/* A posterior that takes the place of weight decay, of the parameters that it has. */
struct training_prior {
    struct weights mean, decay;
    struct precision *precision; /* P/λ; null: it is a diagonal */
    struct weights pull;         /* P (m − m_p)/λ, where it is not */
    float **pull_of; /* of each tensor of the posterior: the array in `pull`; null: none */
};

/* The bases of a parameter that is a matrix of o × n, stored as its transpose or not. */
struct parameter_bases {
    bool input, output; /* it has a basis of that side; neither: the parameter has none */
    bool transposed;
    size_t outputs, inputs;
    float *hessian; /* o × n, for the checkpoint, where the state is its transpose; or null */
};

/* A weight beside which factors are trained. */
struct lora_weight {
    const char *name; /* the start's */
    enum low_rank_form form;
    bool square;
    int64_t rank;
};

struct ivon_trainer {
    struct ivon_train_options options;
    struct architecture *architecture; /* owned; null: a network was given */
    struct ivon_network *network;
    struct net_training *training; /* of its batch norms */
    struct start_tensors start;
    struct ivon_source *bound; /* over the above */
    struct training_data data;
    struct outputs outputs;
    struct likelihood likelihood;
    struct objective objective;
    struct schedule schedule;
    struct thread_pool *pool; /* of lanes and optimizer */
    struct optimizer *optimizer;
    struct weights average;   /* of the means; empty: there is none */
    void **rounded;           /* means as a checkpoint has them; null: as they are */
    const float **parameters; /* where the network takes them from */
    struct training_prior prior;
    struct parameter_bases *bases; /* of each parameter; null: the method has none */
    struct lora_weight *lora;      /* null: all parameters are trained */
    size_t lora_count;
    bool lora_turned;           /* one of them lies inputs × outputs */
    struct weights rho_hessian; /* of Bayes by Backprop, for the checkpoint */
    char *structure;            /* the JSON text of the blocks; null: there are none */
    double ess;
    uint64_t parameter_elements;

    size_t batch; /* examples of one batch, and batches of an epoch */
    uint64_t epoch_batches, epoch_steps;
    uint32_t *order;       /* of epoch `order_epoch` */
    uint64_t order_epoch;  /* UINT64_MAX: none yet */
    struct chosen *chosen; /* of a step: batch × accumulate */

    struct runner runner; /* has a worker for each place */
    struct lane *lanes;   /* the places */
    size_t lane_places;
    size_t lane_count, lane_size; /* lanes, and the examples of each */
    size_t first_lane;            /* of this rank in this wave */
    struct weights gradient;      /* the sum over the lanes */
    struct weights products;      /* likewise, where each draws for itself */
    double *sums;                 /* likewise, of their `sums` */
    const float **lane_gradients; /* of the places, as the next two */
    const float **lane_products;
    const double **lane_sums;
    double scale;       /* of adjoints: 1/(weight of the step's losses) */
    bool probabilities; /* the first outputs of all were, where logits are taken */
    unsigned sample;    /* of the step's weights, from 0 */
    bool begun;         /* the step has used a sample: it cannot be stopped any more */
    double loss, rate;
    double rate_scale; /* of the rate, beside the schedule's factor */
};

/* Lists what the training begins with. */
int start_list(struct start_tensors *start, const struct ivon_train_start *from,
               const struct architecture *architecture, const struct ivon_train_options *options,
               struct ivon_error *error);
void start_release(struct start_tensors *start);

/* A source over it, for binding. */
int start_source(struct ivon_source **source, const struct start_tensors *start, const char *name,
                 struct ivon_error *error);

/* Adds a tensor of the given shape whose name is copied; its data are zeroed. */
int start_add(struct start_tensors *start, const struct ivon_tensor *tensor,
              struct start_tensor **added, struct ivon_error *error);

/* The tensor that `trainer->network->parameters[i]` is. */
const struct ivon_tensor *trainer_parameter(const struct ivon_trainer *trainer, size_t i);

/* Gives the optimizer the prior of each parameter; what an architecture has anew keeps its weight
   decay to zero. */
int prior_take(struct ivon_trainer *trainer, struct ivon_source *source, struct ivon_error *error);

/* Finds the pull at the mean, where the optimizer does not. */
int prior_pull(struct ivon_trainer *trainer, struct ivon_error *error);
void prior_release(struct training_prior *prior);

/* Makes the optimizer's groups, to be freed, and puts the tensors, by the names of parameters, into
   them. */
int groups_make(const struct ivon_trainer *trainer, enum optimizer_method method,
                struct optimizer_group **groups, struct optimizer_tensor *tensors,
                struct ivon_error *error);

int lora_check_options(const struct ivon_train_options *options, struct ivon_error *error);

/* Puts low-rank factors beside the chosen weights of a network that is bound, unless it has them
   already, and makes constants of all other parameters. */
int lora_apply(struct ivon_trainer *trainer, const struct ivon_train_start *from,
               struct ivon_error *error);

/* Finds which parameters have bases; what the optimizer is to know of a parameter. */
int bases_choose(struct ivon_trainer *trainer, struct ivon_error *error);
struct optimizer_tensor bases_tensor(const struct ivon_trainer *trainer, size_t parameter);
void bases_release(struct ivon_trainer *trainer);

/* The bases of a parameter, or null. */
static inline struct parameter_bases *trainer_bases(const struct ivon_trainer *trainer, size_t i)
{
    struct parameter_bases *bases = trainer->bases ? &trainer->bases[i] : NULL;
    return bases && (bases->input || bases->output) ? bases : NULL;
}

/* Returns whether the optimizer's Hessians are the posterior's: IVON's and EVON's. */
static inline bool trainer_averages_hessian(const struct ivon_trainer *trainer)
{
    return trainer->options.method == IVON_METHOD_IVON ||
           trainer->options.method == IVON_METHOD_EVON;
}

/* Begins an average of the means, where there is to be one; adds those after a step to it. */
int average_begin(struct ivon_trainer *trainer, struct ivon_error *error);
int average_add(struct ivon_trainer *trainer, struct ivon_error *error);

/* The posterior's mean of a parameter, once optimizer_place_means has been called after the last
   step: that of the optimizer, or the average. Borrowed. */
const float *trainer_mean(const struct ivon_trainer *trainer, size_t parameter);

/* Makes room for means in the type of the checkpoints', where that is not f32; sets them, once
   optimizer_place_means has been called. Fails where that type cannot hold one. */
int rounded_begin(struct ivon_trainer *trainer, struct ivon_error *error);
int rounded_set(const struct ivon_trainer *trainer, struct ivon_error *error);
void rounded_release(struct ivon_trainer *trainer);

/* An array of a parameter's state that a checkpoint keeps as a momentum, PREFIX/NAME. */
struct state_array {
    const char *prefix;   /* null: NAME alone */
    float *data;          /* null: this training has none */
    size_t rows, columns; /* 0: it has the mean's shape */
};

enum { STATE_ARRAYS = 12, STATE_UNROUNDED = 0, STATE_UNAVERAGED };

/* Lists those that any method has. */
void trainer_state_list(const struct ivon_trainer *trainer, size_t parameter,
                        struct state_array arrays[STATE_ARRAYS]);

/* Its tensor in a checkpoint; the name is to be freed, null where there is no memory. */
struct ivon_tensor trainer_state_tensor(const struct state_array *array,
                                        const struct ivon_tensor *mean);

/* A tensor of the Hessian, with ess and weight decay; and of a basis. */
struct ivon_tensor trainer_state_hessian(const struct ivon_trainer *trainer, size_t parameter);
struct ivon_tensor trainer_state_basis(const struct ivon_trainer *trainer, size_t parameter,
                                       bool input);

/* A Hessian as a checkpoint has it: in the state's own memory, or a copy that is made here. */
const float *trainer_state_hessian_data(const struct ivon_trainer *trainer, size_t parameter);

/* Copies a Hessian that is stored as its transpose to the checkpoint's array, or back. */
void trainer_state_turn_hessian(const struct ivon_trainer *trainer, size_t parameter, bool back);

/* Step, n_train and, of a posterior, ess and weight decay. */
struct ivon_header trainer_header(const struct ivon_trainer *trainer);

/* Sets the state and the step from a checkpoint of this training. */
int trainer_resume(struct ivon_trainer *trainer, struct ivon_source *source,
                   struct ivon_error *error);

/* Reads the examples; the targets, once it is known what the outputs are. */
int data_open(struct ivon_trainer *trainer, struct ivon_examples *examples,
              struct ivon_error *error);
int data_read_targets(struct ivon_trainer *trainer, struct ivon_examples *examples, size_t field,
                      struct ivon_error *error);
void data_close(struct training_data *data);

/* The weight of an example's losses: their number, where classes have none. */
double data_weight(const struct ivon_trainer *trainer, uint64_t example);

/* Chooses the step's examples, and returns the weight of their losses. */
double data_choose(struct ivon_trainer *trainer);

/* Checks what the options say of the loss; and makes it, once the targets were read. */
int objective_check_options(const struct ivon_train_options *options, struct ivon_error *error);
int objective_make(struct ivon_trainer *trainer, struct ivon_error *error);
void objective_release(struct objective *objective);

/* Turns the likelihood's losses and residuals e of rows, of outputs f, into those of the training,
   unless these are the same. */
void objective_apply(const struct objective *objective, size_t rows, const float *f,
                     const struct row_targets *targets, float *e, double *losses);

/* Copies chosen examples [at, at + count) to the lane, and fills its tile up. */
void data_gather(const struct ivon_trainer *trainer, struct lane *lane, size_t at, size_t count);

/* Checks the ratio; finds where the elements are that Dropout drops; and, of a lane, which they are
   (struct net_masks). */
int dropout_check_options(const struct ivon_train_options *options, struct ivon_error *error);
int dropout_place(struct ivon_trainer *trainer, struct ivon_error *error);
void dropout_words(void *lane, const struct net_dropout *dropout, size_t example, size_t first,
                   size_t count, uint32_t *words);

/* Looks at what the network's outputs are, and chooses lanes and tiles; makes them. */
int lanes_choose(struct ivon_trainer *trainer, struct ivon_error *error);
int lanes_make(struct ivon_trainer *trainer, struct ivon_error *error);
void lanes_release(struct ivon_trainer *trainer);

/* The gradient of the chosen examples' mean loss at the parameters, in trainer->gradient, and that
   loss; of all ranks. Where lanes draw for themselves, at their own weights; and the products of
   both, in trainer->products. */
int lanes_gradient(struct ivon_trainer *trainer, double *loss, struct ivon_error *error);

/* Fails where ranks have other options, weights to begin with or data than rank 0. */
int trainer_ranks_check(const struct ivon_trainer *trainer, const struct ivon_train_start *start,
                        struct ivon_examples *examples, struct ivon_error *error);

/* Fails where ranks have other means or Hessians than rank 0, after the last step of an epoch or of
   the training. */
int trainer_ranks_compare(const struct ivon_trainer *trainer, struct ivon_error *error);

#endif
