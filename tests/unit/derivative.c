/*
 * Derivatives with respect to parameters, of small networks of every kind: against differences of
 * the network, against each other, and one example at a time.
 *
 * Rounding: a number that passes through a network of this size is a sum of at most a few hundred
 * terms, nested a few deep; its rounding errors, of 2^-24 each, do not all point one way, and stay
 * below ROUNDING of the largest of the numbers that are compared.
 */
#include "model.h"
#include "net/derivative.h"

enum { TILE = 5, PRESENT = 3, INPUTS = 2, VOCABULARY = 7 };

static const double ROUNDING = 64 * 0x1p-24;

/* A network with arrays for each of its parameters, and examples. */
struct trial {
    struct model *model;
    size_t parameters;
    bool wanted[MODEL_TENSORS];
    size_t sizes[MODEL_TENSORS];
    float **values, **direction, **variance;
    struct net_tensor shapes[INPUTS], unit_shapes[INPUTS];
    char *inputs[INPUTS]; /* of TILE examples */
    size_t input_sizes[INPUTS]; /* bytes of one example */
    size_t wide; /* outputs of one example */
    double step; /* of differences */
};

static float **new_arrays(struct trial *trial, double low, double high)
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

static void free_arrays(const struct trial *trial, float **arrays)
{
    for (size_t p = 0; p < trial->parameters; p++)
        free(arrays[p]);
    free(arrays);
}

static void fill_inputs(struct trial *trial)
{
    for (size_t i = 0; i < trial->model->network->input_count; i++)
        for (size_t j = 0; j < trial->shapes[i].count; j++)
            if (trial->shapes[i].type == NET_FLOAT)
                ((float *)trial->inputs[i])[j] = model_random(trial->model, -1, 1);
            else
                ((int64_t *)trial->inputs[i])[j] =
                    (int64_t)model_random(trial->model, 0, VOCABULARY);
}

static void trial_begin(struct trial *trial, struct model *model)
{
    const struct ivon_network *network = model->network;
    *trial = (struct trial){.model = model, .parameters = network->parameter_count};
    trial->step = 0x1p-6;
    for (size_t i = 0; i < network->node_count; i++)
        if (strcmp(network->nodes[i].operator->name, "Max") == 0) /* no kink within the step */
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
    trial->variance = new_arrays(trial, 0.1, 1);
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

static void trial_end(struct trial *trial)
{
    free_arrays(trial, trial->values);
    free_arrays(trial, trial->direction);
    free_arrays(trial, trial->variance);
    for (size_t i = 0; i < INPUTS; i++)
        free(trial->inputs[i]);
}

/* For `tile` examples, or as many as it falls back to. */
static struct net_derivative *make(struct trial *trial, size_t *tile)
{
    struct net_derivative *derivative = NULL;
    struct ivon_error error = {0};
    int code = net_derivative_new(&derivative, trial->model->network,
                                  *tile == TILE ? trial->shapes : trial->unit_shapes,
                                  trial->unit_shapes, tile, trial->wanted, 0, &error);
    if (!code)
        code = net_derivative_set_parameters(derivative, (const float *const *)trial->values,
                                             &error);
    if (code)
        fail_msg("%s", error.message);
    trial->wide = net_derivative_output(derivative)->count / *tile;
    return derivative;
}

/* Runs the examples from `first` on. */
static void run(const struct trial *trial, struct net_derivative *derivative, size_t first)
{
    struct ivon_error error = {0};
    const void *inputs[INPUTS] = {NULL};
    for (size_t i = 0; i < trial->model->network->input_count; i++)
        inputs[i] = trial->inputs[i] + first * trial->input_sizes[i];
    if (net_derivative_run(derivative, inputs, &error))
        fail_msg("%s", error.message);
}

static double largest(const float *a, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)a[i]));
    return most;
}

static void expect_close(const char *what, const float *found, const float *expected, size_t count,
                         double scale)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)found[i] - (double)expected[i]) <= ROUNDING * scale))
            fail_msg("%s: element %zu is %.9g, expected %.9g, to %.2g", what, i, (double)found[i],
                     (double)expected[i], ROUNDING * scale);
}

