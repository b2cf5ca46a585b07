/* The results of each single example, computed a tile at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bayes/output_covariance.h"
#include "bayes/sensitivity/private.h"
#include "core/error.h"
#include "core/ranks.h"
#include "ivon/predict.h"

static size_t sensitivity_run_width(const struct ivon_sensitivity *sensitivity)
{
    return sensitivity->outputs.tokens * sensitivity->outputs.k;
}

static double sum_absolute(const float *a, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += fabs((double)a[i]);
    return sum;
}

/* p, L, e and what is predicted, at the mean or averaged over samples. */
static void sensitivity_run_evaluate(const struct pass *pass)
{
    const struct ivon_sensitivity *sensitivity = pass->sensitivity;
    const struct likelihood *likelihood = &sensitivity->likelihood;
    const struct sensitivity_results *results = &sensitivity->results;
    struct sensitivity_worker *worker = pass->worker;
    size_t k = likelihood->k;
    likelihood_evaluate(likelihood, pass->rows, pass->f, &pass->targets, worker->outputs,
                        results->row_loss + pass->row);
    const float *p = worker->outputs;
    if (sensitivity->expected)
        p = sensitivity->expected +
            (sensitivity->data.first + pass->at) * sensitivity_run_width(sensitivity);
    if (sensitivity->expected && ivon_likelihood_traits(likelihood->kind)->variances)
        memcpy(worker->residual, p, pass->rows * k * sizeof(float));
    else
        likelihood_residual(likelihood, pass->rows, p, &pass->targets, worker->residual);
    memcpy(results->outputs + pass->row * k, pass->f, pass->rows * k * sizeof(float));
    memcpy(results->residual_vector + pass->row * k, worker->residual,
           pass->rows * k * sizeof(float));
    size_t width_of_targets = ivon_likelihood_targets(likelihood->kind, k);
    for (size_t i = 0; i < pass->rows; i++) {
        if (results->means)
            memcpy(results->means + (pass->row + i) * width_of_targets, worker->outputs + i * k,
                   width_of_targets * sizeof(float));
        const struct row_targets target = targets_from(&pass->targets, likelihood->kind, k, i);
        results->row_residual[pass->row + i] = sum_absolute(worker->residual + i * k, k);
        if (results->row_error)
            results->row_error[pass->row + i] = likelihood_error(
                likelihood, pass->f + i * k, &target,
                results->prediction + (pass->row + i) * width_of_targets);
    }
}

static struct output_covariance sensitivity_run_covariance(const struct pass *pass)
{
    const struct sensitivity_worker *worker = pass->worker;
    return (struct output_covariance){.covariance = worker->covariance,
                                      .derivative = pass->derivative,
                                      .tile = pass->sensitivity->runner.tile,
                                      .width = sensitivity_run_width(pass->sensitivity),
                                      .adjoint = worker->adjoint,
                                      .quadratic = worker->quadratic};
}

/* ρ diag(J Σ Jᵀ) */
static void find_variances(const struct pass *pass, float *v)
{
    const struct output_covariance of = sensitivity_run_covariance(pass);
    for (size_t k = 0; k < of.width; k++) {
        const double *variance = output_variance(&of, k, pass->count);
        for (size_t e = 0; e < pass->count; e++)
            v[e * of.width + k] = (float)variance[e];
    }
}

/* ρ J Σ Jᵀ, a column at a time, and its diagonal. */
static void find_covariances(const struct pass *pass, float *v)
{
    const struct output_covariance of = sensitivity_run_covariance(pass);
    const struct ivon_sensitivity *sensitivity = pass->sensitivity;
    size_t wide = of.width;
    float *covariance = sensitivity->results.covariance + pass->at * wide * wide;
    for (size_t k = 0; k < wide; k++) {
        const float *column = output_covariance_column(&of, k, pass->count);
        for (size_t e = 0; e < pass->count && column; e++) {
            for (size_t j = 0; j < wide; j++)
                covariance[(e * wide + j) * wide + k] = (float)((double)column[e * wide + j] /
                                                                sensitivity->rho);
            v[e * wide + k] = column[e * wide + k];
        }
    }
}

