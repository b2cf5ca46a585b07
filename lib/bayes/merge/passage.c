/* Tensors that are passed through: each is that of the one model with a weight there. */
#include "bayes/merge/private.h"
#include "core/error.h"

/* Finds the only model with a weight for a name in one result. */
static int passage_find_one(const struct ivon_merge *merge, const struct merge_result *result,
                            const char *name, size_t *model, struct ivon_error *error)
{
    size_t none = merge->model_count, found = none;
    for (size_t t = 0; t < merge->model_count; t++) {
        double weight;
        int code = merge_find_weight(merge, t, name, &weight, error);
        if (code)
            return code;
        if (weight == 0 || (result->factors && result->factors[t] == 0))
            continue;
        if (found < none)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "tensor '%s': %s and %s both have a weight, expected one model "
                                  "to take it from",
                                  name, ivon_source_path(merge->models[found].source),
                                  ivon_source_path(merge->models[t].source));
        found = t;
    }
    *model = found;
    return found < none ? 0
                        : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                         "tensor '%s': no model has a weight, expected one to take "
                                         "it from",
                                         name);
}

static int passage_find_model(const struct ivon_merge *merge, const char *name, size_t *model,
                              struct ivon_error *error)
{
    for (size_t r = 0; r < merge->result_count; r++) {
        size_t found = 0;
        int code = passage_find_one(merge, &merge->results[r], name, &found, error);
        if (code)
            return code;
        if (r && found != *model)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "tensor '%s': the results take it from several models, expected "
                                  "one",
                                  name);
        *model = found;
    }
    return 0;
}

int merge_plan_passage(struct ivon_merge *merge, const struct ivon_tensor *mean,
                       struct ivon_error *error)
{
    size_t t = 0;
    int code = passage_find_model(merge, mean->name, &t, error);
    if (code)
        return code;
    struct ivon_source *source = merge->models[t].source;
    struct merge_mismatch mismatch = {.source = source,
                                      .input = {merge_find_mean(merge, source, mean->name), -1},
                                      .reason = "missing",
                                      .reference_path = "another input"};
    if (mismatch.input.mean < 0)
        return merge_plan_mismatch(merge, mean, &mismatch, error);
    struct ivon_tensor passed = *ivon_source_tensor(source, (size_t)mismatch.input.mean);
    mismatch.input.hessian = ivon_source_find(source, IVON_HESSIAN, passed.name);
    const struct ivon_tensor *hessian = merge_hessian_of(merge, t + 1, &mismatch.input);
    /* A block's Hessian is passed with the block. */
    bool in_block = merge_in_block(merge, t + 1, mismatch.input.mean);
    mismatch.reason = "no Hessian";
    if (merge->with_hessian && !hessian)
        return merge_plan_mismatch(merge, mean, &mismatch, error);
    if (merge->with_hessian)
        code = in_block ? posterior_check_scale(source, hessian, true, error)
                        : posterior_check_hessian(source, &passed, hessian, true, error);
    passed.name = mean->name;
    if (!code)
        code = merge_add_fate(merge, &passed, IVON_MERGED, NULL, error);
    if (!code)
        code = merge_plan_copy(merge, source, (size_t)mismatch.input.mean, mean->name, error);
    if (!code && merge->with_hessian && !in_block)
        code = merge_plan_copy(merge, source, (size_t)mismatch.input.hessian, mean->name, error);
    return code;
}
