/* Posterior files: what is written is what is read, byte by byte and again. */
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

enum { ALIGNMENT = 64 };

static int clean(void **state)
{
    (void)state;
    static const char *const names[] = {"a.h5", "b.h5"};
    for (size_t i = 0; i < 2; i++)
        if (access(names[i], F_OK) == 0 && unlink(names[i]))
            return -1;
    return 0;
}

static void reads_what_was_written(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 1};
    fill_checkpoint(&checkpoint);
    write_checkpoint(&checkpoint, "a.h5", 1000);
    check_checkpoint(&checkpoint, "a.h5");
    release_checkpoint(&checkpoint);
}

static void keeps_the_order_of_tensors(void **state)
{
    (void)state;
    static const char *const names[] = {"z", "y", "a10", "a9", "m"};
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 2};
    for (size_t i = 0; i < 5; i++)
        add_tensor(&checkpoint, IVON_MEAN, names[i], IVON_F32, 1, (const int64_t[]){3});
    for (size_t i = 0; i < 5; i++)
        add_tensor(&checkpoint, IVON_HESSIAN, names[i], IVON_F32, 1, (const int64_t[]){3});
    write_checkpoint(&checkpoint, "a.h5", 10);
    struct ivon_source *source = open_checkpoint("a.h5");
    for (size_t i = 0; i < checkpoint.count; i++)
        check_tensor(source, i, &checkpoint.tensors[i], checkpoint.data[i], ALIGNMENT);
    ivon_source_close(source);
    release_checkpoint(&checkpoint);
}

static void equal_inputs_give_equal_bytes(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 3};
    fill_checkpoint(&checkpoint);
    write_checkpoint(&checkpoint, "a.h5", 1 << 20);
    sleep(1); /* so that a time of writing, kept in seconds, would show */
    write_checkpoint(&checkpoint, "b.h5", 17);
    size_t size_a, size_b;
    unsigned char *a = load_file("a.h5", &size_a), *b = load_file("b.h5", &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    free(a);
    free(b);
    char digest[2][65];
    struct ivon_error error;
    assert_int_equal(ivon_checkpoint_hash(digest[0], "a.h5", &error), 0);
    assert_int_equal(ivon_checkpoint_hash(digest[1], "b.h5", &error), 0);
    assert_int_equal(strlen(digest[0]), 64);
    assert_string_equal(digest[0], digest[1]);
    release_checkpoint(&checkpoint);
}

static void an_absent_header_stays_absent(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {
        .header = ivon_header_empty(), .alignment = ALIGNMENT, .seed = 4};
    add_tensor(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){3});
    add_tensor(&checkpoint, IVON_HESSIAN, "w", IVON_F32, 1, (const int64_t[]){3});
    write_checkpoint(&checkpoint, "a.h5", 10);
    check_checkpoint(&checkpoint, "a.h5");
    release_checkpoint(&checkpoint);
}

static void no_tensor_at_all(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 5};
    write_checkpoint(&checkpoint, "a.h5", 10);
    check_checkpoint(&checkpoint, "a.h5");
}

static void zero_is_not_absent(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {
        .header = ivon_header_empty(), .alignment = ALIGNMENT, .seed = 6};
    checkpoint.header.weight_decay = 0;
    checkpoint.header.step = 0;
    checkpoint.header.n_train = 0;
    write_checkpoint(&checkpoint, "a.h5", 10);
    check_checkpoint(&checkpoint, "a.h5");
}

static void a_hessian_may_have_its_own_numbers(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 7};
    static const int64_t three[] = {3};
    add_tensor(&checkpoint, IVON_HESSIAN, "as the header", IVON_F32, 1, three);
    add_tensor(&checkpoint, IVON_HESSIAN, "own ess", IVON_F32, 1, three)->ess = 5;
    add_tensor(&checkpoint, IVON_HESSIAN, "own decay", IVON_F32, 1, three)->weight_decay = 0;
    struct ivon_tensor *both = add_tensor(&checkpoint, IVON_HESSIAN, "both", IVON_F32, 1, three);
    both->ess = 0x1.23456789abcdep-40;
    both->weight_decay = 3e300;
    write_checkpoint(&checkpoint, "a.h5", 10);
    check_checkpoint(&checkpoint, "a.h5");
    assert_int_equal(unlink("a.h5"), 0);
    checkpoint.header.ess = NAN; /* some name a number, the checkpoint does not */
    checkpoint.tensors[0].ess = NAN;
    checkpoint.tensors[2].ess = 7;
    write_checkpoint(&checkpoint, "a.h5", 10);
    check_checkpoint(&checkpoint, "a.h5");
    release_checkpoint(&checkpoint);
}

