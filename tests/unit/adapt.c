/* Networks that are adapted to data and likelihood: values are compared with those of the network
   as it was, which are small whole numbers and thus exact, unless a tolerance says otherwise. */
#include <stdio.h>

#include "bayes/outputs.h"
#include "model.h"
#include "net/graph/adapt.h"
#include "net/plan/plan.h"

enum { N = 2, T = 3, K = 4, TK = T * K };

/* Runs a network of one input of floats at a shape; the elements of the output are freed by the
   caller. */
static struct net_tensor run(const struct ivon_network *network, int rank, const int64_t *shape,
                             const float *x)
{
    struct ivon_error error = {0};
    struct net_plan *plan = NULL;
    struct net_tensor input = {0}, output;
    const void *inputs[] = {x};
    assert_int_equal(network->input_count, 1);
    assert_int_equal(net_tensor_set(&input, NET_FLOAT, rank, shape, NULL), 0);
    int code = net_plan_new(&plan, network, &input, 0, &error);
    if (!code)
        code = net_plan_run(plan, inputs, &error);
    if (code)
        fail_msg("%s", error.message);
    output = *net_plan_output(plan, 0);
    void *copy = malloc(output.count * sizeof(float) + 1);
    assert_non_null(copy);
    memcpy(copy, output.data, output.count * sizeof(float));
    output.data = copy;
    net_plan_free(plan);
    return output;
}

static int adapt(struct model *model, const struct ivon_adapt_options *options,
                 struct ivon_adaptation *done, struct ivon_error *error)
{
    return ivon_network_adapt(model->network, NULL, options, done, error);
}

static void adapt_fine(struct model *model, const struct ivon_adapt_options *options,
                       struct ivon_adaptation *done)
{
    struct ivon_error error = {0};
    if (adapt(model, options, done, &error))
        fail_msg("%s", error.message);
}

static void refuse(struct model *model, const struct ivon_adapt_options *options, int code,
                   const char *why)
{
    struct ivon_error error = {0};
    struct ivon_adaptation done;
    assert_int_equal(adapt(model, options, &done, &error), code);
    if (!strstr(error.message, why))
        fail_msg("'%s' does not say '%s'", error.message, why);
}

/* x: n x T x K; y = -x. */
static void begin(struct model *model)
{
    const int64_t shape[] = {-1, T, K};
    model_begin(model);
    model_input(model, "x", NET_FLOAT, 3, shape);
    model_node(model, "Neg", "y", "x");
}

static void finish(struct model *model)
{
    struct ivon_error error = {0};
    if (graph_finish(model->network, &error))
        fail_msg("%s", error.message);
}

/* -1, -2, … */
static void numbers(float x[N * T * K])
{
    for (size_t i = 0; i < (size_t)N * T * K; i++)
        x[i] = -(float)(i + 1);
}

static void chooses_outputs(void **state)
{
    (void)state;
    const int64_t vector[] = {-1, 5};
    const char *const lost[] = {"lost", ""};
    struct ivon_adapt_options options = ivon_adapt_defaults();
    for (int way = 0; way < 4; way++) {
        struct model model;
        struct ivon_adaptation done = {0};
        begin(&model);
        model_input(&model, "mask", NET_FLOAT, 2, vector);
        model_node(&model, "Abs", "z", "mask");
        assert_int_equal(
            graph_add_refused(model.network, NULL, "a reason", "n", NULL, 0, lost, 2, NULL), 0);
        model_node(&model, "Exp", "w", "lost");
        model_output(&model, "label");
        graph_describe_output(model.network, true, 1);
        model_int(&model, "to", 7);
        model_node(&model, "Cast", "label", "y");
        model_output(&model, "y");
        model_output(&model, "z");
        model_output(&model, "w");
        finish(&model);
        assert_int_equal(model.network->output_count, 4);
        options.output = way == 1 ? "z" : way == 2 ? "w" : way == 3 ? "none" : NULL;
        if (way == 2)
            refuse(&model, &options, IVON_ERROR_DATA, "a reason");
        else if (way == 3)
            refuse(&model, &options, IVON_ERROR_ARGUMENT,
                   "the graph has no output 'none', but 'label', 'y', 'z', 'w'");
        else
            adapt_fine(&model, &options, &done);
        if (way < 2) {
            assert_string_equal(done.output, way ? "z" : "y");
            assert_true(way ? !done.passed_over : !strcmp(done.passed_over, "label"));
            assert_int_equal(model.network->node_count, 1);
            assert_int_equal(model.network->output_count, 1);
            assert_string_equal(ivon_network_input(model.network, 0), way ? "mask" : "x");
            assert_null(ivon_network_input(model.network, 1));
            const struct ivon_input_shape shape = ivon_network_input_shape(model.network, 0);
            assert_true(shape.floats && shape.rank == (way ? 2 : 3) && shape.shape[0] == -1);
            assert_int_equal(shape.shape[1], way ? 5 : T);
        }
        model_end(&model);
    }
}

