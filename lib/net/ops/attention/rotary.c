/*
 * RotaryEmbedding: turns pairs (a, b) of each head's first numbers by the angle of their position,
 * (cos a − sin b, sin a + cos b). A pair is two neighbours, or lies half the turned numbers apart;
 * what follows those stays.
 */
#include <inttypes.h>
#include <string.h>

#include "net/graph/rules.h"

/* The inputs' order; ONNX Runtime's row has the positions before the tables. */
struct rotary_inputs {
    size_t cosine, sine, ids;
};

static const struct rotary_inputs own_inputs = {1, 2, 3}, runtime_inputs = {2, 3, 1};

struct rotary {
    struct rotary_inputs inputs;
    int64_t examples, heads, positions, size, half;
    size_t example, head, position; /* elements from one to the next */
    int64_t table;                  /* rows of the tables */
    bool neighbours;
    bool by_example; /* the tables have a row for each position of each example */
    bool first;      /* the one id is that of position 0 */
};

/* Shapes. */

static int rotary_place(const struct net_call *call, struct rotary *r, struct ivon_error *error)
{
    const struct net_tensor *x = call->inputs[0], *cosine = call->inputs[r->inputs.cosine];
    int64_t heads = net_attribute_integer(call->node, "num_heads", 0);
    int64_t columns = cosine->shape[cosine->rank - 1];
    char text[256];
    r->examples = x->shape[0];
    if (x->rank == 4) {
        r->heads = x->shape[1];
        r->positions = x->shape[2];
        r->size = x->shape[3];
        r->position = (size_t)r->size;
        r->head = (size_t)r->positions * r->position;
        r->example = (size_t)r->heads * r->head;
        return 0;
    }
    r->positions = x->shape[1];
    if (heads == 0 && call->node->op->domain && columns > 0 && columns <= x->shape[2] / 2)
        heads = x->shape[2] / (2 * columns);
    if (heads < 1 || x->shape[2] % heads)
        return net_fail(call, error, "num_heads %" PRId64 " of an input of shape %s", heads,
                        net_shape_text(x, text));
    r->heads = heads;
    r->size = x->shape[2] / heads;
    r->head = (size_t)r->size;
    r->position = (size_t)x->shape[2];
    r->example = (size_t)r->positions * r->position;
    return 0;
}

static int rotary_check_ids(const struct net_call *call, struct rotary *r, struct ivon_error *error)
{
    const struct net_tensor *ids = net_input(call, r->inputs.ids);
    char text[256];
    r->by_example = !ids;
    if (!ids)
        return 0;
    r->first = call->node->op->domain && ids->rank <= 1 && ids->count == 1;
    bool fits = ids->rank == 2 && ids->shape[0] == r->examples && ids->shape[1] == r->positions;
    if (ids->type == NET_INTEGER && (fits || r->first))
        return 0;
    return net_fail(call, error, "positions of shape %s, expected %" PRId64 "x%" PRId64 " integers",
                    net_shape_text(ids, text), r->examples, r->positions);
}

static int rotary_check_tables(const struct net_call *call, struct rotary *r,
                               struct ivon_error *error)
{
    const struct net_tensor *cosine = call->inputs[r->inputs.cosine];
    const struct net_tensor *sine = call->inputs[r->inputs.sine];
    int64_t turned = net_attribute_integer(call->node, "rotary_embedding_dim", 0);
    char a[256], b[256];
    turned = turned ? turned : r->size;
    if (turned < 0 || turned > r->size || turned % 2)
        return net_fail(call, error, "%" PRId64 " numbers to turn of %" PRId64, turned, r->size);
    r->half = turned / 2;
    bool fits = net_same_shape(cosine, sine) && cosine->rank == (r->by_example ? 3 : 2) &&
                cosine->shape[cosine->rank - 1] == r->half &&
                (!r->by_example ||
                 (cosine->shape[0] == r->examples && cosine->shape[1] == r->positions));
    r->table = cosine->shape[0];
    if (fits)
        return 0;
    return net_fail(call, error, "tables of shape %s and %s for %" PRId64 " pairs",
                    net_shape_text(cosine, a), net_shape_text(sine, b), r->half);
}

