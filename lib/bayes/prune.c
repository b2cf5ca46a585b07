/*
 * Pruned posteriors. The score of an element is m² λ (h + δ), or m², whose bits, taken as a whole
 * number, rise with it. The score of a given rank is found digit by digit from the highest, by a
 * pass over all elements for each, that counts digits among those that share the digits found
 * before. A last pass in order counts off elements of that score. Sums are of whole numbers, and do
 * not depend on threads.
 */
#include "ivon/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bayes/posterior.h"
#include "core/error.h"
#include "core/options.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ivon/convert.h"
#include "ivon/summary.h"

enum {
    TILE = 1024,   /* elements that are scored at a time */
    JOB = 1 << 20, /* elements of one thread */
    DIGIT = 16,    /* bits */
    DIGITS = 1 << DIGIT,
    KEY = 64,
};

static const char prefix[] = "pruned.";

/* A mean that is ranked. */
struct prune_entry {
    size_t mean;       /* tensor of the source */
    ptrdiff_t hessian; /* of the scored source; -1: by magnitude */
    size_t first_job;
    uint64_t kept;
};

/* The elements that stay: of scores above the bound, and of those equal to it before the cut. */
struct prune_cut {
    uint64_t bound;
    size_t entry, element;
};

struct pruned {
    struct ivon_source *source, *reduced; /* the second, where there is a structure, is owned */
    struct ivon_prune_options options;
    struct prune_entry *entries;
    size_t entry_count, job_count;
    uint64_t elements;
    struct prune_cut cut;
    uint64_t least; /* score that stayed */
    struct ivon_pruned_tensor *report;
    /* Of each tensor of this source: the other source's, what stands for an entry, and whether it
       is the entry's buffer. */
    size_t *tensors;
    ptrdiff_t *entry_of;
    bool *is_buffer;
    size_t listed;
    /* Of a restored source: of each tensor its buffer in the source, or -1. */
    ptrdiff_t *buffer_of;
};

static const struct options_kind prune_options = {
    .defaults = "ivon_prune_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_prune_options, resources.reserved)}};

void ivon_prune_options_init(struct ivon_prune_options *options, size_t size)
{
    const struct ivon_prune_options defaults = {.size = sizeof defaults, .keep = NAN, .least = NAN};
    options_init(options, size, &defaults);
}

static void pruned_close(void *self)
{
    struct pruned *pruned = self;
    if (!pruned)
        return;
    ivon_source_close(pruned->reduced);
    free(pruned->entries);
    free(pruned->report);
    free(pruned->tensors);
    free(pruned->entry_of);
    free(pruned->is_buffer);
    free(pruned->buffer_of);
    free(pruned);
}

/* Scores. */

static struct ivon_source *pruned_scored(const struct pruned *pruned)
{
    return pruned->reduced ? pruned->reduced : pruned->source;
}

static int prune_load(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                      double *out, struct ivon_error *error)
{
    double raw[TILE];
    int code = ivon_source_read(source, tensor, first, count, raw, error);
    if (!code)
        ivon_dtype_to_f64(out, raw, ivon_source_tensor(source, tensor)->dtype, count);
    return code;
}

/* Sets the scores of at most TILE elements, as whole numbers. */
static int prune_score(const struct pruned *pruned, const struct prune_entry *entry, size_t first,
                       size_t count, uint64_t *scores, struct ivon_error *error)
{
    double means[TILE], hessian[TILE];
    const struct ivon_tensor *mean = ivon_source_tensor(pruned->source, entry->mean);
    const struct ivon_tensor *h = NULL;
    int code = prune_load(pruned->source, entry->mean, first, count, means, error);
    if (!code && entry->hessian >= 0) {
        h = ivon_source_tensor(pruned_scored(pruned), (size_t)entry->hessian);
        code = prune_load(pruned_scored(pruned), (size_t)entry->hessian, first, count, hessian,
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
            (void)posterior_refuse_hessian(pruned_scored(pruned), h, hessian[i], first + i, error);
            return IVON_ERROR_DATA;
        }
        memcpy(&scores[i], &score, sizeof score);
    }
    return code;
}

static bool prune_keeps(const struct pruned *pruned, size_t entry, size_t element, uint64_t score)
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
    *first = (job - entry->first_job) * JOB;
    return count - *first < JOB ? count : *first + JOB;
}

/* Lets go of a job's pages: memory holds those of as many jobs as there are threads. */
static void prune_done_with(const struct pruned *pruned, const struct prune_entry *entry,
                            size_t first, size_t end)
{
    ivon_source_done_with(pruned->source, entry->mean, first, end - first);
    if (entry->hessian >= 0)
        ivon_source_done_with(pruned_scored(pruned), (size_t)entry->hessian, first, end - first);
}

