/* The arithmetic of a merge on one tile. */
#include <math.h>
#include <string.h>

#include "bayes/merge/run.h"
#include "bayes/transfer.h"
#include "core/error.h"

static void sum_models(const struct ivon_merge *merge, struct merge_scratch *scratch,
                       const struct merge_entry *entry, const struct merge_result *result,
                       size_t offset, size_t count)
{
    static const double zero[MERGE_TILE];
    const double *origin = merge->base_in_formula ? scratch->base_mean : zero;
    memset(&scratch->sums, 0, sizeof scratch->sums);
    for (size_t t = 0; t < merge->model_count; t++) {
        double slope, intercept;
        merge_load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
        merge_accumulate(&scratch->sums, origin, scratch->model_mean,
                         scratch->hessians[t + 1] ? scratch->hessian : NULL,
                         merge_weight(merge, entry, result, t), slope, intercept, count);
    }
}

/* Sums the inputs, each times its coefficient. */
static void tile_combine(const struct ivon_merge *merge, struct merge_scratch *scratch,
                         const struct merge_entry *entry, size_t result, size_t offset,
                         size_t count)
{
    const double *coefficients = scratch->measured->coefficients +
                                 result * (merge->model_count + 1);
    for (size_t i = 0; i < count; i++) {
        scratch->mean[i] = merge->base_in_formula ? coefficients[0] * scratch->base_mean[i] : 0;
        scratch->precision[i] = 0;
    }
    for (size_t t = 0; t < merge->model_count; t++) {
        double slope, intercept;
        merge_load_model(merge, scratch, entry, t, offset, count, &slope, &intercept);
        for (size_t i = 0; i < count; i++)
            scratch->mean[i] += coefficients[t + 1] * scratch->model_mean[i];
    }
}

/* Takes a tile of rows that one input alone has, which is loaded in the base's place. */
static void tile_take(struct merge_scratch *scratch, size_t count)
{
    memcpy(scratch->mean, scratch->base_mean, count * sizeof scratch->mean[0]);
    memcpy(scratch->precision, scratch->base_precision, count * sizeof scratch->precision[0]);
}

/* Computes mean and precision of a tile for one result. */
static void tile_posterior(const struct ivon_merge *merge, struct merge_scratch *scratch,
                           const struct merge_entry *entry, const struct merge_result *result,
                           size_t count)
{
    static const double zero[MERGE_TILE];
    const double *origin = merge->base_in_formula ? scratch->base_mean : zero;
    const double *prior = merge->base_in_formula ? scratch->base_precision : zero;
    const struct merge_method *method = merge->method;
    double scale = result->scale;
    if (method->precise)
        merge_by_precision(scratch->mean, scratch->precision, origin, prior,
                           merge->options.base_scale, &scratch->sums, scale, count);
    else
        merge_linearly(scratch->mean, scratch->precision, origin, prior, merge->options.base_scale,
                       &scratch->sums, scale,
                       method->normalized ? 1 / merge_weight_sum(merge, entry, result) : scale,
                       count);
    bool single_model = merge->model_count == 1 && !method->mask &&
                        (!merge->base_in_formula ||
                         scale * merge_weight(merge, entry, result, 0) == 1);
    if (single_model) /* the only model is copied without rounding */
        memcpy(scratch->mean, scratch->model_mean, count * sizeof scratch->mean[0]);
}

int merge_report_nonfinite(const struct ivon_merge *merge, struct merge_scratch *scratch,
                           const struct merge_entry *entry, size_t first, size_t offset, size_t i,
                           struct ivon_error *error)
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
            enum ivon_dtype dtype = ivon_source_tensor(source, (size_t)tensors[part])->dtype;
            ivon_dtype_to_f64(&value, blocks[part] + (offset + i) * ivon_dtype_size(dtype), dtype,
                              1);
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
                          output->name, first + offset + i, scratch->mean[i], scratch->precision[i],
                          ivon_dtype_name(mean_fits ? IVON_F32 : output->dtype));
}

int merge_tile(struct merge_run *run, struct merge_scratch *scratch, size_t job, size_t first,
               size_t offset, size_t count, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    size_t index = merge->jobs[job].entry;
    const struct merge_entry *entry = &merge->entries[index];
    enum ivon_dtype dtype = merge->outputs.items[entry->output].dtype;
    size_t size = ivon_dtype_size(dtype);
    bool alone = entry->alone >= 0;
    bool precise = entry->output_hessian >= 0;
    (alone ? merge_load_alone : merge_load_base)(merge, scratch, entry, offset, count);
    for (size_t s = 0; s < merge->result_count; s++) {
        const struct merge_result *result = &merge->results[s];
        bool sum = !alone && !merge->method->find && (s == 0 || result->factors); /* scales share */
        if (sum && merge->method->mask)
            merge_sum_masked(merge, scratch, entry, result, first + offset, offset, count);
        else if (sum)
            sum_models(merge, scratch, entry, result, offset, count);
        double ess = run->headers[s].ess;
        double bound = precise ? ess * transfer_overflow_bound(IVON_F32) : INFINITY;
        if (alone)
            tile_take(scratch, count);
        else if (merge->method->find)
            tile_combine(merge, scratch, entry, s, offset, count);
        else
            tile_posterior(merge, scratch, entry, result, count);
        memset(scratch->dropped, 0, sizeof scratch->dropped);
        if (precise && merge_any_not_positive(scratch->precision, count))
            merge_handle_nonpositive(run, scratch, index, s, first + offset, count);
        bool mean_bad = merge_any_not_below(scratch->mean, transfer_overflow_bound(dtype), count);
        bool precision_bad = precise && merge_any_not_below(scratch->precision, bound, count);
        for (size_t i = 0; (mean_bad || precision_bad) && i < count; i++)
            if (!(fabs(scratch->mean[i]) < transfer_overflow_bound(dtype)) ||
                (precise && !(fabs(scratch->precision[i]) < bound)))
                return merge_report_nonfinite(merge, scratch, entry, first, offset, i, error);
        ivon_dtype_from_f64(scratch->mean_out + (s * run->block + offset) * size, dtype,
                            scratch->mean, count);
        if (precise)
            merge_store_hessian(scratch->hessian_out + s * run->block + offset, scratch->precision,
                                ess, run->headers[s].weight_decay, count);
        if (run->movement && !alone)
            merge_add_movement(run, scratch, job, s, offset, count);
    }
    return 0;
}
