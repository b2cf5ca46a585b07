#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/command.h"
#include "cmd/open.h"
#include "cmd/options.h"
#include "cmd/progress.h"
#include "cmd/provenance.h"
#include "cmd/report.h"
#include "ivon/ivon.h"

enum {
    DEFAULT_MEMORY = 256 << 20,
    SWEEP_MAX = 1000, /* outputs */
};

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

struct model {
    char *path;
    double weight;
};

struct merge_command {
    struct common_options common;
    struct file_options files;
    struct open_options open;
    struct ivon_merge_options options;
    bool method_given;
    const char *base_option; /* one that means nothing without a base; null: none is given */
    const char *base_path;
    struct model *models;
    size_t model_count;
    struct name_filter filter;
    const char *output;
    double from, to, step;
    bool sweep, json, dry_run, hash;

    /* While it runs: */
    struct ivon_source *base;
    struct ivon_merge_model *sources; /* as the models */
    struct ivon_merge *merge;
    double *scales;
    char **outputs; /* per scale */
    struct ivon_sink **sinks;
    size_t scale_count;
};

/* MODEL[:WEIGHT]: what follows the last colon is a weight if it is a number. */
static void add_model(struct merge_command *command, struct argp_state *state,
                      const char *argument)
{
    command->models =
        realloc(command->models, (command->model_count + 1) * sizeof *command->models);
    char *path = strdup(argument);
    if (!command->models || !path)
        exit(EX_OSERR);
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
    command->models[command->model_count++] = (struct model){path, weight};
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

/* What looked like a weight may have been taken for a part of the name. */
static void explain_colon(const struct model *model, struct ivon_error *error)
{
    const char *colon = strrchr(model->path, ':');
    size_t length = strlen(error->message);
    if (colon && error->code == IVON_ERROR_INPUT)
        snprintf(error->message + length, sizeof error->message - length,
                 "; '%s' is no number, and not taken for a weight", colon + 1);
}

static int open_inputs(struct merge_command *command, struct ivon_error *error)
{
    size_t memory = command->options.memory ? command->options.memory : DEFAULT_MEMORY;
    size_t inputs = command->model_count + (command->base_path != NULL);
    command->options.memory = memory / 2;
    command->open.open.for_several = inputs > 1;
    command->sources = calloc(command->model_count, sizeof *command->sources);
    if (!command->sources)
        exit(EX_OSERR);
    int code = 0;
    if (command->base_path)
        code = open_checkpoint(&command->base, command->base_path, &command->open,
                               memory / 2 / inputs, &command->common, error);
    for (size_t t = 0; t < command->model_count && !code; t++) {
        command->sources[t].weight = command->models[t].weight;
        code = open_checkpoint(&command->sources[t].source, command->models[t].path, &command->open,
                               memory / 2 / inputs, &command->common, error);
        if (code)
            explain_colon(&command->models[t], error);
    }
    return code;
}

/* The sweep's factors, or one factor of 1. Rounded, so that 0.1 three times is 0.3. */
static void list_scales(struct merge_command *command)
{
    command->scale_count =
        command->sweep
            ? (size_t)floor((command->to - command->from) / command->step * (1 + 1e-12) + 1e-9) + 1
            : 1;
    command->scales = calloc(command->scale_count, sizeof *command->scales);
    command->outputs = calloc(command->scale_count, sizeof *command->outputs);
    command->sinks = calloc(command->scale_count, sizeof *command->sinks);
    if (!command->scales || !command->outputs || !command->sinks)
        exit(EX_OSERR);
    for (size_t s = 0; s < command->scale_count; s++) {
        char text[40];
        double scale = command->sweep ? command->from + (double)s * command->step : 1;
        snprintf(text, sizeof text, "%.12g", scale);
        command->scales[s] = strtod(text, NULL);
    }
    command->options.scales = command->scales;
    command->options.scale_count = command->scale_count;
}

/* The output's name for each scale. */
static int name_outputs(struct merge_command *command, struct ivon_error *error)
{
    for (size_t s = 0; s < command->scale_count && command->output; s++) {
        char factor[40];
        snprintf(factor, sizeof factor, "%g", command->scales[s]);
        command->outputs[s] = command->sweep ? output_name(command->output, "%g", factor)
                                             : strdup(command->output);
        if (!command->outputs[s])
            exit(EX_OSERR);
        if (s && strcmp(command->outputs[s], command->outputs[s - 1]) == 0)
            return error_fill(error, IVON_ERROR_ARGUMENT,
                              "--sweep: factors %.12g and %.12g would both be written to '%s'",
                              command->scales[s - 1], command->scales[s], command->outputs[s]);
    }
    return 0;
}

static int add_inputs(const struct merge_command *command, json_t *provenance,
                      struct ivon_error *error)
{
    int code = 0;
    if (command->base_path)
        code = provenance_add_input(provenance, command->base_path, NAN, command->hash, error);
    for (size_t t = 0; t < command->model_count && !code; t++)
        code = provenance_add_input(provenance, command->models[t].path,
                                    command->models[t].weight, command->hash, error);
    return code;
}

static int create_outputs(struct merge_command *command, const char *provenance,
                          struct ivon_error *error)
{
    struct ivon_create_options options = {
        .replace = command->files.force,
        .like = command->base ? command->base : command->sources[0].source};
    char creator[64];
    size_t count;
    const struct ivon_tensor *tensors = ivon_merge_outputs(command->merge, &count);
    snprintf(creator, sizeof creator, "ivon-merge %s", ivon_version());
    int code = 0;
    for (size_t s = 0; s < command->scale_count && !code; s++) {
        struct ivon_header header = ivon_merge_header(command->merge, s);
        header.creator = creator;
        header.provenance = provenance;
        code = ivon_checkpoint_create(&command->sinks[s], command->outputs[s], &header, tensors,
                                      count, &options, error);
    }
    return code;
}

struct tally {
    size_t tensors[3]; /* per fate */
    uint64_t parameters[3];
};

static struct tally count_fates(const struct ivon_merge *merge)
{
    size_t count;
    struct tally tally = {0};
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(merge, &count);
    for (size_t i = 0; i < count; i++) {
        tally.tensors[tensors[i].fate]++;
        tally.parameters[tensors[i].fate] += tensors[i].count;
    }
    return tally;
}

static json_t *result_json(const struct merge_command *command, size_t scale)
{
    struct ivon_header header = ivon_merge_header(command->merge, scale);
    json_t *result = json_object(), *models = json_array();
    double total = 0;
    json_object_set_new(result, "output", report_json_text(command->outputs[scale]));
    json_object_set_new(result, "scale", json_real(command->scales[scale]));
    json_object_set_new(result, "ess", report_json_number(header.ess));
    json_object_set_new(result, "weight_decay", report_json_number(header.weight_decay));
    if (command->dry_run) {
        json_decref(models);
        return result;
    }
    json_object_set_new(
        result, "nonpositive",
        json_integer((json_int_t)ivon_merge_nonpositive_count(command->merge, scale)));
    for (size_t t = 0; t < command->model_count; t++) {
        json_t *model = json_object();
        json_object_set_new(model, "path", report_json_text(command->models[t].path));
        json_object_set_new(model, "weight", json_real(command->models[t].weight));
        json_object_set_new(
            model, "moved",
            report_json_number(ivon_merge_movement(command->merge, t, scale, &total)));
        json_array_append_new(models, model);
    }
    json_object_set_new(result, "models", models);
    if (command->base_path)
        json_object_set_new(result, "moved", report_json_number(total));
    return result;
}

static void print_json(const struct merge_command *command)
{
    static const char *const fates[] = {"merged", "kept", "skipped"};
    struct tally tally = count_fates(command->merge);
    json_t *summary = json_object(), *results = json_array(), *list = json_array();
    for (int fate = 0; fate < 3; fate++) {
        json_t *counts = json_object();
        json_object_set_new(counts, "tensors", json_integer((json_int_t)tally.tensors[fate]));
        json_object_set_new(counts, "parameters",
                            json_integer((json_int_t)tally.parameters[fate]));
        json_object_set_new(summary, fates[fate], counts);
    }
    size_t count;
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(command->merge, &count);
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].fate == IVON_MERGED)
            continue;
        json_t *tensor = json_object();
        json_object_set_new(tensor, "name", report_json_text(tensors[i].name));
        json_object_set_new(tensor, "fate", json_string(fates[tensors[i].fate]));
        json_object_set_new(tensor, "reason", report_json_text(tensors[i].reason));
        json_array_append_new(list, tensor);
    }
    json_object_set_new(summary, "not_merged", list);
    for (size_t s = 0; s < command->scale_count; s++)
        json_array_append_new(results, result_json(command, s));
    json_object_set_new(summary, "results", results);
    report_json_line(summary);
}

