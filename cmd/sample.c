#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/report.h"
#include "ivon/ivon.h"

enum { SAMPLES_MAX = 1000 /* files open at once */ };

enum {
    KEY_FIRST = 256,
    KEY_DTYPE,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Samples:", 1),
    OPTION_HEADING("Weights:", 2),
    OPTION_HEADING("Output:", 3),
    {"samples", 'n', "N", 0, "Draw N samples (default 1)", 1},
    {"first", KEY_FIRST, "K", 0, "Number of the first sample (default 0)", 1},
    {"output", 'o', "OUT", 0, "The file to write; %d in it becomes the sample's number", 3},
    {"dtype", KEY_DTYPE, "keep|f64|f32|f16|bf16", 0,
     "Type of the samples (default keep: the means')", 3},
    {0},
};

struct sample_command {
    struct common_options common;
    struct draw_options draw;
    struct file_options files;
    struct open_options open;
    const char *input, *output;
    size_t count;
    uint64_t first;

    /* While it runs: */
    struct ivon_source *source;
    size_t fixed;   /* means without a Hessian */
    char **outputs; /* per sample */
    struct ivon_sink **sinks;
};

static error_t sample_parse_number_option(int key, char *argument, struct argp_state *state)
{
    struct sample_command *command = state->input;
    switch (key) {
    case 'n':
        command->count = (size_t)option_whole(state, "--samples", argument, 1, SAMPLES_MAX);
        return 0;
    case KEY_FIRST:
        command->first = option_whole(state, "--first", argument, 0, INT64_MAX - SAMPLES_MAX);
        return 0;
    case KEY_DTYPE:
        command->draw.sample.dtype = option_dtype(state, "--dtype", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void sample_check_arguments(const struct sample_command *command, struct argp_state *state)
{
    if (!command->input)
        argp_failure(state, EX_USAGE, 0, "no posterior given; see --help");
    if (!command->output)
        argp_failure(state, EX_USAGE, 0, "no output given: name it by -o FILE");
    int marks = output_marks(command->output, "%d");
    if (marks > 1 || (!marks && command->count > 1))
        argp_failure(state, EX_USAGE, 0,
                     "output '%s' needs exactly one %%d for the sample's number", command->output);
}

static error_t sample_parse(int key, char *argument, struct argp_state *state)
{
    struct sample_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->draw;
        state->child_inputs[2] = &command->files;
        state->child_inputs[3] = &command->open;
        return 0;
    case ARGP_KEY_ARG:
        if (command->input)
            argp_failure(state, EX_USAGE, 0, "more than one posterior given; see --help");
        command->input = argument;
        return 0;
    case ARGP_KEY_END:
        sample_check_arguments(command, state);
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    default:
        return sample_parse_number_option(key, argument, state);
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0},
                                             {&draw_argp, 0, NULL, 0},
                                             {&file_argp, 0, NULL, 0},
                                             {&open_argp, 0, NULL, 0},
                                             {0}};

const struct argp sample_argp = {
    .options = option_table,
    .parser = sample_parse,
    .args_doc = "POSTERIOR",
    .doc = "Draw weights from a posterior, each sample as a checkpoint of its own.\v"
           "Examples:\n"
           "  ivon-sample posterior.h5 -n 8 -o 'sample-%d.h5'\n"
           "  ivon-sample posterior.h5 --seed=1 -o weights.safetensors\n"
           "\nSee ivon-sample(1).",
    .children = children,
};

/* Names the sample's file and creates it. */
static int sample_create_output(struct sample_command *command, size_t i,
                                const struct ivon_tensor *tensors, size_t tensor_count,
                                json_t *provenance, struct ivon_error *error)
{
    uint64_t sample = command->first + i;
    char number[32], creator[64];
    struct ivon_create_options options = {
        .size = sizeof options,
        .replace = command->files.force,
        .resources.progress = command->draw.sample.resources.progress,
        .like = command->source};
    struct ivon_header header = *ivon_source_header(command->source);
    char *text = NULL;
    snprintf(number, sizeof number, "%llu", (unsigned long long)sample);
    snprintf(creator, sizeof creator, "ivon-sample %s", ivon_version());
    command->outputs[i] = output_name(command->output, "%d", number);
    if (!command->files.no_provenance) {
        json_object_set_new(provenance, "sample", json_integer((json_int_t)sample));
        text = provenance_text(json_incref(provenance));
    }
    header.ess = header.weight_decay = header.decrement = NAN;
    header.creator = creator;
    header.provenance = text;
    int code = ivon_checkpoint_create(&command->sinks[i], command->outputs[i], &header, tensors,
                                      tensor_count, &options, error);
    free(text);
    return code;
}

static int sample_create_outputs(struct sample_command *command, json_t *provenance,
                                 struct ivon_error *error)
{
    command->outputs = xcalloc(command->count, sizeof *command->outputs);
    command->sinks = xcalloc(command->count, sizeof *command->sinks);
    struct ivon_tensor *tensors = xcalloc(ivon_source_tensor_count(command->source) + 1,
                                          sizeof *tensors);
    size_t tensor_count = ivon_sample_outputs(command->source, command->draw.sample.dtype, tensors);
    int code = provenance_add_input(provenance, command->input, NAN, false, error);
    for (size_t i = 0; i < command->count && !code; i++)
        code = sample_create_output(command, i, tensors, tensor_count, provenance, error);
    free(tensors);
    return code;
}

static int sample(struct sample_command *command, json_t *provenance, struct ivon_error *error)
{
    struct progress progress;
    command->draw.sample.resources.threads = command->common.threads;
    command->draw.sample.resources.progress = progress_start(&progress, "sampling",
                                                             command->common.quiet);
    int code = open_checkpoint(&command->source, command->input, &command->open, 0,
                               &command->common, error);
    if (!code)
        code = ivon_sample_check(command->source, &command->draw.sample, &command->fixed, error);
    if (!code)
        code = sample_create_outputs(command, provenance, error);
    if (!code)
        code = ivon_sample_write(command->source, &command->draw.sample, command->first,
                                 command->sinks, command->count, error);
    for (size_t i = 0; i < command->count && !code; i++)
        code = ivon_sink_commit(command->sinks[i], error);
    progress_end(&progress);
    return code;
}

/* Prints the warnings about samples that were written. */
static void sample_print_warnings(const struct sample_command *command)
{
    draw_warn(&command->draw);
    open_warn_unused(&command->open);
    size_t opaque = 0;
    const struct ivon_tensor *first = NULL;
    for (size_t i = 0; i < ivon_source_tensor_count(command->source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(command->source, i);
        if (tensor->part != IVON_OPAQUE)
            continue;
        first = opaque++ ? first : tensor;
    }
    if (first)
        report_warning("%zu tensor%s stored in ways that are not read here left out, '%s' (%s) the "
                       "first",
                       opaque, opaque == 1 ? "" : "s", first->name, first->stored_as);
    if (command->fixed && command->draw.sample.temperature > 0)
        report_warning("%zu tensors have no Hessian and stay at their mean", command->fixed);
}

static void sample_describe(const struct sample_command *command)
{
    char count[32];
    uint64_t parameters = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(command->source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(command->source, i);
        parameters += tensor->part == IVON_MEAN ? tensor->count : 0;
    }
    report_note("wrote %zu samples of %s parameters", command->count,
                report_count(parameters, count));
}

static void sample_release(struct sample_command *command)
{
    for (size_t i = 0; i < command->count; i++) {
        if (command->sinks)
            ivon_sink_close(command->sinks[i]);
        if (command->outputs)
            free(command->outputs[i]);
    }
    ivon_source_close(command->source);
    name_filter_release(&command->draw.filter);
    open_options_release(&command->open);
    free(command->sinks);
    free(command->outputs);
}

int sample_run(int argc, char **argv)
{
    struct sample_command command = {
        .draw = draw_defaults(), .open.open = ivon_open_defaults(), .count = 1};
    struct ivon_error error = {0};
    json_t *provenance = provenance_new(argc, argv);
    argp_parse(&sample_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    int code = sample(&command, provenance, &error);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet)
        sample_print_warnings(&command);
    if (!code && command.common.verbose)
        sample_describe(&command);
    json_decref(provenance);
    sample_release(&command);
    return status;
}
