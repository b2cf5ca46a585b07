/*
 * ONNX's Attention. Q, K and V are examples × positions × (heads × size), or examples × heads ×
 * positions × size; what is past comes before K and V, and is an output again with them.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/attention/operands.h"

enum { Q, K, V, MASK, PAST_K, PAST_V, LENGTHS };
enum { Y, PRESENT_K, PRESENT_V, SCORES, OUTPUTS };

/* Inputs. */

static const struct net_tensor *wanted_output(const struct net_call *call, size_t i)
{
    return i < call->node->output_count ? call->outputs[i] : NULL;
}

/* The heads, positions and size of Q, K or V; `heads` is the attribute's name. */
static int attention_operand_extents(const struct net_call *call, size_t input, const char *name,
                                     int64_t extents[3], struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[input];
    int64_t heads = net_attribute_integer(call->node, name, 0);
    char text[256];
    if (x->rank == 4) {
        memcpy(extents, x->shape + 1, 3 * sizeof *extents);
        return 0;
    }
    if (heads < 1 || x->shape[2] % heads)
        return net_fail(call, error, "%s %" PRId64 " of an input of shape %s", name, heads,
                        net_shape_text(x, text));
    extents[0] = heads;
    extents[1] = x->shape[1];
    extents[2] = x->shape[2] / heads;
    return 0;
}

static int attention_check_inputs(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *q = net_input(call, Q);
    bool past = net_input(call, PAST_K);
    char text[256];
    for (size_t i = 0; i < call->node->input_count; i++) {
        bool must = i <= V || i == PAST_K || i == PAST_V;
        int code = must && (i <= V || call->inputs[i]) ? net_expect_float(call, i, error) : 0;
        if (code)
            return code;
    }
    for (size_t i = Q; i <= V; i++) {
        const struct net_tensor *x = call->inputs[i];
        if ((x->rank != 3 && x->rank != 4) || x->rank != q->rank || x->shape[0] != q->shape[0])
            return net_fail(call, error,
                            "input %zu has shape %s, expected 3 or 4 dimensions and equal examples",
                            i, net_shape_text(x, text));
    }
    if (past != !!net_input(call, PAST_V))
        return net_fail(call, error, "past keys and past values do not come together");
    if (past && net_input(call, LENGTHS))
        return net_fail(call, error, "past keys beside lengths of the keys are not supported");
    return 0;
}

/* Fails unless past keys or values have the shape examples × heads × past × size. */
static int attention_check_past(const struct net_call *call, size_t input, int64_t heads,
                                int64_t past, int64_t size, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[input];
    char text[256];
    if (x->rank == 4 && x->shape[0] == call->inputs[Q]->shape[0] && x->shape[1] == heads &&
        x->shape[2] == past && x->shape[3] == size)
        return 0;
    return net_fail(call, error,
                    "input %zu has shape %s, expected %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64,
                    input, net_shape_text(x, text), call->inputs[Q]->shape[0], heads, past, size);
}

static int attention_read_extents(const struct net_call *call, struct attention_extents *extents,
                                  struct ivon_error *error)
{
    int64_t q[3], k[3], v[3], total = 0;
    int code = attention_operand_extents(call, Q, "q_num_heads", q, error);
    if (!code)
        code = attention_operand_extents(call, K, "kv_num_heads", k, error);
    if (!code)
        code = attention_operand_extents(call, V, "kv_num_heads", v, error);
    if (code)
        return code;
    if (k[0] != v[0] || k[1] != v[1] || q[2] != k[2])
        return net_fail(call, error,
                        "%" PRId64 " heads of %" PRId64 " keys of size %" PRId64 " beside %" PRId64
                        " heads of %" PRId64 " values, and queries of size %" PRId64,
                        k[0], k[1], k[2], v[0], v[1], q[2]);
    const struct net_tensor *past = net_input(call, PAST_K);
    int64_t first = past && past->rank == 4 ? past->shape[2] : 0;
    if (past)
        code = attention_check_past(call, PAST_K, k[0], first, k[2], error);
    if (past && !code)
        code = attention_check_past(call, PAST_V, k[0], first, v[2], error);
    if (!code && __builtin_add_overflow(first, k[1], &total))
        code = net_fail(call, error, "too many keys");
    *extents = (struct attention_extents){.examples = call->inputs[Q]->shape[0],
                                          .heads = q[0],
                                          .key_heads = k[0],
                                          .queries = q[1],
                                          .first = past ? first : k[1],
                                          .keys = total,
                                          .size = q[2],
                                          .value_size = v[2]};
    return code;
}

