/*
 * Ranks sum gradients together, and then each makes the same step by itself. Were the processors of
 * two of them different, products by the bases of EVON might be, too, in their last bits, and the
 * ranks would go on with other weights, step by step. So they compare them from time to time.
 */
#include "core/ranks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "train/trainer/private.h"

/* Fowler, Noll and Vo's hash, by floats. */
static uint64_t hash_floats(uint64_t hash, const float *values, size_t count)
{
    for (size_t i = 0; i < count && values; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        hash = (hash ^ bits) * 0x100000001B3U;
    }
    return hash;
}

static uint64_t hash_state(const struct ivon_trainer *trainer)
{
    uint64_t hash = 0xCBF29CE484222325U;
    for (size_t i = 0; i < trainer->network->parameter_count; i++) {
        size_t count = trainer_parameter(trainer, i)->count;
        hash = hash_floats(hash, optimizer_mean(trainer->optimizer, i), count);
        hash = hash_floats(hash, optimizer_hessian(trainer->optimizer, i), count);
    }
    return hash;
}

int trainer_ranks_compare(const struct ivon_trainer *trainer, struct ivon_error *error)
{
    struct ivon_ranks *ranks = trainer->options.resources.ranks;
    uint64_t step = optimizer_steps(trainer->optimizer);
    size_t count = (size_t)ivon_ranks_count(ranks);
    if (!ranks || (step % trainer->epoch_steps != 0 && step != trainer->options.steps))
        return 0;
    uint64_t own = hash_state(trainer), *all = calloc(count, sizeof *all);
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
