/* --remove: the posterior without some examples. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/sensitivity/sensitivity.h"
#include "cmd/shared/outputs/checkpoint.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/outputs/provenance.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/evaluation/removal.h"
#include "cmd/shared/report.h"

void sensitivity_parse_rows(struct sensitivity_command *command, struct argp_state *state,
                            const char *argument)
{
    free(command->ranges);
    command->ranges = row_ranges_parse(state, "--remove", argument, &command->range_count);
}

void sensitivity_check_remove(const struct sensitivity_command *command, struct argp_state *state)
{
    const struct ivon_sensitivity_options *options = &command->options;
    if (!command->output)
        argp_failure(state, EX_USAGE, 0, "--remove writes a posterior: name it by -o");
    if (command->groups || command->on || command->vectors || command->sorted ||
        command->per_token || command->resume || command->score_given || options->samples ||
        options->covariance == IVON_COVARIANCE_DIAGONAL || command->format_given ||
        command->evaluation.dataset.limit)
        argp_failure(state, EX_USAGE, 0,
                     "--remove writes a posterior: --groups, --on, --score, --covariance, "
                     "--expectation, --vectors, --per-token, --sort, --top, --format, --resume and "
                     "--limit do not go with it");
}

int sensitivity_select_rows(struct sensitivity_command *command, struct ivon_error *error)
{
    uint64_t *rows = NULL, count = 0;
    int code = row_ranges_list(command->ranges, command->range_count, "--remove",
                               command->evaluation.data, ivon_examples_count(command->examples),
                               &rows, &count, error);
    if (!code)
        code = ivon_examples_select(&command->removed, command->examples, rows, count, error);
    free(rows);
    return code;
}

/* Writes the posterior that remains, on rank 0 alone. */
static int remove_write(struct sensitivity_command *command, struct ivon_error *error)
{
    struct ivon_source *remainder = NULL;
    struct ivon_resources alone = command->options.resources;
    alone.ranks = NULL;
    const struct checkpoint_output output = {.path = command->output,
                                             .command = "ivon-sensitivity",
                                             .like = command->source,
                                             .files = &command->files,
                                             .provenance = command->provenance,
                                             .resources = alone};
    int code = provenance_add_input(command->provenance, command->posterior, NAN, false, error);
    if (!code)
        code = ivon_sensitivity_remainder(&remainder, command->sensitivity, error);
    if (!code)
        code = checkpoint_output_write(&output, remainder, error);
    ivon_source_close(remainder);
    return code;
}

bool sensitivity_overflows(double loss, double without)
{
    return !isfinite(without) && isfinite(loss);
}

static void remove_print(const struct sensitivity_command *command,
                         const struct ivon_removal *removal)
{
    double rho = ivon_sensitivity_shape(command->sensitivity).rho;
    if (command->json) {
        report_json_line(
            json_pack("{s:I, s:I, s:o, s:o, s:b, s:I, s:o, s:o, s:o, s:o}", "examples",
                      (json_int_t)removal->examples, "positions", (json_int_t)removal->positions,
                      "n_train", report_json_number(removal->n_train), "rho",
                      report_json_number(rho), "leverage", removal->leverage, "steps",
                      (json_int_t)removal->steps, "move", report_json_number(removal->move), "mean",
                      report_json_number(removal->mean), "loss", report_json_number(removal->loss),
                      "loss_without", report_json_number(removal->loss_without)));
        return;
    }
    printf("examples              %" PRIu64 "\n", removal->examples);
    printf("n_train               %.15g\n", removal->n_train);
    printf("leverage              %s\n", removal->leverage ? "newton" : "none");
    printf("move                  %.6g\n", report_number(removal->move));
    printf("mean                  %.6g\n", report_number(removal->mean));
    printf("loss                  %.6g\n", report_number(removal->loss));
    printf("loss without          %.6g\n", report_number(removal->loss_without));
}

int sensitivity_remove(struct sensitivity_command *command, struct ivon_error *error)
{
    struct ivon_removal removal;
    int code = ranks_first() ? checkpoint_output_try(command->output, command->source, IVON_HESSIAN,
                                                     &command->files, error)
                             : 0;
    if (!code)
        code = ivon_sensitivity_remove(command->sensitivity, &removal, error);
    if (!code && ranks_first())
        code = remove_write(command, error);
    if (code || command->common.quiet)
        return code;
    struct ivon_leverage_use use = ivon_sensitivity_leverage(command->sensitivity);
    removal_note_leverage(&use, command->options.leverage == IVON_LEVERAGE_AUTO);
    if (removal.outside)
        report_warning("removed without leverage: the posterior does not hold the curvature of "
                       "these examples together");
    if (sensitivity_overflows(removal.loss, removal.loss_without))
        report_warning("%s: the loss without these examples is not finite: are the inputs "
                       "normalized as for the training?",
                       command->evaluation.data);
    remove_print(command, &removal);
    return 0;
}
