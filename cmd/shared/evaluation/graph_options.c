#define _GNU_SOURCE
#include "cmd/shared/evaluation/graph_options.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { KEY_KEEP = 256 };

enum { KEY_OUTPUT = 256, KEY_AXES, KEY_SET, KEY_BATCH_AXIS, KEY_PROBABILITIES };

static const struct argp_option option_table[] = {
    {"graph-output", KEY_OUTPUT, "NAME", 0, "The graph's output (default: the first of floats)", 1},
    {"output-axes", KEY_AXES, "AXIS,...", 0,
     "What the output's axes are: batch, token or class each", 1},
    {"set", KEY_SET, "INPUT=VALUE,...", 0, "Give an input of the graph a value; may be repeated",
     1},
    {"batch-axis", KEY_BATCH_AXIS, "N|NAME=N,...", 0,
     "The axis, from 0, along which the graph's inputs and output have examples", 1},
    {"probabilities", KEY_PROBABILITIES, NULL, 0, "The graph's outputs are probabilities", 2},
    {0},
};

/* A copy of a text that lives as long as the options. */
static char *keep_text(struct graph_options *options, const char *text)
{
    options->texts = xreallocarray(options->texts, options->text_count + 1, sizeof(char *));
    return options->texts[options->text_count++] = xstrdup(text);
}

static void parse_axes(struct graph_options *options, struct argp_state *state, const char *text)
{
    static const char *const names[] = {
        [IVON_AXIS_BATCH] = "batch", [IVON_AXIS_TOKEN] = "token", [IVON_AXIS_CLASS] = "class"};
    size_t count = 0, batches = 0;
    char *next = keep_text(options, text), *name;
    free(options->axes); /* of an option before: the last one counts */
    options->axes = xcalloc(strlen(text) + 1, sizeof *options->axes);
    while ((name = strsep(&next, ","))) {
        options->axes[count] = (enum ivon_axis)option_choice(state, "--output-axes", name, names,
                                                             3);
        batches += options->axes[count++] == IVON_AXIS_BATCH;
    }
    if (batches != 1)
        argp_failure(state, EX_USAGE, 0, "--output-axes: '%s', expected batch once", text);
    if (count > IVON_RANK_MAX)
        argp_failure(state, EX_USAGE, 0, "--output-axes: %zu axes, at most %d are supported", count,
                     IVON_RANK_MAX);
    options->adapt.axes = options->axes;
    options->adapt.axis_count = count;
}

/* INPUT=VALUE,...: the last value of an input counts. */
static void parse_set(struct graph_options *options, struct argp_state *state, const char *text)
{
    char *input = keep_text(options, text), *equals = strchr(input, '=');
    size_t at = 0;
    if (!equals || equals == input || !equals[1])
        argp_failure(state, EX_USAGE, 0, "--set: '%s', expected INPUT=VALUE,...", text);
    if (equals)
        *equals = '\0';
    while (at < options->adapt.value_count && strcmp(options->values[at].input, input) != 0)
        at++;
    options->values = xreallocarray(options->values, options->adapt.value_count + 1,
                                    sizeof *options->values);
    options->adapt.value_count += at == options->adapt.value_count;
    options->values[at] = (struct ivon_input_value){input, equals ? equals + 1 : input};
    options->adapt.values = options->values;
}

/* N, or NAME=N,... */
static void parse_batch_axis(struct graph_options *options, struct argp_state *state,
                             const char *text)
{
    size_t count = 0;
    char *next = keep_text(options, text), *name;
    free(options->batch_axes);
    options->batch_axes = xcalloc(strlen(text) + 1, sizeof *options->batch_axes);
    while ((name = strsep(&next, ","))) {
        char *equals = strrchr(name, '=');
        if (equals)
            *equals = '\0';
        if (!equals && (count || next))
            argp_failure(state, EX_USAGE, 0, "--batch-axis: '%s', expected N or NAME=N,...", text);
        options->batch_axes[count++] = (struct ivon_batch_axis){
            equals ? name : NULL,
            (int)option_whole(state, "--batch-axis", equals ? equals + 1 : name, 0,
                              IVON_RANK_MAX - 1)};
    }
    options->adapt.batch_axes = options->batch_axes;
    options->adapt.batch_axis_count = count;
}

