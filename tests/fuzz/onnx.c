/* Opens bytes as a network, from memory and from a file that may have external data; plans and runs
   what is accepted, on inputs of zeros; and writes it, to be read again. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ivon/onnx.h"
#include "net/plan/plan.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/network.h"

enum {
    FREE_EXTENT = 3,
    MEMORY = 1 << 20, /* of a plan */
    INPUTS_MAX = 8,
    WEIGHTS = 256, /* bytes of external data */
};

static volatile float kept; /* so that no read is optimised away */

/* The shapes to plan for; false when they are too large to try. */
static bool describe_inputs(const struct ivon_network *network, struct net_tensor *inputs)
{
    bool fine = network->input_count <= INPUTS_MAX;
    for (size_t i = 0; fine && i < network->input_count; i++) {
        const struct net_tensor *input = &network->values[network->inputs[i]].tensor;
        int64_t shape[IVON_RANK_MAX];
        for (int k = 0; k < input->rank; k++)
            shape[k] = input->shape[k] < 0 ? FREE_EXTENT : input->shape[k];
        fine = net_tensor_set(&inputs[i], input->type, input->rank, shape, NULL) == 0 &&
               inputs[i].count <= MEMORY / 8;
    }
    return fine;
}

/* Whether a writer's own shapes are no larger than those that were run. */
static bool free_in_batch_alone(const struct ivon_network *network)
{
    for (size_t i = 0; i < network->input_count; i++) {
        const struct net_tensor *input = &network->values[network->inputs[i]].tensor;
        for (int k = 1; k < input->rank; k++)
            if (input->shape[k] < 0)
                return false;
    }
    return true;
}

/* What was run at three examples may not be defined for two; what is written can be read. */
static void write_again(const struct ivon_network *network)
{
    struct ivon_network *again = NULL;
    struct ivon_error error = {0};
    void *bytes = NULL;
    size_t size = 0;
    int code = ivon_onnx_write(&bytes, &size, network, NULL, &error);
    if (code)
        check_error(code, &error);
    else
        assert(ivon_onnx_from_memory(&again, "written.onnx", bytes, size, &error) == 0);
    assert(!again || again->node_count == network->node_count);
    ivon_network_free(again);
    free(bytes);
}

static void run(const struct ivon_network *network)
{
    static const _Alignas(64) char zeros[MEMORY];
    struct net_tensor inputs[INPUTS_MAX] = {{0}};
    const void *data[INPUTS_MAX];
    struct net_plan *plan = NULL;
    struct ivon_error error = {0};
    for (size_t i = 0; i < INPUTS_MAX; i++)
        data[i] = zeros;
    if (!describe_inputs(network, inputs))
        return;
    int code = net_plan_new(&plan, network, inputs, MEMORY, &error);
    if (!code)
        code = net_plan_run(plan, data, &error);
    if (code)
        check_error(code, &error);
    for (size_t i = 0; !code && i < network->output_count; i++) {
        const struct net_tensor *output = net_plan_output(plan, i);
        for (size_t j = 0; output->type == NET_FLOAT && j < output->count; j++)
            kept = ((const float *)output->data)[j];
    }
    net_plan_free(plan);
    if (!code && free_in_batch_alone(network))
        write_again(network);
}

static void write_file(const char *path, const void *data, size_t size)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
}

static char directory[4000], path[4096], external[4096];

static void remove_files(void)
{
    unlink(path);
    unlink(external);
    rmdir(directory);
}

/* A directory of its own, with weights.bin, for all inputs. */
static void make_directory(void)
{
    static const char weights[WEIGHTS];
    const char *scratch = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/ivon-fuzz-XXXXXX", scratch ? scratch : "/dev/shm");
    assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/model.onnx", directory);
    snprintf(external, sizeof external, "%s/weights.bin", directory);
    write_file(external, weights, sizeof weights);
    atexit(remove_files);
}

static int open_file(struct ivon_network **network, const uint8_t *data, size_t size,
                     struct ivon_error *error)
{
    if (!*directory)
        make_directory();
    write_file(path, data, size);
    return ivon_onnx_open(network, path, error);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    struct ivon_network *network = NULL, *again = NULL;
    struct ivon_error error = {0}, other = {0};
    int code = ivon_onnx_from_memory(&network, "fuzz.onnx", data, size, &error);
    int from_file = open_file(&again, data, size, &other);
    if (code)
        check_error(code, &error);
    if (from_file)
        check_error(from_file, &other);
    assert(code || !from_file); /* external data are all that the file adds */
    if (again)
        run(again);
    ivon_network_free(network);
    ivon_network_free(again);
    return from_file ? -1 : 0;
}
