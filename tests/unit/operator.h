/*
 * One operator alone, for tests: a node with its attributes and inputs, run and differentiated.
 * Inputs are random unless given; everything is freed by trial_end.
 */
#ifndef TESTS_UNIT_OPERATOR_H
#define TESTS_UNIT_OPERATOR_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/graph/operator.h"

enum { TRIAL_MAX = 10 };

struct trial {
    struct net_node node;
    struct net_attribute attributes[NET_OPERATOR_ATTRIBUTES_MAX];
    struct net_tensor inputs[TRIAL_MAX], outputs[TRIAL_MAX];
    struct net_tensor *input_list[TRIAL_MAX], *output_list[TRIAL_MAX];
    struct net_call call;
    uint64_t state; /* of its random numbers */
};

/* Uniform in [low, high). */
static inline float trial_random(struct trial *trial, double low, double high)
{
    trial->state = trial->state * 6364136223846793005U + 1442695040888963407U;
    return (float)(low + (high - low) * (double)(trial->state >> 40) / 16777216.0);
}

static inline void trial_begin_row(struct trial *trial, const struct net_operator *op,
                                   size_t outputs)
{
    memset(trial, 0, sizeof *trial);
    trial->state = 88172645463325252U;
    assert_non_null(op);
    trial->node.op = op;
    trial->node.name = (char *)"trial";
    trial->node.attributes = trial->attributes;
    trial->node.output_count = outputs;
    for (size_t i = 0; i < outputs; i++)
        trial->output_list[i] = &trial->outputs[i];
    trial->call = (struct net_call){
        .node = &trial->node, .inputs = trial->input_list, .outputs = trial->output_list};
}

/* The newest version of one of ONNX's own operators. */
static inline void trial_begin(struct trial *trial, const char *op, size_t outputs)
{
    trial_begin_row(trial, net_operator_find(NULL, op, NET_OPSET_MOST), outputs);
}

