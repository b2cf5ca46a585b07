/* Posterior files: what is written is what is read, byte by byte and again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ivon/checkpoint.h"

enum { ALIGNMENT = 64, TENSORS_MAX = 64 };

static char directory[] = "/tmp/ivon-checkpoint-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return mkdtemp(directory) && chdir(directory) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    return chdir("/") || rmdir(directory);
}

static int clean(void **state)
{
    (void)state;
    static const char *const names[] = {"a.h5", "b.h5"};
    for (size_t i = 0; i < 2; i++)
        if (access(names[i], F_OK) == 0 && unlink(names[i]))
            return -1;
    return 0;
}

static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Tensors and their bytes. */
struct checkpoint {
    struct ivon_header header;
    struct ivon_tensor tensors[TENSORS_MAX];
    unsigned char *data[TENSORS_MAX];
    size_t count;
    uint64_t seed;
};

static struct ivon_tensor *add(struct checkpoint *checkpoint, enum ivon_part part,
                               const char *name, enum ivon_dtype dtype, int rank,
                               const int64_t *shape)
{
    assert_true(checkpoint->count < TENSORS_MAX);
    struct ivon_tensor *tensor = &checkpoint->tensors[checkpoint->count];
    *tensor = (struct ivon_tensor){.name = name, .part = part, .dtype = dtype, .rank = rank,
                                   .count = 1, .ess = NAN, .weight_decay = NAN};
    for (int i = 0; i < rank; i++) {
        tensor->shape[i] = shape[i];
        tensor->count *= (size_t)shape[i];
    }
    if (part == IVON_HESSIAN) {
        tensor->ess = checkpoint->header.ess;
        tensor->weight_decay = checkpoint->header.weight_decay;
    }
    size_t size = tensor->count * ivon_dtype_size(dtype);
    unsigned char *bytes = malloc(size + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(dtype == IVON_BOOL ? random_bits(&checkpoint->seed) & 1
                                                      : random_bits(&checkpoint->seed));
    checkpoint->data[checkpoint->count++] = bytes;
    return tensor;
}

static void release(struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->count; i++)
        free(checkpoint->data[i]);
}

/* Writes the file in pieces of `piece` elements, the last ones first. */
static void write_file(const struct checkpoint *checkpoint, const char *path, size_t piece)
{
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    if (ivon_checkpoint_create(&sink, path, &checkpoint->header, checkpoint->tensors,
                               checkpoint->count, NULL, &error))
        fail_msg("%s", error.message);
    for (size_t i = checkpoint->count; i-- > 0;) {
        size_t count = checkpoint->tensors[i].count;
        size_t size = ivon_dtype_size(checkpoint->tensors[i].dtype);
        for (size_t pieces = (count + piece - 1) / piece; pieces-- > 0;) {
            size_t first = pieces * piece, length = count - first < piece ? count - first : piece;
            if (ivon_sink_write(sink, i, first, length, checkpoint->data[i] + first * size,
                                &error))
                fail_msg("%s", error.message);
        }
    }
    assert_int_equal(access(path, F_OK), -1);
    if (ivon_sink_commit(sink, &error))
        fail_msg("%s", error.message);
    ivon_sink_close(sink);
}

static struct ivon_source *open_file(const char *path)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    if (ivon_checkpoint_open(&source, path, NULL, &error))
        fail_msg("%s", error.message);
    return source;
}

static unsigned char *load(const char *path, size_t *size)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    *size = (size_t)status.st_size;
    unsigned char *bytes = malloc(*size);
    FILE *file = fopen(path, "rb");
    assert_true(bytes && file);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void assert_number(double found, double expected)
{
    assert_true(isnan(expected) ? isnan(found) : found == expected);
}

static void assert_text(const char *found, const char *expected)
{
    if (expected)
        assert_string_equal(found, expected);
    else
        assert_null(found);
}

