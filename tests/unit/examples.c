/* Examples over a class of the test's own: ranges, pieces, conversion, normalization, labels. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"
#include "core/examples.h"

/* Elements in memory, and a count of what was asked for. */
struct memory {
    const char *data;
    size_t example; /* bytes */
    uint64_t rows;
    uint64_t fail_from; /* rows from here on cannot be read */
    int reads, closes;
};

static int memory_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    struct memory *memory = self;
    assert_int_equal(field, 0);
    assert_true(count > 0 && first + count <= memory->rows);
    memory->reads++;
    if (first + count > memory->fail_from)
        return ivon_error_set(error, IVON_ERROR_IO, "out of reach");
    memcpy(buffer, memory->data + first * memory->example, count * memory->example);
    return 0;
}

static void memory_close(void *self)
{
    struct memory *memory = self;
    memory->closes++;
}

static const struct ivon_examples_class class = {.read = memory_read, .close = memory_close};
static const struct examples_scaling none = {.divisor = 1, .channels = 1};

static struct ivon_examples *examples_of(struct memory *memory, const void *data, uint64_t rows,
                                         enum ivon_dtype dtype, int rank, const int64_t *shape,
                                         const struct examples_scaling *scaling)
{
    struct ivon_examples *examples = NULL;
    struct ivon_error error;
    struct ivon_field field = {.name = "x", .dtype = dtype, .rank = rank};
    *memory = (struct memory){
        .data = data, .example = ivon_dtype_size(dtype), .rows = rows, .fail_from = UINT64_MAX};
    for (int i = 0; i < rank; i++) {
        field.shape[i] = shape[i];
        memory->example *= (size_t)shape[i];
    }
    assert_int_equal(
        ivon_examples_new(&examples, &class, memory, "memory", rows, &field, scaling, 1, &error),
        0);
    return examples;
}

static void describes(void **state)
{
    (void)state;
    struct memory memory;
    struct ivon_examples *examples = examples_of(&memory, NULL, 7, IVON_U8, 3,
                                                 (const int64_t[]){3, 4, 5}, &none);
    assert_string_equal(ivon_examples_path(examples), "memory");
    assert_int_equal(ivon_examples_count(examples), 7);
    assert_int_equal(ivon_examples_field_count(examples), 1);
    const struct ivon_field *field = ivon_examples_field(examples, 0);
    assert_string_equal(field->name, "x");
    assert_true(field->dtype == IVON_U8 && field->rank == 3 && field->count == 60);
    assert_null(ivon_examples_field(examples, 1));
    assert_int_equal(ivon_examples_find(examples, "x"), 0);
    assert_int_equal(ivon_examples_find(examples, "X"), -1);
    ivon_examples_close(examples);
    assert_int_equal(memory.closes, 1);
    ivon_examples_close(NULL);
}

static void refuses_ranges(void **state)
{
    (void)state;
    static const float data[6] = {0, 1, 2, 3, 4, 5};
    struct memory memory;
    struct ivon_error error;
    float out[6];
    int64_t whole[6];
    struct ivon_examples *examples = examples_of(&memory, data, 3, IVON_F32, 1,
                                                 (const int64_t[]){2}, &none);
    const struct {
        size_t field;
        uint64_t first;
        size_t count;
    } beyond[] = {{0, 0, 4}, {0, 3, 1}, {0, 4, 0}, {1, 0, 1}, {0, UINT64_MAX, 2}, {0, 1, SIZE_MAX}};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        assert_int_equal(ivon_examples_read_f32(examples, beyond[i].field, beyond[i].first,
                                                beyond[i].count, out, &error),
                         IVON_ERROR_ARGUMENT);
        assert_int_equal(ivon_examples_read_i64(examples, beyond[i].field, beyond[i].first,
                                                beyond[i].count, whole, &error),
                         IVON_ERROR_ARGUMENT);
    }
    assert_int_equal(ivon_examples_read_f32(examples, 0, 3, 0, out, &error), 0);
    assert_int_equal(memory.reads, 0);
    memory.fail_from = 2;
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 3, out, &error), IVON_ERROR_IO);
    assert_int_equal(ivon_examples_read_i64(examples, 0, 1, 2, whole, &error), IVON_ERROR_IO);
    ivon_examples_close(examples);
}

