#define _GNU_SOURCE
#include "cmd/shared/evaluation/evaluation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/evaluation/text_options.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum {
    KEY_MODEL = 256,
    KEY_INPUTS,
    KEY_TARGETS,
    KEY_TARGET_COLUMN,
    KEY_CLASSES,
    KEY_NORMALIZE,
    KEY_RESIZE,
    KEY_LIMIT,
    KEY_BATCH,
    KEY_LIKELIHOOD,
    KEY_NOISE_STD,
    KEY_IGNORE_LABEL,
    KEY_MEMORY,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("Network and data:", 1),
    {"data", 'd', "DATA", 0, "Data: FILE.h5:/GROUP, .npz, .npy, IDX, CSV or a directory of images",
     1},
    {"memory", KEY_MEMORY, "SIZE", 0, "Memory beside the weights, such as 512M", 5},
    {0},
};

static const struct argp_option task_option_table[] = {
    {"model", KEY_MODEL, "GRAPH", 0, "ONNX graph (default: the one inside the checkpoint)", 1},
    {"inputs", KEY_INPUTS, "INPUT=ARRAY,...", 0, "Arrays that feed the graph's inputs (default: x)",
     1},
    {"targets", KEY_TARGETS, "ARRAY", 0, "Array of targets (default: y, where there is one)", 1},
    {"target-column", KEY_TARGET_COLUMN, "COLUMN", 0, "CSV: column of targets", 1},
    {"classes", KEY_CLASSES, "FILE", 0, "Names of the classes, one a line, in their order", 1},
    {"normalize", KEY_NORMALIZE, "none|MEAN,STD;...", 0,
     "Normalize inputs, per channel (default: bytes are divided by 255)", 1},
    {"resize", KEY_RESIZE, "SHORT[,MIDDLE]|HEIGHTxWIDTH", 0,
     "Scale images: the shorter side, and take the middle; or both sides", 1},
    {"limit", KEY_LIMIT, "N", 0, "Take the first N examples only", 1},
    {"batch", KEY_BATCH, "N", 0, "Examples at a time", 1},
    {"likelihood", KEY_LIKELIHOOD, "categorical|bernoulli|gaussian|poisson|heteroscedastic", 0,
     "What the outputs are to the targets (default categorical)", 2},
    {"noise-std", KEY_NOISE_STD, "X", 0, "Gaussian: standard deviation of the targets", 2},
    {"ignore-label", KEY_IGNORE_LABEL, "N", 0, "Label of what does not count (default -100)", 2},
    {0},
};

/* none, or MEAN,STD for all or for each channel, separated by semicolons. */
static void parse_normalize(struct evaluation_options *options, struct argp_state *state,
                            const char *text)
{
    struct ivon_dataset_options *dataset = &options->dataset;
    size_t capacity = strlen(text) + 1, count = 0;
    free(options->channel_mean); /* of an option before: the last one counts */
    free(options->channel_std);
    options->channel_mean = xcalloc(capacity, sizeof(double));
    options->channel_std = xcalloc(capacity, sizeof(double));
    dataset->no_scaling = strcmp(text, "none") == 0;
    for (const char *at = text; !dataset->no_scaling;) {
        double pair[2];
        if (!option_numbers(&at, ',', pair, 2) || !(pair[1] > 0) || (*at && *at != ';'))
            argp_failure(state, EX_USAGE, 0,
                         "--normalize: '%s', expected none or MEAN,STD, for each channel separated "
                         "by ';'",
                         text);
        options->channel_mean[count] = pair[0];
        options->channel_std[count++] = pair[1];
        if (!*at++)
            break;
    }
    dataset->mean = options->channel_mean;
    dataset->std = options->channel_std;
    dataset->channel_count = count;
}

