#include "cmd/merge/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"

enum { DEFAULT_MEMORY = 256 << 20 };

/* Adds to an error that the part of the name behind its colon was not taken for a weight. */
static void explain_colon(const struct merge_model *model, struct ivon_error *error)
{
    const char *colon = strrchr(model->path, ':');
    size_t length = strlen(error->message);
    if (colon && error->code == IVON_ERROR_INPUT)
        snprintf(error->message + length, sizeof error->message - length,
                 "; '%s' is no number, and not taken for a weight", colon + 1);
}

/* Opens an input with its own Hessian. */
static int open_input(struct ivon_source **source, struct merge_command *command,
                      const struct merge_model *model, size_t memory, struct ivon_error *error)
{
    struct open_options open = command->open;
    open.open.hessian = model->hessian;
    int code = open_checkpoint(source, model->path, &open, memory, &command->common, error);
    if (!code && model != &command->base_model)
        code = merge_apply_adapter(source, command, error);
    return code || model == &command->base_model ? code : merge_rename(command, source, error);
}

static int merge_open_inputs(struct merge_command *command, struct ivon_error *error)
{
    size_t memory = command->options.resources.memory ? command->options.resources.memory
                                                      : DEFAULT_MEMORY;
    size_t inputs = command->model_count + (command->base_path != NULL);
    command->options.resources.memory = memory / 2;
    command->open.open.for_several = command->model_count > 1 || command->base_path;
    command->sources = xcalloc(command->model_count, sizeof *command->sources);
    int code = 0;
    if (command->base_path)
        code = open_input(&command->base, command, &command->base_model, memory / 2 / inputs,
                          error);
    for (size_t t = 0; t < command->model_count && !code; t++) {
        command->sources[t].weight = command->models[t].weight;
        merge_name_adapter(&command->models[t]);
        code = open_input(&command->sources[t].source, command, &command->models[t],
                          memory / 2 / inputs, error);
        if (code)
            explain_colon(&command->models[t], error);
    }
    return code;
}

/* Lists vectors of weights. */
static int merge_list_vectors(struct merge_command *command, struct ivon_error *error)
{
    struct merge_search *search = &command->search;
    enum ivon_merge_method method = command->options.method;
    bool divides = method == IVON_MERGE_AVERAGE || method == IVON_MERGE_HESSIAN ||
                   (method == IVON_MERGE_SLERP && !command->base_path);
    double *own = xcalloc(command->model_count, sizeof *own);
    for (size_t t = 0; t < command->model_count; t++)
        own[t] = command->models[t].weight;
    int code = merge_search_list(search, own, command->model_count, divides,
                                 search->data_count ? MERGE_VECTORS_MAX : MERGE_OUTPUTS_MAX, error);
    free(own);
    command->options.vectors = search->vectors;
    command->options.vector_count = search->vector_count;
    return code;
}

/* The results: of each vector of weights, or each of the sweep's factors, or one of factor 1. */
static int merge_list_results(struct merge_command *command, struct ivon_error *error)
{
    bool vectors = command->search.weights != WEIGHTS_OWN;
    int code = vectors ? merge_list_vectors(command, error) : 0;
    command->scale_count = vectors          ? command->search.vector_count
                           : command->sweep ? (size_t)merge_range_count(&command->range)
                                            : 1;
    command->scales = xcalloc(command->scale_count, sizeof *command->scales);
    command->outputs = xcalloc(command->scale_count, sizeof *command->outputs);
    command->sinks = xcalloc(command->scale_count, sizeof *command->sinks);
    for (size_t s = 0; s < command->scale_count; s++)
        command->scales[s] = command->sweep    ? merge_range_value(&command->range, s)
                             : command->scaled ? command->scale
                                               : 1;
    command->options.scales = vectors ? NULL : command->scales;
    command->options.scale_count = vectors ? 0 : command->scale_count;
    return code;
}

