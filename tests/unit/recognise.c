/* Binding by value: weights that an exporter renamed, reshaped or transposed. Networks compute
   y = x W; the means that are bound are set to other numbers, which y must follow. */
#include <stdio.h>

#include "core/stream.h"
#include "net/plan/plan.h"
#include "tests/unit/graph_builder.h"

enum { ROWS = 3, COLUMNS = 2, COUNT = ROWS * COLUMNS };

/* The weight of the graph, 3 × 2, and its transpose. */
static const float weight[COUNT] = {1, 2, 3, 4, 5, 6}, transposed[COUNT] = {1, 3, 5, 2, 4, 6};
static const float ones[COUNT] = {1, 1, 1, 1, 1, 1}, others[COUNT] = {9, 8, 7, 6, 5, 4};

static void add_floats(struct ivon_network *network, const char *name, int rank,
                       const int64_t *shape, const float *data)
{
    struct net_tensor tensor = {0};
    assert_int_equal(net_tensor_set(&tensor, NET_FLOAT, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(&tensor, NULL), 0);
    memcpy(tensor.data, data, tensor.count * sizeof *data);
    assert_int_equal(graph_add_constant(network, name, &tensor, NULL), 0);
}

/* y = x W + b, of which b is a mean by name. */
static struct ivon_network *product(const float *w)
{
    struct ivon_network *network;
    static const int64_t x[] = {1, ROWS};
    assert_int_equal(graph_new(&network, "g.onnx", NULL), 0);
    assert_int_equal(graph_add_input(network, "x", NET_FLOAT, 2, x, NULL), 0);
    add_floats(network, "W", 2, (const int64_t[]){ROWS, COLUMNS}, w);
    add_floats(network, "b", 1, (const int64_t[]){COLUMNS}, weight);
    node(network, "MatMul", "x W p", NULL);
    node(network, "Add", "p b y", NULL);
    assert_int_equal(graph_add_output(network, "y", NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
    return network;
}

struct mean {
    const char *name;
    int rank;
    int64_t shape[2];
    const void *data;
    enum ivon_dtype dtype;
};

static const struct mean bias = {"b", 1, {COLUMNS}, weight, IVON_F32};

static struct ivon_source *source_of(const struct mean *means, size_t count)
{
    struct ivon_source *source;
    struct ivon_header header = ivon_header_empty();
    struct ivon_tensor tensors[4];
    const void *data[4];
    for (size_t i = 0; i < count; i++) {
        tensors[i] = (struct ivon_tensor){.name = means[i].name,
                                          .part = IVON_MEAN,
                                          .dtype = means[i].dtype,
                                          .rank = means[i].rank,
                                          .shape = {means[i].shape[0], means[i].shape[1]}};
        data[i] = means[i].data;
    }
    assert_int_equal(ivon_source_from_memory(&source, "p.h5", &header, tensors, data, count, NULL),
                     0);
    return source;
}

/* y of x = (1, 10, 100), with the mean of index 1 set to the numbers 6, 5, … 1 and b to 0. */
static void expect_followed(struct ivon_network *network, const float expected[COLUMNS])
{
    static const float numbers[16] __attribute__((aligned(64))) = {6, 5, 4, 3, 2, 1};
    static const float zeros[16] __attribute__((aligned(64))) = {0};
    static const float x[16] __attribute__((aligned(64))) = {1, 10, 100};
    const float *parameters[2];
    struct net_tensor input = {0};
    struct net_plan *plan;
    assert_int_equal(network->parameter_count, 2);
    for (size_t i = 0; i < 2; i++)
        parameters[i] = network->parameters[i] ? numbers : zeros;
    assert_int_equal(net_tensor_set(&input, NET_FLOAT, 2, (const int64_t[]){1, ROWS}, NULL), 0);
    assert_int_equal(net_plan_new(&plan, network, &input, 0, NULL), 0);
    assert_int_equal(net_plan_set_parameters(plan, parameters, NULL), 0);
    assert_int_equal(net_plan_run(plan, (const void *[]){x}, NULL), 0);
    assert_memory_equal(net_plan_output(plan, 0)->data, expected, COLUMNS * sizeof *expected);
    net_plan_free(plan);
}

static void what_equals_a_mean_is_it(void **unused)
{
    (void)unused;
    static const uint16_t halves[COUNT] = {0x3f80, 0x4040, 0x40a0, 0x4000, 0x4080, 0x40c0};
    static const struct {
        struct mean mean;
        float expected[COLUMNS]; /* (1, 10, 100) times the numbers, as the mean lies */
    } cases[] = {
        {{"other", 2, {ROWS, COLUMNS}, weight, IVON_F32}, {246, 135}},
        {{"linear.weight", 2, {COLUMNS, ROWS}, transposed, IVON_F32}, {456, 123}},
        {{"linear.weight", 2, {COLUMNS, ROWS}, halves, IVON_BF16}, {456, 123}},
        {{"flat", 1, {COUNT}, weight, IVON_F32}, {246, 135}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct mean means[] = {bias, cases[i].mean};
        struct ivon_network *network = product(weight);
        struct ivon_source *source = source_of(means, 2);
        struct ivon_unbound unbound;
        struct ivon_error error = {0};
        if (ivon_network_bind(network, source, NULL, &unbound, &error))
            fail_msg("%s", error.message);
        assert_int_equal(unbound.means, 0);
        assert_int_equal(unbound.initializers, 0);
        assert_int_equal(unbound.recognised, 1);
        assert_string_equal(unbound.recognised_weight, "W");
        assert_string_equal(unbound.recognised_mean, cases[i].mean.name);
        expect_followed(network, cases[i].expected);
        ivon_network_free(network);
        ivon_source_close(source);
    }
}

/* Binds, and expects a message, unless weights may be kept; then so many means without place. */
static void expect_refused(const float *w, const struct mean *means, size_t count, const char *why,
                           size_t without_place)
{
    for (int keep = 0; keep < 2; keep++) {
        struct ivon_network *network = product(w);
        struct ivon_source *source = source_of(means, count);
        struct ivon_unbound unbound;
        struct ivon_error error = {0};
        struct ivon_bind_options options = ivon_bind_defaults();
        options.keep_graph_weights = keep;
        int code = ivon_network_bind(network, source, &options, &unbound, &error);
        assert_int_equal(code, keep ? 0 : IVON_ERROR_DATA);
        if (!keep && !strstr(error.message, why))
            fail_msg("'%s' does not say '%s'", error.message, why);
        if (!keep)
            assert_int_equal(error.hint, IVON_HINT_KEEP_WEIGHTS);
        assert_int_equal(unbound.initializers, 1);
        assert_int_equal(unbound.means, without_place);
        assert_string_equal(unbound.initializer, "W");
        ivon_network_free(network);
        ivon_source_close(source);
    }
}

static void what_cannot_be_the_checkpoints_is_refused(void **unused)
{
    (void)unused;
    const struct mean changed[] = {bias, {"w", 2, {COLUMNS, ROWS}, others, IVON_F32}};
    expect_refused(
        weight, changed, 2,
        "g.onnx: has no place for 1 means of p.h5, 'w' the first, and keeps 1 weights of "
        "its own, 'W' the first: export it with optimize=False",
        1);
    const struct mean even[] = {bias, {"w", 2, {COLUMNS, ROWS}, ones, IVON_F32}};
    expect_refused(ones, even, 2, "has no place for 1 means", 1); /* ones tell nothing */
    const struct mean smaller[] = {bias, {"w", 1, {3}, others, IVON_F32}};
    expect_refused(weight, smaller, 2, "has no place for 1 means", 1);
    const struct mean twins[] = {bias,
                                 {"w", 2, {COLUMNS, ROWS}, transposed, IVON_F32},
                                 {"v", 2, {ROWS, COLUMNS}, weight, IVON_F32}};
    struct ivon_network *network = product(weight);
    struct ivon_source *source = source_of(twins, 3);
    struct ivon_unbound unbound;
    struct ivon_error error = {0};
    assert_int_equal(ivon_network_bind(network, source, NULL, &unbound, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "g.onnx: its weight 'W' equals two means of p.h5, 'w' and "
                                       "'v': which of them it is cannot be told");
    ivon_network_free(network);
    ivon_source_close(source);
}

/* A tied weight: bound by its name elsewhere, it still must not be kept transposed. */
static void a_tied_weight_is_not_kept(void **unused)
{
    (void)unused;
    for (int same = 0; same < 2; same++) {
        struct ivon_network *network;
        struct ivon_unbound unbound;
        struct ivon_error error = {0};
        const struct mean means[] = {
            {"E", 2, {COLUMNS, ROWS}, same ? transposed : others, IVON_F32}};
        struct ivon_source *source = source_of(means, 1);
        static const int64_t x[] = {1, ROWS};
        assert_int_equal(graph_new(&network, "g.onnx", NULL), 0);
        assert_int_equal(graph_add_input(network, "x", NET_FLOAT, 2, x, NULL), 0);
        add_floats(network, "onnx::MatMul_7", 2, (const int64_t[]){ROWS, COLUMNS}, weight);
        add_floats(network, "E", 2, (const int64_t[]){COLUMNS, ROWS}, transposed);
        node(network, "MatMul", "x onnx::MatMul_7 p", NULL);
        node(network, "MatMul", "p E y", NULL);
        assert_int_equal(graph_add_output(network, "y", NULL), 0);
        assert_int_equal(graph_finish(network, NULL), 0);
        int code = ivon_network_bind(network, source, NULL, &unbound, &error);
        assert_int_equal(code, same ? 0 : IVON_ERROR_DATA);
        if (!same)
            assert_string_equal(error.message,
                                "g.onnx: its weight 'onnx::MatMul_7' has the shape of a transposed "
                                "mean of p.h5, and the values of none: export it with "
                                "dynamo=False, training=TrainingMode.PRESERVE and "
                                "do_constant_folding=False, which keep every name");
        else
            assert_int_equal(network->parameter_count, 1);
        ivon_network_free(network);
        ivon_source_close(source);
    }
}

/* Means that no output needs are left out; numbers of the graph's text are no weights. */
static void what_is_unused_is_left_out(void **unused)
{
    (void)unused;
    struct ivon_network *network = product(weight);
    struct ivon_unbound unbound;
    struct ivon_error error = {0};
    const struct mean means[] = {bias,
                                 {"W", 2, {ROWS, COLUMNS}, weight, IVON_F32},
                                 {"spare", 2, {ROWS, COLUMNS}, others, IVON_F32}};
    struct ivon_source *source = source_of(means, 3);
    add_floats(network, "spare", 2, (const int64_t[]){ROWS, COLUMNS}, others);
    if (ivon_network_bind(network, source, NULL, &unbound, &error))
        fail_msg("%s", error.message);
    assert_int_equal(unbound.unused, 1);
    assert_string_equal(unbound.unused_mean, "spare");
    assert_int_equal(unbound.means + unbound.initializers + unbound.recognised, 0);
    assert_int_equal(network->parameter_count, 2);
    ivon_network_free(network);
    ivon_source_close(source);
}

/* Binds a checkpoint that has `mean` alone to a network of these nodes, each an operator and its
   values, which keeps one weight more. That is refused unless the graph is inside the checkpoint;
   null: in any case it is not. */
static void expect_kept(const char *const *nodes, const char *mean, const char *refused)
{
    for (int inside = 0; inside < 2; inside++) {
        struct ivon_network *network;
        struct ivon_unbound unbound;
        struct ivon_error error = {0};
        const bool matrix = strcmp(mean, "b") != 0;
        const struct mean means[] = {
            {mean, matrix ? 2 : 1, {matrix ? ROWS : COLUMNS, COLUMNS}, others, IVON_F32}};
        struct ivon_source *source = source_of(means, 1);
        assert_int_equal(graph_new(&network, "g.onnx", NULL), 0);
        static const int64_t x[] = {1, ROWS};
        assert_int_equal(graph_add_input(network, "x", NET_FLOAT, 2, x, NULL), 0);
        add_floats(network, "W", 2, (const int64_t[]){ROWS, COLUMNS}, weight);
        add_floats(network, "T", 2, (const int64_t[]){COLUMNS, ROWS}, transposed);
        add_floats(network, "b", 1, (const int64_t[]){COLUMNS}, weight);
        add_floats(network, "mask", 2, (const int64_t[]){1, COLUMNS}, weight);
        add_floats(network, "c", 2, (const int64_t[]){1, ROWS}, weight);
        for (size_t i = 0; nodes[i]; i += 2)
            node(network, nodes[i], nodes[i + 1], NULL);
        assert_int_equal(graph_add_output(network, "y", NULL), 0);
        assert_int_equal(graph_finish(network, NULL), 0);
        network->inside = inside;
        int code = ivon_network_bind(network, source, NULL, &unbound, &error);
        assert_int_equal(code, refused && !inside ? IVON_ERROR_DATA : 0);
        assert_int_equal(unbound.initializers, 1);
        if (code) {
            char message[256];
            snprintf(message, sizeof message,
                     "g.onnx: 1 of its weights are not in p.h5, '%s' the first: take a checkpoint "
                     "that has them all",
                     refused);
            assert_string_equal(error.message, message);
            assert_int_equal(error.hint, IVON_HINT_KEEP_WEIGHTS);
        }
        ivon_network_free(network);
        ivon_source_close(source);
    }
}

static void what_a_layer_applies_is_the_checkpoints(void **unused)
{
    (void)unused;
    expect_kept((const char *const[]){"MatMul", "x W p", "Add", "p b y", NULL}, "W", "b");
    expect_kept((const char *const[]){"MatMul", "x W p", "Mul", "b p y", NULL}, "W", "b");
    expect_kept((const char *const[]){"MatMul", "x W p", "Add", "p b y", NULL}, "b", "W");
    expect_kept((const char *const[]){"Transpose", "T t", "Neg", "t u", "MatMul", "x u p", "Add",
                                      "p b y", NULL},
                "b", "T");
    /* Neither masks nor what is computed without data. */
    expect_kept((const char *const[]){"MatMul", "x W p", "Add", "p mask y", NULL}, "W", NULL);
    expect_kept((const char *const[]){"MatMul", "x W p", "MatMul", "c W q", "Add", "p q y", NULL},
                "W", NULL);
    expect_kept((const char *const[]){"MatMul", "x W p", "Shape", "x s", "ConstantOfShape", "s z",
                                      "PRelu", "z c q", "MatMul", "q W r", "Add", "p r y", NULL},
                "W", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_equals_a_mean_is_it),
        cmocka_unit_test(what_cannot_be_the_checkpoints_is_refused),
        cmocka_unit_test(a_tied_weight_is_not_kept),
        cmocka_unit_test(what_is_unused_is_left_out),
        cmocka_unit_test(what_a_layer_applies_is_the_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
