/* Corruptions of images: against formulas of their own, and what their random numbers depend on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/examples.h"
#include "core/random.h"
#include "ivon/corrupt.h"

enum { ROWS = 5, CHANNELS = 2, HEIGHT = 6, WIDTH = 5, PIXELS = HEIGHT * WIDTH, SIZE = 2 * PIXELS };

/* Two fields: images of bytes, and a label for each. */
static unsigned char images[ROWS][SIZE];
static const int64_t labels[ROWS] = {3, 1, 4, 1, 5};

static int images_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    (void)self;
    (void)error;
    if (field)
        memcpy(buffer, labels + first, count * sizeof *labels);
    else
        memcpy(buffer, images[first], count * sizeof *images);
    return 0;
}

static void images_close(void *self)
{
    (void)self;
}

/* Their numbers are from 0 to 1 in the first channel, and around 2 in the second. */
static struct ivon_examples *images_open(void)
{
    static const struct ivon_examples_class class = {.read = images_read, .close = images_close};
    static const double mean[CHANNELS] = {0, 0.5}, std[CHANNELS] = {1, 0.25};
    const struct ivon_field fields[] = {
        {.name = "x", .dtype = IVON_U8, .rank = 3, .shape = {CHANNELS, HEIGHT, WIDTH}},
        {.name = "y", .dtype = IVON_I64}};
    const struct examples_scaling scalings[] = {{255, CHANNELS, mean, std}, {1, 1, NULL, NULL}};
    struct ivon_examples *examples = NULL;
    struct ivon_error error;
    for (size_t i = 0; i < (size_t)ROWS * SIZE; i++)
        images[i / SIZE][i % SIZE] = (unsigned char)(i * 37 % 251);
    assert_int_equal(
        ivon_examples_new(&examples, &class, images, "images", ROWS, fields, scalings, 2, &error),
        0);
    return examples;
}

static const struct ivon_pixel_range ranges[CHANNELS] = {{0, 1}, {-2, 2}};

static struct ivon_corrupt_options options_of(enum ivon_corruption corruption, int level)
{
    struct ivon_corrupt_options options = ivon_corrupt_defaults();
    options.corruption = corruption;
    options.level = level;
    options.channels = CHANNELS;
    options.height = HEIGHT;
    options.width = WIDTH;
    options.ranges = ranges;
    options.seed = 7;
    return options;
}

/* The corrupted images of `count` examples from `first` on. */
static void corrupt(struct ivon_examples *all, const struct ivon_corrupt_options *options,
                    uint64_t first, size_t count, float (*out)[SIZE])
{
    struct ivon_examples *corrupted = NULL;
    struct ivon_error error;
    int64_t label;
    assert_int_equal(ivon_examples_corrupt(&corrupted, all, options, &error), 0);
    assert_int_equal(ivon_examples_count(corrupted), ivon_examples_count(all));
    assert_int_equal(ivon_examples_field(corrupted, 0)->dtype, IVON_F32);
    assert_int_equal(ivon_examples_read_f32(corrupted, 0, first, count, out[0], &error), 0);
    assert_int_equal(ivon_examples_read_i64(corrupted, 1, first, 1, &label, &error), 0);
    assert_int_equal(label, labels[ivon_examples_number(corrupted, first)]);
    ivon_examples_close(corrupted);
}

static double scaled(const float *image, int64_t c, int64_t y, int64_t x)
{
    y = y < 0 ? 0 : y >= HEIGHT ? HEIGHT - 1 : y;
    x = x < 0 ? 0 : x >= WIDTH ? WIDTH - 1 : x;
    return ((double)image[c * PIXELS + y * WIDTH + x] - ranges[c].low) /
           (ranges[c].high - ranges[c].low);
}

/* u' of one pixel. */
typedef double pixel_formula(const float *image, int64_t c, int64_t y, int64_t x, uint64_t row);