/* The output's name for each result. */
static int name_outputs(struct merge_command *command, struct ivon_error *error)
{
    for (size_t s = 0; s < command->scale_count && command->output; s++) {
        char factor[40];
        snprintf(factor, sizeof factor, "%g", command->scales[s]);
        if (command->options.vectors)
            command->outputs[s] = merge_search_output(&command->search, command->output, s,
                                                      command->model_count);
        else
            command->outputs[s] = command->sweep ? output_name(command->output, "%g", factor)
                                                 : xstrdup(command->output);
        if (s && strcmp(command->outputs[s], command->outputs[s - 1]) == 0)
            return command->options.vectors
                       ? error_fill(error, IVON_ERROR_ARGUMENT,
                                    "--weights: two vectors would both be written to '%s'",
                                    command->outputs[s])
                       : error_fill(error, IVON_ERROR_ARGUMENT,
                                    "--sweep: factors %.12g and %.12g would both be written to "
                                    "'%s'",
                                    command->scales[s - 1], command->scales[s],
                                    command->outputs[s]);
    }
    return 0;
}

static int merge_add_input(const struct merge_command *command, const struct merge_model *model,
                           double weight, json_t *provenance, struct ivon_error *error)
{
    int code = provenance_add_input(provenance, model->path, weight, command->hash, error);
    char *config = model == &command->base_model ? NULL
                                                 : ivon_checkpoint_adapter_config(model->path);
    if (!code && config)
        code = provenance_add_input(provenance, config, NAN, command->hash, error);
    free(config);
    if (!code && model->hessian)
        code = provenance_add_input(provenance, model->hessian, NAN, command->hash, error);
    return code;
}

static int merge_add_inputs(const struct merge_command *command, json_t *provenance,
                            struct ivon_error *error)
{
    int code = 0;
    if (command->recipe)
        code = provenance_add_input(provenance, command->recipe, NAN, command->hash, error);
    if (command->base_path && !code)
        code = merge_add_input(command, &command->base_model, NAN, provenance, error);
    for (size_t t = 0; t < command->model_count && !code; t++)
        code = merge_add_input(command, &command->models[t], command->models[t].weight, provenance,
                               error);
    return code;
}

/* The provenance of one result, to be freed: the weights tell it from the others. */
static char *result_provenance(const struct merge_command *command, size_t result,
                               json_t *provenance)
{
    if (command->options.vectors) {
        json_t *weights = json_array();
        for (size_t t = 0; t < command->model_count; t++)
            json_array_append_new(
                weights, json_real(merge_factor(command, result, t) * command->models[t].weight));
        json_object_set_new(provenance, "weights", weights);
    } else if (command->evaluated) {
        json_object_set_new(provenance, "scale", json_real(command->scales[result]));
    }
    return provenance_text(json_deep_copy(provenance));
}

static int merge_create_outputs(struct merge_command *command, const char *creator,
                                json_t *provenance, struct ivon_error *error)
{
    struct ivon_create_options options = {
        .size = sizeof options,
        .replace = command->files.force,
        .resources = command->options.resources,
        .bare_buffers = command->options.out_structure == IVON_MERGE_MEANS,
        .like = command->base ? command->base : command->sources[0].source};
    size_t count;
    const struct ivon_tensor *tensors = ivon_merge_outputs(command->merge, &count);
    int code = 0;
    for (size_t s = 0; s < command->scale_count && !code; s++) {
        struct ivon_header header = ivon_merge_header(command->merge, s);
        const char *path = command->outputs[s];
        header.creator = creator;
        char *text = provenance ? result_provenance(command, s, provenance) : NULL;
        header.provenance = text;
        if (command->folder.wanted && ranks_first()) {
            code = merge_folder_create(command, s, error);
            if (!code)
                code = merge_folder_weights(command, s, &path, &options, error);
        }
        if (!code)
            code = ivon_checkpoint_create(&command->sinks[s], path, &header, tensors, count,
                                          &options, error);
        free(text);
    }
    return code;
}

static int write_outputs(struct merge_command *command, const char *provenance,
                         struct ivon_error *error)
{
    int code = ivon_merge_run(command->merge, command->sinks, error);
    if (!code && command->extractions)
        return merge_write_adapters(command, provenance, error);
    for (size_t s = 0; s < command->scale_count && !code; s++)
        code = command->folder.wanted && ranks_first()
                   ? merge_folder_commit(command, s, command->sinks[s], error)
                   : ivon_sink_commit(command->sinks[s], error);
    return code;
}

