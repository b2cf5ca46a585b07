/* Flax's checkpoints, byte by byte: what is read, and what is refused. Files as msgpack's own
   library writes them are in tests/cli/flax.bats. */
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

#include "formats/flax/msgpack.h"

/* Texts with nulls in them. */
#define MAP1   "\x81"
#define MAP2   "\x82"
#define PARAMS "\xa6params"
#define FLOATS2                                                                                    \
    "\x93\x91\x02\xa7"                                                                             \
    "float32"                                                                                      \
    "\xc4\x08"                                                                                     \
    "\0\0\x80\x3f\0\0\0\x40"          /* 1 and 2 */
#define ARRAY2 "\xc7\x15\x01" FLOATS2 /* 21 bytes */
#define WHOLE                                                                                      \
    MAP1 "\xa1"                                                                                    \
         "a" ARRAY2

static void write_bytes(const char *bytes, size_t size)
{
    write_file("a.msgpack", bytes, size);
}

static void refused(const char *bytes, size_t size, const struct ivon_open_options *options,
                    const char *message)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {.message = "none"};
    write_bytes(bytes, size);
    int code = ivon_checkpoint_open(&source, "a.msgpack", options, &error);
    if (code != IVON_ERROR_DATA || strcmp(error.message, message) != 0)
        fail_msg("%d '%s', expected '%s'", code, error.message, message);
    assert_null(source);
}

#define REFUSED(bytes, message) refused(bytes, sizeof(bytes) - 1, NULL, message)

static void check_floats(struct ivon_source *source, size_t tensor, const char *name,
                         const float *expected, size_t count)
{
    float found[8];
    struct ivon_error error;
    assert_string_equal(ivon_source_tensor(source, tensor)->name, name);
    assert_int_equal(ivon_source_tensor(source, tensor)->count, count);
    assert_int_equal(ivon_source_read(source, tensor, 0, count, found, &error), 0);
    assert_memory_equal(found, expected, count * sizeof *found);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(ivon_source_read(source, tensor, i, 1, found, &error), 0);
        assert_true(found[0] == expected[i]);
    }
    ivon_source_will_need(source, tensor, 0, count);
    ivon_source_done_with(source, tensor, count - 1, 1);
}

static void reads_an_array(void **state)
{
    (void)state;
    static const float expected[] = {1, 2};
    write_bytes(WHOLE, sizeof WHOLE - 1);
    struct ivon_source *source = open_checkpoint("a.msgpack");
    assert_int_equal(ivon_source_tensor_count(source), 1);
    check_floats(source, 0, "a", expected, 2);
    assert_null(ivon_source_header(source)->mapping);
    ivon_source_close(source);
}

/* Of a state, parameters and running statistics; keys that no message may show are not told. */
static void takes_parameters_of_a_state(void **state)
{
    (void)state;
    static const char bytes[] = "\x84\xa3\x1b[m\x01" PARAMS MAP1 "\xa1k" ARRAY2 "\xab"
                                "batch_stats" MAP1 "\xa1m" ARRAY2 "\xa3opt" MAP1 "\xa1k" ARRAY2;
    static const float expected[] = {1, 2};
    write_bytes(bytes, sizeof bytes - 1);
    struct ivon_source *source = open_checkpoint("a.msgpack");
    assert_int_equal(ivon_source_tensor_count(source), 2);
    check_floats(source, 0, "params/k", expected, 2);
    check_floats(source, 1, "batch_stats/m", expected, 2);
    assert_int_equal(ivon_source_tensor(source, 1)->part, IVON_BUFFER);
    assert_string_equal(ivon_source_header(source)->mapping,
                        "'params' and 'batch_stats' alone, without '…', 'opt'");
    ivon_source_close(source);
}

static void looks_into_what_a_state_is_in(void **state)
{
    (void)state;
    static const char two[] = MAP2 "\xa1x" MAP1 PARAMS MAP1 "\xa1k" ARRAY2 "\xa1y" MAP1 PARAMS MAP1
                                   "\xa1k" ARRAY2;
    static const float expected[] = {1, 2};
    struct ivon_open_options options = {.size = sizeof options, .key = "y"};
    struct ivon_source *source = NULL;
    struct ivon_error error;
    REFUSED(two, "a.msgpack: holds 2 states that have 'params'");
    assert_int_equal(ivon_checkpoint_open(&source, "a.msgpack", &options, &error), 0);
    check_floats(source, 0, "params/k", expected, 2);
    ivon_source_close(source);
    options.key = "y.params";
    assert_int_equal(ivon_checkpoint_open(&source, "a.msgpack", &options, &error), 0);
    check_floats(source, 0, "k", expected, 2);
    ivon_source_close(source);
    options.key = "y.params.k";
    refused(two, sizeof two - 1, &options,
            "a.msgpack: key 'y.params.k': there is no map of that name");
    options.key = "z";
    refused(two, sizeof two - 1, &options, "a.msgpack: key 'z': there is no map of that name");
}

