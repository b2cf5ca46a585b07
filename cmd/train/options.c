/* The options of ivon-train, but for those of evaluations (train/watch_options.c) and of a search
   (train/search_options.c). */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/memory.h"
#include "cmd/train/options.h"

enum {
    KEY_ARCH = 256,
    KEY_INIT,
    KEY_SEED,
    KEY_FROM,
    KEY_PRIOR,
    KEY_PRIOR_SCALE,
    KEY_FREEZE,
    KEY_LORA,
    KEY_LORA_ALPHA,
    KEY_OPTIMIZER,
    KEY_LR,
    KEY_ESS,
    KEY_H0,
    KEY_AVERAGE,
    KEY_BETA1,
    KEY_BETA2,
    KEY_BETA3,
    KEY_BASIS_EVERY,
    KEY_MAX_FACTOR,
    KEY_PARAM_GROUP,
    KEY_WEIGHT_DECAY,
    KEY_ANTITHETIC,
    KEY_MC_SAMPLES,
    KEY_CLIP_RADIUS,
    KEY_HESSIAN,
    KEY_HESS_EVERY,
    KEY_RESCALE,
    KEY_NO_RESCALE,
    KEY_DEBIAS,
    KEY_NO_DEBIAS,
    KEY_CLIP_NORM,
    KEY_SCHEDULE,
    KEY_WARMUP,
    KEY_RESTARTS,
    KEY_EPOCHS,
    KEY_STEPS,
    KEY_ACCUMULATE,
    KEY_LANES,
    KEY_LANE_SAMPLES,
    KEY_AUGMENT,
    KEY_CLASS_WEIGHTS,
    KEY_DROPOUT,
    KEY_LABEL_SMOOTHING,
    KEY_SAVE_EVERY,
    KEY_DTYPE,
    KEY_RESUME,
    KEY_NO_SANDBOX,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Optimizer and loss:", 2),
    OPTION_HEADING("Schedule:", 3),
    OPTION_HEADING("Checkpoints and tests:", 4),
    OPTION_HEADING("Running:", 5),
    OPTION_HEADING("Search:", 7),
    {"arch", KEY_ARCH, "SPEC", 0, "Network to build: mlp:64,100,10, lenet, gpt:65,64,128,4,4 ...",
     1},
    {"init", KEY_INIT, "keep|kaiming|xavier|normal", 0,
     "Initial values of --arch (default keep: each layer's own)", 1},
    {"from", KEY_FROM, "POSTERIOR", 0, "Begin with these means and buffers", 1},
    {"freeze", KEY_FREEZE, "GLOB", 0, "Do not train tensors of such names (repeatable)", 1},
    {"lora", KEY_LORA, "GLOB:RANK", 0,
     "Train low-rank factors beside such weights, and nothing else (repeatable)", 1},
    {"lora-alpha", KEY_LORA_ALPHA, "X", 0,
     "--lora: their product counts X/RANK times (default: once)", 1},
    {"seed", KEY_SEED, "N", 0, "Of initial values, order, augmentation, dropout, noise (default 0)",
     1},
    {"prior", KEY_PRIOR, "zero|posterior", 0,
     "IVON: weight decay to zero (default), or --from as the prior", 2},
    {"prior-scale", KEY_PRIOR_SCALE, "X", 0,
     "--prior=posterior: multiply its precision (default 1)", 2},
    {"optimizer", KEY_OPTIMIZER, "ivon|evon|bbb|adamw|soap|sgd", 0, "Default ivon", 2},
    {"lr", KEY_LR, "X", 0, "Learning rate", 2},
    {"ess", KEY_ESS, "X", 0,
     "IVON, EVON, BBB: effective sample size (default: the number of losses)", 2},
    {"h0", KEY_H0, "X", 0, "IVON, EVON, BBB: initial Hessian (default 1)", 2},
    {"beta1", KEY_BETA1, "X", 0, "Of the momentum (default 0.9; soap 0.95)", 2},
    {"beta2", KEY_BETA2, "X", 0, "Of the Hessian (default 0.99999; adamw, bbb 0.999; soap 0.95)",
     2},
    {"beta3", KEY_BETA3, "X", 0, "EVON, SOAP: of the moments that bases follow (default 0.95)", 2},
    {"basis-every", KEY_BASIS_EVERY, "N", 0, "EVON, SOAP: steps between new bases (default 10)", 2},
    {"max-factor", KEY_MAX_FACTOR, "N", 0, "EVON, SOAP: rows of the largest basis (default 1024)",
     2},
    {"weight-decay", KEY_WEIGHT_DECAY, "X", 0, "Default 0.0001; adamw, soap 0.01; sgd 0", 2},
    {"param-group", KEY_PARAM_GROUP, "GLOB:lr=X,weight-decay=X,ess=X,h0=X", 0,
     "Other settings for parameters of such names (repeatable; the first that matches counts)", 2},
    {"antithetic", KEY_ANTITHETIC, NULL, 0, "IVON, EVON, BBB: draw weights in opposite pairs", 2},
    {"mc-samples", KEY_MC_SAMPLES, "N", 0, "IVON, EVON, BBB: weight samples of a step (default 1)",
     2},
    {"clip-radius", KEY_CLIP_RADIUS, "X", 0,
     "IVON, EVON: bound of an element's step before the rate", 2},
    {"hessian", KEY_HESSIAN, "price|gradsq", 0, "IVON, EVON: its estimate (default price)", 2},
    {"hess-every", KEY_HESS_EVERY, "N", 0, "IVON, EVON: estimate it in every Nth step (default 1)",
     2},
    {"rescale-lr", KEY_RESCALE, NULL, 0,
     "IVON, EVON: multiply the rate by h0 + weight decay (default)", 2},
    {"no-rescale-lr", KEY_NO_RESCALE, NULL, 0, "IVON, EVON: don't", 2},
    {"debias", KEY_DEBIAS, NULL, 0, "Debias momenta (default)", 2},
    {"no-debias", KEY_NO_DEBIAS, NULL, 0, "Don't", 2},
    {"clip-norm", KEY_CLIP_NORM, "X", 0, "Bound of the gradient's norm", 2},
    {"average", KEY_AVERAGE, "DECAY", 0, "Keep the exponential average of the means, as 0.999", 2},
    {"epochs", KEY_EPOCHS, "N", 0, "Length of the training", 3},
    {"steps", KEY_STEPS, "N", 0, "The same in steps", 3},
    {"schedule", KEY_SCHEDULE, "constant|cosine|linear", 0,
     "Of the learning rate (default constant)", 3},
    {"warmup", KEY_WARMUP, "N", 0, "Steps in which the rate rises first", 3},
    {"restarts", KEY_RESTARTS, "T_0[,T_MULT]", 0,
     "Begin it anew after T_0 steps, and then each time after T_MULT times as many (default 1)", 3},
    {"accumulate", KEY_ACCUMULATE, "N", 0, "Batches of a step (default 1)", 3},
    {"lanes", KEY_LANES, "N", 0,
     "Parts of a step's examples, which threads and processes share (default: up to 8)", 3},
    {"lane-samples", KEY_LANE_SAMPLES, NULL, 0, "IVON: draw weights for each of --lanes", 3},
    {"augment", KEY_AUGMENT, "cropN|reflectN,flip,cutoutN", 0,
     "Shift and mirror images at random, and cut squares out", 3},
    {"class-weights", KEY_CLASS_WEIGHTS, "W,W,...|balanced|FILE", 0,
     "Of the losses of each class in the training", 2},
    {"dropout", KEY_DROPOUT, "P|own", 0,
     "Drop so much at Dropout nodes in training, or each its own ratio (default 0)", 2},
    {"label-smoothing", KEY_LABEL_SMOOTHING, "X", 0,
     "Spread so much of each label over all classes (default 0)", 2},
    {"output", 'o', "DIR", 0, "Directory of checkpoints and log", 4},
    {"save-every", KEY_SAVE_EVERY, "N", 0,
     "Steps between checkpoints (default: an epoch; 0: only the last)", 4},
    {"dtype", KEY_DTYPE, "f32|bf16|f16", 0, "Type of the checkpoints' means (default f32)", 4},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the last checkpoint in DIR, if there is one", 4},
    {"no-sandbox", KEY_NO_SANDBOX, NULL, 0, "Read the inputs without giving up other rights", 8},
    {0},
};

