/* safetensors: what is written is what is read, in one file or several; what is wrong is not. */
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

static void reads_what_was_written(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 1};
    fill_checkpoint(&checkpoint);
    write_checkpoint(&checkpoint, "a.safetensors", 1000);
    check_checkpoint(&checkpoint, "a.safetensors");
    write_checkpoint(&checkpoint, "m.safetensors.index.json", 77);
    check_checkpoint(&checkpoint, "m.safetensors.index.json");
    const struct ivon_create_options options = {.size = sizeof options,
                                                .shard_size = 301 * 199 * 4};
    checkpoint.options = &options;
    write_checkpoint(&checkpoint, "n.safetensors.index.json", 77);
    check_checkpoint(&checkpoint, "n.safetensors.index.json");
    assert_int_equal(access("n-00003-of-00003.safetensors", F_OK), 0);
    release_checkpoint(&checkpoint);
}

static void equal_inputs_give_equal_bytes(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 2};
    fill_checkpoint(&checkpoint);
    write_checkpoint(&checkpoint, "a.safetensors", 1 << 20);
    write_checkpoint(&checkpoint, "b.safetensors", 17);
    size_t size_a, size_b;
    unsigned char *a = load_file("a.safetensors", &size_a);
    unsigned char *b = load_file("b.safetensors", &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    free(a);
    free(b);
    release_checkpoint(&checkpoint);
}

static void headers_of_all_kinds_come_back(void **state)
{
    (void)state;
    static const int64_t three[] = {3};
    static const char *const paths[] = {"a.safetensors", "b.safetensors.index.json"};
    for (size_t i = 0; i < 2; i++) {
        struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 3};
        write_checkpoint(&checkpoint, paths[i], 10);
        check_checkpoint(&checkpoint, paths[i]);
        assert_int_equal(clean_directory(state), 0);
        checkpoint.header.weight_decay = 0;
        checkpoint.header.step = 0;
        checkpoint.header.n_train = INT64_MAX;
        add_tensor(&checkpoint, IVON_HESSIAN, "as the header", IVON_F32, 1, three);
        add_tensor(&checkpoint, IVON_HESSIAN, "own/ess", IVON_F32, 1, three)->ess = 5;
        struct ivon_tensor *both = add_tensor(&checkpoint, IVON_HESSIAN, "b", IVON_F32, 1, three);
        both->ess = 0x1.23456789abcdep-40;
        both->weight_decay = 3e300;
        write_checkpoint(&checkpoint, paths[i], 10);
        check_checkpoint(&checkpoint, paths[i]);
        release_checkpoint(&checkpoint);
        assert_int_equal(clean_directory(state), 0);
    }
}

/* Names that look like parts or numbers are still names. */
static void any_name_is_kept(void **state)
{
    (void)state;
    static const char *const names[] = {"hessian/w", "buffers/w", "mean/w",     "mean",
                                        "w",         "ess",       "ess/w",      "provenance",
                                        "step",      "hessian",   "model.onnx", "ivon-posterior"};
    static const char *const paths[] = {"a.safetensors", "a.npz"};
    for (size_t i = 0; i < 4; i++) {
        struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 4};
        checkpoint.header.ess = i < 2 ? NAN : 3;
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            add_tensor(&checkpoint, IVON_MEAN, names[k], IVON_F32, 0, NULL);
            add_tensor(&checkpoint, IVON_HESSIAN, names[k], IVON_F32, 0, NULL);
            add_tensor(&checkpoint, IVON_BUFFER, names[k], IVON_U8, 1, (const int64_t[]){2});
        }
        add_tensor(&checkpoint, IVON_GRAPH, "model.onnx", IVON_U8, 1, (const int64_t[]){7});
        write_checkpoint(&checkpoint, paths[i % 2], 10);
        check_checkpoint(&checkpoint, paths[i % 2]);
        release_checkpoint(&checkpoint);
        assert_int_equal(clean_directory(state), 0);
    }
}

/* A file by its header and `size` bytes of data, with the length that the header has, or says. */
static void write_header(const char *path, const char *header, size_t size, uint64_t length)
{
    static struct buffer file;
    file.size = 0;
    put_little(&file, length ? length : strlen(header), 8);
    put(&file, header, strlen(header));
    for (size_t i = 0; i < size; i++)
        put_little(&file, i, 1);
    write_file(path, file.data, file.size);
}

