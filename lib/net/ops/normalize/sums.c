/* ONNX Runtime's layer normalizations of sums. */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"
#include "net/ops/normalize/normalize.h"
#include "net/ops/normalize/rows.h"

/*
 * SkipLayerNormalization and SkipSimplifiedLayerNormalization: LayerNormalization of
 * input + skip + bias along the last axis; the sum is an output too. The skip may lack first axes,
 * or have 1 there.
 */

/* The input that is added to every row: the last one. */
static size_t skip_bias(const struct net_call *call)
{
    return (size_t)call->node->op->inputs_max - 1;
}

static bool skip_add_terms(const struct net_call *call, const float *const *arrays, size_t row,
                           float *to)
{
    const struct net_rows *rows = call->prepared;
    size_t length = rows->length, repeated = call->inputs[1]->count;
    const float *bias = net_input(call, skip_bias(call)) ? arrays[skip_bias(call)] : NULL;
    for (size_t i = 0; i < length; i++) {
        to[i] = arrays[0] ? arrays[0][row * length + i] : 0;
        to[i] += arrays[1] ? arrays[1][row * length % repeated + i] : 0;
        to[i] += bias ? bias[i] : 0;
    }
    return arrays[0] || arrays[1] || bias;
}

static void skip_spread(const struct net_call *call, const float *d, size_t row,
                        float *const *arrays)
{
    const struct net_rows *rows = call->prepared;
    size_t length = rows->length, repeated = call->inputs[1]->count;
    float *bias = net_input(call, skip_bias(call)) ? arrays[skip_bias(call)] : NULL;
    for (size_t i = 0; i < length; i++) {
        if (arrays[0])
            arrays[0][row * length + i] += d[i];
        if (arrays[1])
            arrays[1][row * length % repeated + i] += d[i];
        if (bias)
            bias[i] += d[i];
    }
}

/* Returns whether `skip` is repeated in whole to make x's shape. */
static bool is_repeated(const struct net_tensor *x, const struct net_tensor *skip)
{
    bool repeated = skip->rank <= x->rank && skip->rank > 0, beginning = true;
    for (int i = 0; i < skip->rank && repeated; i++) {
        beginning &= skip->shape[i] == 1 && i + 1 < skip->rank;
        repeated &= beginning || skip->shape[i] == x->shape[x->rank - skip->rank + i];
    }
    return repeated;
}

/* The inputs after `skip`, of the last axis each: `last` is the number of the last one. */
static int infer_skip_any(struct net_call *call, enum rows_measure measure, size_t last,
                          struct ivon_error *error)
{
    int code = net_expect_rank(call, 2, error);
    if (!code)
        code = net_expect_float(call, 1, error);
    char left[256], right[256];
    const struct net_tensor *x = call->inputs[0], *skip = call->inputs[1];
    if (!code && !is_repeated(x, skip))
        return net_fail(call, error, "inputs 0 and 1 of shapes %s and %s", net_shape_text(x, left),
                        net_shape_text(skip, right));
    size_t length = code ? 0 : (size_t)x->shape[x->rank - 1];
    for (size_t i = 2; i <= last && !code; i++) {
        const struct net_tensor *vector = net_input(call, i);
        if (vector && (vector->type != NET_FLOAT || vector->rank != 1 || vector->count != length))
            return net_fail(call, error, "input %zu of shape %s, expected %zu floats", i,
                            net_shape_text(vector, left), length);
    }
    int64_t shape[IVON_RANK_MAX];
    for (int i = 0; i < x->rank && !code; i++)
        shape[i] = i + 1 < x->rank ? x->shape[i] : 1;
    for (size_t i = 0; i < call->node->output_count && !code; i++)
        code = net_output(call, i, NET_FLOAT, x->rank, i == 1 || i == 2 ? shape : x->shape, error);
    if (code)
        return code;
    struct net_rows *rows;
    code = net_rows_prepare(call, length ? x->count / length : 0, length, false, &rows, error);
    if (code)
        return code;
    rows->measure = measure;
    rows->epsilon = net_attribute_number(call->node, "epsilon", (double)1e-12F);
    rows->add_terms = skip_add_terms;
    rows->spread = skip_spread;
    rows->scale = 2;
    rows->bias = last == 4 && net_input(call, 3) ? 3 : NET_NONE;
    rows->mean = 1;
    rows->inverse = 2;
    rows->sum = 3;
    return 0;
}

