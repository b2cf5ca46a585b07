/* safetensors in several files: an index that is followed, one that must not be, and outputs that
   are as another checkpoint is. */
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

#include <jansson.h>

static const int64_t three[] = {3};

static void refused(const char *path, int code, const char *message)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {.message = "none"};
    int found = ivon_checkpoint_open(&source, path, NULL, &error);
    if (found != code || strcmp(error.message, message) != 0)
        fail_msg("%d '%s', expected %d '%s'", found, error.message, code, message);
    assert_null(source);
}

/* A file of tensors by these names, three numbers each. */
static void write_shard(const char *path, const char *first, const char *second)
{
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 1};
    add_tensor(&checkpoint, IVON_MEAN, first, IVON_F32, 1, three);
    if (second)
        add_tensor(&checkpoint, IVON_MEAN, second, IVON_F32, 1, three);
    write_checkpoint(&checkpoint, path, 10);
    release_checkpoint(&checkpoint);
}

static void refuses_indices_that_mislead(void **state)
{
    (void)state;
    static const struct {
        const char *index, *message;
    } cases[] = {
        {"{}", "d/i: is JSON, but no index of shards: 'weight_map' is missing"},
        {" {\"weight_map\":[]}", "d/i: damaged JSON at byte 15: expected '{'"},
        {"{\"weight_map\":{\"a\":1}}",
         "d/i: tensor 'a': its shard is 'no string', expected the name of a file in the same "
         "directory"},
        {"{\"weight_map\":{\"a\":\"../s\"}}",
         "d/i: tensor 'a': its shard is '../s', expected the name of a file in the same directory"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}",
         "d/i: tensor 'a': its shard is '/etc/passwd', expected the name of a file in the same "
         "directory"},
        {"{\"weight_map\":{\"a\":\"..\"}}",
         "d/i: tensor 'a': its shard is '..', expected the name of a file in the same directory"},
        {"{\"weight_map\":{\"a\":\"s\\u001b\"}}",
         "d/i: tensor 'a': its shard is 's?', expected the name of a file in the same directory"},
        {"{\"weight_map\":{\"a\":\"\"}}",
         "d/i: tensor 'a': its shard is '', expected the name of a file in the same directory"},
        {"{\"weight_map\":{\"a\":\"s\",\"b\":\"s\",\"a\":\"s\"}}",
         "d/i: tensor 'a' occurs twice in 'weight_map'"},
        {"{\"weight_map\":{},\"weight_map\":{}}", "d/i: 'weight_map' occurs twice"},
        {"{\"metadata\":{},\"metadata\":{},\"weight_map\":{}}", "d/i: 'metadata' occurs twice"},
        {"{\"metadata\":1,\"weight_map\":{}}", "d/i: 'metadata' is no object"},
        {"{\"weight_map\":{\"a\":\"s\"}}", "d/i: tensor 'b': is in 's', expected nowhere"},
        {"{\"weight_map\":{\"a\":\"s\",\"b\":\"t\",\"c\":\"t\"}}",
         "d/i: tensor 'b': is in 's', expected in 't'"},
        {"{\"weight_map\":{\"a\":\"s\",\"b\":\"s\",\"c\":\"s\"}}",
         "d/i: tensor 'c': is not in 's'"},
        {"{\"weight_map\":{\"a\":\"i\"}}", "d/i: is no safetensors file, or is cut off"},
        {"{\"weight_map\":{\"a\":\"s\"}} x",
         "d/i: damaged JSON at byte 25: something follows the object"},
    };
    assert_int_equal(system("mkdir d"), 0);
    write_shard("d/s.safetensors", "a", "b");
    write_shard("d/t.safetensors", "c", NULL);
    assert_int_equal(rename("d/s.safetensors", "d/s"), 0);
    assert_int_equal(rename("d/t.safetensors", "d/t"), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text("d/i", cases[i].index);
        refused("d/i", IVON_ERROR_DATA, cases[i].message);
    }
    write_text("d/i", "{\"weight_map\":{\"a\":\"missing\"}}");
    refused("d/i", IVON_ERROR_INPUT, "d/missing: cannot open it: No such file or directory");
}

/* Shards by name and tensors by place, whatever the order of the map. */
static void the_order_does_not_depend_on_the_map(void **state)
{
    (void)state;
    static const char *const names[] = {"x", "z", "y"};
    write_shard("s1.safetensors", "z", "x"); /* by name in the file */
    write_shard("s2.safetensors", "y", NULL);
    write_text("i", "{\"metadata\":{\"total_size\":36,\"ess\":\"5\",\"step\":7},\"weight_map\":{"
                    "\"y\":\"s2.safetensors\",\"z\":\"s1.safetensors\",\"x\":\"s1.safetensors\"}}");
    struct ivon_source *source = open_checkpoint("i");
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(ivon_source_tensor(source, i)->name, names[i]);
    assert_true(ivon_source_header(source)->ess == 5);
    assert_int_equal(ivon_source_header(source)->step, 7);
    ivon_source_close(source);
}