static void refused(const char *path, const struct ivon_open_options *options, int code,
                    const char *message)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {.message = "none"};
    int found = ivon_checkpoint_open(&source, path, options, &error);
    if (found != code || strcmp(error.message, message) != 0)
        fail_msg("%d '%s', expected %d '%s'", found, error.message, code, message);
    assert_null(source);
}

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"

static void refuses_what_the_format_does_not_allow(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t size;
        uint64_t length;
        const char *message;
    } cases[] = {
        {"{}", 1, 0, "x: has 1 bytes of data, expected 0 by its header"},
        {"{", 9, 0,
         "x: is in no format that is known here, expected a checkpoint in HDF5, "
         "safetensors, npz, ONNX, PyTorch's, Keras' or Flax's format"},
        {"{}", 1, 4,
         "x: is in no format that is known here, expected a checkpoint in HDF5, "
         "safetensors, npz, ONNX, PyTorch's, Keras' or Flax's format"},
        {"{}}", 0, 0, "x: damaged JSON at byte 2: something follows the object"},
        {"{ ", 0, 0, "x: damaged JSON at byte 2: expected a name"},
        {"{\"a\":", 0, 0, "x: damaged JSON at byte 5: unexpected token near end of file"},
        {"{\"a\" 1}", 0, 0, "x: damaged JSON at byte 5: expected ':'"},
        {"{\"a\":1}", 0, 0, "x: tensor 'a': its dtype is missing"},
        {"{\"__metadata__\":{\"a\":1}}", 0, 0, "x: '__metadata__' is no object of strings"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0, "x: '__metadata__' occurs twice"},
        {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, 0,
         "x: damaged JSON at byte 16: duplicate object key near '\"a\"'"},
        {"{\"__metadata__\":{\"ess\":\"many\",\"ivon-posterior\":\"1\"}}", 0, 0,
         "x: metadata 'ess' is 'many', expected a number"},
        {"{\"__metadata__\":{\"ivon-posterior\":\"3\"}}", 0, 0,
         "x: 'ivon-posterior' is 3, expected 1 or 2"},
        {"{" TENSOR("a", "F8_E4M3", "[2]", 0, 1) "}", 1, 0,
         "x: tensor 'a': has 1 bytes of data, its shape and dtype ask for another number"},
        {"{" TENSOR("a", "F4", "[3]", 0, 1) "}", 1, 0,
         "x: tensor 'a': has 1 bytes of data, its shape and dtype ask for another number"},
        {"{" TENSOR("a", "", "[1]", 0, 1) "}", 1, 0,
         "x: tensor 'a': its dtype is no name of a type"},
        {"{" TENSOR("a", "F32", "[1,2]", 0, 4) "}", 4, 0,
         "x: tensor 'a': has 4 bytes of data, its shape and dtype ask for another number"},
        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", 0, 0) "}", 0, 0,
         "x: tensor 'a': has 0 bytes of data, its shape and dtype ask for another number"},
        {"{" TENSOR("a", "F32", "[-1]", 0, 4) "}", 4, 0,
         "x: tensor 'a': its shape is no list of whole numbers"},
        {"{" TENSOR("a", "F32", "[1.0]", 0, 4) "}", 4, 0,
         "x: tensor 'a': its shape is no list of whole numbers"},
        {"{" TENSOR("a", "F32", "4", 0, 4) "}", 4, 0, "x: tensor 'a': its shape is missing"},
        {"{" TENSOR("a", "F32", "[1]", 4, 0) "}", 4, 0,
         "x: tensor 'a': its data are bytes 4 to 0, but there are 4"},
        {"{" TENSOR("a", "F32", "[2]", 0, 8) "}", 7, 0,
         "x: tensor 'a': its data are bytes 0 to 8, but there are 7"},
        {"{" TENSOR("a", "F32", "[1]", 0, 18446744073709551616) "}", 4, 0,
         "x: damaged JSON at byte 5: too big integer near '18446744073709551616'"},
        {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("b", "F32", "[1]", 8, 12) "}", 12, 0,
         "x: tensor 'b': its data begin at byte 8, expected 4, where those before end"},
        {"{" TENSOR("a", "F32", "[2]", 0, 8) "," TENSOR("b", "F32", "[1]", 4, 8) "}", 8, 0,
         "x: tensor 'b': its data begin at byte 4, expected 8, where those before end"},
        {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("a", "F32", "[1]", 4, 8) "}", 8, 0,
         "x: tensor 'a' occurs twice"},
        {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("mean/a", "F32", "[0]", 4, 4) "," TENSOR(
             "hessian/a", "F32", "[0]", 4, 4) "}",
         4, 0, "x: tensor 'a' occurs twice under 'mean'"},
        {"{" TENSOR("hessian/a", "I32", "[0]", 0, 0) "}", 0, 0,
         "x: 'hessian/a' has elements of type i32, expected floating point"},
        {"{" TENSOR("a/../b", "F32", "[0]", 0, 0) "}", 0, 0,
         "x: 'a/../b' is not a usable name for a tensor"},
        {"{" TENSOR("a\\u0000b", "F32", "[0]", 0, 0) "}", 0, 0,
         "x: damaged JSON at byte 1: \\u0000 is not allowed without JSON_ALLOW_NUL near "
         "'\"a\\u0000b\"'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_header("x", cases[i].header, cases[i].size, cases[i].length);
        refused("x", NULL, IVON_ERROR_DATA, cases[i].message);
    }
}

