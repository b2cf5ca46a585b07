/* ONNX files as checkpoints: which tensors are weights, where their elements are, what of a file is
   its graph, and what is written. */
#include "ivon/ivon.h"
#include "tests/unit/files.h"
#include "tests/unit/onnx_builder.h"

enum { FLOAT8E4M3FN = 17, MODEL_IR_VERSION = 1, MODEL_PRODUCER = 2, MODEL_METADATA = 14 };

static void add_floats(struct wire *graph, const char *name, int type, size_t rank,
                       const int64_t *shape)
{
    struct wire tensor = tensor_of(name, type, rank, shape);
    size_t count = 1, size = type == DOUBLE ? 8 : type == FLOAT ? 4 : 2;
    for (size_t i = 0; i < rank; i++)
        count *= (size_t)shape[i];
    unsigned char *zeros = calloc(count + 1, size);
    assert_non_null(zeros);
    for (size_t i = 0; i < count; i++)
        zeros[i * size] = (unsigned char)(i + 1);
    wire_bytes(&tensor, TENSOR_RAW, zeros, count * size);
    free(zeros);
    wire_message(graph, GRAPH_INITIALIZER, &tensor);
}

static void add_vector(struct wire *graph, const char *name, int64_t count)
{
    add_floats(graph, name, FLOAT, 1, &count);
}

/* Adds a node; inputs end with null. */
static void add_node(struct wire *graph, const char *op, const char *output,
                     const char *const *inputs)
{
    struct wire node = node_of(op, NULL, output);
    for (; *inputs; inputs++)
        wire_text(&node, NODE_INPUT, *inputs);
    wire_message(graph, GRAPH_NODE, &node);
}

static void add_constant(struct wire *graph, const char *output, size_t rank, const int64_t *shape)
{
    struct wire node = node_of("Constant", NULL, output);
    struct wire value = attribute_of("value", IS_TENSOR),
                tensor = tensor_of("", FLOAT, rank, shape);
    size_t count = rank ? (size_t)shape[0] : 1;
    wire_bytes(&tensor, TENSOR_RAW, floats, count * sizeof floats[0]);
    wire_message(&value, ATTRIBUTE_T, &tensor);
    wire_message(&node, NODE_ATTRIBUTE, &value);
    wire_message(graph, GRAPH_NODE, &node);
}

/* Writes a model of the graph, which is freed. */
static void write_model(const char *path, struct wire *graph)
{
    struct wire model = {0};
    wire_number(&model, MODEL_IR_VERSION, 8);
    wire_text(&model, MODEL_PRODUCER, "maker");
    add_opset(&model, "", 13);
    wire_message(&model, MODEL_GRAPH, graph);
    write_file(path, model.data, model.size);
    free(model.data);
}

static struct ivon_source *open_source(const char *path)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    if (ivon_checkpoint_open(&source, path, NULL, &error))
        fail_msg("%s", error.message);
    return source;
}

static void refuse_source(const char *path, const char *why)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    int code = ivon_checkpoint_open(&source, path, NULL, &error);
    assert_true(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT);
    if (!strstr(error.message, why))
        fail_msg("'%s' does not say '%s'", error.message, why);
}

struct expected {
    const char *name;
    enum ivon_part part;
    enum ivon_dtype dtype;
    size_t count;
};

static void check_tensors(struct ivon_source *source, const struct expected *expected, size_t count)
{
    assert_int_equal(ivon_source_tensor_count(source), count + 1); /* and the graph */
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        assert_string_equal(tensor->name, expected[i].name);
        assert_int_equal(tensor->part, expected[i].part);
        assert_int_equal(tensor->dtype, expected[i].dtype);
        assert_int_equal(tensor->count, expected[i].count);
    }
    assert_int_equal(ivon_source_tensor(source, count)->part, IVON_GRAPH);
}

