#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/blas.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"
#include "core/thread_pool.h"
#include "net/graph/operator.h"
#include "train/trainer/private.h"

enum {
    DEFAULT_BATCH = 50,
    DEFAULT_BASIS_EVERY = 10,
    DEFAULT_MAX_FACTOR = 1024 /* rows; their factorisation takes a third of a second */
};

static const double DEFAULT_BASIS_BETA = 0.95;

static const struct options_kind train_options = {
    .defaults = "ivon_train_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_train_options, resources.reserved),
                 OPTIONS_RESERVED(struct ivon_train_options, task.reserved)}};

/* EVON is IVON with bases, and SOAP AdamW. */
static enum optimizer_method trainer_optimizer_method(enum ivon_method method)
{
    static const enum optimizer_method methods[] = {
        [IVON_METHOD_IVON] = OPTIMIZER_IVON,  [IVON_METHOD_ADAMW] = OPTIMIZER_ADAMW,
        [IVON_METHOD_SGD] = OPTIMIZER_SGD,    [IVON_METHOD_EVON] = OPTIMIZER_IVON,
        [IVON_METHOD_SOAP] = OPTIMIZER_ADAMW, [IVON_METHOD_BBB] = OPTIMIZER_BACKPROP};
    return methods[method];
}

/* Of the optimizer's defaults SOAP has other momenta: those of its paper. */
static struct optimizer_group trainer_group_defaults(enum ivon_method method)
{
    struct optimizer_group group = optimizer_group_defaults(trainer_optimizer_method(method));
    if (method == IVON_METHOD_SOAP)
        group.beta1 = group.beta2 = 0.95;
    return group;
}

void ivon_train_options_init(struct ivon_train_options *options, size_t size,
                             enum ivon_method method)
{
    struct optimizer_group group = trainer_group_defaults(method);
    const struct ivon_train_options defaults = {
        .size = sizeof defaults,
        .method = method,
        .task = {.likelihood = IVON_CATEGORICAL, .noise_std = NAN, .ignored = INT64_MIN},
        .rate = group.rate,
        .weight_decay = group.weight_decay,
        .beta1 = group.beta1,
        .beta2 = group.beta2,
        .debias = group.debias,
        .norm_clip = INFINITY,
        .ess = group.ess,
        .hessian_init = group.hessian_init,
        .rescale = group.rescale,
        .clip_radius = group.clip,
        .estimator = IVON_ESTIMATOR_PRICE,
        .hessian_every = 1,
        .mean_dtype = IVON_F32,
        .restart_growth = 1,
        .samples = 1,
        .schedule = IVON_SCHEDULE_CONSTANT,
        .epochs = 1,
        .batch = DEFAULT_BATCH,
        .accumulate = 1,
        .initial = IVON_INITIAL_KEEP,
        .basis_every = DEFAULT_BASIS_EVERY,
        .basis_beta = DEFAULT_BASIS_BETA,
        .max_factor = DEFAULT_MAX_FACTOR,
        .prior_scale = 1,
        .lora_alpha = NAN};
    options_init(options, size, &defaults);
}

void ivon_trainer_free(struct ivon_trainer *trainer)
{
    if (!trainer)
        return;
    lanes_release(trainer);
    net_training_free(trainer->training);
    optimizer_free(trainer->optimizer);
    thread_pool_free(trainer->pool);
    data_close(&trainer->data);
    objective_release(&trainer->objective);
    prior_release(&trainer->prior);
    bases_release(trainer);
    weights_release(&trainer->rho_hessian);
    weights_release(&trainer->average);
    free(trainer->lora);
    rounded_release(trainer);
    free(trainer->parameters);
    free(trainer->order);
    free(trainer->chosen);
    architecture_free(trainer->architecture);
    ivon_source_close(trainer->bound);
    start_release(&trainer->start);
    free(trainer);
}

