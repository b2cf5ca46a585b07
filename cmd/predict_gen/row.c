#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/predict_gen/predict_gen.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/evaluation/removal.h"
#include "cmd/shared/report.h"

static const double LOG_2_PI = 1.8378770664093454836;

/* Fails where no target of data was summed. */
static int check_counted(const struct predict_gen_command *command, const char *data,
                         const struct removal_sums *sums, struct predict_gen_row *row,
                         struct ivon_error *error)
{
    row->nothing_counts = !sums->loss.examples;
    return row->nothing_counts ? evaluation_nothing_counts(&command->evaluation, data, error) : 0;
}

static int evaluate_losses(const struct predict_gen_command *command, struct ivon_network *network,
                           struct ivon_source *source, struct predict_gen_row *row,
                           struct predict_gen_points *points, struct ivon_sensitivity **sensitivity,
                           struct ivon_sensitivity_shape *shape, struct ivon_error *error)
{
    const char *targets = evaluation_targets(&command->evaluation);
    struct ivon_sensitivity_options plain = command->options;
    struct ivon_sensitivity *test = NULL;
    struct removal_sums sums = {0}, of_test = {0};
    if (points) {
        sums.positions = points->positions;
        sums.losses = points->loss;
        sums.loo_losses = points->loo_loss;
    }
    int code = removal_sum(&sums, network, source, command->examples, targets, &command->options,
                           sensitivity, error);
    if (!code)
        code = check_counted(command, command->evaluation.data, &sums, row, error);
    if (code)
        return code;
    *shape = ivon_sensitivity_shape(*sensitivity);
    struct ivon_leverage_use leverage = ivon_sensitivity_leverage(*sensitivity);
    if (!command->common.quiet)
        removal_note_leverage(&leverage, command->options.leverage == IVON_LEVERAGE_AUTO);
    row->train_loss = ivon_ratio_metric("train_loss", &sums.loss);
    row->train_error = ivon_ratio_metric("train_error", &sums.error);
    row->loo_loss = ivon_ratio_metric("loo_loss", &sums.loo_loss);
    row->loo_error = ivon_ratio_metric("loo_error", &sums.loo_error);
    if (!command->test_examples)
        return 0;
    plain.scores = 0;
    plain.whole = NULL;
    plain.n_train = 1; /* which has no part in losses, and is not counted for them */
    code = removal_sum(&of_test, network, source, command->test_examples, targets, &plain, &test,
                       error);
    if (!code)
        code = check_counted(command, command->test, &of_test, row, error);
    row->test_loss = ivon_ratio_metric("test_loss", &of_test.loss);
    row->test_error = ivon_ratio_metric("test_error", &of_test.error);
    ivon_sensitivity_free(test);
    return code;
}

/* Criteria from weight samples. */

struct criteria {
    struct ivon_information *information;
    size_t samples;
    double exponent;
    double counted;     /* positions whose likelihoods the ratios have */
    double constant;    /* what log-likelihoods have and losses have not, of one example */
    double *log_ratios; /* of the posterior to the draws; null: those stand for it */
    struct predict_gen_points *points; /* null: they are not wanted */
};

static int add_criteria(void *context, const struct ivon_predictions *predictions,
                        struct ivon_error *error)
{
    struct criteria *criteria = context;
    size_t count = predictions->count;
    double *values = calloc(3 * count + 1, sizeof *values);
    struct ivon_log_likelihoods block = {.values = predictions->log_likelihoods,
                                         .samples = criteria->samples,
                                         .first = predictions->first,
                                         .examples = count};
    if (!values)
        return error_memory(error);
    double *loo = values + count, *k = values + 2 * count;
    int code = ivon_waic(&block, criteria->exponent, values, NULL, error);
    if (!code)
        code = ivon_psis_loo_weighted(&block, criteria->exponent, criteria->log_ratios, loo, k,
                                      error);
    for (size_t i = 0; i < 2 * count; i++)
        values[i] -= criteria->constant;
    if (!code)
        ivon_information_add(criteria->information, count, values, loo, k, predictions->positions);
    for (size_t i = 0; i < count && criteria->points && !code; i++) {
        criteria->points->waic[predictions->first + i] = values[i];
        criteria->points->psis_loo[predictions->first + i] = loo[i];
        criteria->points->pareto_k[predictions->first + i] = k[i];
    }
    free(values);
    return code;
}

