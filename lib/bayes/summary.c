/*
 * Exact quantiles in bounded memory. A value becomes a 32-bit key in the order of the numbers;
 * three passes over the data count the keys' upper, middle and lower bits, the second and third
 * only for keys that may be one of the order statistics that are looked for.
 */
#include "ivon/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/covariance.h"
#include "bayes/posterior.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/options.h"
#include "core/parallel.h"

const double ivon_quantile_levels[IVON_QUANTILE_COUNT] = {0.05, 0.25, 0.5, 0.75, 0.95};

enum {
    JOB = 1 << 20,  /* elements */
    TILE = 512,     /* elements */
    BINS = 1 << 11, /* of the upper and the middle bits; the lower ones are 10 */
    RANKS = 2 * IVON_QUANTILE_COUNT,
    LOWER_BITS = 10,
};

enum quantity { HESSIAN, RATIO, QUANTITIES };

/* The order statistics of one quantity, narrowed down pass by pass. */
struct search {
    uint64_t count;       /* of finite values */
    uint64_t rank[RANKS]; /* among the values that share the prefix */
    uint32_t prefix[RANKS];
    int slot[RANKS];          /* of the prefix among the distinct ones */
    uint32_t distinct[RANKS]; /* prefixes */
    int distinct_count;
};

struct moments {
    uint64_t mean_nonfinite, hessian_nonfinite, nonpositive;
    double square_sum, minimum, maximum, effective;
};

/* A mean and its Hessian, or one of them; -1: none. */
struct pair {
    ptrdiff_t mean, hessian;
    size_t count;
    size_t first_job;
    size_t summary; /* that it is part of */
    bool counted;   /* its elements are the summary's, and not the Hessian of a block */
};

struct counts {
    uint64_t bins[QUANTITIES][RANKS][BINS];
};

struct scan {
    struct ivon_source *source;
    struct ivon_summary_options options;
    const struct pair *pairs;
    size_t pair_count;
    int pass;
    struct search search[QUANTITIES];
    struct counts *counts;   /* per thread */
    struct moments *moments; /* per job */
    struct meter meter;      /* of all scans of one source */
};

struct ivon_summaries {
    struct ivon_summary *tensors;
    size_t count;
    struct ivon_summary total;
};

static uint32_t summary_key_of(double value)
{
    float rounded = (float)value;
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

static double value_of(uint32_t key)
{
    uint32_t bits = key & 0x80000000 ? key & 0x7fffffff : ~key;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The key's bits above those that a pass counts, and the bin that it counts them in. */
static uint32_t prefix_of(uint32_t key, int pass)
{
    return pass == 0 ? 0 : pass == 1 ? key >> 21 : key >> LOWER_BITS;
}

static uint32_t bin_of(uint32_t key, int pass)
{
    return pass == 0 ? key >> 21 : pass == 1 ? key >> LOWER_BITS & (BINS - 1) : key & 1023;
}

static void count_value(const struct scan *scan, struct counts *counts, enum quantity quantity,
                        double value)
{
    const struct search *search = &scan->search[quantity];
    uint32_t key = summary_key_of(value);
    uint32_t prefix = prefix_of(key, scan->pass);
    for (int i = 0; i < search->distinct_count; i++)
        if (search->distinct[i] == prefix) {
            counts->bins[quantity][i][bin_of(key, scan->pass)]++;
            return;
        }
}

static int load(struct scan *scan, ptrdiff_t tensor, size_t first, size_t count, double *out,
                struct ivon_error *error)
{
    double raw[TILE];
    enum ivon_dtype dtype = ivon_source_tensor(scan->source, (size_t)tensor)->dtype;
    const void *data = ivon_source_view(scan->source, (size_t)tensor, first);
    if (!data) {
        int code = ivon_source_read(scan->source, (size_t)tensor, first, count, raw, error);
        if (code)
            return code;
        data = raw;
    }
    ivon_dtype_to_f64(out, data, dtype, count);
    return 0;
}

static void count_tile(const struct scan *scan, struct counts *counts, struct moments *moments,
                       const double *mean, const double *hessian,
                       const struct ivon_tensor *described, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool mean_finite = mean && isfinite(mean[i]);
        bool hessian_finite = hessian && isfinite(hessian[i]);
        if (scan->pass == 0) {
            moments->mean_nonfinite += mean && !mean_finite;
            moments->hessian_nonfinite += hessian && !hessian_finite;
            moments->square_sum += mean_finite ? mean[i] * mean[i] : 0;
        }
        if (!hessian_finite)
            continue;
        double precision = described->ess * (hessian[i] + described->weight_decay);
        if (scan->pass == 0) {
            double sum = hessian[i] + described->weight_decay;
            moments->nonpositive += sum <= 0;
            moments->effective += sum > 0 ? hessian[i] / sum : isnan(sum) ? sum : 0;
            moments->minimum = fmin(moments->minimum, hessian[i]);
            moments->maximum = fmax(moments->maximum, hessian[i]);
        }
        count_value(scan, counts, HESSIAN, hessian[i]);
        if (mean_finite && precision > 0 && isfinite(precision))
            count_value(scan, counts, RATIO, fabs(mean[i]) * sqrt(precision));
    }
}

static const struct pair *pair_of_job(const struct scan *scan, size_t job)
{
    size_t low = 0, high = scan->pair_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (scan->pairs[middle].first_job - scan->pairs[0].first_job <= job)
            low = middle;
        else
            high = middle;
    }
    return &scan->pairs[low];
}

