/*
 * The exponential average of the means after each step,
 *
 *   a_t = Σ_k d^(t−k) m_k / Σ_k d^(t−k),  k = 1 … t;    a_t = a_{t−1} + c (m_t − a_{t−1}),
 *
 * with c = (1 − d)/(1 − dᵗ): debiased as Adam's momenta are, so that the means that the training
 * began with have no part in it.
 */
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/thread_pool.h"
#include "train/trainer/private.h"

enum { WORTH_A_THREAD = 1 << 15 /* elements */, THREADS_MAX = 8 };

int average_begin(struct ivon_trainer *trainer, struct ivon_error *error)
{
    if (!(trainer->options.average > 0))
        return 0;
    int code = weights_init(&trainer->average, trainer->network, error);
    for (size_t i = 0; i < trainer->network->parameter_count && !code; i++) {
        const struct start_tensor *item = &trainer->start.items[trainer->network->parameters[i]];
        memcpy(trainer->average.arrays[i], item->data, item->tensor.count * sizeof(float));
    }
    return code;
}

IVON_DISPATCH static void average_move(float *restrict average, const float *restrict mean,
                                       double share, size_t count)
{
    for (size_t i = 0; i < count; i++)
        average[i] = (float)((1 - share) * (double)average[i] + share * (double)mean[i]);
}

struct averaging {
    const struct ivon_trainer *trainer;
    double share;
};

static int average_parameter(void *context, size_t i, int thread, struct ivon_error *error)
{
    const struct averaging *averaging = context;
    const struct ivon_trainer *trainer = averaging->trainer;
    (void)thread;
    (void)error;
    average_move(trainer->average.arrays[i], optimizer_network_mean(trainer->optimizer, i),
                 averaging->share, trainer_parameter(trainer, i)->count);
    return 0;
}

int average_add(struct ivon_trainer *trainer, struct ivon_error *error)
{
    double decay = trainer->options.average;
    uint64_t steps = optimizer_steps(trainer->optimizer);
    if (!trainer->average.arrays)
        return 0;
    int code = optimizer_place_means(trainer->optimizer, error);
    struct averaging averaging = {trainer, (1 - decay) / -expm1((double)steps * log(decay))};
    uint64_t threads = trainer->parameter_elements / WORTH_A_THREAD + 1;
    return code ? code
                : thread_pool_run(trainer->pool, threads < THREADS_MAX ? (int)threads : THREADS_MAX,
                                  trainer->network->parameter_count, average_parameter, &averaging,
                                  error);
}

const float *trainer_mean(const struct ivon_trainer *trainer, size_t parameter)
{
    return trainer->average.arrays ? trainer->average.arrays[parameter]
                                   : optimizer_network_mean(trainer->optimizer, parameter);
}
