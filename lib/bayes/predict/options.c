/* The options of a predictor, and what follows from them alone. */
#include <math.h>

#include "bayes/predict/private.h"
#include "bayes/sample_private.h"
#include "core/options.h"

static const struct options_kind predict_options = {
    .defaults = "ivon_predict_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_predict_options, resources.reserved),
                 OPTIONS_RESERVED(struct ivon_predict_options, task.reserved)}};

void ivon_predict_options_init(struct ivon_predict_options *options, size_t size)
{
    const struct ivon_predict_options defaults = {
        .size = sizeof defaults,
        .task = {.likelihood = IVON_CATEGORICAL, .noise_std = NAN, .ignored = INT64_MIN},
        .samples = 64,
        .sample = ivon_sample_defaults(),
        .metrics = true,
        .descriptions = true};
    options_init(options, size, &defaults);
}

int predict_options_read(struct ivon_predict_options *options,
                         const struct ivon_predict_options *given, struct ivon_error *error)
{
    *options = ivon_predict_defaults();
    int code = options_read(&predict_options, options, given, error);
    return code ? code : sample_check_embedded(&options->sample, error);
}

bool predict_options_know_noise(const struct ivon_predict_options *options)
{
    const struct likelihood likelihood = {options->task.likelihood, 1, options->task.noise_std};
    return likelihood_is_known(&likelihood);
}

bool predict_options_have_density(const struct ivon_predict_options *options)
{
    const struct likelihood_kind *kind = likelihood_kind_of(options->task.likelihood);
    bool closed = options->method == IVON_PREDICT_LINEAR && kind->traits.regression;
    return predict_options_know_noise(options) && (!closed || kind->normal_density);
}

bool predict_options_vary(const struct ivon_predict_options *options, size_t members)
{
    if (options->method == IVON_PREDICT_LINEAR)
        return false;
    return members > 1 || (options->samples > 1 && options->sample.temperature > 0);
}

bool ivon_predict_varies(const struct ivon_predict_options *given, size_t members)
{
    struct ivon_predict_options options;
    return !predict_options_read(&options, given, NULL) && predict_options_vary(&options, members);
}