/* Operands. */

static struct attention_operand attention_place(const struct attention *attention, int rank,
                                                int64_t heads, int64_t rows, int64_t size)
{
    return rank == 3 ? attention_by_row(attention, heads, rows, size, heads * size)
                     : attention_by_head(attention, heads, rows, size);
}

static void attention_place_all(const struct net_call *call, struct attention *attention,
                                const struct attention_extents *e)
{
    bool past = net_input(call, PAST_K);
    int rank = call->inputs[Q]->rank;
    int64_t new = past ? e->keys - e->first : e->keys;
    attention->q = attention_place(attention, rank, e->heads, e->queries, e->size);
    attention->y = attention_place(attention, rank, e->heads, e->queries, e->value_size);
    attention->k[past] = attention_place(attention, rank, e->key_heads, new, e->size);
    attention->v[past] = attention_place(attention, rank, e->key_heads, new, e->value_size);
    if (past) {
        attention->k[0] = attention_by_head(attention, e->key_heads, e->first, e->size);
        attention->v[0] = attention_by_head(attention, e->key_heads, e->first, e->value_size);
    }
}

static int attention_read_bounds(const struct net_call *call, struct attention *attention,
                                 struct ivon_error *error)
{
    const struct net_tensor *lengths = net_input(call, LENGTHS);
    const struct net_node *node = call->node;
    attention->left = net_attribute_integer(node, "left_window_size", -1);
    attention->right = net_attribute_integer(node, "right_window_size", -1);
    if (attention->left < -1 || attention->right < -1 || attention->left > INT32_MAX ||
        attention->right > INT32_MAX)
        return net_fail(call, error, "a window of %" PRId64 " and %" PRId64 " keys",
                        attention->left, attention->right);
    if (net_attribute_integer(node, "is_causal", 0))
        attention->right = 0;
    attention->offset = net_input(call, PAST_K) ? attention->first : 0;
    attention->at_end = lengths;
    if (lengths && (lengths->type != NET_INTEGER || lengths->rank != 1 ||
                    lengths->shape[0] != call->inputs[Q]->shape[0]))
        return net_fail(call, error, "lengths of keys: expected one integer for each example");
    int64_t mode = net_attribute_integer(node, "qk_matmul_output_mode", 0);
    if (mode < ATTENTION_SCALED || mode > ATTENTION_PROBABILITIES)
        return net_fail(call, error, "qk_matmul_output_mode %" PRId64 ", expected 0 to 3", mode);
    attention->stage = (enum attention_stage)mode;
    attention->has_scores = wanted_output(call, SCORES);
    attention->softcap = (float)net_attribute_number(node, "softcap", 0);
    if (!(attention->softcap >= 0) || !isfinite(attention->softcap))
        return net_fail(call, error, "softcap %g", (double)attention->softcap);
    return 0;
}

static int attention_set_outputs(const struct net_call *call, const struct attention_extents *e,
                                 struct ivon_error *error)
{
    int64_t examples = e->examples;
    int64_t by_row[] = {examples, e->queries, e->heads * e->value_size};
    int64_t by_head[] = {examples, e->heads, e->queries, e->value_size};
    int64_t keys[] = {examples, e->key_heads, e->keys, e->size};
    int64_t values[] = {examples, e->key_heads, e->keys, e->value_size};
    int64_t scores[] = {examples, e->heads, e->queries, e->keys};
    const int64_t *shapes[] = {by_head, keys, values, scores};
    int code = 0;
    for (size_t i = 0; i < call->node->output_count && !code; i++) {
        bool rows = i == Y && call->inputs[Q]->rank == 3;
        code = net_output(call, i, NET_FLOAT, rows ? 3 : 4, rows ? by_row : shapes[i], error);
    }
    return code;
}

