/* The execution of a merge: jobs on threads, each reading, computing and writing its own range. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge_kernel.h"
#include "bayes/merge_private.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "core/meter.h"
#include "core/parallel.h"

enum {
    BLOCK = 1 << 16,       /* elements read and written at once */
    BLOCK_MIN = 1 << 12,   /* when memory is short */
    DEFAULT_MEMORY = 256 << 20,
    LOOK_AHEAD = 3, /* jobs per thread for which pages are asked for in advance */
};

/* What precision the result lacked, in the first tensor where it did. */
struct shortfall {
    size_t entry; /* SIZE_MAX: none */
    size_t scale;
    uint64_t count;
    double worst;
    size_t worst_at;
};

/* A thread's memory. */
struct scratch {
    /* Blocks that are read, for inputs that cannot be mapped: base, then models. */
    unsigned char **mean_blocks, **hessian_blocks;
    const unsigned char **means, **hessians; /* of this block, wherever they lie; null: none */
    unsigned char *mean_out;                 /* scale_count blocks */
    float *hessian_out;
    double base_mean[MERGE_TILE], base_precision[MERGE_TILE], base_hessian[MERGE_TILE];
    double mean[MERGE_TILE], hessian[MERGE_TILE], precision[MERGE_TILE];
    double model_mean[MERGE_TILE];
    bool dropped[MERGE_TILE]; /* elements that keep the base's value */
    struct merge_sums sums;
    uint64_t *nonpositive; /* per scale */
};

struct run {
    struct ivon_merge *merge;
    struct ivon_sink *const *sinks;
    struct scratch *scratch; /* per thread */
    struct ivon_header *headers; /* per scale */
    int threads;
    size_t block;
    double *movement; /* per job, per scale: squared norms of the models, then of the total */
    struct meter meter;
    pthread_mutex_t lock; /* of what follows */
    struct shortfall shortfall;
    size_t failed_entry; /* the first whose job failed; SIZE_MAX: none */
    const char *buffer_conflict;
    size_t buffer_conflict_entry;
};

static size_t element_size(struct ivon_source *source, ptrdiff_t tensor)
{
    return ivon_dtype_size(ivon_source_tensor(source, (size_t)tensor)->dtype);
}

static enum ivon_dtype dtype_of(struct ivon_source *source, ptrdiff_t tensor)
{
    return ivon_source_tensor(source, (size_t)tensor)->dtype;
}

/* transfer_fetch for a tensor that may be absent. */
static int fetch(struct run *run, struct ivon_source *source, ptrdiff_t tensor, size_t first,
                 size_t count, unsigned char **block, const unsigned char **at,
                 struct ivon_error *error)
{
    *at = NULL;
    if (tensor < 0)
        return 0;
    return transfer_fetch(source, (size_t)tensor, first, count, run->block, block, at, error);
}

static int fetch_block(struct run *run, struct scratch *scratch, const struct merge_entry *entry,
                       size_t first, size_t count, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    for (size_t i = 0; i <= merge->model_count; i++) {
        struct ivon_source *source = i ? merge->models[i - 1].source : merge->base;
        const struct merge_input *input = i ? &entry->models[i - 1] : &entry->base;
        if (!source) {
            scratch->means[0] = scratch->hessians[0] = NULL;
            continue;
        }
        ptrdiff_t hessian = merge->with_hessian ? input->hessian : -1;
        int code = fetch(run, source, input->mean, first, count, &scratch->mean_blocks[i],
                         &scratch->means[i], error);
        if (!code)
            code = fetch(run, source, hessian, first, count, &scratch->hessian_blocks[i],
                         &scratch->hessians[i], error);
        if (code)
            return code;
    }
    return 0;
}

