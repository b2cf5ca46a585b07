/*
 * LinearAttention: each head of values keeps a state S, keys × values, in place of its past. A
 * position changes it by its key k and value v, its decay d and its rate β, and reads it by the
 * queries q of its group:
 *
 *     S' = e^d S                where the rule is gated; else S' = S. d is one number, or one a row
 *     u = β (v − S'ᵀ k)         where the rule is a delta; else u = v
 *     S ← S' + k uᵀ
 *     o = scale Sᵀ q
 *
 * Derivatives run the same positions back with the adjoint G of the state. Of the states that they
 * need, the first of each segment is kept, and the others of one segment at a time are computed
 * again, so that T positions take memory for 2 √T states.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/memory.h"
#include "core/vector_math.h"
#include "net/graph/rules.h"

enum { QUERY, KEY, VALUE, PAST, DECAY, BETA, INPUTS };

struct linear {
    size_t examples, positions, heads, queries; /* queries: heads that read one state */
    size_t keys, values, state;                 /* numbers of a key, of a value, their product */
    size_t decays;                              /* of a head at a position: 1 or keys */
    size_t rates;                               /* of all heads at a position: 1 or heads */
    bool gated, delta;
    double scale;
    size_t segment, segments;
};

/* Shapes. */

static int linear_read_rule(const struct net_call *call, struct linear *c, struct ivon_error *error)
{
    const char *rule = net_attribute_text(call->node, "update_rule", "gated_delta");
    bool both = strcmp(rule, "gated_delta") == 0;
    c->gated = both || strcmp(rule, "gated") == 0;
    c->delta = both || strcmp(rule, "delta") == 0;
    if (!c->gated && !c->delta && strcmp(rule, "linear") != 0)
        return net_fail(call, error,
                        "update_rule '%s', expected linear, gated, delta or gated_delta", rule);
    if (!net_input(call, DECAY) == c->gated)
        return net_fail(call, error, "update_rule '%s' %s a decay", rule,
                        c->gated ? "needs" : "has no use for");
    if (!net_input(call, BETA) == c->delta)
        return net_fail(call, error, "update_rule '%s' %s a beta", rule,
                        c->delta ? "needs" : "has no use for");
    return 0;
}

/* Sets the counts from queries and values, which have three axes. */
static int linear_read_heads(const struct net_call *call, struct linear *c,
                             struct ivon_error *error)
{
    const struct net_tensor *query = call->inputs[QUERY], *value = call->inputs[VALUE];
    int64_t heads = net_attribute_integer(call->node, "q_num_heads", 0);
    int64_t states = net_attribute_integer(call->node, "kv_num_heads", 0);
    char a[256], b[256];
    if (heads < 1 || states < 1 || heads % states || query->shape[2] < 1 || value->shape[2] < 1 ||
        query->shape[2] % heads || value->shape[2] % states)
        return net_fail(call, error,
                        "%" PRId64 " heads of queries %s and %" PRId64 " heads of values %s", heads,
                        net_shape_text(query, a), states, net_shape_text(value, b));
    c->examples = (size_t)query->shape[0];
    c->positions = query->count ? (size_t)query->shape[1] : 0;
    c->heads = (size_t)states;
    c->queries = (size_t)(heads / states);
    c->keys = (size_t)(query->shape[2] / heads);
    c->values = (size_t)(value->shape[2] / states);
    c->scale = net_attribute_number(call->node, "scale", 0);
    if (c->scale == 0)
        c->scale = 1 / sqrt((double)c->keys);
    return 0;
}

/* Fails unless an input, where there is one, has `one` or `other` numbers for each position. */
static int linear_expect(const struct net_call *call, size_t i, int64_t one, int64_t other,
                         struct ivon_error *error)
{
    const struct net_tensor *query = call->inputs[QUERY], *input = net_input(call, i);
    char text[256];
    if (!input || (input->rank == 3 && input->shape[0] == query->shape[0] &&
                   input->shape[1] == query->shape[1] &&
                   (input->shape[2] == one || input->shape[2] == other)))
        return 0;
    return net_fail(call, error, "input %zu of shape %s, expected %" PRId64 "x%" PRId64 "x%" PRId64,
                    i, net_shape_text(input, text), query->shape[0], query->shape[1], one);
}

