/* The evaluation of merges in memory: as many at a time as memory holds, each run on all data. */
#define _GNU_SOURCE
#include "cmd/merge/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"

enum {
    BATCH_MAX = 64, /* results of one pass: each has blocks of its own in every thread */
    ALIGNMENT = 64,
    MEMORY_SHARE = 2, /* of the merge's memory: what the results of a batch may take, beside it */
};

/* A result in memory. */
struct merged_model {
    void **data; /* of the plan's outputs; null: what is not kept */
    struct ivon_sink *sink;
    struct ivon_source *source;
    struct ivon_network *network;
    char name[80]; /* in messages */
};

struct evaluation {
    struct merge_command *command;
    struct evaluation_options *options;
    struct ivon_examples **examples; /* per data set; null until a network names its inputs */
    struct ivon_progress outer;      /* of the command: what a library call reports goes there as */
    uint64_t done, total;            /* how many results were run on how many data sets */
    size_t batch;                    /* results at a time */
    struct merged_model models[BATCH_MAX];
    bool warned; /* of what data and graph are */
};

static int evaluation_report(void *context, uint64_t done, uint64_t total)
{
    struct evaluation *evaluation = context;
    (void)done;
    (void)total;
    return evaluation->outer.report(evaluation->outer.context, evaluation->done, evaluation->total);
}

/* Plans the results [first, first + count), as they are run in memory. */
static int plan_batch(struct evaluation *evaluation, size_t first, size_t count,
                      struct ivon_error *error)
{
    struct merge_command *command = evaluation->command;
    struct ivon_merge_options options = command->options;
    options.carries = NULL;
    if (options.out_structure == IVON_MERGE_MEANS) /* samples and the graph are needed here */
        options.out_structure = IVON_MERGE_STRUCTURE_KEEP;
    options.movement = false;
    options.resources.progress = (struct ivon_progress){evaluation_report, evaluation};
    options.resources.memory /= MEMORY_SHARE;
    if (options.vectors) {
        options.vectors += first * command->model_count;
        options.vector_count = count;
    } else {
        options.scales += first;
        options.scale_count = count;
    }
    ivon_merge_free(command->merge);
    command->merge = NULL;
    return ivon_merge_plan(&command->merge, command->base, command->sources, command->model_count,
                           &options, error);
}

/* The same in every result: these are kept once in a batch. */
static bool is_shared(const struct ivon_tensor *tensor)
{
    return tensor->part == IVON_BUFFER || tensor->part == IVON_GRAPH;
}

/* The mean of a network asks for no covariance. */
static bool is_in_memory(const struct evaluation *evaluation, const struct ivon_tensor *tensor)
{
    return tensor->part != IVON_MOMENTUM &&
           (tensor->part == IVON_MEAN || is_shared(tensor) || evaluation->command->search.samples);
}

