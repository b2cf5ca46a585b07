/*
 * The search for what stays. The score of an element is m² λ (h + δ), or m², whose bits, taken as a
 * whole number, rise with it. The score of a given rank is found digit by digit from the highest,
 * by a pass over all elements for each, that counts digits among those that share the digits found
 * before. A last pass in order counts off elements of that score. Sums are of whole numbers, and do
 * not depend on threads.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/posterior.h"
#include "bayes/prune/private.h"
#include "core/error.h"
#include "core/parallel.h"

enum {
    DIGIT = 16, /* bits */
    DIGITS = 1 << DIGIT,
    KEY = 64,
};

/* Scores. */

static int prune_load(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                      double *out, struct ivon_error *error)
{
    double raw[PRUNE_TILE];
    int code = ivon_source_read(source, tensor, first, count, raw, error);
    if (!code)
        ivon_dtype_to_f64(out, raw, ivon_source_tensor(source, tensor)->dtype, count);
    return code;
}

int prune_score(const struct pruned *pruned, const struct prune_entry *entry, size_t first,
                size_t count, uint64_t *scores, struct ivon_error *error)
{
    double means[PRUNE_TILE], hessian[PRUNE_TILE];
    const struct ivon_tensor *mean = ivon_source_tensor(pruned->source, entry->mean);
    const struct ivon_tensor *h = NULL;
    int code = prune_load(pruned->source, entry->mean, first, count, means, error);
    if (!code && entry->hessian >= 0) {
        h = ivon_source_tensor(prune_scored(pruned), (size_t)entry->hessian);
        code = prune_load(prune_scored(pruned), (size_t)entry->hessian, first, count, hessian,
                          error);
    }
    for (size_t i = 0; i < count && !code; i++) {
        double precision = h ? h->ess * (hessian[i] + h->weight_decay) : 1;
        double score = means[i] * means[i] * precision;
        if (!isfinite(means[i]))
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: element %zu of mean '%s' is %g, expected a finite number",
                                  ivon_source_path(pruned->source), first + i, mean->name,
                                  means[i]);
        if (h && !(precision > 0 && isfinite(precision))) {
            (void)posterior_refuse_hessian(prune_scored(pruned), h, hessian[i], first + i, error);
            return IVON_ERROR_DATA;
        }
        memcpy(&scores[i], &score, sizeof score);
    }
    return code;
}

bool prune_keeps(const struct pruned *pruned, size_t entry, size_t element, uint64_t score)
{
    const struct prune_cut *cut = &pruned->cut;
    return score > cut->bound ||
           (score == cut->bound &&
            (entry < cut->entry || (entry == cut->entry && element < cut->element)));
}

/* The search. */

struct prune_search {
    struct pruned *pruned;
    uint64_t found;       /* the digits above the one that is counted */
    int shift;            /* of that digit */
    uint64_t *histograms; /* DIGITS for each thread */
    uint64_t *kept;       /* of each job, and */
    uint64_t *least;      /* the least score that stayed */
};

static const struct prune_entry *prune_entry_of(const struct pruned *pruned, size_t job)
{
    size_t low = 0, high = pruned->entry_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (pruned->entries[middle].first_job <= job)
            low = middle;
        else
            high = middle;
    }
    return &pruned->entries[low];
}

/* Sets the range of elements of a job. */
static size_t prune_range(const struct pruned *pruned, const struct prune_entry *entry, size_t job,
                          size_t *first)
{
    size_t count = ivon_source_tensor(pruned->source, entry->mean)->count;
    *first = (job - entry->first_job) * PRUNE_JOB;
    return count - *first < PRUNE_JOB ? count : *first + PRUNE_JOB;
}

/* Lets go of a job's pages: memory holds those of as many jobs as there are threads. */
static void prune_done_with(const struct pruned *pruned, const struct prune_entry *entry,
                            size_t first, size_t end)
{
    ivon_source_done_with(pruned->source, entry->mean, first, end - first);
    if (entry->hessian >= 0)
        ivon_source_done_with(prune_scored(pruned), (size_t)entry->hessian, first, end - first);
}

static int prune_count_digits(void *context, size_t job, int thread, struct ivon_error *error)
{
    struct prune_search *search = context;
    const struct prune_entry *entry = prune_entry_of(search->pruned, job);
    uint64_t *histogram = search->histograms + (size_t)thread * DIGITS, scores[PRUNE_TILE];
    size_t first, end = prune_range(search->pruned, entry, job, &first);
    int above = search->shift + DIGIT, code = 0;
    for (size_t at = first; at < end && !code; at += PRUNE_TILE) {
        size_t count = end - at < PRUNE_TILE ? end - at : PRUNE_TILE;
        code = prune_score(search->pruned, entry, at, count, scores, error);
        for (size_t i = 0; i < count && !code; i++)
            if (above == KEY || scores[i] >> above == search->found)
                histogram[scores[i] >> search->shift & (DIGITS - 1)]++;
    }
    prune_done_with(search->pruned, entry, first, end);
    return code;
}

