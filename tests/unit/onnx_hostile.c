/* ONNX files that would harm their reader, and external data, which lead to other files. */
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/onnx_builder.h"

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Refused within `limit` seconds. */
static void refuse_soon(struct wire *model, const char *why, double limit)
{
    double start = seconds();
    refuse(model, why);
    double spent = seconds() - start;
    if (spent > limit)
        fail_msg("%s: took %.1f s", why, spent);
}

/* `levels` messages, one in the other: model, graph, node, attribute, graph … */
static struct wire nested(size_t levels)
{
    static const unsigned fields[] = {ATTRIBUTE_G, GRAPH_NODE, NODE_ATTRIBUTE};
    /* From the inside out, backwards, so that it takes linear time. */
    size_t capacity = 12 * levels + 16, at = capacity;
    unsigned char *bytes = malloc(capacity);
    for (size_t level = levels - 1; level > 0; level--) {
        struct wire head = {0};
        wire_varint(&head, (level == 1 ? MODEL_GRAPH : fields[(level - 1) % 3]) << 3 | 2);
        wire_varint(&head, capacity - at);
        at -= head.size;
        memcpy(bytes + at, head.data, head.size);
        free(head.data);
    }
    struct wire model = {0};
    wire_raw(&model, bytes + at, capacity - at);
    free(bytes);
    return model;
}

static void refuses_deep_nesting(void **state)
{
    (void)state;
    struct wire model = nested(32);
    refuse(&model, "names no opset"); /* read; it is none of a use */
    model = nested(33);
    refuse(&model, "messages are nested too deeply");
    model = nested(58000); /* enough to fill the stack of a parser that recurses */
    assert_true(model.size > 200000);
    refuse_soon(&model, "messages are nested too deeply", 1);
}

static void refuses_amplification(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    static const unsigned fields[] = {GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) { /* messages of two bytes */
        struct wire graph = {0}, model;
        unsigned char *bytes = malloc(SIZE);
        for (size_t at = 0; at < SIZE; at += 2) {
            bytes[at] = (unsigned char)(fields[i] << 3 | 2);
            bytes[at + 1] = 0;
        }
        wire_raw(&graph, bytes, SIZE);
        free(bytes);
        model = model_of(&graph);
        refuse_soon(&model, "would take far more memory than its size suggests", 10);
    }
    /* A graph given in thousands of parts, each of which is joined with all those before. */
    struct wire model = {0}, graph = {0};
    for (int i = 0; i < 1000; i++) {
        struct wire node = {0};
        wire_message(&graph, GRAPH_NODE, &node);
    }
    for (int i = 0; i < 2000; i++)
        wire_bytes(&model, MODEL_GRAPH, graph.data, graph.size);
    free(graph.data);
    refuse_soon(&model, "would take far more memory than its size suggests", 10);
}

/* Wherever it is cut, it is refused, and so is any byte with one bit or all changed, unless it is
   read. (Other values are the fuzzer's.) */
static void survives_damage(void **state)
{
    (void)state;
    struct wire whole = good_model();
    size_t read = 0;
    for (size_t size = 0; size < whole.size; size++) {
        struct ivon_network *network = NULL;
        unsigned char *cut = malloc(size + 1); /* so that reading beyond it is found */
        memcpy(cut, whole.data, size);
        cut = realloc(cut, size ? size : 1);
        assert_int_equal(ivon_onnx_from_memory(&network, "cut", cut, size, NULL), IVON_ERROR_DATA);
        free(cut);
    }
    static const unsigned char flips[] = {1, 2, 4, 8, 16, 32, 64, 128, 255};
    for (size_t at = 0; at < whole.size; at++)
        for (size_t i = 0; i < sizeof flips; i++) {
            struct ivon_network *network = NULL;
            struct ivon_error error = {0};
            whole.data[at] ^= flips[i];
            int code = ivon_onnx_from_memory(&network, "flip", whole.data, whole.size, &error);
            whole.data[at] ^= flips[i];
            assert_true(code == 0 || (code == IVON_ERROR_DATA && error.message[0]));
            read += !code;
            ivon_network_free(network);
        }
    assert_true(read > 0);
    free(whole.data);
}

