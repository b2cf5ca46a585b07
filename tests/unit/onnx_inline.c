/* What ONNX files have within their graphs: functions, branches and loops become part of one
   network. Each case says what the network must compute, of inputs that keep every sum exact. */
#include <stdio.h>

#include "net/plan/plan.h"
#include "tests/unit/onnx_builder.h"

enum { GRAPH_FUNCTIONS = 25, FUNCTION_NAME = 1, FUNCTION_INPUT = 4, FUNCTION_OUTPUT = 5 };
enum { FUNCTION_ATTRIBUTE = 6, FUNCTION_NODE = 7, FUNCTION_OPSET = 9, FUNCTION_DOMAIN = 10 };
enum { FUNCTION_DEFAULT = 11, OVERLOAD_OF_NODE = 8, OVERLOAD_OF_FUNCTION = 13 };

/* A node of inputs and outputs that are separated by blanks; "-" is one left out. */
static struct wire node_from(const char *op, const char *inputs, const char *outputs)
{
    struct wire node = {0};
    char text[256], *rest;
    const char *const lists[] = {inputs, outputs};
    for (size_t i = 0; i < 2; i++) {
        strcpy(text, lists[i]);
        for (char *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest))
            wire_text(&node, i ? NODE_OUTPUT : NODE_INPUT, strcmp(at, "-") == 0 ? "" : at);
    }
    wire_text(&node, NODE_OPERATOR, op);
    return node;
}

static void put_node(struct wire *graph, const char *op, const char *inputs, const char *outputs)
{
    struct wire node = node_from(op, inputs, outputs);
    wire_message(graph, GRAPH_NODE, &node);
}

static void put_tensor(struct wire *graph, const char *name, int type, size_t rank,
                       const int64_t *shape, const void *data, size_t size)
{
    struct wire tensor = tensor_of(name, type, rank, shape);
    wire_bytes(&tensor, TENSOR_RAW, data, size);
    wire_message(graph, GRAPH_INITIALIZER, &tensor);
}

static void put_integer(struct wire *graph, const char *name, int64_t value)
{
    put_tensor(graph, name, INT64, 0, NULL, &value, sizeof value);
}

static void put_truth(struct wire *graph, const char *name, unsigned char value)
{
    put_tensor(graph, name, BOOL, 0, NULL, &value, sizeof value);
}

static void put_float(struct wire *graph, const char *name, float value)
{
    put_tensor(graph, name, FLOAT, 0, NULL, &value, sizeof value);
}

static void put_graph(struct wire *node, const char *name, struct wire *graph)
{
    struct wire attribute = attribute_of(name, IS_GRAPH);
    wire_message(&attribute, ATTRIBUTE_G, graph);
    wire_message(node, NODE_ATTRIBUTE, &attribute);
}

/* A graph's input without type: the body of a loop, whose types nobody reads. */
static void put_formal(struct wire *graph, const char *name)
{
    struct wire info = {0};
    wire_text(&info, 1, name);
    wire_message(graph, GRAPH_INPUT, &info);
}

/* Runs a model of one input "x", rows × 3, and one output; releases both. */
static void expect_values(struct wire *model, int64_t rows, const float *x, size_t count,
                          const float *expected)
{
    struct ivon_network *network;
    struct net_plan *plan = NULL;
    struct ivon_error error = {0};
    struct net_tensor input = {0};
    _Alignas(64) float aligned[12];
    memcpy(aligned, x, (size_t)rows * 3 * sizeof *x);
    if (open_model(&network, model, &error))
        fail_msg("%s", error.message);
    assert_int_equal(net_tensor_set(&input, NET_FLOAT, 2, (const int64_t[]){rows, 3}, NULL), 0);
    if (net_plan_new(&plan, network, &input, 0, &error) ||
        net_plan_run(plan, (const void *[]){aligned}, &error))
        fail_msg("%s", error.message);
    const struct net_tensor *y = net_plan_output(plan, 0);
    assert_int_equal(y->count, count);
    for (size_t i = 0; i < count; i++)
        if (((const float *)y->data)[i] != expected[i])
            fail_msg("element %zu is %g, expected %g", i, (double)((const float *)y->data)[i],
                     (double)expected[i]);
    net_plan_free(plan);
    ivon_network_free(network);
}

static struct wire begin_graph(void)
{
    struct wire graph = {0};
    add_input(&graph, "x", FLOAT, 2, (const int64_t[]){-1, 3});
    return graph;
}

static const float row[] = {1, -2, 0.5F};

/* Functions. */

