/* The inputs of one tile, as doubles. */
#include <math.h>

#include "bayes/merge/run.h"

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