static double noise(const float *image, int64_t c, int64_t y, int64_t x, uint64_t row)
{
    struct random_stream stream = random_stream_of(7, row, "corruption/noise");
    float normal;
    random_normal(&stream, (uint64_t)(c * PIXELS + y * WIDTH + x), 1, &normal);
    return scaled(image, c, y, x) + 0.18 * (double)normal;
}

static double impulse(const float *image, int64_t c, int64_t y, int64_t x, uint64_t row)
{
    struct random_stream stream = random_stream_of(7, row, "corruption/impulse");
    uint64_t words[4], element = (uint64_t)(c * PIXELS + y * WIDTH + x);
    random_words(&stream, element / 4, 1, words);
    double at = (double)words[element % 4] * 0x1p-64;
    return at < 0.045 ? 0 : at >= 0.955 ? 1 : scaled(image, c, y, x);
}

/* A kernel of two dimensions: 0.7 pixels wide, and 7 × 7 of them. */
static double blur(const float *image, int64_t c, int64_t y, int64_t x, uint64_t row)
{
    double sum = 0, all = 0;
    (void)row;
    for (int64_t i = -3; i <= 3; i++)
        for (int64_t j = -3; j <= 3; j++) {
            double weight = exp(-(double)(i * i + j * j) / 0.98);
            sum += weight * scaled(image, c, y + i, x + j);
            all += weight;
        }
    return sum / all;
}

/* Three rows of cells with 2 pixels each, and three columns with 5/3. */
static double pixelate(const float *image, int64_t c, int64_t y, int64_t x, uint64_t row)
{
    static const int64_t cell[WIDTH] = {0, 0, 1, 2, 2};
    static const double share[3][WIDTH] = {
        {.6, .4, 0, 0, 0}, {0, .2, .6, .2, 0}, {0, 0, 0, .4, .6}};
    double sum = 0;
    (void)row;
    for (int64_t i = y / 2 * 2; i < y / 2 * 2 + 2; i++)
        for (int64_t j = 0; j < WIDTH; j++)
            sum += share[cell[x]][j] * scaled(image, c, i, j) / 2;
    return sum;
}

static double contrast(const float *image, int64_t c, int64_t y, int64_t x, uint64_t row)
{
    double mean = 0;
    (void)row;
    for (int64_t i = 0; i < PIXELS; i++)
        mean += scaled(image, c, i / WIDTH, i % WIDTH) / PIXELS;
    return 0.6 * mean + 0.4 * scaled(image, c, y, x);
}

static double brightness(const float *image, int64_t c, int64_t y, int64_t x, uint64_t row)
{
    (void)row;
    return scaled(image, c, y, x) + 0.3;
}

static void follows_formulas(void **state)
{
    static pixel_formula *const formulas[] = {noise, impulse, blur, pixelate, contrast, brightness};
    static const char *const names[] = {"noise",    "impulse",  "blur",
                                        "pixelate", "contrast", "brightness"};
    struct ivon_examples *all = images_open();
    struct ivon_error error;
    float before[ROWS][SIZE], after[ROWS][SIZE];
    (void)state;
    assert_int_equal(ivon_examples_read_f32(all, 0, 0, ROWS, before[0], &error), 0);
    for (size_t i = 0; i < sizeof formulas / sizeof *formulas; i++) {
        const struct ivon_corrupt_options options = options_of((enum ivon_corruption)i, 3);
        assert_string_equal(ivon_corruption_name((enum ivon_corruption)i), names[i]);
        corrupt(all, &options, 0, ROWS, after);
        /* Numbers up to 2, rounded to float once: half of 2^-23. */
        for (int64_t e = 0; e < (int64_t)ROWS * SIZE; e++) {
            int64_t row = e / SIZE, c = e % SIZE / PIXELS, y = e % PIXELS / WIDTH, x = e % WIDTH;
            double u = formulas[i](before[row], c, y, x, (uint64_t)row);
            double expected = ranges[c].low +
                              (ranges[c].high - ranges[c].low) * fmin(fmax(u, 0), 1);
            assert_true(fabs(expected - (double)after[row][e % SIZE]) <= 0x1.01p-24 * 2);
        }
    }
    assert_null(ivon_corruption_name((enum ivon_corruption)6));
    ivon_examples_close(all);
}

