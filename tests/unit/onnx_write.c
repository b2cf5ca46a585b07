/* Networks written as ONNX files: read back they are the same, and ONNX's own checker agrees. */
#include <unistd.h>

#include "tests/unit/files.h"
#include "tests/unit/onnx_builder.h"
#include "net/graph/operator.h"
#include "train/architecture/architecture.h"

static const char *const specifications[] = {
    "linear:7,3",    "mlp:8,16,4",        "mlp:8,16,8,4,gelu",         "lenet:1,10,28",  "resnet20",
    "resnet20-bn:7", "textcnn:50,16,8,2", "transformer:50,8,12,2,3,4", "gpt:50,8,12,2,2"};

enum { SPECIFICATIONS = sizeof specifications / sizeof *specifications };

static struct architecture *make(const char *specification)
{
    struct architecture *architecture = NULL;
    struct ivon_error error = {0};
    if (architecture_new(&architecture, specification, 0, &error))
        fail_msg("%s", error.message);
    return architecture;
}

struct bytes {
    void *data;
    size_t size;
};

static struct bytes write_network(const struct ivon_network *network, struct ivon_source *weights)
{
    struct bytes bytes = {0};
    struct ivon_error error = {0};
    if (ivon_onnx_write(&bytes.data, &bytes.size, network, weights, &error))
        fail_msg("%s", error.message);
    return bytes;
}

static struct ivon_network *read_network(struct bytes bytes)
{
    struct ivon_network *network = NULL;
    struct ivon_error error = {0};
    if (ivon_onnx_from_memory(&network, "written", bytes.data, bytes.size, &error))
        fail_msg("%s", error.message);
    return network;
}

/* Comparing networks, by names: numbers of values differ. */

static const char *name_of(const struct ivon_network *network, size_t value)
{
    return value == NET_NONE ? "" : network->values[value].name;
}

static void compare_tensors(const struct net_tensor *a, const struct net_tensor *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->rank, b->rank);
    for (int i = 0; i < a->rank; i++)
        assert_int_equal(a->shape[i], b->shape[i]);
    assert_int_equal(a->data != NULL, b->data != NULL);
    if (a->data)
        assert_memory_equal(a->data, b->data, a->count * net_type_size(a->type));
}

static void compare_attributes(const struct net_attribute *a, const struct net_attribute *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->integer, b->integer);
    assert_true((float)a->number == (float)b->number); /* which is what a file holds */
    assert_int_equal(a->count, b->count);
    if (a->kind == NET_TEXT)
        assert_string_equal(a->text, b->text);
    for (size_t i = 0; i < a->count; i++)
        assert_true(a->kind == NET_INTS ? a->integers[i] == b->integers[i]
                                        : (float)a->numbers[i] == (float)b->numbers[i]);
    compare_tensors(&a->tensor, &b->tensor);
}

static void compare_nodes(const struct ivon_network *a, const struct net_node *from,
                          const struct ivon_network *b, const struct net_node *to)
{
    assert_ptr_equal(from->op, to->op);
    assert_string_equal(from->name, to->name);
    assert_int_equal(from->input_count, to->input_count);
    assert_int_equal(from->output_count, to->output_count);
    assert_int_equal(from->attribute_count, to->attribute_count);
    for (size_t i = 0; i < from->input_count; i++)
        assert_string_equal(name_of(a, from->inputs[i]), name_of(b, to->inputs[i]));
    for (size_t i = 0; i < from->output_count; i++)
        assert_string_equal(name_of(a, from->outputs[i]), name_of(b, to->outputs[i]));
    for (size_t i = 0; i < from->attribute_count; i++)
        compare_attributes(&from->attributes[i], &to->attributes[i]);
}

