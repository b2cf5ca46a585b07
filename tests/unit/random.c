/* Random numbers by address: their definition, their accuracy, their distribution. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <Random123/threefry.h>
#include <cmocka.h>

#include "core/box_muller.h"
#include "core/random.h"

enum { MANY = 1 << 20 };

static const struct vector {
    uint64_t seed, sample;
    const char *name;
    uint64_t block, words[4]; /* of Philox */
    double normals[64];       /* of the group of the same number */
} vectors[] = {
#include "random_vectors.h"
};

static float *normals(uint64_t seed, uint64_t sample, const char *name, size_t count)
{
    struct random_stream stream = random_stream_of(seed, sample, name);
    float *out = malloc(count * sizeof *out);
    assert_non_null(out);
    random_normal(&stream, 0, count, out);
    return out;
}

/* The authors' own vectors of Philox4x64-10 (kat_vectors of Random123), as far as the counter's
   upper half is zero; and those of numpy for the definition in core/random.h. */
static void agrees_with_other_implementations(void **state)
{
    (void)state;
    static const uint64_t zeros[4] = {0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b,
                                      0x7e68b68aec7ba23b};
    struct random_stream stream = {0};
    uint64_t words[4];
    random_words(&stream, 0, 1, words);
    assert_memory_equal(words, zeros, sizeof zeros);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        float found[64];
        const struct vector *vector = &vectors[i];
        stream = random_stream_of(vector->seed, vector->sample, vector->name);
        random_words(&stream, vector->block, 1, words);
        assert_memory_equal(words, vector->words, sizeof words);
        random_normal(&stream, 64 * vector->block, 64, found);
        for (int k = 0; k < 64; k++)
            assert_true(fabs(found[k] - vector->normals[k]) <= 0x1p-21 * fabs(vector->normals[k]));
    }
}

