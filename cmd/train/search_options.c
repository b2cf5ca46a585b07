/* The options of ivon-train that search: for a rate, or in a grid. */
#include <stdlib.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/train/options.h"

enum {
    KEY_FIND_LR = 256,
    KEY_GRID,
    KEY_JUDGE,
};

static const struct argp_option option_table[] = {
    {"find-lr", KEY_FIND_LR, "STEPS", OPTION_ARG_OPTIONAL,
     "Try rising rates for so many steps (default 200), and suggest one", 7},
    {"grid", KEY_GRID, "OPTION=V,V;...", 0,
     "Train with each combination of such options' values; a table tells the best (repeatable)", 7},
    {"judge", KEY_JUDGE, "test|held-out|loo", 0,
     "--grid: by which loss (default: of --test or --held-out, else leave-one-out)", 7},
    {0},
};

void train_set_aside(struct train_command *command, const char *argument,
                     const struct argp_state *state)
{
    int last = state->next - 1, first = argument && argument == state->argv[last] ? last - 1 : last;
    const char *word = state->argv[first];
    for (int i = first; i <= last && (word[1] == '-' || word[1] == 'o'); i++)
        command->aside[i] = true;
}

static error_t train_search_parse(int key, char *argument, struct argp_state *state)
{
    struct train_command *command = state->input;
    switch (key) {
    case KEY_FIND_LR:
        command->find_lr = argument ? option_whole(state, "--find-lr", argument, 20, 1000000) : 200;
        return 0;
    case KEY_GRID:
        command->grids = xreallocarray(command->grids, command->grid_count + 1, sizeof argument);
        command->grids[command->grid_count++] = argument;
        train_set_aside(command, argument, state);
        return 0;
    case KEY_JUDGE:
        command->judge = option_choice_of(state, "--judge", argument, TRAIN_JUDGES);
        train_set_aside(command, argument, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp train_search_argp = {.options = option_table, .parser = train_search_parse};

void train_check_find_lr(const struct train_command *command, bool rate, bool average,
                         struct argp_state *state)
{
    const struct ivon_train_options *options = &command->options;
    const struct {
        bool given;
        const char *name;
    } others[] = {{command->grid_count, "--grid"},
                  {rate, "--lr"},
                  {options->epochs, "--epochs"},
                  {options->steps, "--steps"},
                  {options->schedule != IVON_SCHEDULE_CONSTANT, "--schedule"},
                  {options->warmup, "--warmup"},
                  {options->restart_every, "--restarts"},
                  {average, "--average"},
                  {command->directory, "--output"},
                  {command->test, "--test"},
                  {command->eval_given, "--eval-every"},
                  {command->watch.loo, "--loo"},
                  {command->watch.loo_every_given, "--loo-every"},
                  {command->watch.loo_rows, "--loo-rows"},
                  {command->watch.patience, "--patience"},
                  {command->watch.stop_by_given, "--stop-by"},
                  {command->save_every != UINT64_MAX, "--save-every"},
                  {command->resume, "--resume"},
                  {command->files.force, "--force"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            argp_failure(state, EX_USAGE, 0,
                         "--find-lr sweeps rates, and writes a table: %s does "
                         "not go with it",
                         others[i].name);
}
