/* Displacements of which a mask sets elements to zero, and the election of signs. */
#include <math.h>
#include <string.h>

#include "bayes/merge/run.h"
#include "core/dispatch.h"
#include "core/random.h"

enum { HALVES = 8 /* of a block of random words */ };

/* Sets factors[i] to α where the element's rank is that of `last` or before it, and behind that of
   `dropped`, else to 0. */
IVON_DISPATCH static void mask_by_rank(double *restrict factors,
                                       const double *restrict displacement,
                                       const struct merge_rank *last,
                                       const struct merge_rank *dropped, double alpha, size_t at,
                                       size_t count)
{
    uint64_t magnitudes[MERGE_TILE];
    for (size_t i = 0; i < count; i++) {
        double absolute = fabs(displacement[i]);
        memcpy(&magnitudes[i], &absolute, sizeof absolute);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t magnitude = magnitudes[i];
        bool before_last = (magnitude > last->magnitude) |
                           ((magnitude == last->magnitude) & (at + i <= last->index));
        bool dropping = (magnitude > dropped->magnitude) |
                        ((magnitude == dropped->magnitude) & (at + i <= dropped->index));
        factors[i] = before_last & !dropping ? alpha : 0;
    }
}

/* `at` is a multiple of HALVES, as every tile begins at one. */
static void mask_by_chance(double *factors, const struct random_stream *stream, double density,
                           double alpha, size_t at, size_t count)
{
    union {
        uint64_t words[MERGE_TILE / 2];
        uint32_t halves[MERGE_TILE];
    } random;
    double bound = density * 0x1p32;
    random_words(stream, at / HALVES, (count + HALVES - 1) / HALVES, random.words);
    for (size_t i = 0; i < count; i++)
        factors[i] = random.halves[i] < bound ? alpha : 0;
}

IVON_DISPATCH static void mask_multiply(double *restrict displacement,
                                        const double *restrict factors, double *restrict sum,
                                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        displacement[i] *= factors[i]; /* what is not finite stays so */
        sum[i] += displacement[i];
    }
}

/* Sets the terms whose sign is not that of the sum to zero, and adds up the magnitudes of the
   weights of the others. */
IVON_DISPATCH static void mask_elect(double *restrict term, const double *restrict sum,
                                     double *restrict weights, double alpha, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double agrees = ((term[i] > 0) & (sum[i] > 0)) | ((term[i] < 0) & (sum[i] < 0));
        term[i] *= agrees;
        weights[i] += fabs(alpha) * agrees;
    }
}

IVON_DISPATCH static void mask_average(double *restrict term, const double *restrict weights,
                                       double *restrict sum, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        term[i] /= weights[i] > 0 ? weights[i] : 1;
        sum[i] += term[i];
    }
}

static void mask_elect_all(const struct ivon_merge *merge, struct merge_scratch *scratch,
                           const struct merge_entry *entry, const struct merge_result *result,
                           size_t count)
{
    double *sum = scratch->sums.displacement, weights[MERGE_TILE] = {0};
    for (size_t t = 0; t < merge->model_count; t++)
        mask_elect(scratch->terms + (t + 1) * MERGE_TILE, sum, weights,
                   merge_weight(merge, entry, result, t), count);
    memset(sum, 0, count * sizeof *sum);
    for (size_t t = 0; t < merge->model_count; t++)
        mask_average(scratch->terms + (t + 1) * MERGE_TILE, weights, sum, count);
}

void merge_sum_masked(const struct ivon_merge *merge, struct merge_scratch *scratch,
                      const struct merge_entry *entry, const struct merge_result *result, size_t at,
                      size_t offset, size_t count)
{
    const struct ivon_merge_options *options = &merge->options;
    double density = isnan(options->density) ? IVON_MERGE_DENSITY : options->density;
    const char *name = merge->outputs.items[entry->output].name;
    memset(&scratch->sums, 0, sizeof scratch->sums);
    for (size_t t = 0; t < merge->model_count; t++) {
        double *term = scratch->terms + (t + 1) * MERGE_TILE, factors[MERGE_TILE];
        double slope, intercept, alpha = merge_weight(merge, entry, result, t);
        merge_load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
        for (size_t i = 0; i < count; i++)
            term[i] = scratch->model_mean[i] - scratch->base_mean[i];
        if (merge->method->mask == MERGE_MASK_RANDOM) {
            struct random_stream stream = random_stream_of(options->seed, t, name);
            mask_by_chance(factors, &stream, density, alpha / density, at, count);
        } else
            mask_by_rank(factors, term, &scratch->measured->last[t], &scratch->measured->dropped[t],
                         alpha, at, count);
        mask_multiply(term, factors, scratch->sums.displacement, count);
    }
    if (merge->method->elects)
        mask_elect_all(merge, scratch, entry, result, count);
}
