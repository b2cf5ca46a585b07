#define _GNU_SOURCE
#include "cmd/shared/inputs/open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "ivon/input.h"

enum {
    KEY_KEY = 256,
    KEY_HESSIAN,
    KEY_HESSIAN_FROM,
    KEY_BATCH_SIZE,
    KEY_PARAMETERS,
    KEY_BUFFERS,
    KEY_NO_SANDBOX
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Checkpoints of other tools:", 8),
    {"key", KEY_KEY, "PATH", 0, "Where the state dict is in a nested file, such as ema.model", 8},
    {"hessian", KEY_HESSIAN, "FILE", 0,
     "Take the Hessian from FILE, by name; or an optimizer's "
     "state",
     8},
    {"hessian-from", KEY_HESSIAN_FROM, "ivon|adam", 0,
     "What the optimizer's state is (default ivon)", 8},
    {"batch-size", KEY_BATCH_SIZE, "N", 0, "Adam: examples of each gradient", 8},
    {"parameters", KEY_PARAMETERS, "FILE", 0,
     "Names of the optimizer's parameters, in its order, one on a line", 8},
    {"buffers", KEY_BUFFERS, "GLOB", 0,
     "Tensors whose name matches are buffers, not parameters; may be repeated", 8},
    {"no-sandbox", KEY_NO_SANDBOX, NULL, 0, "Read the inputs without giving up other rights", 8},
    {0},
};

static void open_check_arguments(const struct open_options *options, struct argp_state *state)
{
    bool adam = options->open.hessian_from == IVON_HESSIAN_FROM_ADAM;
    if (adam && !options->open.batch)
        argp_failure(state, EX_USAGE, 0, "--hessian-from=adam needs the gradients' --batch-size=N");
    if (!adam && options->open.batch)
        argp_failure(state, EX_USAGE, 0, "--batch-size is for --hessian-from=adam");
}

static void add_parameter(struct open_options *options, const char *line)
{
    char **grown = xreallocarray(options->parameters, options->open.parameter_count + 1,
                                 sizeof *grown);
    char *name = xstrdup(line);
    grown[options->open.parameter_count++] = name;
    options->parameters = grown;
    options->open.parameters = (const char *const *)grown;
}

/* The lines of a file, without what ends them. */
static void read_lines(struct open_options *options, FILE *file, const char *path,
                       struct argp_state *state)
{
    enum { PARAMETERS_MAX = 1 << 18 };
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, file)) >= 0) {
        while (length && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (!length || strlen(line) != (size_t)length ||
            options->open.parameter_count == PARAMETERS_MAX)
            argp_failure(state, EX_DATAERR, 0, "--parameters=%s: line %zu is %s", path,
                         options->open.parameter_count + 1,
                         !length ? "empty, expected the name of a parameter"
                         : strlen(line) != (size_t)length
                             ? "no text"
                             : "one too many for the parameters of an optimizer");
        add_parameter(options, line);
    }
    free(line);
    if (ferror(file))
        argp_failure(state, EX_IOERR, errno, "--parameters=%s", path);
    if (!options->open.parameters)
        argp_failure(state, EX_DATAERR, 0, "--parameters=%s: is empty", path);
}

static void read_parameters(struct open_options *options, const char *path,
                            struct argp_state *state)
{
    if (options->open.parameters)
        argp_failure(state, EX_USAGE, 0, "--parameters is given twice");
    struct ivon_error error = {0};
    FILE *file;
    if (ivon_input_open(&file, path, &error))
        argp_failure(state, error.code == IVON_ERROR_IO ? EX_IOERR : EX_NOINPUT, 0,
                     "--parameters=%s", error.message);
    read_lines(options, file, path, state);
    fclose(file);
}

static error_t open_parse(int key, char *argument, struct argp_state *state)
{
    static const char *const origins[] = {"ivon", "adam"};
    struct open_options *options = state->input;
    switch (key) {
    case KEY_NO_SANDBOX:
        options->open.no_sandbox = true;
        return 0;
    case ARGP_KEY_END:
        open_check_arguments(options, state);
        return 0;
    case KEY_KEY:
        options->open.key = argument;
        break;
    case KEY_HESSIAN:
        options->open.hessian = argument;
        break;
    case KEY_HESSIAN_FROM:
        options->open.hessian_from = (enum ivon_hessian_from)option_choice(state, "--hessian-from",
                                                                           argument, origins, 2);
        break;
    case KEY_BATCH_SIZE:
        options->open.batch = (double)option_whole(state, "--batch-size", argument, 1,
                                                   (uint64_t)1 << 53);
        break;
    case KEY_PARAMETERS:
        read_parameters(options, argument, state);
        break;
    case KEY_BUFFERS:
        name_filter_add(&options->buffers, argument, false);
        options->open.is_buffer = name_filter_selects;
        options->open.is_buffer_context = &options->buffers;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    options->given = true;
    return 0;
}

const struct argp open_argp = {.options = option_table, .parser = open_parse};

void open_options_release(struct open_options *options)
{
    name_filter_release(&options->buffers);
    for (size_t i = 0; i < options->open.parameter_count; i++)
        free(options->parameters[i]);
    free(options->parameters);
}

void open_check_hessian(const struct open_options *options, bool several, struct argp_state *state)
{
    if (options->open.hessian && several)
        argp_failure(state, EX_USAGE, 0,
                     "--hessian=%s: is for one checkpoint, and there are several: ivon-convert "
                     "--hessian gives each its own",
                     options->open.hessian);
}

int open_checkpoint(struct ivon_source **source, const char *path,
                    const struct open_options *options, size_t memory,
                    const struct common_options *common, struct ivon_error *error)
{
    struct ivon_open_options open = options->open;
    open.resources.memory = memory;
    int code = ivon_checkpoint_open(source, path, &open, error);
    if (code)
        return code;
    const struct ivon_header *header = ivon_source_header(*source);
    if (header->mapping && common->verbose)
        report_note("%s: %s", path, header->mapping);
    if (header->warning && !common->quiet)
        report_warning("%s: %s", path, header->warning);
    return 0;
}

int bind_checkpoint(struct ivon_network *network, struct ivon_source *source, const char *path,
                    const struct ivon_bind_options *bind, const struct common_options *common,
                    struct ivon_error *error)
{
    struct ivon_unbound unbound;
    int code = ivon_network_bind(network, source, bind, &unbound, error);
    if (code || common->quiet)
        return code;
    if (unbound.recognised)
        report_note("%s: %zu weights of the graph are means by another name or transposed: '%s' is "
                    "'%s'",
                    path, unbound.recognised, unbound.recognised_weight, unbound.recognised_mean);
    if (unbound.unused)
        report_note("%s: %zu means are left out, which the graph's output does not need, '%s' the "
                    "first",
                    path, unbound.unused, unbound.unused_mean);
    if (unbound.means)
        report_warning("%s: %zu means have no place in the graph, '%s' the first", path,
                       unbound.means, unbound.mean);
    if (unbound.initializers)
        report_warning("%s: lacks %zu tensors that keep the graph's own values, '%s' the first",
                       path, unbound.initializers, unbound.initializer);
    return 0;
}

void open_warn_unused(const struct open_options *options)
{
    const char *unused = name_filter_unused(&options->buffers);
    if (unused)
        report_warning("--buffers: pattern '%s' matches no tensor", unused);
}