static int scan_job(void *context, size_t job, int thread, struct ivon_error *error)
{
    struct scan *scan = context;
    const struct pair *pair = pair_of_job(scan, job);
    struct moments *moments = &scan->moments[job];
    double mean[TILE], hessian[TILE];
    size_t first = (job - (pair->first_job - scan->pairs[0].first_job)) * JOB;
    size_t end = pair->count - first < JOB ? pair->count : first + JOB, bytes = 0;
    ptrdiff_t tensors[2] = {pair->mean, pair->hessian};
    const struct ivon_tensor *described =
        pair->hessian < 0 ? NULL : ivon_source_tensor(scan->source, (size_t)pair->hessian);
    if (scan->pass == 0)
        *moments = (struct moments){.minimum = INFINITY, .maximum = -INFINITY};
    for (int i = 0; i < 2; i++)
        if (tensors[i] >= 0)
            ivon_source_will_need(scan->source, (size_t)tensors[i], first, end - first);
    int code = 0;
    for (size_t at = first; at < end && !code; at += TILE) {
        size_t count = end - at < TILE ? end - at : TILE;
        if (pair->mean >= 0)
            code = load(scan, pair->mean, at, count, mean, error);
        if (!code && pair->hessian >= 0)
            code = load(scan, pair->hessian, at, count, hessian, error);
        if (!code)
            count_tile(scan, &scan->counts[thread], moments, pair->mean < 0 ? NULL : mean,
                       pair->hessian < 0 ? NULL : hessian, described, count);
    }
    for (int i = 0; i < 2; i++)
        if (tensors[i] >= 0) {
            ivon_source_done_with(scan->source, (size_t)tensors[i], first, end - first);
            bytes += (end - first) *
                     ivon_dtype_size(ivon_source_tensor(scan->source, (size_t)tensors[i])->dtype);
        }
    return code ? code : meter_add(&scan->meter, bytes, error);
}

static void set_ranks(struct search *search, uint64_t count)
{
    search->count = count;
    for (size_t q = 0; q < IVON_QUANTILE_COUNT && count; q++) {
        double position = ivon_quantile_levels[q] * (double)(count - 1);
        uint64_t low = (uint64_t)position;
        search->rank[2 * q] = low;
        search->rank[2 * q + 1] = low + 1 < count ? low + 1 : low;
    }
}