/* What the user should know although the merge succeeded. */
static void print_warnings(const struct merge_command *command)
{
    const char *unused = name_filter_unused(&command->filter);
    const char *buffer = ivon_merge_buffer_conflict(command->merge);
    struct tally tally = count_fates(command->merge);
    if (unused)
        report_warning("pattern '%s' matches no tensor", unused);
    open_warn_unused(&command->open);
    if (!tally.tensors[IVON_MERGED])
        report_warning("no tensor was merged");
    if (command->options.on_mismatch != IVON_MISMATCH_ERROR &&
        tally.tensors[IVON_KEPT] + tally.tensors[IVON_SKIPPED])
        report_warning("%zu tensors kept as they were, %zu left out; --json lists them",
                       tally.tensors[IVON_KEPT], tally.tensors[IVON_SKIPPED]);
    if (buffer)
        report_warning("buffer '%s' differs between the inputs; %s's was taken: running "
                       "statistics should be computed again",
                       buffer, command->base_path ? "the base" : "the first model");
    for (size_t s = 0; s < command->scale_count && !command->dry_run; s++) {
        uint64_t count = ivon_merge_nonpositive_count(command->merge, s);
        if (count)
            report_warning("%s: %llu elements kept the base's mean and precision, as the merged "
                           "precision was not positive",
                           command->outputs[s], (unsigned long long)count);
    }
}