static int attention_infer(struct net_call *call, struct ivon_error *error)
{
    struct attention_extents extents;
    struct attention attention;
    int code = attention_check_inputs(call, error);
    if (!code)
        code = attention_read_extents(call, &extents, error);
    if (!code)
        code = attention_begin(call, &extents, &attention, error);
    if (!code)
        code = attention_set_outputs(call, &extents, error);
    if (!code)
        code = attention_read_bounds(call, &attention, error);
    if (code)
        return code;
    attention_place_all(call, &attention, &extents);
    const struct net_tensor *mask = net_input(call, MASK);
    if (mask && mask->type == NET_INTEGER)
        return net_fail(call, error, "a mask of integers, expected booleans or floats");
    if (mask)
        code = attention_add_mask(call, &attention, MASK, call->node->op->since >= 24, error);
    if (code)
        return code;
    call->workspace_size = attention_plan(&attention);
    if (!call->workspace_size)
        return net_fail(call, error, "the mask is too large");
    struct attention *stored = net_prepare(call, sizeof *stored, error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = attention;
    return 0;
}

/* Running. */

static const void *input_data(const struct net_call *call, size_t i)
{
    const struct net_tensor *input = net_input(call, i);
    return input ? input->data : NULL;
}

static struct attention_values attention_values(const struct net_call *call)
{
    bool past = net_input(call, PAST_K);
    struct attention_values values = {.q = input_data(call, Q),
                                      .masks = {input_data(call, MASK)},
                                      .lengths = input_data(call, LENGTHS),
                                      .workspace = call->workspace};
    values.k[0] = input_data(call, PAST_K);
    values.v[0] = input_data(call, PAST_V);
    values.k[past] = input_data(call, K);
    values.v[past] = input_data(call, V);
    return values;
}

/* Copies part i of keys or values to present ones, whose heads' rows lie one behind the other, or,
   where `back`, adds those to the part. */
static void attention_copy_part(const struct attention *attention, int i,
                                const struct attention_operand *operand, int64_t size, float *part,
                                float *present, bool back)
{
    size_t heads = attention->extents[HEAD_KEYS], keys = (size_t)attention->keys;
    size_t first = i ? (size_t)attention->first : 0, width = (size_t)size;
    size_t count = (i ? keys : (size_t)attention->first) - first;
    for (size_t at = 0; at < attention->extents[HEAD_EXAMPLES] * heads; at++)
        for (size_t row = 0; row < count; row++) {
            float *to = present + (at * keys + first + row) * width;
            float *from = part + at / heads * operand->steps[HEAD_EXAMPLES] +
                          at % heads * operand->steps[HEAD_KEYS] + row * (size_t)operand->row;
            if (!back)
                memcpy(to, from, width * sizeof *to);
            else
                for (size_t j = 0; j < width; j++)
                    from[j] += to[j];
        }
}

/* The same for all parts; a part of which is null counts as zero. */
static void attention_copy_present(const struct attention *attention,
                                   const struct attention_operand *operands, int64_t size,
                                   float *const *parts, const struct net_tensor *tensor,
                                   float *present, bool back)
{
    if (!present)
        return;
    if (!back)
        memset(present, 0, tensor->count * sizeof *present);
    for (int i = 0; i < ATTENTION_PARTS; i++)
        if (parts[i])
            attention_copy_part(attention, i, &operands[i], size, parts[i], present, back);
}

static float *output_data(const struct net_call *call, size_t i)
{
    return wanted_output(call, i) ? call->outputs[i]->data : NULL;
}

static int attention_run_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct attention *attention = call->prepared;
    struct attention_values values = attention_values(call);
    attention_copy_present(attention, attention->k, attention->size, (float **)values.k,
                           wanted_output(call, PRESENT_K), output_data(call, PRESENT_K), false);
    attention_copy_present(attention, attention->v, attention->value_size, (float **)values.v,
                           wanted_output(call, PRESENT_V), output_data(call, PRESENT_V), false);
    if (output_data(call, Y) || output_data(call, SCORES))
        attention_forward(attention, &values, output_data(call, Y), output_data(call, SCORES));
    return 0;
}