/* Extends every prefix by the bin in which its rank lies. */
static void summary_narrow(struct search *search, uint64_t bins[RANKS][BINS], int pass)
{
    static const int width[] = {11, 11, LOWER_BITS};
    if (pass == 0) {
        uint64_t count = 0;
        for (int b = 0; b < BINS; b++)
            count += bins[0][b];
        set_ranks(search, count);
    }
    for (int r = 0; r < RANKS && search->count; r++) {
        uint32_t bin = 0;
        while (search->rank[r] >= bins[search->slot[r]][bin])
            search->rank[r] -= bins[search->slot[r]][bin++];
        search->prefix[r] = search->prefix[r] << width[pass] | bin;
    }
    search->distinct_count = 0;
    for (int r = 0; r < RANKS && search->count; r++) {
        int slot = 0;
        while (slot < search->distinct_count && search->distinct[slot] != search->prefix[r])
            slot++;
        if (slot == search->distinct_count)
            search->distinct[search->distinct_count++] = search->prefix[r];
        search->slot[r] = slot;
    }
}

static void add_counts(struct counts *sum, const struct counts *other)
{
    uint64_t *to = &sum->bins[0][0][0];
    const uint64_t *from = &other->bins[0][0][0];
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static int summary_run_passes(struct scan *scan, size_t jobs, struct ivon_error *error)
{
    int threads = ivon_parallel_threads(scan->options.resources.threads);
    int used = jobs < (size_t)threads ? (int)jobs : threads;
    int code = 0;
    for (int q = 0; q < QUANTITIES; q++)
        scan->search[q].distinct_count = 1; /* the empty prefix */
    for (scan->pass = 0; scan->pass < 3 && !code; scan->pass++) {
        memset(scan->counts, 0, (size_t)used * sizeof *scan->counts);
        code = ivon_parallel_run(threads, jobs, scan_job, scan, error);
        for (int t = 1; t < used; t++)
            add_counts(&scan->counts[0], &scan->counts[t]);
        for (int q = 0; q < QUANTITIES && used && !code; q++)
            summary_narrow(&scan->search[q], scan->counts[0].bins[q], scan->pass);
    }
    return code;
}

static void quantiles(const struct search *search, double out[IVON_QUANTILE_COUNT])
{
    for (size_t q = 0; q < IVON_QUANTILE_COUNT; q++) {
        double position = ivon_quantile_levels[q] * (double)(search->count - 1);
        double low = value_of(search->prefix[2 * q]), high = value_of(search->prefix[2 * q + 1]);
        out[q] = search->count ? low + (high - low) * (position - floor(position)) : NAN;
    }
}

static void summary_fill(struct ivon_summary *summary, const struct scan *scan, size_t jobs)
{
    double square_sum = 0;
    summary->hessian_min = INFINITY;
    summary->hessian_max = -INFINITY;
    for (size_t j = 0; j < jobs; j++) {
        const struct moments *moments = &scan->moments[j];
        summary->mean_nonfinite += moments->mean_nonfinite;
        summary->hessian_nonfinite += moments->hessian_nonfinite;
        summary->nonpositive += moments->nonpositive;
        summary->hessian_min = fmin(summary->hessian_min, moments->minimum);
        summary->hessian_max = fmax(summary->hessian_max, moments->maximum);
        square_sum += moments->square_sum;
        summary->effective += moments->effective;
    }
    summary->mean_norm = sqrt(square_sum);
    quantiles(&scan->search[HESSIAN], summary->hessian_quantiles);
    quantiles(&scan->search[RATIO], summary->signal_to_noise);
    if (!scan->search[HESSIAN].count)
        summary->hessian_min = summary->hessian_max = NAN;
    double median = summary->hessian_quantiles[2], near = 0.01 * fabs(median);
    summary->hessian_at_start = scan->search[HESSIAN].count > 1 && near > 0 &&
                                median - summary->hessian_quantiles[0] <= near &&
                                summary->hessian_quantiles[4] - median <= near;
}

static int summarise(struct scan *scan, const struct pair *pairs, size_t pair_count,
                     struct ivon_summary *summary, struct ivon_error *error)
{
    size_t jobs = 0;
    scan->pairs = pairs;
    scan->pair_count = pair_count;
    memset(scan->search, 0, sizeof scan->search);
    for (size_t i = 0; i < pair_count; i++) {
        jobs += (pairs[i].count + JOB - 1) / JOB;
        if (pairs[i].hessian >= 0)
            summary->hessian_count += pairs[i].count;
        summary->count += pairs[i].counted ? pairs[i].count : 0;
    }
    int code = summary_run_passes(scan, jobs, error);
    if (!code)
        summary_fill(summary, scan, jobs);
    return code;
}

/* The summaries of a source while they are listed, and what each is made from. */
struct summary_list {
    struct ivon_source *source;
    const struct structure *structure;
    struct pair *pairs;
    size_t pair_count, jobs;
    struct ivon_summary *summaries;
    size_t count;
};

/* Adds a pair to the last summary. */
static void summary_list_pair(struct summary_list *list, ptrdiff_t mean, ptrdiff_t hessian)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(list->source,
                                                          (size_t)(mean < 0 ? hessian : mean));
    struct ivon_summary *summary = &list->summaries[list->count - 1];
    list->pairs[list->pair_count++] = (struct pair){.mean = mean,
                                                    .hessian = hessian,
                                                    .count = tensor->count,
                                                    .first_job = list->jobs,
                                                    .summary = list->count - 1,
                                                    .counted = mean >= 0 ||
                                                               summary->mean == SIZE_MAX};
    list->jobs += (tensor->count + JOB - 1) / JOB;
    if (hessian >= 0)
        summary->hessian = (size_t)hessian;
}

