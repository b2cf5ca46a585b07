/* Models' directories: which file is read of one, and how one is written. */
#include <sys/stat.h>

#include "ivon/directory.h"
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

static void found(const char *path, const char *expected)
{
    char *file = NULL;
    struct ivon_error error = {.message = "none"};
    if (ivon_directory_find(&file, path, &error))
        fail_msg("%s", error.message);
    assert_string_equal(file, expected);
    free(file);
}

static void not_found(const char *path, const char *message)
{
    char *file = NULL;
    struct ivon_error error = {.message = "none"};
    assert_int_equal(ivon_directory_find(&file, path, &error), IVON_ERROR_INPUT);
    if (!strstr(error.message, message))
        fail_msg("'%s', expected '%s'", error.message, message);
    assert_null(file);
}

static void reads_the_weights_that_come_first(void **state)
{
    (void)state;
    static const char *const names[] = {"model.weights.json", "model.weights.h5",
                                        "flax_model.msgpack", "pytorch_model.bin.index.json",
                                        "pytorch_model.bin",  "model.safetensors.index.json",
                                        "model.safetensors"};
    assert_int_equal(mkdir("d", 0777), 0);
    not_found("d", "d: is a directory, expected a file, or model.safetensors, ");
    write_text("d/manifest.ocdbt", "");
    not_found("d", "d: is a checkpoint of Orbax, which is not read here: save its arrays by ");
    write_text("d/adapter_model.bin", "");
    not_found("d", "d: is a directory: name d/adapter_model.bin");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        snprintf(path, sizeof path, "d/%s", names[i]);
        write_text(path, "");
        found("d", path);
        found("d//", path);
        found(path, path);
    }
    found("nothing", "nothing");
    write_text("d/adapter_config.json", "");
    not_found("d", "d: holds a model and an adapter");
}

