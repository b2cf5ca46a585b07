#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/convert/convert.h"
#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/report.h"

enum {
    KEY_TO = 256,
    KEY_RENAME,
    KEY_INCLUDE,
    KEY_EXCLUDE,
    KEY_DTYPE,
    KEY_SHARD_SIZE,
    KEY_MODEL,
    KEY_ESS,
    KEY_WEIGHT_DECAY,
    KEY_N_TRAIN,
    KEY_STEP,
    KEY_GRAPH_OUTPUT,
    KEY_STRUCTURE,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Output:", 1),
    OPTION_HEADING("Tensors:", 2),
    OPTION_HEADING("What the file lacks:", 3),
    {"output", 'o', "OUT", 0, "The file to write", 1},
    {"to", KEY_TO, IVON_FORMAT_NAMES, 0, "Its format (default: by OUT's suffix, else h5)", 1},
    {"dtype", KEY_DTYPE, "keep|f64|f32|f16|bf16", 0,
     "Type of the means (default keep: each its own)", 1},
    {"shard-size", KEY_SHARD_SIZE, "SIZE", 0, "safetensors: at most SIZE of data in one file", 1},
    {"rename", KEY_RENAME, "REGEX:REPL", 0,
     "Rename tensors: replace each match, \\1 being a group; may be repeated", 2},
    {"include", KEY_INCLUDE, "GLOB", 0, "Take only tensors whose name matches; may be repeated", 2},
    {"exclude", KEY_EXCLUDE, "GLOB", 0, "Leave out tensors whose name matches", 2},
    {"structure", KEY_STRUCTURE, "diagonal[:covariance|:precision]|base|means", 0,
     "Reduce a posterior: to a diagonal, of its covariance (default) or of its precision; to what "
     "lies below its low-rank correction; or to weights alone, as PyTorch loads them",
     2},
    {"model", KEY_MODEL, "GRAPH", 0, "Put an ONNX graph into the output", 3},
    {"graph-output", KEY_GRAPH_OUTPUT, "NAME", 0, "--model: with this output of the graph alone",
     3},
    {"ess", KEY_ESS, "X", 0, "Effective sample size, in place of the input's", 3},
    {"weight-decay", KEY_WEIGHT_DECAY, "X", 0, "Weight decay, in place of the input's", 3},
    {"n-train", KEY_N_TRAIN, "N", 0, "Number of training examples", 3},
    {"step", KEY_STEP, "N", 0, "Step of the training", 3},
    {0},
};

