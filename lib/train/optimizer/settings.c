#include <float.h>
#include <math.h>

#include "core/error.h"
#include "train/optimizer/private.h"

struct optimizer_group optimizer_group_defaults(enum optimizer_method method)
{
    static const struct optimizer_group defaults[] = {[OPTIMIZER_IVON] = {.rate = NAN,
                                                                          .weight_decay = 1e-4,
                                                                          .beta1 = 0.9,
                                                                          .beta2 = 0.99999,
                                                                          .debias = true,
                                                                          .ess = NAN,
                                                                          .hessian_init = 1,
                                                                          .rescale = true,
                                                                          .clip = INFINITY},
                                                      [OPTIMIZER_ADAMW] = {.rate = NAN,
                                                                           .weight_decay = 1e-2,
                                                                           .beta1 = 0.9,
                                                                           .beta2 = 0.999,
                                                                           .debias = true,
                                                                           .epsilon = 1e-8},
                                                      [OPTIMIZER_SGD] = {.rate = NAN, .beta1 = 0.9},
                                                      [OPTIMIZER_BACKPROP] = {.rate = NAN,
                                                                              .weight_decay = 1e-4,
                                                                              .beta1 = 0.9,
                                                                              .beta2 = 0.999,
                                                                              .debias = true,
                                                                              .ess = NAN,
                                                                              .hessian_init = 1,
                                                                              .epsilon = 1e-8}};
    return defaults[method];
}

int optimizer_check_options(const struct optimizer_options *options, struct ivon_error *error)
{
    bool draws = options->method == OPTIMIZER_IVON || options->method == OPTIMIZER_BACKPROP;
    if (options->samples < 1 || (options->samples > 1 && !draws))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%u Monte-Carlo samples in a step, expected %s", options->samples,
                              options->samples < 1 ? "at least 1"
                                                   : "1 unless the method draws weights");
    if (!(options->norm_clip > 0))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "the gradient's norm is clipped at %g, expected a positive number",
                              options->norm_clip);
    if (!(options->basis_beta >= 0 && options->basis_beta < 1))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "beta3 is %g, expected at least 0 and below 1", options->basis_beta);
    return 0;
}

/* A setting and its range: at least `least` (or above it, if `above`) and below `bound`. */
struct setting {
    const char *name;
    double value, least, bound;
    bool above;
};

static int optimizer_settings_check(const struct setting *settings, size_t count,
                                    const char *tensor, struct ivon_error *error)
{
    for (size_t i = 0; i < count; i++) {
        const struct setting *setting = &settings[i];
        bool enough = setting->above ? setting->value > setting->least
                                     : setting->value >= setting->least;
        if (enough && setting->value < setting->bound)
            continue;
        if (setting->bound < 2)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "tensor '%s': %s is %g, expected at least %g and below %g",
                                  tensor, setting->name, setting->value, setting->least,
                                  setting->bound);
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "tensor '%s': %s is %g, expected a finite number %s %g", tensor,
                              setting->name, setting->value, setting->above ? "above" : "from",
                              setting->least);
    }
    return 0;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

int optimizer_check_group(const struct optimizer_group *group, enum optimizer_method method,
                          const char *tensor, struct ivon_error *error)
{
    const double any = (double)FLT_MAX;
    const struct setting all[] = {
        {"the learning rate", group->rate, 0, any, false},
        {"the weight decay", group->weight_decay, 0, any, false},
        {method == OPTIMIZER_SGD ? "the momentum" : "beta1", group->beta1, 0, 1, false}};
    const struct setting drawn[] = {{"beta2", group->beta2, 0, 1, false},
                                    {"the effective sample size", group->ess, 0, any, true},
                                    {"the initial Hessian", group->hessian_init, 0, any, false},
                                    {"Hessian plus weight decay",
                                     (double)(float)group->hessian_init + group->weight_decay, 0,
                                     any, true}};
    const struct setting clip = {"the clip", group->clip, 0, INFINITY, true};
    const struct setting adamw[] = {{"beta2", group->beta2, 0, 1, false},
                                    {"epsilon", group->epsilon, 0, any, true}};
    int code = optimizer_settings_check(all, COUNT(all), tensor, error);
    if (!code && (method == OPTIMIZER_IVON || method == OPTIMIZER_BACKPROP))
        code = optimizer_settings_check(drawn, COUNT(drawn), tensor, error);
    if (!code && method == OPTIMIZER_IVON && group->clip != INFINITY)
        code = optimizer_settings_check(&clip, 1, tensor, error);
    if (!code && (method == OPTIMIZER_ADAMW || method == OPTIMIZER_BACKPROP))
        code = optimizer_settings_check(adamw, COUNT(adamw), tensor, error);
    return code;
}

int optimizer_check_matrix(const struct optimizer_tensor *tensor, enum optimizer_method method,
                           struct ivon_error *error)
{
    size_t count;
    if (method != OPTIMIZER_SGD && !__builtin_mul_overflow(tensor->rows, tensor->columns, &count) &&
        count == tensor->count)
        return 0;
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "tensor '%s': a basis of %zu rows and %zu columns, expected one of its "
                          "%zu elements, and a method that has bases",
                          tensor->name, tensor->rows, tensor->columns, tensor->count);
}