/* Returns whether the outputs can hold an opaque tensor of the base or first model; of a graph,
   whether they are ONNX, which is nothing without one. */
static bool carries(void *context, const struct ivon_tensor *tensor)
{
    static const struct ivon_tensor hessian = {.name = "any", .part = IVON_HESSIAN};
    const struct merge_command *command = context;
    const struct ivon_create_options options = {
        .size = sizeof options, .like = command->base ? command->base : command->sources[0].source};
    if (!command->output || command->lora_rank)
        return false;
    const char *path = command->folder.wanted ? "model.safetensors" : command->output;
    return tensor->part == IVON_GRAPH ? !ivon_checkpoint_carries(path, &options, &hessian)
                                      : ivon_checkpoint_carries(path, &options, tensor);
}

/* Creates and fills the outputs. */
static int merge_write(struct merge_command *command, const char *creator, json_t *provenance,
                       struct ivon_error *error)
{
    char *text = NULL;
    bool card = command->folder.wanted && !command->folder.no_card;
    int code = 0;
    if ((!command->files.no_provenance || card) && ranks_first())
        code = merge_add_inputs(command, provenance, error);
    if (!code && !command->files.no_provenance)
        text = provenance_text(json_deep_copy(provenance));
    if (!code)
        code = command->lora_rank
                   ? merge_create_adapters(command, error)
                   : merge_create_outputs(command, creator,
                                          command->files.no_provenance ? NULL : provenance, error);
    if (!code)
        code = write_outputs(command, text, error);
    if (code)
        merge_folder_explain(command, error);
    free(text);
    return code;
}

/* Several ranks write the outputs, but adapters, and formats that one process writes. */
static struct ivon_ranks *merge_ranks(const struct merge_command *command)
{
    bool shared = !command->lora_rank &&
                  (command->folder.wanted ||
                   (command->outputs[0] && ivon_checkpoint_shared(command->outputs[0], NULL)));
    return shared ? ranks_joined() : NULL;
}

/* A model's directory is for programs that know of no posterior, unless one is asked for. */
static int merge_settle_structure(struct merge_command *command, struct ivon_error *error)
{
    struct ivon_merge_options *options = &command->options;
    if (!command->folder.wanted || command->lora_rank ||
        options->out_structure != IVON_MERGE_STRUCTURE_KEEP)
        return 0;
    options->out_structure = IVON_MERGE_MEANS;
    return isnan(options->ess)
               ? 0
               : error_fill(error, IVON_ERROR_ARGUMENT,
                            "--ess is of a posterior, and a directory gets means alone unless "
                            "--out-structure names what it keeps");
}

/* Merges into files, or says what would be merged. */
static int merge_into_files(struct merge_command *command, const char *creator, json_t *provenance,
                            struct ivon_error *error)
{
    command->options.resources.ranks = merge_ranks(command);
    bool waits = !command->options.resources.ranks && !ranks_first(); /* for rank 0, who writes */
    int code = merge_settle_structure(command, error);
    if (!code)
        code = ivon_merge_plan(&command->merge, command->base, command->sources,
                               command->model_count, &command->options, error);
    if (!code && command->unit_sum)
        code = merge_check_weights(command, error);
    if (!code && command->folder.wanted)
        code = merge_folder_plan(command, provenance, error);
    return code || command->dry_run || waits ? code
                                             : merge_write(command, creator, provenance, error);
}