/* The base of a tile: m_0 and its own precision, zero where the formula has no base. */
static void load_base(const struct ivon_merge *merge, struct scratch *scratch,
                      const struct merge_entry *entry, size_t offset, size_t count)
{
    for (size_t i = 0; i < count; i++)
        scratch->base_mean[i] = scratch->base_precision[i] = 0;
    if (!merge->base)
        return;
    ivon_dtype_to_f64(scratch->base_mean,
                      scratch->means[0] + offset * element_size(merge->base, entry->base.mean),
                      dtype_of(merge->base, entry->base.mean), count);
    if (scratch->hessians[0]) {
        const struct ivon_tensor *hessian =
            ivon_source_tensor(merge->base, (size_t)entry->base.hessian);
        ivon_dtype_to_f64(scratch->base_hessian,
                          scratch->hessians[0] + offset * ivon_dtype_size(hessian->dtype),
                          hessian->dtype, count);
        merge_precision_of(scratch->base_precision, scratch->base_hessian, hessian->ess,
                           hessian->weight_decay, count);
    } else {
        double precision = isnan(merge->options.delta0) ? 0 : merge->options.delta0;
        for (size_t i = 0; i < count; i++)
            scratch->base_precision[i] = precision;
    }
}

/* Model t of a tile, into scratch->model_mean and ->hessian, and the factors of its weight. */
static void load_model(const struct ivon_merge *merge, struct scratch *scratch,
                       const struct merge_entry *entry, size_t t, size_t offset, size_t count,
                       double *slope, double *intercept)
{
    struct ivon_source *source = merge->models[t].source;
    ptrdiff_t mean = entry->models[t].mean;
    ivon_dtype_to_f64(scratch->model_mean,
                      scratch->means[t + 1] + offset * element_size(source, mean),
                      dtype_of(source, mean), count);
    *slope = *intercept = 0;
    if (!scratch->hessians[t + 1])
        return;
    const struct ivon_tensor *hessian =
        ivon_source_tensor(source, (size_t)entry->models[t].hessian);
    ivon_dtype_to_f64(scratch->hessian,
                      scratch->hessians[t + 1] + offset * ivon_dtype_size(hessian->dtype),
                      hessian->dtype, count);
    *slope = merge->options.hessian_scale * hessian->ess;
    *intercept = merge->base_in_formula ? 0 : hessian->ess * hessian->weight_decay;
}

static void sum_models(const struct ivon_merge *merge, struct scratch *scratch,
                       const struct merge_entry *entry, size_t offset, size_t count)
{
    static const double zero[MERGE_TILE];
    const double *origin = merge->base_in_formula ? scratch->base_mean : zero;
    memset(&scratch->sums, 0, sizeof scratch->sums);
    for (size_t t = 0; t < merge->model_count; t++) {
        double slope, intercept;
        load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
        merge_accumulate(&scratch->sums, origin, scratch->model_mean,
                         scratch->hessians[t + 1] ? scratch->hessian : NULL,
                         merge->models[t].weight, slope, intercept, count);
    }
}

/* Mean and precision of a tile at one scale. */
static void combine(const struct ivon_merge *merge, struct scratch *scratch, double scale,
                    size_t count)
{
    static const double zero[MERGE_TILE];
    const double *origin = merge->base_in_formula ? scratch->base_mean : zero;
    const double *prior = merge->base_in_formula ? scratch->base_precision : zero;
    enum ivon_merge_method method = merge->options.method;
    if (method == IVON_MERGE_GRADIENT_MATCHING || method == IVON_MERGE_HESSIAN)
        merge_by_precision(scratch->mean, scratch->precision, origin, prior,
                           merge->options.base_scale, &scratch->sums, scale, count);
    else
        merge_linearly(scratch->mean, scratch->precision, origin, prior,
                       merge->options.base_scale, &scratch->sums, scale,
                       method == IVON_MERGE_AVERAGE ? 1 / merge->weight_sum : scale, count);
    bool alone = merge->model_count == 1 &&
                 (!merge->base_in_formula || scale * merge->models[0].weight == 1);
    if (alone) /* it is given back as it came, without rounding */
        memcpy(scratch->mean, scratch->model_mean, count * sizeof scratch->mean[0]);
}

