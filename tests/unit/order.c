/* The order of examples, and their augmentation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "train/order.h"

static void orders_are_permutations(void **state)
{
    (void)state;
    enum { LARGEST = 1000 };
    uint32_t order[LARGEST];
    for (size_t count = 0; count <= LARGEST; count += count < 10 ? 1 : 165) {
        unsigned char seen[LARGEST] = {0};
        order_shuffle(order, count, 3, 1);
        for (size_t i = 0; i < count; i++) {
            assert_true(order[i] < count && !seen[order[i]]);
            seen[order[i]] = 1;
        }
    }
}

static void orders_depend_on_seed_and_epoch_alone(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    uint32_t first[COUNT], again[COUNT];
    order_shuffle(first, COUNT, 1, 0);
    order_shuffle(again, COUNT, 1, 0);
    assert_memory_equal(first, again, sizeof first);
    order_shuffle(again, COUNT, 1, 1);
    assert_memory_not_equal(first, again, sizeof first);
    order_shuffle(again, COUNT, 2, 0);
    assert_memory_not_equal(first, again, sizeof first);
}

/* The formula of the header, with the words at their addresses. */
static void orders_are_the_documented_shuffle(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    uint32_t order[COUNT], expected[COUNT];
    uint64_t words[COUNT];
    struct random_stream stream = random_stream_of(11, 6, "/order");
    random_words(&stream, 0, COUNT / 4, words);
    for (size_t i = 0; i < COUNT; i++)
        expected[i] = (uint32_t)i;
    for (size_t i = COUNT - 1, word = 0; i > 0; i--, word++) {
        size_t other = (size_t)floorl((long double)words[word] * (long double)(i + 1) * 0x1p-64L);
        uint32_t swapped = expected[i];
        expected[i] = expected[other];
        expected[other] = swapped;
    }
    order_shuffle(order, COUNT, 11, 6);
    assert_memory_equal(order, expected, sizeof order);
}

/* 24,000 epochs of four examples: each of 24 orders 1000 times, with a standard deviation of
   √(24000 · (1/24)(23/24)) = 31; five of these are met by 24 orders in all but 1 of 70,000 runs,
   and the run is always the same. */
