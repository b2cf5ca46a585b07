/* npz as a checkpoint: what is written is what is read, stored or deflated. */
#define _GNU_SOURCE
#include "tests/unit/checkpoints.h"
#include "tests/unit/files.h"

#include <pthread.h>
#include <zlib.h>

#include "formats/numpy/array.h"

static void reads_what_was_written(void **state)
{
    (void)state;
    struct checkpoint all = {.header = full_header(), .seed = 1};
    struct checkpoint checkpoint = {.header = full_header(), .alignment = 64};
    fill_checkpoint(&all);
    for (size_t i = 0; i < all.count; i++)
        if (all.tensors[i].dtype != IVON_BF16) {
            checkpoint.tensors[checkpoint.count] = all.tensors[i];
            checkpoint.data[checkpoint.count++] = all.data[i];
        }
    write_checkpoint(&checkpoint, "a.npz", 1000);
    check_checkpoint(&checkpoint, "a.npz");
    write_checkpoint(&checkpoint, "b.npz", 17);
    size_t size_a, size_b;
    unsigned char *a = load_file("a.npz", &size_a), *b = load_file("b.npz", &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    free(a);
    free(b);
    release_checkpoint(&all);
}

static void headers_of_all_kinds_come_back(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = ivon_header_empty(), .seed = 3, .alignment = 64};
    write_checkpoint(&checkpoint, "a.npz", 10);
    check_checkpoint(&checkpoint, "a.npz");
    assert_int_equal(clean_directory(state), 0);
    checkpoint.header.weight_decay = 0;
    checkpoint.header.step = 0;
    checkpoint.header.n_train = INT64_MAX;
    checkpoint.header.creator = "";
    add_tensor(&checkpoint, IVON_HESSIAN, "own/ess", IVON_F32, 0, NULL)->ess = 5;
    add_tensor(&checkpoint, IVON_MEAN, "ess/own/ess", IVON_F32, 0, NULL);
    write_checkpoint(&checkpoint, "a.npz", 10);
    check_checkpoint(&checkpoint, "a.npz");
    release_checkpoint(&checkpoint);
}

