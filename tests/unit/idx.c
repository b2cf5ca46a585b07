/* IDX files, plain and compressed, one and two. */
#include "tests/unit/files.h"

#include <zlib.h>

static struct buffer out;

static void put_idx(struct buffer *buffer, unsigned char type, int rank, const uint32_t *shape)
{
    put_little(buffer, 0, 2);
    put_little(buffer, type, 1);
    put_little(buffer, (uint64_t)rank, 1);
    for (int i = 0; i < rank; i++)
        put_big(buffer, shape[i], 4);
}

static void write_gzip(const char *path, const struct buffer *buffer)
{
    gzFile file = gzopen(path, "wb");
    assert_true(gzwrite(file, buffer->data, (unsigned)buffer->size) == (int)buffer->size);
    assert_int_equal(gzclose(file), Z_OK);
}

/* Images and labels as MNIST has them, plain and compressed, in any combination. */
static void reads_idx(void **state)
{
    (void)state;
    enum { IMAGES = 3000, SIDE = 6, PIXELS = SIDE * SIDE };
    static float x[IMAGES * PIXELS];
    static int64_t y[IMAGES];
    struct ivon_error error;
    out.size = 0;
    put_idx(&out, 8, 3, (const uint32_t[]){IMAGES, SIDE, SIDE});
    for (size_t i = 0; i < IMAGES * PIXELS; i++)
        put_little(&out, i * i >> 3, 1);
    write_file("images.idx", out.data, out.size);
    write_gzip("images.gz", &out);
    out.size = 0;
    put_idx(&out, 8, 1, (const uint32_t[]){IMAGES});
    for (size_t i = 0; i < IMAGES; i++)
        put_little(&out, i % 10, 1);
    write_file("labels.idx", out.data, out.size);
    write_gzip("labels.gz", &out);
    const char *const paths[] = {"images.idx,labels.idx", "images.gz,labels.gz",
                                 "images.gz,labels.idx"};
    for (size_t p = 0; p < 3; p++) {
        struct ivon_examples *examples = open_fine(paths[p], NULL);
        const struct ivon_field *field = ivon_examples_field(examples, 0);
        assert_int_equal(ivon_examples_count(examples), IMAGES);
        assert_true(field->rank == 2 && field->shape[0] == SIDE && field->shape[1] == SIDE);
        const uint64_t ranges[][2] = {{0, 100}, {100, 900}, {2990, 10}, {17, 1}, {0, IMAGES}};
        for (size_t r = 0; r < 5; r++) { /* the last but one goes back */
            uint64_t first = ranges[r][0], count = ranges[r][1];
            assert_int_equal(ivon_examples_read_f32(examples, 0, first, count, x, &error), 0);
            assert_int_equal(ivon_examples_read_i64(examples, 1, first, count, y, &error), 0);
            for (size_t i = 0; i < count * PIXELS; i++) {
                size_t j = first * PIXELS + i;
                if (x[i] != (float)(j * j >> 3 & 0xff) / 255)
                    fail_msg("pixel %zu is %g", j, (double)x[i]);
            }
            for (size_t i = 0; i < count; i++)
                assert_int_equal(y[i], (first + i) % 10);
        }
        /* Targets are never scaled, as what they are. */
        assert_int_equal(ivon_examples_read_f32(examples, 1, 9, 1, x, &error), 0);
        assert_true(x[0] == 9);
        ivon_examples_close(examples);
    }
}

static void reads_idx_types(void **state)
{
    (void)state;
    static const struct {
        unsigned char type, size, bytes[9];
        double value;
    } types[] = {{0x08, 1, "\xfb", 251},
                 {0x09, 1, "\xfb", -5},
                 {0x0b, 2, "\xff\xfb", -5},
                 {0x0c, 4, "\xff\xff\xff\xfb", -5},
                 {0x0d, 4, "\xc0\xa0\x00\x00", -5},
                 {0x0e, 8, "\xc0\x14\0\0\0\0\0\0", -5}};
    const struct ivon_dataset_options raw = {.size = sizeof raw, .no_scaling = true};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        float number;
        struct ivon_error error;
        out.size = 0;
        put_idx(&out, types[i].type, 1, (const uint32_t[]){1});
        put(&out, types[i].bytes, types[i].size);
        write_file("t.idx", out.data, out.size);
        struct ivon_examples *examples = open_fine("t.idx", &raw);
        assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 1, &number, &error), 0);
        assert_true((double)number == types[i].value);
        ivon_examples_close(examples);
    }
}

static void refuses_idx(void **state)
{
    (void)state;
    static const uint32_t huge[] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, 1, 1, 1, 1, 1};
    struct ivon_error error = {.message = "none"};
    for (int rank = 0; rank <= 9; rank++) {
        out.size = 0;
        put_idx(&out, 8, rank, huge);
        write_file("bad.idx", out.data, out.size);
        open_refused("bad.idx", NULL, IVON_ERROR_DATA,
                     rank == 0 || rank == 9 ? "dimensions"
                     : rank < 2             ? "by its own account"
                                            : "memory can hold");
        write_gzip("bad.gz", &out);
        open_refused("bad.gz", NULL, IVON_ERROR_DATA, "bad.gz: ");
    }
    out.size = 0;
    put_idx(&out, 8, 2, (const uint32_t[]){10, 10});
    put(&out, "0123456789", 10);
    write_file("bad.idx", out.data, out.size);
    open_refused("bad.idx", NULL, IVON_ERROR_DATA, "has 22 bytes, expected 112");
    write_gzip("bad.gz", &out); /* whose size is not known before it is read */
    struct ivon_examples *examples = open_fine("bad.gz", NULL);
    unsigned char pixels[400];
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 10, (float *)pixels, &error),
                     IVON_ERROR_DATA);
    assert_non_null(strstr(error.message, "bad.gz: damaged compressed data"));
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 1, (float *)pixels, &error), 0);
    ivon_examples_close(examples);
    out.size = 0;
    put(&out, "not an array", 12);
    write_gzip("bad.gz", &out);
    open_refused("bad.gz", NULL, IVON_ERROR_DATA, "a gzip file, but not of IDX data");
    write_file("bad.gz", "\x1f\x8b\x08", 3);
    open_refused("bad.gz", NULL, IVON_ERROR_DATA, "end too early");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_idx),
        cmocka_unit_test(reads_idx_types),
        cmocka_unit_test(refuses_idx),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