/* The defaults of what a shorter struct does not have are those of its method. */
static int trainer_read_options(struct ivon_train_options *options,
                                const struct ivon_train_options *given, struct ivon_error *error)
{
    *options = ivon_train_defaults(IVON_METHOD_IVON);
    int code = options_read(&train_options, options, given, error);
    if (!code && !ivon_initial_name(options->initial))
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "no such initialisation: %d",
                              (int)options->initial);
    if (!code && !ivon_method_traits(options->method))
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT, "no such method: %d",
                              (int)options->method);
    if (code)
        return code;
    *options = ivon_train_defaults(options->method);
    return options_read(&train_options, options, given, error);
}

static int trainer_check_options(const struct ivon_train_options *options, struct ivon_error *error)
{
    if (ivon_likelihood_traits(options->task.likelihood)->noise && !(options->task.noise_std > 0))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the Gaussian likelihood needs the standard deviation of the noise");
    if (!options->batch || !options->accumulate || (!options->steps && !options->epochs))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%zu batches of %zu examples in a step, %" PRIu64 " epochs, expected "
                              "at least one of each",
                              options->accumulate, options->batch, options->epochs);
    if (!(options->average >= 0 && options->average < 1))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the average's decay is %g, expected at least 0 and below 1",
                              options->average);
    if (options->mean_dtype != IVON_F32 && options->mean_dtype != IVON_BF16 &&
        options->mean_dtype != IVON_F16)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "means of type %d, expected f32, bf16 or f16",
                              (int)options->mean_dtype);
    if (options->lanes > LANES_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%zu lanes, expected at most %d",
                              options->lanes, LANES_MAX);
    if (options->lane_samples &&
        (options->method != IVON_METHOD_IVON || options->estimator != IVON_ESTIMATOR_PRICE))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "each lane draws weights of its own, expected IVON, and its estimate "
                              "of the Hessian by Price's theorem");
    if (!options->hessian_every)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "0 steps between changes of the Hessian, expected at least 1");
    if (!options->basis_every || options->basis_every > UINT_MAX)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%" PRIu64 " steps between new bases, expected from 1 to %u",
                              options->basis_every, UINT_MAX);
    int code = objective_check_options(options, error);
    if (!code)
        code = lora_check_options(options, error);
    return code ? code : dropout_check_options(options, error);
}

/* Counts tensors of the weights that found no place in the network. */
static void find_unplaced(struct ivon_trainer *trainer, struct ivon_source *weights)
{
    struct ivon_unbound *unbound = &trainer->start.unbound;
    for (size_t i = 0; weights && i < trainer->start.count; i++) {
        bool used = trainer->start.items[i].tensor.part != IVON_MEAN;
        for (size_t j = 0; j < trainer->network->parameter_count && !used; j++)
            used = trainer->network->parameters[j] == i;
        if (!used && !unbound->means++)
            unbound->mean = trainer->start.items[i].tensor.name;
    }
}

static int bind(struct ivon_trainer *trainer, const struct ivon_train_start *from,
                struct ivon_error *error)
{
    struct ivon_unbound unbound;
    int code = 0;
    if (from->architecture)
        code = architecture_new(&trainer->architecture, from->architecture,
                                isnan(trainer->options.dropout) ? 0 : trainer->options.dropout,
                                error);
    if (code)
        return code;
    trainer->network = trainer->architecture ? trainer->architecture->network : from->network;
    code = start_list(&trainer->start, from, trainer->architecture, &trainer->options, error);
    const char *name = from->weights ? ivon_source_path(from->weights) : trainer->network->path;
    if (!code)
        code = start_source(&trainer->bound, &trainer->start, name, error);
    if (!code)
        code = ivon_network_bind(trainer->network, trainer->bound, NULL, &unbound, error);
    if (code && error && error->hint == IVON_HINT_KEEP_WEIGHTS)
        error->hint = IVON_HINT_NONE; /* a training has no use for weights that it would not move */
    if (!code && trainer->options.lora_rank)
        code = lora_apply(trainer, from, error);
    if (!code)
        code = trainer->options.lora_rank
                   ? net_training_none(&trainer->training, trainer->network, error)
                   : net_training_new(&trainer->training, trainer->network, error);
    if (!code && !(trainer->options.dropout <= 0))
        code = net_dropouts_find(net_training_dropouts(trainer->training), trainer->network,
                                 trainer->options.dropout, error);
    if (!code)
        find_unplaced(trainer, from->weights);
    return code;
}