/* Names the input whose element makes the result non-finite, or the type that cannot hold it. */
static int report_nonfinite(const struct ivon_merge *merge, struct scratch *scratch,
                            const struct merge_entry *entry, size_t first, size_t offset,
                            size_t i, struct ivon_error *error)
{
    const struct ivon_tensor *output = &merge->outputs.items[entry->output];
    for (size_t s = merge->base ? 0 : 1; s <= merge->model_count; s++) {
        const struct merge_input *input = s ? &entry->models[s - 1] : &entry->base;
        struct ivon_source *source = s ? merge->models[s - 1].source : merge->base;
        const unsigned char *blocks[2] = {scratch->means[s], scratch->hessians[s]};
        ptrdiff_t tensors[2] = {input->mean, input->hessian};
        for (int part = 0; part < 2; part++) {
            double value;
            if (!blocks[part])
                continue;
            ivon_dtype_to_f64(&value,
                              blocks[part] + (offset + i) * element_size(source, tensors[part]),
                              dtype_of(source, tensors[part]), 1);
            if (!isfinite(value))
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "%s: %s of '%s' is %g at element %zu, expected a finite "
                                      "number",
                                      ivon_source_path(source), part ? "Hessian" : "mean",
                                      output->name, value, first + offset + i);
        }
    }
    bool mean_fits = fabs(scratch->mean[i]) < transfer_overflow_bound(output->dtype);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "tensor '%s': the merged value at element %zu, mean %g, precision %g, "
                          "does not fit into %s",
                          output->name, first + offset + i, scratch->mean[i],
                          scratch->precision[i],
                          ivon_dtype_name(mean_fits ? IVON_F32 : output->dtype));
}

static void note_shortfall(struct run *run, size_t entry, size_t scale, size_t at, double value)
{
    struct shortfall *known = &run->shortfall;
    pthread_mutex_lock(&run->lock);
    if (entry < known->entry || (entry == known->entry && scale < known->scale))
        *known = (struct shortfall){.entry = entry, .scale = scale, .worst = INFINITY};
    if (entry == known->entry && scale == known->scale) {
        known->count++;
        if (value < known->worst || (value == known->worst && at < known->worst_at)) {
            known->worst = value;
            known->worst_at = at;
        }
    }
    pthread_mutex_unlock(&run->lock);
}

/* Elements whose precision is not positive: remembered for the error, or given the base's. */
static void settle_nonpositive(struct run *run, struct scratch *scratch, size_t entry_index,
                               size_t scale, size_t at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        scratch->dropped[i] = scratch->precision[i] <= 0 && isfinite(scratch->precision[i]);
        if (!scratch->dropped[i])
            continue;
        if (run->merge->options.on_nonpositive == IVON_NONPOSITIVE_BASE &&
            scratch->base_precision[i] > 0) {
            scratch->mean[i] = scratch->base_mean[i];
            scratch->precision[i] = scratch->base_precision[i];
            scratch->nonpositive[scale]++;
        } else {
            note_shortfall(run, entry_index, scale, at + i, scratch->precision[i]);
            scratch->mean[i] = 0;
            scratch->precision[i] = 1;
        }
    }
}

/* Squared norms of what each model, and all together, moved the tile; see ivon/merge.h. */
static void add_movement(const struct ivon_merge *merge, struct scratch *scratch,
                         const struct merge_entry *entry, size_t offset, size_t count,
                         double scale, double *squares)
{
    enum ivon_merge_method method = merge->options.method;
    for (size_t t = 0; t < merge->model_count; t++) {
        double slope, intercept, alpha = merge->models[t].weight;
        load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
        for (size_t i = 0; i < count; i++) {
            if (scratch->dropped[i])
                continue;
            double own = slope * scratch->hessian[i] + intercept;
            double share = method == IVON_MERGE_GRADIENT_MATCHING
                               ? scale * alpha *
                                     (merge->options.base_scale * scratch->base_precision[i] + own) /
                                     scratch->precision[i]
                           : method == IVON_MERGE_HESSIAN ? alpha * own / scratch->precision[i]
                           : method == IVON_MERGE_AVERAGE ? alpha / merge->weight_sum
                                                          : scale * alpha;
            double origin = merge->base_in_formula ? scratch->base_mean[i] : scratch->mean[i];
            double moved = share * (scratch->model_mean[i] - origin);
            squares[merge->models[t].given] += moved * moved;
        }
    }
    if (merge->base_in_formula)
        for (size_t i = 0; i < count; i++) {
            double moved = scratch->mean[i] - scratch->base_mean[i];
            squares[merge->model_count] += moved * moved;
        }
}

