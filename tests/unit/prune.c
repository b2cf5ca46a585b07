/*
 * Pruned posteriors against a sort of all scores, of means in memory. Scores are the same products
 * in double, so that what stays is the same exactly.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/prune.h"

enum { LARGE = (1 << 20) + 700, SMALL = 37, ALL = LARGE + SMALL, TENSORS = 7 };

static float large[LARGE], large_h[LARGE], fixed[SMALL], buffer[3];
static double small[SMALL];
static float small_h[SMALL];

static struct ivon_tensor tensor_of(const char *name, enum ivon_part part, enum ivon_dtype dtype,
                                    size_t count)
{
    bool h = part == IVON_HESSIAN;
    return (struct ivon_tensor){.name = name,
                                .part = part,
                                .dtype = dtype,
                                .rank = 1,
                                .shape = {(int64_t)count},
                                .count = count,
                                .ess = h ? 50 : NAN,
                                .weight_decay = h ? 0.125 : NAN};
}

static uint64_t random_state = 1;

static double uniform(void)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(random_state >> 11) * 0x1p-53;
}

/* Means in steps, so that many scores are equal; some are negative zeros. */
static void fill(void)
{
    for (size_t i = 0; i < LARGE; i++) {
        large[i] = (float)(floor(uniform() * 64) - 32) / 8 * (i % 5 ? 1.0f : -0.0f);
        large_h[i] = (float)floor(uniform() * 4) / 4;
    }
    for (size_t i = 0; i < SMALL; i++) {
        small[i] = uniform() * 8 - 4;
        small_h[i] = (float)uniform();
        fixed[i] = (float)i;
    }
}

/* Two means with Hessians, one without, and others. */
static struct ivon_source *source_new(void)
{
    const struct ivon_tensor tensors[TENSORS] = {tensor_of("a", IVON_HESSIAN, IVON_F32, LARGE),
                                                 tensor_of("a", IVON_MEAN, IVON_F32, LARGE),
                                                 tensor_of("fixed", IVON_MEAN, IVON_F32, SMALL),
                                                 tensor_of("b", IVON_MEAN, IVON_F64, SMALL),
                                                 tensor_of("b", IVON_HESSIAN, IVON_F32, SMALL),
                                                 tensor_of("statistics", IVON_BUFFER, IVON_F32, 3),
                                                 tensor_of("a", IVON_MOMENTUM, IVON_F32, LARGE)};
    const void *data[TENSORS] = {large_h, large, fixed, small, small_h, buffer, large_h};
    struct ivon_header header = ivon_header_empty();
    struct ivon_source *source = NULL;
    header.ess = 50;
    header.weight_decay = 0.125;
    assert_int_equal(
        ivon_source_from_memory(&source, "memory", &header, tensors, data, TENSORS, NULL), 0);
    return source;
}

struct scored {
    double score;
    size_t place; /* of the mean among all, in order */
};

static int compare_scored(const void *a, const void *b)
{
    const struct scored *left = a, *right = b;
    return left->score != right->score
               ? (left->score < right->score) - (left->score > right->score)
               : (left->place > right->place) - (left->place < right->place);
}

/* Marks what stays: of all, or of the large mean alone. */
static uint64_t sort_all(double keep, double least, bool by_snr, size_t count, bool *stays)
{
    struct scored *all = calloc(count, sizeof *all);
    assert_non_null(all);
    for (size_t i = 0; i < count; i++) {
        double m = i < LARGE ? (double)large[i] : small[i - LARGE];
        double h = (double)(i < LARGE ? large_h[i] : small_h[i - LARGE]);
        all[i] = (struct scored){m * m * (by_snr ? 50 * (h + 0.125) : 1), i};
    }
    qsort(all, count, sizeof *all, compare_scored);
    uint64_t stay = (uint64_t)floor(keep * (double)count + 0.5);
    for (stay = isnan(keep) ? 0 : stay;
         isnan(keep) && stay < count && all[stay].score >= least * least;)
        stay++;
    for (size_t i = 0; i < count; i++)
        stays[all[i].place] = i < stay;
    free(all);
    return stay;
}