/* Steps. */

static int plan_steps(struct ivon_trainer *trainer, struct ivon_error *error)
{
    struct ivon_train_options *options = &trainer->options;
    uint64_t count = trainer->data.count;
    trainer->batch = options->batch < count ? options->batch : (size_t)count;
    trainer->epoch_batches = count / trainer->batch;
    trainer->epoch_steps = trainer->epoch_batches / options->accumulate;
    if (!trainer->epoch_steps)
        trainer->epoch_steps = 1;
    if (!options->steps) {
        options->steps = options->epochs * trainer->epoch_batches / options->accumulate;
        options->steps = options->steps ? options->steps : 1;
    }
    size_t examples;
    if (__builtin_mul_overflow(trainer->batch, options->accumulate, &examples))
        return ivon_error_memory(error);
    trainer->order = calloc(count, sizeof *trainer->order);
    trainer->order_epoch = UINT64_MAX;
    trainer->chosen = calloc(examples, sizeof *trainer->chosen);
    if (!trainer->order || !trainer->chosen)
        return ivon_error_memory(error);
    trainer->schedule.warmup = options->warmup;
    trainer->schedule.steps = options->steps;
    trainer->schedule.shape = options->schedule;
    trainer->schedule.cycle = options->restart_every;
    trainer->schedule.growth = options->restart_growth;
    return schedule_check(&trainer->schedule, error);
}

/* The optimizer. */

static int make_optimizer(struct ivon_trainer *trainer, struct ivon_error *error)
{
    const struct ivon_train_options *options = &trainer->options;
    size_t count = trainer->network->parameter_count;
    struct optimizer_options general = {.method = trainer_optimizer_method(options->method),
                                        .estimator = (enum optimizer_estimator)options->estimator,
                                        .hessian_every = options->hessian_every,
                                        .samples = options->samples,
                                        .seed = options->seed,
                                        .antithetic = options->antithetic,
                                        .norm_clip = options->norm_clip,
                                        .basis_every = (unsigned)options->basis_every,
                                        .basis_beta = options->basis_beta,
                                        .lanes = options->lane_samples ? trainer->lane_count : 0,
                                        .thread_pool = trainer->pool};
    struct optimizer_group *groups = NULL;
    struct optimizer_tensor *tensors = calloc(count + 1, sizeof *tensors);
    if (!tensors)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = trainer_parameter(trainer, i);
        tensors[i] = bases_tensor(trainer, i);
        trainer->parameter_elements += tensor->count;
    }
    int code = groups_make(trainer, general.method, &groups, tensors, error);
    if (!code)
        code = optimizer_new(&trainer->optimizer, &general, groups, options->group_count + 1,
                             tensors, count, error);
    trainer->options.groups = NULL; /* which are borrowed no longer */
    free(groups);
    free(tensors);
    return code;
}

/* Moves the initial means to the optimizer. */
static int place_parameters(struct ivon_trainer *trainer, struct ivon_error *error)
{
    size_t count = trainer->network->parameter_count;
    trainer->parameters = calloc(count + 1, sizeof *trainer->parameters);
    if (!trainer->parameters)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        struct start_tensor *item = &trainer->start.items[trainer->network->parameters[i]];
        memcpy(optimizer_mean(trainer->optimizer, i), item->data,
               item->tensor.count * sizeof(float));
        trainer->parameters[i] = optimizer_parameter(trainer->optimizer, i);
    }
    return 0;
}