static void refuses_what_cannot_be_written(void **state)
{
    (void)state;
    struct checkpoint checkpoint = {.header = full_header(), .seed = 4};
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    add_tensor(&checkpoint, IVON_MEAN, "w", IVON_BF16, 0, NULL);
    assert_int_equal(ivon_checkpoint_create(&sink, "a.npz", &checkpoint.header, checkpoint.tensors,
                                            1, NULL, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "a.npz: tensor 'w': npz cannot hold bf16 (convert to f32, "
                                       "or write safetensors)");
    assert_int_equal(system("test -z \"$(ls -A)\""), 0);
    release_checkpoint(&checkpoint);
}

/* More members than the format's first version can count. */
static void holds_more_arrays_than_16_bits_count(void **state)
{
    (void)state;
    enum { COUNT = 66000 };
    static struct ivon_tensor tensors[COUNT];
    static char names[COUNT][16];
    struct ivon_header header = ivon_header_empty();
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    for (int i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        tensors[i] = (struct ivon_tensor){
            .name = names[i], .part = IVON_BUFFER, .dtype = IVON_I32, .count = 1};
    }
    assert_int_equal(ivon_checkpoint_create(&sink, "a.npz", &header, tensors, COUNT, NULL, &error),
                     0);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(ivon_sink_write(sink, (size_t)i, 0, 1, &i, &error), 0);
    assert_int_equal(ivon_sink_commit(sink, &error), 0);
    ivon_sink_close(sink);
    struct ivon_source *source = open_checkpoint("a.npz");
    assert_int_equal(ivon_source_tensor_count(source), COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(*(const int *)ivon_source_view(source, (size_t)i, 0), i);
    ivon_source_close(source);
}

/* A member of an archive that a test writes. */
struct array_member {
    const char *name;
    enum ivon_dtype dtype;
    int rank;
    int64_t shape[2];
    const void *data;
    bool deflated;
    size_t headers_ago; /* not written: its place is that of the member so many before */
};

static struct buffer zip;

/* As the format has it, small and without Zip64. */
static void write_npz(const char *path, const struct array_member *members, size_t count)
{
    static struct buffer directory, content;
    static unsigned char packed[1 << 20];
    size_t places[8] = {0}, directory_start;
    assert_true(count <= 8);
    zip.size = directory.size = 0;
    for (size_t i = 0; i < count; i++) {
        const struct array_member *member = &members[i];
        char header[NPY_HEADER_MAX];
        size_t elements = 1;
        for (int k = 0; k < member->rank; k++)
            elements *= (size_t)member->shape[k];
        content.size = 0;
        put(&content, header, npy_header(header, member->dtype, member->rank, member->shape));
        put(&content, member->data, elements * ivon_dtype_size(member->dtype));
        const void *stored = content.data;
        size_t size = content.size;
        if (member->deflated) {
            z_stream stream = {.next_in = content.data,
                               .avail_in = (uInt)content.size,
                               .next_out = packed,
                               .avail_out = sizeof packed};
            assert_int_equal(
                deflateInit2(&stream, 1, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
            assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
            size = sizeof packed - stream.avail_out;
            stored = packed;
            deflateEnd(&stream);
        }
        places[i] = member->headers_ago ? places[i - member->headers_ago] : zip.size;
        put_little(&directory, 0x02014b50, 4);
        put_little(&directory, 20 | 20 << 16, 4);
        put_little(&directory, (member->deflated ? 8U : 0U) << 16, 8);
        put_little(&directory, crc32(0, content.data, (uInt)content.size), 4);
        put_little(&directory, size, 4);
        put_little(&directory, content.size, 4);
        put_little(&directory, strlen(member->name), 2);
        put_little(&directory, 0, 12);
        put_little(&directory, places[i], 4);
        put(&directory, member->name, strlen(member->name));
        if (member->headers_ago)
            continue;
        put_little(&zip, 0x04034b50, 4);
        put_little(&zip, 0, 22);
        put_little(&zip, strlen(member->name), 2);
        put_little(&zip, 0, 2);
        put(&zip, member->name, strlen(member->name));
        put(&zip, stored, size);
    }
    directory_start = zip.size;
    put(&zip, directory.data, directory.size);
    put_little(&zip, 0x06054b50, 8);
    put_little(&zip, count, 2);
    put_little(&zip, count, 2);
    put_little(&zip, directory.size, 4);
    put_little(&zip, directory_start, 4);
    put_little(&zip, 0, 2);
    write_file(path, zip.data, zip.size);
}

/* Without a mark or a Hessian there is no header, and any name is one. */
static void a_plain_archive_has_plain_names(void **state)
{
    (void)state;
    static const float one = 1;
    static const double ess = 7, own = 8;
    static const int64_t step = INT64_MAX;
    struct array_member members[] = {
        {.name = "ess.npy", .dtype = IVON_F64, .data = &ess},
        {.name = "step.npy", .dtype = IVON_I64, .data = &step},
        {.name = "params/Dense_0/kernel.npy", .dtype = IVON_F32, .data = &one},
        {.name = "buffers/x.npy", .dtype = IVON_F32, .data = &one},
        {.name = "notes.txt", .dtype = IVON_F32, .data = &one},
        {.name = "w.npy", .dtype = IVON_F32, .data = &one},
        {.name = "ess/w.npy", .dtype = IVON_F64, .data = &own},
    };
    write_npz("a.npz", members, 7);
    struct ivon_source *source = open_checkpoint("a.npz");
    assert_true(isnan(ivon_source_header(source)->ess));
    assert_int_equal(ivon_source_tensor_count(source), 6);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "ess"), 0);
    assert_int_equal(ivon_source_find(source, IVON_BUFFER, "step"), 1);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "params/Dense_0/kernel"), 2);
    assert_int_equal(ivon_source_find(source, IVON_MEAN, "buffers/x"), 3);
    ivon_source_close(source);
    members[3].name = "hessian/w.npy";
    write_npz("a.npz", members, 7);
    source = open_checkpoint("a.npz");
    assert_true(ivon_source_header(source)->ess == 7);
    assert_int_equal(ivon_source_header(source)->step, step);
    assert_int_equal(ivon_source_tensor_count(source), 3);
    ptrdiff_t hessian = ivon_source_find(source, IVON_HESSIAN, "w");
    assert_int_equal(hessian, 1);
    assert_true(ivon_source_tensor(source, 1)->ess == 8);
    ivon_source_close(source);
}