/* Sets of methods. */
enum {
    IVON = 1 << IVON_METHOD_IVON,
    ADAMW = 1 << IVON_METHOD_ADAMW,
    SGD = 1 << IVON_METHOD_SGD,
    EVON = 1 << IVON_METHOD_EVON,
    SOAP = 1 << IVON_METHOD_SOAP,
    BBB = 1 << IVON_METHOD_BBB,
    WITH_HESSIAN = IVON | EVON,
    WITH_POSTERIOR = IVON | EVON | BBB,
    WITH_BASES = EVON | SOAP,
    ANY_METHOD = -1
};

/* Numbers that not every method has, or that have a default of their own in each. */
static const struct number {
    int key;
    const char *name;
    size_t offset;
    bool positive; /* not zero */
    int methods;
} numbers[] = {
    {KEY_LR, "--lr", offsetof(struct ivon_train_options, rate), true, ANY_METHOD},
    {KEY_ESS, "--ess", offsetof(struct ivon_train_options, ess), true, WITH_POSTERIOR},
    {KEY_H0, "--h0", offsetof(struct ivon_train_options, hessian_init), false, WITH_POSTERIOR},
    {KEY_BETA1, "--beta1", offsetof(struct ivon_train_options, beta1), false, ANY_METHOD},
    {KEY_BETA2, "--beta2", offsetof(struct ivon_train_options, beta2), false, ~SGD},
    {KEY_BETA3, "--beta3", offsetof(struct ivon_train_options, basis_beta), false, WITH_BASES},
    {KEY_WEIGHT_DECAY, "--weight-decay", offsetof(struct ivon_train_options, weight_decay), false,
     ANY_METHOD},
    {KEY_PRIOR_SCALE, "--prior-scale", offsetof(struct ivon_train_options, prior_scale), true,
     IVON},
    {KEY_CLIP_RADIUS, "--clip-radius", offsetof(struct ivon_train_options, clip_radius), true,
     WITH_HESSIAN},
    {KEY_AVERAGE, "--average", offsetof(struct ivon_train_options, average), false, ANY_METHOD},
    {KEY_CLIP_NORM, "--clip-norm", offsetof(struct ivon_train_options, norm_clip), true,
     ANY_METHOD},
    {KEY_LABEL_SMOOTHING, "--label-smoothing", offsetof(struct ivon_train_options, label_smoothing),
     false, ANY_METHOD},
    {KEY_LORA_ALPHA, "--lora-alpha", offsetof(struct ivon_train_options, lora_alpha), true,
     ANY_METHOD},
};

