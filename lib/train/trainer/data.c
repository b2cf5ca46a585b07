/* The training data in memory, and which of them a step takes. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "train/trainer/private.h"

static size_t targets_size(const struct ivon_trainer *trainer)
{
    return outputs_targets(&trainer->outputs) *
           (ivon_likelihood_traits(trainer->outputs.likelihood)->regression ? sizeof(float)
                                                                            : sizeof(int64_t));
}

static int take_augmentation(struct ivon_trainer *trainer, struct ivon_error *error)
{
    struct training_data *data = &trainer->data;
    const struct ivon_network *network = trainer->network;
    const struct net_value *input = &network->values[network->inputs[0]];
    struct net_tensor shape;
    if (!trainer->options.augmentation)
        return 0;
    int code = augmentation_make(&data->augmentation, trainer->options.augmentation,
                                 trainer->options.crop, trainer->options.cutout, error);
    if (code)
        return code;
    if (network->input_count != 1 || input->tensor.type != NET_FLOAT || input->tensor.rank != 4)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: augmentation is for networks with one input of examples x "
                              "channels x height x width",
                              network->path);
    code = feed_shapes(&data->feed, 1, &shape, error);
    memcpy(data->image, shape.shape + 1, sizeof data->image);
    data->augmented = true;
    if (!code && data->augmentation.reflect &&
        (data->augmentation.crop >= data->image[1] || data->augmentation.crop >= data->image[2]))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: images of %lld x %lld pixels cannot be reflected by %lld, "
                              "expected fewer than they are wide and high",
                              network->path, (long long)data->image[1], (long long)data->image[2],
                              (long long)data->augmentation.crop);
    return code;
}

int data_open(struct ivon_trainer *trainer, struct ivon_examples *examples,
              struct ivon_error *error)
{
    struct training_data *data = &trainer->data;
    const char *path = ivon_examples_path(examples);
    uint64_t count = ivon_examples_count(examples);
    int code = feed_open(&data->feed, trainer->network, examples, trainer->options.task.inputs,
                         trainer->options.task.input_count, error);
    if (code)
        return code;
    if (!count || count >= UINT32_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: %" PRIu64 " examples, expected from 1 to 4294967294", path,
                              count);
    if (data->feed.fixed > 1)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: takes exactly %lld examples at a time: export it with a free "
                              "batch axis, or for one example",
                              trainer->network->path, (long long)data->feed.fixed);
    double size = (double)count * (double)feed_example_size(&data->feed);
    if (trainer->options.resources.memory && size > (double)trainer->options.resources.memory)
        return ivon_error_hint(
            error, IVON_HINT_MEMORY,
            ivon_error_set(error, IVON_ERROR_MEMORY,
                           "%s: the inputs take %.6g MB of memory, %.6g MB are allowed", path,
                           size / 1e6, (double)trainer->options.resources.memory / 1e6));
    data->count = count;
    data->size = (size_t)size;
    code = feed_load(&data->feed, 0, (size_t)count, error);
    return code ? code : take_augmentation(trainer, error);
}

/* How many losses an example has. */
static uint64_t count_losses(const struct ivon_trainer *trainer, uint64_t example)
{
    const struct outputs *outputs = &trainer->outputs;
    const struct row_targets targets = {.labels = trainer->data.labels,
                                        .ignored = trainer->options.task.ignored};
    uint64_t counted = 0;
    for (size_t t = 0; t < outputs->tokens; t++)
        counted += targets_count(&targets, outputs->likelihood, outputs->k,
                                 (size_t)example * outputs->tokens + t);
    return counted;
}

int data_read_targets(struct ivon_trainer *trainer, struct ivon_examples *examples, size_t field,
                      struct ivon_error *error)
{
    struct training_data *data = &trainer->data;
    const char *path = ivon_examples_path(examples);
    int code = outputs_check_targets(&trainer->outputs, examples, field, error);
    if (code)
        return code;
    void *memory = calloc(data->count, targets_size(trainer));
    if (!memory)
        return ivon_error_memory(error);
    if (ivon_likelihood_traits(trainer->outputs.likelihood)->regression)
        data->numbers = memory;
    else
        data->labels = memory;
    code = outputs_read_targets(&trainer->outputs, examples, field, 0, (size_t)data->count,
                                trainer->options.task.ignored, data->labels, data->numbers, error);
    if (code)
        return code;
    for (size_t i = 0; i < data->count; i++)
        data->losses += count_losses(trainer, i);
    return data->losses
               ? 0
               : ivon_error_set(error, IVON_ERROR_DATA, "%s: all targets are to be ignored", path);
}

