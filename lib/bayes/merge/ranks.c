/*
 * The magnitudes between which the elements of a displacement m_t − m_0 are kept.
 *
 * Elements are ordered by falling magnitude, and those of one magnitude by rising index. The bits
 * of a magnitude, taken as a whole number, rise with it; the element of a given rank is found digit
 * by digit from the highest: a pass over the tensor counts how often each digit occurs among the
 * elements that share the digits found before. Where all elements of a digit are wanted, no more
 * digits are; else, at last, the wanted ones of equal magnitude are counted off by their index. All
 * sums are of whole numbers, so that the result does not depend on threads.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/run.h"
#include "core/dispatch.h"
#include "core/error.h"

enum {
    BITS = 64,
    SMALL = 1 << 16, /* elements: a tensor of at most so many has digits of SMALL_DIGIT bits */
    SMALL_DIGIT = 8,
    LARGE_DIGIT = 16,
};
_Static_assert(1 << LARGE_DIGIT == MERGE_DIGITS, "a histogram has one count for each digit");

struct rank_search {
    uint64_t prefix;         /* the digits that are found */
    size_t rank;             /* among the elements that share them, from 0 */
    bool found;              /* the rank */
    struct merge_rank *goal; /* receives it */
};

struct rank_finder {
    struct rank_search searches[2];
    size_t count;
    int digit, shift;            /* of the digit that is counted; all above it are found */
    size_t *equal;               /* per slot and search: elements of the magnitude found */
    struct rank_search *current; /* whose element is counted off */
};

IVON_DISPATCH static void rank_magnitudes(uint64_t *restrict out, const double *restrict base,
                                          const double *restrict mean, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double magnitude = fabs(mean[i] - base[i]);
        memcpy(&out[i], &magnitude, sizeof magnitude);
    }
}

static void rank_count_digits(void *context, struct merge_scratch *scratch, size_t slot, size_t at,
                              size_t count)
{
    (void)slot, (void)at;
    const struct rank_finder *finder = context;
    uint64_t magnitudes[MERGE_TILE], mask = ((uint64_t)1 << finder->digit) - 1;
    int above = finder->shift + finder->digit;
    rank_magnitudes(magnitudes, scratch->base_mean, scratch->model_mean, count);
    for (size_t s = 0; s < finder->count; s++) {
        const struct rank_search *search = &finder->searches[s];
        uint64_t *histogram = scratch->histograms[s];
        if (search->found)
            continue;
        for (size_t i = 0; i < count; i++)
            if (above == BITS || magnitudes[i] >> above == search->prefix)
                histogram[(magnitudes[i] >> finder->shift) & mask]++;
    }
}

static void rank_count_equal(void *context, struct merge_scratch *scratch, size_t slot, size_t at,
                             size_t count)
{
    (void)at;
    const struct rank_finder *finder = context;
    uint64_t magnitudes[MERGE_TILE];
    rank_magnitudes(magnitudes, scratch->base_mean, scratch->model_mean, count);
    for (size_t s = 0; s < finder->count; s++)
        for (size_t i = 0; i < count && !finder->searches[s].found; i++)
            finder->equal[2 * slot + s] += magnitudes[i] == finder->searches[s].prefix;
}

/* Counts off elements of the magnitude up to the wanted one. */
static void rank_find_index(void *context, struct merge_scratch *scratch, size_t slot, size_t at,
                            size_t count)
{
    (void)slot;
    const struct rank_finder *finder = context;
    struct rank_search *search = finder->current;
    uint64_t magnitudes[MERGE_TILE];
    rank_magnitudes(magnitudes, scratch->base_mean, scratch->model_mean, count);
    for (size_t i = 0; i < count && !search->found; i++) {
        if (magnitudes[i] != search->prefix)
            continue;
        search->found = search->rank == 0;
        if (search->found)
            *search->goal = (struct merge_rank){search->prefix, at + i};
        else
            search->rank--;
    }
}

/* Clears the histograms of all threads, or of the one that is alone. */
static void rank_clear(const struct merge_pass *pass, size_t digits)
{
    int threads = pass->scratch ? 1 : pass->run->threads;
    struct merge_scratch *scratch = pass->scratch ? pass->scratch : pass->run->scratch;
    for (int t = 0; t < threads; t++)
        for (int s = 0; s < 2; s++)
            memset(scratch[t].histograms[s], 0, digits * sizeof *scratch[t].histograms[s]);
}

