/* The plan of a merge, made before any element is read. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/private.h"
#include "core/error.h"
#include "core/options.h"

static const struct options_kind merge_options = {
    .defaults = "ivon_merge_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_merge_options, resources.reserved)}};

void ivon_merge_options_init(struct ivon_merge_options *options, size_t size)
{
    const struct ivon_merge_options defaults = {.size = sizeof defaults,
                                                .method = IVON_MERGE_GRADIENT_MATCHING,
                                                .delta0 = NAN,
                                                .base_scale = 1,
                                                .hessian_scale = 1,
                                                .ess = NAN,
                                                .dtype = IVON_DTYPE_KEEP,
                                                .density = NAN,
                                                .outliers = NAN,
                                                .shrink = 1};
    options_init(options, size, &defaults);
}

static const char *merge_plan_weights_problem(const struct ivon_merge *merge)
{
    bool fixed = merge->method->fixed &&
                 !(merge->method->base == MERGE_BASE_VECTOR && merge->base_in_formula);
    for (size_t i = 0; i < merge->model_count; i++)
        if (!isfinite(merge->models[i].weight))
            return "weights must be finite numbers";
    for (size_t r = 0; r < merge->result_count; r++) {
        const struct merge_result *result = &merge->results[r];
        if (!isfinite(result->scale))
            return "scales must be finite numbers";
        if (fixed && result->scale != 1)
            return merge->method->fixed;
        /* With weights of single tensors the models' own need not fit. */
        const char *problem = merge->options.weight ? NULL
                                                    : merge_weights_problem(merge, NULL, result);
        if (problem)
            return problem;
    }
    return NULL;
}

/* Problems of the method's inputs and of the options that it alone has. */
static const char *merge_plan_method_problem(const struct ivon_merge *merge)
{
    const struct ivon_merge_options *options = &merge->options;
    const struct ivon_merge_method_traits *traits = &merge->method->traits;
    if (merge->model_count < traits->models)
        return "model stock needs two models or more";
    if (merge->method->base == MERGE_BASE_VECTOR && merge->model_count + (merge->base != NULL) != 2)
        return "spherical interpolation is between two models, or a base and one";
    if (!isnan(options->density) && !traits->density)
        return "this method keeps all elements, whatever the density";
    if (!isnan(options->density) && !(options->density > 0 && options->density <= 1))
        return "the density must be above 0 and at most 1";
    if (!isnan(options->outliers) && !traits->outliers)
        return "this method drops no outliers";
    if (!isnan(options->outliers) && !(options->outliers >= 0 && options->outliers < 1))
        return "the share of outliers must be 0 or more, and below 1";
    if (merge->method->copies && !isnan(options->ess))
        return "tensors that are passed through keep their effective sample size";
    if (options->shrink != 1 && !traits->shrink)
        return "this method has no Gram matrices, whose elements could be shrunk";
    if (!(options->shrink >= 0 && options->shrink <= 1))
        return "what multiplies Gram matrices off their diagonals must be from 0 to 1";
    if (merge->method->grams && !isnan(options->ess))
        return "Gram matrices are weighed by the models' own effective sample sizes";
    if (merge->method->hessians == MERGE_HESSIANS_NEVER && options->out_structure &&
        !merge_is_of_means(merge))
        return "this method merges no precisions, whose structure could be kept";
    if (merge->method->hessians == MERGE_HESSIANS_NEVER && !isnan(options->ess))
        return "this method writes means alone, which have no effective sample size";
    if (merge_is_of_means(merge) && !isnan(options->ess))
        return "the result is means alone, which have no effective sample size";
    return NULL;
}