static void refuses_what_all_outputs_need(void **state)
{
    (void)state;
    const char *const lost[] = {"lost"};
    struct model model;
    struct ivon_error error = {0};
    begin(&model);
    struct ivon_network *network = model.network;
    assert_int_equal(graph_add_refused(network, NULL, "a reason", "n", NULL, 0, lost, 1, NULL), 0);
    assert_int_equal(graph_add_refused(network, NULL, "another", "n", NULL, 0, lost, 1, &error),
                     IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "value 'lost' is defined twice"));
    model_node(&model, "Add", "z", "y", "lost");
    model_output(&model, "z");
    assert_int_equal(graph_finish(network, NULL), 0);
    assert_int_equal(graph_check(network, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, ": a reason"));
    model_end(&model);
}

/* A chain of nodes behind y = -x, by blanks. */
static void chain(struct model *model, const char *operators, int64_t axis)
{
    char text[128], *rest, from[16] = "y", to[16];
    int count = 0;
    strcpy(text, operators);
    for (char *op = strtok_r(text, " ", &rest); op; op = strtok_r(NULL, " ", &rest)) {
        sprintf(to, "v%d", count++);
        if (strstr(op, "oftmax"))
            model_int(model, "axis", axis);
        if (strcmp(op, "Cast") == 0)
            model_int(model, "to", 1);
        model_node(model, op, to, from);
        strcpy(from, to);
    }
    model_output(model, from);
    graph_describe_output(model->network, false, 3);
}