/* twice(a; alpha) = LeakyRelu(a, alpha) + a, with a default for alpha. */
static struct wire function_twice(const char *overload)
{
    struct wire function = {0}, opset = {0};
    wire_text(&function, FUNCTION_NAME, "Twice");
    wire_text(&function, FUNCTION_INPUT, "a");
    wire_text(&function, FUNCTION_OUTPUT, "b");
    wire_text(&function, FUNCTION_ATTRIBUTE, "slope");
    struct wire leaky = node_from("LeakyRelu", "a", "t"),
                attribute = attribute_of("alpha", IS_FLOAT);
    wire_text(&attribute, ATTRIBUTE_REFERENCE, "slope");
    wire_message(&leaky, NODE_ATTRIBUTE, &attribute);
    wire_message(&function, FUNCTION_NODE, &leaky);
    struct wire sum = node_from("Add", "t a", "b");
    wire_message(&function, FUNCTION_NODE, &sum);
    wire_text(&opset, OPSET_DOMAIN, "");
    wire_number(&opset, OPSET_VERSION, 13);
    wire_message(&function, FUNCTION_OPSET, &opset);
    wire_text(&function, FUNCTION_DOMAIN, "own");
    struct wire otherwise = attribute_of("slope", IS_FLOAT);
    wire_float(&otherwise, ATTRIBUTE_F, 0.25F);
    wire_message(&function, FUNCTION_DEFAULT, &otherwise);
    if (overload)
        wire_text(&function, OVERLOAD_OF_FUNCTION, overload);
    return function;
}

static struct wire call_of(const char *op, const char *inputs, const char *outputs)
{
    struct wire node = node_from(op, inputs, outputs);
    wire_text(&node, NODE_DOMAIN, "own");
    return node;
}

static void functions(void **state)
{
    (void)state;
    struct wire graph = begin_graph(), call = call_of("Twice", "x", "t");
    struct wire slope = attribute_of("slope", IS_FLOAT);
    wire_float(&slope, ATTRIBUTE_F, 0.5F);
    wire_message(&call, NODE_ATTRIBUTE, &slope);
    wire_message(&graph, GRAPH_NODE, &call);
    call = call_of("Twice", "t", "y"); /* the same inner names, and the default */
    wire_message(&graph, GRAPH_NODE, &call);
    add_output(&graph, "y");
    struct wire model = model_of(&graph), function = function_twice(NULL);
    wire_message(&model, GRAPH_FUNCTIONS, &function);
    /* -2 → -1 - 2 = -3 → -0.75 - 3 */
    expect_values(&model, 1, row, 3, (const float[]){4, -3.75F, 2});
}

/* A function of a function, whose output is its input, too, and with an input left out. */
static void functions_within(void **state)
{
    (void)state;
    struct wire graph = begin_graph(), call = call_of("Outer", "x", "y same");
    wire_message(&graph, GRAPH_NODE, &call);
    put_node(&graph, "Sub", "y same", "z");
    add_output(&graph, "z");
    struct wire model = model_of(&graph), outer = {0}, function = function_twice("v2");
    wire_text(&outer, FUNCTION_NAME, "Outer");
    wire_text(&outer, FUNCTION_INPUT, "in");
    wire_text(&outer, FUNCTION_INPUT, "bound");
    wire_text(&outer, FUNCTION_OUTPUT, "out");
    wire_text(&outer, FUNCTION_OUTPUT, "in");
    struct wire inner = call_of("Twice", "in", "t"), clip = node_from("Clip", "t bound", "out");
    wire_text(&inner, OVERLOAD_OF_NODE, "v2");
    wire_message(&outer, FUNCTION_NODE, &inner);
    wire_message(&outer, FUNCTION_NODE, &clip);
    wire_text(&outer, FUNCTION_DOMAIN, "own");
    wire_message(&model, GRAPH_FUNCTIONS, &function);
    wire_message(&model, GRAPH_FUNCTIONS, &outer);
    expect_values(&model, 1, row, 3, (const float[]){1, -0.5F, 0.5F});
}