static int prune_count_digits(void *context, size_t job, int thread, struct ivon_error *error)
{
    struct prune_search *search = context;
    const struct prune_entry *entry = prune_entry_of(search->pruned, job);
    uint64_t *histogram = search->histograms + (size_t)thread * DIGITS, scores[TILE];
    size_t first, end = prune_range(search->pruned, entry, job, &first);
    int above = search->shift + DIGIT, code = 0;
    for (size_t at = first; at < end && !code; at += TILE) {
        size_t count = end - at < TILE ? end - at : TILE;
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
    uint64_t scores[TILE];
    int code = 0;
    search->least[job] = UINT64_MAX;
    for (size_t at = first; at < end && !code; at += TILE) {
        size_t count = end - at < TILE ? end - at : TILE;
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
    uint64_t scores[TILE];
    int code = 0;
    pruned->cut.entry = pruned->cut.element = 0;
    for (size_t e = 0; e < pruned->entry_count && wanted && !code; e++) {
        size_t end = ivon_source_tensor(pruned->source, pruned->entries[e].mean)->count;
        for (size_t at = 0; at < end && wanted && !code; at += TILE) {
            size_t count = end - at < TILE ? end - at : TILE;
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

static int prune_search(struct pruned *pruned, struct ivon_error *error)
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

/* The list of tensors. */

/* Finds what is ranked: means that are selected, and have a Hessian where that is needed. */
static int prune_list_entries(struct pruned *pruned, struct ivon_error *error)
{
    const struct ivon_prune_options *options = &pruned->options;
    struct ivon_source *scored = pruned_scored(pruned);
    size_t count = ivon_source_tensor_count(pruned->source);
    int code = 0;
    pruned->entries = calloc(count + 1, sizeof *pruned->entries);
    pruned->report = calloc(count + 1, sizeof *pruned->report);
    if (!pruned->entries || !pruned->report)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(pruned->source, i);
        if (mean->part != IVON_MEAN ||
            (options->select && !options->select(options->context, mean->name)))
            continue;
        ptrdiff_t h = options->by == IVON_PRUNE_SNR
                          ? ivon_source_find(scored, IVON_HESSIAN, mean->name)
                          : -1;
        if (options->by == IVON_PRUNE_SNR && h < 0) {
            code = ivon_source_refuse_opaque(scored, IVON_HESSIAN, mean->name, error);
            continue;
        }
        if (h >= 0)
            code = posterior_check_hessian(scored, mean, ivon_source_tensor(scored, (size_t)h),
                                           true, error);
        pruned->entries[pruned->entry_count++] = (struct prune_entry){
            .mean = i, .hessian = h, .first_job = pruned->job_count};
        pruned->job_count += (mean->count + JOB - 1) / JOB;
        pruned->elements += mean->count;
    }
    if (!code && !pruned->elements)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", ivon_source_path(pruned->source),
                              options->by == IVON_PRUNE_SNR
                                  ? "none of the means to prune has a Hessian"
                                  : "no mean is to be pruned");
    return code;
}

static int pruned_append(struct pruned *pruned, struct tensor_list *list, size_t tensor,
                         const struct ivon_tensor *described, ptrdiff_t entry, bool buffer,
                         struct ivon_error *error)
{
    pruned->tensors[pruned->listed] = tensor;
    pruned->entry_of[pruned->listed] = entry;
    pruned->is_buffer[pruned->listed++] = buffer;
    return tensor_list_append(list, described, error);
}

/* The name of a mean's buffer, to be freed. */
static char *prune_buffer_name(const char *mean)
{
    char *name = malloc(sizeof prefix + strlen(mean));
    if (name) {
        memcpy(name, prefix, sizeof prefix);
        strcat(name, mean);
    }
    return name;
}

static int pruned_append_buffer(struct pruned *pruned, struct tensor_list *list, size_t entry,
                                struct ivon_error *error)
{
    struct ivon_tensor tensor = *ivon_source_tensor(pruned->source, pruned->entries[entry].mean);
    char *name = prune_buffer_name(tensor.name);
    if (!name)
        return ivon_error_memory(error);
    int code = 0;
    if (ivon_source_find(pruned->source, IVON_BUFFER, name) >= 0)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has a buffer '%s' already: it is pruned, and has to be restored "
                              "first",
                              ivon_source_path(pruned->source), name);
    tensor.name = name;
    tensor.part = IVON_BUFFER;
    if (!code)
        code = pruned_append(pruned, list, pruned->entries[entry].mean, &tensor, (ptrdiff_t)entry,
                             true, error);
    free(name);
    return code;
}

static int pruned_allocate(struct pruned *pruned, size_t count, struct ivon_error *error)
{
    pruned->tensors = calloc(count, sizeof *pruned->tensors);
    pruned->entry_of = calloc(count, sizeof *pruned->entry_of);
    pruned->is_buffer = calloc(count, sizeof *pruned->is_buffer);
    pruned->buffer_of = calloc(count, sizeof *pruned->buffer_of);
    return pruned->tensors && pruned->entry_of && pruned->is_buffer && pruned->buffer_of
               ? 0
               : ivon_error_memory(error);
}

static int pruned_list(struct pruned *pruned, struct tensor_list *list, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(pruned->source), next = 0;
    int code = pruned_allocate(pruned, count + pruned->entry_count + 1, error);
    for (size_t i = 0; i < count && !code; i++) {
        bool ranked = next < pruned->entry_count && pruned->entries[next].mean == i;
        code = pruned_append(pruned, list, i, ivon_source_tensor(pruned->source, i),
                             ranked ? (ptrdiff_t)next++ : -1, false, error);
    }
    for (size_t e = 0; e < pruned->entry_count && !code; e++)
        code = pruned_append_buffer(pruned, list, e, error);
    return code ? code : tensor_list_aliases_of(list, pruned->source, error);
}

/* The source. */

static int pruned_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    const struct pruned *pruned = self;
    ptrdiff_t entry = pruned->entry_of[tensor];
    size_t from = pruned->tensors[tensor];
    size_t size = ivon_dtype_size(ivon_source_tensor(pruned->source, from)->dtype);
    uint64_t scores[TILE];
    int code = ivon_source_read(pruned->source, from, first, count, buffer, error);
    for (size_t at = 0; at < count && entry >= 0 && !code; at += TILE) {
        size_t piece = count - at < TILE ? count - at : TILE;
        code = prune_score(pruned, &pruned->entries[entry], first + at, piece, scores, error);
        for (size_t i = 0; i < piece && !code; i++)
            if (prune_keeps(pruned, (size_t)entry, first + at + i, scores[i]) ==
                pruned->is_buffer[tensor])
                memset((char *)buffer + (at + i) * size, 0, size);
    }
    return code;
}

static const void *pruned_view(void *self, size_t tensor)
{
    const struct pruned *pruned = self;
    return pruned->entry_of[tensor] >= 0
               ? NULL
               : ivon_source_view(pruned->source, pruned->tensors[tensor], 0);
}

/* A mean that is pruned needs the Hessian of its scores, too. */
static void pruned_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct pruned *pruned = self;
    ptrdiff_t entry = pruned->entry_of[tensor];
    ptrdiff_t hessian = entry < 0 ? -1 : pruned->entries[entry].hessian;
    void (*advise)(struct ivon_source *, size_t, size_t, size_t) = advice == MADV_WILLNEED
                                                                       ? ivon_source_will_need
                                                                       : ivon_source_done_with;
    advise(pruned->source, pruned->tensors[tensor], first, count);
    if (hessian >= 0)
        advise(pruned_scored(pruned), (size_t)hessian, first, count);
}