static void refuses_shapes(void **state)
{
    (void)state;
    struct ivon_examples *examples = NULL;
    struct ivon_error error;
    const struct {
        uint64_t rows;
        int64_t shape[2];
        int rank;
    } shapes[] = {{3, {0}, 1},
                  {3, {4, 0}, 2},
                  {0, {INT64_MAX, 2}, 2},
                  {1, {-1}, 1},
                  {UINT64_C(1) << 62, {2}, 1},
                  {UINT64_MAX, {4}, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct ivon_field field = {.name = "x", .dtype = IVON_F32, .rank = shapes[i].rank};
        memcpy(field.shape, shapes[i].shape, sizeof shapes[i].shape);
        assert_int_equal(ivon_examples_new(&examples, &class, NULL, "memory", shapes[i].rows,
                                           &field, &none, 1, &error),
                         IVON_ERROR_DATA);
        assert_non_null(strstr(error.message, "memory: "));
        assert_non_null(strstr(error.message, "'x'"));
    }
    assert_null(examples);
}

/* 70,001 f64 examples of 3 take 1.6 MB: several of the pieces that are converted at a time, each of
   many tiles, and neither a multiple of the other. Any range is the same part of the whole. */
static void reads_any_range(void **state)
{
    (void)state;
    enum { ROWS = 70001, COLUMNS = 3, COUNT = ROWS * COLUMNS };
    double *data = malloc(COUNT * sizeof *data);
    float *out = malloc(COUNT * sizeof *out);
    int64_t *whole = malloc(COUNT * sizeof *whole);
    struct memory memory;
    struct ivon_error error;
    assert_true(data && out && whole);
    for (size_t i = 0; i < COUNT; i++)
        data[i] = (double)((i * 7919) % 16777216) - 1e6; /* whole, and exact as f32 */
    struct ivon_examples *examples = examples_of(&memory, data, ROWS, IVON_F64, 1,
                                                 (const int64_t[]){COLUMNS}, &none);
    const size_t ranges[][2] = {{0, ROWS},      {1, ROWS - 1}, {ROWS - 1, 1}, {10921, 3},
                                {10000, 40000}, {341, 342},    {340, 2}};
    for (size_t r = 0; r < sizeof ranges / sizeof ranges[0]; r++) {
        size_t first = ranges[r][0], count = ranges[r][1];
        memset(out, 0xff, COUNT * sizeof *out);
        assert_int_equal(ivon_examples_read_f32(examples, 0, first, count, out, &error), 0);
        assert_int_equal(ivon_examples_read_i64(examples, 0, first, count, whole, &error), 0);
        for (size_t i = 0; i < count * COLUMNS; i++)
            if ((double)out[i] != data[first * COLUMNS + i] ||
                (double)whole[i] != data[first * COLUMNS + i])
                fail_msg("element %zu of range %zu is %g and %lld, expected %g", i, r,
                         (double)out[i], (long long)whole[i], data[first * COLUMNS + i]);
        if (count * COLUMNS < COUNT)
            assert_true(isnan(out[count * COLUMNS])); /* nothing beyond was written */
    }
    assert_true(memory.reads > 2 * (int)(sizeof ranges / sizeof ranges[0]));
    ivon_examples_close(examples);
    free(data);
    free(out);
    free(whole);
}

/* An example that exceeds what is converted at a time. */
static void reads_large_examples(void **state)
{
    (void)state;
    enum { COUNT = 300007, ROWS = 3 };
    uint16_t *data = malloc(ROWS * COUNT * sizeof *data);
    float *out = malloc(2 * COUNT * sizeof *out);
    struct memory memory;
    struct ivon_error error;
    assert_true(data && out);
    for (size_t i = 0; i < (size_t)ROWS * COUNT; i++)
        data[i] = (uint16_t)(i * 31);
    struct ivon_examples *examples = examples_of(&memory, data, ROWS, IVON_U16, 1,
                                                 (const int64_t[]){COUNT}, &none);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 1, 2, out, &error), 0);
    for (size_t i = 0; i < 2 * (size_t)COUNT; i++)
        if (out[i] != (float)data[COUNT + i])
            fail_msg("element %zu is %g", i, (double)out[i]);
    ivon_examples_close(examples);
    free(data);
    free(out);
}