static void summary_list_mean(struct summary_list *list, size_t mean)
{
    const struct structure *structure = list->structure;
    const struct ivon_tensor *tensor = ivon_source_tensor(list->source, mean);
    ptrdiff_t at = structure->block_of[mean];
    const struct structure_block *block = at < 0 ? NULL : &structure->blocks[at];
    ptrdiff_t hessian = ivon_source_find(list->source, IVON_HESSIAN, tensor->name);
    bool alike = hessian >= 0 &&
                 posterior_same_shape(tensor, ivon_source_tensor(list->source, (size_t)hessian));
    list->summaries[list->count++] = (struct ivon_summary){
        .name = tensor->name,
        .mean = mean,
        .hessian = SIZE_MAX,
        .shapes_differ = !block && hessian >= 0 && !alike,
        .in_block = block && block->hessian >= 0};
    summary_list_pair(list, (ptrdiff_t)mean, !block && alike ? hessian : -1);
    if (block &&
        hessian >= 0) /* elements of it are in another basis, and none of them the mean's */
        summary_list_pair(list, -1, hessian);
}

/* Lists a Hessian that was not met with its mean. */
static void summary_list_hessian(struct summary_list *list, size_t hessian)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(list->source, hessian);
    ptrdiff_t mean = ivon_source_find(list->source, IVON_MEAN, tensor->name);
    bool met = list->structure->block_of[hessian] >= 0 ||
               (mean >= 0 &&
                posterior_same_shape(tensor, ivon_source_tensor(list->source, (size_t)mean)));
    if (met)
        return;
    list->summaries[list->count++] = (struct ivon_summary){
        .name = tensor->name, .mean = SIZE_MAX, .hessian = SIZE_MAX, .shapes_differ = mean >= 0};
    summary_list_pair(list, -1, (ptrdiff_t)hessian);
}

/* Lists what to summarise: means with their Hessians, then Hessians without (or unlike) a mean. */
static void summary_list_all(struct summary_list *list)
{
    size_t count = ivon_source_tensor_count(list->source);
    for (size_t i = 0; i < count; i++)
        if (ivon_source_tensor(list->source, i)->part == IVON_MEAN)
            summary_list_mean(list, i);
    for (size_t i = 0; i < count; i++)
        if (ivon_source_tensor(list->source, i)->part == IVON_HESSIAN)
            summary_list_hessian(list, i);
}