/* Δf = ρ J Σ Jᵀ e, or ρ v ⊙ e. */
static void find_deviations(const struct pass *pass, float *deviation, const float *v)
{
    const struct ivon_sensitivity *sensitivity = pass->sensitivity;
    struct sensitivity_worker *worker = pass->worker;
    size_t wide = sensitivity_run_width(sensitivity), all = pass->count * wide;
    bool full = sensitivity->options.covariance == IVON_COVARIANCE_FULL;
    net_derivative_backward(pass->derivative, worker->residual, NULL);
    if (!full) {
        covariance_quadratic(worker->covariance, pass->count, worker->quadratic);
        for (size_t i = 0; i < all; i++)
            deviation[i] = v[i] * worker->residual[i];
        return;
    }
    const float *moved = covariance_tangent(worker->covariance, pass->count);
    if (moved)
        memcpy(deviation, moved, all * sizeof *deviation);
    for (size_t e = 0; e < pass->count; e++) {
        double sum = 0; /* gᵀ Σ g = eᵀ J Σ Jᵀ e */
        for (size_t i = e * wide; i < (e + 1) * wide; i++)
            sum += (double)worker->residual[i] * (double)deviation[i];
        worker->quadratic[e] = sum;
    }
    if (sensitivity->leverage)
        sensitivity_leverage_apply(pass, deviation);
}

/* The moved outputs f + Δf, with their p and losses. */
static void sensitivity_run_move(const struct pass *pass, const float *deviation)
{
    const struct likelihood *likelihood = &pass->sensitivity->likelihood;
    struct sensitivity_worker *worker = pass->worker;
    for (size_t i = 0; i < pass->rows * likelihood->k; i++)
        worker->adjoint[i] = pass->f[i] + deviation[i];
    likelihood_evaluate(likelihood, pass->rows, worker->adjoint, &pass->targets, worker->moved,
                        worker->moved_loss);
}

/* Sums over the tokens of each example. */
static void sensitivity_run_sum_rows(const struct pass *pass, const double *rows, double *sums)
{
    size_t tokens = pass->sensitivity->outputs.tokens;
    for (size_t e = 0; e < pass->count; e++) {
        double sum = 0;
        for (size_t t = 0; t < tokens; t++)
            sum += rows[pass->row + e * tokens + t];
        sums[pass->at + e] = sum;
    }
}

/* The scores that are asked for. */
static void sensitivity_run_score(const struct pass *pass)
{
    const struct sensitivity_results *results = &pass->sensitivity->results;
    const struct score *score;
    for (unsigned i = 0; (score = score_of((enum ivon_score)i)); i++) {
        if (!results->scores[i])
            continue;
        score->compute(pass, score->traits.rows ? results->row_scores[i] + pass->row
                                                : results->scores[i] + pass->at);
        if (score->traits.rows)
            sensitivity_run_sum_rows(pass, results->row_scores[i], results->scores[i]);
    }
    sensitivity_run_sum_rows(pass, results->row_loss, results->loss);
    sensitivity_run_sum_rows(pass, results->row_residual, results->residual);
}

/* The sums that the scores that are asked for need. */
static unsigned sensitivity_run_needs(const struct ivon_sensitivity *sensitivity)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    bool diagonal = options->covariance == IVON_COVARIANCE_DIAGONAL;
    unsigned needs = options->vectors ? SCORE_MOVES : 0;
    const struct score *score;
    for (unsigned i = 0; (score = score_of((enum ivon_score)i)); i++)
        needs |= options->scores & IVON_SCORE_BIT(i) ? score->needs : 0;
    return needs | (diagonal || options->variances ? SCORE_VARIANCES : 0);
}

static int sensitivity_run_tile(void *context, const struct runner_tile *tile,
                                struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = context;
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    size_t wide = sensitivity_run_width(sensitivity);
    struct pass pass = sensitivity_pass_of(sensitivity, &sensitivity->data, tile);
    int code = sensitivity_check_tile(sensitivity, &sensitivity->data, tile, error);
    if (code)
        return code;
    covariance_worker_begin(pass.worker->covariance);
    sensitivity_run_evaluate(&pass);
    float *v = sensitivity->results.variance + pass.at * wide;
    float *deviation = sensitivity->results.deviation_vector + pass.at * wide;
    unsigned needs = sensitivity_run_needs(sensitivity);
    if (options->covariances)
        find_covariances(&pass, v);
    else if (needs & SCORE_VARIANCES)
        find_variances(&pass, v);
    pass.v = v;
    if (needs & SCORE_MOVES) {
        find_deviations(&pass, deviation, v);
        sensitivity_run_move(&pass, deviation);
    }
    sensitivity_run_score(&pass);
    return 0;
}

/* Residuals averaged over samples. */

struct averaging {
    const struct ivon_sensitivity *sensitivity;
    float *expected;
};