void data_close(struct training_data *data)
{
    if (data->feed.network)
        feed_close(&data->feed);
    free(data->labels);
    free(data->numbers);
    *data = (struct training_data){0};
}

double data_weight(const struct ivon_trainer *trainer, uint64_t example)
{
    const double *weights = trainer->objective.weights;
    const int64_t *labels = trainer->data.labels + example * trainer->outputs.tokens;
    double weight = 0;
    if (!weights)
        return (double)count_losses(trainer, example);
    for (size_t t = 0; t < trainer->outputs.tokens; t++)
        weight += labels[t] == trainer->options.task.ignored ? 0 : weights[labels[t]];
    return weight;
}

double data_choose(struct ivon_trainer *trainer)
{
    const struct training_data *data = &trainer->data;
    uint64_t first = optimizer_steps(trainer->optimizer) * trainer->options.accumulate;
    struct chosen *chosen = trainer->chosen;
    double weight = 0;
    for (uint64_t batch = first; batch < first + trainer->options.accumulate; batch++) {
        uint64_t epoch = batch / trainer->epoch_batches;
        size_t at = (size_t)(batch % trainer->epoch_batches) * trainer->batch;
        if (epoch != trainer->order_epoch)
            order_shuffle(trainer->order, (size_t)data->count, trainer->options.seed, epoch);
        trainer->order_epoch = epoch;
        for (size_t i = 0; i < trainer->batch; i++, chosen++) {
            *chosen = (struct chosen){trainer->order[at + i], epoch};
            weight += data_weight(trainer, chosen->example);
        }
    }
    return weight;
}

static void gather_input(const struct ivon_trainer *trainer, const struct feed_field *input,
                         const struct chosen *chosen, size_t count, char *to)
{
    const struct training_data *data = &trainer->data;
    size_t size = input->count * net_type_size(input->type);
    for (size_t i = 0; i < count; i++) {
        const char *from = (const char *)input->data + chosen[i].example * size;
        if (data->augmented)
            augmentation_apply(&data->augmentation, trainer->options.seed, chosen[i].epoch,
                               chosen[i].example, data->image[0], data->image[1], data->image[2],
                               (const float *)(const void *)from, (float *)(void *)(to + i * size));
        else
            memcpy(to + i * size, from, size);
    }
    for (size_t i = count; i < trainer->runner.tile; i++)
        memcpy(to + i * size, to + (count - 1) * size, size);
}

static void gather_targets(const struct ivon_trainer *trainer, struct lane *lane,
                           const struct chosen *chosen, size_t count)
{
    const struct training_data *data = &trainer->data;
    size_t width = outputs_targets(&trainer->outputs);
    for (size_t i = 0; i < count; i++) {
        size_t from = chosen[i].example * width;
        if (data->labels)
            memcpy(lane->labels + i * width, data->labels + from, width * sizeof *lane->labels);
        else
            memcpy(lane->numbers + i * width, data->numbers + from, width * sizeof *lane->numbers);
    }
}

void data_gather(const struct ivon_trainer *trainer, struct lane *lane, size_t at, size_t count)
{
    const struct chosen *chosen = trainer->chosen + at;
    char *to = lane->worker->scratch;
    for (size_t i = 0; i < trainer->network->input_count; i++) {
        const struct feed_field *input = &trainer->data.feed.inputs[i];
        size_t size = trainer->runner.tile * input->count * net_type_size(input->type);
        gather_input(trainer, input, chosen, count, to);
        lane->worker->inputs[i] = to;
        to += memory_rounded(size);
    }
    gather_targets(trainer, lane, chosen, count);
}