static int write_outputs(struct merge_command *command, struct ivon_error *error)
{
    int code = ivon_merge_run(command->merge, command->sinks, error);
    for (size_t s = 0; s < command->scale_count && !code; s++)
        code = ivon_sink_commit(command->sinks[s], error);
    return code;
}

static int merge(struct merge_command *command, json_t *provenance, struct ivon_error *error)
{
    struct progress progress;
    char *text = NULL;
    if (!command->method_given)
        command->options.method =
            command->base_path ? IVON_MERGE_GRADIENT_MATCHING : IVON_MERGE_HESSIAN;
    if (command->filter.count) {
        command->options.selected = name_filter_selects;
        command->options.selected_context = &command->filter;
    }
    command->options.threads = command->common.threads;
    command->options.movement = command->json;
    command->options.progress = progress_start(&progress, "merging", command->common.quiet);
    list_scales(command);
    int code = name_outputs(command, error);
    if (!code)
        code = open_inputs(command, error);
    if (!code)
        code = ivon_merge_plan(&command->merge, command->base, command->sources,
                               command->model_count, &command->options, error);
    if (!code && !command->files.no_provenance && !command->dry_run) {
        code = add_inputs(command, provenance, error);
        text = provenance_text(json_incref(provenance));
    }
    if (!code && !command->dry_run)
        code = create_outputs(command, text, error);
    if (!code && !command->dry_run)
        code = write_outputs(command, error);
    progress_end(&progress);
    free(text);
    return code;
}

static void describe(const struct merge_command *command)
{
    struct tally tally = count_fates(command->merge);
    char parameters[32], bytes[32];
    report_note("%s %zu tensors with %s parameters, kept %zu, left out %zu; %s of input",
                command->dry_run ? "would merge" : "merged", tally.tensors[IVON_MERGED],
                report_count(tally.parameters[IVON_MERGED], parameters), tally.tensors[IVON_KEPT],
                tally.tensors[IVON_SKIPPED],
                report_bytes((double)ivon_merge_input_bytes(command->merge), bytes));
}

static void release(struct merge_command *command)
{
    ivon_merge_free(command->merge);
    for (size_t s = 0; s < command->scale_count; s++) {
        ivon_sink_close(command->sinks[s]);
        free(command->outputs[s]);
    }
    for (size_t t = 0; t < command->model_count; t++) {
        if (command->sources)
            ivon_source_close(command->sources[t].source);
        free(command->models[t].path);
    }
    ivon_source_close(command->base);
    name_filter_release(&command->filter);
    open_options_release(&command->open);
    free(command->sinks);
    free(command->outputs);
    free(command->scales);
    free(command->sources);
    free(command->models);
}

int merge_run(int argc, char **argv)
{
    struct merge_command command = {.options = ivon_merge_defaults()};
    struct ivon_error error = {0};
    json_t *provenance = provenance_new(argc, argv);
    argp_parse(&merge_argp, argc, argv, 0, NULL, &command);
    int code = merge(&command, provenance, &error);
    int status = code ? report_error(&error) : 0;
    if (!code && command.json)
        print_json(&command);
    if (!code && !command.common.quiet)
        print_warnings(&command);
    if (!code && (command.common.verbose || (command.dry_run && !command.json)))
        describe(&command);
    if (code == IVON_ERROR_CANCELLED && progress_interrupted())
        status = progress_interrupted();
    json_decref(provenance);
    release(&command);
    return status;
}
