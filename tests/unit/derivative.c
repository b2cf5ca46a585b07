/* Derivatives with respect to parameters, of layers that networks are made of. */
#include "derivative_checks.h"

static void perceptron(void **state)
{
    (void)state;
    struct model m;
    add_perceptron(&m);
    check(&m, "y", TILE);
}

/* Biases that two nodes share, or that are one number for all outputs: other gradients. */
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
    static const char *const unwanted[][3] = {
        {"w1", "b2"}, {"b1", "w2"}, {"w1", "w2"}, {"b1", "b2"}};
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

/* Kernels that meet the whole input at once: products of rows. */
static void dense_convolutions(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, 2, 3, 4));
    model_parameter(&m, "w1", SHAPE(5, 2, 3, 4), -0.5, 0.5);
    model_parameter(&m, "b1", SHAPE(5), -1, 1);
    model_parameter(&m, "w2", SHAPE(4, 5, 1, 1), -1, 1);
    model_node(&m, "Conv", "c1", "x", "w1", "b1");
    model_node(&m, "Tanh", "a1", "c1");
    model_node(&m, "Conv", "c2", "a1", "w2");
    model_node(&m, "Flatten", "y", "c2");
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

/* All outputs of a normalization, and a further one alone. */
static void moments(void **state)
{
    (void)state;
    for (int both = 0; both < 2; both++) {
        struct model m;
        model_begin(&m);
        model_input(&m, "x", NET_FLOAT, SHAPE(-1, 6));
        model_parameter(&m, "w", SHAPE(6, 5), -1, 1);
        model_parameter(&m, "v", SHAPE(1, 5), -1, 1);
        if (both)
            model_parameter(&m, "scale", SHAPE(5), 0.5, 1);
        else
            model_buffer(&m, "scale", SHAPE(5), 0.5, 1);
        model_node(&m, "MatMul", "h", "x", "w");
        model_add(&m, "LayerNormalization", (const char *const[]){"n", "mean", "inverse"}, 3,
                  (const char *const[]){"h", "scale"}, 2);
        model_node(&m, "Mul", "product", "mean", "inverse");
        model_node(&m, "MatMul", "spread", "product", "v");
        model_node(&m, "Add", "sum", "spread", "n");
        check(&m, both ? "sum" : "spread", TILE);
    }
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
        cmocka_unit_test(dense_convolutions),
        cmocka_unit_test(max_pooling),
        cmocka_unit_test(grouped_convolutions),
        cmocka_unit_test(layer_normalization),
        cmocka_unit_test(moments),
        cmocka_unit_test(response_normalization),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
