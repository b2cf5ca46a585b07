/* The outputs of a tile, and their adjoints: of training examples ∂L/∂f, of queries ∂M/∂f. */
#include <string.h>

#include "bayes/influence/private.h"
#include "bayes/measure.h"

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
    return outputs_check_finite(outputs, data->examples, (data->first + tile->at) * outputs->tokens,
                                tile->f, tile->count * outputs->tokens, error);
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

void influence_measure(const struct ivon_influence *influence, const struct labelled *data,
                       const struct runner_tile *tile, size_t token, float *adjoint)
{
    const struct measure measure = {influence->options.measure, influence->options.output};
    const struct likelihood *likelihood = &influence->likelihood;
    size_t tokens = influence->outputs.tokens, k = influence->outputs.k;
    bool loss = measure_is_loss(&measure);
    const struct row_targets targets = labelled_targets(data, tile->at * tokens);
    memset(adjoint, 0, influence->runner.tile * tokens * k * sizeof *adjoint);
    if (loss)
        influence_residual(influence, data, tile, adjoint);
    for (size_t row = 0; row < tile->count * tokens && !loss; row++) {
        const struct row_targets target = targets_from(&targets, likelihood->kind, k, row);
        measure_adjoint(&measure, likelihood, tile->f + row * k, &target, adjoint + row * k);
    }
    influence_keep_token(influence, tile, token, adjoint);
}
