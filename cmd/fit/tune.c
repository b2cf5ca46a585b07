#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sysexits.h>

#include "cmd/fit/fit.h"
#include "cmd/shared/outputs/checkpoint.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/report.h"

/* The prior that was chosen, and the one that was there before. */
struct tuned {
    struct ivon_tuning_summary before, after;
    double nll; /* NaN: by the evidence */
};

void fit_tune_check(const struct fit_command *command, struct argp_state *state)
{
    if (command->of_data)
        argp_failure(state, EX_USAGE, 0, "--%s is for a fit, which needs --data=FILE",
                     command->of_data);
    if (command->evaluation.dataset.limit)
        argp_failure(state, EX_USAGE, 0, "--limit is for --data");
    if (command->by_validation)
        evaluation_check_noise(&command->evaluation, state);
    else if (command->evaluation.model || command->evaluation.graph.given)
        argp_failure(state, EX_USAGE, 0,
                     "the evidence of a posterior that there is runs no network: --model and what "
                     "is said of a graph do not go with it");
}

static int tune_expect_hessian(const struct fit_command *command, struct ivon_error *error)
{
    const struct ivon_source *source = command->source;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        if (ivon_source_tensor(source, i)->part == IVON_HESSIAN)
            return 0;
    return error_fill(error, IVON_ERROR_DATA,
                      "%s: holds no Hessian to tune by: a fit to --data=FILE gives it one",
                      command->input);
}

static int tune_open(struct fit_command *command, struct ivon_error *error)
{
    struct evaluation_options *evaluation = &command->evaluation;
    struct ivon_dataset_options dataset = evaluation->dataset;
    if (!command->by_validation)
        return open_checkpoint(&command->source, command->input, &command->open, evaluation->memory,
                               &command->common, error);
    int code = evaluation_open_posterior(evaluation, command->input, &command->open,
                                         &command->common, &command->source, &command->network,
                                         error);
    if (!code)
        evaluation_name_inputs(evaluation, command->network, NULL);
    return code ? code
                : evaluation_open_named(evaluation, &command->held_out, command->validation,
                                        &dataset, error);
}

static int tune_set(const struct fit_search *search, const double value[FIT_AXES],
                    struct ivon_error *error)
{
    return ivon_tuning_set(search->command->tuning,
                           search->moves[FIT_DECAY] ? value[FIT_DECAY] : NAN,
                           value[FIT_TEMPERATURE], error);
}

static int tune_make(const struct fit_search *search, const double value[FIT_AXES],
                     struct ivon_source **source, struct ivon_error *error)
{
    int code = tune_set(search, value, error);
    return code ? code : ivon_tuning_source(source, search->command->tuning, error);
}

/* A search begins at the posterior's own weight decay, where all Hessians have one, else at that of
   greatest evidence. */
static int tune_by_validation(struct fit_command *command, double *nll, struct ivon_error *error)
{
    struct ivon_tuning_summary summary = ivon_tuning_summary(command->tuning);
    bool fixed = summary.rank > 0;
    int code = fixed || summary.weight_decay > 0
                   ? 0
                   : ivon_tuning_maximize(command->tuning, false, error);
    if (code)
        return code;
    struct fit_search search = {
        .command = command,
        .moves = {[FIT_DECAY] = !fixed, [FIT_TEMPERATURE] = true},
        .value = {[FIT_DECAY] = ivon_tuning_summary(command->tuning).weight_decay,
                  [FIT_TEMPERATURE] = 1},
        .floor = -summary.least,
        .make = tune_make};
    if (fixed && !command->common.quiet)
        report_note("%s: a low-rank correction holds for its weight decay alone, which stays: the "
                    "temperature is tuned",
                    command->input);
    code = fit_search_run(&search, error);
    *nll = search.nll;
    return code ? code : tune_set(&search, search.value, error);
}