#define CHUNKS(shape, chunks)                                                                      \
    MAP1 "\xa1"                                                                                    \
         "a\x83\xb9__msgpack_chunked_array__\xc3\xa5shape" shape "\xa6"                            \
         "chunks" chunks

static void joins_chunks(void **state)
{
    (void)state;
    static const char bytes[] = CHUNKS("\x82\xa1"
                                       "0\x02\xa1"
                                       "1\x02",
                                       "\x82\xa1"
                                       "0" ARRAY2 "\xa1"
                                       "1" ARRAY2);
    static const float expected[] = {1, 2, 1, 2};
    write_bytes(bytes, sizeof bytes - 1);
    struct ivon_source *source = open_checkpoint("a.msgpack");
    assert_int_equal(ivon_source_tensor(source, 0)->rank, 2);
    assert_null(ivon_source_view(source, 0, 0));
    check_floats(source, 0, "a", expected, 4);
    ivon_source_close(source);
    REFUSED(CHUNKS("\x81\xa1"
                   "0\x03",
                   "\x82\xa1"
                   "0" ARRAY2 "\xa1"
                   "1" ARRAY2),
            "a.msgpack: 'a' has 16 bytes, which are no f32 of 3");
    REFUSED(CHUNKS("\x81\xa1"
                   "0\x04",
                   "\x82\xa1"
                   "1" ARRAY2 "\xa1"
                   "0" ARRAY2),
            "a.msgpack: 'a' has chunks that are not numbered in their order");
    REFUSED(CHUNKS("\x81\xa1"
                   "0\x04",
                   "\x81\xa1"
                   "0\x04"),
            "a.msgpack: 'a' has a chunk that is no array");
    REFUSED(CHUNKS("\x81\xa1"
                   "0\xff",
                   "\x81\xa1"
                   "0" ARRAY2),
            "a.msgpack: 'a' is in chunks, and has no shape or no list of them");
    REFUSED(CHUNKS("\x81\xa1"
                   "0\x03",
                   "\x82\xa1"
                   "0" ARRAY2 "\xa1"
                   "1\xc7\x0b\x01\x93\x91\x01\xa4int8\xc4\x01\0"),
            "a.msgpack: 'a' has chunks of different types");
}