static void converts_every_type(void **state)
{
    (void)state;
    struct memory memory;
    struct ivon_error error;
    float out[3];
    int64_t whole[3];
#define CHECK(dtype, type, a, b, c)                                                                \
    do {                                                                                           \
        const type data[] = {(type)(a), (type)(b), (type)(c)};                                     \
        struct ivon_examples *examples = examples_of(&memory, data, 3, dtype, 0, NULL, &none);     \
        assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 3, out, &error), 0);               \
        assert_int_equal(ivon_examples_read_i64(examples, 0, 0, 3, whole, &error), 0);             \
        for (int i = 0; i < 3; i++)                                                                \
            assert_true(out[i] == (float)data[i] && whole[i] == (int64_t)data[i]);                 \
        ivon_examples_close(examples);                                                             \
    } while (0)
    CHECK(IVON_F64, double, -3, 0, 1e15);
    CHECK(IVON_F32, float, -3, 0, 16777216);
    CHECK(IVON_I64, int64_t, INT64_MIN, 0, INT64_MAX);
    CHECK(IVON_I32, int32_t, INT32_MIN, 0, INT32_MAX);
    CHECK(IVON_I16, int16_t, INT16_MIN, 0, INT16_MAX);
    CHECK(IVON_I8, int8_t, INT8_MIN, 0, INT8_MAX);
    CHECK(IVON_U64, uint64_t, 1, 0, INT64_MAX);
    CHECK(IVON_U32, uint32_t, 1, 0, UINT32_MAX);
    CHECK(IVON_U16, uint16_t, 1, 0, UINT16_MAX);
    CHECK(IVON_U8, uint8_t, 1, 0, UINT8_MAX);
    CHECK(IVON_BOOL, uint8_t, 1, 0, 1);
#undef CHECK
    const uint16_t halves[] = {0x3c00, 0xc500, 0x7bff}, upper[] = {0x3f80, 0xc0a0, 0x4380};
    const float expected[2][3] = {{1, -5, 65504}, {1, -5, 256}};
    for (int t = 0; t < 2; t++) {
        struct ivon_examples *examples = examples_of(&memory, t ? upper : halves, 3,
                                                     t ? IVON_BF16 : IVON_F16, 0, NULL, &none);
        assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 3, out, &error), 0);
        assert_int_equal(ivon_examples_read_i64(examples, 0, 0, 3, whole, &error), 0);
        for (int i = 0; i < 3; i++)
            assert_true(out[i] == expected[t][i] && (float)whole[i] == expected[t][i]);
        ivon_examples_close(examples);
    }
}

static void expect_refusal(const char *message, const void *data, enum ivon_dtype dtype,
                           bool subsample)
{
    struct memory memory;
    struct ivon_error error;
    float out[4];
    struct ivon_examples *some = NULL;
    struct ivon_examples *examples = examples_of(&memory, data, 4, dtype, 0, NULL, &none);
    if (subsample)
        assert_int_equal(ivon_examples_subsample(&some, examples, 3, 5, &error), 0);
    int code = subsample ? ivon_examples_read_f32(some, 0, 0, 3, out, &error)
                         : ivon_examples_read_f32(examples, 0, 0, 4, out, &error);
    assert_int_equal(code, IVON_ERROR_DATA);
    if (!strstr(error.message, message))
        fail_msg("'%s', expected '%s'", error.message, message);
    ivon_examples_close(some);
    ivon_examples_close(examples);
}

