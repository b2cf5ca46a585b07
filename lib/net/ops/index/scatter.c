/* Operators that put updates into a copy of a tensor, at places that indices name. */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/index/places.h"

/*
 * out = data, then for each update u in order: out[place] = u, or what it makes together with what
 * is there: their sum, product, maximum or minimum. So where places are equal, the last update
 * wins, or all count.
 *
 * Derivatives follow that order: a tangent moves with each step, an adjoint is taken apart in the
 * reverse order, for which products and extrema need what was there before each update. With equal
 * values, a maximum is what was there before.
 */

enum reduction { REPLACE, ADD, MULTIPLY, MAXIMUM, MINIMUM };

struct scatter {
    struct net_places places;
    enum reduction reduction;
    size_t input; /* of the updates */
    size_t data_count, update_count;
    /* In the workspace, for derivatives: */
    float *values; /* as data: the outputs so far */
    float *before; /* for each update, what was there */
    float *rest;   /* as data: the adjoint that is still to be distributed */
};

static int scatter_reduction(const struct net_call *call, enum reduction *reduction,
                             struct ivon_error *error)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const char *name = net_attribute_text(call->node, "reduction", "none");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *reduction = (enum reduction)i;
            return 0;
        }
    return net_fail(call, error, "reduction '%s', expected none, add, mul, max or min", name);
}

/* Checks types; sets the output and the workspace for so many runs. */
static int scatter_output(struct net_call *call, size_t input, size_t runs,
                          struct ivon_error *error)
{
    const struct net_tensor *data = call->inputs[0], *updates = call->inputs[input];
    enum reduction reduction = REPLACE;
    size_t size = 0;
    int code = scatter_reduction(call, &reduction, error);
    if (!code && updates->type != data->type)
        code = net_fail(call, error, "updates of type %s for data of type %s",
                        net_type_name(updates->type), net_type_name(data->type));
    if (!code && data->type == NET_BOOLEAN && reduction != REPLACE)
        code = net_fail(call, error, "a reduction of booleans, expected numbers");
    if (!code && (data->count > SIZE_MAX / 64 || updates->count > SIZE_MAX / 64))
        code = net_fail(call, error, "the data are too large");
    if (!code)
        code = net_places_size(call, runs, &size, error);
    if (code)
        return code;
    call->workspace_size = size + (2 * data->count + updates->count) * sizeof(float);
    return net_output(call, 0, data->type, data->rank, data->shape, error);
}

static int scatter_begin(const struct net_call *call, net_places_rule *rule, size_t input,
                         struct scatter *scatter, struct ivon_error *error)
{
    *scatter = (struct scatter){.input = input};
    scatter_reduction(call, &scatter->reduction, NULL); /* succeeded in infer */
    int code = rule(call, &scatter->places, error);
    scatter->data_count = call->inputs[0]->count;
    scatter->update_count = call->inputs[input]->count;
    scatter->values = (float *)((size_t *)call->workspace + scatter->places.count);
    scatter->before = scatter->values + scatter->data_count;
    scatter->rest = scatter->before + scatter->update_count;
    return code;
}

/* Returns where update n goes. */
static size_t scatter_place(const struct scatter *scatter, size_t n)
{
    return scatter->places.offsets[n / scatter->places.run] + n % scatter->places.run;
}

static void scatter_runs(const struct scatter *scatter, void *out, const void *updates,
                         size_t element_size)
{
    size_t size = scatter->places.run * element_size;
    for (size_t n = 0; size && n < scatter->places.count; n++)
        memcpy((char *)out + scatter->places.offsets[n] * element_size,
               (const char *)updates + n * size, size);
}

static float scatter_combine(enum reduction reduction, float value, float update)
{
    switch (reduction) {
    case ADD:
        return value + update;
    case MULTIPLY:
        return value * update;
    case MAXIMUM:
        return update > value || update != update ? update : value;
    case MINIMUM:
        return update < value || update != update ? update : value;
    default:
        return update;
    }
}

static int64_t scatter_combine_integers(enum reduction reduction, int64_t value, int64_t update)
{
    switch (reduction) {
    case ADD:
        return (int64_t)((uint64_t)value + (uint64_t)update);
    case MULTIPLY:
        return (int64_t)((uint64_t)value * (uint64_t)update);
    case MAXIMUM:
        return update > value ? update : value;
    case MINIMUM:
        return update < value ? update : value;
    default:
        return update;
    }
}

