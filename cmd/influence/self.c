/* ivon-influence --self: the influence of each training row on itself, I_ii = ρ g_iᵀ Σ g_i, which
   is a score of ivon/sensitivity.h: one pass, without queries. */
#include <stdlib.h>
#include <sysexits.h>

#include "cmd/influence/influence.h"
#include "cmd/shared/memory.h"

void influence_self_check(const struct influence_command *command, struct argp_state *state)
{
    const struct ivon_influence_options *options = &command->options;
    if (!command->self)
        return;
    if (command->query_files || command->ranges || command->groups || options->per_token ||
        options->by_tensor || command->validate.halves)
        argp_failure(state, EX_USAGE, 0,
                     "--self is of each row on itself: --queries, --rows, --groups, --per-token, "
                     "--by and --validate do not go with it");
    if (options->measure != IVON_MEASURE_LOSS)
        argp_failure(state, EX_USAGE, 0, "--self is of the loss: --measure does not go with it");
}

int influence_self_new(struct influence_command *command, struct ivon_error *error)
{
    struct ivon_sensitivity_options options = command->scale;
    options.task = command->options.task;
    options.whole = command->whole;
    options.sample = command->options.sample;
    options.batch = command->options.batch;
    options.resources = command->options.resources;
    options.scores = IVON_SCORE_BIT(IVON_SCORE_SELF_INFLUENCE);
    options.leverage = IVON_LEVERAGE_NONE;
    return ivon_sensitivity_new(&command->sensitivity, command->network, command->source,
                                command->examples, evaluation_targets(&command->evaluation),
                                &options, error);
}

struct ivon_influence_shape influence_self_shape(const struct influence_command *command)
{
    const struct ivon_sensitivity_shape shape = ivon_sensitivity_shape(command->sensitivity);
    return (struct ivon_influence_shape){.tokens = shape.tokens,
                                         .outputs = shape.outputs,
                                         .examples = shape.examples,
                                         .rows = 1,
                                         .queries = 1,
                                         .rho = shape.rho,
                                         .n_train = shape.n_train,
                                         .fixed = shape.fixed,
                                         .tile = shape.tile,
                                         .passes = 1};
}

struct self_taking {
    influence_taker *on_block;
    void *context;
    bool labels; /* an example has one */
};

/* Hands a block of scores on as one of influences on a single query. */
static int influence_self_take(void *context, const struct ivon_sensitivities *block,
                               struct ivon_error *error)
{
    const struct self_taking *taking = context;
    const double *score = block->scores[IVON_SCORE_SELF_INFLUENCE];
    float *influence = xcalloc(block->count, sizeof *influence);
    for (size_t i = 0; i < block->count; i++)
        influence[i] = (float)score[i];
    const struct ivon_influences own = {.first = block->first,
                                        .count = block->count,
                                        .query_count = 1,
                                        .rows = 1,
                                        .influence = influence,
                                        .labels = taking->labels ? block->labels : NULL};
    int code = taking->on_block(taking->context, &own, error);
    free(influence);
    return code;
}

int influence_self_run(struct influence_command *command, influence_taker *on_block, void *context,
                       struct ivon_error *error)
{
    struct self_taking taking = {
        on_block, context,
        ivon_likelihood_traits(command->options.task.likelihood)->classes &&
            !ivon_sensitivity_shape(command->sensitivity).tokens};
    return ivon_sensitivity_run(command->sensitivity, 0, influence_self_take, &taking, error);
}