/* Stored as they are read, converted, and of a subsample, whose rows are the whole set's. */
static void refuses_what_is_not_finite(void **state)
{
    (void)state;
    const float stored[] = {0, 1, 2, -INFINITY}, none_of[] = {0, -NAN, 2, 3};
    const double wide[] = {0, 1, 2, NAN}, large[] = {0, 1, 1e39, 0};
    expect_refusal("row 3 holds -inf, expected a finite number", stored, IVON_F32, false);
    expect_refusal("row 1 holds nan, expected a finite number", none_of, IVON_F32, false);
    expect_refusal("row 3 holds nan, expected a finite number", wide, IVON_F64, false);
    expect_refusal("row 2 holds 1e+39, expected what single precision holds", large, IVON_F64,
                   false);
    expect_refusal("row 3 holds -inf, expected a finite number", stored, IVON_F32, true);
}

/* Those that are listed, in one read for each run of them; messages have the whole set's rows. */
static void selects(void **state)
{
    (void)state;
    const float data[] = {0, 1, 2, -INFINITY, 4, 5};
    const uint64_t rows[] = {0, 1, 4, 5}, bad[] = {1, 3}, falling[] = {2, 1}, beyond[] = {0, 6};
    struct memory memory;
    struct ivon_error error;
    float out[4];
    struct ivon_examples *some = NULL;
    struct ivon_examples *examples = examples_of(&memory, data, 6, IVON_F32, 0, NULL, &none);
    assert_int_equal(ivon_examples_select(&some, examples, rows, 4, &error), 0);
    for (size_t i = 0; i < 4; i++)
        assert_true(ivon_examples_number(some, i) == rows[i] &&
                    ivon_examples_number(examples, i) == i);
    assert_int_equal(ivon_examples_count(some), 4);
    assert_int_equal(ivon_examples_read_f32(some, 0, 0, 4, out, &error), 0);
    assert_true(out[0] == 0 && out[1] == 1 && out[2] == 4 && out[3] == 5 && memory.reads == 2);
    ivon_examples_close(some);
    assert_int_equal(ivon_examples_select(&some, examples, bad, 2, &error), 0);
    assert_int_equal(ivon_examples_read_f32(some, 0, 0, 2, out, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message, "memory: 'x': row 3 holds -inf, expected a finite number");
    ivon_examples_close(some);
    assert_int_equal(ivon_examples_select(&some, examples, falling, 2, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message,
                        "memory: example 1 is selected, expected rising numbers below 6");
    assert_int_equal(ivon_examples_select(&some, examples, beyond, 2, &error), IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_examples_select(&some, examples, rows, 0, &error), IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "memory: no example is selected");
    ivon_examples_close(examples);
}

/* Two fields of the caller's memory, of which bytes are brightnesses as floats and labels as they
   are. */
static void reads_the_callers_memory(void **state)
{
    (void)state;
    const float inputs[] = {0, 1, 2, 3, 4, 5};
    const uint8_t targets[] = {0, 51, 255};
    const void *data[] = {inputs, targets};
    struct ivon_field fields[2] = {{.name = "x", .dtype = IVON_F32, .rank = 1, .shape = {2}},
                                   {.name = "y", .dtype = IVON_U8, .rank = 0}};
    struct ivon_examples *examples = NULL;
    struct ivon_error error;
    float out[4];
    int64_t labels[2];
    assert_int_equal(ivon_examples_from_memory(&examples, "mine", 3, fields, data, 2, &error), 0);
    assert_string_equal(ivon_examples_path(examples), "mine");
    assert_true(ivon_examples_count(examples) == 3 && ivon_examples_find(examples, "y") == 1);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 1, 2, out, &error), 0);
    assert_memory_equal(out, inputs + 2, sizeof out);
    assert_int_equal(ivon_examples_read_f32(examples, 1, 1, 2, out, &error), 0);
    assert_true(out[0] == 0.2F && out[1] == 1);
    assert_int_equal(ivon_examples_read_i64(examples, 1, 1, 2, labels, &error), 0);
    assert_true(labels[0] == 51 && labels[1] == 255);
    ivon_examples_close(examples);
    fields[0].rank = IVON_RANK_MAX + 1;
    assert_int_equal(ivon_examples_from_memory(&examples, "mine", 3, fields, data, 2, &error),
                     IVON_ERROR_ARGUMENT);
    assert_string_equal(error.message, "mine: 'x' has rank 9 and type 1, expected a rank of at "
                                       "most 8 and a type");
    fields[0].rank = 1;
    fields[0].name = "a//b";
    assert_int_equal(ivon_examples_from_memory(&examples, "mine", 3, fields, data, 2, &error),
                     IVON_ERROR_ARGUMENT);
    fields[0].name = "x";
    fields[0].shape[0] = 0;
    assert_int_equal(ivon_examples_from_memory(&examples, "mine", 3, fields, data, 2, &error),
                     IVON_ERROR_DATA);
    fields[0].shape[0] = 2;
    fields[1].dtype = IVON_DTYPE_COUNT;
    assert_int_equal(ivon_examples_from_memory(&examples, "mine", 3, fields, data, 2, &error),
                     IVON_ERROR_ARGUMENT);
}

