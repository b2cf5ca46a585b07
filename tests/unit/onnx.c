/* ONNX files: what is read, and what is refused for what it is. */
#include "net/graph/operator.h"
#include "tests/unit/onnx_builder.h"

/* A graph whose output is `node`'s, "y". */
static void refuse_node(struct wire *node, const char *why)
{
    struct wire graph = {0};
    add_input(&graph, "x", FLOAT, 1, (const int64_t[]){3});
    wire_message(&graph, GRAPH_NODE, node);
    add_output(&graph, "y");
    struct wire model = model_of(&graph);
    refuse(&model, why);
}

/* What is read. */

static void check_good(const struct ivon_network *network)
{
    assert_int_equal(network->input_count, 1);
    assert_int_equal(network->output_count, 1);
    assert_int_equal(network->node_count, 2);
    const struct net_value *x = &network->values[network->inputs[0]];
    assert_string_equal(x->name, "x");
    assert_int_equal(x->tensor.rank, 3);
    assert_memory_equal(x->tensor.shape, ((const int64_t[]){-1, -1, 4}), 3 * sizeof(int64_t));
    assert_string_equal(network->values[network->outputs[0]].name, "y");
    const struct net_node *transpose = &network->nodes[0], *split = &network->nodes[1];
    size_t count;
    const int64_t *perm = net_attribute_integers(transpose, "perm", &count);
    assert_string_equal(transpose->op->name, "Transpose");
    assert_string_equal(transpose->name, "turn");
    assert_int_equal(count, 3);
    assert_memory_equal(perm, ((const int64_t[]){2, 1, 0}), 3 * sizeof(int64_t));
    assert_string_equal(split->op->name, "Split");
    assert_int_equal(net_attribute_integer(split, "axis", 0), -1);
    assert_int_equal(split->output_count, 2);
    assert_true(split->outputs[0] == NET_NONE);
    assert_int_equal(network->values[split->inputs[1]].role, NET_CONSTANT);
    assert_memory_equal(network->values[split->inputs[1]].tensor.data, ((const int64_t[]){1, 2}),
                        2 * sizeof(int64_t));
}

static void reads_a_graph(void **state)
{
    (void)state;
    struct ivon_network *network;
    struct ivon_error error = {0};
    struct wire model = good_model();
    int code = open_model(&network, &model, &error);
    if (code)
        fail_msg("%s", error.message);
    check_good(network);
    ivon_network_free(network);
}

static void reads_a_graph_from_a_checkpoint(void **state)
{
    (void)state;
    struct ivon_network *network = NULL;
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    struct ivon_header header = ivon_header_empty();
    struct wire model = good_model();
    static const float mean = 1;
    struct ivon_tensor tensors[2] = {
        {.name = "w", .part = IVON_MEAN, .dtype = IVON_F32, .rank = 1, .shape = {1}},
        {.name = "model.onnx",
         .part = IVON_GRAPH,
         .dtype = IVON_U8,
         .rank = 1,
         .shape = {(int64_t)model.size}}};
    const void *data[2] = {&mean, model.data};
    assert_int_equal(ivon_source_from_memory(&source, "m.h5", &header, tensors, data, 2, &error),
                     0);
    assert_int_equal(ivon_onnx_from_checkpoint(&network, source, &error), 0);
    check_good(network);
    assert_string_equal(network->path, "m.h5/model.onnx");
    ivon_network_free(network);
    ivon_source_close(source);
    assert_int_equal(ivon_source_from_memory(&source, "m.h5", &header, tensors, data, 1, &error),
                     0);
    assert_int_equal(ivon_onnx_from_checkpoint(&network, source, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "m.h5: holds no graph ('model.onnx')");
    ivon_source_close(source);
    free(model.data);
}

/* The elements of constant "t", which the graph's output is. */
static void check_constant(struct wire *tensor, enum net_type type, const void *expected)
{
    struct ivon_network *network;
    struct ivon_error error = {0};
    struct wire graph = {0};
    wire_message(&graph, GRAPH_INITIALIZER, tensor);
    add_output(&graph, "t");
    struct wire model = model_of(&graph);
    int code = open_model(&network, &model, &error);
    if (code)
        fail_msg("%s", error.message);
    const struct net_tensor *t = &network->values[graph_find(network, "t")].tensor;
    assert_int_equal(t->type, type);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->count, 4);
    assert_memory_equal(t->data, expected, 4 * net_type_size(type));
    ivon_network_free(network);
}

static const int64_t small[4] = {0, 1, -1, 127}, natural[4] = {0, 1, 255, 127};

