/*
 * Attention that a graph writes as nodes, as exporters do, fused into one step, against the nodes
 * evaluated one by one. Both take the same steps; scores and sums of the matrix products are summed
 * in another order: a score, of SIZE terms below 1 times a factor below 1, differs by
 * (SIZE + 2) 2^-23 SIZE, a probability relatively by twice that, and an output, a mean of values
 * below 1, by that and 2 KEYS 2^-24.
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

enum { EXAMPLES = 2, HEADS = 3, SIZE = 5, VALUES = 4 };

static double tolerance(int64_t keys)
{
    return 2 * (SIZE + 2) * 0x1p-23 * SIZE + 2 * (double)keys * 0x1p-24;
}

static uint64_t state;

static float random_float(void)
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (float)(state >> 40) / 8388608.0F - 1;
}

struct trial_graph {
    struct ivon_network *network;
    int64_t queries, keys;
    int made; /* values, for their names */
    char last[16];
};

static void constant(struct trial_graph *graph, const char *name, int rank, const int64_t *shape,
                     enum net_type type, const void *data)
{
    struct net_tensor tensor = {0};
    assert_int_equal(net_tensor_set(&tensor, type, rank, shape, NULL), 0);
    assert_int_equal(net_tensor_allocate(&tensor, NULL), 0);
    memcpy(tensor.data, data, tensor.count * net_type_size(type));
    assert_int_equal(graph_add_constant(graph->network, name, &tensor, NULL), 0);
}

static void number(struct trial_graph *graph, const char *name, float value)
{
    constant(graph, name, 0, NULL, NET_FLOAT, &value);
}

/* Adds a node; its output is graph->last. */
static void node(struct trial_graph *graph, const char *op, const char *a, const char *b,
                 const char *c)
{
    char name[16];
    const char *inputs[] = {a, b, c}, *outputs[] = {name};
    snprintf(name, sizeof name, "v%d", graph->made++);
    size_t count = c ? 3 : b ? 2 : 1;
    assert_int_equal(graph_add_node(graph->network, net_operator_find(NULL, op, 17), name, inputs,
                                    count, outputs, 1, NULL, 0, NULL),
                     0);
    memcpy(graph->last, name, sizeof name);
}

static void transpose(struct trial_graph *graph, const char *a, const int64_t order[4])
{
    char name[16];
    const char *inputs[] = {a}, *outputs[] = {name};
    struct net_attribute *perm = calloc(1, sizeof *perm);
    perm->name = strdup("perm");
    perm->kind = NET_INTS;
    perm->count = 4;
    perm->integers = calloc(4, sizeof *perm->integers);
    memcpy(perm->integers, order, 4 * sizeof *order);
    snprintf(name, sizeof name, "v%d", graph->made++);
    assert_int_equal(graph_add_node(graph->network, net_operator_find(NULL, "Transpose", 17), name,
                                    inputs, 1, outputs, 1, perm, 1, NULL),
                     0);
    memcpy(graph->last, name, sizeof name);
}

static void copy_name(char to[16], const struct trial_graph *graph)
{
    memcpy(to, graph->last, sizeof graph->last);
}

/* Inputs by rows, examples × positions × heads × size, or by heads; `which` has what varies. */
static void add_products(struct trial_graph *graph, unsigned which, char q[16], char k[16],
                         char v[16])
{
    static const int64_t swap[] = {0, 2, 1, 3}, columns[] = {0, 2, 3, 1}, last[] = {0, 1, 3, 2};
    bool by_row = which & 1;
    int64_t extents[3][2] = {{graph->queries, SIZE}, {graph->keys, SIZE}, {graph->keys, VALUES}};
    const char *const names[] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++) {
        int64_t row[] = {EXAMPLES, extents[i][0], HEADS, extents[i][1]};
        int64_t head[] = {EXAMPLES, HEADS, extents[i][0], extents[i][1]};
        assert_int_equal(
            graph_add_input(graph->network, names[i], NET_FLOAT, 4, by_row ? row : head, NULL), 0);
    }
    snprintf(q, 16, "q");
    snprintf(v, 16, "v");
    if (by_row) {
        transpose(graph, "q", swap);
        copy_name(q, graph);
        transpose(graph, "v", swap);
        copy_name(v, graph);
    }
    if (by_row && which & 2) {
        transpose(graph, "k", columns);
    } else {
        transpose(graph, "k", swap);
        transpose(graph, by_row ? graph->last : "k", last);
    }
    copy_name(k, graph);
}

