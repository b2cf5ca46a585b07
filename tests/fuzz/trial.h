/* A network with arrays for each of its parameters, and examples. */
#ifndef TESTS_FUZZ_TRIAL_H
#define TESTS_FUZZ_TRIAL_H

#include "net/graph/training.h"
#include "tests/fuzz/network.h"

enum {
    TILE = 3,
    FREE_EXTENT = 3,
    INPUTS_MAX = 4,
    INPUT_SIZE = 1 << 14, /* elements */
};

struct trial {
    const struct ivon_network *network;
    const struct checkpoint *checkpoint;
    uint64_t state; /* of its random numbers */
    size_t parameters, tile;
    bool *wanted;
    float **values, **direction, **diagonal;
    struct net_block *list;
    const struct net_block **blocks; /* of some parameters; without bases, so that Σ is diagonal */
    struct net_tensor inputs[INPUTS_MAX], unit_inputs[INPUTS_MAX];
    void *data[INPUTS_MAX];
    struct net_training *training;
};

static inline double uniform(struct trial *trial, double low, double high)
{
    trial->state = trial->state * 6364136223846793005U + 1442695040888963407U;
    return low + (high - low) * (double)(trial->state >> 40) / 16777216.0;
}

static inline size_t size_of(const struct trial *trial, size_t parameter)
{
    return trial->checkpoint->tensors[trial->network->parameters[parameter]].count;
}

static inline float **new_arrays(struct trial *trial, double low, double high)
{
    float **arrays = calloc(trial->parameters + 1, sizeof *arrays);
    assert(arrays);
    for (size_t p = 0; p < trial->parameters; p++) {
        arrays[p] = allocate(size_of(trial, p) * sizeof **arrays);
        for (size_t i = 0; i < size_of(trial, p); i++)
            arrays[p][i] = (float)(high > low ? uniform(trial, low, high) : low);
    }
    return arrays;
}

static inline void free_arrays(const struct trial *trial, float **arrays)
{
    for (size_t p = 0; p < trial->parameters; p++)
        free(arrays[p]);
    free(arrays);
}

static inline float *new_adjoints(struct trial *trial, size_t count)
{
    float *adjoints = allocate(count * sizeof *adjoints);
    for (size_t i = 0; i < count; i++)
        adjoints[i] = (float)uniform(trial, -1, 1);
    return adjoints;
}

/* Inputs. */

static inline bool describe(struct net_tensor *input, const struct net_tensor *declared,
                            int64_t examples)
{
    int64_t shape[IVON_RANK_MAX] = {examples};
    for (int k = 1; k < declared->rank; k++)
        shape[k] = declared->shape[k] < 0 ? FREE_EXTENT : declared->shape[k];
    return net_tensor_set(input, declared->type, declared->rank, shape, NULL) == 0 &&
           input->count <= INPUT_SIZE;
}

static inline void fill(struct trial *trial, size_t i)
{
    const struct net_tensor *input = &trial->inputs[i];
    trial->data[i] = allocate(input->count * net_type_size(input->type));
    for (size_t j = 0; j < input->count; j++)
        if (input->type == NET_FLOAT)
            ((float *)trial->data[i])[j] = (float)uniform(trial, -2, 2);
        else
            ((int64_t *)trial->data[i])[j] = (int64_t)uniform(trial, -1, 3);
}

/* The shapes to plan for, as examples are fed: several at a time, or one where the graph takes no
   other number; false where they cannot be, or are too large. */
static inline bool make_inputs(struct trial *trial)
{
    const struct ivon_network *network = trial->network;
    trial->tile = TILE;
    if (!network->input_count || network->input_count > INPUTS_MAX)
        return false;
    for (size_t i = 0; i < network->input_count; i++) {
        const struct net_tensor *input = &network->values[network->inputs[i]].tensor;
        if (!input->rank || input->type == NET_BOOLEAN ||
            (input->shape[0] >= 0 && input->shape[0] != 1))
            return false;
        if (input->shape[0] == 1)
            trial->tile = 1;
    }
    for (size_t i = 0; i < network->input_count; i++) {
        const struct net_tensor *input = &network->values[network->inputs[i]].tensor;
        if (!describe(&trial->inputs[i], input, (int64_t)trial->tile) ||
            !describe(&trial->unit_inputs[i], input, 1))
            return false;
        fill(trial, i);
    }
    return true;
}

static inline void make_blocks(struct trial *trial)
{
    trial->list = calloc(trial->parameters + 1, sizeof *trial->list);
    trial->blocks = calloc(trial->parameters + 1, sizeof *trial->blocks);
    assert(trial->list && trial->blocks);
    for (size_t p = 0; p < trial->parameters; p += 2) {
        const struct ivon_tensor *tensor =
            &trial->checkpoint->tensors[trial->network->parameters[p]];
        size_t rows = tensor->rank ? (size_t)tensor->shape[0] : 1;
        trial->list[p] = (struct net_block){.weight = p,
                                            .bias = NET_NONE,
                                            .rows = rows,
                                            .columns = rows ? tensor->count / rows : 0,
                                            .diagonal = trial->diagonal[p]};
        trial->blocks[p] = &trial->list[p];
    }
}

/* False where no examples can be fed to the network. */
static inline bool trial_begin(struct trial *trial, const struct ivon_network *network,
                               const struct checkpoint *checkpoint, uint64_t seed)
{
    *trial = (struct trial){.network = network,
                            .checkpoint = checkpoint,
                            .state = seed,
                            .parameters = network->parameter_count};
    trial->wanted = calloc(trial->parameters + 1, sizeof *trial->wanted);
    trial->values = calloc(trial->parameters + 1, sizeof *trial->values);
    assert(trial->wanted && trial->values);
    for (size_t p = 0; p < trial->parameters; p++)
        trial->values[p] = checkpoint->data[network->parameters[p]];
    trial->direction = new_arrays(trial, -1, 1);
    trial->diagonal = new_arrays(trial, 0.1, 1);
    make_blocks(trial);
    return make_inputs(trial);
}

static inline void trial_end(struct trial *trial)
{
    free_arrays(trial, trial->direction);
    free_arrays(trial, trial->diagonal);
    for (size_t i = 0; i < INPUTS_MAX; i++)
        free(trial->data[i]);
    free(trial->list);
    free(trial->blocks);
    free(trial->values);
    free(trial->wanted);
}

#endif
