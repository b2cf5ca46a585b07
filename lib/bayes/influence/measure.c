/* The outputs of a tile, and their adjoints: of training examples ∂L/∂f, of queries ∂M/∂f. */
#include <math.h>
#include <string.h>

#include "bayes/influence/private.h"

size_t influence_tokens(const struct ivon_influence *influence)
{
    return influence->options.measure == IVON_MEASURE_TOKEN_LOSS ? influence->outputs.tokens : 1;
}

size_t influence_rows(const struct ivon_influence *influence)
{
    return influence->options.per_token ? influence->outputs.tokens : 1;
}

int influence_check_tile(const struct ivon_influence *influence, const struct labelled *data,
                         const struct runner_tile *tile, struct ivon_error *error)
{
    const struct outputs *outputs = &influence->outputs;
    if (!data->first && !tile->at)
        influence->workers[tile->thread].probabilities |= outputs_are_probabilities(
            outputs, tile->f, tile->count * outputs->tokens);
    return outputs_check_finite(outputs, ivon_examples_path(data->examples),
                                (data->first + tile->at) * outputs->tokens, tile->f,
                                tile->count * outputs->tokens, error);
}

void influence_residual(const struct ivon_influence *influence, const struct labelled *data,
                        const struct runner_tile *tile, float *adjoint)
{
    const struct likelihood *likelihood = &influence->likelihood;
    struct influence_worker *worker = &influence->workers[tile->thread];
    size_t tokens = influence->outputs.tokens, rows = tile->count * tokens;
    const struct row_targets targets = labelled_targets(data, tile->at * tokens);
    likelihood_evaluate(likelihood, rows, tile->f, &targets, worker->outputs, NULL);
    likelihood_residual(likelihood, rows, worker->outputs, &targets, adjoint);
}

void influence_keep_token(const struct ivon_influence *influence, const struct runner_tile *tile,
                          size_t token, float *adjoint)
{
    size_t tokens = influence->outputs.tokens, k = influence->outputs.k;
    for (size_t row = 0; row < tile->count * tokens && token != SIZE_MAX; row++)
        if (row % tokens != token)
            memset(adjoint + row * k, 0, k * sizeof *adjoint);
}

/*
 * Of one row. The log odds of class y are f_y − log Σ_{c≠y} exp f_c, whose derivatives are 1 at y
 * and the softmax of the others elsewhere; those of an event y f − (1 − y) f.
 */
static void measure_margin(const struct ivon_influence *influence, const float *f,
                           const int64_t *labels, float *adjoint)
{
    size_t k = influence->outputs.k;
    double largest = -INFINITY, sum = 0;
    if (influence->likelihood.kind == IVON_BERNOULLI) {
        for (size_t c = 0; c < k; c++)
            adjoint[c] = labels[c] ? -1 : 1;
        return;
    }
    size_t y = (size_t)labels[0];
    for (size_t c = 0; c < k; c++)
        largest = c != y && (double)f[c] > largest ? (double)f[c] : largest;
    for (size_t c = 0; c < k; c++)
        sum += c != y ? exp((double)f[c] - largest) : 0;
    for (size_t c = 0; c < k; c++)
        adjoint[c] = c == y ? -1 : (float)(exp((double)f[c] - largest) / sum);
}

static void measure_row(const struct ivon_influence *influence, const float *f,
                        const struct row_targets *target, float *adjoint)
{
    size_t k = influence->outputs.k;
    memset(adjoint, 0, k * sizeof *adjoint);
    if (!targets_count(target, influence->likelihood.kind, k, 0))
        return;
    if (influence->options.measure == IVON_MEASURE_MARGIN)
        measure_margin(influence, f, target->labels, adjoint);
    else
        adjoint[influence->options.output] = -1;
}

void influence_measure(const struct ivon_influence *influence, const struct labelled *data,
                       const struct runner_tile *tile, size_t token, float *adjoint)
{
    enum ivon_measure measure = influence->options.measure;
    size_t tokens = influence->outputs.tokens, k = influence->outputs.k;
    bool loss = measure == IVON_MEASURE_LOSS || measure == IVON_MEASURE_TOKEN_LOSS;
    const struct row_targets targets = labelled_targets(data, tile->at * tokens);
    memset(adjoint, 0, influence->runner.tile * tokens * k * sizeof *adjoint);
    if (loss)
        influence_residual(influence, data, tile, adjoint);
    for (size_t row = 0; row < tile->count * tokens && !loss; row++) {
        const struct row_targets target = targets_from(&targets, influence->likelihood.kind, k,
                                                       row);
        measure_row(influence, tile->f + row * k, &target, adjoint + row * k);
    }
    influence_keep_token(influence, tile, token, adjoint);
}