static void add_masks(struct trial_graph *graph)
{
    int64_t plane[] = {1, 1, graph->queries, graph->keys};
    int64_t padding[] = {EXAMPLES, 1, 1, graph->keys};
    size_t count = (size_t)(graph->queries * graph->keys);
    float *bias = calloc(count, sizeof *bias);
    unsigned char *causal = calloc(count, 1), *kept = calloc((size_t)(EXAMPLES * graph->keys), 1);
    for (size_t i = 0; i < count; i++) {
        bias[i] = random_float();
        causal[i] = i % (size_t)graph->keys > i / (size_t)graph->keys;
    }
    for (int64_t i = 0; i < EXAMPLES * graph->keys; i++)
        kept[i] = i % graph->keys == 0 || random_float() > 0;
    constant(graph, "bias", 4, plane, NET_FLOAT, bias);
    constant(graph, "causal", 4, plane, NET_BOOLEAN, causal);
    constant(graph, "kept", 4, padding, NET_BOOLEAN, kept);
    memset(kept, 0, (size_t)graph->keys); /* an example without keys */
    constant(graph, "kept_none", 4, padding, NET_BOOLEAN, kept);
    free(bias);
    free(causal);
    free(kept);
    number(graph, "four", 4);
    number(graph, "quarter", 0.25F);
    number(graph, "minus", -1e9F);
    number(graph, "infinite", -INFINITY);
    number(graph, "zero", 0);
}

enum { EDIT_KINDS = 8, GUARDED = 7 };

/* What exporters do to scores. */
static void edit(struct trial_graph *graph, int kind)
{
    char scores[16];
    copy_name(scores, graph);
    switch (kind) {
    case 0: /* GPT-2 */
        node(graph, "Div", graph->last, "four", NULL);
        node(graph, "Where", "causal", "minus", graph->last);
        break;
    case 1: /* BERT */
        node(graph, "Mul", graph->last, "quarter", NULL);
        node(graph, "Add", graph->last, "bias", NULL);
        break;
    case 2:
        node(graph, "Mul", "quarter", graph->last, NULL);
        node(graph, "Where", "kept", graph->last, "minus");
        node(graph, "Add", "bias", graph->last, NULL);
        break;
    case 3: /* both */
        node(graph, "Where", "causal", "infinite", graph->last);
        node(graph, "Where", "kept", graph->last, "minus");
        break;
    case 4:
        break;
    case 5: /* a cap */
        node(graph, "Mul", graph->last, "quarter", NULL);
        node(graph, "Tanh", graph->last, NULL, NULL);
        node(graph, "Mul", graph->last, "four", NULL);
        node(graph, "Where", "causal", "infinite", graph->last);
        break;
    case 6: /* a mask that is computed */
        node(graph, "Where", "kept", "zero", "minus");
        node(graph, "Add", scores, graph->last, NULL);
        break;
    default: /* of PyTorch's own function */
        node(graph, "Where", "kept_none", graph->last, "infinite");
        break;
    }
}

static struct trial_graph build(unsigned which, int kind, int64_t queries, int64_t keys)
{
    struct trial_graph graph = {.queries = queries, .keys = keys};
    char q[16], k[16], v[16], p[16];
    assert_int_equal(graph_new(&graph.network, "attention", NULL), 0);
    add_masks(&graph);
    add_products(&graph, which, q, k, v);
    node(&graph, "MatMul", q, k, NULL);
    edit(&graph, kind);
    node(&graph, "Softmax", graph.last, NULL, NULL);
    copy_name(p, &graph);
    if (kind == GUARDED) {
        node(&graph, "IsNaN", p, NULL, NULL);
        node(&graph, "Where", graph.last, "zero", p);
    }
    if (which & 4)
        node(&graph, "Dropout", graph.last, NULL, NULL);
    node(&graph, "MatMul", graph.last, v, NULL);
    if (which & 8)
        transpose(&graph, graph.last, (const int64_t[]){0, 2, 1, 3});
    assert_int_equal(graph_add_output(graph.network, graph.last, NULL), 0);
    assert_int_equal(graph_finish(graph.network, NULL), 0);
    return graph;
}

