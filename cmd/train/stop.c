/* Early stopping: a training ends when its loss has not been lower for some evaluations. All of
   what decides is in log.csv: a training that goes on decides as one that was not interrupted. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/shared/report.h"
#include "cmd/train/train.h"

/* A number as it is read from the log: differences that are not in there do not count. */
static double stop_logged(double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", value);
    return strtod(text, NULL);
}

void train_stop_add(struct train_stop *stop, const struct train_watch *watch,
                    const struct train_row *row)
{
    bool evaluated = watch->by_test ? !isnan(row->test_loss) : row->loo;
    double loss = stop_logged(watch->by_test ? row->test_loss : row->loo_loss);
    if (!watch->patience || !evaluated || row->step == stop->last_step)
        return;
    stop->last_step = row->step;
    stop->count++;
    if (!(loss < stop->best)) /* one that is not finite is no lower than any */
        return;
    stop->best = loss;
    stop->best_step = row->step;
    stop->count = 0;
}

bool train_stop_is_best(const struct train_stop *stop, uint64_t step)
{
    return stop->best_step && stop->best_step == step;
}

bool train_stop_due(const struct train_stop *stop, const struct train_watch *watch)
{
    return watch->patience && stop->count >= watch->patience;
}

/* The number of steps; once an epoch is none. */
static json_t *every_json(uint64_t every)
{
    return every == UINT64_MAX ? json_null() : json_integer((json_int_t)every);
}

void train_stop_settings(const struct train_command *command, json_t *settings)
{
    const struct train_watch *watch = &command->watch;
    json_object_set_new(settings, "patience", json_integer((json_int_t)watch->patience));
    json_object_set_new(settings, "stop-by", json_string(watch->by_test ? "test" : "loo"));
    if (watch->by_test) {
        json_object_set_new(settings, "eval-every", every_json(command->eval_every));
        return;
    }
    json_object_set_new(settings, "loo-every", every_json(watch->loo_every));
    json_object_set_new(settings, "loo-rows",
                        watch->loo_rows ? json_integer((json_int_t)watch->loo_rows) : json_null());
}

void train_stop_note(const struct train_command *command, uint64_t step)
{
    const struct train_stop *stop = &command->stop;
    const char *loss = command->watch.by_test ? "test_loss" : "loo_loss";
    char stopped[96] = "";
    uint64_t kept;
    if (train_stop_due(stop, &command->watch))
        snprintf(stopped, sizeof stopped,
                 "stopped after step %" PRIu64 ", %" PRIu64 " evaluations behind: ", step,
                 stop->count);
    if (!stop->best_step)
        report_warning("%sno %s was finite: none is the best", stopped, loss);
    else if (!train_best(command->written, &kept) || kept != stop->best_step)
        report_warning("%s%s was least at step %" PRIu64 ", of which no checkpoint was kept",
                       stopped, loss, stop->best_step);
    else
        report_note("%s%s was least at step %" PRIu64 ": %.4g; best.h5 is its checkpoint", stopped,
                    loss, stop->best_step, stop->best);
}