/* Differences. */

/* The outputs of the whole tile with parameters θ + step u, by a plan of its own. */
static float *shifted_outputs(struct trial *trial, float *const *direction, double step)
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
 * two where the third derivative is steady, or where a kink lies between the steps; and the rounding
 * of the two outputs, over the step. A direction that hardly moves the outputs would check nothing:
 * it must move them by more than twice that.
 */
static void check_differences(struct trial *trial, const char *of, float *const *direction,
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
        fail_msg("moving %s: outputs move by %g in sum, with a tolerance of %g", of, moved, allowed);
    for (int i = 0; i < 2; i++) {
        free(plus[i]);
        free(minus[i]);
    }
}

/* The outputs are those of a plan that keeps nothing. */
static void check_outputs(struct trial *trial, struct net_derivative *derivative, size_t tile)
{
    float *expected = shifted_outputs(trial, trial->direction, 0);
    const float *found = net_derivative_output(derivative)->data;
    size_t count = tile * trial->wide;
    expect_close("an output", found, expected, count, largest(expected, count));
    free(expected);
}

/* In a direction of all wanted parameters, and of each alone. */
static void check_tangents(struct trial *trial, struct net_derivative *derivative, size_t first,
                           size_t count)
{
    float **direction = calloc(trial->parameters + 1, sizeof *direction);
    float **zero = new_arrays(trial, 0, 0);
    assert_non_null(direction);
    for (size_t alone = 0; alone <= trial->parameters; alone++) {
        bool all = alone == trial->parameters;
        if (!all && !trial->wanted[alone])
            continue;
        for (size_t p = 0; p < trial->parameters; p++)
            direction[p] = !trial->wanted[p]    ? NULL
                           : all || p == alone ? trial->direction[p]
                                               : zero[p];
        const float *tangent =
            net_derivative_tangent(derivative, (const float *const *)direction);
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
static void check_identity(struct trial *trial, struct net_derivative *derivative, size_t tile)
{
    float **gradients = new_arrays(trial, 0, 0);
    float *weights = model_allocate(tile * trial->wide * sizeof *weights);
    double left = 0, right = 0, scale = 0;
    for (size_t i = 0; i < tile * trial->wide; i++)
        weights[i] = model_random(trial->model, -1, 1);
    net_derivative_backward(derivative, weights, gradients);
    const float *tangent =
        net_derivative_tangent(derivative, (const float *const *)trial->direction);
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

static struct alone take_alone(struct trial *trial, struct net_derivative *derivative, size_t tile,
                               size_t example, const float *adjoints)
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
            double g = (double)gradients[p][i], variance = (double)trial->variance[p][i];
            alone.quadratic += g * g * variance;
            gradients[p][i] = (float)(g * variance);
        }
    const float *tangent = net_derivative_tangent(derivative, (const float *const *)gradients);
    memcpy(alone.moved, tangent + example * wide, wide * sizeof *tangent);
    free_arrays(trial, gradients);
    free(single);
    return alone;
}

/* Each of `count` examples of a tile by itself, at once, against one after the other; returns what
   each moves. */
static float *check_examples(struct trial *trial, struct net_derivative *derivative, size_t tile,
                             size_t count, const float *adjoints, double *quadratic)
{
    size_t wide = trial->wide;
    const float *const *variance = (const float *const *)trial->variance;
    float *moved = model_allocate(count * wide * sizeof *moved);
    double q[TILE] = {NAN, NAN, NAN, NAN, NAN}, by_tangent = 0;
    net_derivative_backward(derivative, adjoints, NULL);
    memcpy(moved, net_derivative_own_tangent(derivative, variance, count),
           count * wide * sizeof *moved);
    net_derivative_quadratic(derivative, variance, count, q);
    /* Once more, in the other order: nothing may be left of the first. */
    const float *again = net_derivative_own_tangent(derivative, variance, count);
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
static void check_tiles(struct trial *trial, struct net_derivative *derivative, size_t tile)
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
static void check_wanted(struct model *model, size_t expected, const char *const *unwanted)
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

static void check(struct model *model, const char *output, size_t expected)
{
    model_output(model, output);
    model_bind(model);
    check_wanted(model, expected, NULL);
    model_end(model);
}

#define SHAPE(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                   (const int64_t[]){__VA_ARGS__}
#define LIST(...) sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__}

/* The networks. */

static void add_perceptron(struct model *m)
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

static void perceptron(void **state)
{
    (void)state;
    struct model m;
    add_perceptron(&m);
    check(&m, "y", TILE);
}

/* Biases that two nodes share, or that are one number for all outputs: gradients of another rank. */
static void unusual_biases(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w1", SHAPE(6, 4), -1, 1);
    model_parameter(&m, "w2", SHAPE(4, 4), -1, 1);
    model_parameter(&m, "w3", SHAPE(4, 3), -1, 1);
    model_parameter(&m, "b", SHAPE(4), -1, 1);
    model_parameter(&m, "scalar", SHAPE(1), -1, 1);
    model_parameter(&m, "added", SHAPE(1), -1, 1);
    model_node(&m, "Gemm", "h1", "x", "w1", "b");
    model_node(&m, "Tanh", "a1", "h1");
    model_node(&m, "Gemm", "h2", "a1", "w2", "b");
    model_node(&m, "Tanh", "a2", "h2");
    model_number(&m, "beta", 0.5);
    model_node(&m, "Gemm", "h3", "a2", "w3", "scalar");
    model_node(&m, "Add", "h4", "h3", "added");
    model_node(&m, "Tanh", "y", "h4");
    check(&m, "y", TILE);
}

static void frozen_parameters(void **state)
{
    (void)state;
    static const char *const unwanted[][3] = {{"w1", "b2"}, {"b1", "w2"}, {"w1", "w2"}, {"b1", "b2"}};
    for (size_t i = 0; i < sizeof unwanted / sizeof *unwanted; i++) {
        struct model m;
        add_perceptron(&m);
        model_output(&m, "y");
        model_bind(&m);
        check_wanted(&m, TILE, unwanted[i]);
        model_end(&m);
    }
}

static void products_of_rows(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w1", SHAPE(6, 5), -1, 1);
    model_parameter(&m, "b1", SHAPE(5), -1, 1);
    model_parameter(&m, "w2", SHAPE(3, 5), -1, 1);
    model_parameter(&m, "b2", SHAPE(1, 3), -1, 1);
    model_parameter(&m, "scalar", 0, NULL, 0.5, 1);
    model_node(&m, "MatMul", "h", "x", "w1");
    model_node(&m, "Add", "hb", "b1", "h"); /* the bias on the left */
    model_node(&m, "Tanh", "a", "hb");
    model_node(&m, "Mul", "a2", "a", "a");
    model_node(&m, "Add", "a3", "a", "a2");
    model_node(&m, "Transpose", "w2t", "w2");
    model_node(&m, "MatMul", "y", "a3", "w2t"); /* a plan joins the two */
    model_node(&m, "Add", "z", "y", "b2");
    model_node(&m, "Mul", "scaled", "z", "scalar");
    check(&m, "scaled", TILE);
}

static void products_of_tokens(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 4, 6));
    model_parameter(&m, "w1", SHAPE(6, 5), -1, 1);
    model_parameter(&m, "b1", SHAPE(5), -1, 1);
    model_parameter(&m, "w2", SHAPE(5, 3), -1, 1);
    model_parameter(&m, "b2", SHAPE(4, 3), -1, 1); /* as large as an example's output: a row */
    model_node(&m, "MatMul", "h", "x", "w1");
    model_node(&m, "Add", "hb", "h", "b1");
    model_node(&m, "Tanh", "a", "hb");
    model_node(&m, "MatMul", "y", "a", "w2");
    model_node(&m, "Add", "z", "y", "b2");
    check(&m, "z", TILE);
}