/* Counts what stays of a job, and finds the least of it. */
static int prune_count_kept(void *context, size_t job, int thread, struct ivon_error *error)
{
    (void)thread;
    struct prune_search *search = context;
    const struct prune_entry *entry = prune_entry_of(search->pruned, job);
    size_t number = (size_t)(entry - search->pruned->entries), first;
    size_t end = prune_range(search->pruned, entry, job, &first);
    uint64_t scores[PRUNE_TILE];
    int code = 0;
    search->least[job] = UINT64_MAX;
    for (size_t at = first; at < end && !code; at += PRUNE_TILE) {
        size_t count = end - at < PRUNE_TILE ? end - at : PRUNE_TILE;
        code = prune_score(search->pruned, entry, at, count, scores, error);
        for (size_t i = 0; i < count && !code; i++) {
            if (!prune_keeps(search->pruned, number, at + i, scores[i]))
                continue;
            search->kept[job]++;
            if (scores[i] < search->least[job])
                search->least[job] = scores[i];
        }
    }
    prune_done_with(search->pruned, entry, first, end);
    return code;
}

/* Counts off, in order, the elements that have the bound's score, until `wanted` of them stay. */
static int prune_find_cut(struct pruned *pruned, uint64_t wanted, struct ivon_error *error)
{
    uint64_t scores[PRUNE_TILE];
    int code = 0;
    pruned->cut.entry = pruned->cut.element = 0;
    for (size_t e = 0; e < pruned->entry_count && wanted && !code; e++) {
        size_t end = ivon_source_tensor(pruned->source, pruned->entries[e].mean)->count;
        for (size_t at = 0; at < end && wanted && !code; at += PRUNE_TILE) {
            size_t count = end - at < PRUNE_TILE ? end - at : PRUNE_TILE;
            code = prune_score(pruned, &pruned->entries[e], at, count, scores, error);
            for (size_t i = 0; i < count && wanted && !code; i++)
                if (scores[i] == pruned->cut.bound) {
                    wanted--;
                    pruned->cut.entry = e;
                    pruned->cut.element = at + i + 1;
                }
        }
    }
    return code;
}

/* Finds the score of which `stay` elements are kept, with those above it, and the cut among equal
   ones. */
static int prune_find_bound(struct prune_search *search, uint64_t stay, int threads,
                            struct ivon_error *error)
{
    struct pruned *pruned = search->pruned;
    uint64_t wanted = stay, equal = 0; /* of those that share the digits */
    int code = 0;
    for (search->shift = KEY - DIGIT; search->shift >= 0 && !code; search->shift -= DIGIT) {
        uint64_t digit = DIGITS;
        memset(search->histograms, 0, (size_t)threads * DIGITS * sizeof *search->histograms);
        code = ivon_parallel_run(threads, pruned->job_count, prune_count_digits, search, error);
        while (digit-- && !code) {
            equal = 0;
            for (int t = 0; t < threads; t++)
                equal += search->histograms[(size_t)t * DIGITS + digit];
            if (wanted <= equal || !digit)
                break;
            wanted -= equal;
        }
        search->found = search->found << DIGIT | digit;
    }
    pruned->cut = (struct prune_cut){.bound = search->found, .entry = SIZE_MAX};
    return code || wanted == equal ? code : prune_find_cut(pruned, wanted, error);
}

static int prune_report(struct prune_search *search, int threads, struct ivon_error *error)
{
    struct pruned *pruned = search->pruned;
    int code = ivon_parallel_run(threads, pruned->job_count, prune_count_kept, search, error);
    pruned->least = UINT64_MAX;
    for (size_t job = 0; job < pruned->job_count && !code; job++) {
        size_t entry = (size_t)(prune_entry_of(pruned, job) - pruned->entries);
        pruned->entries[entry].kept += search->kept[job];
        if (search->least[job] < pruned->least)
            pruned->least = search->least[job];
    }
    for (size_t e = 0; e < pruned->entry_count && !code; e++) {
        const struct ivon_tensor *mean = ivon_source_tensor(pruned->source,
                                                            pruned->entries[e].mean);
        pruned->report[e] = (struct ivon_pruned_tensor){mean->name, mean->count,
                                                        pruned->entries[e].kept};
    }
    return code;
}

int prune_search(struct pruned *pruned, struct ivon_error *error)
{
    int threads = ivon_parallel_threads(pruned->options.resources.threads);
    struct prune_search search = {.pruned = pruned};
    double least = pruned->options.least * pruned->options.least;
    uint64_t stay = isnan(pruned->options.keep)
                        ? 0
                        : (uint64_t)floor(pruned->options.keep * (double)pruned->elements + 0.5);
    search.histograms = calloc((size_t)threads * DIGITS, sizeof *search.histograms);
    search.kept = calloc(pruned->job_count + 1, sizeof *search.kept);
    search.least = calloc(pruned->job_count + 1, sizeof *search.least);
    int code = search.histograms && search.kept && search.least ? 0 : ivon_error_memory(error);
    if (!code && isnan(pruned->options.keep)) {
        pruned->cut = (struct prune_cut){.entry = SIZE_MAX};
        memcpy(&pruned->cut.bound, &least, sizeof least);
    } else if (!code && stay) {
        code = prune_find_bound(&search, stay, threads, error);
    } else {
        pruned->cut = (struct prune_cut){.bound = UINT64_MAX};
    }
    if (!code)
        code = prune_report(&search, threads, error);
    free(search.histograms);
    free(search.kept);
    free(search.least);
    return code;
}