/* Nested beyond jansson's limit, or longer than any description: neither grows in memory. */
static void refuses_deep_and_long_values(void **state)
{
    (void)state;
    enum { LENGTH = 5000 };
    char header[LENGTH + 64] = "{\"a\":";
    memset(header + 5, '[', 4000);
    write_header("x", header, 0, 0);
    refused("x", NULL, IVON_ERROR_DATA,
            "x: damaged JSON at byte 5: maximum parsing depth reached near '['");
    strcpy(header, "{\"a\":\"");
    memset(header + 6, 'x', LENGTH);
    strcpy(header + 6 + LENGTH, "\"}");
    write_header("x", header, 0, 0);
    refused("x", NULL, IVON_ERROR_DATA,
            "x: damaged JSON at byte 5: a value has more than 4096 bytes");
}

/* Headers whose length begins with the bytes of a pickle, 0x80 and a protocol. */
static void a_length_is_no_pickle(void **state)
{
    (void)state;
    for (size_t length = 0x280; length <= 0x580; length += 0x100) {
        struct ivon_source *source = NULL;
        struct ivon_error error = {.message = "none"};
        char header[0x600] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
        memset(header + strlen(header), ' ', length - strlen(header));
        write_header("x", header, 4, length);
        if (ivon_checkpoint_open(&source, "x", NULL, &error))
            fail_msg("a header of %zu bytes: %s", length, error.message);
        ivon_source_close(source);
    }
}

static void refuses_a_header_beyond_the_limit(void **state)
{
    (void)state;
    write_header("x", "{}", 0, 100000001);
    assert_int_equal(truncate("x", 100000100), 0); /* sparse */
    refused("x", NULL, IVON_ERROR_DATA,
            "x: its header has 100000001 bytes, expected at most 100000000");
}

static void tells_cut_files(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 5};
    struct ivon_source *source = NULL;
    struct ivon_error error;
    add_tensor(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){300});
    write_checkpoint(&checkpoint, "a.safetensors", 1000);
    size_t size;
    unsigned char *bytes = load_file("a.safetensors", &size);
    for (size_t cut = 0; cut < size; cut += 13) {
        write_file("x", bytes, cut);
        assert_int_equal(ivon_checkpoint_open(&source, "x", NULL, &error), IVON_ERROR_DATA);
        assert_null(source);
    }
    free(bytes);
    release_checkpoint(&checkpoint);
}

/* Data at any byte: read, and viewed only where it is aligned. */
static void reads_unaligned_data(void **state)
{
    (void)state;
    float values[2];
    struct ivon_error error;
    write_header("x", "{" TENSOR("a", "U8", "[1]", 0, 1) "," TENSOR("b", "F32", "[2]", 1, 9) "}", 9,
                 0);
    struct ivon_source *source = open_checkpoint("x");
    ptrdiff_t at = ivon_source_find(source, IVON_MEAN, "b");
    assert_int_equal(at, 1);
    assert_int_equal(ivon_source_find(source, IVON_BUFFER, "a"), 0);
    assert_null(ivon_source_view(source, 1, 0));
    assert_int_equal(ivon_source_read(source, 1, 0, 2, values, &error), 0);
    assert_memory_equal(values, ((const unsigned char[]){1, 2, 3, 4, 5, 6, 7, 8}), 8);
    ivon_source_close(source);
}

