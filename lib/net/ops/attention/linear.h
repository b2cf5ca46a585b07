/* LinearAttention and its derivatives share the layer at one set of shapes, where its numbers lie,
   and one step of its states. */
#ifndef NET_OPS_ATTENTION_LINEAR_H
#define NET_OPS_ATTENTION_LINEAR_H

#include "net/graph/operator.h"

enum {
    LINEAR_QUERY,
    LINEAR_KEY,
    LINEAR_VALUE,
    LINEAR_PAST,
    LINEAR_DECAY,
    LINEAR_BETA,
    LINEAR_INPUTS
};

struct linear {
    size_t examples, positions, heads, queries; /* queries: heads that read one state */
    size_t keys, values, state;                 /* numbers of a key, of a value, their product */
    size_t decays;                              /* of a head at a position: 1 or keys */
    size_t rates;                               /* of all heads at a position: 1 or heads */
    bool gated, delta;
    double scale;
    size_t segment, segments; /* positions that derivatives compute again at once; how many such */
};

/* Arrays in the order of the inputs, and of the outputs: elements, adjoints or tangents. */
struct linear_arrays {
    const float *inputs[LINEAR_INPUTS];
    const float *outputs[2];
};

/* The workspace. What a position has from the inputs is turned to double. */
struct linear_memory {
    double *state, *change, *adjoint; /* matrices */
    double *kept, *segment;           /* lists of them */
    double *gate, *key, *key_change, *query;
    double *rest, *update, *rest_change, *update_change, *output;
};

/* One position of one state: where its numbers begin in the arrays. */
struct linear_place {
    size_t inputs[LINEAR_INPUTS], output;
};

static inline struct linear_place linear_place(const struct linear *c, size_t example, size_t head,
                                               size_t position)
{
    size_t row = example * c->positions + position, at = row * c->heads + head;
    return (struct linear_place){
        .inputs = {[LINEAR_QUERY] = at * c->queries * c->keys,
                   [LINEAR_KEY] = at * c->keys,
                   [LINEAR_VALUE] = at * c->values,
                   [LINEAR_DECAY] = at * c->decays,
                   [LINEAR_BETA] = row * c->rates + (c->rates > 1 ? head : 0)},
        .output = at * c->queries * c->values};
}

/* Null counts as zeros. */
static inline void linear_load(double *to, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = from ? (double)from[i] : 0;
}

static inline void linear_store(float *to, const double *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (float)from[i];
}

/* The numbers of an input at a place, or null where there is none. */
static inline const float *linear_at(const struct linear_arrays *arrays,
                                     const struct linear_place *place, size_t input)
{
    const float *array = arrays->inputs[input];
    return array ? array + place->inputs[input] : NULL;
}

/* β of a position. */
static inline double linear_rate(const struct linear *c, const struct linear_arrays *arrays,
                                 const struct linear_place *place)
{
    const float *beta = c->delta ? linear_at(arrays, place, LINEAR_BETA) : NULL;
    return beta ? (double)*beta : 1;
}

struct linear_memory linear_memory(const struct net_call *call);

/* The arrays of the inputs' elements. */
struct linear_arrays linear_inputs(const struct net_call *call);

/* Sets the state before the first position of head `which` of all examples' heads. */
void linear_begin(const struct linear *c, const struct linear_arrays *arrays, size_t which,
                  double *state);

/* Matrices of keys × values: S_ij *= gate_i; S += factor a bᵀ; out += factor Sᵀ a. */
void linear_scale_rows(double *restrict s, const double *gate, size_t keys, size_t values);
void linear_add_outer(double *restrict s, double factor, const double *a, const double *restrict b,
                      size_t keys, size_t values);
void linear_add_columns(const double *restrict s, double factor, const double *a,
                        double *restrict out, size_t keys, size_t values);

/* S ← S', and sets gate, key, rest = v − S'ᵀ k and update of the position. */
void linear_prepare_step(const struct linear *c, const struct linear_arrays *arrays,
                         const struct linear_place *place, const struct linear_memory *m,
                         double *state);

/* Moves the state by one position. */
void linear_step(const struct linear *c, const struct linear_arrays *arrays,
                 const struct linear_place *place, const struct linear_memory *m, double *state);

/* y = scale Sᵀ q, and with the tangents of the inputs scale (Ṡᵀ q + Sᵀ q̇), for the heads of a
   group; `moved` and `tangents` are both null or neither. */
void linear_read_state(const struct linear *c, const struct linear_arrays *arrays,
                       const struct linear_arrays *tangents, const struct linear_place *place,
                       const struct linear_memory *m, const double *state, const double *moved,
                       float *y);

void linear_tangent(const struct net_call *call, const float *const *input_tangents,
                    float *const *output_tangents);
void linear_backward(const struct net_call *call, const float *const *output_adjoints,
                     float *const *input_adjoints);

#endif