static void check_tensor(struct ivon_source *source, size_t i, const struct ivon_tensor *expected,
                         const unsigned char *data)
{
    struct ivon_error error;
    const struct ivon_tensor *found = ivon_source_tensor(source, i);
    size_t size = ivon_dtype_size(expected->dtype), count = expected->count;
    assert_string_equal(found->name, expected->name);
    assert_int_equal(found->part, expected->part);
    assert_int_equal(found->dtype, expected->dtype);
    assert_int_equal(found->rank, expected->rank);
    assert_memory_equal(found->shape, expected->shape, sizeof found->shape);
    assert_int_equal(found->count, count);
    assert_number(found->ess, expected->ess);
    assert_number(found->weight_decay, expected->weight_decay);
    assert_int_equal(ivon_source_find(source, expected->part, expected->name), i);
    unsigned char *buffer = malloc(count * size + 1);
    assert_non_null(buffer);
    assert_int_equal(ivon_source_read(source, i, 0, count, buffer, &error), 0);
    assert_memory_equal(buffer, data, count * size);
    if (count > 2) {
        assert_int_equal(ivon_source_read(source, i, 1, count - 2, buffer, &error), 0);
        assert_memory_equal(buffer, data + size, (count - 2) * size);
    }
    free(buffer);
    const unsigned char *view = ivon_source_view(source, i, 0);
    if (count) {
        assert_non_null(view);
        /* A mapping starts at a page, so this is also the alignment within the file. */
        assert_int_equal((uintptr_t)view % ALIGNMENT, 0);
        assert_memory_equal(view, data, count * size);
        assert_ptr_equal(ivon_source_view(source, i, count - 1), view + (count - 1) * size);
    }
    ivon_source_will_need(source, i, 0, count);
    ivon_source_done_with(source, i, 0, count);
}

static void check_file(const struct checkpoint *checkpoint, const char *path)
{
    struct ivon_source *source = open_file(path);
    const struct ivon_header *header = ivon_source_header(source);
    assert_string_equal(ivon_source_path(source), path);
    assert_number(header->ess, checkpoint->header.ess);
    assert_number(header->weight_decay, checkpoint->header.weight_decay);
    assert_int_equal(header->step, checkpoint->header.step);
    assert_int_equal(header->n_train, checkpoint->header.n_train);
    assert_text(header->creator, checkpoint->header.creator);
    assert_text(header->provenance, checkpoint->header.provenance);
    assert_int_equal(ivon_source_tensor_count(source), checkpoint->count);
    for (size_t i = 0; i < checkpoint->count; i++) {
        const struct ivon_tensor *tensor = &checkpoint->tensors[i];
        ptrdiff_t at = ivon_source_find(source, tensor->part, tensor->name);
        assert_true(at >= 0);
        check_tensor(source, (size_t)at, tensor, checkpoint->data[i]);
    }
    ivon_source_close(source);
}

static struct ivon_header full_header(void)
{
    return (struct ivon_header){.ess = 1e6,
                                .weight_decay = 1.25e-4,
                                .step = INT64_C(1) << 40,
                                .n_train = 60000,
                                .creator = "test \xc3\xa9",
                                .provenance = "{\"command\": \"\\u001b\"}"};
}

/* Every dtype where it may stand, scalars, empty tensors, all ranks, names of all kinds. */
static void fill(struct checkpoint *checkpoint)
{
    static const char *const names[IVON_DTYPE_COUNT] = {
        "d.f64", "d.f32", "d.f16", "d.bf16", "d.i64", "d.i32", "d.i16",
        "d.i8",  "d.u64", "d.u32", "d.u16",  "d.u8",  "d.bool"};
    static const int64_t shape[IVON_RANK_MAX] = {3, 1, 2, 1, 5, 1, 1, 2};
    for (enum ivon_dtype dtype = 0; dtype < IVON_DTYPE_COUNT; dtype++)
        add(checkpoint, IVON_BUFFER, names[dtype], dtype, 2, (const int64_t[]){7, 3});
    for (enum ivon_dtype dtype = IVON_F64; dtype <= IVON_BF16; dtype++) {
        add(checkpoint, IVON_MEAN, names[dtype], dtype, 1, (const int64_t[]){129});
        add(checkpoint, IVON_HESSIAN, names[dtype], dtype, 1, (const int64_t[]){129});
    }
    add(checkpoint, IVON_MOMENTUM, "d.f32", IVON_F32, 1, (const int64_t[]){129});
    add(checkpoint, IVON_MEAN, "scalar", IVON_F32, 0, NULL);
    add(checkpoint, IVON_BUFFER, "scalar", IVON_I64, 0, NULL);
    add(checkpoint, IVON_MEAN, "empty", IVON_F32, 1, (const int64_t[]){0});
    add(checkpoint, IVON_HESSIAN, "empty", IVON_F32, 1, (const int64_t[]){0});
    add(checkpoint, IVON_MEAN, "empty too", IVON_BF16, 3, (const int64_t[]){4, 0, 5});
    add(checkpoint, IVON_MEAN, "deep/down/there.weight", IVON_F32, 2, (const int64_t[]){9, 31});
    add(checkpoint, IVON_MEAN, "deep/down/bias", IVON_F32, 1, (const int64_t[]){9});
    add(checkpoint, IVON_MEAN, "deep/up", IVON_F16, 1, (const int64_t[]){1});
    add(checkpoint, IVON_MEAN, "\xce\xb8 'quoted' [0]", IVON_F32, 1, (const int64_t[]){2});
    add(checkpoint, IVON_MEAN, "large", IVON_F32, 2, (const int64_t[]){301, 199});
    for (int rank = 1; rank <= IVON_RANK_MAX; rank++) {
        static const char *const ranks[] = {"r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"};
        add(checkpoint, IVON_MEAN, ranks[rank - 1], IVON_F32, rank, shape);
    }
    add(checkpoint, IVON_GRAPH, "model.onnx", IVON_U8, 1, (const int64_t[]){1001});
}