static int merge(struct merge_command *command, json_t *provenance, struct ivon_error *error)
{
    char creator[64];
    bool evaluates = command->search.data_count > 0;
    snprintf(creator, sizeof creator, "ivon-merge %s", ivon_version());
    if (!command->method_given)
        command->options.method = command->base_path ? IVON_MERGE_GRADIENT_MATCHING
                                                     : IVON_MERGE_HESSIAN;
    if (command->filter.count) {
        command->options.selected = name_filter_selects;
        command->options.selected_context = &command->filter;
    }
    command->options.carries = carries;
    command->options.carries_context = command;
    command->options.resources.threads = command->common.threads;
    command->options.movement = command->json;
    command->options.resources.progress = progress_start(&command->progress, "merging",
                                                         command->common.quiet);
    if (command->lora_rank) {
        command->lora_dtype = command->options.dtype;
        command->options.dtype = IVON_F64;
    }
    int code = merge_list_results(command, error);
    if (!code && !evaluates)
        code = name_outputs(command, error);
    if (!code)
        code = merge_folder_settle(command, error);
    if (!code && evaluates && !command->folder.wanted)
        code = output_refuse(command->output, command->files.force, error);
    if (!code)
        code = merge_open_inputs(command, error);
    if (!code)
        code = merge_settle_weights(command, error);
    if (!code && evaluates)
        code = merge_evaluate(command, creator, error);
    if (!code && (!evaluates || command->output))
        code = merge_into_files(command, creator, provenance, error);
    progress_end(&command->progress);
    return code;
}

static void merge_release(struct merge_command *command)
{
    ivon_merge_free(command->merge);
    merge_table_free(command->evaluated);
    merge_search_release(&command->search);
    for (size_t s = 0; s < command->scale_count; s++) {
        ivon_sink_close(command->sinks[s]);
        if (command->extractions)
            ivon_extraction_free(command->extractions[s]);
        free(command->outputs[s]);
    }
    merge_folder_release(command);
    for (size_t t = 0; t < command->model_count; t++) {
        if (command->sources)
            ivon_source_close(command->sources[t].source);
        weight_rules_release(&command->models[t].rules);
        free(command->models[t].path);
    }
    for (size_t i = 0; i < command->original_count; i++)
        ivon_source_close(command->originals[i]);
    weight_layers_release(&command->layers);
    recipe_tree_free(command->recipe_tree);
    ivon_source_close(command->base);
    rename_release(&command->rules);
    free(command->originals);
    free(command->base_model.path);
    free(command->base_name);
    name_filter_release(&command->filter);
    open_options_release(&command->open);
    free(command->sinks);
    free(command->extractions);
    free(command->outputs);
    free(command->scales);
    free(command->sources);
    free(command->models);
}

/* Inputs are the arguments', and what a recipe names. */
static void merge_confine(const struct merge_command *command, int argc, char **argv)
{
    const char *outputs[] = {command->output, command->search.table};
    size_t count = (size_t)argc;
    char **inputs = xcalloc(count + 2 * command->model_count + 2, sizeof *inputs);
    memcpy(inputs, argv, count * sizeof *inputs);
    for (size_t t = 0; t < command->model_count && command->recipe; t++) {
        inputs[count++] = command->models[t].path;
        if (command->models[t].hessian)
            inputs[count++] = (char *)command->models[t].hessian;
    }
    if (command->recipe && command->base_path)
        inputs[count++] = command->base_model.path;
    confine(&(struct confinement){.off = command->open.open.no_sandbox,
                                  .outputs = outputs,
                                  .output_count = 2},
            (int)count, inputs);
    free(inputs);
}

int merge_run(int argc, char **argv)
{
    struct merge_command command = {.options = ivon_merge_defaults(),
                                    .open.open = ivon_open_defaults(),
                                    .search = merge_search_defaults()};
    struct ivon_error error = {0};
    json_t *provenance = provenance_new(argc, argv);
    argp_parse(&merge_argp, argc, argv, 0, NULL, &command);
    merge_confine(&command, argc, argv);
    int code = merge(&command, provenance, &error);
    int status = progress_status(code, &error);
    bool tells = !status && ranks_first(); /* the others do not know all of the run */
    if (tells && command.dry_run)
        merge_print_plan(&command);
    if (tells && command.json)
        merge_print_json(&command);
    if (tells && !command.common.quiet)
        merge_print_warnings(&command);
    if (tells && command.extractions && !command.json && !command.common.quiet)
        merge_describe_adapters(&command);
    if (tells &&
        (command.common.verbose || (command.dry_run && !command.json && !command.common.quiet)))
        merge_describe(&command);
    json_decref(provenance);
    merge_release(&command);
    return status;
}