static int linear_check(const struct net_call *call, struct linear *c, struct ivon_error *error)
{
    char text[256];
    for (size_t i = 0; i < call->node->input_count; i++) {
        int code = i <= VALUE || call->inputs[i] ? net_expect_float(call, i, error) : 0;
        if (!code && (i == QUERY || i == VALUE) && call->inputs[i]->rank != 3)
            code = net_fail(call, error, "input %zu of shape %s, expected three axes", i,
                            net_shape_text(call->inputs[i], text));
        if (code)
            return code;
    }
    const struct net_tensor *past = net_input(call, PAST), *decay = net_input(call, DECAY);
    const struct net_tensor *beta = net_input(call, BETA);
    int code = linear_read_rule(call, c, error);
    if (!code)
        code = linear_read_heads(call, c, error);
    if (code)
        return code;
    int64_t heads = (int64_t)c->heads, value = call->inputs[VALUE]->shape[2], key;
    if (__builtin_mul_overflow(heads, (int64_t)c->keys, &key))
        return net_fail(call, error, "%" PRId64 " heads of keys", heads);
    const int64_t widths[INPUTS][2] = {
        [KEY] = {key, key}, [VALUE] = {value, value}, [DECAY] = {key, heads}, [BETA] = {heads, 1}};
    for (size_t i = KEY; i < INPUTS && !code; i++)
        if (i != PAST)
            code = linear_expect(call, i, widths[i][0], widths[i][1], error);
    if (!code && past &&
        (past->rank != 4 || past->shape[0] != call->inputs[QUERY]->shape[0] ||
         past->shape[1] != heads || past->shape[2] != (int64_t)c->keys ||
         past->shape[3] != (int64_t)c->values))
        code = net_fail(call, error, "a past state of shape %s for keys of %zu and values of %zu",
                        net_shape_text(past, text), c->keys, c->values);
    c->decays = decay && decay->shape[2] == key ? c->keys : 1;
    c->rates = beta ? (size_t)beta->shape[2] : 1;
    return code;
}

/* Doubles of the workspace: states, and vectors of keys and of values. */
enum { LINEAR_STATES = 3, LINEAR_VECTORS = 8 };

static int linear_place_workspace(struct net_call *call, struct linear *c, struct ivon_error *error)
{
    size_t states, size;
    c->segment = (size_t)ceil(sqrt((double)c->positions));
    c->segment = c->segment ? c->segment : 1;
    c->segments = (c->positions + c->segment - 1) / c->segment;
    states = LINEAR_STATES + c->segment + c->segments;
    if (__builtin_mul_overflow(c->keys, c->values, &c->state) ||
        __builtin_mul_overflow(c->state + LINEAR_VECTORS, states, &size) ||
        size > PTRDIFF_MAX / 64 || c->keys + c->values > PTRDIFF_MAX / 1024)
        return net_fail(call, error, "states of %zu x %zu are too large", c->keys, c->values);
    size += LINEAR_VECTORS * (c->keys + c->values);
    call->workspace_size = size * sizeof(double);
    return 0;
}

static int linear_infer(struct net_call *call, struct ivon_error *error)
{
    struct linear c = {0};
    int code = linear_check(call, &c, error);
    if (!code)
        code = linear_place_workspace(call, &c, error);
    if (code)
        return code;
    const int64_t *shape = call->inputs[QUERY]->shape;
    int64_t output[] = {shape[0], shape[1], 0};
    int64_t state[] = {shape[0], (int64_t)c.heads, (int64_t)c.keys, (int64_t)c.values};
    if (__builtin_mul_overflow(c.heads * c.queries, c.values, &output[2]))
        return net_fail(call, error, "values of %zu numbers", c.values);
    struct linear *stored = net_prepare(call, sizeof *stored, error);
    if (!stored)
        return IVON_ERROR_MEMORY;
    *stored = c;
    code = net_output(call, 0, NET_FLOAT, 3, output, error);
    if (!code && call->node->output_count > 1)
        code = net_output(call, 1, NET_FLOAT, 4, state, error);
    return code;
}

/* Matrices of keys × values. */

IVON_DISPATCH static void matrix_scale(double *restrict s, const double *gate, size_t keys,
                                       size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values)
        for (size_t j = 0; j < values; j++)
            s[j] *= gate[i];
}

/* S += factor a bᵀ */
IVON_DISPATCH static void matrix_add(double *restrict s, double factor, const double *a,
                                     const double *restrict b, size_t keys, size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values) {
        double times = factor * a[i];
        for (size_t j = 0; j < values; j++)
            s[j] += times * b[j];
    }
}