/* What no array is costs nobody the others. */
static void leaves_are_opaque_or_nothing(void **state)
{
    (void)state;
    static const char bytes[] = "\x87\xa1n\xc0\xa1t\xa1x\xa1i\xd1\xff\xff\xa1u\xcf\xff\xff\xff\xff"
                                "\xff\xff\xff\xff\xa1"
                                "d\xcb\0\0\0\0\0\0\0\0\xa1"
                                "c\xd4\x02\0"
                                "\xa1"
                                "f\xc7\x12\x01\x93\x91\x01\xab"
                                "float8_e5m2\xc4\x01\0";
    static const char *const expected[] = {"a text",   "an integer",       "an integer",
                                           "a number", "a complex number", "float8_e5m2"};
    write_bytes(bytes, sizeof bytes - 1);
    struct ivon_source *source = open_checkpoint("a.msgpack");
    assert_int_equal(ivon_source_tensor_count(source), 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(ivon_source_tensor(source, i)->stored_as, expected[i]);
    ivon_source_close(source);
}

static void refuses_arrays_that_lie(void **state)
{
    (void)state;
    static const char damaged[] =
        "a.msgpack: 'a' is no array: expected a shape, a type and elements";
    REFUSED(MAP1 "\xa1"
                 "a\xc7\x15\x01\x93\x91\x03\xa7"
                 "float32\xc4\x08"
                 "12345678",
            "a.msgpack: 'a' has 8 bytes, which are no f32 of 3");
    REFUSED(MAP1 "\xa1"
                 "a\xc7\x1d\x01\x93\x91\xcf\x80\0\0\0\0\0\0\0\xa7"
                 "float32\xc4\x08"
                 "12345678",
            "a.msgpack: 'a' has 8 bytes, which are no f32 of 9223372036854775807");
    REFUSED(MAP1 "\xa1"
                 "a\xc7\x15\x01\x93\x91\xff\xa7"
                 "float32\xc4\x08"
                 "12345678",
            damaged);
    REFUSED(MAP1 "\xa1"
                 "a\xc7\x15\x01\x93\x91\x02\xa7"
                 "float32\xc4\x09"
                 "12345678",
            damaged);
    REFUSED(MAP1 "\xa1"
                 "a\xd4\x01\x93",
            damaged);
    REFUSED(MAP1 "\xa1"
                 "a\xc7\0\x01",
            damaged);
    REFUSED(MAP1 "\xa1"
                 "a\xc7\x04\x01\x93\x90\x90\x90",
            damaged);
}

static void refuses_trees_that_lie(void **state)
{
    (void)state;
    char deep[20000 + 2];
    for (int i = 0; i < 10000; i++)
        memcpy(deep + 2 * i, "\x81\xa0", 2);
    refused(deep, 20000, NULL, "a.msgpack: damaged msgpack at byte 129: it is nested too deeply");
    REFUSED("\xdf\xff\xff\xff\xff\xa1"
            "a",
            "a.msgpack: damaged msgpack at byte 5: an array or a "
            "map has more values than bytes are left");
    REFUSED(MAP1 "\xa1"
                 "a\xc9\xff\xff\xff\xff\x01",
            "a.msgpack: damaged msgpack at byte 9: a text, "
            "bytes or an extension is longer than what is "
            "left");
    REFUSED(MAP1 "\xa1"
                 "a\xc1",
            "a.msgpack: damaged msgpack at byte 4: 0xc1 begins no value");
    REFUSED(WHOLE "\xc0",
            "a.msgpack: damaged msgpack at byte 27: its only value ends before the file does");
    REFUSED("\x80", "a.msgpack: is msgpack, but holds no arrays");
    REFUSED(MAP2 "\xa1"
                 "a" ARRAY2 "\xa1"
                 "a" ARRAY2,
            "a.msgpack: tensor 'a' occurs twice");
    REFUSED(MAP2 "\xa1"
                 "a" MAP1 "\xa1"
                 "b" ARRAY2 "\xa3"
                 "a/b" ARRAY2,
            "a.msgpack: tensor 'a/b' occurs twice");
    REFUSED(MAP2 PARAMS MAP1 "\xa1k" ARRAY2 PARAMS MAP1 "\xa1k" ARRAY2,
            "a.msgpack: tensor 'params/k' occurs twice");
    REFUSED(MAP1 "\xa2"
                 ".." ARRAY2,
            "a.msgpack: '..' is not a usable name for a tensor");
    REFUSED(MAP1 "\xa2"
                 "a\0" ARRAY2,
            "a.msgpack: a key in '' is no text that could be a name");
    REFUSED(MAP1 "\xa1"
                 "a" MAP1 "\x01" ARRAY2,
            "a.msgpack: a key in 'a' is no text that could be a name");
}

/* No beginning of a file is one, and none reads beyond its end. */
static void every_prefix_is_refused(void **state)
{
    (void)state;
    static const char bytes[] = WHOLE;
    for (size_t size = 0; size < sizeof bytes - 1; size++) {
        struct msgpack tree;
        unsigned char *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy, bytes, size);
        assert_int_equal(msgpack_parse(&tree, "a", copy, size, NULL), IVON_ERROR_DATA);
        assert_null(tree.nodes);
        free(copy);
    }
}

/* Integers of every form, of either sign. */
static void reads_integers(void **state)
{
    (void)state;
    static const unsigned char bytes[] =
        "\x9d\x7f\xe0\xcc\xff\xcd\xff\xfe\xce\xff\xff\xff\xfe\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"
        "\xcf\x80\0\0\0\0\0\0\0\xd0\x80\xd1\x80\0\xd2\x80\0\0\0\xd3\x80\0\0\0\0\0\0\0\xd0\x7f\x00";
    static const int64_t expected[] = {127,       -32,       255,  65534,  4294967294,
                                       INT64_MAX, INT64_MAX, -128, -32768, INT32_MIN,
                                       INT64_MIN, 127,       0};
    struct msgpack tree;
    assert_int_equal(msgpack_parse(&tree, "a", bytes, sizeof bytes - 1, NULL), 0);
    assert_int_equal(tree.count, 14);
    assert_int_equal(tree.nodes->end, 14);
    for (size_t i = 0; i < 13; i++)
        assert_true(tree.nodes[i + 1].integer == expected[i]);
    msgpack_release(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reads_an_array, clean_directory),
        cmocka_unit_test_teardown(takes_parameters_of_a_state, clean_directory),
        cmocka_unit_test_teardown(looks_into_what_a_state_is_in, clean_directory),
        cmocka_unit_test_teardown(joins_chunks, clean_directory),
        cmocka_unit_test_teardown(leaves_are_opaque_or_nothing, clean_directory),
        cmocka_unit_test_teardown(refuses_arrays_that_lie, clean_directory),
        cmocka_unit_test_teardown(refuses_trees_that_lie, clean_directory),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(reads_integers),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_empty_directory);
}