/* The authors' vectors of Threefry4x32 with 13 rounds, as core/random.c calls it. */
static void threefry_gives_the_published_words(void **state)
{
    (void)state;
    static const struct {
        threefry4x32_ctr_t counter;
        threefry4x32_key_t key;
        threefry4x32_ctr_t words;
    } known[] = {
        {{{0}}, {{0}}, {{0x531c7e4f, 0x39491ee5, 0x2c855a92, 0x3d6abf9a}}},
        {{{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}},
         {{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}},
         {{0xc4189358, 0x1c9cc83a, 0xd5881c67, 0x6a0a89e0}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         {{0xa4093822, 0x299f31d0, 0x082efa98, 0xec4e6c89}},
         {{0x4aa71d8f, 0x734738c2, 0x431fc6a8, 0xae6debf1}}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        threefry4x32_ctr_t words = threefry4x32_R(13, known[i].counter, known[i].key);
        assert_memory_equal(words.v, known[i].words.v, sizeof words.v);
    }
}

static void any_range_gives_the_same_numbers(void **state)
{
    (void)state;
    enum { WHOLE = 3000 };
    float whole[WHOLE], part[WHOLE + 2];
    static const uint64_t starts[] = {0, 8, ((uint64_t)1 << 40) + 3,
                                      UINT64_MAX - (uint64_t)8 * WHOLE};
    struct random_stream stream = random_stream_of(1, 2, "weight");
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        random_normal(&stream, starts[s], WHOLE, whole);
        for (size_t first = 0; first < WHOLE; first += first < 40 ? 1 : 97)
            for (size_t count = 0; count <= WHOLE - first; count += count < 20 ? 1 : 491) {
                part[0] = part[count + 1] = -100;
                random_normal(&stream, starts[s] + first, count, part + 1);
                assert_memory_equal(part + 1, whole + first, count * sizeof *part);
                assert_true(part[0] == -100 && part[count + 1] == -100);
            }
    }
}

static double relative(double found, double expected)
{
    return expected == 0 ? fabs(found) : fabs(found / expected - 1);
}

/* The bounds are those that core/box_muller.h states; over all 2^32 arguments the largest errors
   are 4.28 and 3.24 times 2^-24. glibc's own, below 2^-52, do not matter. */
static void check_argument(uint32_t a)
{
    float cosine, sine;
    double exact = -log1p(-(a * 0x1p-32));
    assert_true(relative(box_muller_exponential(a), exact) <= 0x1p-24 * 4.28);
    box_muller_direction(a, &cosine, &sine);
    uint32_t quadrant = (a + 0x20000000) >> 30;
    double angle = (int32_t)(a - (quadrant << 30)) * 0x1p-31 * M_PI;
    double c = cos(angle), s = sin(angle);
    const double turned[] = {c, -s, -c, s, c};
    assert_true(relative(cosine, turned[quadrant]) <= 0x1p-24 * 3.24);
    assert_true(relative(sine, turned[(quadrant + 3) % 4]) <= 0x1p-24 * 3.24);
}

static void logarithm_and_angle_are_accurate(void **state)
{
    (void)state;
    for (uint64_t a = 0; a < (uint64_t)1 << 32; a += 4093)
        check_argument((uint32_t)a);
    for (int bit = 0; bit < 32; bit++)
        for (uint32_t off = 0; off < 600; off++) {
            check_argument(((uint32_t)1 << bit) + off - 300);
            check_argument(0x55555555u + ((uint32_t)1 << bit) - 300 + off);
        }
    assert_true(box_muller_exponential(0) == 0);
    assert_true(sqrt(2 * box_muller_exponential(UINT32_MAX)) < 6.67);
}

/* Fails where any instruction set, compiler or option gives other bits. */
static void the_bits_are_the_same_everywhere(void **state)
{
    (void)state;
    float *x = normals(5, 6, "weight", MANY);
    uint64_t digest = 0xcbf29ce484222325;
    for (size_t i = 0; i < MANY; i++)
        digest = (digest ^ box_muller_bits(x[i])) * 0x100000001b3;
    free(x);
    assert_int_equal(digest, 0x8337db35b9a0932c);
}

static int compare(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The seeds are fixed, so these pass or fail for good; each bound would fail a right generator
   with a probability below 1e-6 (five standard errors) or as said. */
static void moments_are_those_of_a_normal(void **state)
{
    (void)state;
    float *x = normals(11, 0, "weight", MANY);
    double sums[5] = {0};
    static const double expected[5] = {0, 0, 1, 0, 3}, variance[5] = {0, 1, 2, 15, 96};
    for (size_t i = 0; i < MANY; i++)
        for (int power = 1; power <= 4; power++)
            sums[power] += pow(x[i], power);
    for (int power = 1; power <= 4; power++)
        assert_true(fabs(sums[power] / MANY - expected[power]) < 5 * sqrt(variance[power] / MANY));
    free(x);
}

static void the_distribution_is_normal(void **state)
{
    (void)state;
    enum { BINS = 256 };
    float *x = normals(12, 0, "weight", MANY);
    double distance = 0, square = 0;
    size_t bins[BINS] = {0};
    qsort(x, MANY, sizeof *x, compare);
    for (size_t i = 0; i < MANY; i++) {
        double below = 0.5 * erfc(-x[i] / sqrt(2));
        distance = fmax(distance, fmax(below - (double)i / MANY, (double)(i + 1) / MANY - below));
        bins[(size_t)(below * BINS)]++;
    }
    for (int b = 0; b < BINS; b++)
        square += pow((double)bins[b] - (double)MANY / BINS, 2) / ((double)MANY / BINS);
    free(x);
    /* Kolmogorov-Smirnov: 2 exp(−2 · 2.7²) = 9e-7. */
    assert_true(distance * sqrt(MANY) < 2.7);
    /* chi-square of 255 degrees, by Wilson & Hilferty: above 377 with probability 1e-6. */
    assert_true(square < 377);
}

/* 2^24 numbers beyond 5: 9.62 expected; a Poisson number is 0 or above 28 once in 15,000. */
static void the_tails_are_there(void **state)
{
    (void)state;
    enum { PIECES = 16 };
    struct random_stream stream = random_stream_of(13, 0, "weight");
    float *x = normals(13, 0, "weight", MANY);
    int beyond = 0;
    for (size_t piece = 0; piece < PIECES; piece++) {
        random_normal(&stream, piece * MANY, MANY, x);
        for (size_t i = 0; i < MANY; i++)
            beyond += fabsf(x[i]) > 5;
    }
    free(x);
    assert_true(beyond >= 1 && beyond <= 28);
}

/* Correlations of the numbers, and of their squares, are below five standard errors; the latter
   would show the common radius of a pair if it did not vanish. */
static void check_uncorrelated(const float *x, const float *y, size_t count)
{
    double plain = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        plain += (double)x[i] * y[i];
        squares += ((double)x[i] * x[i] - 1) * ((double)y[i] * y[i] - 1);
    }
    assert_true(fabs(plain) < 5 * sqrt((double)count));
    assert_true(fabs(squares) < 5 * 2 * sqrt((double)count));
}

static void streams_and_elements_are_independent(void **state)
{
    (void)state;
    float *x = normals(0, 0, "weight", MANY);
    float *others[] = {normals(1, 0, "weight", MANY), normals(0, 1, "weight", MANY),
                       normals(0, 2, "weight", MANY), normals(0, 0, "weights", MANY),
                       normals(0, 0, "weighu", MANY), normals(0, UINT64_MAX, "weight", MANY)};
    for (size_t lag = 1; lag <= 17; lag++)
        check_uncorrelated(x, x + lag, MANY - lag);
    for (size_t lag = 32; lag <= 512; lag += 16) /* those of one block are 16, 32 and 48 apart */
        check_uncorrelated(x, x + lag, MANY - lag);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        check_uncorrelated(x, others[i], MANY);
        free(others[i]);
    }
    free(x);
}

/* The numbers that one element has from sample to sample, as the steps of a training take them. */
static void samples_in_turn_are_independent(void **state)
{
    (void)state;
    enum { ELEMENTS = 64, BINS = 256 };
    float *x = malloc(MANY * sizeof *x);
    double square = 0;
    size_t bins[BINS] = {0};
    assert_non_null(x);
    for (size_t sample = 0; sample < MANY / ELEMENTS; sample++) {
        struct random_stream stream = random_stream_of(0, sample, "weight");
        random_normal(&stream, 0, ELEMENTS, x + sample * ELEMENTS);
    }
    for (size_t lag = ELEMENTS; lag <= (size_t)8 * ELEMENTS; lag += ELEMENTS)
        check_uncorrelated(x, x + lag, MANY - lag);
    for (size_t i = 0; i < MANY; i++)
        bins[(size_t)(0.5 * erfc(-x[i] / sqrt(2)) * BINS)]++;
    for (int b = 0; b < BINS; b++)
        square += pow((double)bins[b] - (double)MANY / BINS, 2) / ((double)MANY / BINS);
    free(x);
    assert_true(square < 377); /* as above */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_other_implementations),
        cmocka_unit_test(threefry_gives_the_published_words),
        cmocka_unit_test(any_range_gives_the_same_numbers),
        cmocka_unit_test(logarithm_and_angle_are_accurate),
        cmocka_unit_test(the_bits_are_the_same_everywhere),
        cmocka_unit_test(moments_are_those_of_a_normal),
        cmocka_unit_test(the_distribution_is_normal),
        cmocka_unit_test(the_tails_are_there),
        cmocka_unit_test(streams_and_elements_are_independent),
        cmocka_unit_test(samples_in_turn_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