/* out += factor Sᵀ a */
IVON_DISPATCH static void matrix_add_columns(const double *restrict s, double factor,
                                             const double *a, double *restrict out, size_t keys,
                                             size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values) {
        double times = factor * a[i];
        for (size_t j = 0; j < values; j++)
            out[j] += times * s[j];
    }
}

/* Returns aᵀ b, in lanes that do not depend on the machine. */
static inline __attribute__((always_inline)) double row_product(const double *restrict a,
                                                                const double *restrict b,
                                                                size_t count)
{
    enum { LANES = 8 };
    double sums[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += a[i + lane] * b[i + lane];
    for (; i < count; i++)
        sum += a[i] * b[i];
    for (size_t lane = 0; lane < LANES; lane++)
        sum += sums[lane];
    return sum;
}

/* out += factor S b */
IVON_DISPATCH static void matrix_add_rows(const double *restrict s, double factor,
                                          const double *restrict b, double *restrict out,
                                          size_t keys, size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values)
        out[i] += factor * row_product(s, b, values);
}

/* out_i += Σ_j A_ij B_ij */
IVON_DISPATCH static void matrix_add_products(const double *restrict a, const double *restrict b,
                                              double *restrict out, size_t keys, size_t values)
{
    for (size_t i = 0; i < keys; i++, a += values, b += values)
        out[i] += row_product(a, b, values);
}

/* Places. */

/* Arrays in the order of the inputs, and of the outputs: elements, adjoints or tangents. */
struct linear_arrays {
    const float *inputs[INPUTS];
    const float *outputs[2];
};

/* The workspace. What a position has from the inputs is turned to double. */
struct linear_memory {
    double *state, *change, *adjoint; /* matrices */
    double *kept, *segment;           /* lists of them */
    double *gate, *key, *key_change, *query;
    double *rest, *update, *rest_change, *update_change, *output;
};

static struct linear_memory linear_memory(const struct net_call *call)
{
    const struct linear *c = call->prepared;
    struct linear_memory m = {.state = call->workspace};
    m.change = m.state + c->state;
    m.adjoint = m.change + c->state;
    m.kept = m.adjoint + c->state;
    m.segment = m.kept + c->segments * c->state;
    m.gate = m.segment + c->segment * c->state;
    m.key = m.gate + c->keys;
    m.key_change = m.key + c->keys;
    m.query = m.key_change + c->keys;
    m.rest = m.query + c->keys;
    m.update = m.rest + c->values;
    m.rest_change = m.update + c->values;
    m.update_change = m.rest_change + c->values;
    m.output = m.update_change + c->values;
    return m;
}

/* One position of one state: where its numbers begin in the arrays. */
struct linear_place {
    size_t inputs[INPUTS], output;
};

static struct linear_place linear_place(const struct linear *c, size_t example, size_t head,
                                        size_t position)
{
    size_t row = example * c->positions + position, at = row * c->heads + head;
    return (struct linear_place){.inputs = {[QUERY] = at * c->queries * c->keys,
                                            [KEY] = at * c->keys,
                                            [VALUE] = at * c->values,
                                            [DECAY] = at * c->decays,
                                            [BETA] = row * c->rates + (c->rates > 1 ? head : 0)},
                                 .output = at * c->queries * c->values};
}

static struct linear_arrays linear_inputs(const struct net_call *call)
{
    struct linear_arrays arrays = {.inputs = {NULL}};
    for (size_t i = 0; i < call->node->input_count; i++)
        arrays.inputs[i] = call->inputs[i] ? call->inputs[i]->data : NULL;
    return arrays;
}

/* Null counts as zeros. */
static void linear_load(double *to, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = from ? (double)from[i] : 0;
}

/* The numbers of an input at a place, or null where there is none. */
static const float *linear_at(const struct linear_arrays *arrays, const struct linear_place *place,
                              size_t input)
{
    const float *array = arrays->inputs[input];
    return array ? array + place->inputs[input] : NULL;
}

static void linear_begin(const struct linear *c, const struct linear_arrays *arrays, size_t which,
                         double *state)
{
    const float *past = arrays->inputs[PAST];
    linear_load(state, past ? past + which * c->state : NULL, c->state);
}

static void linear_store(float *to, const double *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (float)from[i];
}

/* Running. */