static struct net_tensor *evaluate_all(const struct ivon_network *network,
                                       const struct net_tensor *given)
{
    struct net_tensor *values = calloc(network->value_count, sizeof *values);
    for (size_t i = 0; i < network->value_count; i++)
        values[i] = network->values[i].tensor;
    for (size_t i = 0; i < network->input_count; i++)
        values[network->inputs[i]] = given[i];
    for (size_t i = 0; i < network->node_count; i++) {
        const struct net_node *made = &network->nodes[i];
        struct net_tensor *inputs[3] = {NULL}, *outputs[1] = {&values[made->outputs[0]]};
        for (size_t j = 0; j < made->input_count; j++)
            inputs[j] = &values[made->inputs[j]];
        struct net_call call = {.node = made, .inputs = inputs, .outputs = outputs};
        assert_int_equal(net_call_evaluate(&call, NULL), 0);
    }
    return values;
}

static void give(const struct ivon_network *network, struct net_tensor *given, const void **data)
{
    for (size_t i = 0; i < network->input_count; i++) {
        const struct net_tensor *from = &network->values[network->inputs[i]].tensor;
        given[i] = *from;
        assert_int_equal(net_tensor_set(&given[i], NET_FLOAT, from->rank, from->shape, NULL), 0);
        assert_int_equal(net_tensor_allocate(&given[i], NULL), 0);
        for (size_t j = 0; j < given[i].count; j++)
            ((float *)given[i].data)[j] = random_float();
        data[i] = given[i].data;
    }
}

static size_t fused_steps(const struct net_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->network->node_count; i++)
        count += plan->steps[i].kind == PLAN_ATTENTION;
    return count;
}

static void compare(const struct net_tensor *found, const struct net_tensor *expected, double bound,
                    unsigned which, int kind)
{
    assert_true(net_same_shape(found, expected));
    for (size_t i = 0; i < found->count; i++) {
        double a = (double)((const float *)found->data)[i];
        double b = (double)((const float *)expected->data)[i];
        if (!(fabs(a - b) <= bound) && !(isnan(a) && isnan(b)))
            fail_msg("graph %u, edit %d: element %zu is %.9g, expected %.9g", which, kind, i, a, b);
    }
}

static void check(unsigned which, int kind, int64_t queries, int64_t keys)
{
    struct trial_graph graph = build(which, kind, queries, keys);
    struct ivon_network *network = graph.network;
    struct net_tensor given[3] = {{0}};
    const void *data[3];
    struct net_plan *plan;
    struct ivon_error error = {0};
    give(network, given, data);
    struct net_tensor *values = evaluate_all(network, given);
    if (net_plan_new(&plan, network, given, 0, &error))
        fail_msg("%s", error.message);
    if (fused_steps(plan) != 1)
        fail_msg("graph %u, edit %d is not fused", which, kind);
    assert_int_equal(net_plan_set_parameters(plan, NULL, NULL), 0);
    for (int run = 0; run < 2; run++) {
        assert_int_equal(net_plan_run(plan, data, NULL), 0);
        compare(net_plan_output(plan, 0), &values[network->outputs[0]], tolerance(keys), which,
                kind);
    }
    net_plan_free(plan);
    for (size_t i = 0; i < network->node_count; i++)
        free(values[network->nodes[i].outputs[0]].data);
    free(values);
    for (int i = 0; i < 3; i++)
        free(given[i].data);
    ivon_network_free(network);
}

static void fused_attention_agrees(void **unused)
{
    (void)unused;
    for (unsigned which = 0; which < 16; which++)
        for (int kind = 0; kind < EDIT_KINDS; kind++) {
            state = which * EDIT_KINDS + (unsigned)kind + 1;
            check(which, kind, 7, 9);
            check(which, kind, 40, 40);
        }
    check(0, 0, 70, 1100); /* several tiles */
    check(15, 5, 1100, 1100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fused_attention_agrees)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
