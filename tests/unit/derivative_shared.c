/* Derivatives with respect to parameters that several nodes share, or whose values take another
   form before they meet the examples; which outputs and axes count; what is refused. */
#include "derivative_checks.h"

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
    m.network->chosen = true; /* both stay */
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
    const struct net_metric metric = {.diagonal = (const float *const *)trial.diagonal};
    assert_null(net_derivative_own_tangent(derivative, &metric, TILE));
    net_derivative_quadratic(derivative, &metric, TILE, q);
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
                                        &tile, trial.wanted, NULL, 0, &error),
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
                                            &tile, trial.wanted, NULL, memory, &error),
                         IVON_ERROR_MEMORY);
    assert_int_equal(net_derivative_new(&bounded, m.network, trial.shapes, trial.unit_shapes, &tile,
                                        trial.wanted, NULL, needed - 1, &error),
                     IVON_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "the derivatives of 5 examples take"));
    assert_int_equal(net_derivative_new(&bounded, m.network, trial.shapes, trial.unit_shapes, &tile,
                                        trial.wanted, NULL, needed, &error),
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
        cmocka_unit_test(tied_embedding),
        cmocka_unit_test(class_token),
        cmocka_unit_test(expanded_parameter),
        cmocka_unit_test(expanded_and_averaged),
        cmocka_unit_test(reshaped_parameters),
        cmocka_unit_test(parameters_of_several_nodes),
        cmocka_unit_test(batch_on_another_axis),
        cmocka_unit_test(unused_outputs),
        cmocka_unit_test(other_outputs),
        cmocka_unit_test(nothing_wanted),
        cmocka_unit_test(output_of_parameters_alone),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