static int infer_skip(struct net_call *call, struct ivon_error *error)
{
    return infer_skip_any(call, ROWS_DEVIATION, 4, error);
}

static int infer_skip_root_mean(struct net_call *call, struct ivon_error *error)
{
    return infer_skip_any(call, ROWS_ROOT_MEAN, 3, error);
}

/*
 * EmbedLayerNormalization: the sum of a word's embedding, of its position's and, if there are
 * segments, of its segment's, normalized. Without position_ids, the position is that in the
 * sequence. Output 1 counts the mask of each sequence.
 */
enum { WORD_IDS, SEGMENT_IDS, WORDS, POSITIONS, SEGMENTS, GAMMA, BETA, MASK, POSITION_IDS };

/* The row of table `table` that word `row` takes; −1 if there is no such table. */
static int64_t embed_place(const struct net_call *call, size_t table, size_t row)
{
    size_t input = table == WORDS ? WORD_IDS : table == SEGMENTS ? SEGMENT_IDS : POSITION_IDS;
    const struct net_tensor *ids = net_input(call, input);
    if (ids)
        return ((const int64_t *)ids->data)[row];
    return table == POSITIONS ? (int64_t)row % call->inputs[WORD_IDS]->shape[1] : -1;
}

static bool embed_add_terms(const struct net_call *call, const float *const *arrays, size_t row,
                            float *to)
{
    size_t length = ((const struct net_rows *)call->prepared)->length;
    bool any = false;
    for (size_t table = WORDS; table <= SEGMENTS; table++) {
        int64_t place = embed_place(call, table, row);
        if (place < 0 || !arrays[table])
            continue;
        any = true;
        for (size_t i = 0; i < length; i++)
            to[i] += arrays[table][(size_t)place * length + i];
    }
    return any;
}

static void embed_spread(const struct net_call *call, const float *d, size_t row,
                         float *const *arrays)
{
    size_t length = ((const struct net_rows *)call->prepared)->length;
    for (size_t table = WORDS; table <= SEGMENTS; table++) {
        int64_t place = embed_place(call, table, row);
        for (size_t i = 0; place >= 0 && arrays[table] && i < length; i++)
            arrays[table][(size_t)place * length + i] += d[i];
    }
}

/* Fails unless an input, if it is there, has integers of the shape of the words'. */
static int expect_ids(const struct net_call *call, size_t input, struct ivon_error *error)
{
    const struct net_tensor *ids = net_input(call, input);
    char left[256], right[256];
    if (ids && (ids->type != NET_INTEGER || !net_same_shape(ids, call->inputs[WORD_IDS])))
        return net_fail(call, error, "input %zu of type %s and shape %s, expected integers of %s",
                        input, net_type_name(ids->type), net_shape_text(ids, left),
                        net_shape_text(call->inputs[WORD_IDS], right));
    return 0;
}

static int expect_tables(const struct net_call *call, struct ivon_error *error)
{
    char text[256];
    int64_t width = call->inputs[WORDS]->shape[1];
    for (size_t i = WORDS; i <= BETA; i++) {
        int rank = i < GAMMA ? 2 : 1;
        if (i == SEGMENTS && !net_input(call, SEGMENTS) && !net_input(call, SEGMENT_IDS))
            continue;
        int code = net_expect_float(call, i, error);
        if (code)
            return code;
        const struct net_tensor *table = call->inputs[i];
        if (table->rank != rank || table->shape[rank - 1] != width)
            return net_fail(call, error, "input %zu of shape %s, for words of %" PRId64 " numbers",
                            i, net_shape_text(table, text), width);
    }
    return 0;
}