/* Adds ρ/τ times the log-likelihoods of a block to what each sample has. */
static int add_likelihoods(void *context, const struct ivon_predictions *predictions,
                           struct ivon_error *error)
{
    struct criteria *criteria = context;
    (void)error;
    for (size_t i = 0; i < predictions->count; i++)
        criteria->counted += (double)predictions->positions[i];
    for (size_t s = 0; s < criteria->samples; s++)
        for (size_t i = 0; i < predictions->count; i++)
            if (predictions->positions[i])
                criteria->log_ratios[s] += criteria->exponent *
                                           predictions->log_likelihoods[s * predictions->count + i];
    return 0;
}

/* Runs the samples of a posterior over examples, whose blocks rank 0 has. */
static int run_samples(const struct predict_gen_command *command, const struct ivon_member *member,
                       struct ivon_examples *examples,
                       int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                       struct ivon_error *error),
                       struct criteria *criteria, struct ivon_error *error)
{
    const struct evaluation_options *evaluation = &command->evaluation;
    struct ivon_predict_options options = ivon_predict_defaults();
    struct ivon_predictor *predictor = NULL;
    options.task = evaluation->task;
    options.samples = command->samples;
    options.sample = command->draw.sample;
    options.log_likelihoods = true;
    options.resources = command->options.resources;
    int code = ivon_predictor_new(&predictor, member, 1, examples, evaluation_targets(evaluation),
                                  &options, error);
    if (!code)
        code = ivon_predictor_run(predictor, on_block, criteria, error);
    ivon_predictor_free(predictor);
    return code;
}

/* The ratios of the posterior to what the samples are drawn from:
   (ρ/τ) Σ_i ℓ_is + log prior − log density, over all of the data. */
static int weigh_samples(const struct predict_gen_command *command,
                         const struct ivon_member *member, struct criteria *criteria,
                         double *approximation_k, struct ivon_error *error)
{
    size_t count = command->samples;
    struct ivon_sample_options sample = command->draw.sample;
    double *densities = calloc(2 * count, sizeof *densities);
    criteria->log_ratios = calloc(count, sizeof *criteria->log_ratios);
    sample.resources.threads = command->common.threads;
    int code = densities && criteria->log_ratios ? 0 : error_memory(error);
    if (!code)
        code = ivon_sample_log_densities(member->source, &sample, 0, count, densities,
                                         densities + count, error);
    for (size_t s = 0; s < count && !code; s++)
        criteria->log_ratios[s] = densities[count + s] - densities[s];
    free(densities);
    if (!code)
        code = run_samples(command, member, command->whole, add_likelihoods, criteria, error);
    if (!code)
        code = ivon_ranks_share(ranks_joined(), criteria->log_ratios,
                                count * sizeof *criteria->log_ratios, error);
    return code ? code : ivon_psis_k(criteria->log_ratios, count, approximation_k, error);
}

/* Ratios have the likelihood of the data that are there, posteriors that of what they were trained
   on. */
static void warn_of_missing_data(const struct predict_gen_command *command,
                                 const struct criteria *criteria, double n_train)
{
    if (command->importance && !command->common.quiet && fabs(criteria->counted - n_train) > 0.5)
        report_warning("%s: --importance takes these for all the training data, but they count "
                       "%.15g, and N is %.15g",
                       command->evaluation.data, criteria->counted, n_train);
}

