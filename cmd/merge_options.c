#include "cmd/memory.h"
#include "cmd/merge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/command.h"

enum { SWEEP_MAX = 1000 /* outputs */ };

enum {
    KEY_DELTA0 = 256,
    KEY_BASE_SCALE,
    KEY_HESSIAN_SCALE,
    KEY_ESS,
    KEY_DTYPE,
    KEY_INCLUDE,
    KEY_EXCLUDE,
    KEY_MISMATCH,
    KEY_NONPOSITIVE,
    KEY_SWEEP,
    KEY_MEMORY,
    KEY_JSON,
    KEY_DRY_RUN,
    KEY_HASH,
};

static const struct argp_option option_table[] = {
    {"base", 'b', "FILE", 0, "The posterior that the models were finetuned from", 1},
    {"method", 'm', "gradient-matching|hessian|task-arithmetic|average", 0,
     "How to merge (default: gradient-matching with a base, hessian without)", 1},
    {"delta0", KEY_DELTA0, "X", 0, "Precision of a base that has no Hessian", 2},
    {"base-scale", KEY_BASE_SCALE, "X", 0,
     "Multiply the base's precision by X (default 1; 0 leaves it out)", 2},
    {"hessian-scale", KEY_HESSIAN_SCALE, "X", 0, "Multiply the models' Hessians by X (default 1)",
     2},
    {"ess", KEY_ESS, "X", 0,
     "Effective sample size of the result (default: the base's, else the sum of the models')", 2},
    {"dtype", KEY_DTYPE, "keep|f64|f32|f16|bf16", 0,
     "Type of the merged means (default keep: the base's, else the widest)", 2},
    {"include", KEY_INCLUDE, "GLOB", 0, "Merge only tensors whose name matches; may be repeated",
     3},
    {"exclude", KEY_EXCLUDE, "GLOB", 0, "Keep tensors whose name matches as they were", 3},
    {"on-mismatch", KEY_MISMATCH, "error|base|skip", 0,
     "What to do with tensors that an input lacks or has in another shape", 3},
    {"on-nonpositive", KEY_NONPOSITIVE, "error|base", 0,
     "What to do with elements whose merged precision is not positive", 3},
    {"output", 'o', "OUT", 0, "The file to write", 4},
    {"sweep", KEY_SWEEP, "FROM:TO:STEP", 0,
     "Write one output for each factor of all weights; OUT holds one %g for it", 4},
    {"memory", KEY_MEMORY, "SIZE", 0, "Memory to use (default 256M)", 4},
    {"json", KEY_JSON, NULL, 0, "Print a summary in JSON", 5},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "Say what would be done, and read and write no tensor", 5},
    {"hash", KEY_HASH, NULL, 0, "Record the inputs' SHA-256 in the provenance", 5},
    {0},
};

/* MODEL[:WEIGHT]: what follows the last colon is a weight if it is a number. */
static void add_model(struct merge_command *command, struct argp_state *state,
                      const char *argument)
{
    command->models =
        realloc(command->models, (command->model_count + 1) * sizeof *command->models);
    char *path = strdup(argument);
    if (!command->models || !path)
        memory_exhausted();
    double weight = 1;
    char *colon = strrchr(path, ':'), *end;
    if (colon && colon[1]) {
        double number = strtod(colon + 1, &end);
        if (!*end && !isfinite(number))
            argp_failure(state, EX_USAGE, 0, "'%s': weight '%s', expected a finite number",
                         argument, colon + 1);
        if (!*end) {
            weight = number;
            *colon = '\0';
        }
    }
    command->models[command->model_count++] = (struct merge_model){path, weight};
}

static void parse_sweep(struct merge_command *command, struct argp_state *state, const char *text)
{
    int length = 0;
    if (sscanf(text, "%lf:%lf:%lf%n", &command->from, &command->to, &command->step, &length) != 3 ||
        text[length] || !isfinite(command->from) || !isfinite(command->to) ||
        !(command->step > 0) || !(command->to >= command->from))
        argp_failure(state, EX_USAGE, 0,
                     "--sweep: '%s', expected FROM:TO:STEP, such as 0.2:1:0.1", text);
    if ((command->to - command->from) / command->step > SWEEP_MAX - 1)
        argp_failure(state, EX_USAGE, 0, "--sweep: '%s' has more than %d values", text, SWEEP_MAX);
    command->sweep = true;
}

