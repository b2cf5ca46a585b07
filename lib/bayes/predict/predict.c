#include "ivon/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/predict/private.h"
#include "bayes/rank_inputs.h"
#include "core/error.h"
#include "core/ranks.h"
#include "net/graph/training.h"

static int predict_take_member(struct ivon_predictor *predictor, size_t index,
                               const struct ivon_member *given, struct ivon_error *error)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct member *member = &predictor->members[index];
    struct ivon_sample_options drawn = options->sample;
    size_t fixed = 0;
    *member = (struct member){given->network, given->source, given->weight, NULL};
    if (!(given->weight > 0) || isinf(given->weight))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: weight %g, expected a positive number",
                              ivon_source_path(given->source), given->weight);
    if (!options->samples) /* the mean asks for no Hessian */
        drawn.temperature = 0;
    int code = ivon_sample_check(given->source, &drawn, &fixed, error);
    predictor->fixed += options->samples ? fixed : 0;
    return code ? code
                : covariance_new(&member->covariance, given->network, given->source, &drawn, error);
}

static bool same_tensor(const struct net_tensor *a, const struct net_tensor *b)
{
    return a->type == b->type && a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

/* All members are fed from one copy of the data. */
static int predict_check_inputs(const struct ivon_network *first, const struct ivon_network *other,
                                struct ivon_error *error)
{
    bool same = first->input_count == other->input_count;
    for (size_t i = 0; same && i < first->input_count; i++) {
        const struct net_value *a = &first->values[first->inputs[i]];
        const struct net_value *b = &other->values[other->inputs[i]];
        same = strcmp(a->name, b->name) == 0 && same_tensor(&a->tensor, &b->tensor);
    }
    return same ? 0
                : ivon_error_set(error, IVON_ERROR_DATA, "%s: takes other inputs than %s",
                                 other->path, first->path);
}

static int take_members(struct ivon_predictor *predictor, const struct ivon_member *members,
                        size_t count, struct ivon_error *error)
{
    double total = 0;
    int code = 0;
    predictor->members = calloc(count, sizeof *predictor->members);
    if (!predictor->members)
        return ivon_error_memory(error);
    predictor->member_count = count;
    for (size_t i = 0; i < count && !code; i++) {
        code = net_expect_evaluation(members[i].network, error);
        if (!code)
            code = predict_take_member(predictor, i, &members[i], error);
        if (!code)
            code = predict_check_inputs(members[0].network, members[i].network, error);
        if (!code && predictor->options.recalibrate && !has_batch_norm(members[i].network))
            code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: has no batch-norm statistics to recalibrate",
                                  members[i].network->path);
        total += members[i].weight;
    }
    for (size_t i = 0; i < count; i++)
        predictor->members[i].weight /= total;
    return code;
}

/* Metrics are of probabilities, or of means. */
static size_t predict_metrics_outputs(const struct ivon_predictor *predictor)
{
    enum ivon_likelihood likelihood = predictor->options.task.likelihood;
    return ivon_likelihood_traits(likelihood)->regression
               ? ivon_likelihood_targets(likelihood, predictor->outputs.k)
               : predictor->outputs.k;
}

static int make_metrics(struct ivon_predictor *predictor, struct ivon_error *error)
{
    struct ivon_metrics_options options = {.size = sizeof options,
                                           .likelihood = predictor->options.task.likelihood,
                                           .outputs = predict_metrics_outputs(predictor),
                                           .bins = predictor->options.bins};
    size_t without = predictor->groups > 1 ? predictor->groups : 0;
    int code = 0;
    if (predictor->data.field < 0 || !predict_options_have_density(&predictor->options) ||
        !predictor->options.metrics)
        return 0;
    for (size_t i = 0; i < without && !code; i++)
        code = ivon_metrics_new(&predictor->metrics[i], &options, error);
    if (!code)
        code = ivon_metrics_new(&predictor->metrics[ROWS_GROUPS_MAX], &options, error);
    return code;
}