static void opens_hundreds_of_shards(void **state)
{
    (void)state;
    enum { SHARDS = 300 };
    static char index[SHARDS * 40 + 64] = "{\"weight_map\":{";
    for (int i = 0; i < SHARDS; i++) {
        char path[32], name[16];
        snprintf(path, sizeof path, "s%03d.safetensors", i);
        snprintf(name, sizeof name, "t%03d", i);
        write_shard(path, name, NULL);
        sprintf(strchr(index, '\0'), "%s\"%s\":\"%s\"", i ? "," : "", name, path);
    }
    write_text("i", strcat(index, "}}"));
    struct ivon_source *source = open_checkpoint("i");
    assert_int_equal(ivon_source_tensor_count(source), SHARDS);
    ivon_source_close(source);
}

static void shards_hold_as_much_as_they_may(void **state)
{
    (void)state;
    struct ivon_create_options options = {.size = sizeof options, .shard_size = 24};
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 2, .options = &options};
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    for (size_t i = 0; i < 5; i++)
        add_tensor(&checkpoint, IVON_MEAN, names[i], IVON_F32, 1, three);
    write_checkpoint(&checkpoint, "m.safetensors.index.json", 2);
    check_checkpoint(&checkpoint, "m.safetensors.index.json");
    assert_int_equal(access("m-00001-of-00003.safetensors", F_OK), 0);
    assert_int_equal(access("m-00002-of-00003.safetensors", F_OK), 0);
    struct ivon_source *last = open_checkpoint("m-00003-of-00003.safetensors");
    assert_int_equal(ivon_source_tensor_count(last), 1);
    ivon_source_close(last);
    struct ivon_sink *sink = NULL;
    struct ivon_error error;
    options.shard_size = 11;
    assert_int_equal(ivon_checkpoint_create(&sink, "n.safetensors.index.json", &checkpoint.header,
                                            checkpoint.tensors, 5, &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "n.safetensors.index.json: tensor 'a' has 12 bytes, and a "
                                       "shard may hold 11");
    release_checkpoint(&checkpoint);
}

/* Two shards in a directory "a" that no rule of ours would make: unsorted, with metadata. */
static void write_model(void)
{
    static const char first[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                "\"z\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                                "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}";
    static const char second[] = "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"second\"},"
                                 "\"c\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    static struct buffer file;
    assert_int_equal(system("mkdir -p a b"), 0);
    const char *const headers[] = {first, second};
    static const char *const paths[] = {"a/model-1.safetensors", "a/model-2.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        file.size = 0;
        put_little(&file, strlen(headers[i]), 8);
        put(&file, headers[i], strlen(headers[i]));
        for (unsigned char k = 0; k < 8; k++)
            put_little(&file, k, 1);
        write_file(paths[i], file.data, file.size);
    }
    write_text("a/model.safetensors.index.json",
               "{\"metadata\":{\"total_size\":16,\"by\":\"us\"},\"weight_map\":{"
               "\"b\":\"model-1.safetensors\",\"c\":\"model-2.safetensors\","
               "\"z\":\"model-1.safetensors\"}}");
}

static void copy(struct ivon_source *source, const char *path,
                 const struct ivon_create_options *options)
{
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    size_t count = ivon_source_tensor_count(source);
    struct ivon_tensor tensors[16];
    assert_true(count <= 16);
    for (size_t i = 0; i < count; i++)
        tensors[count - 1 - i] = *ivon_source_tensor(source, i);
    if (ivon_checkpoint_create(&sink, path, ivon_source_header(source), tensors, count, options,
                               &error))
        fail_msg("%s", error.message);
    for (size_t i = 0; i < count; i++) {
        double data[16];
        assert_int_equal(ivon_source_read(source, i, 0, tensors[count - 1 - i].count, data, &error),
                         0);
        assert_int_equal(
            ivon_sink_write(sink, count - 1 - i, 0, tensors[count - 1 - i].count, data, &error), 0);
    }
    if (ivon_sink_commit(sink, &error))
        fail_msg("%s", error.message);
    ivon_sink_close(sink);
}

/* Same files, names, order and metadata, for a source that is listed the other way round. */
static void an_output_is_like_another(void **state)
{
    (void)state;
    write_model();
    struct ivon_source *source = open_checkpoint("a/model.safetensors.index.json");
    struct ivon_create_options options = {.size = sizeof options, .like = source};
    copy(source, "b/model.safetensors.index.json", &options);
    for (int i = 1; i <= 2; i++) {
        char path[32];
        size_t size_a, size_b;
        snprintf(path, sizeof path, "a/model-%d.safetensors", i);
        unsigned char *a = load_file(path, &size_a);
        path[0] = 'b';
        unsigned char *b = load_file(path, &size_b);
        uint64_t length_a, length_b;
        memcpy(&length_a, a, 8);
        memcpy(&length_b, b, 8);
        assert_int_equal(length_b % 8, 0); /* padded, as the other is not */
        assert_memory_equal(a + 8, b + 8, length_a);
        assert_memory_equal(a + 8 + length_a, b + 8 + length_b, 8);
        free(a);
        free(b);
    }
    json_t *index = json_load_file("b/model.safetensors.index.json", 0, NULL);
    json_t *like = json_load_file("a/model.safetensors.index.json", 0, NULL);
    assert_true(index && json_equal(index, like));
    json_decref(index);
    json_decref(like);
    copy(source, "b/other.safetensors.index.json", &options); /* its own stem: no file is shared */
    assert_int_equal(access("b/other-1.safetensors", F_OK), 0);
    copy(source, "b/one.safetensors", &options);
    struct ivon_source *one = open_checkpoint("b/one.safetensors");
    assert_string_equal(ivon_source_tensor(one, 0)->name, "z");
    assert_string_equal(ivon_source_tensor(one, 2)->name, "c");
    ivon_source_close(one);
    options.shard_size = 8;
    copy(source, "b/small.safetensors.index.json", &options);
    assert_int_equal(access("b/small-00002-of-00002.safetensors", F_OK), 0);
    ivon_source_close(source);
}