static void cuts_ends(void **state)
{
    (void)state;
    static const struct {
        const char *nodes;
        int64_t axis;
        enum ivon_link link;
        const char *cut;
        size_t left;
    } cases[] = {
        {"Softmax", -1, IVON_LINK_SOFTMAX, "Softmax", 1},
        {"Softmax", 2, IVON_LINK_SOFTMAX, "Softmax", 1},
        {"Softmax", 1, IVON_LINK_SOFTMAX, NULL, 2},
        {"LogSoftmax Identity", -1, IVON_LINK_SOFTMAX, "LogSoftmax", 2},
        {"Softmax Cast Identity", -1, IVON_LINK_SOFTMAX, "Softmax", 3},
        {"Softmax Neg", -1, IVON_LINK_SOFTMAX, NULL, 3},
        {"Softmax", -1, IVON_LINK_LOGISTIC, NULL, 2},
        {"Softmax", -1, IVON_LINK_IDENTITY, NULL, 2},
        {"Sigmoid Identity", -1, IVON_LINK_LOGISTIC, "Sigmoid", 2},
        {"Sigmoid", -1, IVON_LINK_SOFTMAX, NULL, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model model;
        struct ivon_adaptation done;
        struct ivon_adapt_options options = ivon_adapt_defaults();
        options.link = cases[i].link;
        begin(&model);
        chain(&model, cases[i].nodes, cases[i].axis);
        finish(&model);
        adapt_fine(&model, &options, &done);
        assert_int_equal(!done.cut, !cases[i].cut);
        if (done.cut)
            assert_string_equal(done.cut, cases[i].cut);
        assert_int_equal(model.network->node_count, cases[i].left);
        model_end(&model);
    }
}

/* log p, and log p - log(1 - p), at p of which the clamp keeps all but 0 and 1; four roundings each
   of numbers below 90. */
static void inverts_links(void **state)
{
    (void)state;
    static const float p[] = {0, 0.25F, 0.75F, 1};
    const int64_t shape[] = {-1, 4}, given[] = {1, 4};
    for (int link = IVON_LINK_SOFTMAX; link <= IVON_LINK_LOGISTIC; link++) {
        struct model model;
        struct ivon_adaptation done;
        struct ivon_adapt_options options = ivon_adapt_defaults();
        options.link = (enum ivon_link)link;
        options.probabilities = true;
        model_begin(&model);
        model_input(&model, "x", NET_FLOAT, 2, shape);
        model_node(&model, "Abs", "y", "x");
        model_output(&model, "y");
        finish(&model);
        adapt_fine(&model, &options, &done);
        assert_null(done.cut);
        struct net_tensor f = run(model.network, 2, given, p);
        for (size_t i = 0; i < 4; i++) {
            bool events = link == IVON_LINK_LOGISTIC;
            double q = fmax((double)p[i], 0x1p-126);
            q = events ? fmin(q, 1 - 0x1p-24) : q;
            double expected = log(q) - (events ? log(1 - q) : 0);
            assert_true(fabs((double)((float *)f.data)[i] - expected) <= 4 * 90 * 0x1p-24);
        }
        free(f.data);
        model_end(&model);
    }
}

static void check_strides(const struct net_tensor *f, int rank, const int64_t *shape,
                          const size_t *strides)
{
    const float *y = f->data;
    int64_t index[3] = {0};
    assert_int_equal(f->rank, rank);
    for (int i = 0; i < rank; i++)
        assert_int_equal(f->shape[i], shape[i]);
    for (size_t i = 0; i < f->count; i++) {
        size_t from = 0;
        for (int axis = 0; axis < rank; axis++)
            from += (size_t)index[axis] * strides[axis];
        assert_true(y[i] == (float)(from + 1));
        for (int axis = rank - 1; axis >= 0 && ++index[axis] == shape[axis]; axis--)
            index[axis] = 0;
    }
}

static void orders_axes(void **state)
{
    (void)state;
    enum { B = IVON_AXIS_BATCH, W = IVON_AXIS_TOKEN, C = IVON_AXIS_CLASS };
    /* The output's shape, and how far apart in the graph's own output its neighbours are. */
    static const struct {
        int axes[3], rank;
        int64_t shape[3];
        size_t strides[3];
    } cases[] = {
        {{B, W, C}, 3, {N, T, K}, {TK, K, 1}}, {{B, C, W}, 3, {N, K, T}, {TK, 1, K}},
        {{W, B, C}, 3, {T, N, K}, {K, TK, 1}}, {{C, B, W}, 3, {T, K, N}, {K, 1, TK}},
        {{B, C, C}, 2, {N, TK}, {TK, 1}},      {{B, W, W}, 3, {N, TK, 1}, {TK, 1, 0}},
    };
    float x[N * T * K];
    numbers(x);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model model;
        struct ivon_adaptation done;
        struct ivon_adapt_options options = ivon_adapt_defaults();
        enum ivon_axis axes[3];
        for (int j = 0; j < 3; j++)
            axes[j] = (enum ivon_axis)cases[i].axes[j];
        options.axes = axes;
        options.axis_count = 3;
        begin(&model);
        model_output(&model, "y");
        finish(&model);
        adapt_fine(&model, &options, &done);
        struct net_tensor f = run(model.network, 3, (const int64_t[]){N, T, K}, x);
        check_strides(&f, cases[i].rank, cases[i].shape, cases[i].strides);
        free(f.data);
        model_end(&model);
    }
}

static void refuses_axes(void **state)
{
    (void)state;
    static const enum ivon_axis none[] = {IVON_AXIS_TOKEN, IVON_AXIS_CLASS},
                                many[IVON_RANK_MAX + 1];
    struct ivon_adapt_options options = ivon_adapt_defaults();
    struct model model;
    begin(&model);
    model_output(&model, "y");
    finish(&model);
    options.axes = none;
    options.axis_count = 2;
    refuse(&model, &options, IVON_ERROR_ARGUMENT, "0 axes of examples, expected one");
    options.axes = many;
    options.axis_count = IVON_RANK_MAX + 1;
    refuse(&model, &options, IVON_ERROR_ARGUMENT, "at most 8 axes");
    options.axis_count = 0;
    options.link = (enum ivon_link)9;
    refuse(&model, &options, IVON_ERROR_ARGUMENT, "no such link");
    options.link = IVON_LINK_IDENTITY;
    options.probabilities = true;
    refuse(&model, &options, IVON_ERROR_ARGUMENT, "have a link");
    options.size = 1;
    refuse(&model, &options, IVON_ERROR_ARGUMENT, "ivon_adapt_defaults()");
    model_end(&model);
}