/* External data. */

static char directory[] = "/tmp/ivon-onnx-XXXXXX";

static void write_bytes(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int enter(void **state)
{
    (void)state;
    if (!mkdtemp(directory) || chdir(directory))
        return -1;
    if (mkdir("inside", 0700) || mkdir("inside/deep", 0700))
        return -1;
    write_bytes("outside.bin", floats, sizeof floats);
    write_bytes("inside/data.bin", (const char[]){"x"}, 1);
    FILE *file = fopen("inside/data.bin", "ab");
    if (!file || fwrite(floats, 1, sizeof floats, file) != sizeof floats || fclose(file))
        return -1;
    write_bytes("inside/deep/data.bin", floats, sizeof floats);
    write_bytes("inside/empty.bin", "", 0);
    return symlink("../outside.bin", "inside/leads-out.bin") || symlink("..", "inside/up") ||
           symlink("deep/data.bin", "inside/leads-in.bin") || symlink(".", "alias") ||
           mkfifo("inside/pipe", 0600);
}

static int leave(void **state)
{
    (void)state;
    static const char *const names[] = {"inside/deep/data.bin", "inside/data.bin",
                                        "inside/empty.bin",     "inside/leads-out.bin",
                                        "inside/leads-in.bin",  "inside/up",
                                        "inside/pipe",          "inside/model.onnx",
                                        "outside.bin",          "alias"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(names[i]);
    return rmdir("inside/deep") || rmdir("inside") || chdir("/") || rmdir(directory);
}

static void add_external(struct wire *tensor, const char *key, const char *value)
{
    struct wire entry = {0};
    if (!value)
        return;
    wire_text(&entry, 1, key);
    wire_text(&entry, 2, value);
    wire_message(tensor, TENSOR_EXTERNAL, &entry);
}

static struct wire external(int type, const char *location, const char *offset, const char *length)
{
    struct wire tensor = square(type);
    add_external(&tensor, "location", location);
    add_external(&tensor, "offset", offset);
    add_external(&tensor, "length", length);
    add_external(&tensor, "checksum", "none");
    wire_number(&tensor, TENSOR_LOCATION, 1);
    return tensor;
}

/* Writes a model with these tensors, "t" and others of no importance, and opens it. */
static int open_file(struct ivon_network **network, const char *path, struct wire *tensor,
                     struct ivon_error *error)
{
    struct wire graph = {0};
    wire_message(&graph, GRAPH_INITIALIZER, tensor);
    add_output(&graph, "t");
    struct wire model = model_of(&graph);
    write_bytes("inside/model.onnx", model.data, model.size);
    free(model.data);
    *network = NULL;
    return ivon_onnx_open(network, path, error);
}

static void reads_external_data(void **state)
{
    (void)state;
    static const struct {
        const char *path, *location, *offset, *length;
    } cases[] = {{"inside/model.onnx", "data.bin", "1", "16"},
                 {"inside/model.onnx", "data.bin", "1", NULL},
                 {"inside/model.onnx", "deep/data.bin", NULL, "16"},
                 {"inside/model.onnx", "leads-in.bin", "0", "16"},
                 {"alias/inside/model.onnx", "deep/data.bin", "0", "16"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ivon_network *network;
        struct ivon_error error = {0};
        struct wire tensor = external(FLOAT, cases[i].location, cases[i].offset, cases[i].length);
        if (open_file(&network, cases[i].path, &tensor, &error))
            fail_msg("%s", error.message);
        const struct net_tensor *t = &network->values[graph_find(network, "t")].tensor;
        assert_int_equal(t->count, 4);
        assert_memory_equal(t->data, floats, sizeof floats);
        ivon_network_free(network);
        if (i)
            continue;
        assert_int_equal(chdir("inside"), 0); /* a path without a directory */
        int code = ivon_onnx_open(&network, "model.onnx", &error);
        assert_int_equal(chdir(".."), 0);
        assert_int_equal(code, 0);
        ivon_network_free(network);
    }
}

static void refuses_external_data(void **state)
{
    (void)state;
    static const struct {
        const char *location, *offset, *length, *why;
    } cases[] = {
        {NULL, NULL, NULL, "external data in ''"},
        {"", NULL, NULL, "external data in ''"},
        {"../outside.bin", NULL, NULL, "a path that stays within the model's directory"},
        {"deep/../../outside.bin", NULL, NULL, "a path that stays within"},
        {"/etc/passwd", NULL, NULL, "a path that stays within"},
        {"./data.bin", NULL, NULL, "a path that stays within"},
        {"a\nb", NULL, NULL, "a path that stays within"},
        {"leads-out.bin", NULL, NULL, "'leads-out.bin' lead out of the model's directory"},
        {"up/outside.bin", NULL, NULL, "'up/outside.bin' lead out of the model's directory"},
        {"missing.bin", NULL, NULL, "'missing.bin' cannot be found"},
        {"deep", NULL, NULL, "is a directory, expected a regular file"},
        {"pipe", NULL, NULL, "is a device or a pipe, expected a regular file"},
        {"empty.bin", NULL, NULL, "'empty.bin' have 0 bytes, expected 16 from 0 on"},
        {"data.bin", "2", NULL, "'data.bin' have 17 bytes, expected 16 from 2 on"},
        {"data.bin", "18446744073709551615", NULL, "expected 16 from 18446744073709551615 on"},
        {"data.bin", "18446744073709551616", NULL,
         "offset '18446744073709551616', expected a number"},
        {"data.bin", "-1", NULL, "external data of offset '-1', expected a number"},
        {"data.bin", "1x", NULL, "external data of offset '1x', expected a number"},
        {"data.bin", "", NULL, "external data of offset '', expected a number"},
        {"data.bin", "1", "15", "external data of 15 bytes, expected 16"},
        {"data.bin", "1", "17", "external data of 17 bytes, expected 16"},
        {"data.bin", "1", "0x10", "external data of length '0x10', expected a number"}};
    struct ivon_network *network;
    struct ivon_error error;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wire tensor = external(FLOAT, cases[i].location, cases[i].offset, cases[i].length);
        int code = open_file(&network, "inside/model.onnx", &tensor, &error);
        assert_true(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT);
        assert_null(network);
        if (!strstr(error.message, cases[i].why))
            fail_msg("'%s' does not say '%s'", error.message, cases[i].why);
    }
    struct wire tensor = external(FLOAT, "data.bin", "1", "16");
    refuse_tensor(&tensor, "external data, which only a graph in a file can have");
    assert_int_equal(ivon_onnx_open(&network, "inside/none.onnx", &error), IVON_ERROR_INPUT);
}

/* Few bytes, claimed by many tensors. */
static void refuses_shared_external_data(void **state)
{
    (void)state;
    struct ivon_network *network = NULL;
    struct ivon_error error;
    for (int tensors = 4; tensors < 6; tensors++) {
        struct wire graph = {0};
        for (int i = 0; i < tensors; i++) {
            struct wire tensor = external(FLOAT, "deep/data.bin", NULL, NULL);
            wire_text(&tensor, TENSOR_NAME, (char[]){"tuvwxy"[i], 0});
            wire_message(&graph, GRAPH_INITIALIZER, &tensor);
        }
        add_output(&graph, "t");
        struct wire model = model_of(&graph);
        write_bytes("inside/model.onnx", model.data, model.size);
        free(model.data);
        int code = ivon_onnx_open(&network, "inside/model.onnx", &error);
        if (tensors == 4) {
            assert_int_equal(code, 0);
            ivon_network_free(network);
            continue;
        }
        assert_int_equal(code, IVON_ERROR_DATA);
        assert_non_null(strstr(error.message, "tensor 'x': external data 'deep/data.bin' are used "
                                              "more than 4 times over"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_deep_nesting),  cmocka_unit_test(refuses_amplification),
        cmocka_unit_test(survives_damage),       cmocka_unit_test(reads_external_data),
        cmocka_unit_test(refuses_external_data), cmocka_unit_test(refuses_shared_external_data),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