static int rotary_infer_inputs(struct net_call *call, const struct rotary_inputs *inputs,
                               struct ivon_error *error)
{
    const size_t floats[] = {0, inputs->cosine, inputs->sine};
    struct rotary r = {.inputs = *inputs};
    char text[256];
    for (size_t i = 0; i < 3; i++) {
        int code = net_expect_float(call, floats[i], error);
        if (code)
            return code;
    }
    const struct net_tensor *x = call->inputs[0];
    if ((x->rank != 3 && x->rank != 4) || call->inputs[inputs->cosine]->rank < 2)
        return net_fail(call, error, "an input of shape %s, expected 3 or 4 dimensions, and tables",
                        net_shape_text(x, text));
    int code = rotary_place(call, &r, error);
    if (!code)
        code = rotary_check_ids(call, &r, error);
    if (!code)
        code = rotary_check_tables(call, &r, error);
    if (code)
        return code;
    r.neighbours = net_attribute_integer(call->node, "interleaved", 0) != 0;
    struct rotary *stored = net_prepare(call, sizeof *stored, error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = r;
    return net_output(call, 0, NET_FLOAT, x->rank, x->shape, error);
}

static int rotary_infer(struct net_call *call, struct ivon_error *error)
{
    return rotary_infer_inputs(call, &own_inputs, error);
}

static int rotary_infer_runtime(struct net_call *call, struct ivon_error *error)
{
    double scale = net_attribute_number(call->node, "scale", 1);
    if (scale != 1 || net_attribute_integer(call->node, "is_packed_batching", 0))
        return net_fail(call, error, "a scale or packed batches are not supported");
    return rotary_infer_inputs(call, &runtime_inputs, error);
}

/* Running. */

static int64_t rotary_id(const struct net_call *call, int64_t example, int64_t position)
{
    const struct rotary *r = call->prepared;
    if (r->by_example)
        return example * r->positions + position;
    const int64_t *ids = call->inputs[r->inputs.ids]->data;
    return r->first ? ids[0] + position : ids[example * r->positions + position];
}

static int rotary_check_positions(const struct net_call *call, struct ivon_error *error)
{
    const struct rotary *r = call->prepared;
    if (r->by_example)
        return 0;
    const struct net_tensor *ids = call->inputs[r->inputs.ids];
    int64_t most = r->first ? r->table - r->positions : r->table - 1;
    for (size_t i = 0; i < ids->count; i++) {
        int64_t id = ((const int64_t *)ids->data)[i];
        if (id < 0 || id > most)
            return net_fail(call, error, "position %" PRId64 " of tables of %" PRId64 " rows", id,
                            r->table);
    }
    return 0;
}

/* Calls `turn` on every head at every position: its first element's index, and its tables' row. */
static void rotary_each(const struct net_call *call,
                        void (*turn)(const struct rotary *r, size_t at, size_t row, void *context),
                        void *context)
{
    const struct rotary *r = call->prepared;
    for (int64_t e = 0; e < r->examples; e++)
        for (int64_t p = 0; p < r->positions; p++) {
            int64_t row = rotary_id(call, e, p) * r->half;
            for (int64_t h = 0; h < r->heads; h++)
                turn(r, (size_t)e * r->example + (size_t)h * r->head + (size_t)p * r->position,
                     (size_t)row, context);
        }
}

/* The places of pair i. */
static size_t pair_first(const struct rotary *r, int64_t i)
{
    return (size_t)(r->neighbours ? 2 * i : i);
}

static size_t pair_second(const struct rotary *r, int64_t i)
{
    return (size_t)(r->neighbours ? 2 * i + 1 : i + r->half);
}

/* y += the pairs of x turned, by an angle or its opposite. */
struct turned {
    const float *x, *cosine, *sine;
    float *y, sign;
};

static void turn_add(const struct rotary *r, size_t at, size_t row, void *context)
{
    const struct turned *t = context;
    const float *x = t->x + at, *cosine = t->cosine + row, *sine = t->sine + row;
    float *y = t->y + at;
    for (int64_t i = 0; i < r->half; i++) {
        size_t a = pair_first(r, i), b = pair_second(r, i);
        y[a] += cosine[i] * x[a] - t->sign * sine[i] * x[b];
        y[b] += t->sign * sine[i] * x[a] + cosine[i] * x[b];
    }
}

static void rest_add(const struct rotary *r, size_t at, size_t row, void *context)
{
    const struct turned *t = context;
    (void)row;
    for (int64_t i = 2 * r->half; i < r->size; i++)
        t->y[at + (size_t)i] += t->x[at + (size_t)i];
}

static const float *rotary_table(const struct net_call *call, size_t input)
{
    return call->inputs[input]->data;
}

static int rotary_forward(const struct net_call *call, struct ivon_error *error)
{
    const struct rotary *r = call->prepared;
    struct net_tensor *y = call->outputs[0];
    struct turned t = {.x = call->inputs[0]->data,
                       .cosine = rotary_table(call, r->inputs.cosine),
                       .sine = rotary_table(call, r->inputs.sine),
                       .y = y->data,
                       .sign = 1};
    int code = rotary_check_positions(call, error);
    if (code)
        return code;
    memset(y->data, 0, y->count * sizeof(float));
    rotary_each(call, turn_add, &t);
    rotary_each(call, rest_add, &t);
    return 0;
}

/* dcos += a da' + b db', dsin += a db' − b da', for the outputs (a', b'). */
struct table_adjoint {
    const float *x, *dy;
    float *cosine, *sine;
};

static void add_table_adjoint(const struct rotary *r, size_t at, size_t row, void *context)
{
    const struct table_adjoint *t = context;
    const float *x = t->x + at, *dy = t->dy + at;
    for (int64_t i = 0; i < r->half; i++) {
        size_t a = pair_first(r, i), b = pair_second(r, i);
        if (t->cosine)
            t->cosine[row + (size_t)i] += x[a] * dy[a] + x[b] * dy[b];
        if (t->sine)
            t->sine[row + (size_t)i] += x[a] * dy[b] - x[b] * dy[a];
    }
}

static void rotary_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct rotary *r = call->prepared;
    const float *dy = output_adjoints[0];
    if (!dy)
        return;
    struct turned t = {.x = dy,
                       .cosine = rotary_table(call, r->inputs.cosine),
                       .sine = rotary_table(call, r->inputs.sine),
                       .y = input_adjoints[0],
                       .sign = -1};
    struct table_adjoint tables = {.x = call->inputs[0]->data,
                                   .dy = dy,
                                   .cosine = input_adjoints[r->inputs.cosine],
                                   .sine = input_adjoints[r->inputs.sine]};
    if (t.y) {
        rotary_each(call, turn_add, &t);
        rotary_each(call, rest_add, &t);
    }
    if (tables.cosine || tables.sine)
        rotary_each(call, add_table_adjoint, &tables);
}