/* One tile of a block: elements [offset, offset + count) of it, the block starting at `first`. */
static int merge_tile(struct run *run, struct scratch *scratch, size_t job, size_t first,
                      size_t offset, size_t count, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    size_t index = merge->jobs[job].entry;
    const struct merge_entry *entry = &merge->entries[index];
    enum ivon_dtype dtype = merge->outputs.items[entry->output].dtype;
    size_t size = ivon_dtype_size(dtype);
    load_base(merge, scratch, entry, offset, count);
    sum_models(merge, scratch, entry, offset, count);
    for (size_t s = 0; s < merge->scale_count; s++) {
        double ess = run->headers[s].ess;
        double bound = merge->with_hessian ? ess * transfer_overflow_bound(IVON_F32) : INFINITY;
        combine(merge, scratch, merge->scales[s], count);
        memset(scratch->dropped, 0, sizeof scratch->dropped);
        if (merge->with_hessian && merge_any_not_positive(scratch->precision, count))
            settle_nonpositive(run, scratch, index, s, first + offset, count);
        bool mean_bad = merge_any_not_below(scratch->mean, transfer_overflow_bound(dtype), count);
        bool precision_bad = merge->with_hessian &&
                             merge_any_not_below(scratch->precision, bound, count);
        for (size_t i = 0; (mean_bad || precision_bad) && i < count; i++)
            if (!(fabs(scratch->mean[i]) < transfer_overflow_bound(dtype)) ||
                (merge->with_hessian && !(fabs(scratch->precision[i]) < bound)))
                return report_nonfinite(merge, scratch, entry, first, offset, i, error);
        ivon_dtype_from_f64(scratch->mean_out + (s * run->block + offset) * size, dtype,
                            scratch->mean, count);
        if (merge->with_hessian)
            merge_store_hessian(scratch->hessian_out + s * run->block + offset,
                                scratch->precision, ess, run->headers[s].weight_decay, count);
        if (run->movement)
            add_movement(merge, scratch, entry, offset, count, merge->scales[s],
                         run->movement +
                             (job * merge->scale_count + s) * (merge->model_count + 1));
    }
    return 0;
}

static int write_block(struct run *run, struct scratch *scratch, const struct merge_entry *entry,
                       size_t first, size_t count, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    size_t size = ivon_dtype_size(merge->outputs.items[entry->output].dtype);
    int code = 0;
    for (size_t s = 0; s < merge->scale_count && !code; s++) {
        code = ivon_sink_write(run->sinks[s], entry->output, first, count,
                               scratch->mean_out + s * run->block * size, error);
        if (!code && entry->output_hessian >= 0)
            code = ivon_sink_write(run->sinks[s], (size_t)entry->output_hessian, first, count,
                                   scratch->hessian_out + s * run->block, error);
    }
    return code;
}

static int merge_range(struct run *run, struct scratch *scratch, size_t job_index,
                       struct ivon_error *error)
{
    const struct merge_job *job = &run->merge->jobs[job_index];
    const struct merge_entry *entry = &run->merge->entries[job->entry];
    int code = 0;
    for (size_t done = 0; done < job->count && !code; done += run->block) {
        size_t first = job->first + done;
        size_t count = job->count - done < run->block ? job->count - done : run->block;
        code = fetch_block(run, scratch, entry, first, count, error);
        for (size_t offset = 0; offset < count && !code; offset += MERGE_TILE) {
            size_t tile = count - offset < MERGE_TILE ? count - offset : MERGE_TILE;
            code = merge_tile(run, scratch, job_index, first, offset, tile, error);
        }
        if (!code)
            code = write_block(run, scratch, entry, first, count, error);
    }
    return code;
}

