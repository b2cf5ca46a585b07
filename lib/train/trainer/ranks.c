/*
 * Ranks sum gradients together, and then each makes the same step by itself. Were the processors of
 * two of them different, products by the bases of EVON might be, too, in their last bits, and the
 * ranks would go on with other weights, step by step. So they compare them from time to time.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/rank_inputs.h"
#include "core/digest.h"
#include "core/error.h"
#include "train/trainer/private.h"

static uint64_t trainer_ranks_bits(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

/* Of the options those that decide about steps, sizes and draws, when all is set up. */
static int trainer_ranks_check_options(const struct ivon_trainer *trainer, struct ivon_error *error)
{
    const struct ivon_train_options *options = &trainer->options;
    const uint64_t numbers[] = {options->method,
                                trainer_ranks_bits(options->rate),
                                trainer_ranks_bits(options->weight_decay),
                                trainer_ranks_bits(options->beta1),
                                trainer_ranks_bits(options->beta2),
                                trainer_ranks_bits(options->norm_clip),
                                trainer_ranks_bits(trainer->ess),
                                trainer_ranks_bits(options->hessian_init),
                                trainer_ranks_bits(options->clip_radius),
                                trainer_ranks_bits(options->label_smoothing),
                                trainer_ranks_bits(options->dropout),
                                trainer_ranks_bits(options->average),
                                options->steps,
                                options->samples,
                                options->schedule,
                                options->warmup,
                                options->augmentation,
                                options->crop,
                                options->cutout,
                                options->seed,
                                options->basis_every,
                                options->hessian_every,
                                options->antithetic,
                                options->accumulate,
                                trainer->batch,
                                trainer->lane_count,
                                options->lane_samples,
                                trainer->runner.tile,
                                trainer->parameter_elements};
    return rank_inputs_check_numbers(options->resources.ranks, numbers,
                                     sizeof numbers / sizeof numbers[0], error);
}

int trainer_ranks_check(const struct ivon_trainer *trainer, const struct ivon_train_start *start,
                        struct ivon_examples *examples, struct ivon_error *error)
{
    struct ivon_ranks *ranks = trainer->options.resources.ranks;
    int code = trainer_ranks_check_options(trainer, error);
    if (!code && start->weights)
        code = rank_inputs_check_source(ranks, start->weights, error);
    if (!code && start->prior)
        code = rank_inputs_check_source(ranks, start->prior, error);
    return code ? code : rank_inputs_check_examples(ranks, examples, error);
}

static uint64_t trainer_ranks_digest(const struct ivon_trainer *trainer)
{
    uint64_t digest = DIGEST_START;
    for (size_t i = 0; i < trainer->network->parameter_count; i++) {
        size_t size = trainer_parameter(trainer, i)->count * sizeof(float);
        const float *hessian = optimizer_hessian(trainer->optimizer, i);
        digest = digest_add(digest, optimizer_mean(trainer->optimizer, i), size);
        digest = hessian ? digest_add(digest, hessian, size) : digest;
    }
    return digest;
}

int trainer_ranks_compare(const struct ivon_trainer *trainer, struct ivon_error *error)
{
    struct ivon_ranks *ranks = trainer->options.resources.ranks;
    uint64_t step = optimizer_steps(trainer->optimizer);
    size_t count = (size_t)ivon_ranks_count(ranks);
    if (!ranks || (step % trainer->epoch_steps != 0 && step != trainer->options.steps))
        return 0;
    uint64_t own = trainer_ranks_digest(trainer), *all = calloc(count, sizeof *all);
    int code = all ? ranks_exchange(ranks, &own, sizeof own, all, error) : ivon_error_memory(error);
    for (size_t r = 1; r < count && !code; r++)
        if (all[r] != all[0])
            code = ivon_error_set(error, IVON_ERROR_INTERNAL,
                                  "step %" PRIu64 ": rank %zu has other weights than rank 0: are "
                                  "their processors of one kind?",
                                  step, r);
    free(all);
    return code;
}
