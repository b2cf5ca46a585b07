/* Metrics of rows beside those that the predictor averages over: what confidences are worth, how
   good normal distributions are, and groups and classes apart. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/inputs/calibration.h"
#include "cmd/shared/evaluation/groups.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { LEVELS = 3 };

static const double levels[LEVELS] = {0.5, 0.9, 0.95};
static const char *const level_names[LEVELS] = {"coverage_50", "coverage_90", "coverage_95"};

struct predict_further {
    const struct predict_command *command;
    const struct ivon_likelihood_traits *traits;
    size_t outputs, tokens;
    float *confidences, *errors; /* of rows that count */
    size_t count;
    struct ivon_ratio crps, within[LEVELS];
    double bounds[LEVELS];
    struct ivon_group_metrics *groups, *classes; /* null: not asked for */
    uint64_t *predicted, *right;                 /* of each class, where classes are */
    float *deviations;
    size_t capacity;
};

int predict_further_open(struct predict_further **out, const struct predict_command *command,
                         const struct ivon_predict_shape *shape, uint64_t rows,
                         struct ivon_error *error)
{
    struct predict_further *further = calloc(1, sizeof *further);
    if (!further)
        return error_memory(error);
    *out = further;
    enum ivon_likelihood likelihood = command->options.task.likelihood;
    further->command = command;
    further->traits = ivon_likelihood_traits(likelihood);
    /* Of a regression they are its means. */
    further->outputs = calibration_outputs(likelihood, shape->outputs);
    further->tokens = shape->tokens ? (size_t)shape->tokens : 1;
    for (size_t i = 0; i < LEVELS; i++)
        further->bounds[i] = ivon_normal_bound(levels[i]);
    size_t all = further->traits->regression ? 1 : (size_t)rows * further->tokens;
    further->confidences = calloc(all, sizeof *further->confidences);
    further->errors = calloc(all, sizeof *further->errors);
    further->predicted = calloc(shape->outputs, sizeof *further->predicted);
    further->right = calloc(shape->outputs, sizeof *further->right);
    int code = further->confidences && further->errors && further->predicted && further->right
                   ? 0
                   : error_memory(error);
    if (!code && command->groups)
        code = ivon_group_metrics_new(&further->groups, likelihood, further->outputs, error);
    if (!code && command->by_class)
        code = ivon_group_metrics_new(&further->classes, likelihood, shape->outputs, error);
    return code;
}

void predict_further_close(struct predict_further *further)
{
    if (!further)
        return;
    ivon_group_metrics_free(further->groups);
    ivon_group_metrics_free(further->classes);
    free(further->confidences);
    free(further->errors);
    free(further->predicted);
    free(further->right);
    free(further->deviations);
    free(further);
}

/* Rows of probabilities. */

static int further_add_row(struct predict_further *further, const struct ivon_predictions *p,
                           size_t row, struct ivon_error *error)
{
    const struct predict_command *command = further->command;
    int64_t ignored = command->options.task.ignored;
    size_t k = further->outputs, width = further->traits->classes ? 1 : k;
    const int64_t *labels = p->labels + row * width, *prediction = p->prediction + row * width;
    const float *probabilities = p->probabilities + row * k;
    double wrong = 0;
    if (!ivon_target_counts(command->options.task.likelihood, k, labels, ignored))
        return 0;
    for (size_t i = 0; i < width; i++)
        wrong += prediction[i] != labels[i];
    further->confidences[further->count] = p->max_probability[row];
    further->errors[further->count++] = (float)(wrong / (double)width);
    if (further->traits->classes) {
        further->predicted[prediction[0]]++;
        further->right[prediction[0]] += prediction[0] == labels[0];
    }
    int code = 0;
    if (further->groups)
        code = ivon_group_metrics_add(further->groups,
                                      command->group_numbers[p->first + row / further->tokens],
                                      probabilities, labels, ignored, error);
    if (!code && further->classes)
        code = ivon_group_metrics_add(further->classes, labels[0], probabilities, labels, ignored,
                                      error);
    return code;
}

/* Rows of regression. */

static int further_reserve(struct predict_further *further, size_t all, struct ivon_error *error)
{
    if (all <= further->capacity)
        return 0;
    free(further->deviations);
    further->deviations = calloc(all, sizeof *further->deviations);
    further->capacity = further->deviations ? all : 0;
    return further->deviations ? 0 : error_memory(error);
}

/* An example's rows and outputs count as one observation. */
static int further_add_numbers(struct predict_further *further, const struct ivon_predictions *p,
                               size_t example, struct ivon_error *error)
{
    size_t k = further->outputs, first = example * further->tokens * k, all = further->tokens * k;
    double score = 0, within[LEVELS] = {0};
    for (size_t i = first; i < first + all; i++) {
        double mean = (double)p->mean[i], std = (double)further->deviations[i];
        double target = (double)p->targets[i];
        score += ivon_crps_normal(mean, std, target);
        for (size_t l = 0; l < LEVELS; l++)
            within[l] += fabs(target - mean) <= further->bounds[l] * std;
    }
    ivon_ratio_add(&further->crps, score, (double)all);
    for (size_t l = 0; l < LEVELS; l++)
        ivon_ratio_add(&further->within[l], within[l], (double)all);
    int code = 0;
    for (size_t i = first; i < first + all && further->groups && !code; i += k)
        code = ivon_group_metrics_add_regression(
            further->groups, further->command->group_numbers[p->first + example], p->mean + i,
            further->deviations + i, p->targets + i, error);
    return code;
}