/* Compares a block of a buffer with the same buffer of the other inputs. */
static int compare_block(struct run *run, struct scratch *scratch, size_t index, size_t first,
                         size_t count, const unsigned char *block, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    const struct merge_entry *entry = &merge->entries[index];
    const struct ivon_tensor *own = ivon_source_tensor(entry->from, entry->from_tensor);
    for (size_t t = 0; t < merge->model_count; t++) {
        struct ivon_source *source = merge->models[t].source;
        ptrdiff_t other = ivon_source_find(source, own->part, own->name);
        const unsigned char *there;
        if (source == entry->from || other < 0 || dtype_of(source, other) != own->dtype ||
            !posterior_same_shape(ivon_source_tensor(source, (size_t)other), own))
            continue;
        int code = fetch(run, source, other, first, count, &scratch->hessian_blocks[t + 1], &there,
                         error);
        if (code)
            return code;
        if (memcmp(there, block, count * ivon_dtype_size(own->dtype)) == 0)
            continue;
        pthread_mutex_lock(&run->lock);
        if (index < run->buffer_conflict_entry) {
            run->buffer_conflict_entry = index;
            run->buffer_conflict = merge->outputs.items[entry->output].name;
        }
        pthread_mutex_unlock(&run->lock);
    }
    return 0;
}

/* Converts a kept mean to the dtype that was asked for. */
static int convert_block(const struct ivon_merge *merge, struct scratch *scratch,
                         const struct merge_entry *entry, const unsigned char *block, size_t first,
                         size_t count, struct ivon_error *error)
{
    const struct ivon_tensor *from = ivon_source_tensor(entry->from, entry->from_tensor);
    enum ivon_dtype dtype = merge->outputs.items[entry->output].dtype;
    double value;
    size_t i = transfer_convert(scratch->mean_out, dtype, block, from->dtype, count);
    if (i == count)
        return 0;
    ivon_dtype_to_f64(&value, block + i * ivon_dtype_size(from->dtype), from->dtype, 1);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: mean of '%s' is %g at element %zu, which does not fit into %s",
                          ivon_source_path(entry->from), from->name, value, first + i,
                          ivon_dtype_name(dtype));
}

static int copy_range(struct run *run, struct scratch *scratch, const struct merge_job *job,
                      struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    const struct merge_entry *entry = &merge->entries[job->entry];
    const struct ivon_tensor *from = ivon_source_tensor(entry->from, entry->from_tensor);
    bool convert = from->dtype != merge->outputs.items[entry->output].dtype;
    int code = 0;
    for (size_t done = 0; done < job->count && !code; done += run->block) {
        size_t first = job->first + done;
        size_t count = job->count - done < run->block ? job->count - done : run->block;
        const unsigned char *block;
        code = fetch(run, entry->from, (ptrdiff_t)entry->from_tensor, first, count,
                     &scratch->mean_blocks[0], &block, error);
        if (!code && entry->compare)
            code = compare_block(run, scratch, job->entry, first, count, block, error);
        if (!code && convert)
            code = convert_block(merge, scratch, entry, block, first, count, error);
        for (size_t s = 0; s < merge->scale_count && !code; s++)
            code = ivon_sink_write(run->sinks[s], entry->output, first, count,
                                   convert ? scratch->mean_out : block, error);
    }
    return code;
}

/* Tells all sources of a job that its range is wanted soon, or was used; the bytes in it. */
static uint64_t advise(const struct ivon_merge *merge, size_t job_index,
                       void (*tell)(struct ivon_source *, size_t, size_t, size_t))
{
    const struct merge_job *job = &merge->jobs[job_index];
    const struct merge_entry *entry = &merge->entries[job->entry];
    uint64_t bytes = 0;
    if (!entry->models) {
        tell(entry->from, entry->from_tensor, job->first, job->count);
        return job->count * element_size(entry->from, (ptrdiff_t)entry->from_tensor);
    }
    for (size_t i = merge->base ? 0 : 1; i <= merge->model_count; i++) {
        struct ivon_source *source = i ? merge->models[i - 1].source : merge->base;
        const struct merge_input *input = i ? &entry->models[i - 1] : &entry->base;
        ptrdiff_t tensors[2] = {input->mean, merge->with_hessian ? input->hessian : -1};
        for (int part = 0; part < 2; part++)
            if (tensors[part] >= 0) {
                tell(source, (size_t)tensors[part], job->first, job->count);
                bytes += job->count * element_size(source, tensors[part]);
            }
    }
    return bytes;
}

