/*
 * LinearAttention: each head of values keeps a state S, keys × values, in place of its past. A
 * position changes it by its key k and value v, its decay d and its rate β, and reads it by the
 * queries q of its group:
 *
 *     S' = e^d S                where the rule is gated; else S' = S. d is one number, or one a row
 *     u = β (v − S'ᵀ k)         where the rule is a delta; else u = v
 *     S ← S' + k uᵀ
 *     o = scale Sᵀ q
 */
#include "net/ops/attention/linear.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/graph/rules.h"

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
    if (!net_input(call, LINEAR_DECAY) == c->gated)
        return net_fail(call, error, "update_rule '%s' %s a decay", rule,
                        c->gated ? "needs" : "has no use for");
    if (!net_input(call, LINEAR_BETA) == c->delta)
        return net_fail(call, error, "update_rule '%s' %s a beta", rule,
                        c->delta ? "needs" : "has no use for");
    return 0;
}

/* Sets the counts from queries and values, which have three axes. */
static int linear_read_heads(const struct net_call *call, struct linear *c,
                             struct ivon_error *error)
{
    const struct net_tensor *query = call->inputs[LINEAR_QUERY],
                            *value = call->inputs[LINEAR_VALUE];
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
    const struct net_tensor *query = call->inputs[LINEAR_QUERY], *input = net_input(call, i);
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
        int code = i <= LINEAR_VALUE || call->inputs[i] ? net_expect_float(call, i, error) : 0;
        if (!code && (i == LINEAR_QUERY || i == LINEAR_VALUE) && call->inputs[i]->rank != 3)
            code = net_fail(call, error, "input %zu of shape %s, expected three axes", i,
                            net_shape_text(call->inputs[i], text));
        if (code)
            return code;
    }
    const struct net_tensor *past = net_input(call, LINEAR_PAST),
                            *decay = net_input(call, LINEAR_DECAY);
    const struct net_tensor *beta = net_input(call, LINEAR_BETA);
    int code = linear_read_rule(call, c, error);
    if (!code)
        code = linear_read_heads(call, c, error);
    if (code)
        return code;
    int64_t heads = (int64_t)c->heads, value = call->inputs[LINEAR_VALUE]->shape[2], key;
    if (__builtin_mul_overflow(heads, (int64_t)c->keys, &key))
        return net_fail(call, error, "%" PRId64 " heads of keys", heads);
    const int64_t widths[LINEAR_INPUTS][2] = {[LINEAR_KEY] = {key, key},
                                              [LINEAR_VALUE] = {value, value},
                                              [LINEAR_DECAY] = {key, heads},
                                              [LINEAR_BETA] = {heads, 1}};
    for (size_t i = LINEAR_KEY; i < LINEAR_INPUTS && !code; i++)
        if (i != LINEAR_PAST)
            code = linear_expect(call, i, widths[i][0], widths[i][1], error);
    if (!code && past &&
        (past->rank != 4 || past->shape[0] != call->inputs[LINEAR_QUERY]->shape[0] ||
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
    const int64_t *shape = call->inputs[LINEAR_QUERY]->shape;
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

IVON_DISPATCH void linear_scale_rows(double *restrict s, const double *gate, size_t keys,
                                     size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values)
        for (size_t j = 0; j < values; j++)
            s[j] *= gate[i];
}

IVON_DISPATCH void linear_add_outer(double *restrict s, double factor, const double *a,
                                    const double *restrict b, size_t keys, size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values) {
        double times = factor * a[i];
        for (size_t j = 0; j < values; j++)
            s[j] += times * b[j];
    }
}

IVON_DISPATCH void linear_add_columns(const double *restrict s, double factor, const double *a,
                                      double *restrict out, size_t keys, size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values) {
        double times = factor * a[i];
        for (size_t j = 0; j < values; j++)
            out[j] += times * s[j];
    }
}

/* Places. */

struct linear_memory linear_memory(const struct net_call *call)
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

struct linear_arrays linear_inputs(const struct net_call *call)
{
    struct linear_arrays arrays = {.inputs = {NULL}};
    for (size_t i = 0; i < call->node->input_count; i++)
        arrays.inputs[i] = call->inputs[i] ? call->inputs[i]->data : NULL;
    return arrays;
}

void linear_begin(const struct linear *c, const struct linear_arrays *arrays, size_t which,
                  double *state)
{
    const float *past = arrays->inputs[LINEAR_PAST];
    linear_load(state, past ? past + which * c->state : NULL, c->state);
}

/* Running. */

void linear_prepare_step(const struct linear *c, const struct linear_arrays *arrays,
                         const struct linear_place *place, const struct linear_memory *m,
                         double *state)
{
    const float *decay = c->gated ? linear_at(arrays, place, LINEAR_DECAY) : NULL;
    double rate = linear_rate(c, arrays, place);
    linear_load(m->key, linear_at(arrays, place, LINEAR_KEY), c->keys);
    linear_load(m->rest, linear_at(arrays, place, LINEAR_VALUE), c->values);
    if (decay) {
        for (size_t i = 0; i < c->keys; i++)
            m->gate[i] = (double)vector_exp(decay[c->decays > 1 ? i : 0]);
        linear_scale_rows(state, m->gate, c->keys, c->values);
    }
    if (c->delta)
        linear_add_columns(state, -1, m->key, m->rest, c->keys, c->values);
    for (size_t j = 0; j < c->values; j++)
        m->update[j] = rate * m->rest[j];
}

void linear_step(const struct linear *c, const struct linear_arrays *arrays,
                 const struct linear_place *place, const struct linear_memory *m, double *state)
{
    linear_prepare_step(c, arrays, place, m, state);
    linear_add_outer(state, 1, m->key, m->update, c->keys, c->values);
}

void linear_read_state(const struct linear *c, const struct linear_arrays *arrays,
                       const struct linear_arrays *tangents, const struct linear_place *place,
                       const struct linear_memory *m, const double *state, const double *moved,
                       float *y)
{
    const float *query = linear_at(arrays, place, LINEAR_QUERY);
    const float *change = tangents ? linear_at(tangents, place, LINEAR_QUERY) : NULL;
    for (size_t head = 0; head < c->queries; head++) {
        memset(m->output, 0, c->values * sizeof *m->output);
        linear_load(m->query, query + head * c->keys, c->keys);
        linear_add_columns(moved ? moved : state, c->scale, m->query, m->output, c->keys,
                           c->values);
        if (change) {
            linear_load(m->query, change + head * c->keys, c->keys);
            linear_add_columns(state, c->scale, m->query, m->output, c->keys, c->values);
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