static int scatter_forward(const struct net_call *call, net_places_rule *rule, size_t input,
                           struct ivon_error *error)
{
    const struct net_tensor *data = call->inputs[0], *updates = call->inputs[input];
    struct scatter scatter;
    void *out = call->outputs[0]->data;
    size_t size = net_type_size(data->type);
    int code = scatter_begin(call, rule, input, &scatter, error);
    if (code)
        return code;
    if (data->count)
        memcpy(out, data->data, data->count * size);
    if (scatter.reduction == REPLACE) {
        scatter_runs(&scatter, out, updates->data, size);
        return 0;
    }
    for (size_t n = 0; n < updates->count; n++) {
        size_t at = scatter_place(&scatter, n);
        if (data->type == NET_FLOAT)
            ((float *)out)[at] = scatter_combine(scatter.reduction, ((float *)out)[at],
                                                 ((const float *)updates->data)[n]);
        else
            ((int64_t *)out)[at] = scatter_combine_integers(scatter.reduction, ((int64_t *)out)[at],
                                                            ((const int64_t *)updates->data)[n]);
    }
    return 0;
}

/* Returns whether an extremum becomes the update. */
static bool scatter_wins(enum reduction reduction, float before, float update)
{
    return scatter_combine(reduction, before, update) != before || update != update;
}

/* Replays forward, and keeps what was there before each update. */
static void scatter_record(const struct net_call *call, const struct scatter *scatter)
{
    const float *updates = call->inputs[scatter->input]->data;
    if (scatter->reduction < MULTIPLY || !scatter->data_count)
        return;
    memcpy(scatter->values, call->inputs[0]->data, scatter->data_count * sizeof(float));
    for (size_t n = 0; n < scatter->update_count; n++) {
        float *value = &scatter->values[scatter_place(scatter, n)];
        scatter->before[n] = *value;
        *value = scatter_combine(scatter->reduction, *value, updates[n]);
    }
}

static void scatter_tangent(const struct net_call *call, net_places_rule *rule, size_t input,
                            const float *const *input_tangents, float *const *output_tangents)
{
    const float *updates = call->inputs[input]->data, *moves = input_tangents[input];
    struct scatter scatter;
    float *out = output_tangents[0];
    if (input_tangents[0])
        memcpy(out, input_tangents[0], call->outputs[0]->count * sizeof(float));
    else
        memset(out, 0, call->outputs[0]->count * sizeof(float));
    if (scatter_begin(call, rule, input, &scatter, NULL))
        return;
    scatter_record(call, &scatter);
    for (size_t n = 0; n < scatter.update_count; n++) {
        float *to = &out[scatter_place(&scatter, n)], move = moves ? moves[n] : 0;
        if (scatter.reduction == ADD)
            *to += move;
        else if (scatter.reduction == MULTIPLY)
            *to = *to * updates[n] + scatter.before[n] * move;
        else if (scatter.reduction == REPLACE ||
                 scatter_wins(scatter.reduction, scatter.before[n], updates[n]))
            *to = move;
    }
}

static void scatter_backward(const struct net_call *call, net_places_rule *rule, size_t input,
                             const float *const *output_adjoints, float *const *input_adjoints)
{
    const float *updates = call->inputs[input]->data;
    float *to_data = input_adjoints[0], *to_updates = input_adjoints[input];
    struct scatter scatter;
    if (!output_adjoints[0] || !call->outputs[0]->count || (!to_data && !to_updates) ||
        scatter_begin(call, rule, input, &scatter, NULL))
        return;
    scatter_record(call, &scatter);
    memcpy(scatter.rest, output_adjoints[0], scatter.data_count * sizeof(float));
    for (size_t n = scatter.update_count; n-- > 0;) {
        float *rest = &scatter.rest[scatter_place(&scatter, n)], share = *rest;
        if (scatter.reduction == MULTIPLY) {
            share *= scatter.before[n];
            *rest *= updates[n];
        } else if (scatter.reduction > MULTIPLY &&
                   !scatter_wins(scatter.reduction, scatter.before[n], updates[n])) {
            share = 0;
        } else if (scatter.reduction != ADD) {
            *rest = 0;
        }
        if (to_updates)
            to_updates[n] += share;
    }
    for (size_t i = 0; to_data && i < scatter.data_count; i++)
        to_data[i] += scatter.rest[i];
}