/* A graph of T x n x K, given n x T x K; its output is so, too, or is its last row, n x K. */
static void moves_batch_axes(void **state)
{
    (void)state;
    static const struct ivon_batch_axis all[] = {{NULL, 1}}, one[] = {{"x", 1}};
    const int64_t shape[] = {T, -1, K}, given[] = {N, T, K}, last = T - 1;
    float x[N * T * K];
    numbers(x);
    for (int whole = 0; whole < 2; whole++) {
        struct model model;
        struct ivon_adaptation done;
        struct ivon_adapt_options options = ivon_adapt_defaults();
        options.batch_axes = whole ? all : one;
        options.batch_axis_count = 1;
        model_begin(&model);
        model_input(&model, "x", NET_FLOAT, 3, shape);
        model_node(&model, "Neg", "y", "x");
        model_constant(&model, "last", NET_INTEGER, 0, NULL, &last);
        model_node(&model, "Gather", "z", "y", "last");
        model_output(&model, whole ? "y" : "z");
        graph_describe_output(model.network, false, whole ? 3 : 2);
        finish(&model);
        adapt_fine(&model, &options, &done);
        assert_int_equal(model.network->values[model.network->inputs[0]].tensor.shape[0], -1);
        struct net_tensor f = run(model.network, 3, given, x);
        const float *y = f.data;
        assert_int_equal(f.rank, whole ? 3 : 2);
        assert_int_equal(f.shape[0], N);
        for (size_t n = 0; n < N; n++)
            for (size_t k = 0; k < K; k++)
                assert_true(y[whole ? (n * T + T - 1) * K + k : n * K + k] ==
                            (float)((n * T + T - 1) * K + k + 1));
        free(f.data);
        model_end(&model);
    }
}