/* Sets how often the data are run, and whether the NLL at the mean can be told. */
static void predict_count_passes(struct ivon_predictor *predictor, size_t members,
                                 const char *targets)
{
    struct ivon_predict_options *options = &predictor->options;
    bool linear = options->method != IVON_PREDICT_SAMPLES;
    predictor->closed = options->method == IVON_PREDICT_LINEAR;
    if (predictor->closed)
        options->samples = 1;
    options->nll_at_mean &= targets && options->samples && predict_options_have_density(options);
    predictor->outputs.likelihood = options->task.likelihood;
    predictor->passes = options->samples ? options->samples : 1;
    predictor->groups = options->samples < 2                 ? 1
                        : options->samples < ROWS_GROUPS_MAX ? options->samples
                                                             : ROWS_GROUPS_MAX;
    bool alone = !options->samples || !(options->logits || options->nll_at_mean);
    predictor->single = linear || (members == 1 && predictor->passes == 1 && alone);
}

static int predict_check_ranks(const struct ivon_predictor *predictor,
                               const struct ivon_member *members, struct ivon_error *error)
{
    const struct ivon_predict_options *options = &predictor->options;
    struct ivon_ranks *ranks = options->resources.ranks;
    const uint64_t numbers[] = {predictor->runner.tile,
                                predictor->member_count,
                                predictor->passes,
                                predictor->outputs.tokens,
                                predictor->outputs.k,
                                options->task.likelihood,
                                (uint64_t)options->task.ignored,
                                options->sample.seed,
                                options->method,
                                options->logits,
                                options->log_likelihoods,
                                options->metrics,
                                options->descriptions,
                                options->sample_outputs,
                                options->recalibrate != NULL};
    int code = rank_inputs_check_numbers(ranks, numbers, sizeof numbers / sizeof numbers[0], error);
    for (size_t i = 0; i < predictor->member_count && !code; i++)
        code = rank_inputs_check_source(ranks, members[i].source, error);
    if (!code)
        code = rank_inputs_check_examples(ranks, predictor->data.examples, error);
    if (!code && options->recalibrate)
        code = rank_inputs_check_examples(ranks, options->recalibrate, error);
    return code;
}

int ivon_predictor_new(struct ivon_predictor **out, const struct ivon_member *members,
                       size_t member_count, struct ivon_examples *examples, const char *targets,
                       const struct ivon_predict_options *given, struct ivon_error *error)
{
    struct ivon_predict_options own;
    const struct ivon_predict_options *options = &own;
    int code = predict_options_read(&own, given, error);
    if (code)
        return code;
    if (!member_count)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "no posterior to predict with");
    if (options->method != IVON_PREDICT_SAMPLES)
        code = linearised_check(options, member_count, error);
    if (code)
        return code;
    if (options->sample_outputs && options->method == IVON_PREDICT_LINEAR)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a linearised network's closed form has no outputs of samples");
    if (options->log_likelihoods && !predict_options_have_density(options))
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT,
            "the likelihood of a regression's targets needs the standard deviation "
            "of the noise");
    struct ivon_predictor *predictor = calloc(1, sizeof *predictor);
    if (!predictor)
        return ivon_error_memory(error);
    predictor->options = *options;
    options = &predictor->options;
    predict_count_passes(predictor, member_count, targets);
    code = take_members(predictor, members, member_count, error);
    if (!code)
        code = labelled_open(&predictor->data, members[0].network, &predictor->outputs, examples,
                             targets, options->task.inputs, options->task.input_count, error);
    if (!code)
        code = predictor_choose_tile(predictor, error);
    if (!code)
        code = predict_check_ranks(predictor, members, error);
    predictor->likelihood = (struct likelihood){options->task.likelihood, predictor->outputs.k,
                                                options->task.noise_std};
    if (!code)
        code = make_metrics(predictor, error);
    if (!code)
        code = predictor_fit_tile(predictor, error);
    if (!code)
        code = predictor_make_block(predictor, error);
    if (code) {
        ivon_predictor_free(predictor);
        return code;
    }
    predictor->sums.same = !predict_options_vary(options, member_count) && !predictor->closed;
    *out = predictor;
    return 0;
}