/* What the other does not have goes to the shard of its mean, and is aligned. */
static void hessians_go_beside_their_means(void **state)
{
    (void)state;
    write_model();
    struct ivon_source *source = open_checkpoint("a/model.safetensors.index.json");
    const struct ivon_create_options options = {.size = sizeof options, .like = source};
    struct checkpoint checkpoint = {.header = full_header(), .seed = 3, .options = &options};
    add_tensor(&checkpoint, IVON_MEAN, "z", IVON_F16, 1, three);
    add_tensor(&checkpoint, IVON_HESSIAN, "z", IVON_F32, 1, three);
    add_tensor(&checkpoint, IVON_MEAN, "c", IVON_F32, 1, three);
    add_tensor(&checkpoint, IVON_HESSIAN, "c", IVON_F64, 1, three);
    add_tensor(&checkpoint, IVON_BUFFER, "new", IVON_F64, 1, three);
    write_checkpoint(&checkpoint, "b/model.safetensors.index.json", 2);
    check_checkpoint(&checkpoint, "b/model.safetensors.index.json");
    ivon_source_close(source);
    source = open_checkpoint("b/model-1.safetensors");
    assert_int_equal(ivon_source_tensor_count(source), 2);
    ivon_source_close(source);
    source = open_checkpoint("b/model.safetensors.index.json");
    check_checkpoint(&checkpoint, "b/model.safetensors.index.json");
    copy(source, "b/again.safetensors.index.json",
         &(struct ivon_create_options){.size = sizeof(struct ivon_create_options), .like = source});
    check_checkpoint(&checkpoint, "b/again.safetensors.index.json");
    ivon_source_close(source);
    release_checkpoint(&checkpoint);
}

/* A failure to give one shard its name takes back those that have theirs. */
static void a_failed_commit_leaves_nothing_new(void **state)
{
    (void)state;
    struct ivon_create_options options = {
        .size = sizeof options, .shard_size = 12, .replace = true};
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 4, .options = &options};
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    add_tensor(&checkpoint, IVON_MEAN, "a", IVON_F32, 1, three);
    add_tensor(&checkpoint, IVON_MEAN, "b", IVON_F32, 1, three);
    assert_int_equal(ivon_checkpoint_create(&sink, "m.safetensors.index.json", &checkpoint.header,
                                            checkpoint.tensors, 2, &options, &error),
                     0);
    assert_int_equal(system("mkdir m-00002-of-00002.safetensors"), 0); /* in the way since */
    assert_int_equal(ivon_sink_commit(sink, &error), IVON_ERROR_CREATE);
    ivon_sink_close(sink);
    assert_int_equal(system("rmdir m-00002-of-00002.safetensors"), 0);
    assert_int_equal(system("test -z \"$(ls -A)\""), 0);
    write_checkpoint(&checkpoint, "m.safetensors.index.json", 2);
    /* Where old shards were replaced, the old index is gone: nothing looks complete. */
    assert_int_equal(ivon_checkpoint_create(&sink, "m.safetensors.index.json", &checkpoint.header,
                                            checkpoint.tensors, 2, &options, &error),
                     0);
    check_checkpoint(&checkpoint, "m.safetensors.index.json");
    assert_int_equal(system("rm m-00002-of-00002.safetensors; "
                            "mkdir m-00002-of-00002.safetensors"),
                     0);
    assert_int_equal(ivon_sink_commit(sink, &error), IVON_ERROR_CREATE);
    ivon_sink_close(sink);
    assert_int_equal(access("m.safetensors.index.json", F_OK), -1);
    assert_int_equal(system("rmdir m-00002-of-00002.safetensors"), 0);
    release_checkpoint(&checkpoint);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean_directory)
    const struct CMUnitTest tests[] = {
        TEST(refuses_indices_that_mislead),       TEST(the_order_does_not_depend_on_the_map),
        TEST(opens_hundreds_of_shards),           TEST(shards_hold_as_much_as_they_may),
        TEST(an_output_is_like_another),          TEST(hessians_go_beside_their_means),
        TEST(a_failed_commit_leaves_nothing_new),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