/* INPUT=ARRAY,...: splits the text in place. */
static void parse_inputs(struct evaluation_options *options, struct argp_state *state,
                         const char *text)
{
    size_t capacity = strlen(text) + 1, count = 0, named = 0;
    if (!*text)
        argp_failure(state, EX_USAGE, 0, "--inputs: '', expected INPUT=ARRAY,...");
    free(options->inputs); /* of an option before: the last one counts */
    free(options->pairs);
    free(options->fields);
    options->inputs = xstrdup(text);
    options->pairs = xcalloc(capacity, sizeof *options->pairs);
    options->fields = xcalloc(capacity, sizeof *options->fields);
    for (char *at = options->inputs; at;) {
        char *comma = strchr(at, ','), *equals;
        if (comma)
            *comma = '\0';
        equals = strchr(at, '=');
        if (equals) {
            *equals = '\0';
            options->pairs[named++] = (struct ivon_feed_name){at, equals + 1};
        }
        for (size_t i = 0; equals && i + 1 < named; i++)
            if (strcmp(options->pairs[i].input, at) == 0)
                argp_failure(state, EX_USAGE, 0, "--inputs: '%s' is given twice", at);
        options->fields[count++] = equals ? equals + 1 : at;
        at = comma ? comma + 1 : NULL;
    }
    if (named && named != count)
        argp_failure(state, EX_USAGE, 0,
                     "--inputs: name the graph's input for each array: INPUT=ARRAY");
    options->dataset.inputs = count ? options->fields : NULL;
    options->dataset.input_count = count;
    options->task.input_count = named;
    options->task.inputs = options->pairs;
}