static const void *read_all(struct ivon_source *source, enum ivon_part part, const char *name,
                            size_t count)
{
    static double raw[LARGE];
    ptrdiff_t found = ivon_source_find(source, part, name);
    assert_true(found >= 0);
    /* In pieces that no tile has. */
    size_t size = ivon_dtype_size(ivon_source_tensor(source, (size_t)found)->dtype);
    for (size_t at = 0; at < count; at += 100003) {
        size_t piece = count - at < 100003 ? count - at : 100003;
        assert_int_equal(
            ivon_source_read(source, (size_t)found, at, piece, (char *)raw + at * size, NULL), 0);
    }
    return raw;
}

static void check_pruned(struct ivon_source *pruned, const bool *stays, bool both)
{
    const float *found = read_all(pruned, IVON_MEAN, "a", LARGE);
    for (size_t i = 0; i < LARGE; i++)
        assert_true(found[i] == (stays[i] ? large[i] : 0));
    found = read_all(pruned, IVON_BUFFER, "pruned.a", LARGE);
    for (size_t i = 0; i < LARGE; i++)
        assert_true(found[i] == (stays[i] ? 0 : large[i]));
    const double *numbers = read_all(pruned, IVON_MEAN, "b", SMALL);
    for (size_t i = 0; i < SMALL; i++)
        assert_true(numbers[i] == (!both || stays[LARGE + i] ? small[i] : 0));
    assert_memory_equal(read_all(pruned, IVON_HESSIAN, "a", LARGE), large_h, sizeof large_h);
    assert_memory_equal(read_all(pruned, IVON_BUFFER, "statistics", 3), buffer, sizeof buffer);
}

static void check_restored(struct ivon_source *pruned, struct ivon_source *source)
{
    struct ivon_source *restored = NULL;
    assert_int_equal(ivon_prune_restore(&restored, pruned, NULL), 0);
    assert_int_equal(ivon_source_tensor_count(restored), ivon_source_tensor_count(source));
    assert_memory_equal(read_all(restored, IVON_MEAN, "a", LARGE), large, sizeof large);
    assert_memory_equal(read_all(restored, IVON_MEAN, "b", SMALL), small, sizeof small);
    assert_memory_equal(read_all(restored, IVON_MEAN, "fixed", SMALL), fixed, sizeof fixed);
    assert_memory_equal(read_all(restored, IVON_HESSIAN, "a", LARGE), large_h, sizeof large_h);
    assert_memory_equal(read_all(restored, IVON_BUFFER, "statistics", 3), buffer, sizeof buffer);
    /* What changes lies nowhere in memory; what stays, where it was. */
    for (int i = 0; i < 2; i++) {
        struct ivon_source *made = i ? restored : pruned;
        ptrdiff_t mean = ivon_source_find(made, IVON_MEAN, "a");
        ptrdiff_t h = ivon_source_find(made, IVON_HESSIAN, "a");
        assert_null(ivon_source_view(made, (size_t)mean, 0));
        assert_ptr_equal(ivon_source_view(made, (size_t)h, 0), large_h);
    }
    ivon_source_close(restored);
}

static bool select_a(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "a") == 0;
}

static void test_shares(void **state)
{
    (void)state;
    static bool stays[ALL];
    static const double shares[] = {0.5, 0.1, 1, 0, 1e-6};
    struct ivon_source *source = source_new();
    for (size_t i = 0; i < 2 * sizeof shares / sizeof *shares; i++) {
        struct ivon_prune_options options = ivon_prune_defaults();
        struct ivon_source *pruned = NULL;
        bool alone = i % 2;
        options.keep = shares[i / 2];
        options.by = i % 4 < 2 ? IVON_PRUNE_SNR : IVON_PRUNE_MAGNITUDE;
        options.select = alone || options.by == IVON_PRUNE_MAGNITUDE ? select_a : NULL;
        options.resources.threads = (int)i % 3 + 1;
        bool both = !options.select;
        uint64_t stay = sort_all(options.keep, NAN, options.by == IVON_PRUNE_SNR,
                                 both ? ALL : LARGE, stays);
        assert_int_equal(ivon_prune(&pruned, source, &options, NULL), 0);
        check_pruned(pruned, stays, both);
        size_t count;
        const struct ivon_pruned_tensor *tensors = ivon_prune_tensors(pruned, &count);
        assert_int_equal(count, both ? 2 : 1);
        assert_int_equal(tensors[0].kept + (both ? tensors[1].kept : 0), stay);
        assert_int_equal(tensors[0].count, LARGE);
        assert_true(isinf(ivon_prune_threshold(pruned)) == (stay == 0));
        check_restored(pruned, source);
        ivon_source_close(pruned);
    }
    ivon_source_close(source);
}

