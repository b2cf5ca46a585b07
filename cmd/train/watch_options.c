/* The options of evaluations along a training, and of when these end it. */
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/train/options.h"

enum {
    KEY_TEST = 256,
    KEY_HELD_OUT,
    KEY_EVAL_EVERY,
    KEY_LOO,
    KEY_LOO_EVERY,
    KEY_LOO_ROWS,
    KEY_PATIENCE,
    KEY_STOP_BY,
};

static const struct argp_option option_table[] = {
    {"test", KEY_TEST, "DATA", 0, "Also log loss and error on test examples", 4},
    {"held-out", KEY_HELD_OUT, "SHARE[,SEED]", 0,
     "Likewise on this share of the examples, chosen at random, and train on the others", 4},
    {"eval-every", KEY_EVAL_EVERY, "N", 0,
     "--test, --held-out: steps between tests (default: an epoch)", 4},
    {"loo", KEY_LOO, NULL, 0, "Also log the leave-one-out loss, of the training data alone", 4},
    {"loo-every", KEY_LOO_EVERY, "N", 0, "--loo: steps between its evaluations (default: an epoch)",
     4},
    {"loo-rows", KEY_LOO_ROWS, "N", 0, "--loo: of N examples, chosen at random (default: all)", 4},
    {"patience", KEY_PATIENCE, "N", 0,
     "Stop when the loss has not been lower for N evaluations, and keep the best as DIR/best.h5",
     4},
    {"stop-by", KEY_STOP_BY, "loo|test", 0,
     "--patience: which loss (default loo; without a posterior test)", 4},
    {0},
};

/* SHARE or SHARE,SEED. */
static void train_parse_held_out(struct train_command *command, const char *argument,
                                 struct argp_state *state)
{
    char *share = xstrndup(argument, strcspn(argument, ","));
    const char *comma = strchr(argument, ',');
    command->held_out = option_positive(state, "--held-out", share);
    if (command->held_out >= 1)
        argp_failure(state, EX_USAGE, 0, "--held-out: %s, expected a share below 1", share);
    if (comma)
        command->held_out_seed = option_whole(state, "--held-out", comma + 1, 0, INT64_MAX);
    free(share);
}

static error_t train_watch_parse(int key, char *argument, struct argp_state *state)
{
    static const char *const losses[] = {"loo", "test"};
    struct train_command *command = state->input;
    struct train_watch *watch = &command->watch;
    switch (key) {
    case KEY_TEST:
        command->test = argument;
        return 0;
    case KEY_HELD_OUT:
        train_parse_held_out(command, argument, state);
        return 0;
    case KEY_EVAL_EVERY:
        command->eval_every = option_whole(state, "--eval-every", argument, 1, INT64_MAX);
        command->eval_given = true;
        return 0;
    case KEY_LOO:
        watch->loo = true;
        return 0;
    case KEY_LOO_EVERY:
        watch->loo_every = option_whole(state, "--loo-every", argument, 1, INT64_MAX);
        watch->loo_every_given = true;
        return 0;
    case KEY_LOO_ROWS:
        watch->loo_rows = option_whole(state, "--loo-rows", argument, 1, INT64_MAX);
        return 0;
    case KEY_PATIENCE:
        watch->patience = option_whole(state, "--patience", argument, 1, INT64_MAX);
        return 0;
    case KEY_STOP_BY:
        watch->by_test = option_choice(state, "--stop-by", argument, losses, 2) == 1;
        watch->stop_by_given = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp train_watch_argp = {.options = option_table, .parser = train_watch_parse};

void train_check_watch(const struct train_command *command, struct argp_state *state)
{
    bool held_out = command->held_out > 0;
    if (command->test && held_out)
        argp_failure(state, EX_USAGE, 0, "--test and --held-out exclude each other");
    if (command->judge >= 0 && !command->grid_count)
        argp_failure(state, EX_USAGE, 0, "--judge is for --grid");
    if (command->judge == TRAIN_JUDGE_TEST && !command->test)
        argp_failure(state, EX_USAGE, 0, "--judge=test needs --test=DATA");
    if (command->judge == TRAIN_JUDGE_HELD_OUT && !held_out)
        argp_failure(state, EX_USAGE, 0, "--judge=held-out needs --held-out=SHARE");
    if (command->eval_given && !command->test && !held_out)
        argp_failure(state, EX_USAGE, 0, "--eval-every is for --test and --held-out");
}

void train_settle_watch(struct train_command *command, struct argp_state *state)
{
    struct train_watch *watch = &command->watch;
    const struct ivon_method_traits *traits = ivon_method_traits(command->options.method);
    if (!watch->patience && watch->stop_by_given)
        argp_failure(state, EX_USAGE, 0, "--stop-by is for --patience");
    watch->by_test = watch->stop_by_given ? watch->by_test : !traits->posterior;
    if (watch->patience && !watch->by_test && !traits->posterior)
        argp_failure(state, EX_USAGE, 0,
                     "--stop-by=loo: --optimizer=%s leaves no posterior, which the leave-one-out "
                     "loss is of",
                     traits->name);
    if (watch->patience && watch->by_test && !command->test && !(command->held_out > 0))
        argp_failure(state, EX_USAGE, 0,
                     watch->stop_by_given
                         ? "--stop-by=test needs --test=DATA or --held-out"
                         : "--patience: --optimizer=%s leaves no posterior, whose "
                           "leave-one-out loss would tell when to stop: give --test "
                           "or --held-out",
                     traits->name);
    watch->loo |= watch->patience && !watch->by_test;
    if (watch->loo_every_given && !watch->loo)
        argp_failure(state, EX_USAGE, 0, "--loo-every is for --loo");
    if (watch->loo_rows && !watch->loo)
        argp_failure(state, EX_USAGE, 0, "--loo-rows is for --loo");
}