static error_t evaluation_parse_number(int key, char *argument, struct argp_state *state)
{
    struct evaluation_options *options = state->input;
    switch (key) {
    case KEY_LIMIT:
        options->dataset.limit = option_whole(state, "--limit", argument, 1, INT64_MAX);
        return 0;
    case KEY_BATCH:
        options->batch = (size_t)option_whole(state, "--batch", argument, 1, 1 << 20);
        return 0;
    case KEY_NOISE_STD:
        options->task.noise_std = option_positive(state, "--noise-std", argument);
        return 0;
    case KEY_IGNORE_LABEL:
        options->task.ignored = option_label(state, "--ignore-label", argument);
        options->ignored_given = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum ivon_likelihood parse_likelihood(struct argp_state *state, const char *argument)
{
    enum { MOST = 8 };
    const char *names[MOST];
    int count = 0;
    const struct ivon_likelihood_traits *traits;
    while (count < MOST && (traits = ivon_likelihood_traits((enum ivon_likelihood)count)))
        names[count++] = traits->name;
    return (enum ivon_likelihood)option_choice(state, "--likelihood", argument, names, count);
}

static error_t evaluation_parse_text(int key, char *argument, struct argp_state *state)
{
    struct evaluation_options *options = state->input;
    switch (key) {
    case KEY_MODEL:
        options->model = argument;
        return 0;
    case KEY_INPUTS:
        parse_inputs(options, state, argument);
        return 0;
    case KEY_TARGETS:
        options->dataset.targets = argument;
        return 0;
    case KEY_TARGET_COLUMN:
        options->dataset.target_column = argument;
        return 0;
    case KEY_CLASSES:
        options->classes = argument;
        return 0;
    case KEY_NORMALIZE:
        parse_normalize(options, state, argument);
        return 0;
    case KEY_RESIZE:
        option_resize(state, argument, &options->dataset);
        return 0;
    case KEY_LIKELIHOOD:
        options->task.likelihood = parse_likelihood(state, argument);
        return 0;
    default:
        return evaluation_parse_number(key, argument, state);
    }
}

static error_t evaluation_parse_task(int key, char *argument, struct argp_state *state)
{
    struct evaluation_options *options = state->input;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(options->task.likelihood);
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->graph;
        state->child_inputs[1] = &options->dataset;
        return 0;
    case ARGP_KEY_END:
        options->given |= text_options_given(&options->dataset);
        if (options->ignored_given && traits->regression)
            argp_failure(state, EX_USAGE, 0,
                         "--ignore-label is for labels, not for --likelihood=%s", traits->name);
        if (options->classes && traits->regression)
            argp_failure(state, EX_USAGE, 0, "--classes is for labels, not for --likelihood=%s",
                         traits->name);
        if (options->graph.adapt.probabilities && traits->regression)
            argp_failure(state, EX_USAGE, 0,
                         "--probabilities is for labels, not for --likelihood=%s", traits->name);
        return 0;
    default:
        break;
    }
    error_t known = evaluation_parse_text(key, argument, state);
    options->given |= known == 0;
    return known;
}

static error_t evaluation_parse(int key, char *argument, struct argp_state *state)
{
    struct evaluation_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = options;
        return 0;
    case 'd':
        options->data = argument;
        return 0;
    case KEY_MEMORY:
        options->memory = option_size(state, "--memory", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child task_children[] = {
    {&graph_argp, 0, NULL, 0}, {&text_argp, 0, NULL, 0}, {0}};

const struct argp evaluation_task_argp = {
    .options = task_option_table, .parser = evaluation_parse_task, .children = task_children};

static const struct argp_child children[] = {{&evaluation_task_argp, 0, NULL, 0}, {0}};

const struct argp evaluation_argp = {
    .options = option_table, .parser = evaluation_parse, .children = children};

struct evaluation_options evaluation_defaults(void)
{
    return (struct evaluation_options){
        .graph = graph_options_defaults(),
        .dataset = ivon_dataset_defaults(),
        .task = {.likelihood = IVON_CATEGORICAL, .noise_std = NAN, .ignored = -100}};
}

void evaluation_release(struct evaluation_options *options)
{
    graph_options_release(&options->graph);
    free(options->inputs);
    free(options->pairs);
    free(options->fields);
    free(options->channel_mean);
    free(options->channel_std);
    for (size_t i = 0; i < options->named_count; i++)
        free(options->named[i]);
    free(options->named);
    name_list_release(&options->class_names);
}

int evaluation_read_classes(struct evaluation_options *options, struct ivon_error *error)
{
    struct name_list *names = &options->class_names;
    int code = options->classes && !names->path
                   ? name_list_read_classes(names, options->classes, error)
                   : 0;
    options->dataset.classes = (const char *const *)names->names;
    options->dataset.class_count = names->count;
    return code;
}

int evaluation_check_classes(const struct evaluation_options *options, size_t outputs,
                             struct ivon_error *error)
{
    size_t named = options->class_names.count;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(options->task.likelihood);
    size_t expected = traits->classes ? outputs : 2; /* an event happens or not */
    if (!options->classes || named == expected)
        return 0;
    return error_fill(error, IVON_ERROR_DATA, "%s: has the names of %zu classes, expected %zu%s",
                      options->classes, named, expected,
                      traits->classes ? ", one for each output of the network" : "");
}

void evaluation_name_columns(const struct evaluation_options *options,
                             const enum ivon_naming *naming, struct ivon_table_options *table)
{
    table->names = (const char *const *)options->class_names.names;
    table->name_count = options->class_names.count;
    table->naming = naming;
}

void evaluation_check_noise(const struct evaluation_options *options, struct argp_state *state)
{
    bool noise = ivon_likelihood_traits(options->task.likelihood)->noise;
    if (noise != (options->task.noise_std > 0))
        argp_failure(state, EX_USAGE, 0,
                     noise ? "--likelihood=gaussian needs --noise-std"
                           : "--noise-std is for --likelihood=gaussian");
}

const char *evaluation_targets(const struct evaluation_options *options)
{
    return options->dataset.targets ? options->dataset.targets : "y";
}

int evaluation_open_whole(const struct evaluation_options *options, const char *path,
                          struct ivon_examples **examples, struct ivon_error *error)
{
    struct ivon_dataset_options whole = options->dataset;
    whole.limit = 0;
    return ivon_dataset_open(examples, path, &whole, error);
}

int evaluation_no_targets(const char *path, const char *name, struct ivon_error *error)
{
    return error_fill(error, IVON_ERROR_DATA,
                      "%s: has no array '%s' of targets: --targets names another, or "
                      "--target-column a column of CSV",
                      path, name);
}

int evaluation_nothing_counts(const struct evaluation_options *options, const char *path,
                              struct ivon_error *error)
{
    return error_fill(error, IVON_ERROR_DATA,
                      "%s: all targets are the ignored label %lld, expected some that count", path,
                      (long long)options->task.ignored);
}

static bool evaluation_is_tensor(struct ivon_source *source, const char *name)
{
    return source && (ivon_source_find(source, IVON_MEAN, name) >= 0 ||
                      ivon_source_find(source, IVON_BUFFER, name) >= 0);
}

/* Lets images have the channels, and texts the tokens, of the graph's first input that is none of
   the source's tensors. */
static void choose_extents(struct evaluation_options *options, const struct ivon_network *network,
                           struct ivon_source *source)
{
    const char *name;
    size_t i = 0;
    while ((name = ivon_network_input(network, i)) && evaluation_is_tensor(source, name))
        i++;
    if (!name)
        return;
    const struct ivon_input_shape input = ivon_network_input_shape(network, i);
    if (input.rank == 4 && (input.shape[1] == 1 || input.shape[1] == 3))
        options->dataset.image_channels = (size_t)input.shape[1];
    if (input.rank == 2 && input.shape[1] > 0 && options->dataset.vocabulary &&
        !options->dataset.context)
        options->dataset.context = (size_t)input.shape[1];
}

void evaluation_name_inputs(struct evaluation_options *options, const struct ivon_network *network,
                            struct ivon_source *source)
{
    const char *name;
    choose_extents(options, network, source);
    if (options->dataset.input_count || options->dataset.context || options->named_count)
        return;
    for (size_t i = 0; (name = ivon_network_input(network, i)); i++) {
        if (evaluation_is_tensor(source, name))
            continue;
        options->named = xreallocarray(options->named, options->named_count + 1, sizeof(char *));
        options->named[options->named_count++] = xstrdup(name);
    }
    if (options->named_count < 2)
        return;
    options->dataset.inputs = (const char *const *)options->named;
    options->dataset.input_count = options->named_count;
}

int evaluation_open_named(struct evaluation_options *options, struct ivon_examples **examples,
                          const char *path, const struct ivon_dataset_options *dataset,
                          struct ivon_error *error)
{
    struct ivon_dataset_options named = *dataset;
    struct ivon_error other = {0};
    int code = evaluation_read_classes(options, error);
    if (code)
        return code;
    named.classes = options->dataset.classes;
    named.class_count = options->dataset.class_count;
    code = ivon_dataset_open(examples, path, &named, error);
    if (code != IVON_ERROR_DATA || dataset->input_count || options->named_count != 1)
        return code;
    named.inputs = (const char *const *)options->named;
    named.input_count = 1;
    named.named = true;
    if (ivon_dataset_open(examples, path, &named, &other))
        return code;
    options->dataset.inputs = named.inputs;
    options->dataset.input_count = 1;
    return 0;
}

int evaluation_open_data(struct evaluation_options *options, struct ivon_examples **examples,
                         struct ivon_examples **whole, struct ivon_error *error)
{
    int code = evaluation_open_named(options, examples, options->data, &options->dataset, error);
    *whole = *examples;
    return code || !options->dataset.limit
               ? code
               : evaluation_open_whole(options, options->data, whole, error);
}

int evaluation_open_network(const struct evaluation_options *options, struct ivon_source *source,
                            const char *path, const struct common_options *common,
                            struct ivon_network **network, struct ivon_error *error)
{
    int code = 0;
    if (!options->model)
        code = ivon_source_refuse_opaque(source, IVON_GRAPH, ivon_part_name(IVON_GRAPH), error);
    if (code)
        return code;
    if (!options->model && ivon_source_find(source, IVON_GRAPH, ivon_part_name(IVON_GRAPH)) < 0)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: holds no graph: name one by --model=GRAPH.onnx", path);
    code = options->model ? ivon_onnx_open(network, options->model, error)
                          : ivon_onnx_from_checkpoint(network, source, error);
    if (!code)
        code = graph_adapt(&options->graph, options->task.likelihood, *network, source,
                           options->model ? options->model : path, common, error);
    return code ? code
                : bind_checkpoint(*network, source, path, &options->graph.bind, common, error);
}

/* Lets the error be that --data hold no arrays, if they are a posterior and the posterior could not
   be opened: the two were exchanged. */
static void evaluation_check_exchange(const struct evaluation_options *options, int code,
                                      struct ivon_error *error)
{
    struct ivon_open_options open = ivon_open_defaults();
    struct ivon_source *source = NULL;
    struct ivon_examples *examples = NULL;
    struct ivon_error found = {0};
    open.no_sandbox = options->dataset.no_sandbox;
    if (code != IVON_ERROR_DATA || !options->data ||
        ivon_checkpoint_open(&source, options->data, &open, &found))
        return;
    if (ivon_dataset_open(&examples, options->data, &options->dataset, &found))
        *error = found;
    ivon_examples_close(examples);
    ivon_source_close(source);
}

int evaluation_open_posterior(const struct evaluation_options *options, const char *path,
                              const struct open_options *open, const struct common_options *common,
                              struct ivon_source **source, struct ivon_network **network,
                              struct ivon_error *error)
{
    int code = open_checkpoint(source, path, open, 0, common, error);
    if (!code)
        code = evaluation_open_network(options, *source, path, common, network, error);
    if (code)
        evaluation_check_exchange(options, code, error);
    return code;
}

/* Nothing tells rows of examples from others that happen to be as many. */
void evaluation_warn(const struct ivon_predictor *predictor, const struct ivon_examples *examples,
                     const char *graph)
{
    const char *output = ivon_predictor_whole_output(predictor);
    char count[32];
    if (ivon_predictor_saw_probabilities(predictor))
        graph_warn_probabilities(graph);
    if (output)
        report_warning("%s: output '%s' has %s rows for one example, as many as there are "
                       "examples: all are run at once, and row i is taken for example i",
                       graph, output, report_count(ivon_examples_count(examples), count));
}
