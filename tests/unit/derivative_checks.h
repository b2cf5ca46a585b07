/*
 * What is checked of the derivatives of a network: that they are its differences, that tangents and
 * gradients agree, and that what examples say at once is what they say one after the other.
 *
 * Rounding: a number that passes through a network of this size is a sum of at most a few hundred
 * terms, nested a few deep; its rounding errors, of 2^-24 each, do not all point one way, and stay
 * below ROUNDING of the largest of the numbers that are compared.
 */
#ifndef TESTS_UNIT_DERIVATIVE_CHECKS_H
#define TESTS_UNIT_DERIVATIVE_CHECKS_H

#include "model.h"
#include "net/derivative/derivative.h"

enum { TILE = 5, PRESENT = 3, INPUTS = 2, VOCABULARY = 7 };

static const double ROUNDING = 64 * 0x1p-24;

/* A network with arrays for each of its parameters, and examples. */
struct trial {
    struct model *model;
    size_t parameters;
    bool wanted[MODEL_TENSORS];
    const struct net_block *const *blocks; /* or null */
    size_t sizes[MODEL_TENSORS];
    float **values, **direction, **diagonal;
    struct net_tensor shapes[INPUTS], unit_shapes[INPUTS];
    char *inputs[INPUTS];       /* of TILE examples */
    size_t input_sizes[INPUTS]; /* bytes of one example */
    size_t wide;                /* outputs of one example */
    double step;                /* of differences */
};

static inline float **new_arrays(struct trial *trial, double low, double high)
{
    float **arrays = calloc(trial->parameters + 1, sizeof *arrays);
    assert_non_null(arrays);
    for (size_t p = 0; p < trial->parameters; p++) {
        arrays[p] = model_allocate(trial->sizes[p] * sizeof **arrays);
        for (size_t i = 0; i < trial->sizes[p]; i++)
            arrays[p][i] = high > low ? model_random(trial->model, low, high) : (float)low;
    }
    return arrays;
}

static inline void free_arrays(const struct trial *trial, float **arrays)
{
    for (size_t p = 0; p < trial->parameters; p++)
        free(arrays[p]);
    free(arrays);
}

static inline void fill_inputs(struct trial *trial)
{
    for (size_t i = 0; i < trial->model->network->input_count; i++)
        for (size_t j = 0; j < trial->shapes[i].count; j++)
            if (trial->shapes[i].type == NET_FLOAT)
                ((float *)trial->inputs[i])[j] = model_random(trial->model, -1, 1);
            else
                ((int64_t *)trial->inputs[i])[j] = (int64_t)model_random(trial->model, 0,
                                                                         VOCABULARY);
}

static inline void trial_begin(struct trial *trial, struct model *model)
{
    const struct ivon_network *network = model->network;
    *trial = (struct trial){.model = model, .parameters = network->parameter_count};
    trial->step = 0x1p-6;
    for (size_t i = 0; i < network->node_count; i++)
        if (strcmp(network->nodes[i].op->name, "Max") == 0) /* no kink within the step */
            trial->step = 0x1p-9;
    for (size_t p = 0; p < trial->parameters; p++) {
        trial->sizes[p] = model->tensors[network->parameters[p]].count;
        trial->wanted[p] = true;
    }
    trial->values = new_arrays(trial, 0, 0);
    for (size_t p = 0; p < trial->parameters; p++)
        memcpy(trial->values[p], model->data[network->parameters[p]],
               trial->sizes[p] * sizeof(float));
    trial->direction = new_arrays(trial, -1, 1);
    trial->diagonal = new_arrays(trial, 0.1, 1);
    assert_true(network->input_count <= INPUTS);
    for (size_t i = 0; i < network->input_count; i++) {
        const struct net_tensor *declared = &network->values[network->inputs[i]].tensor;
        int64_t shape[IVON_RANK_MAX];
        memcpy(shape, declared->shape, sizeof shape);
        shape[0] = TILE;
        net_tensor_set(&trial->shapes[i], declared->type, declared->rank, shape, NULL);
        shape[0] = 1;
        net_tensor_set(&trial->unit_shapes[i], declared->type, declared->rank, shape, NULL);
        trial->input_sizes[i] = trial->unit_shapes[i].count * net_type_size(declared->type);
        trial->inputs[i] = model_allocate(TILE * trial->input_sizes[i]);
    }
    fill_inputs(trial);
}