static double linear_rate(const struct linear *c, const struct linear_arrays *arrays,
                          const struct linear_place *place)
{
    const float *beta = c->delta ? linear_at(arrays, place, BETA) : NULL;
    return beta ? (double)*beta : 1;
}

/* S ← S', and sets gate, key, rest = v − S'ᵀ k and update of the position. */
static void linear_prepare_step(const struct linear *c, const struct linear_arrays *arrays,
                                const struct linear_place *place, const struct linear_memory *m,
                                double *state)
{
    const float *decay = c->gated ? linear_at(arrays, place, DECAY) : NULL;
    double rate = linear_rate(c, arrays, place);
    linear_load(m->key, linear_at(arrays, place, KEY), c->keys);
    linear_load(m->rest, linear_at(arrays, place, VALUE), c->values);
    if (decay) {
        for (size_t i = 0; i < c->keys; i++)
            m->gate[i] = (double)vector_exp(decay[c->decays > 1 ? i : 0]);
        matrix_scale(state, m->gate, c->keys, c->values);
    }
    if (c->delta)
        matrix_add_columns(state, -1, m->key, m->rest, c->keys, c->values);
    for (size_t j = 0; j < c->values; j++)
        m->update[j] = rate * m->rest[j];
}

static void linear_step(const struct linear *c, const struct linear_arrays *arrays,
                        const struct linear_place *place, const struct linear_memory *m,
                        double *state)
{
    linear_prepare_step(c, arrays, place, m, state);
    matrix_add(state, 1, m->key, m->update, c->keys, c->values);
}

/* y = scale Sᵀ q, and with the tangents of the inputs scale (Ṡᵀ q + Sᵀ q̇), for the heads of a
   group; `moved` and `tangents` are both null or neither. */
static void linear_read_state(const struct linear *c, const struct linear_arrays *arrays,
                              const struct linear_arrays *tangents,
                              const struct linear_place *place, const struct linear_memory *m,
                              const double *state, const double *moved, float *y)
{
    const float *query = linear_at(arrays, place, QUERY);
    const float *change = tangents ? linear_at(tangents, place, QUERY) : NULL;
    for (size_t head = 0; head < c->queries; head++) {
        memset(m->output, 0, c->values * sizeof *m->output);
        linear_load(m->query, query + head * c->keys, c->keys);
        matrix_add_columns(moved ? moved : state, c->scale, m->query, m->output, c->keys,
                           c->values);
        if (change) {
            linear_load(m->query, change + head * c->keys, c->keys);
            matrix_add_columns(state, c->scale, m->query, m->output, c->keys, c->values);
        }
        linear_store(y + place->output + head * c->values, m->output, c->values);
    }
}

static float *linear_output(const struct net_call *call, size_t i)
{
    bool wanted = i < call->node->output_count && call->outputs[i];
    return wanted ? call->outputs[i]->data : NULL;
}

static int linear_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    const struct linear *c = call->prepared;
    const struct linear_arrays arrays = linear_inputs(call);
    const struct linear_memory m = linear_memory(call);
    float *y = linear_output(call, 0), *present = linear_output(call, 1);
    for (size_t which = 0; which < c->examples * c->heads; which++) {
        linear_begin(c, &arrays, which, m.state);
        for (size_t t = 0; t < c->positions; t++) {
            struct linear_place place = linear_place(c, which / c->heads, which % c->heads, t);
            linear_step(c, &arrays, &place, &m, m.state);
            if (y)
                linear_read_state(c, &arrays, NULL, &place, &m, m.state, NULL, y);
        }
        if (present)
            linear_store(present + which * c->state, m.state, c->state);
    }
    return 0;
}

/* The tangent. */