static void sets_inputs(void **state)
{
    (void)state;
    static const struct {
        enum net_type type;
        int rank;
        int64_t shape[2];
        const char *value, *why; /* null: it is fine */
        size_t count;
        int64_t first, last; /* of a number or a truth value */
    } cases[] = {
        {NET_INTEGER, 0, {0}, "16000", NULL, 1, 16000, 16000},
        {NET_INTEGER, 1, {-1}, "1,2,-3", NULL, 3, 1, -3},
        {NET_INTEGER, 1, {1}, "9223372036854775807", NULL, 1, INT64_MAX, INT64_MAX},
        {NET_INTEGER, 1, {1}, "9223372036854775808", "expected whole numbers", 0, 0, 0},
        {NET_INTEGER, 2, {2, -1}, "1,2,3,4", NULL, 4, 1, 4},
        {NET_INTEGER, 2, {2, 2}, "7", NULL, 4, 7, 7},
        {NET_INTEGER, 2, {-1, 2}, "1,2,3", "takes ?x2, and is set to 3 numbers", 0, 0, 0},
        {NET_INTEGER, 0, {0}, "1.5", "expected whole numbers", 0, 0, 0},
        {NET_INTEGER, 0, {0}, "", "expected whole numbers", 0, 0, 0},
        {NET_INTEGER, 1, {2}, "1,", "expected whole numbers", 0, 0, 0},
        {NET_INTEGER, 2, {INT64_MAX, INT64_MAX}, "1", "takes ", 0, 0, 0},
        {NET_FLOAT, 1, {2}, "1e1,-2", NULL, 2, 10, -2},
        {NET_FLOAT, 0, {0}, "a", "expected numbers", 0, 0, 0},
        {NET_BOOLEAN, 1, {-1}, "true,0,1,false", NULL, 4, 1, 0},
        {NET_BOOLEAN, 0, {0}, "2", "expected true or false", 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model model;
        struct ivon_adaptation done;
        struct ivon_input_value value = {"v", cases[i].value};
        struct ivon_adapt_options options = ivon_adapt_defaults();
        options.values = &value;
        options.value_count = 1;
        begin(&model);
        model_input(&model, "v", cases[i].type, cases[i].rank, cases[i].shape);
        model_node(&model, "Identity", "w", "v");
        model_output(&model, "y");
        finish(&model);
        if (cases[i].why) {
            refuse(&model, &options, IVON_ERROR_ARGUMENT, cases[i].why);
            model_end(&model);
            continue;
        }
        adapt_fine(&model, &options, &done);
        const struct net_tensor *set =
            &model.network->values[graph_find(model.network, "v")].tensor;
        assert_int_equal(model.network->input_count, 1);
        assert_int_equal(set->count, cases[i].count);
        for (size_t end = 0; end < 2; end++) {
            size_t at = end ? set->count - 1 : 0;
            double found = set->type == NET_FLOAT     ? (double)((float *)set->data)[at]
                           : set->type == NET_INTEGER ? (double)((int64_t *)set->data)[at]
                                                      : (double)((unsigned char *)set->data)[at];
            assert_true(found == (double)(end ? cases[i].last : cases[i].first));
        }
        value.input = "x2";
        refuse(&model, &options, IVON_ERROR_ARGUMENT, "no input 'x2' to set, but 'x'");
        model_end(&model);
    }
}

/* A buffer 1 x 1 x K in the place of an input 1 x n x K. */
static void repeats_buffers(void **state)
{
    (void)state;
    const int64_t shape[] = {-1, K}, state_shape[] = {1, -1, K}, axis = 0;
    const float x[N * K] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct model model;
    model_begin(&model);
    model_input(&model, "x", NET_FLOAT, 2, shape);
    model_input(&model, "h", NET_FLOAT, 3, state_shape);
    const float *h = model_tensor(&model, "h", IVON_BUFFER, SHAPE(1, 1, K), -1, 1);
    const float *w = model_parameter(&model, "w", SHAPE(K), 0, 1);
    model_integers(&model, "axis", 1, &axis);
    model_node(&model, "Squeeze", "s", "h", "axis");
    model_node(&model, "Mul", "v", "x", "w");
    model_int(&model, "axis", 1);
    model_node(&model, "Concat", "y", "v", "s");
    model_output(&model, "y");
    model_bind(&model);
    struct net_plan *plan = NULL;
    struct net_tensor input = {0};
    const void *inputs[] = {x};
    const float *parameters[] = {w};
    assert_int_equal(model.network->input_count, 1);
    assert_int_equal(net_tensor_set(&input, NET_FLOAT, SHAPE(N, K), NULL), 0);
    assert_int_equal(net_plan_new(&plan, model.network, &input, 0, NULL), 0);
    assert_int_equal(net_plan_set_parameters(plan, parameters, NULL), 0);
    assert_int_equal(net_plan_run(plan, inputs, NULL), 0);
    const float *y = net_plan_output(plan, 0)->data;
    for (size_t n = 0; n < N; n++)
        for (size_t k = 0; k < K; k++) {
            assert_true(y[n * 2 * K + k] == x[n * K + k] * w[k]);
            assert_true(y[n * 2 * K + K + k] == h[k]);
        }
    net_plan_free(plan);
    model_end(&model);
}

static void knows_probabilities(void **state)
{
    (void)state;
    static const struct {
        float row[3];
        bool are;
    } cases[] = {{{0.25F, 0.5F, 0.25F}, true},   {{1, 0, 0}, true},
                 {{0.25F, 0.5F, 0.251F}, false}, {{-0.1F, 0.6F, 0.5F}, false},
                 {{1.5F, -0.5F, 0}, false},      {{NAN, 0.5F, 0.5F}, false}};
    struct outputs outputs = {.likelihood = IVON_CATEGORICAL, .tokens = 1, .k = 3};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(outputs_are_probabilities(&outputs, cases[i].row, 1), cases[i].are);
    assert_false(outputs_are_probabilities(&outputs, cases[0].row, 0));
    assert_false(outputs_are_probabilities(&outputs, cases[1].row, 3));
    outputs.likelihood = IVON_BERNOULLI;
    assert_false(outputs_are_probabilities(&outputs, cases[0].row, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_outputs),  cmocka_unit_test(refuses_what_all_outputs_need),
        cmocka_unit_test(cuts_ends),        cmocka_unit_test(inverts_links),
        cmocka_unit_test(orders_axes),      cmocka_unit_test(refuses_axes),
        cmocka_unit_test(moves_batch_axes), cmocka_unit_test(sets_inputs),
        cmocka_unit_test(repeats_buffers),  cmocka_unit_test(knows_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