/* Sequences of one token: rows of rank 3. */
static void products_of_one_token(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 1, 6));
    model_parameter(&m, "w1", SHAPE(6, 5), -1, 1);
    model_parameter(&m, "b1", SHAPE(5), -1, 1);
    model_parameter(&m, "w2", SHAPE(1, 5, 3), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w1");
    model_node(&m, "Add", "hb", "h", "b1");
    model_node(&m, "Tanh", "a", "hb");
    model_node(&m, "MatMul", "y", "a", "w2");
    check(&m, "y", TILE);
}

static void convolutions(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 2, 7, 7));
    model_parameter(&m, "w1", SHAPE(3, 2, 3, 3), -0.5, 0.5);
    model_parameter(&m, "b1", SHAPE(3), -1, 1);
    model_parameter(&m, "scale", SHAPE(3), 0.5, 1);
    model_parameter(&m, "bias", SHAPE(3), -1, 1);
    model_buffer(&m, "mean", SHAPE(3), -0.5, 0.5);
    model_buffer(&m, "var", SHAPE(3), 0.5, 1);
    model_parameter(&m, "w2", SHAPE(4, 3, 2, 2), -1, 1);
    model_parameter(&m, "w3", SHAPE(3, 4), -2, 2);
    model_ints(&m, "pads", LIST(1, 1, 1, 1));
    model_node(&m, "Conv", "c1", "x", "w1", "b1");
    model_node(&m, "BatchNormalization", "n1", "c1", "scale", "bias", "mean", "var");
    model_node(&m, "Tanh", "a1", "n1");
    model_ints(&m, "kernel_shape", LIST(2, 2));
    model_ints(&m, "strides", LIST(2, 2));
    model_node(&m, "AveragePool", "p1", "a1");
    model_node(&m, "Conv", "c2", "p1", "w2");
    model_node(&m, "Sigmoid", "a2", "c2");
    model_node(&m, "GlobalAveragePool", "p2", "a2");
    model_node(&m, "Flatten", "rows", "p2");
    model_int(&m, "transB", 1);
    model_node(&m, "Gemm", "y", "rows", "w3");
    check(&m, "y", TILE);
}

