#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/confine.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/graph_options.h"
#include "cmd/shared/open.h"
#include "cmd/shared/options.h"
#include "cmd/shared/progress.h"
#include "cmd/shared/provenance.h"
#include "cmd/shared/rename.h"
#include "cmd/shared/report.h"
#include "ivon/ivon.h"

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
    {"output", 'o', "OUT", 0, "The file to write", 1},
    {"to", KEY_TO, IVON_FORMAT_NAMES, 0, "Its format (default: by OUT's suffix, else h5)", 1},
    {"dtype", KEY_DTYPE, "keep|f64|f32|f16|bf16", 0,
     "Type of the means (default keep: each its own)", 1},
    {"shard-size", KEY_SHARD_SIZE, "SIZE", 0, "safetensors: at most SIZE of data in one file", 1},
    {"rename", KEY_RENAME, "REGEX:REPL", 0,
     "Rename tensors: replace each match, \\1 being a group; may be repeated", 2},
    {"include", KEY_INCLUDE, "GLOB", 0, "Take only tensors whose name matches; may be repeated", 2},
    {"exclude", KEY_EXCLUDE, "GLOB", 0, "Leave out tensors whose name matches", 2},
    {"structure", KEY_STRUCTURE, "diagonal[:covariance|:precision]|base", 0,
     "Reduce a structured posterior: to a diagonal, of its covariance (default) or of its "
     "precision; or to what lies below its low-rank correction",
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

struct convert_command {
    struct common_options common;
    struct open_options open;
    struct file_options files;
    struct name_filter filter;
    struct rename_rules rules;
    struct ivon_convert_options options;
    struct ivon_create_options create;
    struct ivon_header given; /* by options */
    const char *input, *output, *model, *graph_output;
    struct ivon_bind_options bind;
    bool reduce;
    struct ivon_reduce_options reduction;

    /* While it runs: */
    struct ivon_source *opened, *source, *chosen; /* as it is in the file; reduced, or the same */
    struct ivon_subset_item *choices;
    size_t choice_count;
    size_t left_out[IVON_PART_COUNT]; /* tensors that the output's format has no place for */
    struct ivon_tensor *outputs;      /* the chosen ones; behind them the graph, if one is put in */
    size_t output_count;
    struct ivon_sink *sink;
    char *graph;
    size_t graph_size;
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

static enum ivon_reduction parse_reduction(struct argp_state *state, const char *argument)
{
    static const char *const names[] = {"diagonal", "diagonal:covariance", "diagonal:precision",
                                        "base"};
    static const enum ivon_reduction reductions[] = {IVON_REDUCE_COVARIANCE, IVON_REDUCE_COVARIANCE,
                                                     IVON_REDUCE_PRECISION, IVON_REDUCE_BASE};
    return reductions[option_choice(state, "--structure", argument, names, 4)];
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
        command->reduce = true;
        command->reduction.reduction = parse_reduction(state, argument);
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
           "From PyTorch, ONNX, safetensors, npz and ivon-posterior(5) to the last four. "
           "See ivon-convert(1).",
    .children = children,
};

/* The choice of tensors. */

struct renamed {
    enum ivon_part part;
    const char *name, *old;
};

static int compare_renamed(const void *a, const void *b)
{
    const struct renamed *left = a, *right = b;
    if (left->part != right->part)
        return left->part < right->part ? -1 : 1;
    int order = strcmp(left->name, right->name);
    return order ? order : strcmp(left->old, right->old);
}

/* That no two tensors of a part have one name. */
static int convert_check_names(const struct convert_command *command, struct ivon_error *error)
{
    int code = 0;
    struct renamed *names = xcalloc(command->choice_count + 1, sizeof *names);
    for (size_t i = 0; i < command->choice_count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(command->source,
                                                              command->choices[i].tensor);
        names[i] = (struct renamed){tensor->part, command->choices[i].name, tensor->name};
    }
    qsort(names, command->choice_count, sizeof *names, compare_renamed);
    for (size_t i = 1; i < command->choice_count && !code; i++)
        if (names[i].part == names[i - 1].part && strcmp(names[i].name, names[i - 1].name) == 0)
            code = error_fill(error, IVON_ERROR_ARGUMENT,
                              "--rename: tensors '%s' and '%s' would both be '%s'",
                              names[i - 1].old, names[i].old, names[i].name);
    free(names);
    return code;
}

/* Returns whether a part is one list of bytes, which has the part's name for its own. */
static bool convert_is_bytes(enum ivon_part part)
{
    return part == IVON_GRAPH || part == IVON_STRUCTURE;
}

static size_t convert_count_vectors(const struct ivon_source *source)
{
    size_t count = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        count += ivon_source_tensor(source, i)->part == IVON_LOW_RANK;
    return count;
}

/* That the structure of the covariance, which names tensors, still holds of the chosen ones. */
static int convert_check_structure(const struct convert_command *command, struct ivon_error *error)
{
    struct ivon_structure before, after;
    int code = ivon_structure_describe(&before, command->source, error);
    if (code)
        return code;
    double found = ivon_source_header(command->source)->weight_decay;
    double given = command->given.weight_decay;
    if (before.rank && !isnan(given) && !isnan(found) && given != found)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: its low-rank correction was made for weight decay %g: "
                          "--weight-decay cannot change it",
                          command->input, found);
    struct ivon_error why = {0};
    size_t vectors = convert_count_vectors(command->chosen);
    if (ivon_structure_describe(&after, command->chosen, &why))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s (--rename, --include and --exclude have to leave what structure.json "
                          "names)",
                          why.message);
    return vectors && vectors < convert_count_vectors(command->source)
               ? error_fill(error, IVON_ERROR_DATA,
                            "%s: its low-rank correction is of all tensors: --include and "
                            "--exclude cannot take it apart",
                            command->input)
               : 0;
}

/* The header of the output, but for its provenance. */
static struct ivon_header output_header(const struct convert_command *command)
{
    struct ivon_header header = *ivon_source_header(command->source);
    const struct ivon_header *given = &command->given;
    if (!isnan(given->ess))
        header.ess = given->ess;
    if (!isnan(given->weight_decay)) {
        header.weight_decay = given->weight_decay;
        header.decrement = NAN;
    }
    if (given->n_train >= 0)
        header.n_train = given->n_train;
    if (given->step >= 0)
        header.step = given->step;
    return header;
}

static int choose_tensors(struct convert_command *command, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(command->source), tensors = 0;
    command->choices = xcalloc(count + 1, sizeof *command->choices);
    command->create.like = command->opened;
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(command->source, i);
        bool bytes = convert_is_bytes(tensor->part);
        if (bytes ? tensor->part == IVON_GRAPH && command->model
                  : !name_filter_selects(&command->filter, ivon_tensor_bare_name(tensor)))
            continue;
        bool carried = ivon_checkpoint_carries(command->output, &command->create, tensor);
        if (!carried && tensor->part != IVON_OPAQUE) {
            command->left_out[tensor->part]++;
            continue;
        }
        if (!carried)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: tensor '%s' is stored as %s, which is not read here and '%s' "
                              "cannot hold: leave it out by --exclude",
                              command->input, tensor->name, tensor->stored_as, command->output);
        char *name = bytes ? xstrdup(tensor->name) : rename_apply(&command->rules, tensor->name);
        command->choices[command->choice_count++] = (struct ivon_subset_item){i, name};
        tensors += !bytes;
    }
    if (!command->choice_count || (command->filter.count && !tensors))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: no tensor is selected (see --include and --exclude)",
                          command->input);
    int code = convert_check_names(command, error);
    if (code)
        return code;
    struct ivon_header header = output_header(command);
    struct ivon_source *chosen = NULL;
    code = ivon_tensor_subset(&chosen, command->source, &header, command->choices,
                              command->choice_count, error);
    command->chosen = chosen;
    return code ? code : convert_check_structure(command, error);
}