/* Whether a tensor before this one already failed, so that only its own count still matters. */
static bool overtaken(struct run *run, size_t entry)
{
    pthread_mutex_lock(&run->lock);
    bool later = entry > run->shortfall.entry;
    pthread_mutex_unlock(&run->lock);
    return later;
}

static int run_job(void *context, size_t i, int thread, struct ivon_error *error)
{
    struct run *run = context;
    struct ivon_merge *merge = run->merge;
    struct scratch *scratch = &run->scratch[thread];
    const struct merge_job *job = &merge->jobs[i];
    size_t distance = (size_t)run->threads * LOOK_AHEAD;
    if (overtaken(run, job->entry))
        return 0;
    for (size_t ahead = i ? i + distance : 0; ahead <= i + distance; ahead++)
        if (ahead < merge->job_count)
            advise(merge, ahead, ivon_source_will_need);
    int code = merge->entries[job->entry].models ? merge_range(run, scratch, i, error)
                                                 : copy_range(run, scratch, job, error);
    uint64_t bytes = advise(merge, i, ivon_source_done_with);
    if (!code)
        return meter_add(&run->meter, bytes, error);
    pthread_mutex_lock(&run->lock);
    if (job->entry < run->failed_entry)
        run->failed_entry = job->entry;
    pthread_mutex_unlock(&run->lock);
    return code;
}

static void release_scratch(struct run *run)
{
    for (int t = 0; run->scratch && t < run->threads; t++) {
        struct scratch *scratch = &run->scratch[t];
        for (size_t i = 0; i <= run->merge->model_count; i++) {
            if (scratch->mean_blocks)
                free(scratch->mean_blocks[i]);
            if (scratch->hessian_blocks)
                free(scratch->hessian_blocks[i]);
        }
        free(scratch->mean_blocks);
        free(scratch->hessian_blocks);
        free(scratch->means);
        free(scratch->hessians);
        free(scratch->mean_out);
        free(scratch->hessian_out);
        free(scratch->nonpositive);
    }
    free(run->scratch);
}

static int make_scratch(struct run *run, struct ivon_error *error)
{
    size_t inputs = run->merge->model_count + 1, scales = run->merge->scale_count;
    run->scratch = calloc((size_t)run->threads, sizeof *run->scratch);
    run->headers = calloc(scales + 1, sizeof *run->headers);
    if (!run->scratch || !run->headers)
        return ivon_error_memory(error);
    for (size_t s = 0; s < scales; s++)
        run->headers[s] = ivon_merge_header(run->merge, s);
    for (int t = 0; t < run->threads; t++) {
        struct scratch *scratch = &run->scratch[t];
        scratch->mean_blocks = calloc(inputs, sizeof *scratch->mean_blocks);
        scratch->hessian_blocks = calloc(inputs, sizeof *scratch->hessian_blocks);
        scratch->means = calloc(inputs, sizeof *scratch->means);
        scratch->hessians = calloc(inputs, sizeof *scratch->hessians);
        scratch->mean_out = malloc(scales * run->block * sizeof(double));
        scratch->hessian_out = malloc(scales * run->block * sizeof(float));
        scratch->nonpositive = calloc(scales, sizeof *scratch->nonpositive);
        if (!scratch->mean_blocks || !scratch->hessian_blocks || !scratch->means ||
            !scratch->hessians || !scratch->mean_out || !scratch->hessian_out ||
            !scratch->nonpositive)
            return ivon_error_memory(error);
    }
    return 0;
}

/* The largest block for which all threads stay within the memory; results do not depend on it. */
static int choose_block(struct run *run, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    size_t memory = merge->options.memory ? merge->options.memory : DEFAULT_MEMORY;
    size_t per_element = (size_t)run->threads * (2 * (merge->model_count + 1) * sizeof(double) +
                                                 merge->scale_count *
                                                     (sizeof(double) + sizeof(float)));
    for (run->block = BLOCK; run->block * per_element > memory; run->block /= 2)
        if (run->block == BLOCK_MIN)
            return ivon_error_set(error, IVON_ERROR_MEMORY,
                                  "this merge needs %.0f MB of memory with %d threads, %.0f MB are "
                                  "allowed: raise --memory, or lower --threads",
                                  ceil((double)(BLOCK_MIN * per_element) / 1e6), run->threads,
                                  floor((double)memory / 1e6));
    return 0;
}