static inline void trial_end(struct trial *trial)
{
    free_arrays(trial, trial->values);
    free_arrays(trial, trial->direction);
    free_arrays(trial, trial->diagonal);
    for (size_t i = 0; i < INPUTS; i++)
        free(trial->inputs[i]);
}

/* For `tile` examples, or as many as it falls back to. */
static inline struct net_derivative *make(struct trial *trial, size_t *tile)
{
    struct net_derivative *derivative = NULL;
    struct ivon_error error = {0};
    int code = net_derivative_new(
        &derivative, trial->model->network, *tile == TILE ? trial->shapes : trial->unit_shapes,
        trial->unit_shapes, tile, trial->wanted, trial->blocks, 0, &error);
    if (!code)
        code = net_derivative_set_parameters(derivative, (const float *const *)trial->values,
                                             &error);
    if (code)
        fail_msg("%s", error.message);
    trial->wide = net_derivative_output(derivative)->count / *tile;
    return derivative;
}

/* Runs the examples from `first` on. */
static inline void run(const struct trial *trial, struct net_derivative *derivative, size_t first)
{
    struct ivon_error error = {0};
    const void *inputs[INPUTS] = {NULL};
    for (size_t i = 0; i < trial->model->network->input_count; i++)
        inputs[i] = trial->inputs[i] + first * trial->input_sizes[i];
    if (net_derivative_run(derivative, inputs, &error))
        fail_msg("%s", error.message);
}

static inline double largest(const float *a, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)a[i]));
    return most;
}

static inline void expect_close(const char *what, const float *found, const float *expected,
                                size_t count, double scale)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)found[i] - (double)expected[i]) <= ROUNDING * scale))
            fail_msg("%s: element %zu is %.9g, expected %.9g, to %.2g", what, i, (double)found[i],
                     (double)expected[i], ROUNDING * scale);
}

/* Differences. */

/* The outputs of the whole tile with parameters θ + step u, by a plan of its own. */
static inline float *shifted_outputs(struct trial *trial, float *const *direction, double step)
{
    struct net_plan *plan = NULL;
    struct ivon_error error = {0};
    const void *inputs[INPUTS] = {trial->inputs[0], trial->inputs[1]};
    float **shifted = new_arrays(trial, 0, 0);
    for (size_t p = 0; p < trial->parameters; p++)
        for (size_t i = 0; i < trial->sizes[p]; i++)
            shifted[p][i] = (float)((double)trial->values[p][i] +
                                    (direction[p] ? step * (double)direction[p][i] : 0));
    int code = net_plan_new(&plan, trial->model->network, trial->shapes, 0, &error);
    if (!code)
        code = net_plan_set_parameters(plan, (const float *const *)shifted, &error);
    if (!code)
        code = net_plan_run(plan, inputs, &error);
    if (code)
        fail_msg("%s", error.message);
    const struct net_tensor *output = net_plan_output(plan, 0);
    float *copy = model_allocate(output->count * sizeof *copy);
    memcpy(copy, output->data, output->count * sizeof *copy);
    net_plan_free(plan);
    free_arrays(trial, shifted);
    return copy;
}

/*
 * Central differences with steps h and h/2. The error of the second is below the difference of the
 * two where the third derivative is steady, or where a kink lies between the steps; and the
 * rounding of the two outputs, over the step. A direction that hardly moves the outputs would check
 * nothing: it must move them by more than twice that.
 */