/* Rounded once: 1 + 2^-24 is half-way between floats and goes to even, the least more goes up. */
static void rounds_once(void **state)
{
    (void)state;
    const double data[] = {1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-52, 1 + 3 * 0x1p-24, -0x1.fffffep127};
    struct memory memory;
    struct ivon_error error;
    float out[4];
    struct ivon_examples *examples = examples_of(&memory, data, 4, IVON_F64, 0, NULL, &none);
    assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 4, out, &error), 0);
    assert_true(out[0] == 1 && out[1] == 1 + 0x1p-23F && out[2] == 1 + 0x1p-22F);
    assert_true(out[3] == -FLT_MAX);
    ivon_examples_close(examples);
}

/*
 * Channels by a plain loop in long double. Each of the three operations in double has a relative
 * error of at most u = 2^-53 of its own result, the last rounding one of 2^-24:
 *   |error| <= (u |x/d| + u |x/d − m| + u |x/d − m|) / s + 2^-24 |result|, first order
 * and 2^-50 (|x/d| + |m|) / s + 6.5e-8 |result| is more, as 2^-24 is 5.97e-8.
 */
static void check_channels(int rank, const int64_t *shape, size_t channels)
{
    enum { ROWS = 41, CHANNELS = 5 };
    static const double means[CHANNELS] = {0.4914, 0.5, -1e3, 0, 0.1};
    static const double stds[CHANNELS] = {0.247, 1e-3, 7, 1, 3};
    size_t example = 1;
    for (int i = 0; i < rank; i++)
        example *= (size_t)shape[i];
    uint8_t *data = malloc(ROWS * example);
    float *out = malloc(ROWS * example * sizeof *out);
    struct memory memory;
    struct ivon_error error;
    assert_true(data && out);
    for (size_t i = 0; i < ROWS * example; i++)
        data[i] = (uint8_t)(i * 2654435761U >> 16);
    const struct examples_scaling scaling = {255, channels, means, stds};
    struct ivon_examples *examples = examples_of(&memory, data, ROWS, IVON_U8, rank, shape,
                                                 &scaling);
    for (uint64_t first = 0; first < 3; first++) {
        assert_int_equal(ivon_examples_read_f32(examples, 0, first, ROWS - 3, out, &error), 0);
        for (size_t i = 0; i < (ROWS - 3) * example; i++) {
            size_t channel = channels == 1 ? 0 : i % example / (example / (size_t)shape[0]);
            long double x = data[first * example + i] / 255.0L;
            long double expected = (x - means[channel]) / stds[channel];
            long double size = (x + fabsl((long double)means[channel])) / stds[channel];
            if (fabsl(out[i] - expected) > 0x1p-50L * size + 6.5e-8L * fabsl(expected))
                fail_msg("element %zu of rank %d is %.9g, expected %.9Lg", i, rank, (double)out[i],
                         expected);
        }
    }
    ivon_examples_close(examples);
    free(data);
    free(out);
}

