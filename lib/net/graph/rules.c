#include "net/graph/rules.h"

#include <inttypes.h>

#include "core/error.h"

const struct net_tensor *net_input(const struct net_call *call, size_t i)
{
    return i < call->node->input_count ? call->inputs[i] : NULL;
}

int net_known_list(const struct net_call *call, size_t i, const char *what, const int64_t **values,
                   size_t *count, struct ivon_error *error)
{
    const struct net_tensor *input = net_input(call, i);
    *values = NULL;
    *count = 0;
    if (!input)
        return 0;
    char text[256];
    if (input->type != NET_INTEGER || input->rank > 1)
        return net_fail(call, error, "%s: %s of shape %s, expected a list of integers", what,
                        net_type_name(input->type), net_shape_text(input, text));
    if (!input->data)
        return net_fail(call, error, "%s depends on the data, which is not supported", what);
    *values = input->data;
    *count = input->count;
    return 0;
}

int net_attribute_or_list(const struct net_call *call, size_t i, const char *name,
                          const int64_t **values, size_t *count, struct ivon_error *error)
{
    *values = net_attribute_integers(call->node, name, count);
    return *values ? 0 : net_known_list(call, i, name, values, count, error);
}

int net_known_shape(const struct net_call *call, size_t i, const int64_t **values, int *rank,
                    struct ivon_error *error)
{
    size_t count;
    int code = net_known_list(call, i, "the shape", values, &count, error);
    if (code)
        return code;
    if (count > IVON_RANK_MAX)
        return net_fail(call, error, "a shape of %zu extents, at most %d are supported", count,
                        IVON_RANK_MAX);
    for (size_t k = 0; k < count; k++)
        if ((*values)[k] < 0)
            return net_fail(call, error, "a shape with an extent of %" PRId64, (*values)[k]);
    *rank = (int)count;
    return 0;
}

int net_example_axis(const struct net_tensor *tile, const struct net_tensor *example)
{
    for (int i = 0; i < tile->rank && i < example->rank; i++)
        if (tile->shape[i] != example->shape[i])
            return i;
    return -1;
}

int net_output(const struct net_call *call, size_t i, enum net_type type, int rank,
               const int64_t *shape, struct ivon_error *error)
{
    if (!call->outputs[i])
        return 0;
    struct ivon_error reason = {0};
    int code = net_tensor_set(call->outputs[i], type, rank, shape, &reason);
    return code ? net_fail(call, error, "%s", reason.message) : 0;
}

int net_output_made(const struct net_call *call, size_t i, enum net_type type, int rank,
                    const int64_t *shape, size_t least, struct ivon_error *error)
{
    const size_t most = (size_t)1 << 31;
    int code = net_output(call, i, type, rank, shape, error);
    const struct net_tensor *output = call->outputs[i];
    char text[256];
    if (code || !output || output->count <= most || output->count <= least)
        return code;
    return net_fail(call, error,
                    "it would make a tensor of shape %s, at most %zu elements are "
                    "supported",
                    net_shape_text(output, text), most);
}