static int merge_plan_check_base(const struct ivon_merge *merge, struct ivon_error *error)
{
    if (!merge->base_in_formula || merge->base)
        return 0;
    return ivon_error_hint(
        error, IVON_HINT_BASE,
        ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s needs a base", merge->method->title));
}

static int merge_plan_check_options(const struct ivon_merge *merge, struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    const char *problem = NULL;
    if (!merge->model_count)
        problem = "there is no model to merge";
    else if (options->scales && options->vectors)
        problem = "weights are scaled or multiplied one by one, not both";
    else if (!merge->base && (options->on_mismatch == IVON_MISMATCH_BASE ||
                              options->on_nonpositive == IVON_NONPOSITIVE_BASE))
        problem = "without a base nothing can be taken from it";
    else if (!(options->base_scale >= 0) || isinf(options->base_scale))
        problem = "the base's scale must be zero or more";
    else if (!(options->hessian_scale >= 0) || isinf(options->hessian_scale))
        problem = "the Hessians' scale must be zero or more";
    else if (!isnan(options->delta0) && !(options->delta0 >= 0 && isfinite(options->delta0)))
        problem = "the base's precision delta0 must be zero or more";
    else if (!isnan(options->ess) && !(options->ess > 0 && isfinite(options->ess)))
        problem = "the effective sample size must be positive";
    else if (options->dtype != IVON_DTYPE_KEEP &&
             (options->dtype < 0 || !ivon_dtype_is_float((enum ivon_dtype)options->dtype)))
        problem = "means are floating-point numbers";
    else
        problem = merge_plan_method_problem(merge);
    if (!problem)
        problem = merge_plan_weights_problem(merge);
    return problem ? ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s", problem) : 0;
}

/* Compares models for an order that does not depend on the caller's list. */
static int compare_models(const void *a, const void *b)
{
    const struct merge_model *left = a, *right = b;
    int order = strcmp(ivon_source_path(left->source), ivon_source_path(right->source));
    return order ? order : (left->weight > right->weight) - (left->weight < right->weight);
}

/* Their factors lie in the plan's order of models. */
static void list_results(struct ivon_merge *merge)
{
    const struct ivon_merge_options *options = &merge->options;
    size_t models = merge->model_count;
    for (size_t r = 0; r < merge->result_count; r++) {
        merge->results[r].scale = options->scales ? options->scales[r] : 1;
        if (!options->vectors)
            continue;
        double *factors = merge->factors + r * models;
        for (size_t t = 0; t < models; t++)
            factors[t] = options->vectors[r * models + merge->models[t].caller_index];
        merge->results[r].factors = factors;
    }
}

static int copy_arguments(struct ivon_merge *merge, const struct ivon_merge_model *models,
                          size_t model_count, struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    merge->result_count = options->scales    ? options->scale_count
                          : options->vectors ? options->vector_count
                                             : 1;
    merge->results = calloc(merge->result_count + 1, sizeof *merge->results);
    merge->factors = calloc((merge->result_count + 1) * (model_count + 1), sizeof *merge->factors);
    merge->models = calloc(model_count + 1, sizeof *merge->models);
    merge->nonpositive = calloc(merge->result_count + 1, sizeof *merge->nonpositive);
    merge->movement = calloc((merge->result_count + 1) * (model_count + 1),
                             sizeof *merge->movement);
    if (!merge->results || !merge->factors || !merge->models || !merge->nonpositive ||
        !merge->movement)
        return ivon_error_memory(error);
    merge->model_count = model_count;
    for (size_t t = 0; t < model_count; t++)
        merge->models[t] = (struct merge_model){models[t].source, models[t].weight, t};
    qsort(merge->models, model_count, sizeof *merge->models, compare_models);
    list_results(merge);
    return 0;
}

static int plan(struct ivon_merge *merge, struct ivon_error *error)
{
    int code = merge->model_count ? merge_plan_check_base(merge, error) : 0;
    if (!code)
        code = merge_plan_check_options(merge, error);
    if (code)
        return code;
    code = merge_structured_read(merge, error);
    if (!code)
        code = merge_refuse_quantized_weights(merge, error);
    if (!code)
        code = merge_refuse_adapters(merge, error);
    if (!code)
        code = merge_find_ties(merge, error);
    if (!code)
        code = merge_refuse_unrelated(merge, error);
    if (code)
        return code;
    merge->with_hessian = merge_has_precision(merge);
    code = merge_plan_tensors(merge, error);
    if (!code)
        code = merge_refuse_empty(merge, error);
    if (!code)
        code = merge_structured_plan(merge, error);
    if (!code)
        code = merge_make_jobs(merge, error);
    if (!code)
        code = merge_check_precision(merge, error);
    return code ? code : merge_means_list(merge, error);
}

static int merge_plan_find_method(struct ivon_merge *merge, struct ivon_error *error)
{
    merge->method = merge_find_method(merge->options.method);
    if (!merge->method)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "there is no method of number %d",
                              (int)merge->options.method);
    merge->base_in_formula = merge->method->base == MERGE_BASE_ORIGIN ||
                             (merge->method->base == MERGE_BASE_VECTOR && merge->base);
    return 0;
}

int ivon_merge_plan(struct ivon_merge **out, struct ivon_source *base,
                    const struct ivon_merge_model *models, size_t model_count,
                    const struct ivon_merge_options *options, struct ivon_error *error)
{
    struct ivon_merge *merge = calloc(1, sizeof *merge);
    if (!merge)
        return ivon_error_memory(error);
    merge->options = ivon_merge_defaults();
    int code = options_read(&merge_options, &merge->options, options, error);
    merge->base = base;
    if (!code)
        code = merge_plan_find_method(merge, error);
    if (!code)
        code = copy_arguments(merge, models, model_count, error);
    if (!code)
        code = plan(merge, error);
    if (code)
        ivon_merge_free(merge);
    else
        *out = merge;
    return code;
}

void ivon_merge_free(struct ivon_merge *merge)
{
    if (!merge)
        return;
    for (size_t e = 0; e < merge->entry_count; e++)
        merge_release_entry(&merge->entries[e]);
    merge_structured_free(merge);
    tensor_list_release(&merge->outputs);
    tensor_list_release(&merge->means);
    free(merge->place_in_means);
    free(merge->tensors);
    free(merge->ties);
    free(merge->rows);
    free(merge->entries);
    free(merge->jobs);
    free(merge->results);
    free(merge->factors);
    free(merge->models);
    free(merge->nonpositive);
    free(merge->movement);
    free(merge);
}

const struct ivon_tensor *ivon_merge_outputs(const struct ivon_merge *merge, size_t *count)
{
    const struct tensor_list *list = merge_is_of_means(merge) ? &merge->means : &merge->outputs;
    *count = list->count;
    return list->items;
}

const struct ivon_merge_tensor *ivon_merge_tensors(const struct ivon_merge *merge, size_t *count)
{
    *count = merge->tensor_count;
    return merge->tensors;
}

uint64_t ivon_merge_input_bytes(const struct ivon_merge *merge)
{
    return merge->input_bytes;
}
