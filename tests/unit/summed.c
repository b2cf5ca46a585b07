/* Derivatives for sums over a batch alone, beside those of single examples. */
#include "graph_builder.h"

#include <math.h>

#include "net/derivative/derivative.h"

/* Where examples are independent: the sums are those of net_derivative_new, by the same calls. */
static void independent(void **unused)
{
    (void)unused;
    static const int64_t x[] = {-1, 6}, first[] = {5, 6}, second[] = {3, 5};
    state = 7;
    struct ivon_network *network = begin(2, x);
    give(network, "a", true, 0, 2, first);
    give(network, "b", true, 0, 1, first);
    give(network, "c", true, 0, 2, second);
    give(network, "d", true, 0, 1, second);
    node(network, "Gemm", "x a b h", integer("transB", 1));
    node(network, "Tanh", "h t", NULL);
    node(network, "Gemm", "t c d y", integer("transB", 1));
    finish(network);

    struct parameters parameters[2] = {0};
    struct net_derivative *derivatives[2] = {NULL};
    struct net_tensor input = shape_of(2, 8, x + 1), unit = shape_of(2, 1, x + 1);
    size_t tile = 8;
    float data[8 * 6], weight[8 * 3];
    const void *inputs[] = {data};
    for (size_t i = 0; i < 8 * 6; i++)
        data[i] = (float)uniform();
    for (size_t i = 0; i < 8 * 3; i++)
        weight[i] = (float)uniform();
    parameters_begin(&parameters[0], network);
    parameters_begin(&parameters[1], network);
    const bool *wanted = parameters[0].wanted;
    assert_int_equal(
        net_derivative_new(&derivatives[0], network, &input, &unit, &tile, wanted, NULL, 0, NULL),
        0);
    assert_int_equal(
        net_derivative_new_summed(&derivatives[1], network, NULL, &input, wanted, 0, NULL), 0);
    assert_int_equal(tile, 8);
    const float *tangents[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(net_derivative_set_parameters(
                             derivatives[i], (const float *const *)parameters[i].arrays, NULL),
                         0);
        assert_int_equal(net_derivative_run(derivatives[i], inputs, NULL), 0);
        net_derivative_backward(derivatives[i], weight, parameters[i].gradients);
        tangents[i] = net_derivative_tangent(derivatives[i],
                                             (const float *const *)parameters[0].arrays);
    }
    for (size_t p = 0; p < 4; p++)
        assert_memory_equal(parameters[0].gradients[p], parameters[1].gradients[p],
                            parameters[0].sizes[p] * sizeof(float));
    assert_memory_equal(tangents[0], tangents[1], sizeof weight);
    assert_true(net_derivative_memory(derivatives[1]) < net_derivative_memory(derivatives[0]));

    double q[8];
    const struct net_metric metric = {.diagonal = (const float *const *)parameters[0].arrays};
    assert_null(net_derivative_own_tangent(derivatives[1], &metric, 8));
    net_derivative_quadratic(derivatives[1], &metric, 8, q);
    for (size_t e = 0; e < 8; e++)
        assert_true(isnan(q[e]));
    for (size_t i = 0; i < 2; i++) {
        net_derivative_free(derivatives[i]);
        parameters_end(&parameters[i]);
    }
    struct ivon_error error;
    assert_int_equal(
        net_derivative_new_summed(&derivatives[0], network, NULL, &input, wanted, 8, &error),
        IVON_ERROR_MEMORY);
    ivon_network_free(network);
}

/* A batch along the second axis: net_derivative_new falls back to single examples, and their sum
   is this one's, to the roundings of 8 terms of size 1. A parameter that two nodes use, as well. */
static void second_axis(void **unused)
{
    (void)unused;
    static const int64_t x[] = {-1, 3}, square[] = {3, 3};
    state = 11;
    struct ivon_network *network = begin(2, x);
    give(network, "a", true, 0, 2, square);
    node(network, "Transpose", "x z", NULL);
    node(network, "Tanh", "z t", NULL);
    node(network, "MatMul", "a t u", NULL);
    node(network, "MatMul", "a u v", NULL);
    node(network, "Transpose", "v y", NULL);
    finish(network);

    struct parameters whole = {0}, single = {0};
    struct net_tensor input = shape_of(2, 8, x + 1), unit = shape_of(2, 1, x + 1);
    struct net_derivative *derivative = NULL;
    float data[8 * 3], weight[8 * 3];
    const void *inputs[] = {data};
    size_t tile = 8;
    for (size_t i = 0; i < 8 * 3; i++) {
        data[i] = (float)uniform();
        weight[i] = (float)uniform();
    }
    parameters_begin(&whole, network);
    parameters_begin(&single, network);
    const float *const *arrays = (const float *const *)whole.arrays;
    assert_int_equal(
        net_derivative_new_summed(&derivative, network, NULL, &input, whole.wanted, 0, NULL), 0);
    assert_int_equal(net_derivative_set_parameters(derivative, arrays, NULL), 0);
    assert_int_equal(net_derivative_run(derivative, inputs, NULL), 0);
    net_derivative_backward(derivative, weight, whole.gradients);
    net_derivative_free(derivative);
    assert_int_equal(
        net_derivative_new(&derivative, network, &input, &unit, &tile, whole.wanted, NULL, 0, NULL),
        0);
    assert_int_equal(tile, 1);
    assert_int_equal(net_derivative_set_parameters(derivative, arrays, NULL), 0);
    for (size_t e = 0; e < 8; e++) {
        inputs[0] = data + 3 * e;
        assert_int_equal(net_derivative_run(derivative, inputs, NULL), 0);
        net_derivative_backward(derivative, weight + 3 * e, single.gradients);
    }
    for (size_t i = 0; i < 9; i++)
        assert_true(fabs((double)(whole.gradients[0][i] - single.gradients[0][i])) <=
                    16 * 8 * 0x1p-24);
    net_derivative_free(derivative);
    parameters_end(&whole);
    parameters_end(&single);
    ivon_network_free(network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(independent),
        cmocka_unit_test(second_axis),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