static error_t parse_header_option(int key, char *argument, struct argp_state *state)
{
    struct convert_command *command = state->input;
    struct ivon_header *given = &command->given;
    switch (key) {
    case KEY_ESS:
        given->ess = option_number(state, "--ess", argument);
        if (!(given->ess > 0))
            argp_failure(state, EX_USAGE, 0, "--ess: '%s', expected a positive number", argument);
        return 0;
    case KEY_WEIGHT_DECAY:
        given->weight_decay = option_number(state, "--weight-decay", argument);
        if (!(given->weight_decay >= 0))
            argp_failure(state, EX_USAGE, 0, "--weight-decay: '%s', expected zero or more",
                         argument);
        return 0;
    case KEY_N_TRAIN:
        given->n_train = (int64_t)option_whole(state, "--n-train", argument, 0, INT64_MAX);
        return 0;
    case KEY_STEP:
        given->step = (int64_t)option_whole(state, "--step", argument, 0, INT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void convert_check_arguments(const struct convert_command *command, struct argp_state *state)
{
    if ((command->graph_output || command->bind.keep_graph_weights) && !command->model)
        argp_failure(state, EX_USAGE, 0, "%s is for --model",
                     command->graph_output ? "--graph-output" : "--keep-graph-weights");
    if (!command->input)
        argp_failure(state, EX_USAGE, 0, "no checkpoint given; see --help");
    if (!command->output)
        argp_failure(state, EX_USAGE, 0, "no output given: name it by -o FILE");
}

static void parse_structure(struct convert_command *command, struct argp_state *state,
                            const char *argument)
{
    static const char *const names[] = {"diagonal", "diagonal:covariance", "diagonal:precision",
                                        "base", "means"};
    static const enum ivon_reduction reductions[] = {IVON_REDUCE_COVARIANCE, IVON_REDUCE_COVARIANCE,
                                                     IVON_REDUCE_PRECISION, IVON_REDUCE_BASE};
    int choice = option_choice(state, "--structure", argument, names, 5);
    command->means = choice == 4;
    command->reduce = !command->means;
    if (command->reduce)
        command->reduction.reduction = reductions[choice];
    command->create.bare_buffers = command->means;
}

static error_t convert_parse(int key, char *argument, struct argp_state *state)
{
    struct convert_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->open;
        state->child_inputs[2] = &command->files;
        state->child_inputs[3] = &command->bind;
        return 0;
    case ARGP_KEY_ARG:
        if (command->input)
            argp_failure(state, EX_USAGE, 0, "more than one checkpoint given; see --help");
        command->input = argument;
        return 0;
    case ARGP_KEY_END:
        convert_check_arguments(command, state);
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_TO:
        command->create.format = IVON_FORMAT_BY_NAME + 1;
        command->create.format += (enum ivon_format)option_choice_of(state, "--to", argument,
                                                                     IVON_FORMAT_NAMES);
        return 0;
    case KEY_DTYPE:
        command->options.dtype = option_dtype(state, "--dtype", argument);
        return 0;
    case KEY_SHARD_SIZE:
        command->create.shard_size = option_size(state, "--shard-size", argument);
        return 0;
    case KEY_RENAME:
        rename_add(&command->rules, state, argument);
        return 0;
    case KEY_INCLUDE:
    case KEY_EXCLUDE:
        name_filter_add(&command->filter, argument, key == KEY_EXCLUDE);
        return 0;
    case KEY_STRUCTURE:
        parse_structure(command, state, argument);
        return 0;
    case KEY_MODEL:
        command->model = argument;
        return 0;
    case KEY_GRAPH_OUTPUT:
        command->graph_output = argument;
        return 0;
    default:
        return parse_header_option(key, argument, state);
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0},
                                             {&open_argp, 0, NULL, 0},
                                             {&file_argp, 0, NULL, 0},
                                             {&bind_argp, 0, NULL, 0},
                                             {0}};

const struct argp convert_argp = {
    .options = option_table,
    .parser = convert_parse,
    .args_doc = "CHECKPOINT",
    .doc = "Convert a checkpoint into another format.\v"
           "Examples:\n"
           "  ivon-convert posterior.h5 -o posterior.safetensors\n"
           "  ivon-convert posterior.h5 --structure=diagonal -o diagonal.npz\n"
           "\nFrom PyTorch, Flax, Keras, ONNX, safetensors, npz and ivon-posterior(5) to the last "
           "four. See ivon-convert(1).",
    .children = children,
};

/* Writing. */

static void list_outputs(struct convert_command *command)
{
    size_t count = ivon_source_tensor_count(command->chosen);
    command->outputs = xcalloc(count + 1, sizeof *command->outputs);
    ivon_convert_outputs(command->chosen, command->options.dtype, command->outputs);
    command->output_count = count;
    if (command->model)
        command->outputs[command->output_count++] = (struct ivon_tensor){
            .name = ivon_part_name(IVON_GRAPH),
            .part = IVON_GRAPH,
            .dtype = IVON_U8,
            .rank = 1,
            .shape = {(int64_t)command->graph_size},
            .count = command->graph_size,
            .ess = NAN,
            .weight_decay = NAN};
}

static int convert_create_output(struct convert_command *command, json_t *provenance,
                                 struct ivon_error *error)
{
    char creator[64], *text = NULL;
    struct ivon_header header = convert_header(command);
    int code = provenance_add_input(provenance, command->input, NAN, false, error);
    if (!code && command->open.open.hessian)
        code = provenance_add_input(provenance, command->open.open.hessian, NAN, false, error);
    if (!code && command->model)
        code = provenance_add_input(provenance, command->model, NAN, false, error);
    if (code)
        return code;
    if (!command->files.no_provenance)
        text = provenance_text(json_incref(provenance));
    snprintf(creator, sizeof creator, "ivon-convert %s", ivon_version());
    header.creator = creator;
    header.provenance = text;
    command->create.replace = command->files.force;
    command->create.resources.progress = command->options.resources.progress;
    code = ivon_checkpoint_create(&command->sink, command->output, &header, command->outputs,
                                  command->output_count, &command->create, error);
    free(text);
    return code;
}

static int write_output(struct convert_command *command, struct ivon_error *error)
{
    int code = ivon_convert_write(command->chosen, &command->options, command->sink, error);
    if (!code && command->model)
        code = ivon_sink_write(command->sink, command->output_count - 1, 0, command->graph_size,
                               command->graph, error);
    return code ? code : ivon_sink_commit(command->sink, error);
}

static int convert_run_all(struct convert_command *command, json_t *provenance,
                           struct ivon_error *error)
{
    struct progress progress;
    command->options.resources.threads = command->common.threads;
    command->options.resources.progress = progress_start(&progress, "converting",
                                                         command->common.quiet);
    int code = open_checkpoint(&command->opened, command->input, &command->open, 0,
                               &command->common, error);
    command->source = command->opened;
    command->reduction.resources = command->options.resources;
    if (!code && command->reduce)
        code = ivon_reduce(&command->source, command->opened, &command->reduction, error);
    if (!code)
        code = convert_choose(command, error);
    if (!code && command->model)
        code = convert_read_graph(command, error);
    if (!code) {
        list_outputs(command);
        code = convert_create_output(command, provenance, error);
    }
    if (!code)
        code = write_output(command, error);
    progress_end(&progress);
    return code;
}

/* Messages about the result. */

static void describe_tensor(const struct convert_command *command, size_t i)
{
    const struct ivon_tensor *output = &command->outputs[i];
    char shape[256];
    ivon_tensor_shape_text(output, shape);
    if (convert_part_is_bytes(output->part)) {
        report_note("%s: %s bytes", output->name, shape);
        return;
    }
    const struct ivon_tensor *input = ivon_source_tensor(command->source,
                                                         command->choices[i].tensor);
    bool renamed = strcmp(input->name, output->name) != 0;
    report_note("%s '%s': %s %s%s%s%s%s%s", ivon_part_name(output->part), output->name,
                output->stored_as ? output->stored_as : ivon_dtype_name(output->dtype), shape,
                input->dtype != output->dtype ? ", was " : "",
                input->dtype != output->dtype ? ivon_dtype_name(input->dtype) : "",
                renamed ? ", from '" : "", renamed ? input->name : "", renamed ? "'" : "");
}

static void convert_describe(const struct convert_command *command)
{
    size_t tensors[IVON_PART_COUNT] = {0};
    char text[320] = "";
    const char *mapping = ivon_source_header(command->source)->mapping;
    if (mapping && !command->common.verbose) /* else it was said on opening */
        report_note("%s: %s", command->input, mapping);
    for (size_t i = 0; i < command->output_count; i++) {
        tensors[command->outputs[i].part]++;
        if (command->common.verbose)
            describe_tensor(command, i);
    }
    for (enum ivon_part part = 0; part < IVON_PART_COUNT; part++)
        if (tensors[part] && !convert_part_is_bytes(part))
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s %zu", *text ? ", " : "",
                     ivon_part_name(part), tensors[part]);
    report_note("%s: wrote %zu tensors: %s%s%s", command->output,
                command->output_count - tensors[IVON_GRAPH] - tensors[IVON_STRUCTURE], text,
                tensors[IVON_STRUCTURE] ? "; and their structure" : "",
                tensors[IVON_GRAPH] ? "; and the graph" : "");
}

static void convert_print_warnings(const struct convert_command *command)
{
    const char *rule = rename_unused(&command->rules);
    bool ess = true, weight_decay = true;
    name_filter_warn_unused(&command->filter);
    if (rule)
        report_warning("--rename: '%s' matches no tensor", rule);
    open_warn_unused(&command->open);
    for (enum ivon_part part = 0; part < IVON_PART_COUNT; part++)
        if (command->left_out[part])
            report_warning("%s: has no place for the %zu tensors of part '%s', which are left out",
                           command->output, command->left_out[part], ivon_part_name(part));
    for (size_t i = 0; i < command->output_count; i++) {
        ess &= command->outputs[i].part != IVON_HESSIAN || !isnan(command->outputs[i].ess);
        weight_decay &= command->outputs[i].part != IVON_HESSIAN ||
                        !isnan(command->outputs[i].weight_decay);
    }
    if (!ess)
        report_warning("no ess is known for the Hessian: give it by --ess");
    if (!weight_decay)
        report_warning("no weight decay is known for the Hessian: give it by --weight-decay");
}

static void convert_release(struct convert_command *command)
{
    ivon_sink_close(command->sink);
    ivon_source_close(command->chosen);
    if (command->source != command->opened)
        ivon_source_close(command->source);
    ivon_source_close(command->opened);
    for (size_t i = 0; i < command->choice_count; i++)
        free((char *)command->choices[i].name);
    name_filter_release(&command->filter);
    rename_release(&command->rules);
    open_options_release(&command->open);
    free(command->choices);
    free(command->outputs);
    free(command->graph);
}

int convert_run(int argc, char **argv)
{
    struct convert_command command = {.options = ivon_convert_defaults(),
                                      .reduction = ivon_reduce_defaults(),
                                      .create = ivon_create_defaults(),
                                      .bind = ivon_bind_defaults(),
                                      .open.open = ivon_open_defaults(),
                                      .given = ivon_header_empty()};
    struct ivon_error error = {0};
    json_t *provenance = provenance_new(argc, argv);
    argp_parse(&convert_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    int code = convert_run_all(&command, provenance, &error);
    int status = progress_status(code, &error);
    if (!code && !command.common.quiet) {
        convert_print_warnings(&command);
        convert_describe(&command);
    }
    json_decref(provenance);
    convert_release(&command);
    return status;
}