/* The tensors that the output's format can hold. */
static int tune_choose(struct fit_command *command, struct ivon_source *tuned,
                       struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(tuned), chosen = 0;
    struct ivon_create_options create = ivon_create_defaults();
    struct ivon_subset_item *items = xcalloc(count + 1, sizeof *items);
    create.like = command->source;
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(tuned, i);
        if (tensor->part != IVON_OPAQUE &&
            ivon_checkpoint_carries(command->output, &create, tensor))
            items[chosen++] = (struct ivon_subset_item){i, tensor->name};
    }
    int code = ivon_tensor_subset(&command->result, tuned, ivon_source_header(tuned), items, chosen,
                                  error);
    free(items);
    return code;
}

static int tune_write(struct fit_command *command, json_t *provenance, struct ivon_error *error)
{
    struct ivon_source *tuned = NULL;
    int code = ivon_tuning_source(&tuned, command->tuning, error);
    if (!code)
        code = tune_choose(command, tuned, error);
    if (!code)
        code = fit_write_result(command, provenance, error);
    ivon_source_close(command->result);
    command->result = NULL;
    ivon_source_close(tuned);
    return code;
}

/* Printing. */

static void tune_print_json(const struct tuned *tuned, double gain)
{
    const struct ivon_tuning_summary *after = &tuned->after;
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"n_train", after->n_train},
                   {"ess", after->ess},
                   {"weight_decay", after->weight_decay},
                   {"effective_parameters", after->effective},
                   {"squared_norm", after->squares},
                   {"evidence_gain", gain},
                   {"nll", tuned->nll}};
    json_t *object = json_pack("{s:I}", "parameters", (json_int_t)after->parameters);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (isfinite(numbers[i].value))
            json_object_set_new(object, numbers[i].name, report_json_number(numbers[i].value));
    report_json_line(object);
}

static void tune_print(const struct fit_command *command, const struct tuned *tuned)
{
    const struct ivon_tuning_summary *after = &tuned->after;
    double gain = after->evidence - tuned->before.evidence;
    if (command->json) {
        tune_print_json(tuned, gain);
        return;
    }
    printf("n_train               %.9g\n", after->n_train);
    printf("parameters            %zu\n", after->parameters);
    if (isnan(after->ess))
        printf("ess                   one for each Hessian\n");
    else
        printf("ess                   %.9g\n", after->ess);
    if (isnan(after->weight_decay))
        printf("weight_decay          one for each Hessian\n");
    else
        printf("weight_decay          %.6g\n", after->weight_decay);
    printf("effective parameters  %.6g\n", after->effective);
    if (isfinite(gain))
        printf("evidence gain / N     %.6g\n", gain);
    if (!isnan(tuned->nll))
        printf("validation NLL        %.6g\n", tuned->nll);
}

int fit_tune_alone(struct fit_command *command, json_t *provenance, struct ivon_error *error)
{
    struct progress progress;
    struct tuned tuned = {.nll = NAN};
    command->options.resources.progress = progress_start(&progress, "writing",
                                                         command->common.quiet);
    int code = tune_open(command, error);
    if (!code)
        code = tune_expect_hessian(command, error);
    if (!code)
        code = checkpoint_output_try(command->output, command->source, IVON_HESSIAN,
                                     &command->files, error);
    if (!code)
        code = provenance_add_input(provenance, command->input, NAN, false, error);
    if (!code)
        code = ivon_tuning_new(&command->tuning, command->source, error);
    if (!code) {
        tuned.before = ivon_tuning_summary(command->tuning);
        code = command->by_validation
                   ? tune_by_validation(command, &tuned.nll, error)
                   : ivon_tuning_maximize(command->tuning, command->options.each, error);
    }
    if (!code)
        code = tune_write(command, provenance, error);
    progress_end(&progress);
    if (code || command->common.quiet)
        return code;
    tuned.after = ivon_tuning_summary(command->tuning);
    tune_print(command, &tuned);
    return 0;
}