/* The forward, backward and tangent of a row, from name##_places; its updates are input `input`. */
#define SCATTER_OPERATOR(name, input)                                                              \
    static int name##_forward(const struct net_call *call, struct ivon_error *error)               \
    {                                                                                              \
        return scatter_forward(call, name##_places, input, error);                                 \
    }                                                                                              \
    static void name##_backward(const struct net_call *call, const float *const *output_adjoints,  \
                                float *const *input_adjoints)                                      \
    {                                                                                              \
        scatter_backward(call, name##_places, input, output_adjoints, input_adjoints);             \
    }                                                                                              \
    static void name##_tangent(const struct net_call *call, const float *const *input_tangents,    \
                               float *const *output_tangents)                                      \
    {                                                                                              \
        scatter_tangent(call, name##_places, input, input_tangents, output_tangents);              \
    }

/* ScatterElements, and Scatter before it: update u[i_0 … i_n] goes to the place whose index along
   `axis` is indices[i_0 … i_n], and whose others are i_k. */

static int elements_axis(const struct net_call *call)
{
    return net_axis(net_attribute_integer(call->node, "axis", 0), call->inputs[0]->rank);
}

static int elements_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *data = call->inputs[0], *indices = call->inputs[1];
    int axis = elements_axis(call);
    if (axis < 0)
        return net_fail(call, error, "axis %" PRId64 " is none of the data's",
                        net_attribute_integer(call->node, "axis", 0));
    if (indices->type != NET_INTEGER)
        return net_fail(call, error, "indices of type %s, expected integers",
                        net_type_name(indices->type));
    bool fits = indices->rank == data->rank && net_same_shape(indices, call->inputs[2]);
    for (int i = 0; fits && i < data->rank; i++)
        fits = i == axis || indices->shape[i] <= data->shape[i];
    char a[256], b[256], c[256];
    if (!fits)
        return net_fail(call, error,
                        "indices of shape %s and updates of shape %s for data of "
                        "shape %s",
                        net_shape_text(indices, a), net_shape_text(call->inputs[2], b),
                        net_shape_text(data, c));
    return scatter_output(call, 2, indices->count, error);
}

static int elements_places(const struct net_call *call, struct net_places *places,
                           struct ivon_error *error)
{
    return net_places_of_elements(call, elements_axis(call), places, error);
}

/* Not if indices name examples, or if they are for the first examples of a tile only. */
static bool elements_separable(const struct net_call *tile, const struct net_call *example)
{
    int axis = net_example_axis(tile->inputs[0], example->inputs[0]);
    return axis < 0 ||
           (axis != elements_axis(tile) && !net_same_shape(tile->inputs[1], example->inputs[1]));
}

SCATTER_OPERATOR(elements, 2)

/* ScatterND: the update u[i, c] goes to out[indices[i], c]; the last axis of the indices holds the
   positions along the first axes of the data. */

static int nd_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *data = call->inputs[0], *indices = call->inputs[1];
    const struct net_tensor *updates = call->inputs[2];
    int64_t length = indices->rank ? indices->shape[indices->rank - 1] : -1;
    if (indices->type != NET_INTEGER)
        return net_fail(call, error, "indices of type %s, expected integers",
                        net_type_name(indices->type));
    bool fits = length >= 0 && length <= data->rank &&
                updates->rank == indices->rank - 1 + data->rank - (int)length;
    size_t runs = 1;
    for (int i = 0; fits && i < indices->rank - 1; i++)
        fits = updates->shape[i] == indices->shape[i] &&
               !__builtin_mul_overflow(runs, (size_t)indices->shape[i], &runs);
    for (int i = (int)length; fits && i < data->rank; i++)
        fits = updates->shape[indices->rank - 1 + i - (int)length] == data->shape[i];
    char a[256], b[256], c[256];
    if (!fits)
        return net_fail(call, error,
                        "indices of shape %s and updates of shape %s for data of "
                        "shape %s",
                        net_shape_text(indices, a), net_shape_text(updates, b),
                        net_shape_text(data, c));
    return scatter_output(call, 2, runs, error);
}

static int nd_places(const struct net_call *call, struct net_places *places,
                     struct ivon_error *error)
{
    return net_places_of_tuples(call, 0, places, error);
}

/* The first index names an example: the indices must be those of each example alone. They are if
   they were made for so many examples as there are. */
static bool nd_separable(const struct net_call *tile, const struct net_call *example)
{
    return net_example_axis(tile->inputs[0], example->inputs[0]) < 0 ||
           !net_same_shape(tile->inputs[1], example->inputs[1]);
}

SCATTER_OPERATOR(nd, 2)

/* TensorScatter: the update of each batch goes to positions write_indices[b], … along `axis`, or 0,
   …; with the mode circular, what exceeds the axis begins at its start. */