/* In a file that is no posterior, prefixes are parts of names. */
static void a_plain_file_has_plain_names(void **state)
{
    (void)state;
    write_header(
        "x",
        "{\"__metadata__\":{\"format\":\"pt\",\"step\":\"last\",\"ess\":\"1e3\"}," TENSOR(
            "buffers/a", "F32", "[]", 0, 4) "," TENSOR("mean/a", "F32", "[]", 4,
                                                       8) "," TENSOR("n", "I64", "[]", 8, 16) "}",
        16, 0);
    struct ivon_source *source = open_checkpoint("x");
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "buffers/a"), 0);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "mean/a"), 1);
    assert_int_equal(ivon_source_find(source, IVON_BUFFER, "n"), 2);
    assert_true(ivon_source_header(source)->ess == 1000);
    assert_int_equal(ivon_source_header(source)->step, -1);
    ivon_source_close(source);
}

static bool names_running(void *context, const char *name)
{
    (void)context;
    return strstr(name, "running") != NULL;
}

static void the_caller_says_what_is_a_buffer(void **state)
{
    (void)state;
    struct ivon_source *source = NULL;
    struct ivon_error error;
    const struct ivon_open_options options = {.size = sizeof options, .is_buffer = names_running};
    write_header(
        "x", "{" TENSOR("w", "F32", "[]", 0, 4) "," TENSOR("running", "F32", "[]", 4, 8) "}", 8, 0);
    assert_int_equal(ivon_checkpoint_open(&source, "x", &options, &error), 0);
    assert_int_equal(ivon_source_find(source, IVON_BUFFER, "running"), 1);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "w"), 0);
    ivon_source_close(source);
}

static void refuses_options_of_other_formats(void **state)
{
    (void)state;
    const struct ivon_open_options key = {.size = sizeof key, .key = "model"};
    const struct ivon_open_options adam = {.size = sizeof adam,
                                           .hessian_from = IVON_HESSIAN_FROM_ADAM};
    const struct ivon_open_options batch = {.size = sizeof batch, .batch = 3};
    struct checkpoint checkpoint = {.header = full_header(), .seed = 6};
    struct ivon_source *source = NULL;
    struct ivon_sink *sink = NULL;
    struct ivon_error error;
    write_header("x", "{}", 0, 0);
    refused("x", &key, IVON_ERROR_ARGUMENT,
            "x: option 'key' does not apply to a file in safetensors format");
    refused("x", &adam, IVON_ERROR_ARGUMENT,
            "x: option 'hessian-from' does not apply to a file in safetensors format");
    refused("x", &batch, IVON_ERROR_ARGUMENT,
            "x: option 'batch-size' does not apply to a file in safetensors format");
    write_checkpoint(&checkpoint, "a.h5", 1);
    refused("a.h5",
            &(struct ivon_open_options){.size = sizeof(struct ivon_open_options),
                                        .is_buffer = names_running},
            IVON_ERROR_ARGUMENT, "a.h5: option 'buffers' does not apply to a file in HDF5 format");
    const struct ivon_open_options several = {.size = sizeof several,
                                              .for_several = true,
                                              .key = "model",
                                              .hessian = "nowhere",
                                              .hessian_from = IVON_HESSIAN_FROM_ADAM,
                                              .batch = 3,
                                              .is_buffer = names_running};
    struct ivon_open_options plain = several;
    plain.hessian = NULL;
    assert_int_equal(ivon_checkpoint_open(&source, "a.h5", &plain, &error), 0);
    ivon_source_close(source);
    refused("a.h5", &several, IVON_ERROR_INPUT,
            "nowhere: cannot open it: No such file or directory");
    refused("x", &several, IVON_ERROR_INPUT, "nowhere: cannot open it: No such file or directory");
    assert_int_equal(
        ivon_checkpoint_create(&sink, "b.safetensors", &checkpoint.header, NULL, 0,
                               &(struct ivon_create_options){
                                   .size = sizeof(struct ivon_create_options), .shard_size = 1},
                               &error),
        IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "b.safetensors: only safetensors can be several files, and "
                                       "their name has to end in '.safetensors.index.json'");
}