static const struct ivon_source_class pruned_class = {pruned_read, pruned_view, pruned_advise,
                                                      pruned_close};

static int prune_check_options(const struct ivon_prune_options *options, struct ivon_error *error)
{
    bool share = !isnan(options->keep);
    if ((unsigned)options->by > IVON_PRUNE_MAGNITUDE || share == !isnan(options->least) ||
        (share && !(options->keep >= 0 && options->keep <= 1)) ||
        (!share && !(options->least >= 0 && isfinite(options->least))))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a share of %g to keep, or the least score %g: expected one of them, "
                              "from 0 to 1 or not negative",
                              options->keep, options->least);
    return 0;
}

/* Reduces a covariance with a structure to its diagonal. */
static int prune_reduce(struct pruned *pruned, struct ivon_error *error)
{
    struct ivon_structure structure;
    struct ivon_reduce_options options = ivon_reduce_defaults();
    options.resources.threads = pruned->options.resources.threads;
    int code = ivon_structure_describe(&structure, pruned->source, error);
    if (code || (!structure.blocks && !structure.rank) || pruned->options.by != IVON_PRUNE_SNR)
        return code;
    return ivon_reduce(&pruned->reduced, pruned->source, &options, error);
}

int ivon_prune(struct ivon_source **out, struct ivon_source *source,
               const struct ivon_prune_options *given, struct ivon_error *error)
{
    struct tensor_list list = {0};
    struct pruned *pruned = calloc(1, sizeof *pruned);
    if (!pruned)
        return ivon_error_memory(error);
    pruned->source = source;
    pruned->options = ivon_prune_defaults();
    int code = options_read(&prune_options, &pruned->options, given, error);
    if (!code)
        code = prune_check_options(&pruned->options, error);
    if (!code)
        code = prune_reduce(pruned, error);
    if (!code)
        code = prune_list_entries(pruned, error);
    if (!code)
        code = pruned_list(pruned, &list, error);
    if (!code)
        code = prune_search(pruned, error);
    if (!code)
        code = ivon_source_new(out, &pruned_class, pruned, ivon_source_path(source),
                               ivon_source_header(source), &list, error);
    if (code)
        pruned_close(pruned);
    tensor_list_release(&list);
    return code;
}