static int report_shortfall(const struct run *run, struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    const struct shortfall *found = &run->shortfall;
    if (found->entry == SIZE_MAX)
        return 0;
    const struct merge_entry *entry = &merge->entries[found->entry];
    char scale[40] = "";
    if (merge->scale_count > 1)
        snprintf(scale, sizeof scale, " at scale %g", merge->scales[found->scale]);
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "tensor '%s': the merged precision%s is not positive for %llu of %zu elements, the worst "
        "%g at element %zu; %s",
        merge->outputs.items[entry->output].name, scale, (unsigned long long)found->count,
        entry->count, found->worst, found->worst_at,
        merge->options.on_nonpositive == IVON_NONPOSITIVE_BASE
            ? "nor is the base's"
        : merge->base ? "--on-nonpositive=base keeps the base's values there"
                      : "with a --base, --on-nonpositive=base keeps the base's values there");
}

/* Adds up what threads and jobs found, in an order that does not depend on the threads. */
static void gather(struct run *run)
{
    struct ivon_merge *merge = run->merge;
    size_t width = merge->model_count + 1;
    for (int t = 0; t < run->threads; t++)
        for (size_t s = 0; s < merge->scale_count; s++)
            merge->nonpositive[s] += run->scratch[t].nonpositive[s];
    merge->buffer_conflict = run->buffer_conflict;
    if (!run->movement)
        return;
    for (size_t s = 0; s < merge->scale_count; s++)
        for (size_t m = 0; m < width; m++) {
            double square = 0;
            for (size_t j = 0; j < merge->job_count; j++)
                square += run->movement[(j * merge->scale_count + s) * width + m];
            merge->movement[s * width + m] = sqrt(square);
        }
}

int ivon_merge_run(struct ivon_merge *merge, struct ivon_sink *const *sinks,
                   struct ivon_error *error)
{
    struct run run = {.merge = merge,
                      .sinks = sinks,
                      .threads = ivon_parallel_threads(merge->options.threads),
                      .shortfall = {.entry = SIZE_MAX},
                      .failed_entry = SIZE_MAX,
                      .buffer_conflict_entry = SIZE_MAX};
    pthread_mutex_init(&run.lock, NULL);
    meter_init(&run.meter, &merge->options.progress, merge->input_bytes);
    int code = choose_block(&run, error);
    if (!code)
        code = make_scratch(&run, error);
    if (!code && merge->options.movement) {
        run.movement = calloc(merge->job_count * merge->scale_count + 1,
                              (merge->model_count + 1) * sizeof *run.movement);
        code = run.movement ? 0 : ivon_error_memory(error);
    }
    if (!code)
        code = ivon_parallel_run(run.threads, merge->job_count, run_job, &run, error);
    /* A later tensor's failure must not hide an earlier one's shortfall. Its count is complete:
       every job before the one that failed had been started. */
    if (!code || (code == IVON_ERROR_DATA && run.shortfall.entry < run.failed_entry))
        code = report_shortfall(&run, error);
    if (!code)
        gather(&run);
    release_scratch(&run);
    free(run.headers);
    free(run.movement);
    meter_release(&run.meter);
    pthread_mutex_destroy(&run.lock);
    return code;
}

uint64_t ivon_merge_nonpositive_count(const struct ivon_merge *merge, size_t scale)
{
    return merge->nonpositive[scale];
}

const char *ivon_merge_buffer_conflict(const struct ivon_merge *merge)
{
    return merge->buffer_conflict;
}

double ivon_merge_movement(const struct ivon_merge *merge, size_t model, size_t scale,
                           double *total)
{
    const double *norms = merge->movement + scale * (merge->model_count + 1);
    if (total)
        *total = norms[merge->model_count];
    return norms[model];
}