/* What is largest does not change while the one weight of each channel is positive: no kinks. */
static void max_pooling(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 1, 4, 4));
    model_parameter(&m, "w1", SHAPE(2, 1, 1, 1), 0.5, 1);
    model_parameter(&m, "b1", SHAPE(2), -1, 1);
    model_parameter(&m, "w2", SHAPE(3, 8), -1, 1);
    model_node(&m, "Conv", "c", "x", "w1", "b1");
    model_ints(&m, "kernel_shape", LIST(2, 2));
    model_ints(&m, "strides", LIST(2, 2));
    model_node(&m, "MaxPool", "p", "c");
    model_node(&m, "Flatten", "rows", "p");
    model_int(&m, "transB", 1);
    model_node(&m, "Gemm", "h", "rows", "w2");
    model_node(&m, "Tanh", "y", "h");
    check(&m, "y", TILE);
}

static void grouped_convolutions(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 4, 5, 5));
    model_parameter(&m, "w1", SHAPE(6, 2, 3, 3), -0.5, 0.5);
    model_parameter(&m, "w2", SHAPE(6, 1, 3, 3), -0.5, 0.5);
    model_parameter(&m, "b2", SHAPE(6), -1, 1);
    model_parameter(&m, "scale", SHAPE(6), 0.5, 1);
    model_parameter(&m, "bias", SHAPE(6), -1, 1);
    model_parameter(&m, "w3", SHAPE(54, 3), -0.5, 0.5);
    model_int(&m, "group", 2);
    model_ints(&m, "strides", LIST(1, 1));
    model_node(&m, "Conv", "c1", "x", "w1");
    model_node(&m, "InstanceNormalization", "n1", "c1", "scale", "bias");
    model_node(&m, "Tanh", "a1", "n1");
    model_int(&m, "group", 6);
    model_ints(&m, "pads", LIST(1, 1, 1, 1));
    model_node(&m, "Conv", "c2", "a1", "w2", "b2");
    model_node(&m, "Flatten", "rows", "c2");
    model_node(&m, "MatMul", "y", "rows", "w3");
    check(&m, "y", TILE);
}