static int take_average(void *context, const struct ivon_predictions *predictions,
                        struct ivon_error *error)
{
    (void)error;
    const struct averaging *averaging = context;
    size_t wide = sensitivity_run_width(averaging->sensitivity);
    const float *p = predictions->mean ? predictions->mean : predictions->probabilities;
    memcpy(averaging->expected + predictions->first * wide, p,
           predictions->count * wide * sizeof *p);
    return 0;
}

/* Residuals that are not linear in what is predicted are averaged themselves. */
static int take_residuals(void *context, const struct ivon_predictions *predictions,
                          struct ivon_error *error)
{
    const struct averaging *averaging = context;
    const struct ivon_sensitivity *sensitivity = averaging->sensitivity;
    size_t wide = sensitivity_run_width(sensitivity), samples = sensitivity->options.samples;
    size_t all = predictions->count * wide, rows = predictions->count * sensitivity->outputs.tokens;
    const struct row_targets targets = {.numbers = predictions->targets, .ignored = INT64_MIN};
    float *residual = calloc(all, sizeof *residual);
    double *sums = calloc(all, sizeof *sums);
    int code = residual && sums ? 0 : ivon_error_memory(error);
    for (size_t s = 0; s < samples && !code; s++) {
        likelihood_residual(&sensitivity->likelihood, rows, predictions->sample_outputs + s * all,
                            &targets, residual);
        for (size_t i = 0; i < all; i++)
            sums[i] += (double)residual[i];
    }
    for (size_t i = 0; i < all && !code; i++)
        averaging->expected[predictions->first * wide + i] = (float)(sums[i] / (double)samples);
    free(residual);
    free(sums);
    return code;
}

static int sensitivity_run_average(struct ivon_sensitivity *sensitivity, struct ivon_error *error)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    struct ivon_predict_options predict = ivon_predict_defaults();
    struct ivon_member member = {sensitivity->network, sensitivity->source, 1};
    struct ivon_predictor *predictor = NULL;
    predict.task = options->task;
    predict.task.noise_std = NAN;
    predict.task.ignored = INT64_MIN;
    predict.samples = options->samples;
    predict.batch = options->batch;
    predict.descriptions = false;
    bool own = ivon_likelihood_traits(options->task.likelihood)->variances;
    const char *targets =
        own ? ivon_examples_field(sensitivity->data.examples, (size_t)sensitivity->data.field)->name
            : NULL;
    predict.metrics = predict.metrics && !own;
    predict.sample_outputs = own;
    predict.sample = options->sample;
    predict.resources = options->resources;
    predict.resources.memory = sensitivity->memory / 4;
    size_t count = sensitivity->data.count,
           size = sensitivity_run_width(sensitivity) * sizeof(float);
    sensitivity->expected = calloc(count, size);
    struct averaging averaging = {sensitivity, sensitivity->expected};
    int code = sensitivity->expected ? 0 : ivon_error_memory(error);
    if (!code)
        code = ivon_predictor_new(&predictor, &member, 1, sensitivity->data.examples, targets,
                                  &predict, error);
    if (!code)
        code = ivon_predictor_run(predictor, own ? take_residuals : take_average, &averaging,
                                  error);
    ivon_predictor_free(predictor);
    if (!code) /* rank 0 has the averages, which all need */
        code = ivon_ranks_share(options->resources.ranks, sensitivity->expected, count * size,
                                error);
    if (code) {
        free(sensitivity->expected);
        sensitivity->expected = NULL;
    }
    return code;
}

/* Blocks. */

static struct ivon_sensitivities sensitivity_run_describe(
    const struct ivon_sensitivity *sensitivity)
{
    const struct ivon_sensitivity_options *options = &sensitivity->options;
    const struct sensitivity_results *results = &sensitivity->results;
    const struct labelled *data = &sensitivity->data;
    bool variances = options->variances || options->covariances;
    return (struct ivon_sensitivities){
        .first = data->first,
        .count = data->present,
        .labels = data->labels,
        .targets = data->numbers,
        .counts = data->counts,
        .positions = data->positions,
        .prediction = results->prediction,
        .outputs = results->outputs,
        .means = results->means,
        .loss = results->loss,
        .residual = results->residual,
        .row_loss = results->row_loss,
        .row_residual = results->row_residual,
        .scores = (const double *const *)results->scores,
        .row_scores = (const double *const *)results->row_scores,
        .row_error = results->row_error,
        .row_loo_error = results->row_loo_error,
        .residual_vector = results->residual_vector,
        .deviation_vector = options->vectors ? results->deviation_vector : NULL,
        .variance = variances ? results->variance : NULL,
        .covariance = results->covariance};
}