static void reads_raw_data(void **state)
{
    (void)state;
    static const double doubles[4] = {1.5, -2, 0, 65504};
    static const uint16_t halves[4] = {0x3e00, 0xc000, 0, 0x7bff};
    static const uint16_t bfloats[4] = {0x3fc0, 0xc000, 0, 0x4780};
    static const float from_bfloats[4] = {1.5F, -2, 0, 65536};
    static const int8_t i8[4] = {0, 1, -1, 127};
    static const int16_t i16[4] = {0, 1, -1, 127};
    static const int32_t i32[4] = {0, 1, -1, 127};
    static const uint8_t u8[4] = {0, 1, 255, 127}, truths[4] = {0, 1, 1, 1};
    static const uint16_t u16[4] = {0, 1, 255, 127};
    static const uint32_t u32[4] = {0, 1, 255, 127};
    static const uint64_t u64[4] = {0, 1, UINT64_MAX, (uint64_t)1 << 63};
    static const int64_t cut[4] = {0, 1, INT64_MAX, INT64_MAX};
    static const int64_t large[4] = {INT64_MIN, INT64_MAX, 0, -1};
    static const struct {
        int stored;
        enum net_type type;
        size_t size;
        const void *data, *expected;
    } cases[] = {
        {FLOAT, NET_FLOAT, 4, floats, floats},   {DOUBLE, NET_FLOAT, 8, doubles, floats},
        {FLOAT16, NET_FLOAT, 2, halves, floats}, {BFLOAT16, NET_FLOAT, 2, bfloats, from_bfloats},
        {INT8, NET_INTEGER, 1, i8, small},       {INT16, NET_INTEGER, 2, i16, small},
        {INT32, NET_INTEGER, 4, i32, small},     {INT64, NET_INTEGER, 8, large, large},
        {UINT8, NET_INTEGER, 1, u8, natural},    {UINT16, NET_INTEGER, 2, u16, natural},
        {UINT32, NET_INTEGER, 4, u32, natural},  {UINT64, NET_INTEGER, 8, u64, cut},
        {BOOL, NET_BOOLEAN, 1, u8, truths}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wire tensor = square(cases[i].stored);
        wire_bytes(&tensor, TENSOR_RAW, cases[i].data, 4 * cases[i].size);
        check_constant(&tensor, cases[i].type, cases[i].expected);
        tensor = square(cases[i].stored);
        wire_bytes(&tensor, TENSOR_RAW, cases[i].data, 4 * cases[i].size - 1);
        refuse_tensor(&tensor, "its data are not the 4 elements of its shape");
    }
}

static void reads_typed_data(void **state)
{
    (void)state;
    static const double doubles[4] = {1.5, -2, 0, 65504};
    static const int64_t halves[4] = {0x3e00, 0xc000, 0, 0x7bff};
    static const int64_t bfloats[4] = {0x3fc0, 0xc000, 0, 0x4780};
    static const float from_bfloats[4] = {1.5F, -2, 0, 65536};
    static const int64_t truths[4] = {0, 1, 2, 1};
    static const uint8_t booleans[4] = {0, 1, 1, 1};
    static const struct {
        int stored;
        enum net_type type;
        unsigned field;
        const int64_t *data;
        const void *expected;
    } cases[] = {{INT8, NET_INTEGER, TENSOR_INT32, small, small},
                 {INT16, NET_INTEGER, TENSOR_INT32, small, small},
                 {INT32, NET_INTEGER, TENSOR_INT32, small, small},
                 {INT64, NET_INTEGER, TENSOR_INT64, small, small},
                 {UINT8, NET_INTEGER, TENSOR_INT32, natural, natural},
                 {UINT16, NET_INTEGER, TENSOR_INT32, natural, natural},
                 {UINT32, NET_INTEGER, TENSOR_UINT64, natural, natural},
                 {UINT64, NET_INTEGER, TENSOR_UINT64, natural, natural},
                 {BOOL, NET_BOOLEAN, TENSOR_INT32, truths, booleans},
                 {FLOAT16, NET_FLOAT, TENSOR_INT32, halves, floats},
                 {BFLOAT16, NET_FLOAT, TENSOR_INT32, bfloats, from_bfloats}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t count = 3; count < 6; count++) {
            struct wire tensor = square(cases[i].stored), packed = {0};
            for (size_t j = 0; j < count; j++)
                wire_varint(&packed, (uint64_t)cases[i].data[j % 4]);
            wire_message(&tensor, cases[i].field, &packed);
            if (count == 4)
                check_constant(&tensor, cases[i].type, cases[i].expected);
            else
                refuse_tensor(&tensor, "its data are not the 4 elements of its shape");
        }
    struct wire tensor = square(FLOAT);
    wire_bytes(&tensor, TENSOR_FLOAT, floats, sizeof floats);
    check_constant(&tensor, NET_FLOAT, floats);
    tensor = square(DOUBLE);
    wire_bytes(&tensor, TENSOR_DOUBLE, doubles, sizeof doubles);
    check_constant(&tensor, NET_FLOAT, floats);
    tensor = square(FLOAT); /* in the wrong field */
    wire_bytes(&tensor, TENSOR_DOUBLE, doubles, sizeof doubles);
    refuse_tensor(&tensor, "its data are not the 4 elements");
    tensor = square(FLOAT);
    refuse_tensor(&tensor, "its data are not the 4 elements");
}