static void a_long_provenance_is_kept(void **state)
{
    (void)state;
    enum { LENGTH = 60000 };
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 8};
    char *text = malloc(LENGTH + 1);
    assert_non_null(text);
    memset(text, 'x', LENGTH);
    text[LENGTH] = '\0';
    checkpoint.header.provenance = text;
    add_tensor(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){3});
    write_checkpoint(&checkpoint, "a.h5", 10);
    check_checkpoint(&checkpoint, "a.h5");
    release_checkpoint(&checkpoint);
    free(text);
}

static void an_unfinished_file_leaves_no_trace(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 9};
    struct ivon_create_options replace = {.size = sizeof replace, .replace = true};
    struct ivon_sink *sink = NULL;
    struct ivon_error error;
    add_tensor(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){3});
    assert_int_equal(ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors,
                                            1, NULL, &error),
                     0);
    assert_int_equal(ivon_sink_write(sink, 0, 1, 3, checkpoint.data[0], &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_sink_write(sink, 1, 0, 1, checkpoint.data[0], &error),
                     IVON_ERROR_ARGUMENT);
    ivon_sink_close(sink);
    assert_int_equal(access("a.h5", F_OK), -1);
    assert_int_equal(access(".a.h5.ivon-tmp", F_OK), -1);
    write_checkpoint(&checkpoint, "a.h5", 10);
    sink = NULL;
    assert_int_equal(ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors,
                                            1, NULL, &error),
                     IVON_ERROR_CREATE);
    assert_null(sink);
    assert_int_equal(ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors,
                                            1, &replace, &error),
                     0);
    check_checkpoint(&checkpoint, "a.h5"); /* the old file, while the new one grows */
    ivon_sink_close(sink);
    check_checkpoint(&checkpoint, "a.h5");
    release_checkpoint(&checkpoint);
}

static void refuses_what_hdf5_cannot_name(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"a", "a/b"},    {"a/b", "a"},  {"", "b"},
                                           {"a/../b", "c"}, {"a//b", "c"}, {"a\nb", "c"},
                                           {"same", "same"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct checkpoint checkpoint = {
            .header = full_header(), .alignment = ALIGNMENT, .seed = 10};
        struct ivon_sink *sink = NULL;
        struct ivon_error error = {0};
        for (int j = 0; j < 2; j++)
            add_tensor(&checkpoint, IVON_MEAN, names[i][j], IVON_F32, 1, (const int64_t[]){3});
        int code = ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors, 2,
                                          NULL, &error);
        assert_int_equal(code, i < 2 || i == 6 ? IVON_ERROR_CREATE : IVON_ERROR_ARGUMENT);
        assert_int_equal(error.code, code);
        assert_non_null(strstr(error.message, "a.h5: "));
        assert_null(sink);
        assert_int_equal(access("a.h5", F_OK), -1);
        assert_int_equal(access(".a.h5.ivon-tmp", F_OK), -1);
        release_checkpoint(&checkpoint);
    }
}