/* Variances are computed with ρ, and reported without it. */
static void remove_rho(const struct ivon_sensitivity *sensitivity)
{
    size_t all = sensitivity->data.present * sensitivity_run_width(sensitivity);
    float *v = sensitivity->results.variance;
    for (size_t i = 0; i < all; i++)
        v[i] = (float)((double)v[i] / sensitivity->rho);
}

/*
 * The caller keeps what it was handed, and an interruption costs the block that is computed: a
 * block may have as many examples as memory holds, and ends sooner where it would take longer than
 * a second. Sizes double or halve towards that, from a tile for each thread.
 */
static const double BLOCK_SECONDS = 1;

static double sensitivity_run_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static size_t least_block(const struct ivon_sensitivity *sensitivity)
{
    size_t tiles = (size_t)sensitivity->runner.threads, tile = sensitivity->runner.tile;
    return tiles < sensitivity->block / tile ? tiles * tile : sensitivity->block;
}

/* Returns the size of the block after one that took so many seconds. */
static size_t next_block(const struct ivon_sensitivity *sensitivity, double seconds)
{
    size_t size = sensitivity->data.limit, tile = sensitivity->runner.tile;
    size_t least = least_block(sensitivity);
    if (seconds > BLOCK_SECONDS) {
        size_t half = size / tile / 2 * tile;
        return half > least ? half : least;
    }
    if (seconds > BLOCK_SECONDS / 2)
        return size;
    return size < sensitivity->block / 2 ? 2 * size : sensitivity->block;
}

/* Ranks: in each round every rank computes a block of data->limit examples, each behind that of the
   rank before it. */

struct sensitivity_round {
    struct ivon_sensitivity *sensitivity;
    uint64_t first; /* example of rank 0's block */
    int (*on_block)(void *context, const struct ivon_sensitivities *block,
                    struct ivon_error *error);
    void *context;
};

static uint64_t sensitivity_round_first(const struct sensitivity_round *round, int rank)
{
    return round->first + (uint64_t)rank * round->sensitivity->data.limit;
}

/* Returns how many examples the block of a rank has. */
static size_t sensitivity_round_count(const struct sensitivity_round *round, int rank)
{
    const struct labelled *data = &round->sensitivity->data;
    uint64_t first = sensitivity_round_first(round, rank);
    uint64_t left = first < data->count ? data->count - first : 0;
    return left < data->limit ? (size_t)left : data->limit;
}

/* The results of a rank's block, in the place where this rank has those of its own. */
static size_t sensitivity_round_describe(void *context, int rank, struct ranks_piece *pieces,
                                         size_t limit)
{
    const struct sensitivity_round *round = context;
    const struct ivon_sensitivity *sensitivity = round->sensitivity;
    const struct sensitivity_results *results = &sensitivity->results;
    size_t examples = sensitivity_round_count(round, rank);
    size_t rows = examples * sensitivity->outputs.tokens;
    size_t wide = sensitivity_run_width(sensitivity), all = examples * wide;
    const struct ranks_piece arrays[] = {
        {results->prediction, all * sizeof(int64_t)},
        {results->outputs, all * sizeof(float)},
        {results->means, all * sizeof(float)},
        {results->residual_vector, all * sizeof(float)},
        {sensitivity->options.vectors ? results->deviation_vector : NULL, all * sizeof(float)},
        {sensitivity->options.variances || sensitivity->options.covariances ? results->variance
                                                                            : NULL,
         all * sizeof(float)},
        {results->covariance, all * wide * sizeof(float)},
        {results->loss, examples * sizeof(double)},
        {results->residual, examples * sizeof(double)},
        {results->row_loss, rows * sizeof(double)},
        {results->row_residual, rows * sizeof(double)},
        {results->row_error, rows * sizeof(float)},
        {results->row_loo_error, rows * sizeof(float)}};
    size_t count = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0] && count < limit; i++)
        if (arrays[i].data)
            pieces[count++] = arrays[i];
    for (size_t i = 0; i < SCORES_MAX && count + 1 < limit; i++) {
        if (results->scores[i])
            pieces[count++] = (struct ranks_piece){results->scores[i], examples * sizeof(double)};
        if (results->row_scores[i])
            pieces[count++] = (struct ranks_piece){results->row_scores[i], rows * sizeof(double)};
    }
    return count;
}

