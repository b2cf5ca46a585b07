/*
 * Columns r of adjoints with E Σ r rᵀ = Λ, row by row of the outputs: those of Λ's root, or the
 * residuals p − y of labels y that are drawn or given.
 */
#include <math.h>
#include <string.h>

#include "bayes/fit/private.h"
#include "core/random.h"

size_t fit_columns_count(const struct ivon_fit *fit)
{
    switch (fit->options.curvature) {
    case IVON_CURVATURE_GGN:
        return fit->outputs.k;
    case IVON_CURVATURE_FISHER:
        return fit->options.draws;
    default:
        return 1;
    }
}

double fit_columns_weight(const struct ivon_fit *fit)
{
    return fit->options.curvature == IVON_CURVATURE_FISHER ? 1 / (double)fit->options.draws : 1;
}

/* The numbers of one row of outputs: counter `at` of the words of its example. */
static struct random_stream row_stream(const struct ivon_fit *fit, uint64_t row)
{
    return random_stream_of(fit->options.seed, row / fit->outputs.tokens, "fit");
}

/* Sums over an example's tokens would hold products of their columns, which random signs of the
   tokens take away on average. */
static bool is_negative(const struct ivon_fit *fit, uint64_t row)
{
    uint64_t words[4];
    const struct random_stream stream = row_stream(fit, row);
    random_words(&stream, row % fit->outputs.tokens, 1, words);
    return words[0] >> 63;
}

static void set_root(const struct ivon_fit *fit, const float *p, uint64_t row, size_t column,
                     float *adjoint)
{
    likelihood_curvature_column(&fit->likelihood, p, column, adjoint);
    if (fit->outputs.token_axis && is_negative(fit, row))
        for (size_t i = 0; i < fit->outputs.k; i++)
            adjoint[i] = -adjoint[i];
}

/* A class: the first k with p_0 + … + p_k > u. */
static int64_t draw_class(const float *p, size_t k, double u)
{
    double sum = (double)p[0];
    size_t label = 0;
    while (label + 1 < k && !(sum > u))
        sum += (double)p[++label];
    return (int64_t)label;
}

/* Draws target i of a row from what the network predicts: block (t width + i) S + s of the
   example's words; of regression, normal number (t width + i) S + s. An event is u < p. */
static double draw_target(const struct ivon_fit *fit, const float *f, const float *p, uint64_t row,
                          size_t i, size_t draw)
{
    const struct likelihood_kind *kind = likelihood_kind_of(fit->outputs.likelihood);
    size_t width = ivon_likelihood_targets(fit->outputs.likelihood, fit->outputs.k);
    uint64_t words[4], at = (row % fit->outputs.tokens * width + i) * fit->options.draws + draw;
    const struct random_stream stream = row_stream(fit, row);
    float normal;
    if (kind->traits.regression) {
        random_normal(&stream, at, 1, &normal);
        return kind->draw(&fit->likelihood, f, i, (double)normal);
    }
    random_words(&stream, at, 1, words);
    double u = (double)(words[0] >> 11) * 0x1p-53;
    return kind->traits.classes ? (double)draw_class(p, fit->outputs.k, u) : u < (double)p[i];
}

/* That of targets whose variances are predicted: of each mean with its own. */
static void set_drawn_pairs(const struct ivon_fit *fit, const float *f, const float *p,
                            uint64_t row, size_t draw, float *adjoint)
{
    struct likelihood pair = fit->likelihood;
    size_t half = fit->outputs.k / 2;
    pair.k = 2;
    for (size_t i = 0; i < half; i++) {
        float y = (float)draw_target(fit, f, p, row, i, draw), e[2] = {p[i], p[half + i]};
        const struct row_targets target = {.numbers = &y, .ignored = INT64_MIN};
        likelihood_residual(&pair, 1, e, &target, e);
        adjoint[i] = e[0];
        adjoint[half + i] = e[1];
    }
}

/* The residual of drawn targets. */
static void set_drawn(const struct ivon_fit *fit, const float *f, const float *p, uint64_t row,
                      size_t draw, float *adjoint)
{
    const struct likelihood_kind *kind = likelihood_kind_of(fit->outputs.likelihood);
    size_t k = fit->outputs.k;
    memcpy(adjoint, p, k * sizeof *adjoint);
    if (kind->traits.classes) {
        int64_t label = (int64_t)draw_target(fit, f, p, row, 0, draw);
        const struct row_targets target = {.labels = &label, .ignored = INT64_MIN};
        kind->residual(&fit->likelihood, &target, adjoint);
        return;
    }
    if (kind->traits.variances) {
        set_drawn_pairs(fit, f, p, row, draw, adjoint);
        return;
    }
    double noise = fit->likelihood.noise_std;
    double scale = kind->traits.noise ? 1 / (noise * noise) : 1;
    for (size_t i = 0; i < k; i++)
        adjoint[i] = (float)(scale * ((double)p[i] - draw_target(fit, f, p, row, i, draw)));
}

void fit_columns_set(const struct ivon_fit *fit, const struct fit_worker *worker, size_t column,
                     float *adjoint)
{
    const struct runner_tile *tile = &worker->tile;
    size_t tokens = fit->outputs.tokens, k = fit->outputs.k, rows = tile->count * tokens;
    size_t at = tile->at * tokens;
    const struct row_targets targets = labelled_targets(&fit->data, at);
    memset(adjoint, 0, fit->runner.tile * tokens * k * sizeof *adjoint);
    if (column == FIT_RESIDUAL || fit->options.curvature == IVON_CURVATURE_EMPIRICAL) {
        likelihood_residual(&fit->likelihood, rows, worker->p, &targets, adjoint);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        uint64_t row = fit->data.first * tokens + at + r;
        if (!fit->data.counts[at + r])
            continue;
        if (fit->options.curvature == IVON_CURVATURE_GGN)
            set_root(fit, worker->p + r * k, row, column, adjoint + r * k);
        else
            set_drawn(fit, tile->f + r * k, worker->p + r * k, row, column, adjoint + r * k);
    }
}