int predict_further_add(struct predict_further *further, const struct ivon_predictions *p,
                        struct ivon_error *error)
{
    size_t rows = p->count * further->tokens, all = rows * further->outputs;
    int code = 0;
    if (!further->traits->regression) {
        for (size_t row = 0; row < rows && !code; row++)
            code = further_add_row(further, p, row, error);
        return code;
    }
    code = further_reserve(further, all, error);
    if (!code)
        calibration_deviations(further->deviations, p->epistemic_std, p->aleatoric_std, all);
    for (size_t i = 0; i < p->count && !code; i++)
        code = further_add_numbers(further, p, i, error);
    return code;
}

/* Results. */

static int further_fill_classes(const struct predict_further *further, struct ivon_metric *metrics,
                                size_t *count, struct ivon_error *error)
{
    struct ivon_metric selective[IVON_SELECTIVE_COUNT], line[IVON_CALIBRATION_LINE_COUNT];
    double risk = further->command->risk;
    int code = ivon_selective(selective, further->confidences, further->errors, further->count,
                              risk >= 0 ? risk : 0, error);
    for (size_t i = 0; i < (risk >= 0 ? 3 : 2) && !code; i++)
        metrics[(*count)++] = selective[i];
    if (code || !further->traits->classes)
        return code;
    ivon_calibration_line(line, further->confidences, further->errors, further->count);
    for (size_t i = 0; i < IVON_CALIBRATION_LINE_COUNT && !isnan(line[0].value); i++)
        metrics[(*count)++] = line[i];
    return 0;
}

int predict_further_metrics(const struct predict_further *further,
                            struct ivon_metric metrics[PREDICT_FURTHER_MAX], size_t *count,
                            struct ivon_error *error)
{
    *count = 0;
    if (!further->traits->regression)
        return further_fill_classes(further, metrics, count, error);
    metrics[(*count)++] = ivon_ratio_metric("crps", &further->crps);
    for (size_t l = 0; l < LEVELS; l++)
        metrics[(*count)++] = ivon_ratio_metric(level_names[l], &further->within[l]);
    return 0;
}

/* The share of right ones among the rows that a class was predicted for; a row's error is that of a
   share. */
static struct ivon_metric further_precision(const struct predict_further *further, int64_t class)
{
    double n = (double)further->predicted[class], share = (double)further->right[class] / n;
    return (struct ivon_metric){"precision", share,
                                n > 1 ? sqrt(share * (1 - share) / (n - 1)) : NAN};
}

/* The name of a class, or the number of a group, to be freed. In lines of words it is one word. */
static char *further_name(const struct predict_further *further, int64_t group, bool named,
                          bool word)
{
    const struct name_list *classes = &further->command->evaluation.class_names;
    char *name = named && group >= 0 && (uint64_t)group < classes->count
                     ? xstrdup(classes->names[group])
                     : xasprintf("%lld", (long long)group);
    for (char *at = name; word && (at = strchr(at, ' '));)
        *at = '_';
    return name;
}

static void further_print_group(const struct ivon_group_result *result,
                                const struct ivon_metric *more, const char *kind, const char *name,
                                json_t *json)
{
    const struct ivon_metric rows = {"rows", (double)result->rows, NAN};
    json_t *object = json ? json_object() : NULL;
    char *prefix = xasprintf("%s.%s.", kind, name);
    if (json)
        json_object_set_new(object, rows.name, json_integer((json_int_t)result->rows));
    else
        predict_print_metric(prefix, &rows, NAN);
    for (size_t i = 0; i < result->count + (more ? 1 : 0); i++) {
        const struct ivon_metric *metric = i < result->count ? &result->values[i] : more;
        if (json)
            json_object_set_new(object, metric->name, predict_metric_json(metric, NAN));
        else
            predict_print_metric(prefix, metric, NAN);
    }
    free(prefix);
    if (json)
        json_object_set_new(json, name, object);
}

static void further_print(const struct predict_further *further,
                          const struct ivon_group_metrics *metrics, const char *kind,
                          const char *plural, json_t *json)
{
    json_t *own = json ? json_object() : NULL;
    bool classes = metrics == further->classes;
    const struct predict_command *command = further->command;
    bool named = classes || groups_are_targets(command->groups, &command->evaluation);
    for (size_t i = 0; i < ivon_group_metrics_count(metrics); i++) {
        struct ivon_group_result result = ivon_group_metrics_get(metrics, i);
        struct ivon_metric precision = {0};
        bool any = classes && further->predicted[result.group];
        if (any)
            precision = further_precision(further, result.group);
        if (classes)
            result.values[0].name = "recall";
        char *name = further_name(further, result.group, named, !json);
        further_print_group(&result, any ? &precision : NULL, kind, name, own);
        free(name);
    }
    if (json)
        json_object_set_new(json, plural, own);
}

void predict_further_print(const struct predict_further *further, json_t *json)
{
    if (further->classes)
        further_print(further, further->classes, "class", "classes", json);
    if (further->groups)
        further_print(further, further->groups, "group", "groups", json);
}