static error_t graph_parse(int key, char *argument, struct argp_state *state)
{
    struct graph_options *options = state->input;
    switch (key) {
    case KEY_OUTPUT:
        options->adapt.output = argument;
        break;
    case KEY_AXES:
        parse_axes(options, state, argument);
        break;
    case KEY_SET:
        parse_set(options, state, argument);
        break;
    case KEY_BATCH_AXIS:
        parse_batch_axis(options, state, argument);
        break;
    case KEY_PROBABILITIES:
        options->adapt.probabilities = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    options->given = true;
    return 0;
}

const struct argp graph_argp = {.options = option_table, .parser = graph_parse};

static const struct argp_option bind_table[] = {
    {"keep-graph-weights", KEY_KEEP, NULL, 0,
     "Let the graph keep weights of its own that no mean is given for", 1},
    {0},
};

static error_t bind_parse(int key, char *argument, struct argp_state *state)
{
    struct ivon_bind_options *options = state->input;
    (void)argument;
    if (key != KEY_KEEP)
        return ARGP_ERR_UNKNOWN;
    options->keep_graph_weights = true;
    return 0;
}

const struct argp bind_argp = {.options = bind_table, .parser = bind_parse};

struct graph_options graph_options_defaults(void)
{
    return (struct graph_options){.adapt = ivon_adapt_defaults(),
                                  .bind = ivon_bind_defaults(),
                                  .reported = xcalloc(1, sizeof(bool))};
}

void graph_options_release(struct graph_options *options)
{
    for (size_t i = 0; i < options->text_count; i++)
        free(options->texts[i]);
    free(options->texts);
    free(options->axes);
    free(options->values);
    free(options->batch_axes);
    free(options->reported);
}

/* The function that a likelihood applies to outputs. */
static enum ivon_link link_of(enum ivon_likelihood likelihood)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(likelihood);
    return traits->regression ? IVON_LINK_IDENTITY
           : traits->classes  ? IVON_LINK_SOFTMAX
                              : IVON_LINK_LOGISTIC;
}

int graph_adapt(const struct graph_options *options, enum ivon_likelihood likelihood,
                struct ivon_network *network, struct ivon_source *source, const char *path,
                const struct common_options *common, struct ivon_error *error)
{
    struct ivon_adapt_options adapt = options->adapt;
    struct ivon_adaptation done;
    adapt.link = link_of(likelihood);
    if (adapt.probabilities && adapt.link == IVON_LINK_IDENTITY)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "--probabilities is for labels, not for --likelihood=%s",
                          ivon_likelihood_traits(likelihood)->name);
    int code = ivon_network_adapt(network, source, &adapt, &done, error);
    if (code || common->quiet || *options->reported)
        return code;
    if (done.passed_over)
        report_note(
            "%s: output '%s' holds no floats: '%s' is taken, --graph-output chooses another", path,
            done.passed_over, done.output);
    if (done.cut)
        report_note("%s: ends in %s: its input is taken for the logits", path, done.cut);
    *options->reported = true;
    return 0;
}

void graph_warn_probabilities(const char *path)
{
    report_warning(
        "%s: the outputs are between 0 and 1 and have sum 1, and were taken for logits: if "
        "they are probabilities, say --probabilities",
        path);
}

json_t *graph_options_json(const struct graph_options *options)
{
    const struct ivon_adapt_options *adapt = &options->adapt;
    if (!options->given)
        return json_null();
    json_t *list = json_array();
    json_array_append_new(list, report_json_text(adapt->output));
    json_array_append_new(list, json_boolean(adapt->probabilities));
    json_array_append_new(list, json_boolean(options->bind.keep_graph_weights));
    for (size_t i = 0; i < adapt->axis_count; i++)
        json_array_append_new(list, json_integer((json_int_t)adapt->axes[i]));
    for (size_t i = 0; i < adapt->value_count; i++) {
        json_array_append_new(list, report_json_text(adapt->values[i].input));
        json_array_append_new(list, report_json_text(adapt->values[i].value));
    }
    for (size_t i = 0; i < adapt->batch_axis_count; i++) {
        json_array_append_new(list, report_json_text(adapt->batch_axes[i].name));
        json_array_append_new(list, json_integer(adapt->batch_axes[i].axis));
    }
    return list;
}