static error_t parse_number_option(int key, char *argument, struct argp_state *state)
{
    struct merge_command *command = state->input;
    switch (key) {
    case KEY_DELTA0:
        command->options.delta0 = option_number(state, "--delta0", argument);
        command->base_option = "--delta0";
        return 0;
    case KEY_BASE_SCALE:
        command->options.base_scale = option_number(state, "--base-scale", argument);
        command->base_option = "--base-scale";
        return 0;
    case KEY_HESSIAN_SCALE:
        command->options.hessian_scale = option_number(state, "--hessian-scale", argument);
        return 0;
    case KEY_ESS:
        command->options.ess = option_positive(state, "--ess", argument);
        return 0;
    case KEY_MEMORY:
        command->options.memory = option_size(state, "--memory", argument);
        return 0;
    case KEY_SWEEP:
        parse_sweep(command, state, argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_choice_option(int key, char *argument, struct argp_state *state)
{
    static const char *const methods[] = {"gradient-matching", "hessian", "task-arithmetic",
                                          "average"};
    static const char *const mismatches[] = {"error", "base", "skip"};
    struct merge_command *command = state->input;
    switch (key) {
    case 'm':
        command->options.method =
            (enum ivon_merge_method)option_choice(state, "--method", argument, methods, 4);
        command->method_given = true;
        return 0;
    case KEY_DTYPE:
        command->options.dtype = option_dtype(state, "--dtype", argument);
        return 0;
    case KEY_MISMATCH:
        command->options.on_mismatch = (enum ivon_merge_mismatch)option_choice(
            state, "--on-mismatch", argument, mismatches, 3);
        return 0;
    case KEY_NONPOSITIVE:
        command->options.on_nonpositive = (enum ivon_merge_nonpositive)option_choice(
            state, "--on-nonpositive", argument, mismatches, 2);
        return 0;
    default:
        return parse_number_option(key, argument, state);
    }
}

static void check_arguments(const struct merge_command *command, struct argp_state *state)
{
    if (!command->model_count)
        argp_failure(state, EX_USAGE, 0, "no model given; see --help");
    if (!command->output && !command->dry_run)
        argp_failure(state, EX_USAGE, 0, "no output given: name it by -o FILE");
    if (command->base_option && !command->base_path)
        argp_failure(state, EX_USAGE, 0, "%s is for a base: name it by --base=FILE",
                     command->base_option);
    if (command->sweep && command->output && output_marks(command->output, "%g") != 1)
        argp_failure(state, EX_USAGE, 0,
                     "--sweep: output '%s' needs exactly one %%g for the factor", command->output);
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct merge_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->files;
        state->child_inputs[2] = &command->open;
        return 0;
    case ARGP_KEY_ARG:
        add_model(command, state, argument);
        return 0;
    case ARGP_KEY_END:
        check_arguments(command, state);
        return 0;
    case 'b':
        command->base_path = argument;
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_INCLUDE:
    case KEY_EXCLUDE:
        name_filter_add(&command->filter, argument, key == KEY_EXCLUDE);
        return 0;
    case KEY_JSON:
        command->json = true;
        return 0;
    case KEY_DRY_RUN:
        command->dry_run = true;
        return 0;
    case KEY_HASH:
        command->hash = true;
        return 0;
    default:
        return parse_choice_option(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0}, {&file_argp, 0, NULL, 0}, {&open_argp, 0, NULL, 0}, {0}};

const struct argp merge_argp = {
    .options = option_table,
    .parser = parse,
    .args_doc = "MODEL[:WEIGHT]...",
    .doc = "Merge the posteriors of finetuned models into one.\v"
           "Weights multiply what a model learnt (default 1); negative ones remove it. "
           "See ivon-merge(1).",
    .children = children,
};