static void reads_what_was_written(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 1};
    fill(&checkpoint);
    write_file(&checkpoint, "a.h5", 1000);
    check_file(&checkpoint, "a.h5");
    release(&checkpoint);
}

static void keeps_the_order_of_tensors(void **state)
{
    (void)state;
    static const char *const names[] = {"z", "y", "a10", "a9", "m"};
    struct checkpoint checkpoint = {.header = full_header(), .seed = 2};
    for (size_t i = 0; i < 5; i++)
        add(&checkpoint, IVON_MEAN, names[i], IVON_F32, 1, (const int64_t[]){3});
    for (size_t i = 0; i < 5; i++)
        add(&checkpoint, IVON_HESSIAN, names[i], IVON_F32, 1, (const int64_t[]){3});
    write_file(&checkpoint, "a.h5", 10);
    struct ivon_source *source = open_file("a.h5");
    for (size_t i = 0; i < checkpoint.count; i++)
        check_tensor(source, i, &checkpoint.tensors[i], checkpoint.data[i]);
    ivon_source_close(source);
    release(&checkpoint);
}

static void equal_inputs_give_equal_bytes(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 3};
    fill(&checkpoint);
    write_file(&checkpoint, "a.h5", 1 << 20);
    sleep(1); /* so that a time of writing, kept in seconds, would show */
    write_file(&checkpoint, "b.h5", 17);
    size_t size_a, size_b;
    unsigned char *a = load("a.h5", &size_a), *b = load("b.h5", &size_b);
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
    release(&checkpoint);
}

static void an_absent_header_stays_absent(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 4};
    add(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){3});
    add(&checkpoint, IVON_HESSIAN, "w", IVON_F32, 1, (const int64_t[]){3});
    write_file(&checkpoint, "a.h5", 10);
    check_file(&checkpoint, "a.h5");
    release(&checkpoint);
}

static void no_tensor_at_all(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 5};
    write_file(&checkpoint, "a.h5", 10);
    check_file(&checkpoint, "a.h5");
}

static void zero_is_not_absent(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 6};
    checkpoint.header.weight_decay = 0;
    checkpoint.header.step = 0;
    checkpoint.header.n_train = 0;
    write_file(&checkpoint, "a.h5", 10);
    check_file(&checkpoint, "a.h5");
}

static void a_hessian_may_have_its_own_numbers(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 7};
    static const int64_t three[] = {3};
    add(&checkpoint, IVON_HESSIAN, "as the header", IVON_F32, 1, three);
    add(&checkpoint, IVON_HESSIAN, "own ess", IVON_F32, 1, three)->ess = 5;
    add(&checkpoint, IVON_HESSIAN, "own decay", IVON_F32, 1, three)->weight_decay = 0;
    struct ivon_tensor *both = add(&checkpoint, IVON_HESSIAN, "both", IVON_F32, 1, three);
    both->ess = 0x1.23456789abcdep-40;
    both->weight_decay = 3e300;
    write_file(&checkpoint, "a.h5", 10);
    check_file(&checkpoint, "a.h5");
    assert_int_equal(unlink("a.h5"), 0);
    checkpoint.header.ess = NAN; /* some name a number, the checkpoint does not */
    checkpoint.tensors[0].ess = NAN;
    checkpoint.tensors[2].ess = 7;
    write_file(&checkpoint, "a.h5", 10);
    check_file(&checkpoint, "a.h5");
    release(&checkpoint);
}

