/* The inputs: blocks of them as they lie, and tiles as doubles. */
#include <math.h>

#include "bayes/merge/run.h"
#include "bayes/transfer.h"

static size_t element_size(struct ivon_source *source, ptrdiff_t tensor)
{
    return ivon_dtype_size(ivon_source_tensor(source, (size_t)tensor)->dtype);
}

static enum ivon_dtype load_dtype(struct ivon_source *source, ptrdiff_t tensor)
{
    return ivon_source_tensor(source, (size_t)tensor)->dtype;
}

void merge_load_base(const struct ivon_merge *merge, struct merge_scratch *scratch,
                     const struct merge_entry *entry, size_t offset, size_t count)
{
    if (!merge->base) {
        for (size_t i = 0; i < count; i++)
            scratch->base_mean[i] = scratch->base_precision[i] = 0;
        return;
    }
    ivon_dtype_to_f64(scratch->base_mean,
                      scratch->means[0] + offset * element_size(merge->base, entry->base.mean),
                      load_dtype(merge->base, entry->base.mean), count);
    if (scratch->hessians[0]) {
        const struct ivon_tensor *hessian = ivon_source_tensor(merge->base,
                                                               (size_t)entry->base.hessian);
        ivon_dtype_to_f64(scratch->base_hessian,
                          scratch->hessians[0] + offset * ivon_dtype_size(hessian->dtype),
                          hessian->dtype, count);
        merge_compute_precision(scratch->base_precision, scratch->base_hessian, hessian->ess,
                                hessian->weight_decay, count);
    } else {
        double precision = isnan(merge->options.delta0) ? 0 : merge->options.delta0;
        for (size_t i = 0; i < count; i++)
            scratch->base_precision[i] = precision;
    }
}

void merge_load_alone(const struct ivon_merge *merge, struct merge_scratch *scratch,
                      const struct merge_entry *entry, size_t offset, size_t count)
{
    size_t input = (size_t)entry->alone;
    struct ivon_source *source = merge_source(merge, input);
    const struct merge_input *parts = merge_input_of(entry, input);
    ivon_dtype_to_f64(scratch->base_mean,
                      scratch->means[input] + offset * element_size(source, parts->mean),
                      load_dtype(source, parts->mean), count);
    double delta0 = isnan(merge->options.delta0) ? 0 : merge->options.delta0;
    for (size_t i = 0; i < count && !scratch->hessians[input]; i++)
        scratch->base_precision[i] = delta0;
    if (scratch->hessians[input]) {
        const struct ivon_tensor *hessian = ivon_source_tensor(source, (size_t)parts->hessian);
        ivon_dtype_to_f64(scratch->base_hessian,
                          scratch->hessians[input] + offset * ivon_dtype_size(hessian->dtype),
                          hessian->dtype, count);
        merge_compute_precision(scratch->base_precision, scratch->base_hessian, hessian->ess,
                                hessian->weight_decay, count);
    }
}

void merge_load_model(const struct ivon_merge *merge, struct merge_scratch *scratch,
                      const struct merge_entry *entry, size_t t, size_t offset, size_t count,
                      double *slope, double *intercept)
{
    struct ivon_source *source = merge->models[t].source;
    ptrdiff_t mean = entry->models[t].mean;
    ivon_dtype_to_f64(scratch->model_mean,
                      scratch->means[t + 1] + offset * element_size(source, mean),
                      load_dtype(source, mean), count);
    *slope = *intercept = 0;
    if (!scratch->hessians[t + 1])
        return;
    const struct ivon_tensor *hessian = ivon_source_tensor(source,
                                                           (size_t)entry->models[t].hessian);
    ivon_dtype_to_f64(scratch->hessian,
                      scratch->hessians[t + 1] + offset * ivon_dtype_size(hessian->dtype),
                      hessian->dtype, count);
    *slope = merge->options.hessian_scale * hessian->ess;
    *intercept = merge->base_in_formula ? 0 : hessian->ess * hessian->weight_decay;
}

/* transfer_fetch for a tensor that may be absent. */
static int fetch_optional(struct merge_run *run, struct ivon_source *source, ptrdiff_t tensor,
                          size_t first, size_t count, unsigned char **block,
                          const unsigned char **at, struct ivon_error *error)
{
    *at = NULL;
    if (tensor < 0)
        return 0;
    return transfer_fetch(source, (size_t)tensor, first, count, run->block, block, at, error);
}

int merge_fetch_input(struct merge_run *run, struct merge_scratch *scratch,
                      const struct merge_entry *entry, size_t i, size_t first, size_t count,
                      struct ivon_error *error)
{
    const struct ivon_merge *merge = run->merge;
    struct ivon_source *source = merge_source(merge, i);
    const struct merge_input *input = merge_input_of(entry, i);
    scratch->means[i] = scratch->hessians[i] = NULL;
    if (!merge_reads(merge, entry, i))
        return 0;
    ptrdiff_t hessian = entry->output_hessian >= 0 ? input->hessian : -1;
    int code = fetch_optional(run, source, input->mean, first, count, &scratch->mean_blocks[i],
                              &scratch->means[i], error);
    return code ? code
                : fetch_optional(run, source, hessian, first, count, &scratch->hessian_blocks[i],
                                 &scratch->hessians[i], error);
}