/* Adds an input of floats, uniform in [low, high), or of the elements at `data`. */
static inline struct net_tensor *trial_floats(struct trial *trial, int rank, const int64_t *shape,
                                              const float *data, double low, double high)
{
    struct net_tensor *tensor = &trial->inputs[trial->node.input_count];
    trial->input_list[trial->node.input_count++] = tensor;
    assert_int_equal(net_tensor_set(tensor, NET_FLOAT, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(tensor, NULL), 0);
    for (size_t i = 0; i < tensor->count; i++)
        ((float *)tensor->data)[i] = data ? data[i] : trial_random(trial, low, high);
    return tensor;
}

static inline struct net_tensor *trial_integers(struct trial *trial, int rank, const int64_t *shape,
                                                const int64_t *data)
{
    struct net_tensor *tensor = &trial->inputs[trial->node.input_count];
    trial->input_list[trial->node.input_count++] = tensor;
    assert_int_equal(net_tensor_set(tensor, NET_INTEGER, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(tensor, NULL), 0);
    memcpy(tensor->data, data, tensor->count * sizeof *data);
    return tensor;
}

/* Leaves an input out. */
static inline void trial_skip(struct trial *trial)
{
    trial->input_list[trial->node.input_count++] = NULL;
}

static inline struct net_attribute *trial_attribute(struct trial *trial, const char *name,
                                                    enum net_attribute_kind kind)
{
    struct net_attribute *attribute = &trial->attributes[trial->node.attribute_count++];
    attribute->name = (char *)name;
    attribute->kind = kind;
    return attribute;
}

static inline void trial_int(struct trial *trial, const char *name, int64_t value)
{
    trial_attribute(trial, name, NET_INT)->integer = value;
}

static inline void trial_number(struct trial *trial, const char *name, double value)
{
    trial_attribute(trial, name, NET_FLT)->number = value;
}

static inline void trial_text(struct trial *trial, const char *name, const char *value)
{
    trial_attribute(trial, name, NET_TEXT)->text = (char *)value;
}

static inline void trial_ints(struct trial *trial, const char *name, const int64_t *values,
                              size_t count)
{
    struct net_attribute *attribute = trial_attribute(trial, name, NET_INTS);
    attribute->integers = (int64_t *)values;
    attribute->count = count;
}

/* Nothing may depend on what the workspace held before. */
static inline void trial_spoil_workspace(struct trial *trial)
{
    if (trial->call.workspace)
        memset(trial->call.workspace, 0xff, trial->call.workspace_size); /* NaN */
}

/* Tensors have room behind their elements, 4 bytes or more, and trials' workspaces; what is written
   there would be another's. */
enum { GUARD = 0x5a };

static inline void trial_guard(unsigned char *data, size_t size, const char *what, bool check)
{
    for (size_t i = size; data && i < (size / 64 + 1) * 64; i++) {
        if (check && data[i] != GUARD)
            fail_msg("byte %zu behind the %zu of %s was written", i - size, size, what);
        data[i] = GUARD;
    }
}

static inline void trial_guards(struct trial *trial, bool check)
{
    for (size_t i = 0; i < trial->node.output_count; i++) {
        const struct net_tensor *output = &trial->outputs[i];
        size_t size = output->count * net_type_size(output->type);
        trial_guard(output->data, size, "an output", check);
    }
    size_t size = trial->call.workspace_size;
    trial_guard(trial->call.workspace, size, "the workspace", check);
}

/* Runs an inferred call; a row without forward copies. */
static inline int trial_forward(struct trial *trial, struct ivon_error *error)
{
    const struct net_operator *op = trial->node.op;
    const struct net_tensor *output = &trial->outputs[0];
    trial_spoil_workspace(trial);
    if (op->forward) {
        trial_guards(trial, false);
        int code = op->forward(&trial->call, error);
        trial_guards(trial, true);
        return code;
    }
    memcpy(output->data, trial->inputs[0].data, output->count * net_type_size(output->type));
    return 0;
}

/* Infers, allocates and runs; keeps what infer prepared. Returns the first failure. */
static inline int trial_run(struct trial *trial, struct ivon_error *error)
{
    const struct net_operator *op = trial->node.op;
    int code = op->infer(&trial->call, error);
    for (size_t i = 0; i < trial->node.output_count && !code; i++)
        code = net_tensor_allocate(&trial->outputs[i], error);
    if (!code && trial->call.workspace_size)
        trial->call.workspace = aligned_alloc(64, (trial->call.workspace_size / 64 + 1) * 64);
    return code ? code : trial_forward(trial, error);
}

static inline void trial_end(struct trial *trial)
{
    for (size_t i = 0; i < TRIAL_MAX; i++) {
        free(trial->inputs[i].data);
        free(trial->outputs[i].data);
    }
    free(trial->call.workspace);
    free(trial->call.prepared);
}

/*
 * The derivatives of output `output` after trial_run, in a random direction v with a random weight
 * w, over the float inputs of which `wanted` has the bit. Two oracles: central differences of
 * forward with step `step`, and the identity <w, J v> = <Jᵀ w, v>. With outputs of size 1 a
 * difference is right to about 2^-23/step (rounding) plus step² (curvature); the identity to
 * rounding alone. backward must add to what is there, and tangent must set.
 */
static inline void trial_check_output_derivatives(struct trial *trial, size_t output,
                                                  unsigned wanted, double step,
                                                  double difference_tolerance,
                                                  double identity_tolerance)
{
    const struct net_operator *op = trial->node.op;
    size_t count = trial->outputs[output].count;
    float *direction[TRIAL_MAX] = {NULL}, *adjoint[TRIAL_MAX] = {NULL}, *kept[TRIAL_MAX] = {NULL};
    float *weight = calloc(count + 1, sizeof *weight), *plus = calloc(count + 1, sizeof *plus);
    float *tangent = calloc(count + 1, sizeof *tangent);
    for (size_t i = 0; i < count; i++) {
        weight[i] = trial_random(trial, -1, 1);
        tangent[i] = NAN;
    }
    tangent[count] = 0.75F; /* another's */
    for (size_t i = 0; i < trial->node.input_count; i++) {
        struct net_tensor *input = trial->input_list[i];
        if (!input || input->type != NET_FLOAT || !(wanted & 1U << i))
            continue;
        direction[i] = calloc(input->count + 1, sizeof(float));
        adjoint[i] = calloc(input->count + 1, sizeof(float));
        adjoint[i][input->count] = 0.75F;
        kept[i] = calloc(input->count + 1, sizeof(float));
        memcpy(kept[i], input->data, input->count * sizeof(float));
        for (size_t j = 0; j < input->count; j++) {
            direction[i][j] = trial_random(trial, -1, 1);
            adjoint[i][j] = 1; /* backward adds to it */
        }
    }
    const float *output_adjoints[TRIAL_MAX] = {NULL};
    float *output_tangents[TRIAL_MAX] = {NULL};
    output_adjoints[output] = weight;
    output_tangents[output] = tangent;
    trial_guards(trial, false);
    trial_spoil_workspace(trial);
    op->tangent(&trial->call, (const float *const *)direction, output_tangents);
    trial_spoil_workspace(trial);
    op->backward(&trial->call, output_adjoints, adjoint);
    trial_guards(trial, true);
    assert_true(tangent[count] == 0.75F);
    for (size_t i = 0; i < count; i++)
        plus[i] = NAN;
    output_tangents[output] = plus; /* where nothing moves, neither does the output */
    trial_spoil_workspace(trial);
    op->tangent(&trial->call, (const float *const[TRIAL_MAX]){NULL}, output_tangents);
    for (size_t i = 0; i < count; i++)
        if (plus[i] != 0)
            fail_msg("%s: output %zu moves by %g, expected 0", op->name, i, (double)plus[i]);
    for (size_t i = 0; i < TRIAL_MAX; i++)
        assert_true(!adjoint[i] || adjoint[i][trial->inputs[i].count] == 0.75F);

    double left = 0, right = 0, scale = 0;
    for (size_t i = 0; i < count; i++) {
        left += (double)weight[i] * (double)tangent[i];
        scale += fabs((double)weight[i] * (double)tangent[i]);
    }
    for (size_t i = 0; i < TRIAL_MAX; i++)
        for (size_t j = 0; direction[i] && j < trial->inputs[i].count; j++) {
            right += (double)direction[i][j] * ((double)adjoint[i][j] - 1);
            scale += fabs((double)direction[i][j] * ((double)adjoint[i][j] - 1));
        }
    if (!(fabs(left - right) <= identity_tolerance * (scale + 1)))
        fail_msg("%s: <w, Jv> = %.9g, <J'w, v> = %.9g, scale %g", op->name, left, right, scale);

    for (int side = 1; side >= -1; side -= 2) {
        for (size_t i = 0; i < TRIAL_MAX; i++)
            for (size_t j = 0; direction[i] && j < trial->inputs[i].count; j++)
                ((float *)trial->inputs[i].data)[j] =
                    (float)((double)kept[i][j] + side * step * (double)direction[i][j]);
        assert_int_equal(trial_forward(trial, NULL), 0);
        if (side > 0)
            memcpy(plus, trial->outputs[output].data, count * sizeof(float));
    }
    const float *minus = trial->outputs[output].data;
    for (size_t i = 0; i < count; i++) {
        double difference = ((double)plus[i] - (double)minus[i]) / (2 * step);
        if (!(fabs(difference - (double)tangent[i]) <=
              difference_tolerance * (1 + fabs((double)tangent[i]))))
            fail_msg("%s: element %zu: difference %.9g, tangent %.9g", op->name, i, difference,
                     (double)tangent[i]);
    }
    for (size_t i = 0; i < TRIAL_MAX; i++) {
        if (kept[i])
            memcpy(trial->inputs[i].data, kept[i], trial->inputs[i].count * sizeof(float));
        free(direction[i]);
        free(adjoint[i]);
        free(kept[i]);
    }
    assert_int_equal(trial_forward(trial, NULL), 0);
    free(weight);
    free(plus);
    free(tangent);
}

static inline void trial_check_derivatives(struct trial *trial, unsigned wanted, double step,
                                           double difference_tolerance, double identity_tolerance)
{
    trial_check_output_derivatives(trial, 0, wanted, step, difference_tolerance,
                                   identity_tolerance);
}

/*
 * The call of example `example` alone, run: it owns the example-th of `examples` equal runs along
 * the first axis of every input but those of which `shared` has the bit. `part` is freed by
 * trial_end.
 */
static inline void trial_take_example(const struct trial *whole, unsigned shared, size_t examples,
                                      size_t example, struct trial *part)
{
    *part = *whole;
    part->node.attributes = part->attributes;
    part->call = (struct net_call){
        .node = &part->node, .inputs = part->input_list, .outputs = part->output_list};
    memset(part->outputs, 0, sizeof part->outputs);
    for (size_t i = 0; i < whole->node.output_count; i++)
        part->output_list[i] = &part->outputs[i];
    for (size_t i = 0; i < whole->node.input_count; i++) {
        const struct net_tensor *from = whole->input_list[i];
        struct net_tensor *to = &part->inputs[i];
        int64_t shape[IVON_RANK_MAX];
        bool own = !(shared & 1U << i);
        if (!from)
            continue;
        part->input_list[i] = to;
        memcpy(shape, from->shape, sizeof shape);
        if (own) {
            assert_true(from->rank > 0 && shape[0] % (int64_t)examples == 0);
            shape[0] /= (int64_t)examples;
        }
        *to = (struct net_tensor){0};
        assert_int_equal(net_tensor_set(to, from->type, from->rank, shape, NULL), 0);
        assert_int_equal(net_tensor_allocate(to, NULL), 0);
        size_t size = to->count * net_type_size(to->type);
        memcpy(to->data, (const char *)from->data + (own ? example * size : 0), size);
    }
    assert_int_equal(trial_run(part, NULL), 0);
}

/*
 * What an example adds to the adjoint of input `input`, which all share: backward on the call of
 * the example alone gives what backward on the whole does when the output adjoints of the other
 * examples are zero. After trial_run; `shared` and `examples` as above; to `tolerance` of the
 * largest element.
 */
static inline void trial_check_examples(struct trial *trial, size_t input, unsigned shared,
                                        size_t examples, double tolerance)
{
    const struct net_operator *op = trial->node.op;
    size_t count = trial->outputs[0].count, run = count / examples;
    size_t size = trial->inputs[input].count;
    assert_int_equal(run * examples, count);
    float *weight = calloc(count, sizeof *weight), *alone = calloc(count, sizeof *alone);
    float *expected = calloc(size + 1, sizeof *expected), *found = calloc(size + 1, sizeof *found);
    for (size_t i = 0; i < count; i++)
        weight[i] = trial_random(trial, -1, 1);
    for (size_t e = 0; e < examples; e++) {
        struct trial part;
        const float *of_whole[TRIAL_MAX] = {alone}, *of_part[TRIAL_MAX] = {weight + e * run};
        float *wanted[TRIAL_MAX] = {NULL};
        trial_take_example(trial, shared, examples, e, &part);
        assert_int_equal(part.outputs[0].count, run);
        memset(expected, 0, size * sizeof *expected);
        memset(found, 0, size * sizeof *found);
        memset(alone, 0, count * sizeof *alone);
        memcpy(alone + e * run, weight + e * run, run * sizeof *alone);
        wanted[input] = expected;
        trial_spoil_workspace(trial);
        op->backward(&trial->call, of_whole, wanted);
        wanted[input] = found;
        trial_spoil_workspace(&part);
        op->backward(&part.call, of_part, wanted);
        double largest = 0;
        for (size_t i = 0; i < size; i++)
            largest = fmax(largest, fabs((double)expected[i]));
        for (size_t i = 0; i < size; i++)
            if (!(fabs((double)found[i] - (double)expected[i]) <= tolerance * largest))
                fail_msg("%s: example %zu, element %zu: %.9g alone, %.9g in the whole", op->name, e,
                         i, (double)found[i], (double)expected[i]);
        trial_end(&part);
    }
    free(weight);
    free(alone);
    free(expected);
    free(found);
}

#endif