/* Hands a block on; the targets of another rank's are read here. */
static int sensitivity_round_take(void *context, int rank, struct ivon_error *error)
{
    const struct sensitivity_round *round = context;
    struct ivon_sensitivity *sensitivity = round->sensitivity;
    int code = 0;
    if (rank)
        code = labelled_read_targets(&sensitivity->data, sensitivity_round_first(round, rank),
                                     error);
    if (!code && rank)
        code = meter_add(&sensitivity->meter, sensitivity->data.present, error);
    struct ivon_sensitivities block = sensitivity_run_describe(sensitivity);
    return code ? code : round->on_block(round->context, &block, error);
}

/* This rank's block. */
static int sensitivity_run_block(const struct sensitivity_round *round, struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = round->sensitivity;
    struct labelled *data = &sensitivity->data;
    int rank = ivon_ranks_rank(sensitivity->options.resources.ranks);
    if (!sensitivity_round_count(round, rank))
        return 0;
    int code = labelled_load(data, &sensitivity->runner, sensitivity_round_first(round, rank),
                             error);
    if (!code)
        code = runner_run_block(&sensitivity->runner, &data->feed, sensitivity_run_tile,
                                sensitivity, &sensitivity->meter, error);
    if (!code)
        remove_rho(sensitivity);
    return code;
}

/* One round; *count receives how many examples it had. */
static int sensitivity_run_round(const struct sensitivity_round *round, uint64_t *count,
                                 struct ivon_error *error)
{
    struct ivon_sensitivity *sensitivity = round->sensitivity;
    struct ivon_ranks *ranks = sensitivity->options.resources.ranks;
    struct ranks_round all = {.describe = sensitivity_round_describe,
                              .take = sensitivity_round_take,
                              .context = (void *)(uintptr_t)round};
    int code = ivon_ranks_share(ranks, &sensitivity->data.limit, sizeof sensitivity->data.limit,
                                error);
    *count = 0;
    for (int r = 0; r < ivon_ranks_count(ranks) && !code; r++) {
        size_t examples = sensitivity_round_count(round, r);
        all.present += examples > 0;
        *count += examples;
    }
    if (code)
        return code;
    return ranks_round_take(ranks, &all, sensitivity_run_block(round, error), error);
}

/* Sums the examples without leverage over the ranks. */
static int sensitivity_run_count_outside(struct ivon_sensitivity *sensitivity,
                                         struct ivon_error *error)
{
    struct ivon_ranks *ranks = sensitivity->options.resources.ranks;
    uint64_t outside = 0;
    struct ranks_bytes all;
    for (int i = 0; i < sensitivity->runner.threads; i++)
        outside += sensitivity->workers[i].outside;
    int code = ranks_gather_all(ranks, &outside, sizeof outside, &all, error);
    if (code)
        return code;
    sensitivity->outside_elsewhere = 0;
    for (int r = 0; r < ivon_ranks_count(ranks); r++) {
        memcpy(&outside, all.data + (size_t)r * sizeof outside, sizeof outside);
        sensitivity->outside_elsewhere += r == ivon_ranks_rank(ranks) ? 0 : outside;
    }
    ranks_bytes_release(&all);
    return 0;
}

int ivon_sensitivity_run(struct ivon_sensitivity *sensitivity, uint64_t first,
                         int (*on_block)(void *context, const struct ivon_sensitivities *block,
                                         struct ivon_error *error),
                         void *context, struct ivon_error *error)
{
    struct labelled *data = &sensitivity->data;
    struct sensitivity_round round = {sensitivity, first, on_block, context};
    int code = 0;
    if (sensitivity->options.scores & IVON_SCORE_BIT(IVON_SCORE_INFLUENCE) &&
        !sensitivity->test_direction.data)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the influence is on test examples, which were not given");
    if (sensitivity->options.samples && !sensitivity->expected)
        code = sensitivity_run_average(sensitivity, error);
    meter_init(&sensitivity->meter, &sensitivity->options.resources.progress,
               first < data->count ? data->count - first : 0);
    data->limit = least_block(sensitivity);
    while (round.first < data->count && !code) {
        uint64_t count;
        double begin = sensitivity_run_now();
        code = sensitivity_run_round(&round, &count, error);
        round.first += count;
        data->limit = next_block(sensitivity, sensitivity_run_now() - begin);
    }
    data->limit = data->capacity;
    meter_release(&sensitivity->meter);
    return code ? code : sensitivity_run_count_outside(sensitivity, error);
}