static void every_order_is_as_likely(void **state)
{
    (void)state;
    unsigned counts[256] = {0}, orders = 0;
    for (uint64_t epoch = 0; epoch < 24000; epoch++) {
        uint32_t order[4];
        order_shuffle(order, 4, 9, epoch);
        counts[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
    }
    for (size_t i = 0; i < 256; i++) {
        orders += counts[i] != 0;
        if (counts[i] && (counts[i] < 845 || counts[i] > 1155))
            fail_msg("an order was met %u times", counts[i]);
    }
    assert_int_equal(orders, 24);
}

enum { CHANNELS = 2, HEIGHT = 5, WIDTH = 6, SIZE = CHANNELS * HEIGHT * WIDTH };

/* Which cut and flip of an image of distinct numbers another is, or a failure. */
static void find_change(const float *image, const float *found, int *down, int *right, int *flip)
{
    for (*down = -4; *down <= 4; ++*down)
        for (*right = -4; *right <= 4; ++*right)
            for (*flip = 0; *flip < 2; ++*flip) {
                size_t equal = 0;
                for (int c = 0; c < CHANNELS; c++)
                    for (int y = 0; y < HEIGHT; y++)
                        for (int x = 0; x < WIDTH; x++) {
                            int row = y + *down, column = (*flip ? WIDTH - 1 - x : x) + *right;
                            bool inside = row >= 0 && row < HEIGHT && column >= 0 && column < WIDTH;
                            float expected = inside ? image[(c * HEIGHT + row) * WIDTH + column]
                                                    : 0;
                            equal += found[(c * HEIGHT + y) * WIDTH + x] == expected;
                        }
                if (equal == SIZE)
                    return;
            }
    fail_msg("the image was changed in no known way");
}

static void images_are_cut_and_flipped(void **state)
{
    (void)state;
    struct augmentation both = {.crop = 4, .flip = true};
    float image[SIZE], out[SIZE];
    unsigned rows[9] = {0}, columns[9] = {0}, flips[2] = {0};
    for (int i = 0; i < SIZE; i++)
        image[i] = (float)(i + 1);
    for (uint64_t example = 0; example < 900; example++) {
        int down, right, flip;
        augmentation_apply(&both, 1, 2, example, CHANNELS, HEIGHT, WIDTH, image, out);
        find_change(image, out, &down, &right, &flip);
        rows[down + 4]++;
        columns[right + 4]++;
        flips[flip]++;
    }
    /* Expected 100 each with a standard deviation of 9.4, and 450 with one of 15: five of them. */
    for (int i = 0; i < 9; i++) {
        assert_in_range(rows[i], 53, 147);
        assert_in_range(columns[i], 53, 147);
    }
    assert_in_range(flips[1], 375, 525);
}

/* By the definition in order.h: padded, cut out, flipped, and a square of zeros. */
static void check_definition(bool reflect, int cutout)
{
    enum { PAD = 3, TALL = HEIGHT + 2 * PAD, WIDE = WIDTH + 2 * PAD };
    struct augmentation both = {.crop = PAD, .reflect = reflect, .flip = true, .cutout = cutout};
    float image[SIZE], out[SIZE];
    for (int i = 0; i < SIZE; i++)
        image[i] = (float)(i + 1);
    for (uint64_t example = 0; example < 200; example++) {
        struct random_stream stream = random_stream_of(5, 7, "/augmentation");
        uint64_t words[8];
        random_words(&stream, example, 1, words);
        int top = (int)((double)words[0] * 0x1p-64 * (2 * PAD + 1));
        int left = (int)((double)words[1] * 0x1p-64 * (2 * PAD + 1));
        int row = (int)((double)(words[3] >> 32) * 0x1p-32 * HEIGHT);
        int middle = (int)((double)(words[3] & UINT32_MAX) * 0x1p-32 * WIDTH);
        augmentation_apply(&both, 5, 7, example, CHANNELS, HEIGHT, WIDTH, image, out);
        for (int c = 0; c < CHANNELS; c++) {
            float padded[TALL][WIDE] = {{0}};
            for (int i = 0; i < HEIGHT * WIDTH; i++)
                padded[PAD + i / WIDTH][PAD + i % WIDTH] = image[c * HEIGHT * WIDTH + i];
            for (int i = 1; i <= PAD && reflect; i++)
                for (int x = 0; x < WIDE; x++) {
                    padded[PAD - i][x] = padded[PAD + i][x];
                    padded[TALL - 1 - PAD + i][x] = padded[TALL - 1 - PAD - i][x];
                }
            for (int i = 1; i <= PAD && reflect; i++)
                for (int y = 0; y < TALL; y++) {
                    padded[y][PAD - i] = padded[y][PAD + i];
                    padded[y][WIDE - 1 - PAD + i] = padded[y][WIDE - 1 - PAD - i];
                }
            for (int y = 0; y < HEIGHT; y++)
                for (int x = 0; x < WIDTH; x++) {
                    int column = words[2] >> 63 ? WIDTH - 1 - x : x;
                    bool zero = y >= row - cutout / 2 && y < row - cutout / 2 + cutout &&
                                x >= middle - cutout / 2 && x < middle - cutout / 2 + cutout;
                    assert_true(out[(c * HEIGHT + y) * WIDTH + x] ==
                                (zero ? 0 : padded[top + y][left + column]));
                }
        }
    }
}

static void augmentation_is_as_defined(void **state)
{
    (void)state;
    check_definition(false, 0);
    check_definition(true, 0);
    check_definition(false, 3);
    check_definition(true, 4);
}

static void augmentation_depends_on_its_address(void **state)
{
    (void)state;
    struct augmentation crop = {.crop = 4}, none = {0};
    float image[SIZE], first[SIZE], again[SIZE];
    unsigned differ = 0;
    for (int i = 0; i < SIZE; i++)
        image[i] = (float)(i + 1);
    augmentation_apply(&none, 1, 2, 3, CHANNELS, HEIGHT, WIDTH, image, again);
    assert_memory_equal(again, image, sizeof image);
    for (uint64_t example = 0; example < 20; example++) {
        augmentation_apply(&crop, 1, 2, example, CHANNELS, HEIGHT, WIDTH, image, first);
        augmentation_apply(&crop, 1, 2, example, CHANNELS, HEIGHT, WIDTH, image, again);
        assert_memory_equal(first, again, sizeof first);
        augmentation_apply(&crop, 1, 3, example, CHANNELS, HEIGHT, WIDTH, image, again);
        differ += memcmp(first, again, sizeof first) != 0;
    }
    assert_true(differ > 10); /* all but one in 81 differ */
}

static void augmentations_are_parsed(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",           "crop",       "crop0",           "crop65",        "flip,", "turn",
        "flip,flip",  "crop4 flip", ",flip",           "crop-1",        "flips", "cutout",
        "cutout1025", "reflect0",   "cutout2,cutout2", "crop4,reflect4"};
    struct augmentation found;
    struct ivon_error error;
    assert_int_equal(augmentation_parse(&found, "crop4,flip", &error), 0);
    assert_true(found.crop == 4 && found.flip);
    assert_int_equal(augmentation_parse(&found, "flip,crop64", &error), 0);
    assert_true(found.crop == 64 && found.flip);
    assert_int_equal(augmentation_parse(&found, "crop2", &error), 0);
    assert_true(found.crop == 2 && !found.flip);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (augmentation_parse(&found, wrong[i], &error) != IVON_ERROR_ARGUMENT)
            fail_msg("'%s' was accepted", wrong[i]);
    assert_string_equal(error.message,
                        "augmentation 'crop4,reflect4', expected some of crop or reflect with a "
                        "padding (1 to 64), flip, and cutout with a side (1 to 1024), as in "
                        "crop4,flip,cutout16");
}