static void test_ratios(void **state)
{
    (void)state;
    static bool stays[ALL];
    static const double ratios[] = {0, 1, 7.5, 1e6};
    struct ivon_source *source = source_new();
    for (size_t i = 0; i < 4; i++) {
        struct ivon_prune_options options = ivon_prune_defaults();
        struct ivon_source *pruned = NULL;
        options.least = ratios[i];
        uint64_t stay = sort_all(NAN, ratios[i], true, ALL, stays);
        assert_int_equal(ivon_prune(&pruned, source, &options, NULL), 0);
        check_pruned(pruned, stays, true);
        assert_true(stay == 0 || ivon_prune_threshold(pruned) >= ratios[i]);
        ivon_source_close(pruned);
    }
    ivon_source_close(source);
}

static void refuse(struct ivon_source *source, const struct ivon_prune_options *options, int code,
                   const char *message)
{
    struct ivon_source *pruned = NULL;
    struct ivon_error error = {0};
    assert_int_equal(ivon_prune(&pruned, source, options, &error), code);
    if (!strstr(error.message, message))
        fail_msg("'%s', expected '%s'", error.message, message);
}

static bool select_fixed(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "fixed") == 0;
}

static void test_refusals(void **state)
{
    (void)state;
    struct ivon_source *source = source_new(), *pruned = NULL;
    struct ivon_prune_options options = ivon_prune_defaults();
    refuse(source, &options, IVON_ERROR_ARGUMENT, "expected one of them");
    options.keep = 0.5;
    options.least = 1;
    refuse(source, &options, IVON_ERROR_ARGUMENT, "expected one of them");
    options.least = NAN;
    options.keep = 1.5;
    refuse(source, &options, IVON_ERROR_ARGUMENT, "expected one of them");
    options.keep = 0.5;
    options.select = select_fixed;
    refuse(source, &options, IVON_ERROR_DATA, "none of the means to prune has a Hessian");
    options.by = IVON_PRUNE_MAGNITUDE;
    assert_int_equal(ivon_prune(&pruned, source, &options, NULL), 0);
    refuse(pruned, &options, IVON_ERROR_DATA, "it is pruned, and has to be restored first");
    size_t count;
    assert_null(ivon_prune_tensors(source, &count));
    ivon_source_close(pruned);
    assert_int_equal(ivon_prune_restore(&pruned, source, NULL), IVON_ERROR_DATA);
    options.by = IVON_PRUNE_SNR;
    options.select = NULL;
    small_h[5] = -1;
    refuse(source, &options, IVON_ERROR_DATA, "Hessian of 'b' is -1 at element 5");
    small_h[5] = 1;
    large[1 << 20] = NAN;
    refuse(source, &options, IVON_ERROR_DATA, "element 1048576 of mean 'a' is nan");
    large[1 << 20] = 1;
    ivon_source_close(source);
}

/* Buffers that are no mean's, or of another shape. */
static void test_strange_buffers(void **state)
{
    (void)state;
    struct ivon_header header = ivon_header_empty();
    for (int i = 0; i < 2; i++) {
        const struct ivon_tensor tensors[2] = {
            tensor_of("a", IVON_MEAN, IVON_F32, 3),
            tensor_of(i ? "pruned.a" : "pruned.b", IVON_BUFFER, IVON_F32, i ? 2 : 3)};
        const void *data[2] = {buffer, buffer};
        struct ivon_source *source = NULL, *restored = NULL;
        assert_int_equal(
            ivon_source_from_memory(&source, "memory", &header, tensors, data, 2, NULL), 0);
        assert_int_equal(ivon_prune_restore(&restored, source, NULL), IVON_ERROR_DATA);
        ivon_source_close(source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_ratios),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_strange_buffers),
    };
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
