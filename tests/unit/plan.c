/*
 * Plans of random graphs against the same nodes evaluated one by one: what is fused, taken over in
 * place, shared or computed early must not change a number. Element-wise chains and copies are
 * the same operations in the same order, so they agree bit for bit; matrix products of transposed
 * operands sum in another order, so with k terms of size at most 1 they agree to k 2^-23.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/plan/private.h"

enum { ROWS = 6, COLUMNS = 6, NODES = 24 };

static uint64_t state;
static size_t outputs_compared, outputs_overflown; /* products may grow without bound */

static size_t below(size_t bound)
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (size_t)((state >> 33) % bound);
}

static void random_floats(float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)below(2001) / 1000.0F - 1;
}

static void add(struct ivon_network *network, const char *op, const char *a, const char *b,
                const char *out)
{
    const char *inputs[] = {a, b}, *outputs[] = {out};
    assert_int_equal(graph_add_node(network, net_operator_find(NULL, op, 17), out, inputs,
                                    b ? 2 : 1, outputs, 1, NULL, 0, NULL),
                     0);
}

static void constant(struct ivon_network *network, const char *name, int rank, const int64_t *shape,
                     enum net_type type, const void *data)
{
    struct net_tensor tensor = {0};
    assert_int_equal(net_tensor_set(&tensor, type, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(&tensor, NULL), 0);
    memcpy(tensor.data, data, tensor.count * net_type_size(type));
    assert_int_equal(graph_add_constant(network, name, &tensor, NULL), 0);
}

/* A graph of nodes that keep the shape 6 × 6, each from one or two of the values before it. */
static struct ivon_network *random_graph(bool products)
{
    static const char *const unary[] = {"Relu", "Tanh", "Neg", "Identity", "Transpose", "Abs"};
    static const char *const binary[] = {"Add", "Mul", "Sub", "Max", "Min", "MatMul"};
    struct ivon_network *network;
    int64_t square[] = {ROWS, COLUMNS}, free_rows[] = {-1, COLUMNS}, row[] = {COLUMNS}, two[] = {2};
    float numbers[ROWS * COLUMNS];
    assert_int_equal(graph_new(&network, "random", NULL), 0);
    assert_int_equal(graph_add_input(network, "x", NET_FLOAT, 2, free_rows, NULL), 0);
    random_floats(numbers, ROWS * COLUMNS);
    constant(network, "w", 2, square, NET_FLOAT, numbers);
    constant(network, "b", 1, row, NET_FLOAT, numbers + 7);
    constant(network, "shape", 1, two, NET_INTEGER, square);
    char names[NODES + 3][8] = {"x", "w", "b"};
    size_t count = 3;
    for (size_t i = 0; i < NODES; i++) {
        char *name = names[count];
        const char *a = names[below(count)];
        if (strcmp(a, "b") == 0) /* the only one of another shape: as a second operand alone */
            a = "x";
        snprintf(name, sizeof names[0], "v%zu", i);
        size_t which = below(6);
        if (below(3) == 0)
            add(network, "Reshape", a, "shape", name);
        else if (below(2))
            add(network, unary[which], a, NULL, name);
        else {
            const char *b = names[below(count)];
            which = which == 5 && (!products || strcmp(b, "b") == 0) ? 0 : which;
            add(network, binary[which], a, b, name);
        }
        count++;
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(graph_add_output(network, names[count - 1 - 2 * i], NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
    return network;
}

/* Every value by evaluating the nodes in turn. */
static struct net_tensor *evaluate_all(const struct ivon_network *network, float *x)
{
    struct net_tensor *values = calloc(network->value_count, sizeof *values);
    for (size_t i = 0; i < network->value_count; i++)
        values[i] = network->values[i].tensor;
    struct net_tensor *input = &values[network->inputs[0]];
    int64_t shape[] = {ROWS, COLUMNS};
    assert_int_equal(net_tensor_set(input, NET_FLOAT, 2, shape, NULL), 0);
    input->data = x;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *node = &network->nodes[i];
        struct net_tensor *inputs[2] = {NULL}, *outputs[1] = {&values[node->outputs[0]]};
        for (size_t j = 0; j < node->input_count; j++)
            inputs[j] = &values[node->inputs[j]];
        struct net_call call = {.node = node, .inputs = inputs, .outputs = outputs};
        assert_int_equal(net_call_evaluate(&call, NULL), 0);
    }
    return values;
}

static void free_values(const struct ivon_network *network, struct net_tensor *values)
{
    for (size_t i = 0; i < network->node_count; i++)
        free(values[network->nodes[i].outputs[0]].data);
    free(values);
}

/* Makes a constant a parameter, as binding would; its elements stay where they are. */
static const float *bind(struct ivon_network *network, const char *name)
{
    struct net_value *value = &network->values[graph_find(network, name)];
    value->role = NET_PARAMETER;
    value->parameter = network->parameter_count++;
    return value->tensor.data;
}

/* With `bound`, what depends on "w" and "b" alone is computed once, and stays through all runs. */
static void check(bool products, bool bound, uint64_t seed)
{
    state = seed;
    struct ivon_network *network = random_graph(products);
    const float *parameters[2] = {NULL};
    for (int i = 0; i < 2 && bound; i++)
        parameters[i] = bind(network, i ? "b" : "w");
    float x[ROWS * COLUMNS];
    struct net_plan *plan = NULL;
    struct net_tensor shape = {0};
    int64_t extents[] = {ROWS, COLUMNS};
    random_floats(x, ROWS * COLUMNS);
    struct net_tensor *values = evaluate_all(network, x);
    assert_int_equal(net_tensor_set(&shape, NET_FLOAT, 2, extents, NULL), 0);
    assert_int_equal(net_plan_new(&plan, network, &shape, 0, NULL), 0);
    assert_int_equal(net_plan_set_parameters(plan, parameters, NULL), 0);
    for (int run = 0; run < 2; run++) { /* a run must leave no trace in the next */
        const void *inputs[] = {x};
        assert_int_equal(net_plan_run(plan, inputs, NULL), 0);
        for (size_t i = 0; i < network->output_count; i++) {
            const struct net_tensor *expected = &values[network->outputs[i]];
            const struct net_tensor *found = net_plan_output(plan, i);
            assert_int_equal(found->count, expected->count);
            const float *a = found->data, *b = expected->data;
            double scale = 0;
            for (size_t j = 0; j < found->count; j++)
                scale = fmax(scale, fabs((double)b[j]));
            /* Depth makes rounding grow with the values: each product of 6 terms adds 6 2^-23. */
            double tolerance = products ? NODES * 6 * 0x1p-23 * (scale + 1) : 0;
            isfinite(scale) ? outputs_compared++ : outputs_overflown++;
            for (size_t j = 0; j < found->count && isfinite(scale); j++)
                if (!(fabs((double)a[j] - (double)b[j]) <= tolerance))
                    fail_msg("seed %llu, output %zu, element %zu: %.9g, expected %.9g",
                             (unsigned long long)seed, i, j, (double)a[j], (double)b[j]);
        }
    }
    net_plan_free(plan);
    free_values(network, values);
    ivon_network_free(network);
}

static void fused_plans_change_no_bit(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 3000; seed++)
        check(false, seed % 2, seed);
    assert_true(outputs_compared > 100 * outputs_overflown);
}

static void transposed_products_agree(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 1000; seed++)
        check(true, seed % 2, seed);
    assert_true(outputs_compared > 100 * outputs_overflown);
}

/* Convolutions that finish their outputs. */

enum { IMAGES = 3, CHANNELS = 4, EXTENT = 7, PIXELS = EXTENT * EXTENT };

static void add_convolution(struct ivon_network *network, const char *in, const char *out)
{
    int64_t kernel = below(2) ? 3 : 1, groups = below(2) ? 1 : CHANNELS, pad = kernel / 2;
    int64_t shape[] = {CHANNELS, CHANNELS / groups, kernel, kernel}, pads[] = {pad, pad, pad, pad};
    float weights[CHANNELS * CHANNELS * 9];
    char name[16];
    snprintf(name, sizeof name, "%s.w", out);
    random_floats(weights, sizeof weights / sizeof *weights);
    constant(network, name, 4, shape, NET_FLOAT, weights);
    struct net_attribute *attributes = calloc(2, sizeof *attributes);
    assert_non_null(attributes);
    attributes[0] = (struct net_attribute){.name = strdup("pads"), .kind = NET_INTS, .count = 4};
    attributes[0].integers = malloc(sizeof pads);
    assert_non_null(attributes[0].integers);
    memcpy(attributes[0].integers, pads, sizeof pads);
    attributes[1] = (struct net_attribute){
        .name = strdup("group"), .kind = NET_INT, .integer = groups};
    const char *inputs[] = {in, name}, *outputs[] = {out};
    assert_int_equal(graph_add_node(network, net_operator_find(NULL, "Conv", 17), out, inputs, 2,
                                    outputs, 1, attributes, 2, NULL),
                     0);
}

static void add_step(struct ivon_network *network, const char *in, const char *before,
                     const char *out)
{
    static const char *const unary[] = {"Relu", "Tanh", "Neg", "Identity"};
    const char *norm[] = {in, "scale", "scale", "bias", "variance"}, *clip[] = {in, "low", "high"};
    const char *outputs[] = {out};
    switch (below(7)) {
    case 0:
        add(network, unary[below(4)], in, NULL, out);
        break;
    case 1:
        if (below(3) == 0) /* the chain as the second operand */
            add(network, below(2) ? "Add" : "Sub", before, in, out);
        else
            add(network, below(2) ? "Add" : "Sub", in, below(2) ? before : "high", out);
        break;
    case 2:
        assert_int_equal(graph_add_node(network, net_operator_find(NULL, "Clip", 17), out, clip, 3,
                                        outputs, 1, NULL, 0, NULL),
                         0);
        break;
    case 3:
    case 4:
        assert_int_equal(graph_add_node(network, net_operator_find(NULL, "BatchNormalization", 17),
                                        out, norm, 5, outputs, 1, NULL, 0, NULL),
                         0);
        break;
    default:
        add_convolution(network, in, out);
    }
}

static struct ivon_network *convolution_graph(void)
{
    struct ivon_network *network;
    static char names[NODES + 1][8];
    int64_t shape[] = {-1, CHANNELS, EXTENT, EXTENT}, channels[] = {CHANNELS};
    const float scale[] = {1, -2, 0.5F, 0.3F}, variance[] = {1, 2, 3, 0.5F}, low = -1, high = 1.5F;
    assert_int_equal(graph_new(&network, "convolutions", NULL), 0);
    assert_int_equal(graph_add_input(network, "v0", NET_FLOAT, 4, shape, NULL), 0);
    constant(network, "scale", 1, channels, NET_FLOAT, scale);
    constant(network, "bias", 1, channels, NET_FLOAT, scale);
    constant(network, "variance", 1, channels, NET_FLOAT, variance);
    constant(network, "low", 0, NULL, NET_FLOAT, &low);
    constant(network, "high", 0, NULL, NET_FLOAT, &high);
    for (int i = 0; i <= NODES; i++)
        snprintf(names[i], sizeof names[i], "v%d", i);
    for (int i = 0; i < NODES; i++)
        add_step(network, names[i], names[i > 2 ? (size_t)i - below(3) : 0], names[i + 1]);
    assert_int_equal(graph_add_output(network, names[NODES], NULL), 0);
    assert_int_equal(graph_add_output(network, names[NODES / 2], NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
    return network;
}

static void count_observed(void *context, const struct net_call *call)
{
    (void)call;
    ++*(size_t *)context;
}

/* A plan that keeps every value joins no steps. One that is observed does not, either. */
static void convolutions_finish_their_outputs(void **unused)
{
    (void)unused;
    size_t joined = 0, observed = 0, norms = 0;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        state = seed;
        struct ivon_network *network = convolution_graph();
        float x[IMAGES * CHANNELS * PIXELS];
        const void *inputs[] = {x};
        struct net_plan *plans[2] = {NULL};
        struct net_tensor shape = {0};
        int64_t extents[] = {IMAGES, CHANNELS, EXTENT, EXTENT};
        random_floats(x, sizeof x / sizeof *x);
        assert_int_equal(net_tensor_set(&shape, NET_FLOAT, 4, extents, NULL), 0);
        assert_int_equal(plan_new(&plans[0], network, NULL, &shape, PLAN_KEEP_ALL, 0, NULL), 0);
        assert_int_equal(net_plan_new(&plans[1], network, &shape, 0, NULL), 0);
        for (size_t i = 0; i < network->node_count; i++) {
            joined += plans[1]->steps[i].kind == PLAN_JOINED;
            norms += network->nodes[i].op->flags & NET_BATCH_NORM ? 1 : 0;
        }
        assert_int_equal(net_plan_run(plans[0], inputs, NULL), 0);
        for (int run = 0; run < 3; run++) {
            assert_int_equal(
                net_plan_observe(plans[1], run == 1 ? count_observed : NULL, &observed, NULL), 0);
            assert_int_equal(net_plan_run(plans[1], inputs, NULL), 0);
            for (size_t i = 0; i < 2; i++)
                assert_memory_equal(net_plan_output(plans[1], i)->data,
                                    net_plan_output(plans[0], i)->data, sizeof x);
        }
        net_plan_free(plans[0]);
        net_plan_free(plans[1]);
        ivon_network_free(network);
    }
    assert_true(joined > 1000);
    assert_int_equal(observed, norms);
}

/* Gelu as it is exported: by erf, whose x is divided by √2 or multiplied by 1/√2, or by tanh. */

enum { GELU_COUNT = 4001 };

static void number(struct ivon_network *network, const char *name, float value)
{
    constant(network, name, 0, NULL, NET_FLOAT, &value);
}

static struct ivon_network *gelu_network(int form)
{
    struct ivon_network *network;
    int64_t shape[] = {GELU_COUNT};
    assert_int_equal(graph_new(&network, "gelu", NULL), 0);
    assert_int_equal(graph_add_input(network, "x", NET_FLOAT, 1, shape, NULL), 0);
    number(network, "root", form == 0 ? 0x1.6a09e6p+0F : 0x1.6a09e6p-1F);
    number(network, "three", 3);
    number(network, "cubic", 0.044715F);
    number(network, "outer", 0x1.988454p-1F);
    number(network, "one", 1);
    number(network, "half", 0.5F);
    if (form < 2) {
        add(network, form ? "Mul" : "Div", form ? "root" : "x", form ? "x" : "root", "scaled");
        add(network, "Erf", "scaled", NULL, "bent");
    } else {
        add(network, "Pow", "x", "three", "power");
        add(network, "Mul", "power", "cubic", "small");
        add(network, "Add", "x", "small", "sum");
        add(network, "Mul", "sum", "outer", "scaled");
        add(network, "Tanh", "scaled", NULL, "bent");
    }
    add(network, "Add", "bent", "one", "gate");
    add(network, "Mul", "x", "half", "less");
    add(network, "Mul", "less", "gate", "f");
    assert_int_equal(graph_add_output(network, "f", NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
    return network;
}

static double gelu_exact(double x, int form)
{
    double u = sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
    return x / 2 * (form < 2 ? erfc(-x / sqrt(2)) : 1 + tanh(u));
}

/* The gate is within 11 2^-24 of the nodes', which gate.c derives, and these within 6 2^-24; the
   products with x/2 are rounded once more. What is infinite or no number stays so. */
static void gates_are_one_function(void **unused)
{
    (void)unused;
    float x[GELU_COUNT];
    for (int i = 0; i < GELU_COUNT; i++)
        x[i] = (float)(i - GELU_COUNT / 2) / 200.0F;
    x[0] = -INFINITY, x[1] = INFINITY, x[2] = NAN, x[3] = -1e30F, x[4] = 1e30F, x[5] = -0.0F;
    for (int form = 0; form < 3; form++) {
        struct ivon_network *network = gelu_network(form);
        const struct net_tensor input = {
            .type = NET_FLOAT, .rank = 1, .shape = {GELU_COUNT}, .count = GELU_COUNT};
        const void *inputs[] = {x};
        struct net_plan *plan, *kept;
        assert_int_equal(net_plan_new(&plan, network, &input, 0, NULL), 0);
        assert_int_equal(plan_new(&kept, network, NULL, &input, PLAN_KEEP_ALL, 0, NULL), 0);
        assert_int_equal(net_plan_run(plan, inputs, NULL), 0);
        assert_int_equal(net_plan_run(kept, inputs, NULL), 0);
        size_t steps = 0, links = 0;
        for (size_t i = 0; i < network->node_count; i++) {
            bool runs = plan->steps[i].kind != PLAN_DROPPED;
            steps += runs;
            links += runs ? plan->steps[i].chain.link_count : 0;
        }
        assert_int_equal(steps, 2);
        assert_true(links <= 3);
        const float *y = net_plan_output(plan, 0)->data, *nodes = net_plan_output(kept, 0)->data;
        for (int i = 0; i < GELU_COUNT; i++) {
            double size = fabs((double)x[i]) / 2;
            if (!isfinite(size) || size > 1e20) {
                assert_true(nodes[i] == y[i] || (isnan(nodes[i]) && isnan(y[i])));
                continue;
            }
            assert_true(fabs((double)y[i] - (double)nodes[i]) <= size * 13 * 0x1p-24);
            assert_true(fabs((double)y[i] - gelu_exact((double)x[i], form)) <= size * 8 * 0x1p-24);
        }
        net_plan_free(plan);
        net_plan_free(kept);
        ivon_network_free(network);
    }
}

/* Linear layers: a product, a bias on either side of the sum, alone or before other steps. */
static struct ivon_network *linear_network(void)
{
    enum { WIDTH = 40 };
    float w[WIDTH * WIDTH], b[WIDTH];
    int64_t shape[] = {2, 5, WIDTH};
    struct ivon_network *network;
    assert_int_equal(graph_new(&network, "linear", NULL), 0);
    assert_int_equal(graph_add_input(network, "x", NET_FLOAT, 3, shape, NULL), 0);
    random_floats(w, WIDTH * WIDTH);
    constant(network, "w", 2, (int64_t[]){WIDTH, WIDTH}, NET_FLOAT, w);
    random_floats(b, WIDTH);
    constant(network, "b", 1, (int64_t[]){WIDTH}, NET_FLOAT, b);
    constant(network, "c", 3, (int64_t[]){1, 1, WIDTH}, NET_FLOAT, b);
    constant(network, "short", 1, (int64_t[]){1}, NET_FLOAT, b);
    add(network, "MatMul", "x", "w", "product");
    add(network, "Add", "product", "b", "linear");
    add(network, "Tanh", "linear", NULL, "bent");
    add(network, "MatMul", "bent", "w", "second");
    add(network, "Add", "c", "second", "shifted");
    add(network, "Add", "shifted", "x", "residual");
    add(network, "MatMul", "residual", "w", "third");
    add(network, "Add", "third", "b", "f");
    add(network, "MatMul", "f", "w", "fourth");
    add(network, "Add", "fourth", "short", "g");
    assert_int_equal(graph_add_output(network, "residual", NULL), 0);
    assert_int_equal(graph_add_output(network, "f", NULL), 0);
    assert_int_equal(graph_add_output(network, "g", NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
    return network;
}

static void products_add_a_bias(void **unused)
{
    (void)unused;
    float x[400];
    random_floats(x, 400);
    struct ivon_network *network = linear_network();
    const struct net_tensor input = {
        .type = NET_FLOAT, .rank = 3, .shape = {2, 5, 40}, .count = 400};
    const void *inputs[] = {x};
    struct net_plan *plan, *kept;
    assert_int_equal(net_plan_new(&plan, network, &input, 0, NULL), 0);
    assert_int_equal(plan_new(&kept, network, NULL, &input, PLAN_KEEP_ALL, 0, NULL), 0);
    assert_int_equal(net_plan_run(plan, inputs, NULL), 0);
    assert_int_equal(net_plan_run(kept, inputs, NULL), 0);
    for (size_t i = 0; i < 3; i++)
        assert_memory_equal(net_plan_output(plan, i)->data, net_plan_output(kept, i)->data,
                            sizeof x);
    size_t joined = 0;
    for (size_t i = 0; i < network->node_count; i++)
        joined += plan->steps[i].kind == PLAN_CALL && plan->steps[i].input_count == 3;
    assert_int_equal(joined, 3);
    net_plan_free(plan);
    net_plan_free(kept);
    ivon_network_free(network);
}

enum { TRANSPOSED_ROWS = 48, TRANSPOSED_TERMS = 40, TRANSPOSED_COLUMNS = 24 };

static struct ivon_network *transposing_network(void)
{
    float w[TRANSPOSED_COLUMNS * TRANSPOSED_TERMS] = {0};
    struct ivon_network *network;
    assert_int_equal(graph_new(&network, "transposing", NULL), 0);
    assert_int_equal(
        graph_add_input(network, "x", NET_FLOAT, 2, (int64_t[]){-1, TRANSPOSED_TERMS}, NULL), 0);
    constant(network, "w", 2, (int64_t[]){TRANSPOSED_COLUMNS, TRANSPOSED_TERMS}, NET_FLOAT, w);
    add(network, "Transpose", "w", NULL, "columns");
    add(network, "MatMul", "x", "columns", "y");
    assert_int_equal(graph_add_output(network, "y", NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
    for (size_t i = 0; i < network->value_count; i++)
        if (network->values[i].role == NET_CONSTANT)
            network->values[i].role = NET_PARAMETER;
    return network;
}

/* A product of many rows has the parameters transposed before it; one of fewer reads them as they
   are. Sums of 40 products of numbers up to 1 are below 40, and round by 2^-19 40 times. */
static void parameters_are_transposed_once(void **unused)
{
    (void)unused;
    float x[TRANSPOSED_ROWS * TRANSPOSED_TERMS], w[TRANSPOSED_COLUMNS * TRANSPOSED_TERMS];
    struct ivon_network *network = transposing_network();
    random_floats(x, TRANSPOSED_ROWS * TRANSPOSED_TERMS);
    for (int64_t rows = TRANSPOSED_ROWS - 1; rows <= TRANSPOSED_ROWS; rows++) {
        const struct net_tensor input = {.type = NET_FLOAT,
                                         .rank = 2,
                                         .shape = {rows, TRANSPOSED_TERMS},
                                         .count = (size_t)rows * TRANSPOSED_TERMS};
        struct net_plan *plan;
        assert_int_equal(net_plan_new(&plan, network, &input, 0, NULL), 0);
        assert_int_equal(plan->steps[0].kind, rows == TRANSPOSED_ROWS ? PLAN_CALL : PLAN_DROPPED);
        for (int draw = 0; draw < 2; draw++) {
            random_floats(w, TRANSPOSED_COLUMNS * TRANSPOSED_TERMS);
            assert_int_equal(net_plan_set_parameters(plan, (const float *const[]){w}, NULL), 0);
            assert_int_equal(net_plan_run(plan, (const void *const[]){x}, NULL), 0);
            const float *y = net_plan_output(plan, 0)->data;
            for (int64_t i = 0; i < rows * TRANSPOSED_COLUMNS; i++) {
                double sum = 0;
                for (int64_t q = 0; q < TRANSPOSED_TERMS; q++)
                    sum += (double)x[i / TRANSPOSED_COLUMNS * TRANSPOSED_TERMS + q] *
                           (double)w[i % TRANSPOSED_COLUMNS * TRANSPOSED_TERMS + q];
                assert_true(fabs((double)y[i] - sum) <= TRANSPOSED_TERMS * 0x1p-19);
            }
        }
        net_plan_free(plan);
    }
    ivon_network_free(network);
}

static void memory_is_reused_and_bounded(void **unused)
{
    (void)unused;
    struct ivon_network *network;
    struct ivon_error error = {0};
    struct net_plan *plan = NULL;
    struct net_tensor shape = {0};
    int64_t extents[] = {1000, 100}, free_rows[] = {-1, 100};
    assert_int_equal(graph_new(&network, "deep", NULL), 0);
    assert_int_equal(graph_add_input(network, "v0", NET_FLOAT, 2, free_rows, NULL), 0);
    for (int i = 0; i < 50; i++) {
        char from[16], to[16];
        snprintf(from, sizeof from, "v%d", i);
        snprintf(to, sizeof to, "v%d", i + 1);
        add(network, i % 2 ? "Transpose" : "Softmax", from, NULL, to);
    }
    assert_int_equal(graph_add_output(network, "v50", NULL), 0);
    assert_int_equal(graph_finish(network, NULL), 0);
    assert_int_equal(net_tensor_set(&shape, NET_FLOAT, 2, extents, NULL), 0);
    assert_int_equal(net_plan_new(&plan, network, &shape, 0, NULL), 0);
    /* Two tensors of 400 kB alternate. */
    assert_true(net_plan_memory(plan) < 3 * 400000);
    net_plan_free(plan);
    plan = NULL;
    assert_int_equal(net_plan_new(&plan, network, &shape, 100000, &error), IVON_ERROR_MEMORY);
    assert_null(plan);
    assert_non_null(strstr(error.message, "deep: one run takes"));
    ivon_network_free(network);
}

/* What a shape rule sets aside counts before it is there: extents come from files. */
static void tables_are_bounded(void **unused)
{
    (void)unused;
    struct ivon_error error = {0};
    struct net_call call = {.memory = 1000};
    assert_null(net_prepare(&call, 1001, &error));
    assert_int_equal(error.code, IVON_ERROR_MEMORY);
    assert_non_null(net_prepare(&call, 1000, NULL));
    free(call.prepared);
    call = (struct net_call){.memory = 0};
    assert_non_null(net_prepare(&call, 1001, NULL));
    free(call.prepared);
}

static void refuses_circles_and_loose_ends(void **unused)
{
    (void)unused;
    struct ivon_network *network;
    struct ivon_error error = {0};
    assert_int_equal(graph_new(&network, "circle", NULL), 0);
    add(network, "Add", "a", "b", "c");
    add(network, "Neg", "c", NULL, "b");
    assert_int_equal(graph_add_output(network, "c", NULL), 0);
    assert_int_equal(graph_finish(network, &error), IVON_ERROR_DATA);
    ivon_network_free(network);
    assert_int_equal(graph_new(&network, "loose", NULL), 0);
    add(network, "Neg", "nowhere", NULL, "c");
    assert_int_equal(graph_add_output(network, "c", NULL), 0);
    assert_int_equal(graph_finish(network, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message,
                        "loose: node 'c' takes value 'nowhere', which nothing defines");
    const char *inputs[] = {"c"};
    assert_int_equal(graph_add_node(network, net_operator_find(NULL, "Neg", 17), "again", inputs, 1,
                                    inputs, 1, NULL, 0, &error),
                     IVON_ERROR_DATA);
    assert_string_equal(error.message, "loose: value 'c' is defined twice");
    ivon_network_free(network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_plans_change_no_bit),
        cmocka_unit_test(transposed_products_agree),
        cmocka_unit_test(convolutions_finish_their_outputs),
        cmocka_unit_test(gates_are_one_function),
        cmocka_unit_test(products_add_a_bias),
        cmocka_unit_test(parameters_are_transposed_once),
        cmocka_unit_test(memory_is_reused_and_bounded),
        cmocka_unit_test(tables_are_bounded),
        cmocka_unit_test(refuses_circles_and_loose_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