static void reads_attributes(void **state)
{
    (void)state;
    struct wire graph = {0}, model, node = node_of("Constant", NULL, "a");
    struct wire attribute = attribute_of("value_floats", IS_FLOATS);
    wire_float(&attribute, ATTRIBUTE_FLOATS, 1.5F);
    wire_float(&attribute, ATTRIBUTE_FLOATS, -2);
    wire_message(&node, NODE_ATTRIBUTE, &attribute);
    wire_message(&graph, GRAPH_NODE, &node);
    node = node_of("Constant", NULL, "b");
    attribute = attribute_of("value_float", IS_FLOAT);
    wire_float(&attribute, ATTRIBUTE_F, 0.1F);
    wire_message(&node, NODE_ATTRIBUTE, &attribute);
    wire_message(&graph, GRAPH_NODE, &node);
    node = node_of("Constant", NULL, "c");
    attribute = attribute_of("value", IS_TENSOR);
    struct wire tensor = square(FLOAT);
    wire_bytes(&tensor, TENSOR_RAW, floats, sizeof floats);
    wire_message(&attribute, ATTRIBUTE_T, &tensor);
    wire_message(&node, NODE_ATTRIBUTE, &attribute);
    wire_message(&graph, GRAPH_NODE, &node);
    node = node_of("Pad", "c", "d");
    wire_text(&node, NODE_INPUT, "a");
    attribute = attribute_of("mode", IS_STRING);
    wire_bytes(&attribute, ATTRIBUTE_S, "edge", 4);
    wire_message(&node, NODE_ATTRIBUTE, &attribute);
    wire_message(&graph, GRAPH_NODE, &node);
    add_output(&graph, "b");
    add_output(&graph, "d");
    model = model_of(&graph);
    struct ivon_network *network;
    struct ivon_error error = {0};
    if (open_model(&network, &model, &error))
        fail_msg("%s", error.message);
    const struct net_tensor *constants[3];
    for (size_t i = 0; i < 3; i++) {
        const struct net_value *value =
            &network->values[graph_find(network, (char[]){(char)('a' + i), 0})];
        assert_int_equal(value->role, NET_CONSTANT);
        constants[i] = &value->tensor;
    }
    assert_int_equal(constants[0]->rank, 1);
    assert_memory_equal(constants[0]->data, ((const float[]){1.5F, -2}), 2 * sizeof(float));
    assert_int_equal(constants[1]->rank, 0);
    assert_true(*(const float *)constants[1]->data == 0.1F);
    assert_memory_equal(constants[2]->data, floats, sizeof floats);
    const struct net_node *pad =
        &network->nodes[network->values[graph_find(network, "d")].producer];
    assert_string_equal(net_attribute_text(pad, "mode", ""), "edge");
    assert_string_equal(pad->name, "d"); /* after its output, having no name */
    ivon_network_free(network);
}

/* What is refused. */

