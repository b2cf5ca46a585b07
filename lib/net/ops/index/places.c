#include "net/ops/index/places.h"

#include <inttypes.h>
#include <string.h>

int net_places_size(const struct net_call *call, size_t count, size_t *size,
                    struct ivon_error *error)
{
    if (count > SIZE_MAX / 64)
        return net_fail(call, error, "the indices are too many");
    *size = count * sizeof(size_t);
    return 0;
}

int net_places_index(const struct net_call *call, size_t at, int64_t extent, int64_t *index,
                     struct ivon_error *error)
{
    int64_t found = ((const int64_t *)call->inputs[1]->data)[at];
    if (found < -extent || found >= extent)
        return net_fail(call, error,
                        "index %" PRId64 " at position %zu is out of range for an axis of extent "
                        "%" PRId64,
                        found, at, extent);
    *index = found + (found < 0 ? extent : 0);
    return 0;
}

int net_places_of_elements(const struct net_call *call, int axis, struct net_places *places,
                           struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int64_t position[IVON_RANK_MAX] = {0};
    size_t *offsets = call->workspace;
    *places = (struct net_places){0, 1, offsets};
    for (size_t n = 0; n < indices->count; n++) {
        int64_t offset = 0, named = 0;
        int code = net_places_index(call, n, input->shape[axis], &named, error);
        if (code)
            return code;
        for (int i = 0; i < input->rank; i++)
            offset = offset * input->shape[i] + (i == axis ? named : position[i]);
        offsets[n] = (size_t)offset;
        for (int i = input->rank - 1; i >= 0 && ++position[i] == indices->shape[i]; i--)
            position[i] = 0;
    }
    places->count = indices->count;
    return 0;
}

int net_places_of_tuples(const struct net_call *call, int batch_dims, struct net_places *places,
                         struct ivon_error *error)
{
    const struct net_tensor *input = call->inputs[0], *indices = call->inputs[1];
    int length = (int)indices->shape[indices->rank - 1];
    size_t *offsets = call->workspace, rows = 1, batches = 1, run = 1;
    for (int i = 0; i < indices->rank - 1; i++)
        rows *= (size_t)indices->shape[i];
    for (int i = 0; i < batch_dims; i++)
        batches *= (size_t)input->shape[i];
    for (int i = batch_dims + length; i < input->rank; i++)
        run *= (size_t)input->shape[i];
    *places = (struct net_places){0, run, offsets};
    for (size_t n = 0; n < rows; n++) {
        int64_t offset = (int64_t)(n / (rows / batches)), named = 0;
        for (int i = 0; i < length; i++) {
            int64_t extent = input->shape[batch_dims + i];
            int code = net_places_index(call, n * (size_t)length + (size_t)i, extent, &named,
                                        error);
            if (code)
                return code;
            offset = offset * extent + named;
        }
        offsets[n] = (size_t)offset * run;
    }
    places->count = rows;
    return 0;
}

static void places_copy(const struct net_places *places, void *out, const void *in,
                        size_t element_size)
{
    size_t size = places->run * element_size;
    for (size_t n = 0; size && n < places->count; n++)
        memcpy((char *)out + n * size, (const char *)in + places->offsets[n] * element_size, size);
}

int net_places_forward(const struct net_call *call, net_places_rule *rule, struct ivon_error *error)
{
    struct net_places places;
    int code = rule(call, &places, error);
    if (!code)
        places_copy(&places, call->outputs[0]->data, call->inputs[0]->data,
                    net_type_size(call->inputs[0]->type));
    return code;
}

void net_places_backward(const struct net_call *call, net_places_rule *rule,
                         const float *const *output_adjoints, float *const *input_adjoints)
{
    struct net_places places;
    const float *from = output_adjoints[0];
    if (!input_adjoints[0] || !from || rule(call, &places, NULL))
        return;
    for (size_t n = 0; n < places.count; n++, from += places.run) {
        float *to = input_adjoints[0] + places.offsets[n];
        for (size_t i = 0; i < places.run; i++)
            to[i] += from[i];
    }
}

void net_places_tangent(const struct net_call *call, net_places_rule *rule,
                        const float *const *input_tangents, float *const *output_tangents)
{
    struct net_places places;
    if (input_tangents[0] && !rule(call, &places, NULL))
        places_copy(&places, output_tangents[0], input_tangents[0], sizeof(float));
    else
        memset(output_tangents[0], 0, call->outputs[0]->count * sizeof(float));
}
