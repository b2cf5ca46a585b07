/* --structure=swag: a posterior of the checkpoints of a training, without data. */
#include <math.h>
#include <stdlib.h>
#include <sysexits.h>

#include "cmd/fit/fit.h"
#include "cmd/shared/outputs/checkpoint.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/report.h"

enum { SWAG_DEFAULT_RANK = 20 };

/* Ends the program where an option is given that is about data, or their curvature. */
static void swag_check_data_options(const struct fit_command *command, struct argp_state *state)
{
    const struct evaluation_options *evaluation = &command->evaluation;
    const struct ivon_dataset_options *dataset = &evaluation->dataset;
    const struct ivon_fit_options *options = &command->options;
    bool data = evaluation->data || dataset->input_count || dataset->targets ||
                dataset->target_column || dataset->channel_count || dataset->no_scaling ||
                dataset->limit || dataset->context || dataset->vocabulary ||
                dataset->image_height || evaluation->batch || evaluation->memory ||
                evaluation->task.likelihood != IVON_CATEGORICAL ||
                !isnan(evaluation->task.noise_std) || evaluation->ignored_given;
    if (data)
        argp_failure(state, EX_USAGE, 0,
                     "--structure=swag needs no data: --data and the options about data, their "
                     "likelihood, --batch and --memory do not go with it");
    if (options->curvature != IVON_CURVATURE_AUTO || command->drawn || options->reduce ||
        options->factor_moments || options->gram || options->factor_rows || options->seed ||
        command->tuned || command->validation || command->resume || !isnan(options->weight_decay))
        argp_failure(state, EX_USAGE, 0,
                     "--structure=swag has no curvature: --curvature, --fisher-samples, --shared, "
                     "--moments, --gram, --max-factor, --seed, --weight-decay, --tune, --resume "
                     "and --validation do not go with it");
}

void fit_check_swag(struct fit_command *command, struct argp_state *state)
{
    struct ivon_fit_options *options = &command->options;
    if (command->input_count < 2)
        argp_failure(state, EX_USAGE, 0,
                     "--structure=swag needs two checkpoints of a training at least");
    if (!command->output)
        argp_failure(state, EX_USAGE, 0, "no output given: name one by -o");
    swag_check_data_options(command, state);
    open_check_hessian(&command->open, true, state);
    if (command->ranked && options->rank == 1)
        argp_failure(state, EX_USAGE, 0,
                     "--rank: '1', expected 0 or at least 2 for --structure=swag");
    if (!command->ranked)
        options->rank = SWAG_DEFAULT_RANK;
    if (command->evaluation.graph.given && !command->evaluation.model)
        argp_failure(state, EX_USAGE, 0,
                     "the options of graphs are for --model with --structure=swag");
}

/* Opens the last checkpoint, with the graph that --model names, if any. */
static int swag_open_last(struct fit_command *command, struct ivon_error *error)
{
    const char *path = command->inputs[command->input_count - 1];
    if (!command->evaluation.model)
        return open_checkpoint(&command->source, path, &command->open, 0, &command->common, error);
    int code = evaluation_open_posterior(&command->evaluation, path, &command->open,
                                         &command->common, &command->source, &command->network,
                                         error);
    return code ? code
                : ivon_onnx_write(&command->graph, &command->graph_size, command->network, NULL,
                                  error);
}

static int swag_add_all(struct fit_command *command, struct ivon_swag *swag, json_t *provenance,
                        struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < command->input_count && !code; i++) {
        struct ivon_source *source = NULL;
        bool last = i + 1 == command->input_count;
        code = provenance_add_input(provenance, command->inputs[i], NAN, false, error);
        if (!code && !last)
            code = open_checkpoint(&source, command->inputs[i], &command->open, 0, &command->common,
                                   error);
        if (!code)
            code = ivon_swag_add(swag, last ? command->source : source, error);
        ivon_source_close(source);
    }
    return code ? code : ivon_swag_finish(swag, error);
}

static void swag_print(const struct ivon_swag_summary *summary, bool json)
{
    if (json) {
        json_t *object = json_pack(
            "{s:I, s:I, s:I, s:o, s:I}", "checkpoints", (json_int_t)summary->checkpoints,
            "parameters", (json_int_t)summary->parameters, "still", (json_int_t)summary->still,
            "ess", report_json_number(summary->ess), "rank", (json_int_t)summary->rank);
        if (summary->rank) {
            json_object_set_new(object, "first_value", report_json_number(summary->first));
            json_object_set_new(object, "last_value", report_json_number(summary->last));
        }
        report_json_line(object);
        return;
    }
    printf("checkpoints           %zu\n", summary->checkpoints);
    printf("parameters            %zu\n", summary->parameters);
    printf("still                 %zu\n", summary->still);
    printf("ess                   %.9g\n", summary->ess);
    if (summary->rank)
        printf("low rank              %zu, values %.6g to %.6g\n", summary->rank, summary->first,
               summary->last);
}

static int swag_write(struct fit_command *command, struct ivon_swag *swag, json_t *provenance,
                      struct ivon_error *error)
{
    int code = ivon_swag_source(&command->result, swag, command->source, command->graph,
                                command->graph_size, error);
    return code ? code : fit_write_result(command, provenance, error);
}

int fit_swag(struct fit_command *command, json_t *provenance, struct ivon_error *error)
{
    struct ivon_swag_options options = ivon_swag_defaults();
    struct ivon_swag *swag = NULL;
    struct progress progress;
    command->options.resources.threads = command->common.threads;
    command->options.resources.progress = progress_start(&progress, "averaging",
                                                         command->common.quiet);
    progress.unit = "weights";
    command->open.open.for_several = true;
    options.rank = command->options.rank;
    options.ess = command->options.ess;
    options.resources = command->options.resources;
    if (command->filter.count) {
        options.selected = name_filter_selects;
        options.selected_context = &command->filter;
    }
    int code = ivon_swag_new(&swag, &options, error);
    if (!code)
        code = swag_open_last(command, error);
    if (!code)
        code = checkpoint_output_try(command->output, command->source, IVON_HESSIAN,
                                     &command->files, error);
    if (!code)
        code = swag_add_all(command, swag, provenance, error);
    if (!code)
        code = swag_write(command, swag, provenance, error);
    progress_end(&progress);
    if (!code && !command->common.quiet) {
        struct ivon_swag_summary summary = ivon_swag_summary(swag);
        swag_print(&summary, command->json);
    }
    ivon_source_close(command->result);
    command->result = NULL;
    ivon_swag_free(swag);
    return code;
}