static void normalizes_channels(void **state)
{
    (void)state;
    check_channels(3, (const int64_t[]){5, 17, 13}, 5); /* images: runs shorter than a tile */
    check_channels(3, (const int64_t[]){3, 50, 50}, 3); /* and longer */
    check_channels(2, (const int64_t[]){5, 1}, 5);      /* a channel for each element */
    check_channels(1, (const int64_t[]){5}, 5);
    check_channels(2, (const int64_t[]){28, 28}, 1);
    check_channels(0, NULL, 1);
}

static void scales_by_parts(void **state)
{
    (void)state;
    static const double two[] = {2};
    const float data[] = {1, 2, 3};
    struct memory memory;
    struct ivon_error error;
    float out[3];
    const struct examples_scaling scalings[] = {
        {1, 1, two, NULL}, {1, 1, NULL, two}, {4, 1, NULL, NULL}};
    const float expected[][3] = {{-1, 0, 1}, {0.5F, 1, 1.5F}, {0.25F, 0.5F, 0.75F}};
    for (int s = 0; s < 3; s++) {
        struct ivon_examples *examples = examples_of(&memory, data, 3, IVON_F32, 0, NULL,
                                                     &scalings[s]);
        assert_int_equal(ivon_examples_read_f32(examples, 0, 0, 3, out, &error), 0);
        assert_memory_equal(out, expected[s], sizeof out);
        ivon_examples_close(examples);
    }
}

static void names_the_row_of_a_bad_label(void **state)
{
    (void)state;
    enum { ROWS = 100000, WIDTH = 2 };
    float *data = calloc(ROWS * WIDTH, sizeof *data);
    int64_t *out = malloc(ROWS * WIDTH * sizeof *out);
    struct memory memory;
    struct ivon_error error;
    assert_true(data && out);
    struct ivon_examples *examples = examples_of(&memory, data, ROWS, IVON_F32, 1,
                                                 (const int64_t[]){WIDTH}, &none);
    const float bad[] = {2.5F, NAN, INFINITY, 0x1p63F, -0x1.8p63F, -0.001F};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        data[WIDTH * 77777 + 1] = bad[i];
        assert_int_equal(ivon_examples_read_i64(examples, 0, 0, ROWS, out, &error),
                         IVON_ERROR_DATA);
        assert_non_null(strstr(error.message, "memory: 'x': row 77777 is "));
        assert_int_equal(ivon_examples_read_i64(examples, 0, 77770, 100, out, &error),
                         IVON_ERROR_DATA);
        assert_non_null(strstr(error.message, "row 77777 is "));
        assert_int_equal(ivon_examples_read_i64(examples, 0, 77778, 100, out, &error), 0);
    }
    data[WIDTH * 77777 + 1] = -0x1p63F;
    assert_int_equal(ivon_examples_read_i64(examples, 0, 77777, 1, out, &error), 0);
    assert_true(out[1] == INT64_MIN);
    ivon_examples_close(examples);
    free(data);
    free(out);

    const uint64_t large[] = {5, (uint64_t)INT64_MAX + 1};
    int64_t two[2];
    examples = examples_of(&memory, large, 2, IVON_U64, 0, NULL, &none);
    assert_int_equal(ivon_examples_read_i64(examples, 0, 0, 2, two, &error), IVON_ERROR_DATA);
    assert_string_equal(error.message,
                        "memory: 'x': row 1 is 9223372036854775808, expected less than 2^63");
    assert_int_equal(ivon_examples_read_i64(examples, 0, 0, 1, two, &error), 0);
    assert_int_equal(two[0], 5);
    ivon_examples_close(examples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describes),
        cmocka_unit_test(refuses_ranges),
        cmocka_unit_test(refuses_shapes),
        cmocka_unit_test(reads_any_range),
        cmocka_unit_test(reads_large_examples),
        cmocka_unit_test(converts_every_type),
        cmocka_unit_test(selects),
        cmocka_unit_test(reads_the_callers_memory),
        cmocka_unit_test(rounds_once),
        cmocka_unit_test(refuses_what_is_not_finite),
        cmocka_unit_test(normalizes_channels),
        cmocka_unit_test(scales_by_parts),
        cmocka_unit_test(names_the_row_of_a_bad_label),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