const struct ivon_pruned_tensor *ivon_prune_tensors(const struct ivon_source *source, size_t *count)
{
    const struct pruned *pruned = source_self(source, &pruned_class);
    *count = pruned ? pruned->entry_count : 0;
    return pruned ? pruned->report : NULL;
}

double ivon_prune_threshold(const struct ivon_source *source)
{
    const struct pruned *pruned = source_self(source, &pruned_class);
    double square = INFINITY;
    if (pruned && pruned->least != UINT64_MAX)
        memcpy(&square, &pruned->least, sizeof square);
    return sqrt(square);
}

/* Restoring. */

static int restored_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                         struct ivon_error *error)
{
    const struct pruned *restored = self;
    ptrdiff_t other = restored->buffer_of[tensor];
    size_t from = restored->tensors[tensor];
    size_t size = ivon_dtype_size(ivon_source_tensor(restored->source, from)->dtype);
    static const char zeros[sizeof(double)] = {0};
    double raw[TILE];
    int code = ivon_source_read(restored->source, from, first, count, buffer, error);
    for (size_t at = 0; at < count && other >= 0 && !code; at += TILE) {
        size_t piece = count - at < TILE ? count - at : TILE;
        code = ivon_source_read(restored->source, (size_t)other, first + at, piece, raw, error);
        for (size_t i = 0; i < piece && !code; i++)
            if (memcmp((char *)raw + i * size, zeros, size) != 0)
                memcpy((char *)buffer + (at + i) * size, (char *)raw + i * size, size);
    }
    return code;
}

static const void *restored_view(void *self, size_t tensor)
{
    const struct pruned *restored = self;
    return restored->buffer_of[tensor] >= 0
               ? NULL
               : ivon_source_view(restored->source, restored->tensors[tensor], 0);
}

static const struct ivon_source_class restored_class = {restored_read, restored_view, pruned_advise,
                                                        pruned_close};

/* The mean that a buffer was pruned from; null: it is another buffer. */
static const char *restored_mean(const struct ivon_tensor *tensor)
{
    bool own = tensor->part == IVON_BUFFER && strncmp(tensor->name, prefix, strlen(prefix)) == 0;
    return own ? tensor->name + strlen(prefix) : NULL;
}

static int restored_check(const struct pruned *restored, size_t buffer, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(restored->source, buffer);
    ptrdiff_t mean = ivon_source_find(restored->source, IVON_MEAN, restored_mean(tensor));
    const struct ivon_tensor *of = mean < 0 ? NULL
                                            : ivon_source_tensor(restored->source, (size_t)mean);
    if (!of || of->dtype != tensor->dtype || !posterior_same_shape(of, tensor))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: buffer '%s' is not what was pruned from a mean of its type and "
                              "shape",
                              ivon_source_path(restored->source), tensor->name);
    return 0;
}

static int restored_list(struct pruned *restored, struct tensor_list *list,
                         struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(restored->source), found = 0;
    int code = pruned_allocate(restored, count + 1, error);
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(restored->source, i);
        if (restored_mean(tensor)) {
            code = restored_check(restored, i, error);
            found++;
            continue;
        }
        char *name = tensor->part == IVON_MEAN ? prune_buffer_name(tensor->name) : NULL;
        if (tensor->part == IVON_MEAN && !name)
            return ivon_error_memory(error);
        restored->buffer_of[restored->listed] = name ? ivon_source_find(restored->source,
                                                                        IVON_BUFFER, name)
                                                     : -1;
        free(name);
        code = pruned_append(restored, list, i, tensor, -1, false, error);
    }
    if (!code && !found)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has no buffers of what was pruned: there is nothing to restore",
                              ivon_source_path(restored->source));
    return code ? code : tensor_list_aliases_of(list, restored->source, error);
}

int ivon_prune_restore(struct ivon_source **out, struct ivon_source *source,
                       struct ivon_error *error)
{
    struct tensor_list list = {0};
    struct pruned *restored = calloc(1, sizeof *restored);
    if (!restored)
        return ivon_error_memory(error);
    restored->source = source;
    int code = restored_list(restored, &list, error);
    if (!code)
        code = ivon_source_new(out, &restored_class, restored, ivon_source_path(source),
                               ivon_source_header(source), &list, error);
    if (code)
        pruned_close(restored);
    tensor_list_release(&list);
    return code;
}