static int cache_axis(const struct net_call *call)
{
    return net_axis(net_attribute_integer(call->node, "axis", -2), call->inputs[0]->rank);
}

static int cache_infer(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *cache = call->inputs[0], *update = call->inputs[1];
    const struct net_tensor *indices = net_input(call, 2);
    const char *mode = net_attribute_text(call->node, "mode", "linear");
    int axis = cache_axis(call);
    if (axis < 1)
        return net_fail(call, error, "axis %" PRId64 " of %d axes, of which the first is the batch",
                        net_attribute_integer(call->node, "axis", -2), cache->rank);
    if (strcmp(mode, "linear") != 0 && strcmp(mode, "circular") != 0)
        return net_fail(call, error, "mode '%s', expected linear or circular", mode);
    bool fits = update->rank == cache->rank;
    for (int i = 0; fits && i < cache->rank; i++)
        fits = i == axis ? update->shape[i] <= cache->shape[i]
                         : update->shape[i] == cache->shape[i];
    char a[256], b[256];
    if (!fits)
        return net_fail(call, error, "an update of shape %s for a cache of shape %s",
                        net_shape_text(update, a), net_shape_text(cache, b));
    if (indices && (indices->type != NET_INTEGER || indices->rank != 1 ||
                    indices->shape[0] != cache->shape[0]))
        return net_fail(call, error, "write_indices is no list of %" PRId64 " integers",
                        cache->shape[0]);
    return scatter_output(call, 1, update->count, error);
}

static int cache_places(const struct net_call *call, struct net_places *places,
                        struct ivon_error *error)
{
    const struct net_tensor *cache = call->inputs[0], *update = call->inputs[1];
    const struct net_tensor *indices = net_input(call, 2);
    int axis = cache_axis(call);
    int64_t extent = cache->shape[axis], steps = update->shape[axis];
    bool circular = *net_attribute_text(call->node, "mode", "linear") == 'c';
    size_t *offsets = call->workspace, run = 1, rows = update->count, n = 0;
    for (int i = axis + 1; i < cache->rank; i++)
        run *= (size_t)cache->shape[i];
    rows = rows ? rows / run / (size_t)steps : 0;
    *places = (struct net_places){0, run, offsets};
    for (size_t row = 0; row < rows; row++) {
        size_t batch = row / (rows / (size_t)cache->shape[0]);
        int64_t first = indices ? ((const int64_t *)indices->data)[batch] : 0;
        if (first < 0 || first > (circular ? extent - 1 : extent - steps))
            return net_fail(call, error,
                            "%" PRId64 " elements at position %" PRId64
                            " do not fit an axis of extent %" PRId64,
                            steps, first, extent);
        for (int64_t step = 0; step < steps; step++)
            offsets[n++] = (row * (size_t)extent + (size_t)((first + step) % extent)) * run;
    }
    places->count = n;
    return 0;
}

static bool cache_separable(const struct net_call *tile, const struct net_call *example)
{
    return net_example_axis(tile->inputs[0], example->inputs[0]) != cache_axis(tile);
}

SCATTER_OPERATOR(cache, 1)

#define SCATTER_ELEMENTS                                                                           \
    .inputs_min = 3, .inputs_max = 3, .outputs_max = 1, .infer = elements_infer,                   \
    .forward = elements_forward, .backward = elements_backward, .tangent = elements_tangent,       \
    .separable = elements_separable

const struct net_operator net_scatter_operators[] = {
    {.name = "Scatter", .since = 9, .attributes = {{"axis", NET_INT}}, SCATTER_ELEMENTS},
    {.name = "ScatterElements",
     .since = 11,
     .attributes = {{"axis", NET_INT}, {"reduction", NET_TEXT}},
     .later = {{"reduction", 16}},
     SCATTER_ELEMENTS},
    {.name = "ScatterND",
     .since = 11,
     .inputs_min = 3,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"reduction", NET_TEXT}},
     .later = {{"reduction", 16}},
     .infer = nd_infer,
     .forward = nd_forward,
     .backward = nd_backward,
     .tangent = nd_tangent,
     .separable = nd_separable},
    {.name = "TensorScatter",
     .since = 24,
     .inputs_min = 2,
     .inputs_max = 3,
     .outputs_max = 1,
     .attributes = {{"axis", NET_INT}, {"mode", NET_TEXT}},
     .infer = cache_infer,
     .forward = cache_forward,
     .backward = cache_backward,
     .tangent = cache_tangent,
     .separable = cache_separable},
    {0}};