void ivon_predictor_free(struct ivon_predictor *predictor)
{
    if (!predictor)
        return;
    for (size_t i = 0; i < predictor->member_count; i++)
        covariance_free(predictor->members[i].covariance);
    for (size_t i = 0; i <= ROWS_GROUPS_MAX; i++)
        ivon_metrics_free(predictor->metrics[i]);
    struct row_results *results = &predictor->results;
    free(results->prediction);
    free(results->probabilities);
    free(results->max_probability);
    free(results->entropy);
    free(results->expected_entropy);
    free(results->mutual_information);
    free(results->mean);
    free(results->epistemic_std);
    free(results->aleatoric_std);
    free(results->loss);
    free(predictor->members);
    free(predictor->logits);
    free(predictor->log_likelihoods);
    free(predictor->label_replicates);
    free(predictor->number_replicates);
    free(predictor->sample_outputs);
    free(predictor->values);
    rows_release(&predictor->sums);
    labelled_close(&predictor->data);
    runner_stop(&predictor->runner);
    free(predictor);
}

struct ivon_predict_shape ivon_predictor_shape(const struct ivon_predictor *predictor)
{
    return (struct ivon_predict_shape){
        .tokens = predictor->outputs.token_axis ? (int64_t)predictor->outputs.tokens : 0,
        .outputs = predictor->outputs.k,
        .targets = predictor->data.field >= 0,
        .losses = predictor->results.loss};
}

bool ivon_predictor_saw_probabilities(const struct ivon_predictor *predictor)
{
    return predictor->probabilities;
}

const char *ivon_predictor_whole_output(const struct ivon_predictor *predictor)
{
    const struct ivon_network *network = predictor->members[0].network;
    return predictor->runner.whole ? network->values[network->outputs[0]].name : NULL;
}

size_t ivon_predictor_fixed(const struct ivon_predictor *predictor)
{
    return predictor->fixed;
}

int ivon_predictor_run(struct ivon_predictor *predictor,
                       int (*on_block)(void *context, const struct ivon_predictions *predictions,
                                       struct ivon_error *error),
                       void *context, struct ivon_error *error)
{
    return predictor_run(predictor, on_block, context, error);
}

struct ivon_metric ivon_predictor_nll_at_mean(const struct ivon_predictor *predictor)
{
    const struct moments *nll = &predictor->nll_at_mean;
    return (struct ivon_metric){"nll", moments_mean(nll), sqrt(moments_variance(nll))};
}

const struct ivon_predict_metric *ivon_predictor_metrics(struct ivon_predictor *predictor,
                                                         size_t *count)
{
    double without[ROWS_GROUPS_MAX];
    *count = 0;
    if (!predictor->metrics[ROWS_GROUPS_MAX])
        return NULL;
    const struct ivon_metric *all = ivon_metrics_values(predictor->metrics[ROWS_GROUPS_MAX], count);
    free(predictor->values);
    predictor->values = calloc(*count, sizeof *predictor->values);
    for (size_t i = 0; predictor->values && i < *count; i++) {
        size_t unused;
        for (size_t g = 0; g < predictor->groups && predictor->groups > 1; g++)
            without[g] = ivon_metrics_values(predictor->metrics[g], &unused)[i].value;
        predictor->values[i] = (struct ivon_predict_metric){
            .metric = all[i],
            .monte_carlo_error = predictor->groups > 1 ? ivon_jackknife(without, predictor->groups)
                                                       : NAN};
    }
    return predictor->values;
}