static int evaluate_samples(const struct predict_gen_command *command, struct ivon_network *network,
                            struct ivon_source *source, const struct ivon_sensitivity_shape *shape,
                            struct predict_gen_row *row, struct predict_gen_points *points,
                            struct ivon_error *error)
{
    const struct evaluation_options *evaluation = &command->evaluation;
    const struct ivon_member member = {network, source, 1};
    double s = evaluation->task.noise_std, tokens = shape->tokens ? (double)shape->tokens : 1;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        evaluation->task.likelihood);
    size_t targets = ivon_likelihood_targets(evaluation->task.likelihood, shape->outputs);
    double constant = traits->noise ? log(s) + LOG_2_PI / 2 : traits->variances ? LOG_2_PI / 2 : 0;
    struct criteria criteria = {.points = points,
                                .samples = command->samples,
                                .exponent = shape->rho / command->draw.sample.temperature,
                                .constant = tokens * (double)targets * constant};
    int code = ivon_information_new(&criteria.information, command->samples, error);
    if (!code && command->importance)
        code = weigh_samples(command, &member, &criteria, &row->approximation_k, error);
    if (!code)
        code = run_samples(command, &member, command->examples, add_criteria, &criteria, error);
    if (!code) {
        struct ivon_information_summary summary = ivon_information_summarize(criteria.information);
        row->waic = summary.waic;
        row->psis_loo = summary.psis_loo;
        row->pareto_k_bad = (int64_t)summary.pareto_k_high;
        row->samples = command->samples;
        warn_of_missing_data(command, &criteria, shape->n_train);
    }
    free(criteria.log_ratios);
    ivon_information_free(criteria.information);
    return code;
}

/* Leaves out one class after the other. */
static int evaluate_classes(const struct predict_gen_command *command,
                            struct ivon_sensitivity *sensitivity,
                            const struct ivon_sensitivity_shape *shape, struct predict_gen_row *row,
                            struct ivon_error *error)
{
    ptrdiff_t field = ivon_examples_find(command->examples,
                                         evaluation_targets(&command->evaluation));
    int64_t *labels = calloc(shape->examples + 1, sizeof *labels);
    if (!labels)
        return error_memory(error);
    int code = shape->tokens ? error_fill(error, IVON_ERROR_ARGUMENT,
                                          "--by-class: each token has a class of its own")
                             : ivon_examples_read_i64(command->examples, (size_t)field, 0,
                                                      shape->examples, labels, error);
    if (!code)
        code = ivon_sensitivity_groups(sensitivity, labels, &row->classes, &row->class_count,
                                       error);
    free(labels);
    return code;
}

static int compare_groups(const void *key, const void *removal)
{
    int64_t group = *(const int64_t *)key,
            other = ((const struct ivon_group_removal *)removal)->group;
    return (group > other) - (group < other);
}

/* Leaves out one group after the other: means over positions, with errors over groups. */
static int evaluate_groups(const struct predict_gen_command *command,
                           struct ivon_sensitivity *sensitivity,
                           const struct predict_gen_points *points, struct predict_gen_row *row,
                           struct ivon_error *error)
{
    struct ivon_group_removal *removals = NULL;
    struct ivon_ratio loss = {0}, missed = {0};
    size_t count;
    int code = ivon_sensitivity_groups(sensitivity, command->group_of, &removals, &count, error);
    double *positions = code ? NULL : calloc(count + 1, sizeof *positions);
    if (!code && !positions)
        code = error_memory(error);
    for (size_t i = 0; i < points->count && !code; i++) {
        const struct ivon_group_removal *group = bsearch(&command->group_of[i], removals, count,
                                                         sizeof *removals, compare_groups);
        if (group)
            positions[group - removals] += points->positions[i];
    }
    for (size_t g = 0; g < count && !code; g++) {
        ivon_ratio_add(&loss, positions[g] ? removals[g].own_loss_without * positions[g] : 0,
                       positions[g]);
        ivon_ratio_add(&missed, positions[g] ? removals[g].own_error_without * positions[g] : 0,
                       positions[g]);
    }
    row->lgo_loss = ivon_ratio_metric("lgo_loss", &loss);
    row->lgo_error = ivon_ratio_metric("lgo_error", &missed);
    free(positions);
    free(removals);
    return code;
}

