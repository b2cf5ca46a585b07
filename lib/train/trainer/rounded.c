/* Means that checkpoints have in a smaller type. What the training goes on from are floats, which
   are momenta of the checkpoint. */
#include <stdlib.h>

#include "bayes/transfer.h"
#include "core/error.h"
#include "train/trainer/private.h"

int rounded_begin(struct ivon_trainer *trainer, struct ivon_error *error)
{
    enum ivon_dtype dtype = trainer->options.mean_dtype;
    size_t count = trainer->network->parameter_count;
    if (dtype == IVON_F32)
        return 0;
    trainer->rounded = calloc(count + 1, sizeof *trainer->rounded);
    if (!trainer->rounded)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        trainer->rounded[i] = calloc(trainer_parameter(trainer, i)->count + 1,
                                     ivon_dtype_size(dtype));
        if (!trainer->rounded[i])
            return ivon_error_memory(error);
    }
    return 0;
}

void rounded_release(struct ivon_trainer *trainer)
{
    for (size_t i = 0; trainer->rounded && i < trainer->network->parameter_count; i++)
        free(trainer->rounded[i]);
    free(trainer->rounded);
}

int rounded_set(const struct ivon_trainer *trainer, struct ivon_error *error)
{
    enum ivon_dtype dtype = trainer->options.mean_dtype;
    for (size_t i = 0; trainer->rounded && i < trainer->network->parameter_count; i++) {
        const struct ivon_tensor *tensor = trainer_parameter(trainer, i);
        const float *mean = trainer_mean(trainer, i);
        size_t done = transfer_convert(trainer->rounded[i], dtype, mean, IVON_F32, tensor->count);
        if (done < tensor->count)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "tensor '%s': element %zu of the mean is %g, more than %s holds",
                                  tensor->name, done, (double)mean[done], ivon_dtype_name(dtype));
    }
    return 0;
}