static inline void check_differences(struct trial *trial, const char *of, float *const *direction,
                                     const float *tangent, size_t first, size_t count)
{
    const double step = trial->step;
    float *plus[2], *minus[2];
    double moved = 0, allowed = 0;
    for (int i = 0; i < 2; i++) {
        plus[i] = shifted_outputs(trial, direction, step / (1 << i));
        minus[i] = shifted_outputs(trial, direction, -step / (1 << i));
    }
    double rounding = ROUNDING * fmax(1, largest(plus[0], TILE * trial->wide)) / (step / 2);
    for (size_t i = 0; i < count * trial->wide; i++) {
        size_t at = first * trial->wide + i;
        double wide = ((double)plus[0][at] - (double)minus[0][at]) / (2 * step);
        double narrow = ((double)plus[1][at] - (double)minus[1][at]) / step;
        double tolerance = fabs(wide - narrow) + rounding;
        if (!(fabs(narrow - (double)tangent[i]) <= tolerance))
            fail_msg("moving %s, output %zu: difference %.9g, tangent %.9g, to %.2g", of, at,
                     narrow, (double)tangent[i], tolerance);
        moved += fabs(narrow);
        allowed += tolerance;
    }
    if (!(allowed < moved / 2))
        fail_msg("moving %s: outputs move by %g in sum, with a tolerance of %g", of, moved,
                 allowed);
    for (int i = 0; i < 2; i++) {
        free(plus[i]);
        free(minus[i]);
    }
}

/* The outputs are those of a plan that keeps nothing. */
static inline void check_outputs(struct trial *trial, struct net_derivative *derivative,
                                 size_t tile)
{
    float *expected = shifted_outputs(trial, trial->direction, 0);
    const float *found = net_derivative_output(derivative)->data;
    size_t count = tile * trial->wide;
    expect_close("an output", found, expected, count, largest(expected, count));
    free(expected);
}

/* In a direction of all wanted parameters, and of each alone. */
static inline void check_tangents(struct trial *trial, struct net_derivative *derivative,
                                  size_t first, size_t count)
{
    float **direction = calloc(trial->parameters + 1, sizeof *direction);
    float **zero = new_arrays(trial, 0, 0);
    assert_non_null(direction);
    for (size_t alone = 0; alone <= trial->parameters; alone++) {
        bool all = alone == trial->parameters;
        if (!all && !trial->wanted[alone])
            continue;
        for (size_t p = 0; p < trial->parameters; p++)
            direction[p] = !trial->wanted[p]   ? NULL
                           : all || p == alone ? trial->direction[p]
                                               : zero[p];
        const float *tangent = net_derivative_tangent(derivative, (const float *const *)direction);
        assert_non_null(tangent);
        size_t tensor = all ? 0 : trial->model->network->parameters[alone];
        check_differences(trial, all ? "everything" : trial->model->tensors[tensor].name, direction,
                          tangent, first, count);
    }
    free_arrays(trial, zero);
    free(direction);
}

/* Gradients. */

/* <w, J u> = <Jᵀ w, u>: each side is a sum, right to rounding of its terms' sizes. */
static inline void check_identity(struct trial *trial, struct net_derivative *derivative,
                                  size_t tile)
{
    float **gradients = new_arrays(trial, 0, 0);
    float *weights = model_allocate(tile * trial->wide * sizeof *weights);
    double left = 0, right = 0, scale = 0;
    for (size_t i = 0; i < tile * trial->wide; i++)
        weights[i] = model_random(trial->model, -1, 1);
    net_derivative_backward(derivative, weights, gradients);
    const float *tangent = net_derivative_tangent(derivative,
                                                  (const float *const *)trial->direction);
    for (size_t i = 0; i < tile * trial->wide; i++) {
        left += (double)weights[i] * (double)tangent[i];
        scale += fabs((double)weights[i] * (double)tangent[i]);
    }
    for (size_t p = 0; p < trial->parameters; p++)
        for (size_t i = 0; i < trial->sizes[p]; i++) {
            right += (double)gradients[p][i] * (double)trial->direction[p][i];
            scale += fabs((double)gradients[p][i] * (double)trial->direction[p][i]);
            if (!trial->wanted[p])
                assert_true(gradients[p][i] == 0);
        }
    if (!(fabs(left - right) <= ROUNDING * scale))
        fail_msg("<w, Ju> = %.9g, <J'w, u> = %.9g, scale %g", left, right, scale);
    /* Gradients are added, and those of null arrays passed over. */
    float **again = calloc(trial->parameters + 1, sizeof *again);
    assert_non_null(again);
    for (size_t p = 1; p < trial->parameters; p++) {
        again[p] = model_allocate(trial->sizes[p] * sizeof **again);
        memcpy(again[p], gradients[p], trial->sizes[p] * sizeof **again);
    }
    net_derivative_backward(derivative, weights, again);
    for (size_t p = 1; p < trial->parameters; p++) {
        for (size_t i = 0; i < trial->sizes[p]; i++)
            again[p][i] -= gradients[p][i];
        expect_close("a gradient that was added", again[p], gradients[p], trial->sizes[p],
                     largest(gradients[p], trial->sizes[p]));
    }
    free_arrays(trial, again);
    free_arrays(trial, gradients);
    free(weights);
}