enum { SIDE = 40 };

static float large[SIDE * SIDE];

static int large_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                      struct ivon_error *error)
{
    (void)self, (void)field, (void)first, (void)count, (void)error;
    memcpy(buffer, large, sizeof large);
    return 0;
}

/* Corrupts one image, of which only the number of pixels is given beforehand. */
static void corrupt_large(enum ivon_corruption corruption, int level, int64_t height, float *out)
{
    static const struct ivon_examples_class class = {.read = large_read, .close = images_close};
    static const struct ivon_pixel_range unit = {0, 1};
    const struct ivon_field field = {
        .name = "x", .dtype = IVON_F32, .rank = 1, .shape = {SIDE * SIDE}};
    const struct examples_scaling scaling = {1, 1, NULL, NULL};
    struct ivon_corrupt_options options = options_of(corruption, level);
    struct ivon_examples *all = NULL, *corrupted = NULL;
    struct ivon_error error;
    for (size_t i = 0; i < (size_t)SIDE * SIDE; i++)
        large[i] = (float)(i * 37 % 101) / 100;
    options.channels = 1;
    options.height = height;
    options.width = SIDE * SIDE / height;
    options.ranges = &unit;
    assert_int_equal(
        ivon_examples_new(&all, &class, large, "large", 1, &field, &scaling, 1, &error), 0);
    assert_int_equal(ivon_examples_corrupt(&corrupted, all, &options, &error), 0);
    assert_int_equal(ivon_examples_read_f32(corrupted, 0, 0, 1, out, &error), 0);
    ivon_examples_close(corrupted);
    ivon_examples_close(all);
}

/* Words beyond the first that are drawn at a time; a kernel that grows with the image, 1.25 pixels
   wide and 5 to either side; and rows of one cell. */
static void grows_with_images(void **state)
{
    float out[SIDE * SIDE];
    (void)state;
    corrupt_large(IVON_CORRUPT_IMPULSE, 5, SIDE, out);
    const struct random_stream stream = random_stream_of(7, 0, "corruption/impulse");
    for (uint64_t i = 0; i < SIDE * SIDE; i++) {
        uint64_t words[4];
        random_words(&stream, i / 4, 1, words);
        double at = (double)words[i % 4] * 0x1p-64;
        assert_true(out[i] == (at < 0.135 ? 0 : at >= 0.865 ? 1 : large[i]));
    }
    corrupt_large(IVON_CORRUPT_BLUR, 5, SIDE, out);
    double sum = 0, all = 0;
    for (int64_t i = -5; i <= 5; i++)
        for (int64_t j = -5; j <= 5; j++) {
            double weight = exp(-(double)(i * i + j * j) / (2 * 1.25 * 1.25));
            sum += weight * (double)large[(20 + i) * SIDE + 17 + j];
            all += weight;
        }
    assert_true(fabs((double)out[20 * SIDE + 17] - sum / all) < 0x1p-24);
    corrupt_large(IVON_CORRUPT_PIXELATE, 5, 1, out); /* cells of 1600/480 pixels */
    double first = ((double)large[0] + (double)large[1] + (double)large[2] + (double)large[3] / 3) *
                   0.3;
    assert_true(fabs((double)out[0] - first) < 0x1p-24 && out[0] == out[2] && out[2] != out[3]);
}