static void tied_embedding(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "ids", NET_INTEGER, SHAPE(-1, 4));
    model_parameter(&m, "table", SHAPE(VOCABULARY, 5), -1, 1);
    model_parameter(&m, "w", SHAPE(5, 5), -1, 1);
    model_node(&m, "Gather", "e", "table", "ids");
    model_node(&m, "MatMul", "h", "e", "w");
    model_node(&m, "Tanh", "a", "h");
    model_node(&m, "Transpose", "turned", "table");
    model_node(&m, "MatMul", "y", "a", "turned");
    check(&m, "y", TILE);
}

static void layer_normalization(void **state)
{
    (void)state;
    struct model m;
    const float two = 2, epsilon = 1e-3F;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 6));
    model_constant(&m, "two", NET_FLOAT, 0, NULL, &two);
    model_constant(&m, "epsilon", NET_FLOAT, 0, NULL, &epsilon);
    model_parameter(&m, "w1", SHAPE(6, 6), -1, 1);
    model_parameter(&m, "scale1", SHAPE(6), 0.5, 1);
    model_parameter(&m, "bias1", SHAPE(6), -1, 1);
    model_parameter(&m, "scale2", SHAPE(6), 0.5, 1);
    model_parameter(&m, "bias2", SHAPE(6), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w1");
    model_ints(&m, "axes", LIST(-1));
    model_node(&m, "ReduceMean", "mean", "h");
    model_node(&m, "Sub", "centred", "h", "mean");
    model_node(&m, "Pow", "squares", "centred", "two");
    model_ints(&m, "axes", LIST(-1));
    model_node(&m, "ReduceMean", "var", "squares");
    model_node(&m, "Add", "raised", "var", "epsilon");
    model_node(&m, "Sqrt", "deviation", "raised");
    model_node(&m, "Div", "normal", "centred", "deviation");
    model_node(&m, "Mul", "scaled", "normal", "scale1");
    model_node(&m, "Add", "n1", "scaled", "bias1");
    model_node(&m, "Tanh", "a", "n1");
    model_node(&m, "LayerNormalization", "n2", "a", "scale2", "bias2");
    check(&m, "n2", TILE);
}

/* Filter response normalization, with what depends on parameters alone. */
static void response_normalization(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 2, 5, 5));
    model_parameter(&m, "w", SHAPE(3, 2, 3, 3), -0.5, 0.5);
    model_parameter(&m, "epsilon", SHAPE(1, 3, 1, 1), -1, -0.5);
    model_parameter(&m, "gamma", SHAPE(1, 3, 1, 1), 0.5, 1);
    model_parameter(&m, "beta", SHAPE(1, 3, 1, 1), -0.5, 0.5);
    model_parameter(&m, "tau", SHAPE(1, 3, 1, 1), -0.5, 0.5);
    model_node(&m, "Conv", "c", "x", "w");
    model_node(&m, "Mul", "squares", "c", "c");
    model_ints(&m, "axes", LIST(2, 3));
    model_node(&m, "ReduceMean", "power", "squares");
    model_node(&m, "Abs", "positive", "epsilon");
    model_node(&m, "Add", "raised", "power", "positive");
    model_node(&m, "Sqrt", "root", "raised");
    model_node(&m, "Reciprocal", "inverse", "root");
    model_node(&m, "Mul", "normal", "c", "inverse");
    model_node(&m, "Mul", "scaled", "gamma", "normal");
    model_node(&m, "Add", "moved", "scaled", "beta");
    model_node(&m, "Max", "bounded", "moved", "tau");
    model_node(&m, "GlobalAveragePool", "pooled", "bounded");
    model_node(&m, "Flatten", "y", "pooled");
    check(&m, "y", TILE);
}

