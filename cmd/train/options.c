/* The options of ivon-train, but for those of the optimizer and the loss
   (train/method_options.c), of evaluations (train/watch_options.c) and of a search
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
    KEY_FREEZE,
    KEY_LORA,
    KEY_SCHEDULE,
    KEY_WARMUP,
    KEY_RESTARTS,
    KEY_EPOCHS,
    KEY_STEPS,
    KEY_ACCUMULATE,
    KEY_LANES,
    KEY_AUGMENT,
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
    {"seed", KEY_SEED, "N", 0, "Of initial values, order, augmentation, dropout, noise (default 0)",
     1},
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
    {"augment", KEY_AUGMENT, "cropN|reflectN,flip,cutoutN", 0,
     "Shift and mirror images at random, and cut squares out", 3},
    {"output", 'o', "DIR", 0, "Directory of checkpoints and log", 4},
    {"save-every", KEY_SAVE_EVERY, "N", 0,
     "Steps between checkpoints (default: an epoch; 0: only the last)", 4},
    {"dtype", KEY_DTYPE, "f32|bf16|f16", 0, "Type of the checkpoints' means (default f32)", 4},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the last checkpoint in DIR, if there is one", 4},
    {"no-sandbox", KEY_NO_SANDBOX, NULL, 0, "Read the inputs without giving up other rights", 8},
    {0},
};

enum { CHOICES_MAX = 8, LANES_MAX = 1024 };

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
static void train_check_arguments(const struct train_given *given, struct argp_state *state)
{
    const struct train_command *command = given->command;
    const struct evaluation_options *evaluation = &command->evaluation;
    if (!evaluation->data)
        argp_failure(state, EX_USAGE, 0, "no data given: name them by --data=FILE");
    if (command->find_lr)
        train_check_find_lr(command, train_method_given(given, "--lr"),
                            train_method_given(given, "--average"), state);
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
    if (train_method_given(given, "--prior-scale") && !command->posterior_prior)
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
    struct train_given *given = state->input;
    struct ivon_train_options *options = &given->command->options;
    switch (key) {
    case KEY_SEED:
        options->seed = option_whole(state, "--seed", argument, 0, INT64_MAX);
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
    static const enum ivon_dtype dtypes[] = {IVON_F32, IVON_BF16, IVON_F16};
    struct train_given *given = state->input;
    struct ivon_train_options *options = &given->command->options;
    switch (key) {
    case KEY_INIT:
        options->initial = train_parse_initial(state, argument);
        given->init = true;
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
    default:
        return train_parse_number(key, argument, state);
    }
}

/* Settles what waits for all options; of a grid, those of each combination. */
static void train_settle(struct train_given *given, struct argp_state *state)
{
    train_check_arguments(given, state);
    if (given->command->grid_count)
        return;
    train_settle_method(given, state);
    train_settle_watch(given->command, state);
    take_evaluation(given->command);
}

static error_t train_parse(int key, char *argument, struct argp_state *state)
{
    struct train_given *given = state->input;
    struct train_command *command = given->command;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->files;
        state->child_inputs[2] = &command->evaluation;
        state->child_inputs[3] = given;
        state->child_inputs[4] = command;
        state->child_inputs[5] = command;
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
    case KEY_LORA:
        train_lora_add(&command->lora, state, argument);
        return 0;
    case KEY_AUGMENT:
        command->augment = argument;
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

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0},
                                             {&file_argp, 0, NULL, 0},
                                             {&evaluation_argp, 0, NULL, 0},
                                             {&train_method_argp, 0, NULL, 0},
                                             {&train_watch_argp, 0, NULL, 0},
                                             {&train_search_argp, 0, NULL, 0},
                                             {0}};

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
    struct train_given given = {.command = command};
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
