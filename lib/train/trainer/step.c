/* The steps of a training, and the errors of a training that diverges. */
#include <inttypes.h>
#include <math.h>

#include "core/error.h"
#include "train/trainer/private.h"

static const char *remedy(const struct ivon_trainer *trainer)
{
    return trainer_averages_hessian(trainer)
               ? "lower the learning rate, raise the initial Hessian, or set a clip radius"
               : "lower the learning rate, or clip the gradient's norm";
}

static int diverged(const struct ivon_trainer *trainer, double loss, struct ivon_error *error)
{
    uint64_t step = optimizer_steps(trainer->optimizer) + 1;
    loss = isnan(loss) ? fabs(loss) : loss; /* of no sign, which printf would show */
    if (isnan(trainer->loss))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "step %" PRIu64 ": the loss is %g, and was never finite: %s", step,
                              loss, remedy(trainer));
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "step %" PRIu64 ": the loss is %g after %g, the training diverged: %s",
                          step, loss, trainer->loss, remedy(trainer));
}

static int spoilt(const struct ivon_trainer *trainer, const struct optimizer_report *report,
                  struct ivon_error *error)
{
    return ivon_error_set(
        error, IVON_ERROR_DATA,
        "step %" PRIu64 ": tensor '%s' is the first of which %s, at %zu elements "
        "in all, the training diverged: %s",
        optimizer_steps(trainer->optimizer), trainer_parameter(trainer, report->tensor)->name,
        report->bad_gradients ? "the gradient is not finite" : "new values are not finite",
        report->bad_gradients + report->overflows, remedy(trainer));
}

void ivon_trainer_scale_rate(struct ivon_trainer *trainer, double scale)
{
    trainer->rate_scale = scale;
}

static int take_gradient(struct ivon_trainer *trainer, double factor, bool draw,
                         struct optimizer_report *report, struct ivon_error *error)
{
    const float *const *gradients = (const float *const *)trainer->gradient.arrays;
    const float *const *products = (const float *const *)trainer->products.arrays;
    return products ? optimizer_step_lanes(trainer->optimizer, gradients, products, factor, report,
                                           error)
                    : optimizer_step(trainer->optimizer, gradients, factor, draw, report, error);
}

int ivon_trainer_step(struct ivon_trainer *trainer, struct ivon_error *error)
{
    const struct ivon_train_options *options = &trainer->options;
    uint64_t step = optimizer_steps(trainer->optimizer);
    double factor = schedule_factor(&trainer->schedule, step) * trainer->rate_scale, sum = 0;
    struct optimizer_report report = {.updated = false};
    double weight = data_choose(trainer);
    trainer->scale = weight > 0 ? 1 / weight : 0;
    for (unsigned sample = 0; sample < options->samples; sample++) {
        double loss;
        trainer->begun = sample > 0;
        trainer->sample = sample;
        bool draw = sample + 1 < options->samples || step + 1 < options->steps;
        int code = lanes_gradient(trainer, &loss, error);
        if (code)
            return code;
        if (!isfinite(loss))
            return diverged(trainer, loss, error);
        if (sample + 1 == options->samples)
            code = prior_pull(trainer, error);
        if (code)
            return code;
        code = take_gradient(trainer, factor, draw, &report, error);
        if (code)
            return code;
        sum += loss;
    }
    if (report.bad_gradients || report.overflows)
        return spoilt(trainer, &report, error);
    trainer->loss = sum / options->samples;
    trainer->rate = factor * options->rate;
    int code = average_add(trainer, error);
    return code ? code : trainer_ranks_compare(trainer, error);
}