static void a_long_provenance_is_kept(void **state)
{
    (void)state;
    enum { LENGTH = 60000 };
    struct checkpoint checkpoint = {.header = full_header(), .seed = 8};
    char *text = malloc(LENGTH + 1);
    assert_non_null(text);
    memset(text, 'x', LENGTH);
    text[LENGTH] = '\0';
    checkpoint.header.provenance = text;
    add(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){3});
    write_file(&checkpoint, "a.h5", 10);
    check_file(&checkpoint, "a.h5");
    release(&checkpoint);
    free(text);
}

static void an_unfinished_file_leaves_no_trace(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 9};
    struct ivon_create_options replace = {.replace = true};
    struct ivon_sink *sink = NULL;
    struct ivon_error error;
    add(&checkpoint, IVON_MEAN, "w", IVON_F32, 1, (const int64_t[]){3});
    assert_int_equal(ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors,
                                            1, NULL, &error), 0);
    assert_int_equal(ivon_sink_write(sink, 0, 1, 3, checkpoint.data[0], &error),
                     IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_sink_write(sink, 1, 0, 1, checkpoint.data[0], &error),
                     IVON_ERROR_ARGUMENT);
    ivon_sink_close(sink);
    assert_int_equal(access("a.h5", F_OK), -1);
    assert_int_equal(access(".a.h5.ivon-tmp", F_OK), -1);
    write_file(&checkpoint, "a.h5", 10);
    sink = NULL;
    assert_int_equal(ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors,
                                            1, NULL, &error), IVON_ERROR_CREATE);
    assert_null(sink);
    assert_int_equal(ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors,
                                            1, &replace, &error), 0);
    check_file(&checkpoint, "a.h5"); /* the old file, while the new one grows */
    ivon_sink_close(sink);
    check_file(&checkpoint, "a.h5");
    release(&checkpoint);
}

static void refuses_what_hdf5_cannot_name(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"a", "a/b"}, {"a/b", "a"}, {"", "b"}, {"a/../b", "c"}, {"a//b", "c"}, {"a\nb", "c"},
        {"same", "same"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct checkpoint checkpoint = {.header = full_header(), .seed = 10};
        struct ivon_sink *sink = NULL;
        struct ivon_error error = {0};
        for (int j = 0; j < 2; j++)
            add(&checkpoint, IVON_MEAN, names[i][j], IVON_F32, 1, (const int64_t[]){3});
        int code = ivon_checkpoint_create(&sink, "a.h5", &checkpoint.header, checkpoint.tensors, 2,
                                          NULL, &error);
        assert_int_equal(code, i < 2 || i == 6 ? IVON_ERROR_CREATE : IVON_ERROR_ARGUMENT);
        assert_int_equal(error.code, code);
        assert_non_null(strstr(error.message, "a.h5: "));
        assert_null(sink);
        assert_int_equal(access("a.h5", F_OK), -1);
        assert_int_equal(access(".a.h5.ivon-tmp", F_OK), -1);
        release(&checkpoint);
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
    struct checkpoint checkpoint = {.header = full_header(), .seed = 11};
    add(&checkpoint, IVON_BUFFER, "w", IVON_F32, 1, (const int64_t[]){3000});
    write_file(&checkpoint, "a.h5", 5000);
    size_t size;
    unsigned char *bytes = load("a.h5", &size);
    for (size_t cut = 8; cut < size; cut += size / 7) { /* cut anywhere, it is refused */
        assert_int_equal(truncate("a.h5", (off_t)(size - cut)), 0);
        assert_int_equal(ivon_checkpoint_open(&source, "a.h5", NULL, &error), IVON_ERROR_DATA);
        assert_null(source);
        file = fopen("a.h5", "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, size, file), size);
        fclose(file);
    }
    check_file(&checkpoint, "a.h5");
    free(bytes);
    release(&checkpoint);
}

static void refuses_integers_as_means(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 12};
    struct ivon_source *source = NULL;
    struct ivon_error error;
    add(&checkpoint, IVON_MEAN, "w", IVON_I32, 1, (const int64_t[]){3});
    write_file(&checkpoint, "a.h5", 10);
    assert_int_equal(ivon_checkpoint_open(&source, "a.h5", NULL, &error), IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "'mean/w' has elements of type i32"));
    release(&checkpoint);
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
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