static void refuses_archives_that_mislead(void **state)
{
    (void)state;
    static const float one = 1;
    static const int64_t version = 3;
    static const struct {
        struct array_member members[2];
        const char *message;
    } cases[] = {
        {{{.name = "a"}, {.name = "b.txt"}},
         "a.npz: is a zip archive, but no npz: none of its 2 members is called NAME.npy"},
        {{{.name = "a.npy"}, {.name = "b.npy", .headers_ago = 1}},
         "a.npz: damaged zip archive: 'a.npy' and 'b.npy' overlap"},
        {{{.name = "a.npy"}, {.name = "../b.npy"}},
         "a.npz: '../b' is not a usable name for a tensor"},
        {{{.name = "ivon-posterior.npy", .dtype = IVON_I64, .data = &version}, {.name = "b.npy"}},
         "a.npz: 'ivon-posterior' is 3, expected 1 or 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ivon_source *source = NULL;
        struct ivon_error error = {.message = "none"};
        struct array_member members[2] = {cases[i].members[0], cases[i].members[1]};
        for (int k = 0; k < 2; k++)
            if (!members[k].data) {
                members[k].data = &one;
                members[k].dtype = IVON_F32;
            }
        write_npz("a.npz", members, 2);
        assert_int_equal(ivon_checkpoint_open(&source, "a.npz", NULL, &error), IVON_ERROR_DATA);
        assert_string_equal(error.message, cases[i].message);
        assert_null(source);
    }
}

enum { LONG = 200000 };

/* An array of floats that are hard to deflate, deflated. */
static const float *write_deflated(const char *path)
{
    static float values[LONG];
    uint64_t state = 1;
    for (size_t i = 0; i < LONG; i++)
        values[i] = (float)(random_bits(&state) >> 48);
    const struct array_member member = {.name = "a.npy",
                                        .dtype = IVON_F32,
                                        .rank = 1,
                                        .shape = {LONG},
                                        .data = values,
                                        .deflated = true};
    write_npz(path, &member, 1);
    return values;
}

/* In any order, within windows that are smaller than the array. */
static void reads_deflated_elements_in_any_order(void **state)
{
    (void)state;
    enum { PIECE = 1000 };
    float piece[PIECE];
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    const float *values = write_deflated("a.npz");
    const struct ivon_open_options options = {.size = sizeof options, .resources.memory = 1};
    assert_int_equal(ivon_checkpoint_open(&source, "a.npz", &options, &error), 0);
    assert_null(ivon_source_view(source, 0, 0));
    uint64_t random = 2;
    for (int i = 0; i < 200; i++) {
        size_t first = random_bits(&random) % (LONG - PIECE);
        assert_int_equal(ivon_source_read(source, 0, first, PIECE, piece, &error), 0);
        assert_memory_equal(piece, values + first, sizeof piece);
    }
    for (size_t first = LONG; first; first -= PIECE) {
        assert_int_equal(ivon_source_read(source, 0, first - PIECE, PIECE, piece, &error), 0);
        assert_memory_equal(piece, values + first - PIECE, sizeof piece);
    }
    ivon_source_close(source);
}

struct reader {
    struct ivon_source *source;
    const float *values;
    size_t first;
    bool fine;
};

static void *read_every_other(void *context)
{
    enum { PIECE = 4000 };
    static _Thread_local float piece[PIECE];
    struct reader *reader = context;
    struct ivon_error error;
    reader->fine = true;
    for (size_t first = reader->first * PIECE; first < LONG; first += 2 * PIECE)
        reader->fine &= !ivon_source_read(reader->source, 0, first, PIECE, piece, &error) &&
                        memcmp(piece, reader->values + first, sizeof piece) == 0;
    return NULL;
}

static void threads_may_read_at_once(void **state)
{
    (void)state;
    const float *values = write_deflated("a.npz");
    struct reader readers[2];
    pthread_t threads[2];
    struct ivon_source *source = open_checkpoint("a.npz");
    for (size_t i = 0; i < 2; i++) {
        readers[i] = (struct reader){source, values, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, read_every_other, &readers[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(readers[i].fine);
    }
    ivon_source_close(source);
}

/* A wrong checksum is found by whoever reads the last byte, and every time. */
static void damage_is_found_when_it_is_read(void **state)
{
    (void)state;
    static float all[LONG];
    struct ivon_error error = {0};
    size_t size;
    write_deflated("a.npz");
    unsigned char *bytes = load_file("a.npz", &size);
    uint32_t signature = 0x02014b50;
    unsigned char *central = memmem(bytes, size, &signature, 4);
    assert_non_null(central);
    central[16] ^= 1;
    write_file("a.npz", bytes, size);
    free(bytes);
    struct ivon_source *source = open_checkpoint("a.npz");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ivon_source_read(source, 0, 0, 10, all, &error), 0);
        assert_int_equal(ivon_source_read(source, 0, 0, LONG, all, &error), IVON_ERROR_DATA);
        assert_string_equal(error.message, "a.npz: 'a.npy': damaged compressed data: their "
                                           "checksum differs");
    }
    ivon_source_close(source);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, clean_directory)
    const struct CMUnitTest tests[] = {
        TEST(reads_what_was_written),
        TEST(headers_of_all_kinds_come_back),
        TEST(refuses_what_cannot_be_written),
        TEST(holds_more_arrays_than_16_bits_count),
        TEST(a_plain_archive_has_plain_names),
        TEST(refuses_archives_that_mislead),
        TEST(reads_deflated_elements_in_any_order),
        TEST(threads_may_read_at_once),
        TEST(damage_is_found_when_it_is_read),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
