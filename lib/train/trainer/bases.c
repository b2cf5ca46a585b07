/*
 * The matrices that have bases are those of which ivon/fit.h makes blocks: each enters by products
 * alone. The bias of the same node stays outside. (Vyas et al., 2024, arXiv:2409.11321, leave
 * vectors without a basis, too.)
 */
#include <stdlib.h>

#include "bayes/structure.h"
#include "core/error.h"
#include "core/memory.h"
#include "net/derivative/uses.h"
#include "train/trainer/private.h"

/* Takes a use of a weight; the inputs of lookups are too many for a basis. */
static void bases_add_use(struct ivon_trainer *trainer, const struct net_use *use)
{
    struct parameter_bases *bases = &trainer->bases[use->weight];
    size_t most = trainer->options.max_factor;
    if (!use->complete)
        return;
    if (!bases->outputs) {
        *bases = (struct parameter_bases){.transposed = use->transposed,
                                          .outputs = use->outputs,
                                          .inputs = use->inputs,
                                          .input = use->inputs > 1 && use->inputs <= most,
                                          .output = use->outputs > 1 && use->outputs <= most};
    }
    if (use->lookup)
        bases->input = false;
}

/* Lookups come first: they decide the orientation of a weight that has other uses, too. */
static void bases_add_uses(struct ivon_trainer *trainer, const struct net_derivative *derivative)
{
    size_t count;
    const struct net_use *uses = net_derivative_uses(derivative, &count);
    for (int lookups = 1; lookups >= 0; lookups--)
        for (size_t u = 0; u < count; u++)
            if (uses[u].lookup == lookups)
                bases_add_use(trainer, &uses[u]);
}

static int bases_describe(struct ivon_trainer *trainer, struct ivon_error *error)
{
    size_t count = trainer->network->parameter_count, blocks = 0;
    struct structure_block_names *names = calloc(count + 1, sizeof *names);
    if (!names)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++)
        if (trainer_bases(trainer, i))
            names[blocks++] = (struct structure_block_names){
                .weight = trainer_parameter(trainer, i)->name,
                .transposed = trainer->bases[i].transposed};
    const struct structure_description description = {.blocks = names, .block_count = blocks};
    if (blocks)
        trainer->structure = structure_text(&description);
    free(names);
    return !blocks || trainer->structure ? 0 : ivon_error_memory(error);
}

static int bases_allocate(struct ivon_trainer *trainer, struct ivon_error *error)
{
    if (!ivon_method_traits(trainer->options.method)->posterior)
        return 0;
    for (size_t i = 0; i < trainer->network->parameter_count; i++) {
        struct parameter_bases *bases = trainer_bases(trainer, i);
        if (!bases || !bases->transposed)
            continue;
        bases->hessian = memory_aligned(trainer_parameter(trainer, i)->count * sizeof(float));
        if (!bases->hessian)
            return ivon_error_memory(error);
    }
    return bases_describe(trainer, error);
}

int bases_choose(struct ivon_trainer *trainer, struct ivon_error *error)
{
    size_t count = trainer->network->parameter_count;
    bool *all = malloc((count + 1) * sizeof *all);
    struct runner runner = {.network = trainer->network,
                            .mode = RUNNER_ROWS,
                            .wanted = all,
                            .check = outputs_check,
                            .check_context = &trainer->outputs};
    trainer->bases = calloc(count + 1, sizeof *trainer->bases);
    int code = all && trainer->bases ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        all[i] = true;
    if (!code)
        code = runner_measure(&runner, &trainer->data.feed, 1, error);
    if (!code)
        code = runner_start(&runner, &trainer->data.feed, 1, error);
    if (!code)
        bases_add_uses(trainer, runner.workers[0].derivative);
    runner_stop(&runner);
    free(all);
    return code ? code : bases_allocate(trainer, error);
}

struct optimizer_tensor bases_tensor(const struct ivon_trainer *trainer, size_t parameter)
{
    const struct ivon_tensor *tensor = trainer_parameter(trainer, parameter);
    const struct parameter_bases *bases = trainer_bases(trainer, parameter);
    struct optimizer_tensor known = {.name = tensor->name, .count = tensor->count};
    if (bases) {
        known.rows = bases->transposed ? bases->inputs : bases->outputs;
        known.columns = bases->transposed ? bases->outputs : bases->inputs;
        known.left = bases->transposed ? bases->input : bases->output;
        known.right = bases->transposed ? bases->output : bases->input;
    }
    return known;
}

void bases_release(struct ivon_trainer *trainer)
{
    for (size_t i = 0; trainer->bases && i < trainer->network->parameter_count; i++)
        free(trainer->bases[i].hessian);
    free(trainer->bases);
    free(trainer->structure);
}