/* What one example alone says, from sums over a tile in which the others have no adjoint. */
struct alone {
    double quadratic;
    float *moved; /* J Σ g */
};

static inline struct alone take_alone(struct trial *trial, struct net_derivative *derivative,
                                      size_t tile, size_t example, const float *adjoints)
{
    struct alone alone = {.moved = model_allocate(trial->wide * sizeof(float))};
    float **gradients = new_arrays(trial, 0, 0);
    size_t wide = trial->wide;
    float *single = model_allocate(tile * wide * sizeof *single);
    memset(single, 0, tile * wide * sizeof *single);
    memcpy(single + example * wide, adjoints + example * wide, wide * sizeof *single);
    net_derivative_backward(derivative, single, gradients);
    for (size_t p = 0; p < trial->parameters; p++)
        for (size_t i = 0; i < trial->sizes[p] && trial->wanted[p]; i++) {
            double g = (double)gradients[p][i], diagonal = (double)trial->diagonal[p][i];
            alone.quadratic += g * g * diagonal;
            gradients[p][i] = (float)(g * diagonal);
        }
    const float *tangent = net_derivative_tangent(derivative, (const float *const *)gradients);
    memcpy(alone.moved, tangent + example * wide, wide * sizeof *tangent);
    free_arrays(trial, gradients);
    free(single);
    return alone;
}

/* Each of `count` examples of a tile by itself, at once, against one after the other; returns what
   each moves. */
static inline float *check_examples(struct trial *trial, struct net_derivative *derivative,
                                    size_t tile, size_t count, const float *adjoints,
                                    double *quadratic)
{
    size_t wide = trial->wide;
    const struct net_metric metric = {.diagonal = (const float *const *)trial->diagonal};
    float *moved = model_allocate(count * wide * sizeof *moved);
    double q[TILE] = {NAN, NAN, NAN, NAN, NAN}, by_tangent = 0;
    net_derivative_backward(derivative, adjoints, NULL);
    memcpy(moved, net_derivative_own_tangent(derivative, &metric, count),
           count * wide * sizeof *moved);
    net_derivative_quadratic(derivative, &metric, count, q);
    /* Once more, in the other order: nothing may be left of the first. */
    const float *again = net_derivative_own_tangent(derivative, &metric, count);
    assert_memory_equal(again, moved, count * wide * sizeof *moved);
    for (size_t e = 0; e < count; e++) {
        struct alone alone = take_alone(trial, derivative, tile, e, adjoints);
        expect_close("an example's own tangent", moved + e * wide, alone.moved, wide,
                     largest(alone.moved, wide));
        if (!(fabs(q[e] - alone.quadratic) <= ROUNDING * alone.quadratic))
            fail_msg("example %zu: quadratic %.9g, expected %.9g", e, q[e], alone.quadratic);
        by_tangent = 0; /* eᵀ J Σ Jᵀ e */
        double scale = 0;
        for (size_t i = e * wide; i < (e + 1) * wide; i++) {
            by_tangent += (double)adjoints[i] * (double)moved[i];
            scale += fabs((double)adjoints[i] * (double)moved[i]);
        }
        if (!(fabs(by_tangent - q[e]) <= ROUNDING * scale))
            fail_msg("example %zu: quadratic %.9g, by its tangent %.9g", e, q[e], by_tangent);
        assert_true(alone.quadratic > 0);
        free(alone.moved);
        quadratic[e] = q[e];
    }
    for (size_t e = count; e < TILE; e++)
        assert_true(isnan(q[e]));
    return moved;
}

