#include "bayes/merge/methods.h"

static const char no_change[] = "scaling the weights does not change an average";

static const struct merge_method methods[] = {
    [IVON_MERGE_GRADIENT_MATCHING] = {.traits = {.name = "gradient-matching", .models = 1},
                                      .title = "gradient matching",
                                      .base = MERGE_BASE_ORIGIN,
                                      .hessians = MERGE_HESSIANS_ALWAYS,
                                      .precise = true},
    [IVON_MERGE_HESSIAN] = {.traits = {.name = "hessian", .models = 1},
                            .title = "averaging by Hessians",
                            .fixed = no_change,
                            .hessians = MERGE_HESSIANS_ALWAYS,
                            .precise = true},
    [IVON_MERGE_TASK_ARITHMETIC] = {.traits = {.name = "task-arithmetic", .models = 1},
                                    .title = "task arithmetic",
                                    .base = MERGE_BASE_ORIGIN,
                                    .hessians = MERGE_HESSIANS_WHERE_COMPLETE},
    [IVON_MERGE_AVERAGE] = {.traits = {.name = "average", .models = 1},
                            .title = "averaging",
                            .fixed = no_change,
                            .hessians = MERGE_HESSIANS_WHERE_COMPLETE,
                            .normalized = true},
    [IVON_MERGE_REGMEAN] = {.traits = {.name = "regmean", .models = 1, .shrink = true},
                            .title = "RegMean",
                            .fixed = no_change,
                            .hessians = MERGE_HESSIANS_NEVER,
                            .normalized = true,
                            .grams = true},
    [IVON_MERGE_TIES] = {.traits = {.name = "ties", .models = 1, .density = true},
                         .title = "TIES merging",
                         .base = MERGE_BASE_ORIGIN,
                         .hessians = MERGE_HESSIANS_NEVER,
                         .mask = MERGE_MASK_SMALLEST,
                         .elects = true},
    [IVON_MERGE_DARE] = {.traits = {.name = "dare", .models = 1, .density = true, .seed = true},
                         .title = "DARE",
                         .base = MERGE_BASE_ORIGIN,
                         .hessians = MERGE_HESSIANS_NEVER,
                         .mask = MERGE_MASK_RANDOM},
    [IVON_MERGE_DARE_TIES] =
        {.traits = {.name = "dare-ties", .models = 1, .density = true, .seed = true},
         .title = "DARE",
         .base = MERGE_BASE_ORIGIN,
         .hessians = MERGE_HESSIANS_NEVER,
         .mask = MERGE_MASK_RANDOM,
         .elects = true},
    [IVON_MERGE_SLERP] = {.traits = {.name = "slerp", .models = 1},
                          .title = "spherical interpolation",
                          .fixed = no_change,
                          .base = MERGE_BASE_VECTOR,
                          .hessians = MERGE_HESSIANS_NEVER,
                          .find = merge_find_slerp},
    [IVON_MERGE_MODEL_STOCK] = {.traits = {.name = "model-stock", .models = 2},
                                .title = "model stock",
                                .fixed = "model stock finds its own scale",
                                .base = MERGE_BASE_ORIGIN,
                                .hessians = MERGE_HESSIANS_NEVER,
                                .unweighted = true,
                                .displacements = true,
                                .find = merge_find_model_stock},
    [IVON_MERGE_BREADCRUMBS] =
        {.traits = {.name = "breadcrumbs", .models = 1, .density = true, .outliers = true},
         .title = "merging by breadcrumbs",
         .base = MERGE_BASE_ORIGIN,
         .hessians = MERGE_HESSIANS_NEVER,
         .mask = MERGE_MASK_EXTREMES},
    [IVON_MERGE_PASSTHROUGH] = {.traits = {.name = "passthrough", .models = 1},
                                .title = "passing through",
                                .fixed = "tensors that are passed through are not scaled",
                                .hessians = MERGE_HESSIANS_COPIED,
                                .copies = true},
};

const struct merge_method *merge_find_method(enum ivon_merge_method method)
{
    return (size_t)method < sizeof methods / sizeof methods[0] ? &methods[method] : NULL;
}

const struct ivon_merge_method_traits *ivon_merge_method_traits(enum ivon_merge_method method)
{
    const struct merge_method *row = merge_find_method(method);
    return row ? &row->traits : NULL;
}