/* A value of the parameters alone that has a batch axis: a class token, before the others. */
static void class_token(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 4));
    model_parameter(&m, "token", SHAPE(1, 1, 4), -1, 1);
    model_parameter(&m, "position", SHAPE(1, 4, 4), -1, 1);
    model_parameter(&m, "w", SHAPE(4, 4), -1, 1);
    model_parameter(&m, "head", SHAPE(3, 4), -1, 1);
    model_parameter(&m, "bias", SHAPE(3), -1, 1);
    model_integers(&m, "first", LIST(0));
    model_integers(&m, "rest", LIST(1, 4));
    const int64_t zero = 0;
    model_constant(&m, "zero", NET_INTEGER, 0, NULL, &zero);
    model_node(&m, "Shape", "shape", "x");
    model_node(&m, "Gather", "batch", "shape", "first");
    model_int(&m, "axis", 0);
    model_node(&m, "Concat", "wanted", "batch", "rest");
    model_node(&m, "Expand", "tokens", "token", "wanted");
    model_int(&m, "axis", 1);
    model_node(&m, "Concat", "whole", "tokens", "x");
    model_node(&m, "Add", "placed", "whole", "position");
    model_node(&m, "MatMul", "h", "placed", "w");
    model_ints(&m, "perm", LIST(0, 2, 1));
    model_node(&m, "Transpose", "turned", "h");
    model_node(&m, "MatMul", "scores", "h", "turned");
    model_node(&m, "Softmax", "attention", "scores");
    model_node(&m, "MatMul", "mixed", "attention", "h");
    model_int(&m, "axis", 1);
    model_node(&m, "Gather", "class", "mixed", "zero");
    model_int(&m, "transB", 1);
    model_node(&m, "Gemm", "y", "class", "head", "bias");
    check(&m, "y", TILE);
}

/* Further values of the parameters alone that have a batch axis, and are used twice. */
static void expanded_parameter(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 4));
    model_parameter(&m, "p", SHAPE(4), -1, 1);
    model_parameter(&m, "q", SHAPE(4), -1, 1);
    model_node(&m, "Shape", "shape", "x");
    model_node(&m, "Expand", "rows", "p", "shape");
    model_node(&m, "Tanh", "bent", "rows"); /* has a batch axis on both sides */
    model_node(&m, "Mul", "product", "x", "bent");
    model_node(&m, "Mul", "bent2", "bent", "q");
    model_node(&m, "Sub", "y", "product", "bent2");
    check(&m, "y", TILE);
}

/* What has a batch axis goes into a value without one, which the examples then share. */
static void expanded_and_averaged(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 4));
    model_parameter(&m, "p", SHAPE(4), -1, 1);
    model_node(&m, "Shape", "shape", "x");
    model_node(&m, "Expand", "rows", "p", "shape");
    model_ints(&m, "axes", LIST(0));
    model_int(&m, "keepdims", 0);
    model_node(&m, "ReduceMean", "mean", "rows");
    model_node(&m, "Mul", "y", "x", "mean");
    check(&m, "y", 1);
}

static void reshaped_parameters(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w", SHAPE(3, 2, 4), -1, 1);
    model_parameter(&m, "b", SHAPE(2, 2), -1, 1);
    model_parameter(&m, "turned", SHAPE(4, 2, 2), -1, 1);
    model_integers(&m, "matrix", LIST(6, 4));
    model_integers(&m, "square", LIST(4, 4));
    model_integers(&m, "vector", LIST(4));
    model_node(&m, "Reshape", "w2", "w", "matrix");
    model_node(&m, "Reshape", "b2", "b", "vector");
    model_node(&m, "MatMul", "h", "x", "w2");
    model_node(&m, "Add", "hb", "h", "b2");
    model_node(&m, "Tanh", "a", "hb");
    model_ints(&m, "perm", LIST(2, 0, 1));
    model_node(&m, "Transpose", "moved", "turned");
    model_node(&m, "Reshape", "w3", "moved", "square");
    model_node(&m, "MatMul", "y", "a", "w3");
    check(&m, "y", TILE);
}

static void parameters_of_several_nodes(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 5, 5));
    model_parameter(&m, "w", SHAPE(3, 3, 3, 3), -0.5, 0.5);
    model_parameter(&m, "b", SHAPE(3), -1, 1);
    model_parameter(&m, "scale", SHAPE(3, 1, 1), 0.5, 1);
    model_ints(&m, "pads", LIST(1, 1, 1, 1));
    model_node(&m, "Conv", "c1", "x", "w", "b");
    model_node(&m, "Tanh", "a1", "c1");
    model_node(&m, "Conv", "c2", "a1", "w", "b");
    model_node(&m, "Mul", "square", "scale", "scale");
    model_node(&m, "Mul", "scaled", "c2", "square");
    model_node(&m, "Mul", "again", "scaled", "scale");
    model_node(&m, "GlobalAveragePool", "pooled", "again");
    model_node(&m, "Flatten", "y", "pooled");
    check(&m, "y", TILE);
}