/* Every kind of tensor that is a weight, and of those that are none. */
static struct wire graph_of_weights(void)
{
    static const int64_t two[2] = {2, 2}, four = 4, one = 1, scalar[1] = {0};
    struct wire graph = {0}, counts = tensor_of("counts", INT64, 1, &four), tensor;
    add_input(&graph, "x", FLOAT, 2, (const int64_t[]){-1, 4});
    add_floats(&graph, "fc.weight", FLOAT, 2, two);
    add_floats(&graph, "half", FLOAT16, 1, &four);
    add_floats(&graph, "brain", BFLOAT16, 1, &four);
    add_floats(&graph, "double", DOUBLE, 1, &four);
    tensor = tensor_of("listed", FLOAT, 1, &four);
    wire_bytes(&tensor, TENSOR_FLOAT, floats, sizeof floats);
    wire_message(&graph, GRAPH_INITIALIZER, &tensor);
    add_vector(&graph, "one", 1);
    add_vector(&graph, "none", 0);
    add_floats(&graph, "scalar", FLOAT, 0, scalar);
    wire_bytes(&counts, TENSOR_RAW, (const int64_t[4]){0}, 4 * sizeof(int64_t));
    wire_message(&graph, GRAPH_INITIALIZER, &counts);
    tensor = tensor_of("eight", FLOAT8E4M3FN, 1, &four);
    wire_bytes(&tensor, TENSOR_RAW, "1234", 4);
    wire_message(&graph, GRAPH_INITIALIZER, &tensor);
    for (const char *const *name = (const char *const[]){"scale", "shift", "m", "v", "scales",
                                                         "least", "running_mean", NULL};
         *name; name++)
        add_vector(&graph, *name, strcmp(*name, "least") == 0 ? 1 : 4);
    add_constant(&graph, "constant", 1, &four);
    add_constant(&graph, "epsilon", 1, &one);
    add_constant(&graph, "half.scalar", 0, scalar);
    add_node(&graph, "Identity", "m2", (const char *const[]){"m", NULL});
    add_node(&graph, "Identity", "m3", (const char *const[]){"m2", NULL});
    add_node(&graph, "BatchNormalization", "b",
             (const char *const[]){"x", "scale", "shift", "m3", "v", NULL});
    add_node(&graph, "Clip", "c", (const char *const[]){"b", "least", NULL});
    add_node(&graph, "Resize", "y", (const char *const[]){"c", "", "scales", NULL});
    add_output(&graph, "y");
    return graph;
}

static void tells_weights_from_constants(void **state)
{
    (void)state;
    static const struct expected expected[] = {
        {"fc.weight", IVON_MEAN, IVON_F32, 4}, {"half", IVON_MEAN, IVON_F16, 4},
        {"brain", IVON_MEAN, IVON_BF16, 4},    {"double", IVON_MEAN, IVON_F64, 4},
        {"listed", IVON_MEAN, IVON_F32, 4},    {"one", IVON_MEAN, IVON_F32, 1},
        {"eight", IVON_OPAQUE, IVON_U8, 4},    {"scale", IVON_MEAN, IVON_F32, 4},
        {"shift", IVON_MEAN, IVON_F32, 4},     {"m", IVON_BUFFER, IVON_F32, 4},
        {"v", IVON_BUFFER, IVON_F32, 4},       {"running_mean", IVON_BUFFER, IVON_F32, 4},
        {"constant", IVON_MEAN, IVON_F32, 4}};
    struct wire graph = graph_of_weights();
    write_model("model.onnx", &graph);
    struct ivon_source *source = open_source("model.onnx");
    check_tensors(source, expected, sizeof expected / sizeof expected[0]);
    float values[4];
    static const ptrdiff_t in_list = 4, in_node = 12;
    for (const ptrdiff_t *i = (const ptrdiff_t[]){in_list, in_node, -1}; *i >= 0; i++) {
        assert_int_equal(ivon_source_read(source, (size_t)*i, 1, 3, values, NULL), 0);
        assert_memory_equal(values, floats + 1, 3 * sizeof values[0]);
    }
    assert_string_equal(ivon_source_tensor(source, 6)->stored_as, "float8e4m3fn");
    assert_string_equal(ivon_source_header(source)->creator, "maker");
    assert_null(ivon_source_header(source)->warning);
    ivon_source_close(source);
}

static bool has_input(const struct ivon_network *network, const char *name)
{
    for (size_t i = 0; i < network->input_count; i++)
        if (strcmp(network->values[network->inputs[i]].name, name) == 0)
            return true;
    return false;
}

