/* The options of a training as its checkpoint records them, and their comparison with those of a
   training that goes on from it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/report.h"
#include "cmd/train/train.h"

static const char *flag(bool value)
{
    return value ? "yes" : "no";
}

/* A number, of which one that is not finite is none: null. */
static json_t *finite_json(double number)
{
    return isfinite(number) ? report_json_number(number) : json_null();
}

/* T_0,T_MULT; null: none. */
static json_t *restarts_json(const struct ivon_train_options *options)
{
    char text[64];
    snprintf(text, sizeof text, "%" PRIu64 ",%" PRIu64, options->restart_every,
             options->restart_growth);
    return options->restart_every ? json_string(text) : json_null();
}

/* SHARE,SEED */
static json_t *held_out_json(const struct train_command *command)
{
    char text[64];
    snprintf(text, sizeof text, "%.9g,%" PRIu64, command->held_out, command->held_out_seed);
    return json_string(text);
}

static json_t *method_settings(const struct ivon_train_options *options, const char *augment)
{
    const struct ivon_method_traits *traits = ivon_method_traits(options->method);
    bool price = options->estimator == IVON_ESTIMATOR_PRICE;
    json_t *settings = json_pack(
        "{s:o, s:o, s:o, s:s, s:I, s:I, s:s, s:I, s:I, s:o}", "lr",
        report_json_number(options->rate), "beta1", report_json_number(options->beta1), "clip-norm",
        finite_json(options->norm_clip), "schedule", ivon_schedule_name(options->schedule),
        "warmup", (json_int_t)options->warmup, "seed", (json_int_t)options->seed, "debias",
        flag(options->debias), "batch", (json_int_t)options->batch, "accumulate",
        (json_int_t)options->accumulate, "augment", report_json_text(augment));
    json_object_set_new(settings, "lanes",
                        options->lanes ? json_integer((json_int_t)options->lanes) : json_null());
    json_object_set_new(settings, "average", report_json_number(options->average));
    json_object_set_new(settings, "dtype", json_string(ivon_dtype_name(options->mean_dtype)));
    json_object_set_new(settings, "restarts", restarts_json(options));
    json_object_set_new(settings, "param-group", param_groups_json(options));
    json_object_set_new(settings, "class-weights", train_class_weights_json(options));
    json_object_set_new(settings, "dropout",
                        isnan(options->dropout) ? json_string("own")
                                                : report_json_number(options->dropout));
    json_object_set_new(settings, "lora", train_lora_json(options));
    json_object_set_new(settings, "lora-alpha", finite_json(options->lora_alpha));
    json_object_set_new(settings, "label-smoothing", report_json_number(options->label_smoothing));
    if (options->method != IVON_METHOD_SGD)
        json_object_set_new(settings, "beta2", report_json_number(options->beta2));
    if (!traits->posterior) /* else it is in the checkpoint, and checked */
        json_object_set_new(settings, "weight-decay", report_json_number(options->weight_decay));
    if (traits->bases) {
        json_object_set_new(settings, "beta3", report_json_number(options->basis_beta));
        json_object_set_new(settings, "basis-every",
                            json_integer((json_int_t)options->basis_every));
        json_object_set_new(settings, "max-factor", json_integer((json_int_t)options->max_factor));
    }
    if (!traits->posterior)
        return settings;
    json_object_set_new(settings, "h0", report_json_number(options->hessian_init));
    json_object_set_new(settings, "mc-samples", json_integer((json_int_t)options->samples));
    json_object_set_new(settings, "antithetic", json_string(flag(options->antithetic)));
    if (options->method == IVON_METHOD_BBB)
        return settings;
    if (options->method == IVON_METHOD_IVON)
        json_object_set_new(settings, "lane-samples", json_string(flag(options->lane_samples)));
    json_object_set_new(settings, "clip-radius", finite_json(options->clip_radius));
    if (options->method == IVON_METHOD_IVON)
        json_object_set_new(settings, "prior-scale", finite_json(options->prior_scale));
    json_object_set_new(settings, "hessian", json_string(price ? "price" : "gradsq"));
    json_object_set_new(settings, "hess-every", json_integer((json_int_t)options->hessian_every));
    json_object_set_new(settings, "rescale-lr", json_string(flag(options->rescale)));
    return settings;
}

json_t *train_settings(const struct train_command *command)
{
    json_t *settings = method_settings(&command->options, command->augment);
    if (command->held_out > 0)
        json_object_set_new(settings, "held-out", held_out_json(command));
    if (command->watch.patience)
        train_stop_settings(command, settings);
    return settings;
}

/* A value as an option has it; null is none. To be freed. */
static char *value_text(const json_t *value)
{
    if (json_is_null(value))
        return strdup("none");
    return json_is_string(value) ? strdup(json_string_value(value))
                                 : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
}

static void add_difference(char *list, size_t size, const char *key, const json_t *before,
                           const json_t *now)
{
    char *was = value_text(before), *is = value_text(now);
    size_t used = strlen(list);
    if (was && is)
        snprintf(list + used, size - used, "%s--%s was %s and is %s", used ? ", " : "", key, was,
                 is);
    free(was);
    free(is);
}

void train_settings_compare(const struct train_command *command, struct ivon_source *resumed)
{
    char list[512] = "";
    const char *key, *text = ivon_source_header(resumed)->provenance;
    json_t *provenance = text ? json_loads(text, 0, NULL) : NULL, *value;
    json_t *settings = train_settings(command), *before = json_object_get(provenance, "training");
    json_object_foreach(settings, key, value)
    {
        const json_t *old = json_object_get(before, key);
        if (old && !json_equal(old, value))
            add_difference(list, sizeof list, key, old, value);
    }
    if (*list)
        report_warning("%s: %s: this goes on, but not as one training would have",
                       ivon_source_path(resumed), list);
    json_decref(settings);
    json_decref(provenance);
}