/* y += the pairs of x, times tangents of the tables; either may be null. */
static void turn_tables(const struct rotary *r, size_t at, size_t row, void *context)
{
    const struct turned *t = context;
    const float *x = t->x + at;
    float *y = t->y + at;
    for (int64_t i = 0; i < r->half; i++) {
        size_t a = pair_first(r, i), b = pair_second(r, i);
        float cosine = t->cosine ? t->cosine[row + (size_t)i] : 0;
        float sine = t->sine ? t->sine[row + (size_t)i] : 0;
        y[a] += cosine * x[a] - sine * x[b];
        y[b] += sine * x[a] + cosine * x[b];
    }
}

static void rotary_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    const struct rotary *r = call->prepared;
    float *y = output_tangents[0];
    struct turned t = {.x = input_tangents[0],
                       .cosine = rotary_table(call, r->inputs.cosine),
                       .sine = rotary_table(call, r->inputs.sine),
                       .y = y,
                       .sign = 1};
    memset(y, 0, call->outputs[0]->count * sizeof *y);
    if (t.x) {
        rotary_each(call, turn_add, &t);
        rotary_each(call, rest_add, &t);
    }
    t.x = call->inputs[0]->data;
    t.cosine = input_tangents[r->inputs.cosine];
    t.sine = input_tangents[r->inputs.sine];
    if (t.cosine || t.sine)
        rotary_each(call, turn_tables, &t);
}

#define ROTARY                                                                                     \
    .outputs_max = 1, .forward = rotary_forward, .backward = rotary_backward,                      \
    .tangent = rotary_tangent

const struct net_operator net_rotary_operators[] = {
    {.name = "RotaryEmbedding",
     .since = 23,
     .inputs_min = 3,
     .inputs_max = 4,
     .attributes = {{"interleaved", NET_INT},
                    {"num_heads", NET_INT},
                    {"rotary_embedding_dim", NET_INT}},
     .infer = rotary_infer,
     ROTARY},
    {.domain = "com.microsoft",
     .name = "RotaryEmbedding",
     .since = 1,
     .inputs_min = 4,
     .inputs_max = 4,
     .attributes = {{"interleaved", NET_INT},
                    {"is_packed_batching", NET_INT},
                    {"num_heads", NET_INT},
                    {"rotary_embedding_dim", NET_INT},
                    {"scale", NET_FLT}},
     .infer = rotary_infer_runtime,
     ROTARY},
    {0}};