/* Finds the digit of a search in the histograms of all threads. */
static void rank_take_digit(const struct merge_pass *pass, struct rank_finder *finder, size_t s)
{
    int threads = pass->scratch ? 1 : pass->run->threads;
    const struct merge_scratch *scratch = pass->scratch ? pass->scratch : pass->run->scratch;
    struct rank_search *search = &finder->searches[s];
    uint64_t digit = (uint64_t)1 << finder->digit, count = 0;
    while (digit--) {
        count = 0;
        for (int t = 0; t < threads; t++)
            count += scratch[t].histograms[s][digit];
        if (search->rank < count || digit == 0)
            break;
        search->rank -= count;
    }
    search->prefix = search->prefix << finder->digit | digit;
    search->found = search->rank + 1 == count;
    if (search->found) /* with all that share its digits */
        *search->goal = (struct merge_rank){search->prefix << finder->shift, SIZE_MAX};
}

static int rank_find_digits(struct merge_pass *pass, struct rank_finder *finder,
                            struct ivon_error *error)
{
    size_t digits = (size_t)1 << finder->digit;
    bool done = false;
    int code = 0;
    pass->visit = rank_count_digits;
    for (finder->shift = BITS - finder->digit; finder->shift >= 0 && !done && !code;
         finder->shift -= finder->digit) {
        rank_clear(pass, digits);
        code = merge_pass_run(pass, error);
        pass->check = false;
        done = true;
        for (size_t s = 0; s < finder->count && !code; s++) {
            if (!finder->searches[s].found)
                rank_take_digit(pass, finder, s);
            done = done && finder->searches[s].found;
        }
    }
    return code;
}

/* Counts off the elements of a magnitude that more than the wanted ones have. */
static int rank_find_indices(struct merge_pass *pass, struct rank_finder *finder,
                             struct ivon_error *error)
{
    struct merge_scratch *scratch = pass->scratch ? pass->scratch : pass->run->scratch;
    finder->equal = calloc(2 * pass->job_count, sizeof *finder->equal);
    if (!finder->equal)
        return ivon_error_memory(error);
    pass->visit = rank_count_equal;
    int code = merge_pass_run(pass, error);
    pass->visit = rank_find_index;
    for (size_t s = 0; s < finder->count && !code; s++) {
        struct rank_search *search = &finder->searches[s];
        size_t slot = 0;
        if (search->found)
            continue;
        while (slot + 1 < pass->job_count && search->rank >= finder->equal[2 * slot + s])
            search->rank -= finder->equal[2 * slot++ + s];
        finder->current = search;
        code = merge_pass_visit(pass, slot, scratch, error);
    }
    free(finder->equal);
    return code;
}

/* The numbers of elements that are kept, and of larger ones that are not. */
static void rank_counts(const struct ivon_merge *merge, size_t elements, size_t *kept,
                        size_t *dropped)
{
    const struct ivon_merge_options *options = &merge->options;
    double density = isnan(options->density) ? IVON_MERGE_DENSITY : options->density;
    double outliers = merge->method->mask != MERGE_MASK_EXTREMES ? 0
                      : isnan(options->outliers)                 ? IVON_MERGE_OUTLIERS
                                                                 : options->outliers;
    *kept = (size_t)round(density * (double)elements);
    *kept = *kept < 1 ? 1 : *kept < elements ? *kept : elements;
    *dropped = (size_t)round(outliers * (double)elements);
    *dropped = *dropped < elements - *kept ? *dropped : elements - *kept;
}

int merge_measure_ranks(const struct merge_pass *tensor, struct merge_measured *measured,
                        struct ivon_error *error)
{
    struct merge_pass own = *tensor, *pass = &own;
    const struct ivon_merge *merge = pass->run->merge;
    size_t elements = merge->entries[merge->jobs[pass->job].entry].count, kept, dropped;
    int code = 0;
    rank_counts(merge, elements, &kept, &dropped);
    for (size_t t = 0; t < merge->model_count && !code; t++) {
        struct rank_finder finder = {.digit = elements > SMALL ? LARGE_DIGIT : SMALL_DIGIT};
        measured->last[t] = (struct merge_rank){0, SIZE_MAX};
        measured->dropped[t] = (struct merge_rank){UINT64_MAX, 0};
        if (kept + dropped < elements)
            finder.searches[finder.count++] = (struct rank_search){.rank = kept + dropped - 1,
                                                                   .goal = &measured->last[t]};
        if (dropped)
            finder.searches[finder.count++] = (struct rank_search){.rank = dropped - 1,
                                                                   .goal = &measured->dropped[t]};
        pass->model = t;
        pass->context = &finder;
        pass->check = true;
        if (finder.count)
            code = rank_find_digits(pass, &finder, error);
        bool found = true;
        for (size_t s = 0; s < finder.count; s++)
            found = found && finder.searches[s].found;
        if (!found && !code)
            code = rank_find_indices(pass, &finder, error);
    }
    return code;
}
