/* Networks with recurrent layers, as PyTorch exports them: the derivatives of single examples,
   whose sequences do not lie one after the other. */
#include "derivative_checks.h"

enum { STEPS = 4, WIDTH = 3, HIDDEN = 5 };

static void add_layer(struct model *m, const char *op, int64_t gates, int64_t directions)
{
    model_parameter(m, "W", SHAPE(directions, gates * HIDDEN, WIDTH), -0.5, 0.5);
    model_parameter(m, "R", SHAPE(directions, gates * HIDDEN, HIDDEN), -0.5, 0.5);
    model_parameter(m, "B", SHAPE(directions, 2 * gates * HIDDEN), -0.5, 0.5);
    model_int(m, "hidden_size", HIDDEN);
    if (directions == 2)
        model_attribute(m, "direction", NET_TEXT)->text = strdup("bidirectional");
    if (*op == 'G')
        model_int(m, "linear_before_reset", 1);
}

static void add_head(struct model *m, const char *features, int64_t width)
{
    model_parameter(m, "head", SHAPE(3, width), -1, 1);
    model_parameter(m, "bias", SHAPE(3), -1, 1);
    model_int(m, "transB", 1);
    model_node(m, "Gemm", "y", features, "head", "bias");
}

/* nn.LSTM(batch_first=True), whose last output goes to a linear layer. */
static void last_output(void **state)
{
    (void)state;
    struct model m;
    const int64_t last = STEPS - 1;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, STEPS, WIDTH));
    model_integers(&m, "one", LIST(1));
    model_constant(&m, "last", NET_INTEGER, 0, NULL, &last);
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "sequence", "x");
    add_layer(&m, "LSTM", 4, 1);
    model_node(&m, "LSTM", "Y", "sequence", "W", "R", "B");
    model_node(&m, "Squeeze", "squeezed", "Y", "one");
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "outputs", "squeezed");
    model_int(&m, "axis", 1);
    model_node(&m, "Gather", "features", "outputs", "last");
    add_head(&m, "features", HIDDEN);
    check(&m, "y", 1);
}

/* First states of zeros as large as the batch, and the last states of both directions. */
static void last_states(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, STEPS, WIDTH));
    model_integers(&m, "first", LIST(0));
    model_integers(&m, "two", LIST(2));
    model_integers(&m, "hidden", LIST(HIDDEN));
    model_integers(&m, "wide", LIST(-1, 2 * HIDDEN));
    const float zero = 0;
    model_constant(&m, "zero", NET_FLOAT, 0, NULL, &zero);
    model_node(&m, "Shape", "shape", "x");
    model_node(&m, "Gather", "batch", "shape", "first");
    model_int(&m, "axis", 0);
    model_node(&m, "Concat", "state_shape", "two", "batch", "hidden");
    model_node(&m, "Expand", "h0", "zero", "state_shape");
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "sequence", "x");
    add_layer(&m, "GRU", 3, 2);
    model_add(&m, "GRU", (const char *const[]){"", "Y_h"}, 2,
              (const char *const[]){"sequence", "W", "R", "B", "", "h0"}, 6);
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "states", "Y_h");
    model_node(&m, "Reshape", "features", "states", "wide");
    add_head(&m, "features", 2 * HIDDEN);
    check(&m, "y", 1);
}

/* With its layout 1 the examples do lie one after the other, and a tile may have several. */
static void batch_first(void **state)
{
    (void)state;
    struct model m;
    const int64_t last = 0;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, STEPS, WIDTH));
    model_constant(&m, "last", NET_INTEGER, 0, NULL, &last);
    add_layer(&m, "LSTM", 4, 1);
    model_int(&m, "layout", 1);
    model_add(&m, "LSTM", (const char *const[]){"Y", "", "Y_c"}, 3,
              (const char *const[]){"x", "W", "R", "B"}, 4);
    model_int(&m, "axis", 1);
    model_node(&m, "Gather", "features", "Y_c", "last");
    model_ints(&m, "axes", LIST(1, 2));
    model_int(&m, "keepdims", 0);
    model_node(&m, "ReduceMean", "mean", "Y");
    model_node(&m, "Add", "sum", "features", "mean");
    add_head(&m, "sum", HIDDEN);
    check(&m, "y", TILE);
}

/* Two layers of plain cells; one's outputs are the other's inputs. */
static void two_layers(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m);
    model_input(&m, "x", NET_FLOAT, SHAPE(-1, STEPS, WIDTH));
    model_integers(&m, "one", LIST(1));
    model_integers(&m, "zero", LIST(0));
    model_ints(&m, "perm", LIST(1, 0, 2));
    model_node(&m, "Transpose", "sequence", "x");
    add_layer(&m, "RNN", 1, 1);
    model_node(&m, "RNN", "Y", "sequence", "W", "R", "B");
    model_node(&m, "Squeeze", "between", "Y", "one");
    model_parameter(&m, "W2", SHAPE(1, HIDDEN, HIDDEN), -0.5, 0.5);
    model_add(&m, "RNN", (const char *const[]){"", "last"}, 2,
              (const char *const[]){"between", "W2", "R", "B"}, 4);
    model_node(&m, "Squeeze", "features", "last", "zero");
    add_head(&m, "features", HIDDEN);
    check(&m, "y", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_output),
        cmocka_unit_test(last_states),
        cmocka_unit_test(batch_first),
        cmocka_unit_test(two_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