static void functions_refused(void **state)
{
    (void)state;
    struct wire graph = begin_graph(), call = call_of("Twice", "x", "y");
    wire_message(&graph, GRAPH_NODE, &call);
    add_output(&graph, "y");
    struct wire model = model_of(&graph), function = function_twice("other");
    wire_message(&model, GRAPH_FUNCTIONS, &function);
    refuse(&model, "operators that are not supported: own.Twice (1 node, 'y')");
    graph = begin_graph();
    call = call_of("Ever", "x", "y");
    wire_message(&graph, GRAPH_NODE, &call);
    add_output(&graph, "y");
    model = model_of(&graph);
    function = (struct wire){0};
    wire_text(&function, FUNCTION_NAME, "Ever");
    wire_text(&function, FUNCTION_INPUT, "a");
    wire_text(&function, FUNCTION_OUTPUT, "b");
    for (int i = 0; i < 2; i++) {
        call = call_of("Ever", "a", i ? "b" : "t");
        wire_message(&function, FUNCTION_NODE, &call);
    }
    wire_text(&function, FUNCTION_DOMAIN, "own");
    wire_message(&model, GRAPH_FUNCTIONS, &function);
    refuse(&model, "more than 24 functions and subgraphs within one another");
    graph = begin_graph();
    call = call_of("Twice", "x x", "y");
    wire_message(&graph, GRAPH_NODE, &call);
    add_output(&graph, "y");
    model = model_of(&graph);
    function = function_twice(NULL);
    wire_message(&model, GRAPH_FUNCTIONS, &function);
    refuse(&model, "node 'y' (Twice): 2 inputs and 1 outputs, its function has 1 and 1");
}

/* Ten functions, each of ten calls of the next: 10^10 nodes in a kilobyte. */
static void functions_that_explode(void **state)
{
    (void)state;
    struct wire graph = begin_graph(), call = call_of("F0", "x", "y");
    wire_message(&graph, GRAPH_NODE, &call);
    add_output(&graph, "y");
    struct wire model = model_of(&graph);
    for (int f = 0; f < 10; f++) {
        struct wire function = {0};
        char name[8], next[8], input[8], output[8];
        snprintf(name, sizeof name, "F%d", f);
        snprintf(next, sizeof next, "F%d", f + 1);
        wire_text(&function, FUNCTION_NAME, name);
        wire_text(&function, FUNCTION_INPUT, "t0");
        wire_text(&function, FUNCTION_OUTPUT, "t10");
        for (int i = 0; i < 10; i++) {
            snprintf(input, sizeof input, "t%d", i);
            snprintf(output, sizeof output, "t%d", i + 1);
            struct wire node = f == 9 ? node_from("Neg", input, output)
                                      : call_of(next, input, output);
            wire_message(&function, FUNCTION_NODE, &node);
        }
        wire_text(&function, FUNCTION_DOMAIN, "own");
        wire_message(&model, GRAPH_FUNCTIONS, &function);
    }
    refuse(&model, "have more nodes than are supported");
}

/* If. */

/* If(condition) then x + c else Neg(x), with an initializer of one name in both branches. */
static struct wire if_of(const char *condition)
{
    struct wire yes = {0}, no = {0}, node = node_from("If", condition, "y");
    put_float(&yes, "c", 4);
    put_node(&yes, "Add", "x c", "t");
    add_output(&yes, "t");
    put_float(&no, "c", -1);
    put_node(&no, "Mul", "x c", "t");
    add_output(&no, "t");
    put_graph(&node, "then_branch", &yes);
    put_graph(&node, "else_branch", &no);
    return node;
}

static void conditions_of_the_file(void **state)
{
    (void)state;
    for (unsigned char truth = 0; truth < 2; truth++) {
        struct wire graph = begin_graph(), node = if_of("c0");
        put_truth(&graph, "truth", truth);
        put_node(&graph, "Not", "truth", "n");
        put_node(&graph, "Not", "n", "c0");
        wire_message(&graph, GRAPH_NODE, &node);
        add_output(&graph, "y");
        struct wire model = model_of(&graph);
        expect_values(&model, 1, row, 3,
                      truth ? (const float[]){5, 2, 4.5F} : (const float[]){-1, 2, -0.5F});
    }
}

/* The number of rows decides; the branch that is not taken has no meaning at these shapes. */
static void conditions_of_shapes(void **state)
{
    (void)state;
    static const float two_rows[] = {1, -2, 0.5F, 3, 4, -1};
    for (int64_t rows = 1; rows < 3; rows++) {
        struct wire graph = begin_graph(), yes = {0}, no = {0}, node = node_from("If", "one", "y");
        const int64_t axis = 0, first = 0;
        put_tensor(&graph, "axes", INT64, 1, (const int64_t[]){1}, &axis, sizeof axis);
        put_integer(&graph, "first", first);
        put_integer(&graph, "1", 1);
        put_node(&graph, "Shape", "x", "shape");
        put_node(&graph, "Gather", "shape first", "rows");
        put_node(&graph, "Equal", "rows 1", "one");
        put_node(&yes, "Squeeze", "x axes", "t"); /* fails for two rows */
        add_output(&yes, "t");
        put_node(&no, "Foo", "x", "u"); /* known to nobody */
        put_node(&no, "Identity", "x", "t");
        add_output(&no, "t");
        put_graph(&node, "then_branch", &yes);
        put_graph(&node, "else_branch", &no);
        wire_message(&graph, GRAPH_NODE, &node);
        add_output(&graph, "y");
        struct wire model = model_of(&graph);
        expect_values(&model, rows, two_rows, (size_t)rows * 3, two_rows);
    }
}