/* Everything that the data and the network decide. */
static int set_up(struct ivon_trainer *trainer, struct ivon_examples *examples, const char *targets,
                  struct ivon_error *error)
{
    const struct ivon_train_options *options = &trainer->options;
    size_t field = 0;
    int code = outputs_find_targets(examples, targets, &field, error);
    if (!code)
        code = data_open(trainer, examples, error);
    if (!code)
        code = plan_steps(trainer, error);
    if (!code)
        code = dropout_place(trainer, error);
    trainer->outputs.likelihood = options->task.likelihood;
    if (!code)
        code = lanes_choose(trainer, error);
    trainer->likelihood = (struct likelihood){options->task.likelihood, trainer->outputs.k,
                                              options->task.noise_std};
    if (!code)
        code = data_read_targets(trainer, examples, field, error);
    if (!code)
        code = objective_make(trainer, error);
    if (!code)
        code = lanes_make(trainer, error);
    if (!code && ivon_method_traits(options->method)->bases)
        code = bases_choose(trainer, error);
    if (!code && options->method == IVON_METHOD_BBB)
        code = weights_init(&trainer->rho_hessian, trainer->network, error);
    trainer->ess = !ivon_method_traits(options->method)->posterior ? NAN
                   : isnan(options->ess)                           ? (double)trainer->data.losses
                                                                   : options->ess;
    return code;
}

int ivon_trainer_new(struct ivon_trainer **out, const struct ivon_train_start *start,
                     struct ivon_examples *examples, const char *targets,
                     const struct ivon_train_options *given, struct ivon_error *error)
{
    struct ivon_train_options options;
    int code = trainer_read_options(&options, given, error);
    if (!code)
        code = trainer_check_options(&options, error);
    if (code)
        return code;
    struct ivon_trainer *trainer = calloc(1, sizeof *trainer);
    if (!trainer)
        return ivon_error_memory(error);
    trainer->options = options;
    trainer->loss = trainer->rate = NAN;
    trainer->rate_scale = 1;
    code = blas_reserve(ivon_parallel_threads(options.resources.threads), error);
    if (!code)
        code = bind(trainer, start, error);
    if (!code)
        code = set_up(trainer, examples, targets, error);
    if (!code)
        code = thread_pool_new(&trainer->pool, ivon_parallel_threads(options.resources.threads),
                               error);
    if (!code)
        code = make_optimizer(trainer, error);
    if (!code)
        code = place_parameters(trainer, error);
    if (!code)
        code = average_begin(trainer, error);
    if (!code)
        code = rounded_begin(trainer, error);
    if (!code && start->prior)
        code = prior_take(trainer, start->prior, error);
    if (!code && start->resume)
        code = trainer_resume(trainer, start->weights, error);
    if (!code)
        code = trainer_ranks_check(trainer, start, examples, error);
    if (!code)
        code = optimizer_draw(trainer->optimizer, error);
    if (code) {
        ivon_trainer_free(trainer);
        return code;
    }
    *out = trainer;
    return 0;
}

struct ivon_train_state ivon_trainer_state(const struct ivon_trainer *trainer)
{
    uint64_t step = optimizer_steps(trainer->optimizer);
    return (struct ivon_train_state){.step = step,
                                     .steps = trainer->options.steps,
                                     .epoch_steps = trainer->epoch_steps,
                                     .epoch = (double)step * (double)trainer->options.accumulate /
                                              (double)trainer->epoch_batches,
                                     .loss = trainer->loss,
                                     .rate = trainer->rate,
                                     .ess = trainer->ess,
                                     .examples = trainer->data.count,
                                     .losses = trainer->data.losses,
                                     .parameters = trainer->parameter_elements,
                                     .unbound = trainer->start.unbound,
                                     .probabilities = trainer->probabilities,
                                     .tokens = trainer->outputs.tokens};
}

const struct ivon_network *ivon_trainer_network(const struct ivon_trainer *trainer)
{
    return trainer->network;
}