static void compare_networks(const struct ivon_network *a, const struct ivon_network *b)
{
    assert_int_equal(a->input_count, b->input_count);
    assert_int_equal(a->output_count, b->output_count);
    assert_int_equal(a->node_count, b->node_count);
    for (size_t i = 0; i < a->input_count; i++) {
        assert_string_equal(name_of(a, a->inputs[i]), name_of(b, b->inputs[i]));
        compare_tensors(&a->values[a->inputs[i]].tensor, &b->values[b->inputs[i]].tensor);
    }
    for (size_t i = 0; i < a->output_count; i++)
        assert_string_equal(name_of(a, a->outputs[i]), name_of(b, b->outputs[i]));
    for (size_t i = 0; i < a->node_count; i++)
        compare_nodes(a, &a->nodes[i], b, &b->nodes[i]);
    for (size_t i = 0; i < b->value_count; i++) {
        size_t same = graph_find(a, b->values[i].name);
        assert_true(same != NET_NONE);
        assert_int_equal(a->values[same].role, b->values[i].role);
        if (b->values[i].role == NET_CONSTANT)
            compare_tensors(&a->values[same].tensor, &b->values[i].tensor);
    }
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < SPECIFICATIONS; i++) {
        struct architecture *architecture = make(specifications[i]);
        struct bytes first = write_network(architecture->network, NULL);
        struct bytes again = write_network(architecture->network, NULL);
        struct ivon_network *network = read_network(first);
        compare_networks(architecture->network, network);
        assert_int_equal(first.size, again.size);
        assert_memory_equal(first.data, again.data, first.size);
        free(again.data);
        again = write_network(network, NULL);
        assert_int_equal(first.size, again.size);
        assert_memory_equal(first.data, again.data, first.size);
        free(again.data);
        free(first.data);
        ivon_network_free(network);
        architecture_free(architecture);
    }
}

/* A checkpoint for an architecture, its numbers counting up. */
struct weights {
    struct ivon_source *source;
    float **data;
    size_t count;
};

static struct weights weights_for(const struct architecture *architecture)
{
    struct weights weights = {.count = architecture->tensor_count};
    struct ivon_tensor *tensors = calloc(weights.count, sizeof *tensors);
    struct ivon_header header = ivon_header_empty();
    weights.data = calloc(weights.count, sizeof *weights.data);
    for (size_t i = 0; i < weights.count; i++) {
        const struct architecture_tensor *tensor = &architecture->tensors[i];
        tensors[i] = (struct ivon_tensor){
            .name = tensor->name, .part = tensor->part, .dtype = IVON_F32, .rank = tensor->rank};
        memcpy(tensors[i].shape, tensor->shape, sizeof tensor->shape);
        weights.data[i] = malloc(tensor->count * sizeof **weights.data);
        for (size_t j = 0; j < tensor->count; j++)
            weights.data[i][j] = (float)(i + j);
    }
    assert_int_equal(ivon_source_from_memory(&weights.source, "w.h5", &header, tensors,
                                             (const void *const *)weights.data, weights.count,
                                             NULL),
                     0);
    free(tensors);
    return weights;
}

static void weights_release(struct weights *weights)
{
    ivon_source_close(weights->source);
    for (size_t i = 0; i < weights->count; i++)
        free(weights->data[i]);
    free(weights->data);
}

/* Bound or not, a network with weights holds them, and takes its data alone. */
static void weights_become_initializers(void **state)
{
    (void)state;
    for (size_t i = 0; i < SPECIFICATIONS; i++)
        for (int bound = 0; bound < 2; bound++) {
            struct architecture *architecture = make(specifications[i]);
            struct weights weights = weights_for(architecture);
            struct ivon_unbound unbound;
            if (bound)
                assert_int_equal(
                    ivon_network_bind(architecture->network, weights.source, NULL, &unbound, NULL),
                    0);
            struct bytes bytes = write_network(architecture->network, weights.source);
            struct ivon_network *network = read_network(bytes);
            assert_int_equal(network->input_count, 1);
            assert_int_equal(network->values[network->inputs[0]].tensor.shape[0], -1);
            for (size_t t = 0; t < architecture->tensor_count; t++) {
                const struct architecture_tensor *tensor = &architecture->tensors[t];
                const struct net_value *value = &network->values[graph_find(network, tensor->name)];
                assert_int_equal(value->role, NET_CONSTANT);
                /* Without binding, buffers are the graph's own. */
                if (tensor->part == IVON_MEAN || bound)
                    assert_memory_equal(value->tensor.data, weights.data[t],
                                        tensor->count * sizeof(float));
            }
            ivon_network_free(network);
            free(bytes.data);
            bytes = write_network(architecture->network, NULL);
            network = read_network(bytes); /* parameters are inputs, bound or not */
            size_t means = 0;
            for (size_t t = 0; t < architecture->tensor_count; t++)
                means += architecture->tensors[t].part == IVON_MEAN;
            assert_int_equal(network->input_count, 1 + means);
            ivon_network_free(network);
            free(bytes.data);
            weights_release(&weights);
            architecture_free(architecture);
        }
}