static void tells_whose_directory_it_is(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d", 0777), 0);
    static const char *const cases[][2] = {{"d", "d"},
                                           {"d/", "d/"},
                                           {"x/model.safetensors", "x"},
                                           {"x/y/pytorch_model.bin", "x/y"},
                                           {"/model.safetensors", "/"},
                                           {"model.safetensors.index.json", "."},
                                           {"x/other.safetensors", NULL},
                                           {"a.h5", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *of = ivon_directory_of(cases[i][0]);
        assert_true(cases[i][1] ? of && strcmp(of, cases[i][1]) == 0 : !of);
        free(of);
    }
}

static void names_say_what_is_a_directory(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d", 0777) || mkdir("d.h5", 0777) || mkdir("d.x", 0777), 0);
    assert_true(ivon_directory_is_output("x/", "a.h5"));
    assert_true(ivon_directory_is_output("x.h5/", "a.h5"));
    assert_true(ivon_directory_is_output("d", "a.h5"));
    assert_true(ivon_directory_is_output("d.x", "a.h5"));
    assert_true(ivon_directory_is_output("x", "d"));
    assert_true(ivon_directory_is_output("x-1.5", "d"));
    assert_false(ivon_directory_is_output("x", "a.h5"));
    assert_false(ivon_directory_is_output("d.h5", "d"));
    assert_false(ivon_directory_is_output("x.bin", "d"));
    assert_false(ivon_directory_is_output("", "a.h5"));
}

/* A directory as the writer begins it, with a sink of one tensor, filled. */
static struct ivon_sink *begin(struct ivon_directory **directory, const char *path, bool replace,
                               enum ivon_directory_kind kind)
{
    static const float values[3] = {1, 2, 3};
    static const struct ivon_tensor tensor = {
        .name = "w", .dtype = IVON_F32, .rank = 1, .shape = {3}, .count = 3};
    struct ivon_create_options options = ivon_create_defaults();
    struct ivon_header header = ivon_header_empty();
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {.message = "none"};
    options.replace = replace;
    options.framework = "pt";
    assert_int_equal(ivon_directory_create(directory, path, replace, &error), 0);
    const char *weights = ivon_directory_weights(*directory, kind);
    assert_int_equal(ivon_checkpoint_create(&sink, weights, &header, &tensor, 1, &options, &error),
                     0);
    assert_int_equal(ivon_sink_write(sink, 0, 0, 3, values, &error), 0);
    return sink;
}

static void is_whole_or_absent(void **state)
{
    (void)state;
    struct ivon_directory *directory = NULL;
    struct ivon_error error = {.message = "none"};
    write_text("copied", "some text");
    struct ivon_sink *sink = begin(&directory, "o/", false, IVON_DIRECTORY_FILE);
    assert_int_equal(ivon_directory_write(directory, "a", "abc", 3, &error), 0);
    assert_int_equal(ivon_directory_copy(directory, "b", "copied", &error), 0);
    assert_int_equal(ivon_directory_copy(directory, "c", "nowhere", &error), IVON_ERROR_INPUT);
    assert_int_equal(ivon_directory_write(directory, "x/y", "", 0, &error), IVON_ERROR_ARGUMENT);
    assert_int_equal(access("o", F_OK), -1);
    ivon_sink_close(sink);
    ivon_directory_close(directory);
    assert_int_equal(access("o", F_OK) + access(".o.ivon-tmp", F_OK), -2);
    sink = begin(&directory, "o/", false, IVON_DIRECTORY_FILE);
    assert_int_equal(ivon_directory_write(directory, "a", "abc", 3, &error), 0);
    assert_int_equal(ivon_directory_commit(directory, sink, &error), 0);
    ivon_sink_close(sink);
    ivon_directory_close(directory);
    assert_int_equal(access("o/a", F_OK) + access("o/model.safetensors", F_OK), 0);
    struct ivon_source *source = NULL;
    assert_int_equal(ivon_checkpoint_open(&source, "o", NULL, &error), 0);
    assert_string_equal(ivon_source_path(source), "o/model.safetensors");
    ivon_source_close(source);
    size_t size;
    unsigned char *bytes = load_file("o/model.safetensors", &size);
    assert_non_null(strstr((char *)bytes + 8, "{\"format\":\"pt\""));
    free(bytes);
}

static void replaces_files_and_leaves_others(void **state)
{
    (void)state;
    struct ivon_directory *directory = NULL;
    struct ivon_error error = {.message = "none"};
    assert_int_equal(mkdir("o", 0777), 0);
    write_text("o/model.safetensors", "old");
    write_text("o/other", "other");
    assert_int_equal(ivon_directory_create(&directory, "o", false, &error), IVON_ERROR_CREATE);
    assert_int_equal(error.hint, IVON_HINT_REPLACE_FILES);
    struct ivon_sink *sink = begin(&directory, "o", true, IVON_DIRECTORY_SHARDS);
    assert_int_equal(ivon_directory_commit(directory, sink, &error), 0);
    ivon_sink_close(sink);
    ivon_directory_close(directory);
    assert_int_equal(access("o/model.safetensors", F_OK), -1);
    assert_int_equal(access("o/other", F_OK) + access("o/model.safetensors.index.json", F_OK), 0);
    char digest[2][65];
    assert_int_equal(ivon_checkpoint_hash(digest[0], "o", &error), 0);
    static struct buffer all;
    static const char *const parts[] = {"o/model.safetensors.index.json",
                                        "o/model-00001-of-00001.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        size_t size;
        unsigned char *bytes = load_file(parts[i], &size);
        put(&all, bytes, size);
        free(bytes);
    }
    write_file("all", all.data, all.size);
    assert_int_equal(ivon_checkpoint_hash(digest[1], "all", &error), 0);
    assert_string_equal(digest[0], digest[1]);
}

static void writes_an_adapter_beside_a_model(void **state)
{
    (void)state;
    struct ivon_directory *directory = NULL;
    struct ivon_error error = {.message = "none"};
    assert_int_equal(mkdir("o", 0777), 0);
    write_text("o/model.safetensors", "a model");
    write_text("o/adapter_model.bin", "old");
    write_text("o/adapter_model.safetensors", "old");
    struct ivon_sink *sink = begin(&directory, "o", true, IVON_DIRECTORY_ADAPTER);
    assert_int_equal(ivon_directory_write(directory, "adapter_config.json", "{}", 2, &error), 0);
    assert_int_equal(access("o/adapter_model.bin", F_OK), 0);
    assert_int_equal(ivon_directory_commit(directory, sink, &error), 0);
    ivon_sink_close(sink);
    ivon_directory_close(directory);
    assert_int_equal(access("o/adapter_model.bin", F_OK), -1);
    assert_int_equal(access("o/model.safetensors", F_OK) + access("o/adapter_config.json", F_OK),
                     0);
    struct ivon_source *source = NULL;
    assert_int_equal(ivon_checkpoint_open(&source, "o/adapter_model.safetensors", NULL, &error), 0);
    ivon_source_close(source);
}

static void says_its_own_name_in_errors(void **state)
{
    (void)state;
    struct ivon_directory *directory = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_directory_create(&directory, "o", false, &error), 0);
    snprintf(error.message, sizeof error.message, "%s: is wrong",
             ivon_directory_weights(directory, IVON_DIRECTORY_FILE));
    ivon_directory_explain(directory, &error);
    assert_string_equal(error.message, "o/model.safetensors: is wrong");
    struct ivon_directory *other = NULL;
    assert_int_equal(ivon_directory_create(&other, "o", false, &error), IVON_ERROR_CREATE);
    assert_string_equal(error.message, "o: another process is writing it");
    ivon_directory_close(directory);
    ivon_directory_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reads_the_weights_that_come_first, clean_directory),
        cmocka_unit_test_teardown(tells_whose_directory_it_is, clean_directory),
        cmocka_unit_test_teardown(names_say_what_is_a_directory, clean_directory),
        cmocka_unit_test_teardown(is_whole_or_absent, clean_directory),
        cmocka_unit_test_teardown(replaces_files_and_leaves_others, clean_directory),
        cmocka_unit_test_teardown(writes_an_adapter_beside_a_model, clean_directory),
        cmocka_unit_test_teardown(says_its_own_name_in_errors, clean_directory),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