static size_t kept_bytes(const struct ivon_tensor *tensor)
{
    size_t bytes = tensor->count * ivon_dtype_size(tensor->dtype);
    return (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
}

/* As many results as memory holds, at least one: a network's weights are in memory in any case. */
static void choose_batch(struct evaluation *evaluation)
{
    const struct merge_command *command = evaluation->command;
    size_t count, bytes = 0;
    const struct ivon_tensor *tensors = ivon_merge_outputs(command->merge, &count);
    for (size_t i = 0; i < count; i++)
        if (is_in_memory(evaluation, &tensors[i]) && !is_shared(&tensors[i]))
            bytes += kept_bytes(&tensors[i]);
    size_t fit = command->options.resources.memory / MEMORY_SHARE / (bytes + 1);
    evaluation->batch = fit < 1 ? 1 : fit < BATCH_MAX ? fit : BATCH_MAX;
}

static int model_allocate(const struct evaluation *evaluation, struct merged_model *model,
                          const struct ivon_tensor *tensors, size_t count, struct ivon_error *error)
{
    bool first = model == evaluation->models;
    model->data = xcalloc(count + 1, sizeof *model->data);
    for (size_t i = 0; i < count; i++) {
        if (!is_in_memory(evaluation, &tensors[i]) || (is_shared(&tensors[i]) && !first))
            continue;
        model->data[i] = aligned_alloc(ALIGNMENT, kept_bytes(&tensors[i]));
        if (!model->data[i])
            return error_memory(error);
    }
    return ivon_sink_to_memory(&model->sink, tensors, model->data, count, error);
}

static void release_batch(struct evaluation *evaluation)
{
    size_t count = 0;
    if (evaluation->command->merge)
        ivon_merge_outputs(evaluation->command->merge, &count);
    for (size_t i = 0; i < BATCH_MAX; i++) {
        struct merged_model *model = &evaluation->models[i];
        ivon_network_free(model->network);
        ivon_source_close(model->source);
        ivon_sink_close(model->sink);
        for (size_t j = 0; model->data && j < count; j++)
            free(model->data[j]);
        free(model->data);
        *model = (struct merged_model){0};
    }
}

static int merge_batch(struct evaluation *evaluation, size_t first, size_t count,
                       struct ivon_error *error)
{
    struct merge_command *command = evaluation->command;
    struct ivon_sink *sinks[BATCH_MAX];
    size_t tensor_count;
    int code = plan_batch(evaluation, first, count, error);
    if (code)
        return code;
    const struct ivon_tensor *tensors = ivon_merge_outputs(command->merge, &tensor_count);
    for (size_t i = 0; i < count && !code; i++) {
        code = model_allocate(evaluation, &evaluation->models[i], tensors, tensor_count, error);
        sinks[i] = evaluation->models[i].sink;
    }
    if (!code)
        code = ivon_merge_run(command->merge, sinks, error);
    for (size_t i = 0; i < count && !code; i++)
        command->evaluated->nonpositive += ivon_merge_nonpositive_count(command->merge, i) > 0;
    return code;
}

/* Makes a source of what was kept of a result, and its network. */
static int open_model(struct evaluation *evaluation, size_t place, size_t result,
                      struct ivon_error *error)
{
    struct merge_command *command = evaluation->command;
    struct merged_model *model = &evaluation->models[place];
    struct common_options common = command->common;
    struct ivon_header header = ivon_merge_header(command->merge, place);
    size_t count, kept = 0;
    const struct ivon_tensor *tensors = ivon_merge_outputs(command->merge, &count);
    struct ivon_tensor *list = xcalloc(count + 1, sizeof *list);
    const void **data = xcalloc(count + 1, sizeof *data);
    for (size_t i = 0; i < count; i++) {
        const struct merged_model *owner = is_shared(&tensors[i]) ? evaluation->models : model;
        if (!owner->data[i])
            continue;
        list[kept] = tensors[i];
        if (tensors[i].part == IVON_HESSIAN && isnan(tensors[i].ess))
            list[kept].ess = header.ess;
        if (tensors[i].part == IVON_HESSIAN && isnan(tensors[i].weight_decay))
            list[kept].weight_decay = header.weight_decay;
        data[kept++] = owner->data[i];
    }
    snprintf(model->name, sizeof model->name, "merge %zu of %zu", result + 1, command->scale_count);
    int code = ivon_source_from_memory(&model->source, model->name, &header, list, data, kept,
                                       error);
    common.quiet |= evaluation->warned; /* all others are like the first */
    if (!code)
        code = evaluation_open_network(evaluation->options, model->source, model->name, &common,
                                       &model->network, error);
    free(list);
    free(data);
    return code;
}

/* Opens the data sets; each finds the arrays of its inputs for itself. */
static int evaluate_open_data(struct evaluation *evaluation, struct ivon_network *network,
                              struct ivon_error *error)
{
    const struct merge_search *search = &evaluation->command->search;
    struct evaluation_options *options = evaluation->options;
    const char *targets = evaluation_targets(options);
    evaluation_name_inputs(options, network, NULL);
    const struct ivon_dataset_options dataset = options->dataset;
    int code = 0;
    for (size_t d = 0; d < search->data_count && !code; d++) {
        options->dataset = dataset;
        options->data = search->data[d];
        code = evaluation_open_named(options, &evaluation->examples[d], search->data[d], &dataset,
                                     error);
        if (!code && ivon_examples_find(evaluation->examples[d], targets) < 0)
            code = evaluation_no_targets(search->data[d], targets, error);
    }
    options->dataset = dataset;
    return code;
}

/* Fails where no target of the data counts. */
static int check_positions(struct evaluation *evaluation, size_t data,
                           const struct ivon_predict_shape *shape, struct ivon_error *error)
{
    struct evaluation_options *options = evaluation->options;
    struct ivon_positions positions;
    int code = ivon_positions_count(&positions, evaluation->examples[data],
                                    evaluation_targets(options), options->task.likelihood,
                                    shape->outputs, options->task.ignored, error);
    options->data = evaluation->command->search.data[data];
    return !code && !positions.counted ? evaluation_nothing_counts(options, options->data, error)
                                       : code;
}

/* Runs a model on a data set, as ivon-predict does. */
static int run_model(struct evaluation *evaluation, const struct merged_model *model, size_t result,
                     size_t data, struct ivon_error *error)
{
    struct merge_command *command = evaluation->command;
    const struct evaluation_options *given = evaluation->options;
    struct ivon_predict_options options = ivon_predict_defaults();
    const struct ivon_member member = {model->network, model->source, 1};
    struct ivon_predictor *predictor = NULL;
    size_t count = 0;
    options.task = given->task;
    options.samples = command->search.samples;
    options.sample = command->search.sample;
    options.batch = given->batch;
    options.resources.threads = command->common.threads;
    options.resources.memory = command->options.resources.memory / MEMORY_SHARE;
    options.resources.progress = (struct ivon_progress){evaluation_report, evaluation};
    int code = ivon_predictor_new(&predictor, &member, 1, evaluation->examples[data],
                                  evaluation_targets(given), &options, error);
    if (!code && !result) {
        struct ivon_predict_shape shape = ivon_predictor_shape(predictor);
        code = check_positions(evaluation, data, &shape, error);
    }
    if (!code)
        code = ivon_predictor_run(predictor, NULL, NULL, error);
    if (!code) {
        const struct ivon_predict_metric *metrics = ivon_predictor_metrics(predictor, &count);
        code = merge_table_set(command->evaluated, result, data, metrics, count, error);
    }
    if (!code && !result && !command->common.quiet)
        evaluation_warn(predictor, evaluation->examples[data],
                        given->model ? given->model : model->name);
    ivon_predictor_free(predictor);
    evaluation->done++;
    return code;
}

/* Runs the results of a batch on all data. */
static int run_batch(struct evaluation *evaluation, size_t first, size_t count,
                     struct ivon_error *error)
{
    const struct merge_search *search = &evaluation->command->search;
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        struct merged_model *model = &evaluation->models[i];
        code = open_model(evaluation, i, first + i, error);
        if (!code && !evaluation->examples[0])
            code = evaluate_open_data(evaluation, model->network, error);
        for (size_t d = 0; d < search->data_count && !code; d++)
            code = run_model(evaluation, model, first + i, d, error);
        evaluation->warned = true;
        ivon_network_free(model->network);
        model->network = NULL;
    }
    return code;
}