/* A subset, a part and a level have the numbers of the whole. */
static void draws_by_address(void **state)
{
    static const uint64_t rows[] = {1, 4};
    struct ivon_examples *all = images_open(), *some = NULL;
    struct ivon_error error;
    float whole[ROWS][SIZE], part[2][SIZE];
    (void)state;
    assert_int_equal(ivon_examples_select(&some, all, rows, 2, &error), 0);
    for (int i = 0; i < 2; i++) {
        struct ivon_corrupt_options options = options_of((enum ivon_corruption)i, 5);
        corrupt(all, &options, 0, ROWS, whole);
        corrupt(some, &options, 0, 2, part);
        assert_memory_equal(part[0], whole[1], sizeof *part);
        assert_memory_equal(part[1], whole[4], sizeof *part);
        corrupt(all, &options, 3, 2, part);
        assert_memory_equal(part, whole[3], sizeof part);
        options.seed = 8;
        corrupt(all, &options, 3, 2, part);
        assert_memory_not_equal(part[0], whole[3], sizeof *part);
        assert_memory_not_equal(part[0], part[1], sizeof *part);
    }
    ivon_examples_close(some);
    ivon_examples_close(all);
}

static void finds_ranges(void **state)
{
    struct ivon_examples *all = images_open();
    struct ivon_pixel_range found[CHANNELS];
    struct ivon_error error;
    float numbers[ROWS][SIZE];
    (void)state;
    images[3][7] = 255;
    images[4][PIXELS + 2] = 0;
    assert_int_equal(ivon_pixel_ranges(all, 0, CHANNELS, found, &error), 0);
    assert_int_equal(ivon_examples_read_f32(all, 0, 0, ROWS, numbers[0], &error), 0);
    assert_true(found[0].high == 1 && found[1].low == -2);
    for (size_t i = 0; i < (size_t)ROWS * SIZE; i++) {
        const struct ivon_pixel_range *range = &found[i % SIZE / PIXELS];
        double number = (double)numbers[i / SIZE][i % SIZE];
        assert_true(range->low <= number && number <= range->high);
    }
    assert_int_equal(ivon_pixel_ranges(all, 0, 7, found, &error), IVON_ERROR_ARGUMENT);
    assert_int_equal(ivon_pixel_ranges(all, 2, 1, found, &error), IVON_ERROR_ARGUMENT);
    ivon_examples_close(all);
}

/* A channel in which all numbers are one stays as it is. */
static void keeps_constants(void **state)
{
    static const struct ivon_pixel_range constant[CHANNELS] = {{0, 1}, {0.25, 0.25}};
    struct ivon_examples *all = images_open();
    struct ivon_error error;
    float before[ROWS][SIZE], after[ROWS][SIZE];
    (void)state;
    assert_int_equal(ivon_examples_read_f32(all, 0, 0, ROWS, before[0], &error), 0);
    for (int i = 0; i < 6; i++) {
        struct ivon_corrupt_options options = options_of((enum ivon_corruption)i, 5);
        options.ranges = constant;
        corrupt(all, &options, 0, ROWS, after);
        for (int row = 0; row < ROWS; row++) {
            assert_memory_not_equal(after[row], before[row], PIXELS * sizeof(float));
            assert_memory_equal(after[row] + PIXELS, before[row] + PIXELS, PIXELS * sizeof(float));
        }
    }
    ivon_examples_close(all);
}

static void refuses(void **state)
{
    struct ivon_examples *all = images_open(), *corrupted = NULL;
    struct ivon_error error;
    (void)state;
    struct ivon_corrupt_options wrong[8];
    for (size_t i = 0; i < 8; i++)
        wrong[i] = options_of(IVON_CORRUPT_BLUR, 1);
    wrong[0].level = 0;
    wrong[1].level = 6;
    wrong[2].corruption = (enum ivon_corruption)6;
    wrong[3].height = 5;
    wrong[4].channels = -CHANNELS, wrong[4].width = -WIDTH;
    wrong[5].height = INT64_MAX;
    wrong[6].field = 2;
    wrong[7].ranges = NULL;
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(ivon_examples_corrupt(&corrupted, all, &wrong[i], &error),
                         IVON_ERROR_ARGUMENT);
    assert_null(corrupted);
    ivon_examples_close(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_formulas), cmocka_unit_test(grows_with_images),
        cmocka_unit_test(draws_by_address), cmocka_unit_test(finds_ranges),
        cmocka_unit_test(keeps_constants),  cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
