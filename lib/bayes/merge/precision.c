/* The precision of a merge's result: its Hessians, ess and weight decay. */
#include <float.h>
#include <math.h>

#include "bayes/merge/private.h"
#include "core/error.h"

bool merge_base_precision_known(const struct ivon_merge *merge)
{
    return !isnan(merge->options.delta0) ||
           (merge->options.base_scale == 0 &&
            merge->options.on_nonpositive == IVON_NONPOSITIVE_ERROR);
}

static bool has_hessians(const struct ivon_source *source)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        if (ivon_source_tensor(source, i)->part == IVON_HESSIAN)
            return true;
    return false;
}

/* Returns whether a source has Hessians, and one for every selected mean, with its ess and, if
   asked for, its weight decay. */
static bool has_precision(const struct ivon_merge *merge, size_t input, bool with_weight_decay)
{
    struct ivon_source *source = input ? merge->models[input - 1].source : merge->base;
    const struct ivon_merge_options *options = &merge->options;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(source, i);
        if (mean->part != IVON_MEAN ||
            (options->selected && !options->selected(options->selected_context, mean->name)))
            continue;
        const struct merge_input tensors = {(ptrdiff_t)i,
                                            ivon_source_find(source, IVON_HESSIAN, mean->name)};
        const struct ivon_tensor *hessian = merge_hessian_of(merge, input, &tensors);
        if (!hessian || isnan(hessian->ess) || (with_weight_decay && isnan(hessian->weight_decay)))
            return false;
    }
    return has_hessians(source);
}

/* Average and task arithmetic write Hessians when every input that gives precision has them. */
static bool can_write_hessians(const struct ivon_merge *merge)
{
    bool writable = !merge->base_in_formula || merge_base_precision_known(merge) ||
                    has_precision(merge, 0, true);
    for (size_t t = 0; t < merge->model_count && writable; t++)
        writable = has_precision(merge, t + 1, !merge->base_in_formula);
    return writable;
}

/* The first given model whose ess and weight decay are those of the header of what is passed. */
static const struct ivon_source *precision_passed_header(const struct ivon_merge *merge)
{
    const struct merge_model *first = NULL;
    for (size_t t = 0; t < merge->model_count; t++) {
        const struct merge_model *model = &merge->models[t];
        if ((!first || model->caller_index < first->caller_index) && has_hessians(model->source))
            first = model;
    }
    return first ? first->source : NULL;
}

/* Returns whether every tensor that is passed through has a Hessian, with its ess and weight decay.
   A low-rank correction is no matter of single tensors, and leaves the means alone. */
static bool precision_is_passed(const struct ivon_merge *merge)
{
    const struct ivon_merge_options *options = &merge->options;
    if (merge_has_correction(merge))
        return false;
    for (size_t t = 0; t < merge->model_count; t++) {
        const struct ivon_source *source = merge->models[t].source;
        for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
            const struct ivon_tensor *mean = ivon_source_tensor(source, i);
            double weight;
            if (mean->part != IVON_MEAN ||
                (options->selected && !options->selected(options->selected_context, mean->name)) ||
                merge_find_weight(merge, t, mean->name, &weight, NULL) || weight == 0)
                continue;
            const struct merge_input tensors = {(ptrdiff_t)i,
                                                ivon_source_find(source, IVON_HESSIAN, mean->name)};
            const struct ivon_tensor *hessian = merge_hessian_of(merge, t + 1, &tensors);
            if (!hessian || isnan(hessian->ess) || isnan(hessian->weight_decay))
                return false;
        }
    }
    return precision_passed_header(merge) != NULL;
}

bool merge_has_precision(const struct ivon_merge *merge)
{
    if (merge->method->hessians == MERGE_HESSIANS_ALWAYS)
        return true;
    if (merge_is_of_means(merge))
        return false;
    switch (merge->method->hessians) {
    case MERGE_HESSIANS_WHERE_COMPLETE:
        return can_write_hessians(merge);
    case MERGE_HESSIANS_COPIED:
        return precision_is_passed(merge);
    default:
        return false;
    }
}

/* λδ of a result: the part of the prior that remains. */
static double prior_precision(const struct ivon_merge *merge, const struct merge_result *result)
{
    const struct ivon_merge_options *options = &merge->options;
    if (!merge->base_in_formula) {
        double sum = 0;
        for (size_t t = 0; t < merge->model_count; t++)
            sum += merge_weight(merge, NULL, result, t) * posterior_ess(merge->models[t].source) *
                   posterior_weight_decay(merge->models[t].source);
        return sum > 0 ? sum : 0;
    }
    if (options->base_scale == 0)
        return 0;
    if (has_hessians(merge->base))
        return options->base_scale * posterior_ess(merge->base) *
               posterior_weight_decay(merge->base);
    return options->base_scale * options->delta0;
}

/* The weight of the summed factors, where all models have an ess: results of RegMean merge again as
   their models would. */
static double regmean_header_ess(const struct ivon_merge *merge, const struct merge_result *result)
{
    double sum = 0;
    for (size_t t = 0; t < merge->model_count; t++)
        sum += merge_weight(merge, NULL, result, t) * posterior_ess(merge->models[t].source);
    return sum > 0 && isfinite(sum) ? sum : NAN;
}

struct ivon_header merge_whole_header(const struct ivon_merge *merge, size_t index)
{
    const struct merge_result *result = &merge->results[index];
    struct ivon_header header = ivon_header_empty();
    if (merge->method->grams)
        header.ess = regmean_header_ess(merge, result);
    if (!merge->with_hessian)
        return header;
    if (merge->method->copies) {
        const struct ivon_source *source = precision_passed_header(merge);
        header.ess = posterior_ess(source);
        header.weight_decay = posterior_weight_decay(source);
        return header;
    }
    double base_ess = merge->base && has_hessians(merge->base) ? posterior_ess(merge->base) : NAN;
    header.ess = !isnan(merge->options.ess) ? merge->options.ess : base_ess;
    if (isnan(header.ess)) {
        header.ess = 0;
        for (size_t t = 0; t < merge->model_count; t++)
            header.ess += fabs(result->scale * merge_weight(merge, NULL, result, t)) *
                          posterior_ess(merge->models[t].source);
    }
    header.weight_decay = prior_precision(merge, result) / header.ess;
    return header;
}

struct ivon_header ivon_merge_header(const struct ivon_merge *merge, size_t index)
{
    return merge_is_of_means(merge) ? ivon_header_empty() : merge_whole_header(merge, index);
}

int merge_check_precision(const struct ivon_merge *merge, struct ivon_error *error)
{
    for (size_t s = 0; s < merge->result_count; s++) {
        struct ivon_header header = merge_whole_header(merge, s);
        if (merge->with_hessian && (!(header.ess > 0) || isinf(header.ess)))
            return ivon_error_hint(
                error, IVON_HINT_RESULT_ESS,
                ivon_error_set(error, IVON_ERROR_DATA,
                               "the result's ess would be %g, expected a positive number",
                               header.ess));
        if (merge->with_hessian && !(header.weight_decay >= 0 && header.weight_decay <= FLT_MAX))
            return ivon_error_set(
                error, IVON_ERROR_DATA,
                "the result's weight_decay would be %g, expected zero or more%s",
                header.weight_decay,
                isnan(header.weight_decay) ? " (an input has no attribute 'weight_decay')" : "");
    }
    return 0;
}