enum { CHOICES_MAX = 8, LANES_MAX = 1024 };

enum { NUMBERS = sizeof numbers / sizeof *numbers };

/* The options that were given, until the method is known. */
struct given {
    struct train_command *command;
    double numbers[NUMBERS];
    bool number[NUMBERS];
    bool hessian, hess_every, samples, rescale, debias, init, basis_every, max_factor;
    bool rescaled, debiased;
};

static double *number_of(struct ivon_train_options *options, size_t i)
{
    return (double *)(void *)((char *)options + numbers[i].offset);
}

/* Returns whether one of the numbers was given, by the key of its option. */
static bool number_given(const struct given *given, int key)
{
    for (size_t i = 0; i < NUMBERS; i++)
        if (numbers[i].key == key)
            return given->number[i];
    return false;
}

/* The first option that was given and is not for the method; null: none. */
static const char *find_foreign_option(const struct given *given)
{
    int method = 1 << given->command->options.method;
    const struct {
        bool given;
        const char *name;
        int methods;
    } others[] = {{given->hessian, "--hessian", WITH_HESSIAN},
                  {given->hess_every, "--hess-every", WITH_HESSIAN},
                  {given->samples, "--mc-samples", WITH_POSTERIOR},
                  {given->command->options.antithetic, "--antithetic", WITH_POSTERIOR},
                  {given->command->options.lane_samples, "--lane-samples", IVON},
                  {given->rescale, "--rescale-lr", WITH_HESSIAN},
                  {given->command->posterior_prior, "--prior", IVON},
                  {given->command->watch.loo, "--loo", WITH_POSTERIOR},
                  {given->debias, "--debias", ~SGD},
                  {given->basis_every, "--basis-every", WITH_BASES},
                  {given->max_factor, "--max-factor", WITH_BASES}};
    for (size_t i = 0; i < NUMBERS; i++)
        if (given->number[i] && !(numbers[i].methods & method))
            return numbers[i].name;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given && !(others[i].methods & method))
            return others[i].name;
    return NULL;
}

