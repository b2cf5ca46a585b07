#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/merge/search.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/outputs/table.h"

enum {
    KEY_WEIGHTS = 256,
    KEY_EVALUATE,
    KEY_PICK,
    KEY_TABLE,
    KEY_SAMPLES,
    PARTS_MAX = 1000000,
};

static const struct argp_option option_table[] = {
    {"weights", KEY_WEIGHTS, "grid:N|grid:FROM:TO:STEP|simplex:N", 0,
     "Merge by all vectors of weights: a grid, or parts of 1; OUT holds a %d, or a %g for each "
     "model",
     4},
    {"evaluate", KEY_EVALUATE, "DATA", 0,
     "Print how each vector, or factor of --sweep, does on DATA; may be repeated", 7},
    {"pick", KEY_PICK, "mean|worst|W,W,...", 0,
     "OUT gets the merge whose NLL is least on the average, at worst, or weighted (default mean)",
     7},
    {"table", KEY_TABLE, "FILE", 0, "Write the table to FILE: CSV, JSON Lines or HDF5", 7},
    {"samples", KEY_SAMPLES, "N", 0, "Average over N weight samples (default: the mean alone)", 7},
    {0},
};

/* grid:N, grid:FROM:TO:STEP or simplex:N. */
static void search_parse_weights(struct merge_search *search, struct argp_state *state,
                                 const char *text)
{
    static const char grid[] = "grid:", simplex[] = "simplex:";
    bool is_grid = strncmp(text, grid, sizeof grid - 1) == 0;
    const char *rest = text + (is_grid ? sizeof grid - 1 : sizeof simplex - 1);
    if (!is_grid && strncmp(text, simplex, sizeof simplex - 1) != 0)
        argp_failure(state, EX_USAGE, 0,
                     "--weights: '%s', expected grid:N, grid:FROM:TO:STEP or simplex:N", text);
    search->weights = is_grid ? WEIGHTS_GRID : WEIGHTS_SIMPLEX;
    search->parts = 0;
    if (!is_grid || !strchr(rest, ':'))
        search->parts = option_whole(state, "--weights", rest, 1, PARTS_MAX);
    else if (!merge_range_parse(&search->range, rest))
        argp_failure(state, EX_USAGE, 0,
                     "--weights: '%s', expected grid:FROM:TO:STEP, such as grid:0.2:1:0.1", text);
}

static void search_parse_pick(struct merge_search *search, struct argp_state *state,
                              const char *text)
{
    const char *at = text;
    size_t count = 1;
    double sum = 0;
    free(search->pick_weights);
    search->pick_weights = NULL;
    search->pick = strcmp(text, "mean") == 0 ? PICK_MEAN : PICK_WORST;
    if (search->pick == PICK_MEAN || strcmp(text, "worst") == 0)
        return;
    for (const char *comma = text; (comma = strchr(comma, ',')); comma++)
        count++;
    search->pick = PICK_WEIGHTED;
    search->pick_count = count;
    search->pick_weights = xcalloc(count, sizeof *search->pick_weights);
    bool good = option_numbers(&at, ',', search->pick_weights, count) && !*at;
    for (size_t i = 0; i < count; i++) {
        good &= search->pick_weights[i] >= 0;
        sum += search->pick_weights[i];
    }
    if (!good || !(sum > 0) || isinf(sum))
        argp_failure(state, EX_USAGE, 0,
                     "--pick: '%s', expected mean, worst, or weights such as 2,1", text);
}

static void search_parse_table(struct merge_search *search, struct argp_state *state,
                               const char *file)
{
    int format = table_output_file(file) ? ivon_table_format_of(file) : IVON_CSV;
    if (format < 0 || format == IVON_NPY)
        argp_failure(state, EX_USAGE, 0, "--table: '%s' ends in none of .csv, .jsonl and .h5",
                     file);
    search->table = file;
    search->format = (enum ivon_table_format)format;
}

static error_t search_parse(int key, char *argument, struct argp_state *state)
{
    struct merge_search *search = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &search->evaluation;
        state->child_inputs[1] = &search->evaluation.graph.bind;
        return 0;
    case KEY_WEIGHTS:
        search_parse_weights(search, state, argument);
        return 0;
    case KEY_EVALUATE:
        search->data = xreallocarray(search->data, search->data_count + 1, sizeof *search->data);
        search->data[search->data_count++] = argument;
        return 0;
    case KEY_PICK:
        search_parse_pick(search, state, argument);
        search->needs_data = "--pick";
        return 0;
    case KEY_TABLE:
        search_parse_table(search, state, argument);
        search->needs_data = "--table";
        return 0;
    case KEY_SAMPLES:
        search->samples = (size_t)option_whole(state, "--samples", argument, 1, 1000000);
        search->needs_data = "--samples";
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {
    {&evaluation_task_argp, 0, NULL, 0}, {&bind_argp, 0, NULL, 0}, {0}};

const struct argp search_argp = {
    .options = option_table, .parser = search_parse, .children = children};

struct merge_search merge_search_defaults(void)
{
    return (struct merge_search){.evaluation = evaluation_defaults(),
                                 .sample = ivon_sample_defaults()};
}

void merge_search_release(struct merge_search *search)
{
    for (size_t d = 0; search->labels && d < search->data_count; d++)
        free(search->labels[d]);
    free(search->labels);
    free(search->data);
    free(search->pick_weights);
    free(search->vectors);
    evaluation_release(&search->evaluation);
}

static void search_check_data(struct merge_search *search, struct argp_state *state)
{
    const struct evaluation_options *evaluation = &search->evaluation;
    const char *needs = search->needs_data;
    if (!needs &&
        (evaluation->given || evaluation->graph.given || evaluation->graph.bind.keep_graph_weights))
        needs = "what is said of a graph or of data";
    if (!search->data_count && needs)
        argp_failure(state, EX_USAGE, 0, "%s is for --evaluate=DATA", needs);
    if (!search->data_count)
        return;
    evaluation_check_noise(evaluation, state);
    if (search->pick == PICK_WEIGHTED && search->pick_count != search->data_count)
        argp_failure(state, EX_USAGE, 0, "--pick: %zu weights for %zu data sets",
                     search->pick_count, search->data_count);
}

void merge_search_check(struct merge_search *search, size_t models, const char *output,
                        struct argp_state *state)
{
    search_check_data(search, state);
    if (search->weights == WEIGHTS_OWN || search->data_count || !output)
        return;
    int numbers = output_marks(output, "%d"), weights = output_marks(output, "%g");
    if (!(numbers == 1 && weights == 0) && !(numbers == 0 && (size_t)weights == models))
        argp_failure(state, EX_USAGE, 0,
                     "--weights: output '%s' needs one %%d for the vector's number, or %zu %%g for "
                     "its weights",
                     output, models);
}
