/* The weights of single tensors, as the arguments or a recipe give them to the merge. */
#include <math.h>
#include <stdlib.h>

#include "cmd/merge/merge.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

static double weight_of_model(const struct merge_command *command, size_t model, const char *name)
{
    struct merge_model *of = &command->models[model];
    return weight_rules_find(&of->rules, &command->layers, name, of->weight);
}

static int compare_numbers(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The sum of the models' weights, whose bits do not depend on their order. */
static double sum_of_weights(const struct merge_command *command, const char *name)
{
    double *weights = xcalloc(command->model_count, sizeof *weights), sum = 0;
    for (size_t t = 0; t < command->model_count; t++)
        weights[t] = weight_of_model(command, t, name);
    qsort(weights, command->model_count, sizeof *weights, compare_numbers);
    for (size_t t = 0; t < command->model_count; t++)
        sum += weights[t];
    free(weights);
    return sum;
}

double merge_weight_of(void *context, size_t model, const char *name)
{
    struct merge_command *command = context;
    double weight = weight_of_model(command, model, name);
    if (!command->divide)
        return weight;
    double sum = sum_of_weights(command, name);
    return fabs(sum) < 1e-8 ? weight : weight / sum; /* as mergekit does */
}

int merge_settle_weights(struct merge_command *command, struct ivon_error *error)
{
    bool single = command->divide;
    for (size_t t = 0; t < command->model_count; t++)
        single |= command->models[t].rules.count > 0;
    if (!single)
        return 0;
    if (command->base)
        weight_layers_add(&command->layers, command->base);
    for (size_t t = 0; t < command->model_count; t++)
        weight_layers_add(&command->layers, command->sources[t].source);
    weight_layers_count(&command->layers);
    if (command->recipe_layers && command->recipe_layers != command->layers.most)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: slices have layers 0 to %lld, the models have %lld layers: none is "
                          "left out",
                          command->recipe, (long long)command->recipe_layers - 1,
                          (long long)command->layers.most);
    command->options.weight = merge_weight_of;
    command->options.weight_context = command;
    return 0;
}

int merge_check_weights(const struct merge_command *command, struct ivon_error *error)
{
    size_t count;
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(command->merge, &count);
    for (size_t i = 0; i < count; i++) {
        double sum = tensors[i].fate == IVON_MERGED ? sum_of_weights(command, tensors[i].name) : 1;
        if (fabs(sum - 1) > 1e-6)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: normalize: false, and the weights of tensor '%s' add up to %g, "
                              "expected 1",
                              command->recipe, tensors[i].name, sum);
    }
    return 0;
}