/* Refuses factors of momenta, and of an average, that would never forget. */
static void check_betas(const struct ivon_train_options *options, struct argp_state *state)
{
    const struct {
        const char *name;
        double value;
    } betas[] = {{"--beta1", options->beta1},
                 {"--beta2", options->beta2},
                 {"--beta3", options->basis_beta},
                 {"--average", options->average}};
    for (size_t i = 0; i < sizeof betas / sizeof *betas; i++)
        if (betas[i].value >= 1)
            argp_failure(state, EX_USAGE, 0, "%s: %g, expected a number below 1", betas[i].name,
                         betas[i].value);
}

/* The method's defaults, and over them what was given. */
static void settle_options(struct given *given, struct argp_state *state)
{
    struct ivon_train_options *options = &given->command->options;
    struct ivon_train_options defaults = ivon_train_defaults(options->method);
    const char *foreign = find_foreign_option(given);
    for (size_t i = 0; i < NUMBERS; i++)
        *number_of(options, i) = given->number[i] ? given->numbers[i] : *number_of(&defaults, i);
    if (foreign)
        argp_failure(state, EX_USAGE, 0, "%s is not for --optimizer=%s", foreign,
                     ivon_method_traits(options->method)->name);
    if (!isfinite(options->rate) && !given->command->find_lr)
        argp_failure(state, EX_USAGE, 0, "no learning rate given: name it by --lr");
    if (!given->command->posterior_prior)
        options->prior_scale = NAN;
    if (isfinite(options->lora_alpha) && !given->command->lora.count)
        argp_failure(state, EX_USAGE, 0, "--lora-alpha is for --lora");
    if (options->lane_samples && options->estimator != IVON_ESTIMATOR_PRICE)
        argp_failure(state, EX_USAGE, 0, "--lane-samples is for --hessian=price");
    check_betas(options, state);
    param_groups_check(&given->command->groups, options->method, state);
    options->rescale = given->rescale ? given->rescaled : defaults.rescale;
    options->debias = given->debias ? given->debiased : defaults.debias;
}

static void train_check_output(const struct train_command *command, struct argp_state *state)
{
    if (!command->directory || !*command->directory)
        argp_failure(state, EX_USAGE, 0, "no output given: name a directory by -o DIR");
    if (strcmp(command->directory, "-") == 0)
        argp_failure(state, EX_USAGE, 0,
                     "standard output cannot take checkpoints: name a directory by -o DIR");
    if (command->resume && command->files.force)
        argp_failure(state, EX_USAGE, 0, "--resume and --force exclude each other");
}

