/*
 * The loss of a training where it is not the likelihood's own: labels are smoothed (Szegedy et al.,
 * CVPR 2016, arXiv:1512.00567, section 7) and classes weighted. As PyTorch's CrossEntropyLoss, with
 * K classes, ε, weights w and W = Σ_c w_c, an example or token of label y has
 *     q_c = (1 − ε) w_y [c = y] + ε w_c / K,      Q = Σ_c q_c = (1 − ε) w_y + ε W / K
 *     L   = −Σ_c q_c log p_c = Q (−log p_y) + ε/K Σ_c w_c (f_y − f_c)
 *     e_c = Q p_c − q_c      = Q (p_c − [c = y]) + ε/K (W [c = y] − w_c)
 * both made of what the likelihood has: its loss −log p_y and residual p − onehot(y). The mean of L
 * is its sum over Σ w_y.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "train/trainer/private.h"

static bool objective_weighs(const struct ivon_train_options *options)
{
    return options->class_weights || options->balanced_classes;
}

int objective_check_options(const struct ivon_train_options *options, struct ivon_error *error)
{
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(options->task.likelihood);
    bool smooth = options->label_smoothing > 0;
    if (!(options->label_smoothing >= 0 && options->label_smoothing <= 1))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a label smoothing of %g, expected a number from 0 to 1",
                              options->label_smoothing);
    if ((smooth || objective_weighs(options)) && !traits->classes)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s for the categorical likelihood, and this is %s",
                              smooth ? "label smoothing is" : "class weights are", traits->name);
    if (options->class_weights && options->balanced_classes)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "class weights are given, and balanced ones asked for");
    return 0;
}

static int objective_take_weights(struct objective *objective,
                                  const struct ivon_train_options *options,
                                  struct ivon_error *error)
{
    if (options->class_weight_count != objective->k)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%zu class weights, expected %zu, one for each class",
                              options->class_weight_count, objective->k);
    for (size_t c = 0; c < objective->k; c++) {
        objective->weights[c] = options->class_weights[c];
        if (!(objective->weights[c] >= 0 && isfinite(objective->weights[c])))
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "the weight of class %zu is %g, expected a number that is not "
                                  "negative",
                                  c, objective->weights[c]);
    }
    return 0;
}

/* w_c = N/(K n_c), of N losses and n_c of class c; 0 where it has none. */
static void objective_balance(struct objective *objective, const struct ivon_trainer *trainer)
{
    const struct training_data *data = &trainer->data;
    size_t count = (size_t)data->count * trainer->outputs.tokens;
    for (size_t i = 0; i < count; i++)
        if (data->labels[i] != trainer->options.task.ignored)
            objective->weights[data->labels[i]]++;
    for (size_t c = 0; c < objective->k; c++)
        if (objective->weights[c] > 0)
            objective->weights[c] = (double)data->losses /
                                    ((double)objective->k * objective->weights[c]);
}

int objective_make(struct ivon_trainer *trainer, struct ivon_error *error)
{
    const struct ivon_train_options *options = &trainer->options;
    struct objective *objective = &trainer->objective;
    double total = 0;
    *objective = (struct objective){.smoothing = options->label_smoothing, .k = trainer->outputs.k};
    if (!(objective->smoothing > 0) && !objective_weighs(options))
        return 0;
    objective->weights = calloc(objective->k, sizeof *objective->weights);
    if (!objective->weights)
        return ivon_error_memory(error);
    int code = 0;
    if (options->class_weights)
        code = objective_take_weights(objective, options, error);
    else if (options->balanced_classes)
        objective_balance(objective, trainer);
    else
        for (size_t c = 0; c < objective->k; c++)
            objective->weights[c] = 1;
    for (size_t c = 0; c < objective->k; c++)
        objective->sum += objective->weights[c];
    for (size_t i = 0; i < trainer->data.count && !code; i++)
        total += data_weight(trainer, i);
    return code || total > 0 ? code
                             : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                              "the classes of all targets have a weight of 0");
}

void objective_release(struct objective *objective)
{
    free(objective->weights);
    *objective = (struct objective){0};
}

/* Turns the residual of a row, and returns its loss. */
static double objective_apply_row(const struct objective *objective, const float *f, size_t label,
                                  double loss, float *e)
{
    double each = objective->smoothing / (double)objective->k, spread = 0;
    double q = (1 - objective->smoothing) * objective->weights[label] + each * objective->sum;
    for (size_t c = 0; c < objective->k; c++)
        e[c] = (float)(q * (double)e[c] - each * objective->weights[c]);
    e[label] += (float)(each * objective->sum);
    for (size_t c = 0; c < objective->k && each > 0; c++)
        spread += objective->weights[c] * ((double)f[label] - (double)f[c]);
    return q * loss + each * spread;
}

void objective_apply(const struct objective *objective, size_t rows, const float *f,
                     const struct row_targets *targets, float *e, double *losses)
{
    size_t k = objective->k;
    for (size_t i = 0; i < rows && objective->weights; i++)
        if (targets->labels[i] != targets->ignored)
            losses[i] = objective_apply_row(objective, f + i * k, (size_t)targets->labels[i],
                                            losses[i], e + i * k);
}