/* Moves the state and its tangent Ṡ by one position. */
static void linear_step_tangent(const struct linear *c, const struct linear_arrays *arrays,
                                const struct linear_arrays *tangents,
                                const struct linear_place *place, const struct linear_memory *m)
{
    const float *decay = linear_at(tangents, place, DECAY);
    const float *beta = linear_at(tangents, place, BETA);
    double rate = linear_rate(c, arrays, place), rate_change = beta ? (double)*beta : 0;
    linear_prepare_step(c, arrays, place, m, m->state);
    linear_load(m->key_change, linear_at(tangents, place, KEY), c->keys);
    linear_load(m->rest_change, linear_at(tangents, place, VALUE), c->values);
    if (c->gated)
        matrix_scale(m->change, m->gate, c->keys, c->values);
    for (size_t i = 0; decay && i < c->keys; i++)
        for (size_t j = 0; j < c->values; j++)
            m->change[i * c->values + j] += (double)decay[c->decays > 1 ? i : 0] *
                                            m->state[i * c->values + j];
    if (c->delta) {
        matrix_add_columns(m->change, -1, m->key, m->rest_change, c->keys, c->values);
        matrix_add_columns(m->state, -1, m->key_change, m->rest_change, c->keys, c->values);
    }
    for (size_t j = 0; j < c->values; j++)
        m->update_change[j] = rate_change * m->rest[j] + rate * m->rest_change[j];
    matrix_add(m->state, 1, m->key, m->update, c->keys, c->values);
    matrix_add(m->change, 1, m->key_change, m->update, c->keys, c->values);
    matrix_add(m->change, 1, m->key, m->update_change, c->keys, c->values);
}

static void linear_tangent(const struct net_call *call, const float *const *input_tangents,
                           float *const *output_tangents)
{
    const struct linear *c = call->prepared;
    const struct linear_arrays arrays = linear_inputs(call);
    const struct linear_memory m = linear_memory(call);
    struct linear_arrays tangents = {.inputs = {NULL}};
    float *y = output_tangents[0];
    float *present = call->node->output_count > 1 ? output_tangents[1] : NULL;
    for (size_t i = 0; i < call->node->input_count; i++)
        tangents.inputs[i] = input_tangents[i];
    for (size_t which = 0; which < c->examples * c->heads; which++) {
        linear_begin(c, &arrays, which, m.state);
        linear_begin(c, &tangents, which, m.change);
        for (size_t t = 0; t < c->positions; t++) {
            struct linear_place place = linear_place(c, which / c->heads, which % c->heads, t);
            linear_step_tangent(c, &arrays, &tangents, &place, &m);
            if (y)
                linear_read_state(c, &arrays, &tangents, &place, &m, m.state, m.change, y);
        }
        if (present)
            linear_store(present + which * c->state, m.change, c->state);
    }
}

/* The adjoints. */

static void linear_add(float *to, const double *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += (float)from[i];
}

/* Adds what the outputs of a position give: G += scale q dyᵀ, dq += scale S dy. S = S' + k uᵀ, of
   which m->state holds S'. */
static void linear_read_back(const struct linear *c, const struct linear_arrays *arrays,
                             const struct linear_place *place, const struct linear_memory *m,
                             float *to)
{
    const float *query = linear_at(arrays, place, QUERY);
    const float *dy = arrays->outputs[0] + place->output;
    for (size_t head = 0; head < c->queries; head++) {
        linear_load(m->query, query + head * c->keys, c->keys);
        linear_load(m->output, dy + head * c->values, c->values);
        matrix_add(m->adjoint, c->scale, m->query, m->output, c->keys, c->values);
        if (!to)
            continue;
        double along = c->scale * row_product(m->update, m->output, c->values);
        for (size_t i = 0; i < c->keys; i++)
            m->query[i] = along * m->key[i];
        matrix_add_rows(m->state, c->scale, m->output, m->query, c->keys, c->values);
        linear_add(to + place->inputs[QUERY] + head * c->keys, m->query, c->keys);
    }
}

/* From G, the adjoint of S' and what it gives for the decay: dd_i = Σ_j G_ij S'_ij, and G becomes
   the adjoint of the state before. */
static void linear_decay_back(const struct linear *c, const struct linear_place *place,
                              const struct linear_memory *m, float *to)
{
    if (to) {
        memset(m->query, 0, c->keys * sizeof *m->query);
        matrix_add_products(m->adjoint, m->state, m->query, c->keys, c->values);
        for (size_t i = 0; i < c->keys; i++)
            to[place->inputs[DECAY] + (c->decays > 1 ? i : 0)] += (float)m->query[i];
    }
    matrix_scale(m->adjoint, m->gate, c->keys, c->values);
}