/* The checks of each combination are those of a training, which wait for its options. */
static void train_check_arguments(const struct given *given, struct argp_state *state)
{
    const struct train_command *command = given->command;
    const struct evaluation_options *evaluation = &command->evaluation;
    if (!evaluation->data)
        argp_failure(state, EX_USAGE, 0, "no data given: name them by --data=FILE");
    if (command->find_lr)
        train_check_find_lr(command, number_given(given, KEY_LR), number_given(given, KEY_AVERAGE),
                            state);
    else
        train_check_output(command, state);
    train_check_watch(command, state);
    if (command->grid_count)
        return;
    if (command->architecture && evaluation->model)
        argp_failure(state, EX_USAGE, 0, "--arch and --model exclude each other");
    if (!command->architecture && !evaluation->model && !command->from)
        argp_failure(state, EX_USAGE, 0,
                     "no network given: name one by --arch=SPEC or --model=GRAPH.onnx");
    if (command->architecture && evaluation->graph.given)
        argp_failure(state, EX_USAGE, 0,
                     "--arch has no graph to be told of: --graph-output, --output-axes, --set, "
                     "--batch-axis and --probabilities do not go with it");
    if (command->options.restart_every && command->options.schedule == IVON_SCHEDULE_CONSTANT)
        argp_failure(state, EX_USAGE, 0, "--restarts is for --schedule=cosine and linear");
    if (command->lora.count && command->freeze.count)
        argp_failure(state, EX_USAGE, 0,
                     "--lora trains its factors alone: --freeze does not go with it");
    if (command->lora.count && !command->from && !evaluation->model)
        argp_failure(state, EX_USAGE, 0,
                     "--lora changes weights that are there: name them by --from=POSTERIOR or "
                     "--model=GRAPH.onnx");
    if (given->init && !command->architecture)
        argp_failure(state, EX_USAGE, 0, "--init is for --arch");
    if (command->posterior_prior && !command->from)
        argp_failure(state, EX_USAGE, 0, "--prior=posterior needs --from=POSTERIOR");
    if (number_given(given, KEY_PRIOR_SCALE) && !command->posterior_prior)
        argp_failure(state, EX_USAGE, 0, "--prior-scale is for --prior=posterior");
    if (!command->options.epochs == !command->options.steps && !command->find_lr)
        argp_failure(state, EX_USAGE, 0, "give one of --epochs and --steps");
    evaluation_check_noise(evaluation, state);
}

static void take_evaluation(struct train_command *command)
{
    struct ivon_train_options *options = &command->options;
    struct evaluation_options *evaluation = &command->evaluation;
    evaluation->dataset.no_sandbox = command->no_sandbox;
    options->task = evaluation->task;
    options->resources.memory = evaluation->memory;
    options->resources.threads = command->common.threads;
    if (evaluation->batch)
        options->batch = evaluation->batch;
    if (command->lora.count) {
        options->lora_rank = train_lora_rank;
        options->lora_context = &command->lora;
    }
    if (command->freeze.count) {
        options->selected = name_filter_selects;
        options->selected_context = &command->freeze;
    }
    options->groups = command->groups.items;
    options->group_count = command->groups.count;
}

