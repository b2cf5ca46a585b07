#include "bayes/outputs.h"

#include <inttypes.h>
#include <math.h>

#include "core/error.h"
#include "metrics/likelihood/likelihood.h"

/* Sets the extents of the axes that count, and returns their number: beyond three, those of one
   element but the first do not. */
static int outputs_axes(const struct net_tensor *output, int64_t *shape)
{
    int rank = 0;
    for (int i = 0; i < output->rank; i++)
        if (i == 0 || output->rank <= 3 || output->shape[i] != 1)
            shape[rank++] = output->shape[i];
    return rank;
}

static bool outputs_predict_variances(const struct outputs *outputs)
{
    return ivon_likelihood_traits(outputs->likelihood)->variances;
}

int outputs_check(void *context, const char *network, const struct net_tensor *output, size_t tile,
                  struct ivon_error *error)
{
    struct outputs *outputs = context;
    char text[256];
    int64_t shape[IVON_RANK_MAX];
    int rank = outputs_axes(output, shape);
    if (output->type != NET_FLOAT || rank < 1 || rank > 3 || shape[0] != (int64_t)tile ||
        !output->count)
        return ivon_error_hint(
            error, output->type == NET_FLOAT ? IVON_HINT_OUTPUT_AXES : IVON_HINT_OUTPUT,
            ivon_error_set(error, IVON_ERROR_DATA,
                           "%s: output is %s %s for %zu examples, expected float, examples x "
                           "outputs or examples x tokens x outputs",
                           network, net_type_name(output->type), net_shape_text(output, text),
                           tile));
    size_t k = rank == 1 ? 1 : (size_t)shape[rank - 1];
    size_t tokens = rank == 3 ? (size_t)shape[1] : 1;
    if (outputs->tokens && (outputs->k != k || outputs->tokens != tokens))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: output is %s, the first posterior's network has %zu outputs for "
                              "each of %zu rows",
                              network, net_shape_text(output, text), outputs->k, outputs->tokens);
    outputs->k = k;
    outputs->tokens = tokens;
    outputs->token_axis = rank == 3;
    if (outputs_predict_variances(outputs) && k % 2)
        return ivon_error_set(
            error, IVON_ERROR_DATA,
            "%s: %zu outputs, expected an even number: means, and behind them the "
            "logarithm of each one's variance",
            network, k);
    if (ivon_likelihood_traits(outputs->likelihood)->classes && k < 2)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: one output, expected one for each class: is the likelihood "
                              "bernoulli or gaussian?",
                              network);
    return 0;
}

bool outputs_are_probabilities(const struct outputs *outputs, const float *values, size_t rows)
{
    if (!ivon_likelihood_traits(outputs->likelihood)->classes || !rows)
        return false;
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < outputs->k; j++, values++) {
            if (!(*values >= 0 && *values <= 1))
                return false;
            sum += (double)*values;
        }
        if (fabs(sum - 1) > 1e-4) /* of thousands of classes in half precision */
            return false;
    }
    return true;
}

size_t outputs_targets(const struct outputs *outputs)
{
    return outputs->tokens * ivon_likelihood_targets(outputs->likelihood, outputs->k);
}

int outputs_find_targets(const struct ivon_examples *examples, const char *targets, size_t *field,
                         struct ivon_error *error)
{
    ptrdiff_t found = targets ? ivon_examples_find(examples, targets) : -1;
    if (found < 0)
        return ivon_error_hint(error, IVON_HINT_TARGETS,
                               ivon_error_set(error, IVON_ERROR_DATA,
                                              "%s: has no targets, which losses need",
                                              ivon_examples_path(examples)));
    *field = (size_t)found;
    return 0;
}

int outputs_check_targets(const struct outputs *outputs, const struct ivon_examples *examples,
                          size_t field_index, struct ivon_error *error)
{
    bool classes = ivon_likelihood_traits(outputs->likelihood)->classes;
    const struct ivon_field *field = ivon_examples_field(examples, field_index);
    const char *path = ivon_examples_path(examples);
    size_t expected = outputs_targets(outputs);
    if (field->count != expected)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: '%s' has %zu numbers for each example, expected %zu%s", path,
                              field->name, field->count, expected,
                              classes ? ": the number of its class"
                              : outputs_predict_variances(outputs)
                                  ? ", one for each output of the first half, the means"
                                  : ", one for each output");
    return 0;
}

static int outputs_read_numbers(const struct outputs *outputs, struct ivon_examples *examples,
                                size_t field, uint64_t first, size_t count, float *numbers,
                                struct ivon_error *error)
{
    const struct likelihood_kind *kind = likelihood_kind_of(outputs->likelihood);
    size_t width = outputs_targets(outputs);
    int code = ivon_examples_read_f32(examples, field, first, count, numbers, error);
    for (size_t i = 0; i < count * width && !code && kind->valid; i++)
        if (!kind->valid((double)numbers[i]))
            code = ivon_error_set(
                error, IVON_ERROR_DATA, "%s: row %" PRIu64 ": target %g, expected %s",
                ivon_examples_path(examples), ivon_examples_number(examples, first + i / width),
                (double)numbers[i], kind->valid_text);
    return code;
}

int outputs_read_targets(const struct outputs *outputs, struct ivon_examples *examples,
                         size_t field, uint64_t first, size_t count, int64_t ignored,
                         int64_t *labels, float *numbers, struct ivon_error *error)
{
    const struct row_targets targets = {.labels = labels, .ignored = ignored};
    if (ivon_likelihood_traits(outputs->likelihood)->regression)
        return outputs_read_numbers(outputs, examples, field, first, count, numbers, error);
    int code = targets_read(examples, field, first, count, labels, error);
    return code ? code
                : targets_check(&targets, outputs->likelihood, outputs->k, outputs->tokens,
                                examples, first, count * outputs->tokens, error);
}

int outputs_check_finite(const struct outputs *outputs, const struct ivon_examples *examples,
                         uint64_t first_row, const float *values, size_t rows,
                         struct ivon_error *error)
{
    if (likelihood_is_finite(values, rows * outputs->k))
        return 0;
    for (size_t i = 0; i < rows * outputs->k; i++)
        if (!isfinite(values[i]))
            return ivon_error_set(
                error, IVON_ERROR_DATA,
                "%s: row %" PRIu64 ": the network's output is not a finite "
                "number, though the data are: weights, or normalized inputs, "
                "are too large",
                ivon_examples_path(examples),
                ivon_examples_number(examples, (first_row + i / outputs->k) / outputs->tokens));
    return 0;
}