/* A branch within a branch: of what is not taken, nothing is computed, whatever it decides. */
static void conditions_within(void **state)
{
    (void)state;
    struct wire graph = begin_graph(), yes = {0}, no = {0}, inner_yes = {0}, inner_no = {0};
    struct wire inner = node_from("If", "small", "t"), node = node_from("If", "one", "y");
    const int64_t axes[] = {0};
    put_tensor(&graph, "axes", INT64, 1, (const int64_t[]){1}, axes, sizeof axes);
    put_integer(&graph, "first", 0);
    put_integer(&graph, "1", 1);
    put_node(&graph, "Shape", "x", "shape");
    put_node(&graph, "Gather", "shape first", "rows");
    put_node(&graph, "Equal", "rows 1", "one");
    put_node(&yes, "Squeeze", "x axes", "flat");
    put_node(&yes, "Size", "flat", "size");
    put_node(&yes, "Less", "1 size", "small");
    put_node(&inner_yes, "Neg", "flat", "u");
    add_output(&inner_yes, "u");
    put_node(&inner_no, "Identity", "flat", "u");
    add_output(&inner_no, "u");
    put_graph(&inner, "then_branch", &inner_yes);
    put_graph(&inner, "else_branch", &inner_no);
    wire_message(&yes, GRAPH_NODE, &inner);
    add_output(&yes, "t");
    put_node(&no, "Abs", "x", "t");
    add_output(&no, "t");
    put_graph(&node, "then_branch", &yes);
    put_graph(&node, "else_branch", &no);
    wire_message(&graph, GRAPH_NODE, &node);
    add_output(&graph, "y");
    struct wire model = model_of(&graph), again = {0};
    wire_raw(&again, model.data, model.size);
    expect_values(&model, 1, row, 3, (const float[]){-1, 2, -0.5F});
    expect_values(&again, 2, (const float[]){1, -2, 3, -4, 5, 6}, 6,
                  (const float[]){1, 2, 3, 4, 5, 6});
}

static void conditions_of_data(void **state)
{
    (void)state;
    for (int sign = -1; sign < 2; sign += 2) {
        struct wire graph = begin_graph(), node = if_of("positive");
        put_float(&graph, "0", 0);
        put_node(&graph, "ReduceMax", "x", "largest");
        put_node(&graph, "Less", "0 largest", "positive");
        wire_message(&graph, GRAPH_NODE, &node);
        add_output(&graph, "y");
        struct wire model = model_of(&graph);
        const float x[] = {(float)sign, (float)sign * 2, (float)sign * 3};
        expect_values(&model, 1, x, 3,
                      sign > 0 ? (const float[]){5, 6, 7} : (const float[]){1, 2, 3});
    }
}

static void conditions_refused(void **state)
{
    (void)state;
    struct wire graph = begin_graph(), node = node_from("If", "x", "y");
    wire_message(&graph, GRAPH_NODE, &node);
    add_output(&graph, "y");
    struct wire model = model_of(&graph);
    refuse(&model, "node 'y' (If): it has not two branches");
    graph = begin_graph();
    node = node_from("If", "", "y");
    wire_message(&graph, GRAPH_NODE, &node);
    add_output(&graph, "y");
    model = model_of(&graph);
    refuse(&model, "node 'y' (If): it has not one condition");
}

/* Loop and Scan. */

/* Adds i + 1/2 to s in round i, and gathers s. Output "y" is s after the last round,
   "all" what is gathered. */