/* The batch on the second axis, as recurrent networks and some attention have it. */
static void batch_on_another_axis(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 3, 4));
    model_parameter(&m, "w", SHAPE(4, 4), -1, 1);
    model_parameter(&m, "b", SHAPE(4), -1, 1);
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "time", "x");
    model_node(&m, "MatMul", "h", "time", "w");
    model_node(&m, "Add", "hb", "h", "b");
    model_node(&m, "Tanh", "a", "hb");
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "y", "a");
    check(&m, "y", 1);
}

/* An output that nothing uses, named or left out. */
static void unused_outputs(void **state)
{
    (void)state;
    for (int named = 0; named < 2; named++) {
        struct model m;
        model_begin(&m);
        model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
        model_parameter(&m, "w", SHAPE(6, 8), -1, 1);
        model_parameter(&m, "table", SHAPE(2, 4), -1, 1);
        model_integers(&m, "parts", LIST(1, 1));
        model_node(&m, "MatMul", "h", "x", "w");
        model_int(&m, "axis", 1);
        model_add(&m, "Split", (const char *const[]){"left", named ? "right" : ""}, 2,
                  (const char *const[]){"h"}, 1);
        model_int(&m, "axis", 0); /* of a parameter */
        model_add(&m, "Split", (const char *const[]){named ? "top" : "", "bottom"}, 2,
                  (const char *const[]){"table", "parts"}, 2);
        model_node(&m, "Mul", "product", "left", "bottom");
        model_node(&m, "Tanh", "y", "product");
        check(&m, "y", TILE);
    }
}

/* Another output, which has no derivative, is of no concern, nor is a parameter of its own. */
static void other_outputs(void **state)
{
    (void)state;
    struct model m;
    struct trial trial;
    size_t tile = TILE;
    add_perceptron(&m);
    model_parameter(&m, "other", SHAPE(4), -1, 1);
    model_node(&m, "Add", "moved", "y", "other");
    model_node(&m, "ReduceProd", "product", "moved");
    model_output(&m, "y");
    model_output(&m, "product");
    model_bind(&m);
    trial_begin(&trial, &m);
    struct net_derivative *derivative = make(&trial, &tile);
    assert_int_equal(tile, TILE);
    trial.wanted[model_number_of(&m, "other")] = false; /* it was, and has gradient 0 */
    run(&trial, derivative, 0);
    check_identity(&trial, derivative, tile);
    check_tiles(&trial, derivative, tile);
    net_derivative_free(derivative);
    trial_end(&trial);
    model_end(&m);
}

/* Nothing moves the output: there are no tangents, and no squares. */
static void nothing_wanted(void **state)
{
    (void)state;
    struct model m;
    struct trial trial;
    size_t tile = TILE;
    float adjoints[TILE * 4] = {1};
    double q[TILE];
    add_perceptron(&m);
    model_output(&m, "y");
    model_bind(&m);
    trial_begin(&trial, &m);
    memset(trial.wanted, 0, sizeof trial.wanted);
    struct net_derivative *derivative = make(&trial, &tile);
    float **gradients = new_arrays(&trial, 0, 0);
    run(&trial, derivative, 0);
    net_derivative_backward(derivative, adjoints, gradients);
    assert_null(net_derivative_tangent(derivative, (const float *const *)trial.direction));
    assert_null(net_derivative_own_tangent(derivative, (const float *const *)trial.variance, TILE));
    net_derivative_quadratic(derivative, (const float *const *)trial.variance, TILE, q);
    for (size_t e = 0; e < TILE; e++)
        assert_true(q[e] == 0);
    for (size_t p = 0; p < trial.parameters; p++)
        assert_true(largest(gradients[p], trial.sizes[p]) == 0);
    free_arrays(&trial, gradients);
    net_derivative_free(derivative);
    trial_end(&trial);
    model_end(&m);
}

/* Refusals. */

