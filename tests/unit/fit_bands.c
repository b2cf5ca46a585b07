/*
 * Sums over positions that are taken from bands: the same as from the rows that these stand for.
 * Elements are at most 1, and sums of n products of float rounding have errors of at most n 2^-24
 * times that of their absolute values, which are at most n: n is EXAMPLES positions.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bayes/fit/private.h"
#include "core/blas.h"

enum { EXAMPLES = 3, OUTPUTS = 5 };

struct sample {
    struct net_use use;
    size_t rows, bands; /* with those of a bias */
    float *elements;    /* EXAMPLES × bands × size; the last of a biased use are ones */
};

/* Between −1 and 1, without a pattern. */
static float number(size_t i)
{
    return (float)sin(1e4 * (double)(i + 1));
}

static void sample_begin(struct sample *sample, size_t channels, struct net_bands layout,
                         size_t positions, bool biased)
{
    size_t inputs = channels * layout.taps * layout.inner;
    layout.size = positions + (layout.taps - 1) * layout.step;
    *sample = (struct sample){.use = {.bias = biased ? 0 : NET_NONE,
                                      .inputs = inputs,
                                      .outputs = OUTPUTS,
                                      .positions = positions,
                                      .planes = true,
                                      .bands = layout},
                              .rows = inputs + biased,
                              .bands = channels * layout.inner + biased};
    size_t size = sample->bands * layout.size;
    sample->elements = calloc(EXAMPLES * size, sizeof(float));
    assert_non_null(sample->elements);
    for (size_t i = 0; i < EXAMPLES * size; i++)
        sample->elements[i] = biased && i % size / layout.size + 1 == sample->bands ? 1 : number(i);
}

/* Element t of a row of the matrix of columns of an example. */
static double element(const struct sample *sample, size_t e, size_t row, size_t t)
{
    const struct net_bands *layout = &sample->use.bands;
    size_t channel = row / layout->inner / layout->taps, tap = row / layout->inner % layout->taps;
    size_t band = channel * layout->inner + row % layout->inner;
    if (row == sample->use.inputs) {
        band = sample->bands - 1;
        tap = 0;
    }
    return (double)
        sample->elements[(e * sample->bands + band) * layout->size + tap * layout->step + t];
}

/* With a bias that the layer has, and with one that it leaves out. */
static void check_gram(const struct sample *sample, size_t n)
{
    size_t t = sample->use.positions;
    float *sums = calloc(fit_bands_sums(&sample->use), sizeof *sums);
    float *gram = calloc(n * n, sizeof *gram);
    assert_true(sums && gram);
    fit_bands_gram(&sample->use, sample->elements, EXAMPLES, n, sums, gram);
    double bound = (double)(EXAMPLES * t * EXAMPLES * t) * 0x1p-24;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = 0;
            for (size_t p = 0; p < EXAMPLES * t; p++)
                sum += element(sample, p / t, i, p % t) * element(sample, p / t, j, p % t);
            assert_true(fabs(sum - (double)gram[i * n + j]) <= bound);
        }
    free(sums);
    free(gram);
}

/* Columns of a gradient are by taps first, each of which has all bands. */
static void check_product(const struct sample *sample)
{
    const struct net_use *use = &sample->use;
    size_t t = use->positions, wide = fit_bands_columns(use);
    float *d = calloc(OUTPUTS * t, sizeof *d), *g = calloc(OUTPUTS * wide, sizeof *g);
    assert_true(d && g);
    assert_int_equal(wide, sample->bands * use->bands.taps);
    assert_int_equal(fit_bands_size(use), sample->bands * use->bands.size);
    for (size_t i = 0; i < OUTPUTS * t; i++)
        d[i] = number(i + 1);
    fit_bands_product(use, d, OUTPUTS, sample->elements, 0, g);
    fit_bands_product(use, d, OUTPUTS, sample->elements + fit_bands_size(use), 1, g);
    for (size_t o = 0; o < OUTPUTS; o++)
        for (size_t row = 0; row < use->inputs; row++) {
            size_t inner = use->bands.inner, taps = use->bands.taps;
            size_t column = row / inner % taps * sample->bands + row / inner / taps * inner +
                            row % inner;
            double sum = 0;
            for (size_t p = 0; p < 2 * t; p++)
                sum += (double)d[o * t + p % t] * element(sample, p / t, row, p % t);
            assert_true(fabs(sum - (double)g[o * wide + column]) <= (double)(4 * t * t) * 0x1p-24);
        }
    free(d);
    free(g);
}

static void sums_from_bands_are_those_from_rows(void **state)
{
    (void)state;
    const struct net_bands layouts[] = {{.taps = 5, .inner = 5, .step = 6},
                                        {.taps = 2, .inner = 1, .step = 1},
                                        {.taps = 3, .inner = 4, .step = 8},
                                        {.taps = 4, .inner = 1, .step = 1}};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        for (int biased = 0; biased < 2; biased++) {
            struct sample sample;
            const struct net_bands *layout = &layouts[i];
            size_t least = 2 * (layout->taps - 1) * layout->step;
            sample_begin(&sample, 1 + i, *layout, least + i, biased);
            check_gram(&sample, sample.use.inputs);
            if (biased)
                check_gram(&sample, sample.rows);
            check_product(&sample);
            free(sample.elements);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_from_bands_are_those_from_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