/* The graph. */

static int read_graph(struct convert_command *command, struct ivon_error *error)
{
    struct stat status;
    FILE *file = fopen(command->model, "rb");
    bool fine = file && !fstat(fileno(file), &status);
    if (fine && !S_ISREG(status.st_mode)) {
        fclose(file);
        return error_fill(error, IVON_ERROR_INPUT, "%s: %s, expected a regular file",
                          command->model,
                          S_ISDIR(status.st_mode) ? "is a directory" : "is a device or a pipe");
    }
    if (fine) {
        command->graph_size = (size_t)status.st_size;
        command->graph = xmalloc(command->graph_size + 1);
        fine = fread(command->graph, 1, command->graph_size, file) == command->graph_size;
    }
    int code = 0;
    if (!file)
        code = error_input(error, command->model, "open", strerror(errno));
    else if (!fine)
        code = error_fill(error, IVON_ERROR_IO, "%s: cannot read it: %s", command->model,
                          strerror(errno));
    if (file)
        fclose(file);
    return code;
}

/* Writes the graph anew, with the one output that the network has, and without external data. */
static int rewrite_graph(struct convert_command *command, const struct ivon_network *network,
                         struct ivon_error *error)
{
    void *bytes = NULL;
    size_t size;
    int code = ivon_onnx_write(&bytes, &size, network, NULL, error);
    if (code)
        return code;
    free(command->graph);
    command->graph = bytes;
    command->graph_size = size;
    return 0;
}

/* That the graph takes the tensors as they are written. */
static int check_graph(struct convert_command *command, struct ivon_error *error)
{
    struct ivon_network *network = NULL;
    struct ivon_adapt_options adapt = ivon_adapt_defaults();
    struct ivon_adaptation done;
    adapt.output = command->graph_output;
    struct ivon_error inner = {0};
    int code = ivon_onnx_from_memory(&network, command->model, command->graph, command->graph_size,
                                     &inner);
    bool external = code == IVON_ERROR_DATA; /* perhaps: of a file such data are read */
    if (external)
        code = ivon_onnx_open(&network, command->model, error);
    else if (code && error)
        *error = inner;
    if (!code)
        code = ivon_network_adapt(network, command->chosen, &adapt, &done, error);
    if (!code)
        code = bind_checkpoint(network, command->chosen, command->input, &command->bind,
                               &command->common, error);
    if (!code && (command->graph_output || external))
        code = rewrite_graph(command, network, error);
    ivon_network_free(network);
    return code;
}

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
    struct ivon_header header = output_header(command);
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
        code = choose_tensors(command, error);
    if (!code && command->model)
        code = read_graph(command, error);
    if (!code && command->model)
        code = check_graph(command, error);
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
    if (convert_is_bytes(output->part)) {
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
        if (tensors[part] && !convert_is_bytes(part))
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