/* A whole tile, part of a tile, and one example at a time: the same numbers to rounding. */
static inline void check_tiles(struct trial *trial, struct net_derivative *derivative, size_t tile)
{
    size_t wide = trial->wide, one = 1, count = tile == TILE ? PRESENT : 1;
    struct net_derivative *unit = make(trial, &one);
    double q[TILE], part_q[TILE], unit_q;
    float *adjoints = model_allocate(TILE * wide * sizeof *adjoints);
    for (size_t i = 0; i < TILE * wide; i++)
        adjoints[i] = model_random(trial->model, -1, 1);
    float *moved = check_examples(trial, derivative, tile, tile, adjoints, q);
    for (size_t i = count * wide; i < tile * wide; i++)
        adjoints[i] = 1e6F; /* examples that are not there */
    float *part = check_examples(trial, derivative, tile, count, adjoints, part_q);
    assert_memory_equal(part, moved, count * wide * sizeof *part);
    assert_memory_equal(part_q, q, count * sizeof *q);
    for (size_t e = 0; e < count; e++) {
        run(trial, unit, e);
        float *single = check_examples(trial, unit, 1, 1, adjoints + e * wide, &unit_q);
        expect_close("a tile of one", single, moved + e * wide, wide, largest(single, wide));
        if (!(fabs(unit_q - q[e]) <= ROUNDING * q[e]))
            fail_msg("example %zu: quadratic %.9g, in a tile %.9g", e, unit_q, q[e]);
        check_tangents(trial, unit, e, 1);
        free(single);
    }
    net_derivative_free(unit);
    free(adjoints);
    free(moved);
    free(part);
}

/* Everything, for tiles that are to have `expected` examples; twice, with other examples. */
static inline void check_wanted(struct model *model, size_t expected, const char *const *unwanted)
{
    struct trial trial;
    size_t tile = TILE;
    trial_begin(&trial, model);
    for (; unwanted && *unwanted; unwanted++)
        trial.wanted[model_number_of(model, *unwanted)] = false;
    struct net_derivative *derivative = make(&trial, &tile);
    assert_int_equal(tile, expected);
    for (int round = 0; round < 2; round++) {
        fill_inputs(&trial);
        run(&trial, derivative, 0);
        check_outputs(&trial, derivative, tile);
        check_tangents(&trial, derivative, 0, tile);
        check_identity(&trial, derivative, tile);
        check_tiles(&trial, derivative, tile);
    }
    net_derivative_free(derivative);
    trial_end(&trial);
}

static inline void check(struct model *model, const char *output, size_t expected)
{
    model_output(model, output);
    model_bind(model);
    check_wanted(model, expected, NULL);
    model_end(model);
}

/* Two layers, with the biases and the factors that Gemm knows. */
static inline void add_perceptron(struct model *m)
{
    model_begin(m);
    model_input(m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(m, "w1", SHAPE(8, 6), -1, 1);
    model_parameter(m, "b1", SHAPE(8), -1, 1);
    model_parameter(m, "w2", SHAPE(8, 4), -1, 1);
    model_parameter(m, "b2", SHAPE(1, 4), -1, 1);
    model_int(m, "transB", 1);
    model_node(m, "Gemm", "h", "x", "w1", "b1");
    model_node(m, "Tanh", "a", "h");
    model_number(m, "alpha", 0.5);
    model_number(m, "beta", 2);
    model_node(m, "Gemm", "y", "a", "w2", "b2");
}

#endif