/* A batch for which memory is too short after all, as each result has blocks of its own in every
   thread, is halved. */
static int evaluate_all(struct evaluation *evaluation, struct ivon_error *error)
{
    const struct merge_command *command = evaluation->command;
    int code = plan_batch(evaluation, 0, 1, error);
    if (!code)
        choose_batch(evaluation);
    for (size_t first = 0; first < command->scale_count && !code;) {
        size_t left = command->scale_count - first;
        size_t count = left < evaluation->batch ? left : evaluation->batch;
        code = merge_batch(evaluation, first, count, error);
        if (code == IVON_ERROR_MEMORY && count > 1) {
            evaluation->batch = count / 2;
            code = 0;
        } else if (!code) {
            code = run_batch(evaluation, first, count, error);
            first += count;
        }
        release_batch(evaluation);
    }
    return code;
}

/* Leaves of the results the one that was picked. */
static void keep_pick(struct merge_command *command)
{
    size_t pick = command->evaluated->pick;
    command->scales[0] = command->scales[pick];
    command->options.scale_count = command->options.vector_count = 1;
    if (command->options.vectors)
        command->options.vectors += pick * command->model_count;
    command->scale_count = command->output != NULL;
    if (!command->output)
        return;
    command->outputs[0] = xstrdup(command->output);
    ivon_merge_free(command->merge);
    command->merge = NULL;
}

int merge_evaluate(struct merge_command *command, const char *creator, struct ivon_error *error)
{
    const struct merge_search *search = &command->search;
    struct evaluation *evaluation = xcalloc(1, sizeof *evaluation);
    *evaluation = (struct evaluation){
        .command = command,
        .options = &command->search.evaluation,
        .examples = xcalloc(search->data_count, sizeof(struct ivon_examples *)),
        .outer = command->options.resources.progress,
        .total = (uint64_t)command->scale_count * search->data_count};
    evaluation->options->dataset.no_sandbox = command->open.open.no_sandbox;
    command->evaluated = merge_table_new(command);
    command->progress.label = "evaluating";
    command->progress.unit = "predictions";
    int code = evaluate_all(evaluation, error);
    if (!code)
        code = merge_table_judge(command->evaluated, search, error);
    if (!code) /* processors differ in the last bits, and all merge one result */
        code = ivon_ranks_share(ranks_joined(), &command->evaluated->pick,
                                sizeof command->evaluated->pick, error);
    if (!code && search->table && ranks_first())
        code = merge_table_write(command, creator, error);
    progress_end(&command->progress);
    if (!code && !command->json && !(search->table && strcmp(search->table, "-") == 0))
        merge_table_print(command);
    command->progress.label = "merging";
    command->progress.unit = NULL;
    if (!code)
        keep_pick(command);
    for (size_t d = 0; d < search->data_count; d++)
        ivon_examples_close(evaluation->examples[d]);
    free(evaluation->examples);
    free(evaluation);
    return code;
}