static void refuses_opsets(void **state)
{
    (void)state;
    static const struct {
        const char *domain;
        int64_t version;
        const char *why; /* null: it is read */
    } cases[] = {{"", 13, NULL},
                 {"ai.onnx", 17, NULL},
                 {"", 7, NULL},
                 {"", 28, NULL},
                 {"", 6,
                  "opset 6, expected 7 to 28: export it again, as by torch.onnx.export(..."
                  ", opset_version=18)"},
                 {"", 29, "opset 29, expected 7 to 28"},
                 {"ai.onnx.ml", 2, "names no opset of ONNX's operators"},
                 {"", INT64_MIN, "expected 7 to 28"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ivon_network *network;
        struct wire graph = {0}, model = {0}, node = node_of("Flatten", "x", "y");
        add_input(&graph, "x", FLOAT, 1, (const int64_t[]){3});
        wire_message(&graph, GRAPH_NODE, &node);
        add_output(&graph, "y");
        wire_message(&model, MODEL_GRAPH, &graph);
        add_opset(&model, "com.example", 1);
        add_opset(&model, cases[i].domain, cases[i].version);
        if (cases[i].why)
            refuse(&model, cases[i].why);
        else
            assert_int_equal(open_model(&network, &model, NULL), 0);
        if (!cases[i].why)
            ivon_network_free(network);
    }
}

/* LayerNormalization is of opset 17, but ONNX Runtime writes it into graphs of older ones. */
static void refuses_operators_of_later_opsets(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        int64_t opset;
        const char *why; /* null: it is read */
    } cases[] = {
        {"HardSwish", 13,
         "operators that are not supported: HardSwish (1 node, 'y'; opset 13 does not have "
         "it, opset 14 and later ones do)"},
        {"HardSwish", 14, NULL},
        {"LayerNormalization", 13, NULL},
        {"LayerNormalization", 17, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ivon_network *network;
        struct wire graph = {0}, model = {0}, node = node_of(cases[i].op, "x", "y");
        if (strcmp(cases[i].op, "LayerNormalization") == 0)
            wire_text(&node, NODE_INPUT, "x"); /* its scale */
        add_input(&graph, "x", FLOAT, 1, (const int64_t[]){3});
        wire_message(&graph, GRAPH_NODE, &node);
        add_output(&graph, "y");
        wire_message(&model, MODEL_GRAPH, &graph);
        add_opset(&model, "", cases[i].opset);
        if (cases[i].why)
            refuse(&model, cases[i].why);
        else
            assert_int_equal(open_model(&network, &model, NULL), 0);
        if (!cases[i].why)
            ivon_network_free(network);
    }
}

static void refuses_nodes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *why;
        int type;
    } attributes[] = {{"axis", "attribute 'axis' is texts, expected an integer", IS_STRINGS},
                      {"axis", "attribute 'axis' is of a kind that is not supported", 0},
                      {"axis", "attribute 'axis' is of a kind that is not supported", IS_TENSOR},
                      {"axis", "attribute 'axis' is numbers, expected an integer", IS_FLOATS},
                      {"axes", "attribute 'axes' is not supported", IS_INTS}};
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        struct wire node = node_of("Flatten", "x", "y");
        struct wire attribute = attribute_of(attributes[i].name, attributes[i].type);
        wire_message(&node, NODE_ATTRIBUTE, &attribute);
        refuse_node(&node, attributes[i].why);
    }
    struct wire node = node_of("Gelu", "x", "y");
    wire_text(&node, NODE_DOMAIN, "com.example");
    refuse_node(&node, "operators that are not supported: com.example.Gelu (1 node, 'y')");
    node = node_of("StringNormalizer", "x", "y");
    struct wire attribute = attribute_of("stopwords", IS_STRINGS);
    wire_message(&node, NODE_ATTRIBUTE, &attribute);
    refuse_node(&node, "operators that are not supported: StringNormalizer (1 node, 'y')");
    node = node_of("Flatten", "x", "y");
    attribute = attribute_of("axis", IS_INT);
    wire_text(&attribute, ATTRIBUTE_REFERENCE, "outer");
    wire_message(&node, NODE_ATTRIBUTE, &attribute);
    refuse_node(&node, "attribute 'axis' is of a kind that is not supported");
    node = node_of("Flatten", "nowhere", "y");
    refuse_node(&node, "takes value 'nowhere', which nothing defines");
    node = node_of("Flatten", "y", "y");
    refuse_node(&node, "depends on its own output");
    node = node_of("Flatten", "x", "x");
    refuse_node(&node, "value 'x' is defined twice");
    node = node_of("MaxPool", "x", "");
    wire_text(&node, NODE_OUTPUT, "y");
    refuse_node(&node, "(MaxPool): output 1 has no name, expected one");
    node = (struct wire){0};
    refuse_node(&node, "an output takes value 'y', which nothing defines");
}

static void refuses_graphs(void **state)
{
    (void)state;
    static const struct {
        unsigned field;
        const char *why;
    } fields[] = {{GRAPH_SPARSE, "sparse initializers are not supported"},
                  {GRAPH_QUANTIZATION, "quantized graphs are not supported"},
                  {GRAPH_INPUT, "an input has no name"},
                  {GRAPH_OUTPUT, "takes value '', which nothing defines"},
                  {2, "the graph has no output"}};
    struct wire model = {0}, graph, empty;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        graph = empty = (struct wire){0};
        wire_message(&graph, fields[i].field, &empty);
        model = model_of(&graph);
        refuse(&model, fields[i].why);
    }
    add_opset(&model, "", 13);
    refuse(&model, "holds no graph, expected an ONNX file");
    refuse(&model, "is empty, expected an ONNX file");
    wire_text(&model, 4, "text");
    model.data[1] = 5; /* longer than there are bytes */
    refuse(&model, "no ONNX file, or a damaged one: a field is cut off");
}