/* The graph of the checkpoint has the weights as inputs, and the rest of the tensors. */
static void takes_weights_out_of_the_graph(void **state)
{
    (void)state;
    static const int64_t four = 4;
    struct wire graph = {0};
    add_input(&graph, "x", FLOAT, 2, (const int64_t[]){-1, 4});
    add_input(&graph, "w", FLOAT, 1, &four); /* as older files do */
    add_vector(&graph, "w", 4);
    add_vector(&graph, "no//name", 4);
    add_constant(&graph, "c", 1, &four);
    add_node(&graph, "Add", "a", (const char *const[]){"x", "w", NULL});
    add_node(&graph, "Add", "b", (const char *const[]){"a", "c", NULL});
    add_node(&graph, "Add", "y", (const char *const[]){"b", "no//name", NULL});
    add_output(&graph, "y");
    write_model("model.onnx", &graph);
    struct ivon_source *source = open_source("model.onnx");
    struct ivon_network *network = NULL;
    struct ivon_unbound unbound;
    check_tensors(
        source,
        (const struct expected[]){{"w", IVON_MEAN, IVON_F32, 4}, {"c", IVON_MEAN, IVON_F32, 4}}, 2);
    assert_string_equal(ivon_source_header(source)->warning,
                        "1 initializers stay in the graph, since no tensor can have their names, "
                        "'no//name' the first");
    assert_int_equal(ivon_onnx_from_checkpoint(&network, source, NULL), 0);
    assert_true(has_input(network, "x") && has_input(network, "w") && has_input(network, "c"));
    assert_int_equal(network->input_count, 3);
    assert_int_equal(network->values[graph_find(network, "no//name")].tensor.count, 4);
    assert_int_equal(ivon_network_bind(network, source, NULL, &unbound, NULL), 0);
    assert_int_equal(network->parameter_count, 2);
    assert_int_equal(unbound.means, 0);
    ivon_network_free(network);
    ivon_source_close(source);
}

/* External data. */

static struct wire external_of(const char *name, int type, int64_t count, const char *offset)
{
    struct wire tensor = tensor_of(name, type, 1, &count);
    const char *const entries[][2] = {{"location", "data.bin"}, {"offset", offset}};
    for (size_t i = 0; i < 2; i++) {
        struct wire entry = {0};
        wire_text(&entry, 1, entries[i][0]);
        wire_text(&entry, 2, entries[i][1]);
        wire_message(&tensor, TENSOR_EXTERNAL, &entry);
    }
    wire_number(&tensor, TENSOR_LOCATION, 1);
    return tensor;
}

static void write_external(const char *offset)
{
    struct wire graph = {0}, weights = external_of("w", FLOAT, 4, offset),
                counts = external_of("counts", INT64, 2, "8");
    wire_message(&graph, GRAPH_INITIALIZER, &weights);
    wire_message(&graph, GRAPH_INITIALIZER, &counts);
    add_output(&graph, "counts");
    write_model("model.onnx", &graph);
}

static void maps_external_data(void **state)
{
    (void)state;
    struct ivon_network *network = NULL;
    write_file("data.bin", (const char[24]){0}, 24);
    FILE *file = fopen("data.bin", "r+b");
    assert_true(file && fseek(file, 8, SEEK_SET) == 0 && fwrite(floats, 1, 16, file) == 16 &&
                fclose(file) == 0);
    write_external("8");
    struct ivon_source *source = open_source("model.onnx");
    const float *values = ivon_source_view(source, 0, 0);
    assert_non_null(values);
    assert_memory_equal(values, floats, sizeof floats);
    ivon_source_done_with(source, 0, 0, 4);
    assert_memory_equal(values, floats, sizeof floats);
    assert_int_equal(ivon_onnx_from_checkpoint(&network, source, NULL), 0); /* needs no file */
    assert_memory_equal(network->values[graph_find(network, "counts")].tensor.data, floats,
                        sizeof floats);
    ivon_network_free(network);
    ivon_source_close(source);
    write_external("9");
    refuse_source("model.onnx", "tensor 'w': external data 'data.bin' have 24 bytes, expected 16");
    assert_int_equal(unlink("data.bin"), 0);
    write_external("0");
    refuse_source("model.onnx", "tensor 'w': external data 'data.bin' cannot be found");
}