static float *adjoint_of(const struct net_call *call, float *const *arrays, size_t i)
{
    return i < call->node->input_count ? arrays[i] : NULL;
}

static void attention_run_backward(const struct net_call *call, const float *const *output_adjoints,
                                   float *const *input_adjoints)
{
    const struct attention *attention = call->prepared;
    struct attention_values values = attention_values(call);
    struct attention_adjoints to = {.masks = {adjoint_of(call, input_adjoints, MASK)}};
    bool past = net_input(call, PAST_K);
    const float *of_outputs[OUTPUTS] = {NULL};
    for (size_t i = 0; i < call->node->output_count; i++)
        of_outputs[i] = output_adjoints[i];
    to.y = of_outputs[Y];
    to.scores = of_outputs[SCORES];
    to.q = input_adjoints[Q];
    to.k[0] = adjoint_of(call, input_adjoints, PAST_K);
    to.v[0] = adjoint_of(call, input_adjoints, PAST_V);
    to.k[past] = input_adjoints[K];
    to.v[past] = input_adjoints[V];
    attention_copy_present(attention, attention->k, attention->size, to.k, NULL,
                           (float *)of_outputs[PRESENT_K], true);
    attention_copy_present(attention, attention->v, attention->value_size, to.v, NULL,
                           (float *)of_outputs[PRESENT_V], true);
    if (to.y || to.scores)
        attention_backward(attention, &values, &to);
}

static void attention_run_tangent(const struct net_call *call, const float *const *input_tangents,
                                  float *const *output_tangents)
{
    const struct attention *attention = call->prepared;
    struct attention_values values = attention_values(call);
    bool past = net_input(call, PAST_K);
    float *const *of_inputs = (float *const *)input_tangents, *of_outputs[OUTPUTS] = {NULL};
    struct attention_tangents from = {.q = of_inputs[Q],
                                      .masks = {adjoint_of(call, of_inputs, MASK)}};
    float *k[ATTENTION_PARTS] = {adjoint_of(call, of_inputs, PAST_K)};
    float *v[ATTENTION_PARTS] = {adjoint_of(call, of_inputs, PAST_V)};
    k[past] = of_inputs[K];
    v[past] = of_inputs[V];
    for (size_t i = 0; i < call->node->output_count; i++)
        of_outputs[i] = output_tangents[i];
    for (int i = 0; i < ATTENTION_PARTS; i++) {
        from.k[i] = k[i];
        from.v[i] = v[i];
    }
    from.y = of_outputs[Y];
    from.scores = of_outputs[SCORES];
    attention_copy_present(attention, attention->k, attention->size, k,
                           wanted_output(call, PRESENT_K), of_outputs[PRESENT_K], false);
    attention_copy_present(attention, attention->v, attention->value_size, v,
                           wanted_output(call, PRESENT_V), of_outputs[PRESENT_V], false);
    if (from.y || from.scores)
        attention_tangent(attention, &values, &from);
}

/* softmax_precision changes nothing: it is float here. */
#define ATTENTION(...)                                                                             \
    .inputs_min = 3, .outputs_max = OUTPUTS, .infer = attention_infer,                             \
    .forward = attention_run_forward, .backward = attention_run_backward,                          \
    .tangent = attention_run_tangent,                                                              \
    .attributes = {{"is_causal", NET_INT},                                                         \
                   {"kv_num_heads", NET_INT},                                                      \
                   {"q_num_heads", NET_INT},                                                       \
                   {"qk_matmul_output_mode", NET_INT},                                             \
                   {"scale", NET_FLT},                                                             \
                   {"softcap", NET_FLT},                                                           \
                   {"softmax_precision", NET_INT},                                                 \
                   __VA_ARGS__}

const struct net_operator net_attention_operators[] = {
    {.name = "Attention", .since = 23, .inputs_max = 6, ATTENTION({0})},
    {.name = "Attention", /* with lengths of the keys */
     .since = 24,
     .inputs_max = 7,
     .later = {{"left_window_size", 25}, {"right_window_size", 25}},
     ATTENTION({"left_window_size", NET_INT}, {"right_window_size", NET_INT})},
    {0}};