static void weights_of_another_shape_are_refused(void **state)
{
    (void)state;
    struct architecture *other = make("linear:7,4"), *architecture = make("linear:7,3");
    struct weights weights = weights_for(other);
    struct bytes bytes = {0};
    struct ivon_error error = {0};
    assert_int_equal(
        ivon_onnx_write(&bytes.data, &bytes.size, architecture->network, weights.source, &error),
        IVON_ERROR_DATA);
    assert_string_equal(error.message, "w.h5: tensor 'fc.weight' is float of shape 4x7, linear:7,3 "
                                       "takes float of shape 3x7");
    assert_null(bytes.data);
    weights_release(&weights);
    architecture_free(other);
    architecture_free(architecture);
}

/* Every kind of attribute and of element, left-out inputs and outputs, and a later opset. */
static void every_kind_is_written(void **state)
{
    (void)state;
    static const float number = 0.1F;
    static const int64_t shape[] = {3};
    struct wire graph = {0}, listed = attribute_of("value_floats", IS_FLOATS);
    struct wire mode = attribute_of("mode", IS_STRING), filled = attribute_of("value", IS_TENSOR);
    struct wire epsilon = attribute_of("epsilon", IS_FLOAT), kind = tensor_of("", FLOAT, 1, shape);
    struct wire made = node_of("Constant", NULL, "made"), pad = node_of("Pad", "x", "padded");
    struct wire where = node_of("Where", "mask", "y"), clip = node_of("Clip", "padded", "clipped");
    struct wire norm = node_of("LayerNormalization", "clipped", "normal");
    struct wire mask = tensor_of("mask", BOOL, 1, shape),
                pads = tensor_of("pads", INT64, 1, (const int64_t[]){2});
    wire_float(&listed, ATTRIBUTE_FLOATS, 0.5F);
    wire_float(&listed, ATTRIBUTE_FLOATS, number);
    wire_float(&listed, ATTRIBUTE_FLOATS, -1);
    wire_float(&epsilon, ATTRIBUTE_F, number);
    wire_text(&mode, ATTRIBUTE_S, "edge");
    wire_bytes(&kind, TENSOR_RAW, ((const float[]){1, 2, number}), 3 * sizeof(float));
    wire_message(&filled, ATTRIBUTE_T, &kind);
    wire_message(&made, NODE_ATTRIBUTE, &listed);
    wire_text(&pad, NODE_INPUT, "pads");
    wire_message(&pad, NODE_ATTRIBUTE, &mode);
    wire_text(&clip, NODE_INPUT, ""); /* no lower bound */
    wire_text(&clip, NODE_INPUT, "most");
    wire_text(&norm, NODE_INPUT, "scale");
    wire_message(&norm, NODE_ATTRIBUTE, &epsilon);
    wire_text(&where, NODE_INPUT, "normal");
    wire_text(&where, NODE_INPUT, "made");
    struct wire scale = node_of("Constant", NULL, "scale");
    struct wire most = tensor_of("most", FLOAT, 0, NULL);
    wire_message(&scale, NODE_ATTRIBUTE, &filled);
    wire_bytes(&most, TENSOR_RAW, &number, sizeof number);
    wire_bytes(&mask, TENSOR_RAW, ((const unsigned char[]){1, 0, 1}), 3);
    wire_bytes(&pads, TENSOR_RAW, ((const int64_t[]){1, 1}), 2 * sizeof(int64_t));
    add_input(&graph, "x", FLOAT, 1, (const int64_t[]){1});
    wire_message(&graph, GRAPH_INITIALIZER, &mask);
    wire_message(&graph, GRAPH_INITIALIZER, &pads);
    wire_message(&graph, GRAPH_INITIALIZER, &most);
    wire_message(&graph, GRAPH_NODE, &pad);
    wire_message(&graph, GRAPH_NODE, &clip);
    wire_message(&graph, GRAPH_NODE, &scale);
    wire_message(&graph, GRAPH_NODE, &norm);
    wire_message(&graph, GRAPH_NODE, &made);
    wire_message(&graph, GRAPH_NODE, &where);
    add_output(&graph, "y");
    struct wire model = {0};
    struct ivon_network *network, *again;
    struct ivon_error error = {0};
    add_opset(&model, "", 17);
    wire_message(&model, MODEL_GRAPH, &graph);
    if (open_model(&network, &model, &error))
        fail_msg("%s", error.message);
    struct bytes bytes = write_network(network, NULL);
    again = read_network(bytes);
    compare_networks(network, again);
    write_file("kinds.onnx", bytes.data, bytes.size);
    free(bytes.data);
    ivon_network_free(again);
    ivon_network_free(network);
}