static void refuses_what_is_damaged(void **state)
{
    (void)state;
    static const struct {
        int64_t shape[2];
        size_t size;
        const char *why;
    } cases[] = {{{2, 2}, 15, "its data are not the 4 elements of its shape"},
                 {{2, -2}, 16, "its shape is none that memory can hold"},
                 {{INT64_MAX, 2}, 16, "its shape is none that memory can hold"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wire graph = {0}, tensor = tensor_of("t", FLOAT, 2, cases[i].shape);
        wire_bytes(&tensor, TENSOR_RAW, floats, cases[i].size);
        wire_message(&graph, GRAPH_INITIALIZER, &tensor);
        write_model("model.onnx", &graph);
        refuse_source("model.onnx", cases[i].why);
    }
    struct wire graph = {0};
    add_vector(&graph, "twice", 4);
    add_vector(&graph, "twice", 4);
    write_model("model.onnx", &graph);
    refuse_source("model.onnx", "tensor 'twice' occurs twice");
    write_text("model.onnx", "\x08\x07\x12\x01x");
    refuse_source("model.onnx", "holds no graph, expected an ONNX file");
    write_text("model.onnx", "no model");
    refuse_source("model.onnx", "no ONNX file, or a damaged one");
}

/* Later versions. */

/* Fields that no reader from before them knows: a list of pairs, a number, bytes. */
static void add_unknown(struct wire *message)
{
    for (int i = 0; i < 3; i++) {
        struct wire entry = {0};
        wire_text(&entry, 1, "pkg.torch.onnx.stack_trace");
        wire_text(&entry, 2, "File \"model.py\", line 1, in forward");
        wire_message(message, 116, &entry);
    }
    wire_number(message, 117, 3);
    wire_bytes(message, 118, "\xff\xff\xff", 3);
}

static void passes_over_fields_of_later_versions(void **state)
{
    (void)state;
    static const int64_t four = 4;
    struct wire model = {0}, graph = {0}, node = node_of("Relu", "x", "y"), function = {0};
    struct wire tensor = tensor_of("w", FLOAT, 1, &four), attribute = attribute_of("later", 99);
    struct ivon_network *network = NULL;
    struct ivon_error error = {0};
    wire_bytes(&tensor, TENSOR_RAW, floats, sizeof floats);
    add_unknown(&tensor);
    add_unknown(&node);
    add_unknown(&attribute);
    wire_message(&function, 11, &attribute); /* attribute_proto of a local function */
    wire_text(&function, 1, "f");
    wire_text(&function, 13, "overload");
    add_input(&graph, "x", FLOAT, 1, &four);
    wire_message(&graph, GRAPH_NODE, &node);
    wire_message(&graph, GRAPH_INITIALIZER, &tensor);
    add_output(&graph, "y");
    add_unknown(&graph);
    wire_number(&model, MODEL_IR_VERSION, 13);
    add_opset(&model, "", 17);
    add_unknown(&model);
    wire_message(&model, MODEL_GRAPH, &graph);
    wire_message(&model, 25, &function);
    write_file("model.onnx", model.data, model.size);
    if (ivon_onnx_from_memory(&network, "later.onnx", model.data, model.size, &error))
        fail_msg("%s", error.message);
    ivon_network_free(network);
    free(model.data);
    struct ivon_source *source = open_source("model.onnx");
    check_tensors(source, (const struct expected[]){{"w", IVON_MEAN, IVON_F32, 4}}, 1);
    assert_int_equal(ivon_onnx_from_checkpoint(&network, source, &error), 0);
    ivon_network_free(network);
    ivon_source_close(source);
}

/* Writing. */

/* Copies a source's tensors, but for opaque ones, into an ONNX file. */
static int write_again(struct ivon_source *source, const char *path, struct ivon_error *error)
{
    struct ivon_tensor tensors[32];
    size_t from[32], count = 0;
    struct ivon_sink *sink = NULL;
    struct ivon_create_options options = ivon_create_defaults();
    options.replace = true;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        if (ivon_source_tensor(source, i)->part != IVON_OPAQUE) {
            from[count] = i;
            tensors[count++] = *ivon_source_tensor(source, i);
        }
    int code = ivon_checkpoint_create(&sink, path, ivon_source_header(source), tensors, count,
                                      &options, error);
    for (size_t i = count; i-- > 0 && !code;) {
        unsigned char *bytes = malloc(tensors[i].count * 8 + 1);
        assert_non_null(bytes);
        code = ivon_source_read(source, from[i], 0, tensors[i].count, bytes, error);
        if (!code)
            code = ivon_sink_write(sink, i, 0, tensors[i].count, bytes, error);
        free(bytes);
    }
    if (!code)
        code = ivon_sink_commit(sink, error);
    ivon_sink_close(sink);
    return code;
}

static void check_same(struct ivon_source *a, struct ivon_source *b)
{
    for (size_t i = 0; i < ivon_source_tensor_count(a); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(a, i);
        unsigned char bytes[64], others[64];
        if (tensor->part == IVON_OPAQUE || tensor->part == IVON_GRAPH)
            continue;
        ptrdiff_t at = ivon_source_find(b, tensor->part, tensor->name);
        assert_true(at >= 0);
        assert_int_equal(ivon_source_tensor(b, (size_t)at)->dtype, tensor->dtype);
        assert_int_equal(ivon_source_tensor(b, (size_t)at)->count, tensor->count);
        assert_int_equal(ivon_source_read(a, i, 0, tensor->count, bytes, NULL), 0);
        assert_int_equal(ivon_source_read(b, (size_t)at, 0, tensor->count, others, NULL), 0);
        assert_memory_equal(bytes, others, tensor->count * ivon_dtype_size(tensor->dtype));
    }
}

static void writes_weights_into_the_graph(void **state)
{
    (void)state;
    struct ivon_error error = {0};
    struct wire graph = graph_of_weights();
    write_model("model.onnx", &graph);
    struct ivon_source *source = open_source("model.onnx");
    if (write_again(source, "written.onnx", &error))
        fail_msg("%s", error.message);
    struct ivon_source *written = open_source("written.onnx");
    assert_int_equal(ivon_source_tensor_count(written), ivon_source_tensor_count(source));
    check_same(source, written);
    ivon_source_close(written);
    ivon_source_close(source);
}

static void refuse_output(struct ivon_tensor *tensors, size_t count, const char *why)
{
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    struct ivon_header header = ivon_header_empty();
    int code = ivon_checkpoint_create(&sink, "no.onnx", &header, tensors, count, NULL, &error);
    if (!code)
        code = ivon_sink_commit(sink, &error);
    ivon_sink_close(sink);
    assert_int_not_equal(code, 0);
    if (!strstr(error.message, why))
        fail_msg("'%s' does not say '%s'", error.message, why);
    assert_int_equal(access("no.onnx", F_OK), -1);
}

static void refuses_what_no_graph_holds(void **state)
{
    (void)state;
    struct ivon_tensor tensors[] = {
        {.name = "w", .part = IVON_MEAN, .dtype = IVON_F32, .rank = 1, .shape = {4}, .count = 4},
        {.name = "w", .part = IVON_HESSIAN, .dtype = IVON_F32, .rank = 1, .shape = {4}, .count = 4},
        {.name = "w", .part = IVON_BUFFER, .dtype = IVON_F32, .rank = 1, .shape = {4}, .count = 4},
        {.name = "model.onnx", .part = IVON_GRAPH, .dtype = IVON_U8, .rank = 1}};
    refuse_output(tensors, 1, "there is no graph");
    refuse_output(tensors, 2, "an ONNX file holds no Hessian, as 'w' has");
    tensors[1] = tensors[3];
    refuse_output(tensors, 2, "is empty, expected an ONNX file");
    tensors[1] = tensors[2];
    tensors[2] = tensors[3];
    refuse_output(tensors, 3, "tensor 'w' occurs twice");
    tensors[0].shape[0] = INT64_C(1) << 31;
    tensors[0].count = (size_t)1 << 31;
    refuse_output(tensors, 1, "would have 8.6 GB, an ONNX file has at most 2 GiB");
}

/* The graph's nodes are for elements of one type, and for its own tensors. */
static void refuses_tensors_that_do_not_fit(void **state)
{
    (void)state;
    struct ivon_source *source, *renamed = NULL;
    struct ivon_error error = {0};
    struct ivon_header header = ivon_header_empty();
    static const int64_t four = 4;
    struct wire graph = {0};
    add_input(&graph, "w", FLOAT16, 1, &four); /* is not what its initializer is */
    add_vector(&graph, "w", 4);
    add_output(&graph, "w");
    write_model("model.onnx", &graph);
    source = open_source("model.onnx");
    assert_int_equal(write_again(source, "no.onnx", &error), IVON_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "'w' has elements of type f32, and the graph takes "
                                          "float16 there"));
    const struct ivon_subset_item items[] = {{0, "other"}, {1, "model.onnx"}};
    assert_int_equal(ivon_tensor_subset(&renamed, source, &header, items, 2, &error), 0);
    assert_int_equal(write_again(renamed, "no.onnx", &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "the graph has no place for the tensor 'other'"));
    assert_int_equal(access("no.onnx", F_OK), -1);
    ivon_source_close(renamed);
    ivon_source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_weights_from_constants),
        cmocka_unit_test(takes_weights_out_of_the_graph),
        cmocka_unit_test(maps_external_data),
        cmocka_unit_test(refuses_what_is_damaged),
        cmocka_unit_test(passes_over_fields_of_later_versions),
        cmocka_unit_test(writes_weights_into_the_graph),
        cmocka_unit_test(refuses_what_no_graph_holds),
        cmocka_unit_test(refuses_tensors_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