static void refuses_inputs(void **state)
{
    (void)state;
    static const struct {
        unsigned kind; /* of the field in TypeProto; 0: none */
        int type;
        size_t rank;
        const char *why;
    } cases[] = {{0, 0, 0, "input 'x' is no tensor"},
                 {4, 0, 0, "input 'x' is no tensor"},
                 {1, STRING, 1, "elements of type string are not supported"},
                 {1, 99, 1, "elements of type unknown are not supported"},
                 {1, -1, 1, "elements of type unknown are not supported"},
                 {1, 0, 1, "elements of type undefined are not supported"},
                 {1, FLOAT, 0, "has no shape"},
                 {1, FLOAT, 9, "has 9 dimensions, at most 8 are supported"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wire graph = {0}, info = {0}, kind = {0}, tensor = {0}, shape = {0};
        wire_text(&info, 1, "x");
        for (size_t j = 0; j < cases[i].rank; j++) {
            struct wire extent = {0};
            wire_message(&shape, 1, &extent);
        }
        if (cases[i].kind == 1)
            wire_number(&tensor, 1, cases[i].type);
        if (cases[i].rank)
            wire_message(&tensor, 2, &shape);
        if (cases[i].kind) {
            wire_message(&kind, cases[i].kind, &tensor);
            wire_message(&info, 2, &kind);
        }
        wire_message(&graph, GRAPH_INPUT, &info);
        add_output(&graph, "x");
        struct wire model = model_of(&graph);
        refuse(&model, cases[i].why);
    }
}

static void refuses_tensors(void **state)
{
    (void)state;
    static const int64_t two_to_62 = INT64_C(1) << 62;
    static const struct {
        int type;
        size_t rank;
        int64_t shape[9];
        const char *why;
    } cases[] = {{FLOAT, 2, {2, -2}, "an extent of -2"},
                 {FLOAT, 2, {two_to_62, 4}, "is too large"},
                 {FLOAT, 1, {INT64_MAX}, "is too large"},
                 {BOOL, 1, {INT64_MAX}, "is too large"},
                 {INT8, 3, {INT64_C(1) << 31, INT64_C(1) << 31, 4}, "is too large"},
                 {FLOAT, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, "9 dimensions, at most 8"},
                 {FLOAT, 2, {1 << 20, 1 << 20}, "its data are not the 1099511627776 elements"},
                 {FLOAT, 2, {0, 2}, "its data are not the 0 elements of its shape"},
                 {STRING, 1, {4}, "elements of type string are not supported"},
                 {COMPLEX64, 1, {2}, "elements of type complex64 are not supported"},
                 {17, 1, {2}, "elements of type float8e4m3fn are not supported"},
                 {99, 1, {2}, "elements of type unknown are not supported"},
                 {-1, 1, {2}, "elements of type unknown are not supported"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wire tensor = tensor_of("t", cases[i].type, cases[i].rank, cases[i].shape);
        wire_bytes(&tensor, TENSOR_RAW, floats, sizeof floats);
        refuse_tensor(&tensor, cases[i].why);
    }
    struct wire tensor = square(FLOAT), segment = {0};
    wire_message(&tensor, TENSOR_SEGMENT, &segment);
    refuse_tensor(&tensor, "is a segment");
    struct wire graph = {0};
    for (int i = 0; i < 2; i++) {
        tensor = square(FLOAT);
        wire_bytes(&tensor, TENSOR_RAW, floats, sizeof floats);
        wire_message(&graph, GRAPH_INITIALIZER, &tensor);
    }
    struct wire model = model_of(&graph);
    refuse(&model, "value 't' is defined twice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_graph),
        cmocka_unit_test(reads_a_graph_from_a_checkpoint),
        cmocka_unit_test(reads_raw_data),
        cmocka_unit_test(reads_typed_data),
        cmocka_unit_test(reads_attributes),
        cmocka_unit_test(refuses_opsets),
        cmocka_unit_test(refuses_operators_of_later_opsets),
        cmocka_unit_test(refuses_nodes),
        cmocka_unit_test(refuses_graphs),
        cmocka_unit_test(refuses_inputs),
        cmocka_unit_test(refuses_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