static int infer_embed(struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *ids = call->inputs[WORD_IDS];
    char text[256];
    int code = net_expect_float(call, WORDS, error);
    if (!code && (ids->rank != 2 || call->inputs[WORDS]->rank != 2))
        code = net_fail(call, error, "input 0 of shape %s, expected sequences x words",
                        net_shape_text(ids, text));
    for (size_t i = 0; i < 4 && !code; i++)
        code = expect_ids(call, ((const size_t[]){WORD_IDS, SEGMENT_IDS, MASK, POSITION_IDS})[i],
                          error);
    if (!code)
        code = expect_tables(call, error);
    if (code)
        return code;
    int64_t shape[] = {ids->shape[0], ids->shape[1], call->inputs[WORDS]->shape[1]};
    for (size_t i = 0; i < call->node->output_count && !code; i++)
        code = net_output(call, i, i == 1 ? NET_INTEGER : NET_FLOAT, i == 1 ? 1 : 3, shape, error);
    struct net_rows *rows;
    if (!code)
        code = net_rows_prepare(call, ids->count, (size_t)shape[2], false, &rows, error);
    if (code)
        return code;
    rows->measure = ROWS_DEVIATION;
    rows->epsilon = net_attribute_number(call->node, "epsilon", (double)1e-12F);
    rows->add_terms = embed_add_terms;
    rows->spread = embed_spread;
    rows->scale = GAMMA;
    rows->bias = BETA;
    rows->sum = 2;
    return 0;
}

static void count_mask(const struct net_call *call)
{
    const struct net_tensor *ids = call->inputs[WORD_IDS], *mask = net_input(call, MASK);
    int64_t *counts = call->outputs[1]->data;
    memset(counts, 0, call->outputs[1]->count * sizeof *counts);
    for (size_t i = 0; mask && i < mask->count; i++)
        counts[i / (size_t)ids->shape[1]] += ((const int64_t *)mask->data)[i];
}

static int forward_embed(const struct net_call *call, struct ivon_error *error)
{
    const struct net_rows *rows = call->prepared;
    for (size_t row = 0; row < rows->count; row++)
        for (size_t table = WORDS; table <= SEGMENTS; table++) {
            int64_t place = embed_place(call, table, row);
            bool segments = table != SEGMENTS || net_input(call, SEGMENT_IDS);
            if (segments && (place < 0 || place >= call->inputs[table]->shape[0]))
                return net_fail(call, error,
                                "it takes row %" PRId64 " of input %zu, which has %" PRId64, place,
                                table, call->inputs[table]->shape[0]);
        }
    if (call->node->output_count > 1 && call->outputs[1])
        count_mask(call);
    return net_rows_forward(call, error);
}

const struct net_operator net_sum_norm_operators[] = {
    {.domain = "com.microsoft",
     .name = "EmbedLayerNormalization",
     .since = 1,
     .inputs_min = 1, /* segments are left out in the middle */
     .inputs_max = 9,
     .outputs_max = 3,
     .weights = 1U << WORDS | 1U << POSITIONS | 1U << SEGMENTS | 1U << GAMMA | 1U << BETA,
     .attributes = {{"epsilon", NET_FLT}},
     .infer = infer_embed,
     .forward = forward_embed,
     .backward = net_rows_backward,
     .tangent = net_rows_tangent},
    {.domain = "com.microsoft",
     .name = "SkipLayerNormalization",
     .since = 1,
     .inputs_min = 3,
     .inputs_max = 5,
     .outputs_max = 4,
     .weights = 1U << 2 | 1U << 3 | 1U << 4,
     .attributes = {{"epsilon", NET_FLT}},
     .infer = infer_skip,
     NET_ROWS_FUNCTIONS},
    {.domain = "com.microsoft",
     .name = "SkipSimplifiedLayerNormalization",
     .since = 1,
     .inputs_min = 3,
     .inputs_max = 4,
     .outputs_max = 4,
     .weights = 1U << 2 | 1U << 3,
     .attributes = {{"epsilon", NET_FLT}},
     .infer = infer_skip_root_mean,
     NET_ROWS_FUNCTIONS},
    {0}};