static error_t train_parse_number(int key, char *argument, struct argp_state *state)
{
    struct given *given = state->input;
    struct ivon_train_options *options = &given->command->options;
    for (size_t i = 0; i < NUMBERS; i++)
        if (numbers[i].key == key) {
            given->number[i] = true;
            given->numbers[i] = numbers[i].positive
                                    ? option_positive(state, numbers[i].name, argument)
                                    : option_number(state, numbers[i].name, argument);
            if (given->numbers[i] < 0)
                argp_failure(state, EX_USAGE, 0, "%s: '%s', expected a number that is not negative",
                             numbers[i].name, argument);
            return 0;
        }
    switch (key) {
    case KEY_SEED:
        options->seed = option_whole(state, "--seed", argument, 0, INT64_MAX);
        return 0;
    case KEY_MC_SAMPLES:
        options->samples = (unsigned)option_whole(state, "--mc-samples", argument, 1, 1 << 16);
        given->samples = true;
        return 0;
    case KEY_HESS_EVERY:
        options->hessian_every = option_whole(state, "--hess-every", argument, 1, INT64_MAX);
        given->hess_every = true;
        return 0;
    case KEY_BASIS_EVERY:
        options->basis_every = option_whole(state, "--basis-every", argument, 1, UINT32_MAX);
        given->basis_every = true;
        return 0;
    case KEY_MAX_FACTOR:
        options->max_factor = (size_t)option_whole(state, "--max-factor", argument, 0, INT32_MAX);
        given->max_factor = true;
        return 0;
    case KEY_EPOCHS:
        options->epochs = option_whole(state, "--epochs", argument, 1, INT32_MAX);
        return 0;
    case KEY_STEPS:
        options->steps = option_whole(state, "--steps", argument, 1, INT64_MAX);
        return 0;
    case KEY_WARMUP:
        options->warmup = option_whole(state, "--warmup", argument, 0, INT64_MAX);
        return 0;
    case KEY_ACCUMULATE:
        options->accumulate = (size_t)option_whole(state, "--accumulate", argument, 1, 1 << 20);
        return 0;
    case KEY_LANES:
        options->lanes = (size_t)option_whole(state, "--lanes", argument, 1, LANES_MAX);
        return 0;
    case KEY_SAVE_EVERY:
        given->command->save_every = option_whole(state, "--save-every", argument, 0, INT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum ivon_initial train_parse_initial(struct argp_state *state, const char *argument)
{
    const char *names[CHOICES_MAX], *name;
    int count = 0;
    while (count < CHOICES_MAX && (name = ivon_initial_name((enum ivon_initial)count)))
        names[count++] = name;
    return (enum ivon_initial)option_choice(state, "--init", argument, names, count);
}

static enum ivon_method train_parse_method(struct argp_state *state, const char *argument)
{
    const struct ivon_method_traits *traits;
    const char *names[CHOICES_MAX];
    int count = 0;
    while (count < CHOICES_MAX && (traits = ivon_method_traits((enum ivon_method)count)))
        names[count++] = traits->name;
    return (enum ivon_method)option_choice(state, "--optimizer", argument, names, count);
}

static enum ivon_schedule train_parse_schedule(struct argp_state *state, const char *argument)
{
    const char *names[CHOICES_MAX], *name;
    int count = 0;
    while (count < CHOICES_MAX && (name = ivon_schedule_name((enum ivon_schedule)count)))
        names[count++] = name;
    return (enum ivon_schedule)option_choice(state, "--schedule", argument, names, count);
}

/* T_0[,T_MULT] */
static void parse_restarts(struct ivon_train_options *options, const char *argument,
                           struct argp_state *state)
{
    char *first = xstrdup(argument), *second = strchr(first, ',');
    if (second)
        *second++ = '\0';
    options->restart_every = option_whole(state, "--restarts", first, 1, INT64_MAX);
    options->restart_growth = second ? option_whole(state, "--restarts", second, 1, INT64_MAX) : 1;
    free(first);
}

static error_t parse_choice(int key, char *argument, struct argp_state *state)
{
    static const char *const estimators[] = {"price", "gradsq"};
    static const enum ivon_dtype dtypes[] = {IVON_F32, IVON_BF16, IVON_F16};
    static const char *const priors[] = {"zero", "posterior"};
    struct given *given = state->input;
    struct ivon_train_options *options = &given->command->options;
    switch (key) {
    case KEY_INIT:
        options->initial = train_parse_initial(state, argument);
        given->init = true;
        return 0;
    case KEY_PRIOR:
        given->command->posterior_prior = option_choice(state, "--prior", argument, priors, 2) == 1;
        return 0;
    case KEY_OPTIMIZER:
        options->method = train_parse_method(state, argument);
        return 0;
    case KEY_HESSIAN:
        options->estimator = (enum ivon_estimator)option_choice(state, "--hessian", argument,
                                                                estimators, 2);
        given->hessian = true;
        return 0;
    case KEY_DROPOUT:
        options->dropout = strcmp(argument, "own") == 0
                               ? NAN
                               : option_number(state, "--dropout", argument);
        return 0;
    case KEY_SCHEDULE:
        options->schedule = train_parse_schedule(state, argument);
        return 0;
    case KEY_DTYPE:
        options->mean_dtype = dtypes[option_choice_of(state, "--dtype", argument, "f32|bf16|f16")];
        return 0;
    case KEY_RESTARTS:
        parse_restarts(options, argument, state);
        return 0;
    case KEY_ANTITHETIC:
        options->antithetic = true;
        return 0;
    case KEY_LANE_SAMPLES:
        options->lane_samples = true;
        return 0;
    case KEY_RESCALE:
    case KEY_NO_RESCALE:
        given->rescale = true;
        given->rescaled = key == KEY_RESCALE;
        return 0;
    case KEY_DEBIAS:
    case KEY_NO_DEBIAS:
        given->debias = true;
        given->debiased = key == KEY_DEBIAS;
        return 0;
    default:
        return train_parse_number(key, argument, state);
    }
}

/* Settles what waits for all options; of a grid, those of each combination. */
static void train_settle(struct given *given, struct argp_state *state)
{
    train_check_arguments(given, state);
    if (given->command->grid_count)
        return;
    settle_options(given, state);
    train_settle_watch(given->command, state);
    take_evaluation(given->command);
}

static error_t train_parse(int key, char *argument, struct argp_state *state)
{
    struct given *given = state->input;
    struct train_command *command = given->command;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->files;
        state->child_inputs[2] = &command->evaluation;
        state->child_inputs[3] = command;
        state->child_inputs[4] = command;
        return 0;
    case ARGP_KEY_ARG:
        argp_failure(state, EX_USAGE, 0, "'%s': no arguments are taken; see --help", argument);
        return 0;
    case ARGP_KEY_END:
        train_settle(given, state);
        return 0;
    case KEY_ARCH:
        command->architecture = argument;
        return 0;
    case KEY_FROM:
        command->from = argument;
        return 0;
    case KEY_FREEZE:
        name_filter_add(&command->freeze, argument, true);
        return 0;
    case KEY_PARAM_GROUP:
        param_groups_add(&command->groups, argument, state);
        return 0;
    case KEY_LORA:
        train_lora_add(&command->lora, state, argument);
        return 0;
    case KEY_AUGMENT:
        command->augment = argument;
        return 0;
    case KEY_CLASS_WEIGHTS:
        train_class_weights_parse(command, argument, state);
        return 0;
    case KEY_NO_SANDBOX:
        command->no_sandbox = true;
        return 0;
    case KEY_RESUME:
        command->resume = true;
        train_set_aside(command, NULL, state);
        return 0;
    case 'o':
        command->directory = argument;
        train_set_aside(command, argument, state);
        return 0;
    default:
        return parse_choice(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0},       {&file_argp, 0, NULL, 0},
    {&evaluation_argp, 0, NULL, 0},   {&train_watch_argp, 0, NULL, 0},
    {&train_search_argp, 0, NULL, 0}, {0}};

const struct argp train_argp = {
    .options = option_table,
    .parser = train_parse,
    .doc = "Train a network, and keep the posterior of its weights.\v"
           "Examples:\n"
           "  ivon-train --arch=mlp:144,64,8 --data=train.h5 --lr=0.1 --epochs=20 -o run\n"
           "  ivon-train --from=posterior.h5 --data=dark.h5 --lr=0.05 --epochs=5 -o dark\n"
           "\nCheckpoints, a log and, at the end, a file 'done' go to DIR. See ivon-train(1).",
    .children = children,
};

void train_command_release(struct train_command *command)
{
    ivon_trainer_free(command->trainer);
    ivon_network_free(command->network);
    ivon_source_close(command->weights);
    if (command->loo_examples != command->examples)
        ivon_examples_close(command->loo_examples);
    ivon_examples_close(command->examples);
    ivon_examples_close(command->test_examples);
    train_log_close(command->log);
    ivon_examples_close(command->all_examples);
    train_directory_close(command->written);
    name_filter_release(&command->freeze);
    param_groups_release(&command->groups);
    free(command->weights_of_classes);
    train_lora_release(&command->lora);
    evaluation_release(&command->evaluation);
    free(command->graph);
    free(command->provenance);
    free(command->grids);
    free(command->aside);
}

void train_command_parse(struct train_command *command, int argc, char **argv, unsigned flags)
{
    struct given given = {.command = command};
    *command = (struct train_command){.options = ivon_train_defaults(IVON_METHOD_IVON),
                                      .evaluation = evaluation_defaults(),
                                      .save_every = UINT64_MAX,
                                      .eval_every = UINT64_MAX,
                                      .watch.loo_every = UINT64_MAX,
                                      .stop.best = INFINITY,
                                      .judge = -1,
                                      .aside = xcalloc((size_t)argc + 1, sizeof(bool))};
    command->options.epochs = 0;
    argp_parse(&train_argp, argc, argv, flags, NULL, &given);
}