static int look_at_hessian(const struct predict_gen_command *command, struct ivon_source *source,
                           struct predict_gen_row *row, struct ivon_error *error)
{
    struct ivon_summaries *summaries = NULL;
    struct ivon_summary_options options = {.size = sizeof options,
                                           .resources.threads = command->common.threads};
    int code = ivon_summary_new(&summaries, source, &options, error);
    if (!code)
        row->hessian_at_start = ivon_summary_total(summaries)->hessian_at_start;
    ivon_summary_free(summaries);
    return code;
}

int predict_gen_evaluate(const struct predict_gen_command *command, const char *path,
                         struct predict_gen_row *row, struct predict_gen_points *points,
                         struct ivon_error *error)
{
    struct ivon_source *source = NULL;
    struct ivon_network *network = NULL;
    struct ivon_sensitivity *sensitivity = NULL;
    struct ivon_sensitivity_shape shape;
    *row = (struct predict_gen_row){.step = -1, .approximation_k = NAN};
    int code = evaluation_open_posterior(&command->evaluation, path, &command->open,
                                         &command->common, &source, &network, error);
    if (!code)
        row->step = ivon_source_header(source)->step;
    if (!code)
        code = evaluate_losses(command, network, source, row, points, &sensitivity, &shape, error);
    if (!code)
        code = evaluation_check_classes(&command->evaluation, shape.outputs, error);
    if (!code && command->samples)
        code = evaluate_samples(command, network, source, &shape, row, points, error);
    if (!code && command->groups)
        code = evaluate_groups(command, sensitivity, points, row, error);
    if (!code && command->by_class)
        code = evaluate_classes(command, sensitivity, &shape, row, error);
    if (!code)
        row->guessing_loss = ivon_guessing_loss(command->evaluation.task.likelihood, shape.outputs);
    if (!code)
        code = look_at_hessian(command, source, row, error);
    row->probabilities = !code && ivon_sensitivity_saw_probabilities(sensitivity);
    ivon_sensitivity_free(sensitivity);
    ivon_network_free(network);
    ivon_source_close(source);
    return code;
}

void predict_gen_warn(struct predict_gen_command *command, const struct predict_gen_row *row,
                      const char *path)
{
    bool sampled = row->waic.name;
    if (row->probabilities)
        graph_warn_probabilities(path);
    if (row->hessian_at_start && !command->warned_of_start)
        report_warning("%s: the Hessian never left its start: the level of loo_loss says nothing, "
                       "its trend may",
                       path);
    command->warned_of_start |= row->hessian_at_start != 0;
    if (!isfinite(row->loo_loss.value) ||
        (sampled && (!isfinite(row->waic.value) || !isfinite(row->psis_loo.value))))
        report_warning("%s: a predicted loss is not finite: the posterior is far too wide for "
                       "it to mean anything",
                       path);
    else if (row->train_loss.value < row->guessing_loss &&
             row->loo_loss.value - 3 * row->loo_loss.standard_error > row->guessing_loss)
        report_warning("%s: loo_loss is %.4g, beyond the %.4g of equal probabilities: the "
                       "posterior is far too wide for it to mean anything",
                       path, row->loo_loss.value, row->guessing_loss);
    double most = row->samples ? ivon_pareto_k_threshold(row->samples) : INFINITY;
    if (row->approximation_k > most)
        report_warning("%s: the samples stand for the posterior itself too badly for psis_loo to "
                       "mean anything: k is %.3g, expected %.3g at most",
                       path, row->approximation_k, most);
    if (isnan(row->loo_loss.standard_error) && isfinite(row->loo_loss.value))
        report_warning("%s: one example: there is no standard error", path);
}
