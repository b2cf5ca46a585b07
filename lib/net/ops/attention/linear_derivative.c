/*
 * The derivatives of LinearAttention. The tangent moves on with the state; the adjoint G of the
 * state runs the same positions back. Of the states that it needs, the first of each segment is
 * kept, and the others of one segment at a time are computed again, so that T positions take memory
 * for 2 √T states.
 */
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/attention/linear.h"

/* The tangent. */

/* Moves the state and its tangent Ṡ by one position. */
static void linear_step_tangent(const struct linear *c, const struct linear_arrays *arrays,
                                const struct linear_arrays *tangents,
                                const struct linear_place *place, const struct linear_memory *m)
{
    const float *decay = linear_at(tangents, place, LINEAR_DECAY);
    const float *beta = linear_at(tangents, place, LINEAR_BETA);
    double rate = linear_rate(c, arrays, place), rate_change = beta ? (double)*beta : 0;
    linear_prepare_step(c, arrays, place, m, m->state);
    linear_load(m->key_change, linear_at(tangents, place, LINEAR_KEY), c->keys);
    linear_load(m->rest_change, linear_at(tangents, place, LINEAR_VALUE), c->values);
    if (c->gated)
        linear_scale_rows(m->change, m->gate, c->keys, c->values);
    for (size_t i = 0; decay && i < c->keys; i++)
        for (size_t j = 0; j < c->values; j++)
            m->change[i * c->values + j] += (double)decay[c->decays > 1 ? i : 0] *
                                            m->state[i * c->values + j];
    if (c->delta) {
        linear_add_columns(m->change, -1, m->key, m->rest_change, c->keys, c->values);
        linear_add_columns(m->state, -1, m->key_change, m->rest_change, c->keys, c->values);
    }
    for (size_t j = 0; j < c->values; j++)
        m->update_change[j] = rate_change * m->rest[j] + rate * m->rest_change[j];
    linear_add_outer(m->state, 1, m->key, m->update, c->keys, c->values);
    linear_add_outer(m->change, 1, m->key_change, m->update, c->keys, c->values);
    linear_add_outer(m->change, 1, m->key, m->update_change, c->keys, c->values);
}

void linear_tangent(const struct net_call *call, const float *const *input_tangents,
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

/* Returns aᵀ b, in lanes that do not depend on the machine. */
static inline __attribute__((always_inline)) double linear_product(const double *restrict a,
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
IVON_DISPATCH static void linear_add_rows(const double *restrict s, double factor,
                                          const double *restrict b, double *restrict out,
                                          size_t keys, size_t values)
{
    for (size_t i = 0; i < keys; i++, s += values)
        out[i] += factor * linear_product(s, b, values);
}

/* out_i += Σ_j A_ij B_ij */
IVON_DISPATCH static void linear_add_products(const double *restrict a, const double *restrict b,
                                              double *restrict out, size_t keys, size_t values)
{
    for (size_t i = 0; i < keys; i++, a += values, b += values)
        out[i] += linear_product(a, b, values);
}

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
    const float *query = linear_at(arrays, place, LINEAR_QUERY);
    const float *dy = arrays->outputs[0] + place->output;
    for (size_t head = 0; head < c->queries; head++) {
        linear_load(m->query, query + head * c->keys, c->keys);
        linear_load(m->output, dy + head * c->values, c->values);
        linear_add_outer(m->adjoint, c->scale, m->query, m->output, c->keys, c->values);
        if (!to)
            continue;
        double along = c->scale * linear_product(m->update, m->output, c->values);
        for (size_t i = 0; i < c->keys; i++)
            m->query[i] = along * m->key[i];
        linear_add_rows(m->state, c->scale, m->output, m->query, c->keys, c->values);
        linear_add(to + place->inputs[LINEAR_QUERY] + head * c->keys, m->query, c->keys);
    }
}

/* From G, the adjoint of S' and what it gives for the decay: dd_i = Σ_j G_ij S'_ij, and G becomes
   the adjoint of the state before. */
static void linear_decay_back(const struct linear *c, const struct linear_place *place,
                              const struct linear_memory *m, float *to)
{
    if (to) {
        memset(m->query, 0, c->keys * sizeof *m->query);
        linear_add_products(m->adjoint, m->state, m->query, c->keys, c->values);
        for (size_t i = 0; i < c->keys; i++)
            to[place->inputs[LINEAR_DECAY] + (c->decays > 1 ? i : 0)] += (float)m->query[i];
    }
    linear_scale_rows(m->adjoint, m->gate, c->keys, c->values);
}

/* One position back; m->state holds the state before it, m->adjoint that of the state behind it. */
static void linear_step_back(const struct linear *c, const struct linear_arrays *arrays,
                             const struct linear_place *place, const struct linear_memory *m,
                             float *const *to)
{
    double rate = linear_rate(c, arrays, place), *du = m->update_change, *dr = m->rest_change;
    linear_prepare_step(c, arrays, place, m, m->state);
    if (arrays->outputs[0])
        linear_read_back(c, arrays, place, m, to[LINEAR_QUERY]);
    memset(du, 0, c->values * sizeof *du);
    memset(m->key_change, 0, c->keys * sizeof *m->key_change);
    linear_add_columns(m->adjoint, 1, m->key, du, c->keys, c->values);
    linear_add_rows(m->adjoint, 1, m->update, m->key_change, c->keys, c->values);
    for (size_t j = 0; j < c->values; j++)
        dr[j] = rate * du[j];
    if (c->delta) {
        linear_add_rows(m->state, -1, dr, m->key_change, c->keys, c->values);
        linear_add_outer(m->adjoint, -1, m->key, dr, c->keys, c->values);
        if (to[LINEAR_BETA])
            to[LINEAR_BETA][place->inputs[LINEAR_BETA]] += (float)linear_product(du, m->rest,
                                                                                 c->values);
    }
    if (to[LINEAR_VALUE])
        linear_add(to[LINEAR_VALUE] + place->inputs[LINEAR_VALUE], dr, c->values);
    if (to[LINEAR_KEY])
        linear_add(to[LINEAR_KEY] + place->inputs[LINEAR_KEY], m->key_change, c->keys);
    if (c->gated)
        linear_decay_back(c, place, m, to[LINEAR_DECAY]);
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

void linear_backward(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints)
{
    const struct linear *c = call->prepared;
    const struct linear_memory m = linear_memory(call);
    struct linear_arrays arrays = linear_inputs(call);
    float *to[LINEAR_INPUTS] = {NULL};
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
        if (to[LINEAR_PAST])
            linear_add(to[LINEAR_PAST] + which * c->state, m.adjoint, c->state);
    }
}