static void free_extents_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct wire model = good_model(); /* splits its batch of 3 */
    struct ivon_network *network;
    struct ivon_error error = {0};
    struct bytes bytes = {0};
    assert_int_equal(open_model(&network, &model, &error), 0);
    assert_int_equal(ivon_onnx_write(&bytes.data, &bytes.size, network, NULL, &error),
                     IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "test.onnx: "));
    assert_null(bytes.data);
    ivon_network_free(network);
}

/* The last test: what the others wrote, and every architecture with and without weights. */
static void the_checker_of_onnx_agrees(void **state)
{
    (void)state;
    if (system("/usr/bin/python3 -c 'import onnx' 2> /dev/null") != 0) {
        print_message("skipped: no onnx to check with\n");
        skip();
    }
    for (size_t i = 0; i < SPECIFICATIONS; i++)
        for (int with = 0; with < 2; with++) {
            char name[32];
            struct architecture *architecture = make(specifications[i]);
            struct weights weights = weights_for(architecture);
            struct bytes bytes = write_network(architecture->network, with ? weights.source : NULL);
            snprintf(name, sizeof name, "%zu-%d.onnx", i, with);
            write_file(name, bytes.data, bytes.size);
            free(bytes.data);
            weights_release(&weights);
            architecture_free(architecture);
        }
    assert_int_equal(system("/usr/bin/python3 -W ignore -c '\n"
                            "import glob, onnx\n"
                            "paths = glob.glob(\"*.onnx\")\n"
                            "assert len(paths) == 19, paths\n"
                            "for path in paths:\n"
                            "    model = onnx.load(path)\n"
                            "    onnx.checker.check_model(model, full_check=True)\n"
                            "    names = [node.op_type for node in model.graph.node]\n"
                            "    opset = 14 if \"BatchNormalization\" in names else 13\n"
                            "    opset = 17 if path == \"kinds.onnx\" else opset\n"
                            "    assert model.opset_import[0].version == opset, path\n"
                            "    assert model.ir_version == (7 if opset < 15 else 8), path\n"
                            "    if path == \"kinds.onnx\":\n"
                            "        continue\n"
                            "    for value in (model.graph.input[0], model.graph.output[0]):\n"
                            "        shape = value.type.tensor_type.shape.dim\n"
                            "        assert shape[0].dim_param == \"n\", (path, value.name)\n"
                            "    inputs = len(model.graph.input)\n"
                            "    assert (inputs == 1) == path.endswith(\"-1.onnx\"), path\n"
                            "'"),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(weights_become_initializers),
        cmocka_unit_test(weights_of_another_shape_are_refused),
        cmocka_unit_test(every_kind_is_written),
        cmocka_unit_test(free_extents_that_do_not_fit_are_refused),
        cmocka_unit_test(the_checker_of_onnx_agrees),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