static struct wire loop_of(const char *trips, const char *condition, const char *goes_on)
{
    struct wire body = {0}, node = {0};
    char inputs[64];
    snprintf(inputs, sizeof inputs, "%s %s x", trips, condition);
    node = node_from("Loop", inputs, "y all");
    put_formal(&body, "i");
    put_formal(&body, "go");
    put_formal(&body, "s");
    put_float(&body, "half", 0.5F);
    put_integer(&body, "most", 1);
    put_node(&body, "Cast", "i", "round");
    struct wire cast = node_from("Cast", "i", "f"), to = attribute_of("to", IS_INT);
    wire_number(&to, ATTRIBUTE_I, FLOAT);
    wire_message(&cast, NODE_ATTRIBUTE, &to);
    wire_message(&body, GRAPH_NODE, &cast);
    put_node(&body, "Add", "f half", "step");
    put_node(&body, "Add", "s step", "next");
    put_node(&body, "Less", "i most", "early");
    add_output(&body, goes_on);
    add_output(&body, "next");
    add_output(&body, "next");
    put_graph(&node, "body", &body);
    return node;
}

static struct wire loop_model(const char *trips, const char *condition, const char *goes_on,
                              const char *output)
{
    struct wire graph = begin_graph(), node = loop_of(trips, condition, goes_on);
    put_integer(&graph, "three", 3);
    put_integer(&graph, "none", 0);
    put_integer(&graph, "many", (int64_t)1 << 40);
    put_truth(&graph, "yes", 1);
    put_node(&graph, "Size", "x", "size");
    wire_message(&graph, GRAPH_NODE, &node);
    add_output(&graph, output);
    return model_of(&graph);
}

static void loops(void **state)
{
    (void)state;
    struct wire model = loop_model("three", "-", "go", "y");
    expect_values(&model, 1, row, 3, (const float[]){5.5F, 2.5F, 5}); /* + .5 + 1.5 + 2.5 */
    model = loop_model("three", "yes", "early", "y");                 /* two rounds */
    expect_values(&model, 1, row, 3, (const float[]){3, 0, 2.5F});
    model = loop_model("many", "yes", "early", "all");
    expect_values(&model, 1, row, 6, (const float[]){1.5F, -1.5F, 1, 3, 0, 2.5F});
    model = loop_model("none", "yes", "go", "y");
    expect_values(&model, 1, row, 3, row);
}

static void loops_refused(void **state)
{
    (void)state;
    struct wire model = loop_model("size", "-", "go", "y");
    refuse(&model, "Loop (1 node, 'y'; its number of rounds depends on the data; nn.EmbeddingBag");
    model = loop_model("many", "-", "go", "y");
    refuse(&model, "Loop (1 node, 'y'; more rounds than are supported)");
    model = loop_model("none", "-", "go", "all");
    refuse(&model, "it has no round, and gathers values of all rounds");
}

/* s ← s + slice of x along the second axis, from the back; gathers s in a new second axis. */
static void scans(void **state)
{
    (void)state;
    struct wire graph = begin_graph(), body = {0}, node = node_from("Scan", "start x", "y all");
    const float start = 8;
    put_tensor(&graph, "start", FLOAT, 1, (const int64_t[]){1}, &start, sizeof start);
    put_formal(&body, "s");
    put_formal(&body, "slice");
    put_node(&body, "Add", "s slice", "next");
    put_node(&body, "Identity", "next", "kept");
    add_output(&body, "next");
    add_output(&body, "kept");
    put_graph(&node, "body", &body);
    static const char *const names[] = {"scan_input_axes", "scan_input_directions",
                                        "scan_output_axes"};
    for (size_t i = 0; i < 3; i++) {
        struct wire list = attribute_of(names[i], IS_INTS);
        wire_number(&list, ATTRIBUTE_INTS, 1);
        wire_message(&node, NODE_ATTRIBUTE, &list);
    }
    struct wire count = attribute_of("num_scan_inputs", IS_INT);
    wire_number(&count, ATTRIBUTE_I, 1);
    wire_message(&node, NODE_ATTRIBUTE, &count);
    wire_message(&graph, GRAPH_NODE, &node);
    add_output(&graph, "all");
    struct wire model = model_of(&graph);
    expect_values(&model, 2, (const float[]){1, 2, 3, 4, 5, 6}, 6,
                  (const float[]){11, 13, 14, 14, 19, 23});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions),
        cmocka_unit_test(functions_within),
        cmocka_unit_test(functions_refused),
        cmocka_unit_test(functions_that_explode),
        cmocka_unit_test(conditions_of_the_file),
        cmocka_unit_test(conditions_of_shapes),
        cmocka_unit_test(conditions_within),
        cmocka_unit_test(conditions_of_data),
        cmocka_unit_test(conditions_refused),
        cmocka_unit_test(loops),
        cmocka_unit_test(loops_refused),
        cmocka_unit_test(scans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