static void augmentations_are_bits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned bits, crop, cutout;
    } fine[] = {{"flip", IVON_AUGMENT_FLIP, 0, 0},
                {"crop64", IVON_AUGMENT_CROP, 64, 0},
                {"cutout16,reflect4", IVON_AUGMENT_REFLECT | IVON_AUGMENT_CUTOUT, 4, 16},
                {"crop4,flip", IVON_AUGMENT_CROP | IVON_AUGMENT_FLIP, 4, 0}};
    static const unsigned wrong[][3] = {{IVON_AUGMENT_FLIP, 1, 0},
                                        {IVON_AUGMENT_CROP, 0, 0},
                                        {IVON_AUGMENT_CROP, 65, 0},
                                        {IVON_AUGMENT_CROP | IVON_AUGMENT_REFLECT, 4, 0},
                                        {IVON_AUGMENT_CUTOUT, 0, 0},
                                        {IVON_AUGMENT_CUTOUT, 0, 1025},
                                        {0, 0, 1},
                                        {16, 0, 0}};
    struct augmentation found;
    struct ivon_error error;
    unsigned bits = 7, crop = 7, cutout = 7;
    assert_int_equal(ivon_augmentation_parse(&bits, &crop, &cutout, "crop", &error),
                     IVON_ERROR_ARGUMENT);
    assert_true(bits == 7 && crop == 7 && cutout == 7);
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        assert_int_equal(ivon_augmentation_parse(&bits, &crop, &cutout, fine[i].text, &error), 0);
        assert_true(bits == fine[i].bits && crop == fine[i].crop && cutout == fine[i].cutout);
        assert_int_equal(augmentation_make(&found, bits, crop, cutout, &error), 0);
        assert_true(found.crop == crop && found.cutout == cutout);
        assert_int_equal(found.flip, (bits & IVON_AUGMENT_FLIP) != 0);
        assert_int_equal(found.reflect, (bits & IVON_AUGMENT_REFLECT) != 0);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(augmentation_make(&found, wrong[i][0], wrong[i][1], wrong[i][2], &error),
                         IVON_ERROR_ARGUMENT);
    assert_string_equal(
        error.message, "augmentation 16 with a crop of 0 and a cutout of 0, expected bits of enum "
                       "ivon_augmentation, but one of crop and reflect, with a crop of 1 to 64 and "
                       "a cutout of 1 to 1024 for theirs, else 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_permutations),
        cmocka_unit_test(orders_depend_on_seed_and_epoch_alone),
        cmocka_unit_test(orders_are_the_documented_shuffle),
        cmocka_unit_test(every_order_is_as_likely),
        cmocka_unit_test(images_are_cut_and_flipped),
        cmocka_unit_test(augmentation_is_as_defined),
        cmocka_unit_test(augmentation_depends_on_its_address),
        cmocka_unit_test(augmentations_are_parsed),
        cmocka_unit_test(augmentations_are_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