static uint64_t count_bytes(struct ivon_source *source)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part == IVON_MEAN || tensor->part == IVON_HESSIAN)
            bytes += tensor->count * ivon_dtype_size(tensor->dtype);
    }
    return bytes;
}

static int summarise_all(struct scan *scan, struct ivon_summaries *summaries, struct pair *pairs,
                         const struct structure *structure, struct ivon_error *error)
{
    struct summary_list list = {.source = scan->source,
                                .structure = structure,
                                .pairs = pairs,
                                .summaries = summaries->tensors};
    int code = 0;
    summary_list_all(&list);
    summaries->count = list.count;
    scan->moments = calloc(list.jobs + 1, sizeof *scan->moments);
    scan->counts = calloc((size_t)ivon_parallel_threads(scan->options.resources.threads),
                          sizeof *scan->counts);
    if (!scan->moments || !scan->counts)
        return ivon_error_memory(error);
    for (size_t first = 0, next; first < list.pair_count && !code; first = next) {
        for (next = first + 1; next < list.pair_count; next++)
            if (pairs[next].summary != pairs[first].summary)
                break;
        code = summarise(scan, &pairs[first], next - first,
                         &summaries->tensors[pairs[first].summary], error);
    }
    summaries->total = (struct ivon_summary){.mean = SIZE_MAX, .hessian = SIZE_MAX};
    return code ? code : summarise(scan, pairs, list.pair_count, &summaries->total, error);
}

static const struct options_kind summary_options = {
    .defaults = "ivon_summary_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_summary_options, resources.reserved)}};

void ivon_summary_options_init(struct ivon_summary_options *options, size_t size)
{
    const struct ivon_summary_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_summary_new(struct ivon_summaries **out, struct ivon_source *source,
                     const struct ivon_summary_options *options, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(source);
    struct ivon_summaries *summaries = calloc(1, sizeof *summaries);
    struct pair *pairs = calloc(count + 1, sizeof *pairs);
    struct structure *structure = NULL;
    struct scan scan = {.source = source, .options = ivon_summary_defaults()};
    if (summaries)
        summaries->tensors = calloc(count + 1, sizeof *summaries->tensors);
    int code = summaries && summaries->tensors && pairs ? 0 : ivon_error_memory(error);
    if (!code)
        code = options_read(&summary_options, &scan.options, options, error);
    if (!code)
        code = structure_read(&structure, source, error);
    meter_init(&scan.meter, &scan.options.resources.progress, 6 * count_bytes(source));
    if (!code)
        code = summarise_all(&scan, summaries, pairs, structure, error);
    meter_release(&scan.meter);
    structure_free(structure);
    free(scan.counts);
    free(scan.moments);
    free(pairs);
    if (code)
        ivon_summary_free(summaries);
    else
        *out = summaries;
    return code;
}

void ivon_summary_free(struct ivon_summaries *summaries)
{
    if (!summaries)
        return;
    free(summaries->tensors);
    free(summaries);
}

int ivon_structure_describe(struct ivon_structure *described, struct ivon_source *source,
                            struct ivon_error *error)
{
    struct structure *structure = NULL;
    int code = structure_read(&structure, source, error);
    if (code)
        return code;
    *described = (struct ivon_structure){
        .rank = structure->rank,
        .fitted = structure->fitted,
        .draw_bytes = draw_memory(source, structure),
        .covariance_bytes = covariance_memory_of(source, structure)};
    for (size_t i = 0; i < structure->block_count; i++)
        described->blocks += structure->blocks[i].hessian >= 0;
    structure_free(structure);
    return 0;
}

const struct ivon_summary *ivon_summary_tensors(const struct ivon_summaries *summaries,
                                                size_t *count)
{
    *count = summaries->count;
    return summaries->tensors;
}

bool ivon_mean_is_far(double decrement, double effective)
{
    const double MOST = 4;
    return decrement > MOST * effective;
}

const struct ivon_summary *ivon_summary_total(const struct ivon_summaries *summaries)
{
    return &summaries->total;
}