static void refuses_what_cannot_be_written(void **state)
{
    (void)state;
    static const struct {
        struct ivon_tensor tensors[2];
        double ess;
        const char *message;
    } cases[] = {
        {{{.name = "a"}, {.name = "a"}}, NAN, "x.safetensors: tensor 'a' occurs twice"},
        {{{.name = "a"}, {.name = "b", .dtype = IVON_I8}},
         NAN,
         "x.safetensors: 'b' has elements of type i8, expected floating point"},
        {{{.name = "a"}, {.name = "__metadata__"}},
         NAN,
         "x.safetensors: no tensor of a safetensors file may be called '__metadata__'"},
        {{{.name = "a"}, {.name = "b\n"}},
         NAN,
         "x.safetensors: 'b?' is not a usable name for a tensor"},
        {{{.name = "a"}, {.name = "b"}}, INFINITY, "x.safetensors: 'ess' is infinite"},
        {{{.name = "a", .rank = 1, .shape = {2}}, {.name = "b"}},
         NAN,
         "x.safetensors: tensor 'a': its shape does not have its number of elements"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ivon_sink *sink = NULL;
        struct ivon_error error = {.message = "none"};
        struct ivon_header header = ivon_header_empty();
        struct ivon_tensor tensors[2] = {cases[i].tensors[0], cases[i].tensors[1]};
        header.ess = cases[i].ess;
        tensors[0].count = tensors[1].count = 1;
        assert_int_equal(
            ivon_checkpoint_create(&sink, "x.safetensors", &header, tensors, 2, NULL, &error),
            IVON_ERROR_ARGUMENT);
        assert_string_equal(error.message, cases[i].message);
        assert_null(sink);
        assert_int_equal(access("x.safetensors", F_OK), -1);
        assert_int_equal(access(".x.safetensors.ivon-tmp", F_OK), -1);
    }
}

/* Tensors of a type that is not read are written again by the format that they come from. */
static void opaque_tensors_are_carried_to_their_own_format(void **state)
{
    (void)state;
    write_header(
        "x", "{" TENSOR("w", "F32", "[1]", 0, 4) "," TENSOR("q", "F8_E4M3", "[2]", 4, 6) "}", 6, 0);
    struct ivon_source *source = open_checkpoint("x");
    ptrdiff_t w = ivon_source_find(source, IVON_MEAN, "w");
    ptrdiff_t q = ivon_source_find(source, IVON_OPAQUE, "q");
    assert_true(w >= 0 && q >= 0);
    const struct ivon_tensor *known = ivon_source_tensor(source, (size_t)w);
    const struct ivon_tensor *opaque = ivon_source_tensor(source, (size_t)q);
    struct ivon_create_options options = ivon_create_defaults();
    assert_true(ivon_checkpoint_carries("y.h5", &options, known));
    assert_false(ivon_checkpoint_carries("y.safetensors", &options, opaque));
    options.like = source;
    assert_true(ivon_checkpoint_carries("y.safetensors", &options, opaque));
    assert_true(ivon_checkpoint_carries("y.safetensors.index.json", &options, opaque));
    assert_false(ivon_checkpoint_carries("y.h5", &options, opaque));
    assert_false(ivon_checkpoint_carries("y.npz", &options, opaque));
    assert_false(ivon_checkpoint_carries("y.unknown", &options, opaque));
    options.format = IVON_FORMAT_SAFETENSORS;
    assert_true(ivon_checkpoint_carries("y.unknown", &options, opaque));
    options.size = 0;
    assert_false(ivon_checkpoint_carries("y.safetensors", &options, opaque));
    ivon_source_close(source);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean_directory)
    const struct CMUnitTest tests[] = {
        TEST(reads_what_was_written),
        TEST(opaque_tensors_are_carried_to_their_own_format),
        TEST(equal_inputs_give_equal_bytes),
        TEST(headers_of_all_kinds_come_back),
        TEST(any_name_is_kept),
        TEST(refuses_what_the_format_does_not_allow),
        TEST(refuses_deep_and_long_values),
        TEST(a_length_is_no_pickle),
        TEST(refuses_a_header_beyond_the_limit),
        TEST(tells_cut_files),
        TEST(reads_unaligned_data),
        TEST(a_plain_file_has_plain_names),
        TEST(the_caller_says_what_is_a_buffer),
        TEST(refuses_options_of_other_formats),
        TEST(refuses_what_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