static void refuses_what_is_no_posterior(void **state)
{
    (void)state;
    struct ivon_source *source = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_checkpoint_open(&source, "a.h5", NULL, &error), IVON_ERROR_INPUT);
    assert_int_equal(ivon_checkpoint_open(&source, ".", NULL, &error), IVON_ERROR_INPUT);
    FILE *file = fopen("a.h5", "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(ivon_checkpoint_open(&source, "a.h5", NULL, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "a.h5: is empty"));
    file = fopen("a.h5", "w");
    assert_non_null(file);
    fputs("not an HDF5 file, but text", file);
    fclose(file);
    assert_int_equal(ivon_checkpoint_open(&source, "a.h5", NULL, &error), IVON_ERROR_DATA);
    assert_int_equal(unlink("a.h5"), 0);
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 11};
    add_tensor(&checkpoint, IVON_BUFFER, "w", IVON_F32, 1, (const int64_t[]){3000});
    write_checkpoint(&checkpoint, "a.h5", 5000);
    size_t size;
    unsigned char *bytes = load_file("a.h5", &size);
    for (size_t cut = 8; cut < size; cut += size / 7) { /* cut anywhere, it is refused */
        assert_int_equal(truncate("a.h5", (off_t)(size - cut)), 0);
        assert_int_equal(ivon_checkpoint_open(&source, "a.h5", NULL, &error), IVON_ERROR_DATA);
        assert_null(source);
        file = fopen("a.h5", "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, size, file), size);
        fclose(file);
    }
    check_checkpoint(&checkpoint, "a.h5");
    free(bytes);
    release_checkpoint(&checkpoint);
}

static void refuses_integers_as_means(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .alignment = ALIGNMENT, .seed = 12};
    struct ivon_source *source = NULL;
    struct ivon_error error;
    add_tensor(&checkpoint, IVON_MEAN, "w", IVON_I32, 1, (const int64_t[]){3});
    write_checkpoint(&checkpoint, "a.h5", 10);
    assert_int_equal(ivon_checkpoint_open(&source, "a.h5", NULL, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "'mean/w' has elements of type i32"));
    release_checkpoint(&checkpoint);
}

static void refuses_a_format_that_is_none(void **state)
{
    (void)state;
    struct ivon_create_options options = {.size = sizeof options, .format = (enum ivon_format)99};
    struct ivon_header header = full_header();
    struct ivon_sink *sink = NULL;
    struct ivon_error error;
    assert_int_equal(ivon_checkpoint_create(&sink, "a.h5", &header, NULL, 0, &options, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "a.h5: no format has the number 99");
}

static void knows_an_index_by_its_name(void **state)
{
    (void)state;
    assert_true(ivon_checkpoint_has_shards("a/model.safetensors.index.json"));
    assert_true(ivon_checkpoint_has_shards("pytorch_model.bin.index.json"));
    assert_false(ivon_checkpoint_has_shards("model.safetensors"));
    assert_false(ivon_checkpoint_has_shards("index.json"));
}

static void knows_what_ranks_can_write_together(void **state)
{
    (void)state;
    static const char *const shared[] = {"a", "a.h5", "a.safetensors", "a.safetensors.index.json",
                                         "a.npz"};
    struct ivon_create_options options = ivon_create_defaults();
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
        assert_true(ivon_checkpoint_shared(shared[i], NULL));
    assert_false(ivon_checkpoint_shared("a.onnx", NULL));
    assert_false(ivon_checkpoint_shared("a.unknown", NULL));
    options.format = IVON_FORMAT_ONNX;
    assert_false(ivon_checkpoint_shared("a.h5", &options));
    options.size = 0;
    assert_false(ivon_checkpoint_shared("a.h5", &options));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean)
    const struct CMUnitTest tests[] = {
        TEST(reads_what_was_written),
        TEST(keeps_the_order_of_tensors),
        TEST(equal_inputs_give_equal_bytes),
        TEST(an_absent_header_stays_absent),
        TEST(no_tensor_at_all),
        TEST(zero_is_not_absent),
        TEST(a_hessian_may_have_its_own_numbers),
        TEST(a_long_provenance_is_kept),
        TEST(an_unfinished_file_leaves_no_trace),
        TEST(refuses_what_hdf5_cannot_name),
        TEST(refuses_what_is_no_posterior),
        TEST(refuses_integers_as_means),
        TEST(refuses_a_format_that_is_none),
        TEST(knows_an_index_by_its_name),
        TEST(knows_what_ranks_can_write_together),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_empty_directory);
}