/* One position back; m->state holds the state before it, m->adjoint that of the state behind it. */
static void linear_step_back(const struct linear *c, const struct linear_arrays *arrays,
                             const struct linear_place *place, const struct linear_memory *m,
                             float *const *to)
{
    double rate = linear_rate(c, arrays, place), *du = m->update_change, *dr = m->rest_change;
    linear_prepare_step(c, arrays, place, m, m->state);
    if (arrays->outputs[0])
        linear_read_back(c, arrays, place, m, to[QUERY]);
    memset(du, 0, c->values * sizeof *du);
    memset(m->key_change, 0, c->keys * sizeof *m->key_change);
    matrix_add_columns(m->adjoint, 1, m->key, du, c->keys, c->values);
    matrix_add_rows(m->adjoint, 1, m->update, m->key_change, c->keys, c->values);
    for (size_t j = 0; j < c->values; j++)
        dr[j] = rate * du[j];
    if (c->delta) {
        matrix_add_rows(m->state, -1, dr, m->key_change, c->keys, c->values);
        matrix_add(m->adjoint, -1, m->key, dr, c->keys, c->values);
        if (to[BETA])
            to[BETA][place->inputs[BETA]] += (float)row_product(du, m->rest, c->values);
    }
    if (to[VALUE])
        linear_add(to[VALUE] + place->inputs[VALUE], dr, c->values);
    if (to[KEY])
        linear_add(to[KEY] + place->inputs[KEY], m->key_change, c->keys);
    if (c->gated)
        linear_decay_back(c, place, m, to[DECAY]);
}

/* Keeps the state before each segment of a head's positions. */
static void linear_keep(const struct linear *c, const struct linear_arrays *arrays, size_t which,
                        const struct linear_memory *m)
{
    linear_begin(c, arrays, which, m->state);
    for (size_t t = 0; t < c->positions; t++) {
        struct linear_place place = linear_place(c, which / c->heads, which % c->heads, t);
        if (t % c->segment == 0)
            memcpy(m->kept + t / c->segment * c->state, m->state, c->state * sizeof *m->state);
        linear_step(c, arrays, &place, m, m->state);
    }
}

/* Runs segment number `segment` back. */
static void linear_segment_back(const struct linear *c, const struct linear_arrays *arrays,
                                size_t which, size_t segment, const struct linear_memory *m,
                                float *const *to)
{
    size_t first = segment * c->segment, size = c->state * sizeof *m->state;
    size_t count = c->positions - first < c->segment ? c->positions - first : c->segment;
    struct linear_place place;
    memcpy(m->segment, m->kept + segment * c->state, size);
    for (size_t i = 1; i < count; i++) {
        double *state = m->segment + i * c->state;
        place = linear_place(c, which / c->heads, which % c->heads, first + i - 1);
        memcpy(state, state - c->state, size);
        linear_step(c, arrays, &place, m, state);
    }
    for (size_t i = count; i-- > 0;) {
        place = linear_place(c, which / c->heads, which % c->heads, first + i);
        memcpy(m->state, m->segment + i * c->state, size);
        linear_step_back(c, arrays, &place, m, to);
    }
}

static void linear_backward(const struct net_call *call, const float *const *output_adjoints,
                            float *const *input_adjoints)
{
    const struct linear *c = call->prepared;
    const struct linear_memory m = linear_memory(call);
    struct linear_arrays arrays = linear_inputs(call);
    float *to[INPUTS] = {NULL};
    for (size_t i = 0; i < call->node->input_count; i++)
        to[i] = input_adjoints[i];
    for (size_t i = 0; i < call->node->output_count; i++)
        arrays.outputs[i] = output_adjoints[i];
    for (size_t which = 0; which < c->examples * c->heads; which++) {
        const float *present = arrays.outputs[1];
        linear_keep(c, &arrays, which, &m);
        linear_load(m.adjoint, present ? present + which * c->state : NULL, c->state);
        for (size_t segment = c->segments; segment-- > 0;)
            linear_segment_back(c, &arrays, which, segment, &m, to);
        if (to[PAST])
            linear_add(to[PAST] + which * c->state, m.adjoint, c->state);
    }
}

const struct net_operator net_linear_operators[] = {
    {.name = "LinearAttention",
     .since = 27,
     .inputs_min = 3,
     .inputs_max = 6,
     .outputs_max = 2,
     .attributes = {{"chunk_size", NET_INT}, /* how others cut the positions; changes no number */
                    {"kv_num_heads", NET_INT},
                    {"q_num_heads", NET_INT},
                    {"scale", NET_FLT},
                    {"update_rule", NET_TEXT}},
     .infer = linear_infer,
     .forward = linear_forward,
     .backward = linear_backward,
     .tangent = linear_tangent},
    {0}};