static void no_derivative(void **state)
{
    (void)state;
    struct model m;
    struct trial trial;
    size_t tile = TILE;
    struct net_derivative *derivative = NULL;
    struct ivon_error error = {0};
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w", SHAPE(6, 4), -1, 1);
    model_node(&m, "MatMul", "h", "x", "w");
    model_ints(&m, "axes", LIST(1));
    model_node(&m, "ReduceProd", "y", "h");
    model_output(&m, "y");
    model_bind(&m);
    trial_begin(&trial, &m);
    assert_int_equal(net_derivative_new(&derivative, m.network, trial.shapes, trial.unit_shapes,
                                        &tile, trial.wanted, 0, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "node 'y' (ReduceProd): this operator has no derivative");
    trial.wanted[0] = false; /* then nothing needs one */
    assert_int_equal(net_derivative_new(&derivative, m.network, trial.shapes, trial.unit_shapes,
                                        &tile, trial.wanted, 0, &error),
                     0);
    net_derivative_free(derivative);
    trial_end(&trial);
    model_end(&m);
}

static void output_of_parameters_alone(void **state)
{
    (void)state;
    struct model m;
    struct trial trial;
    size_t tile = TILE;
    struct net_derivative *derivative = NULL;
    struct ivon_error error = {0};
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
    model_parameter(&m, "w", SHAPE(6, 4), -1, 1);
    model_node(&m, "Tanh", "y", "w");
    model_output(&m, "y");
    model_bind(&m);
    trial_begin(&trial, &m);
    assert_int_equal(net_derivative_new(&derivative, m.network, trial.shapes, trial.unit_shapes,
                                        &tile, trial.wanted, 0, &error),
                     IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "output 'y' does not depend on the examples"));
    trial_end(&trial);
    model_end(&m);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    struct model m;
    struct trial trial;
    size_t tile = TILE;
    struct net_derivative *bounded = NULL;
    struct ivon_error error = {0};
    add_perceptron(&m);
    model_output(&m, "y");
    model_bind(&m);
    trial_begin(&trial, &m);
    struct net_derivative *derivative = make(&trial, &tile);
    size_t needed = net_derivative_memory(derivative);
    net_derivative_free(derivative);
    /* At least the values of 5 examples (8 + 8 + 4), their adjoints and their tangents. */
    assert_true(needed >= 3 * TILE * 20 * sizeof(float));
    for (size_t memory = 1; memory < needed; memory += memory / 2 + 1)
        assert_int_equal(net_derivative_new(&bounded, m.network, trial.shapes, trial.unit_shapes,
                                            &tile, trial.wanted, memory, &error),
                         IVON_ERROR_MEMORY);
    assert_int_equal(net_derivative_new(&bounded, m.network, trial.shapes, trial.unit_shapes,
                                        &tile, trial.wanted, needed - 1, &error),
                     IVON_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "the derivatives of 5 examples take"));
    assert_int_equal(net_derivative_new(&bounded, m.network, trial.shapes, trial.unit_shapes,
                                        &tile, trial.wanted, needed, &error),
                     0);
    assert_int_equal(net_derivative_memory(bounded), needed);
    net_derivative_free(bounded);
    net_derivative_free(NULL);
    trial_end(&trial);
    model_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perceptron),
        cmocka_unit_test(unusual_biases),
        cmocka_unit_test(frozen_parameters),
        cmocka_unit_test(products_of_rows),
        cmocka_unit_test(products_of_tokens),
        cmocka_unit_test(products_of_one_token),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(max_pooling),
        cmocka_unit_test(grouped_convolutions),
        cmocka_unit_test(tied_embedding),
        cmocka_unit_test(layer_normalization),
        cmocka_unit_test(response_normalization),
        cmocka_unit_test(class_token),
        cmocka_unit_test(expanded_parameter),
        cmocka_unit_test(expanded_and_averaged),
        cmocka_unit_test(reshaped_parameters),
        cmocka_unit_test(parameters_of_several_nodes),
        cmocka_unit_test(batch_on_another_axis),
        cmocka_unit_test(unused_outputs),
        cmocka_unit_test(other_outputs),
        cmocka_unit_test(nothing_wanted),
        cmocka_unit_test(no_derivative),
        cmocka_unit_test(output_of_parameters_alone),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
