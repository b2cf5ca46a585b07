/* The table of predictions. */
#include <math.h>
#include <stdio.h>

#include "cmd/predict/output.h"
#include "cmd/shared/outputs/table.h"

enum { COLUMNS_MAX = 11 };

/* The columns of a table, and where a block of predictions has them. */
struct columns {
    struct ivon_column column[COLUMNS_MAX];
    enum ivon_naming naming[COLUMNS_MAX];
    const void *data[COLUMNS_MAX];
    size_t count;
};

/* Adds a column with one number for each row of the network's outputs; or with `each`, unless that
   is 0. */
static void predict_output_add(struct columns *columns, const struct ivon_predict_shape *shape,
                               const char *name, const char *prefix, enum ivon_dtype dtype,
                               size_t each, const void *data)
{
    struct ivon_column *column = &columns->column[columns->count];
    *column = (struct ivon_column){.name = name, .prefix = prefix, .dtype = dtype};
    if (shape->tokens)
        column->shape[column->rank++] = shape->tokens;
    if (each)
        column->shape[column->rank++] = (int64_t)each;
    columns->naming[columns->count] = IVON_NUMBERS;
    columns->data[columns->count++] = data;
}

/* The same of classes, which may have names. */
static void predict_output_add_classes(struct columns *columns,
                                       const struct ivon_predict_shape *shape, const char *name,
                                       const char *prefix, enum ivon_naming naming, size_t each,
                                       const void *data)
{
    predict_output_add(columns, shape, name, prefix, IVON_I64, each, data);
    columns->naming[columns->count - 1] = naming;
}

/* Adds the sets or intervals of a calibration. */
static void predict_output_add_calibrated(struct columns *columns,
                                          const struct predict_output *output)
{
    struct predict_calibrated_columns own = predict_calibration_columns(output->calibrated);
    const struct ivon_predict_shape *shape = &output->shape;
    size_t numbers = ivon_likelihood_targets(output->command->options.task.likelihood,
                                             shape->outputs);
    if (own.sets) {
        predict_output_add(columns, shape, "set_size", NULL, IVON_I64, 0, own.size);
        predict_output_add_classes(columns, shape, "prediction_set", "set", IVON_NAME_SETS,
                                   shape->outputs, own.set);
    }
    if (own.intervals) {
        predict_output_add(columns, shape, "lower", NULL, IVON_F32, numbers, own.lower);
        predict_output_add(columns, shape, "upper", NULL, IVON_F32, numbers, own.upper);
    }
}

/* Adds the targets, and their losses where these are known. */
static void predict_output_add_targets(struct columns *columns, const struct predict_output *output,
                                       const struct ivon_predictions *p)
{
    const struct ivon_predict_shape *shape = &output->shape;
    enum ivon_likelihood likelihood = output->command->options.task.likelihood;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(likelihood);
    size_t targets = ivon_likelihood_targets(likelihood, shape->outputs);
    if (!shape->targets)
        return;
    if (traits->regression)
        predict_output_add(columns, shape, "label", NULL, IVON_F32, targets, p->targets);
    else
        predict_output_add_classes(columns, shape, "label", NULL, IVON_NAMES,
                                   traits->classes ? 0 : targets, p->labels);
    /* A calibration of classes and events finds their losses itself. */
    if (shape->losses || (output->calibrated && !traits->regression))
        predict_output_add(columns, shape, "loss", NULL, IVON_F64, 0, p->loss);
}

static struct columns predict_output_list_columns(const struct predict_output *output,
                                                  const struct ivon_predictions *p)
{
    const struct predict_command *command = output->command;
    const struct ivon_predict_shape *shape = &output->shape;
    const struct ivon_likelihood_traits *traits = ivon_likelihood_traits(
        command->options.task.likelihood);
    size_t numbers = ivon_likelihood_targets(command->options.task.likelihood, shape->outputs);
    struct columns columns = {.count = 0};
    bool npy = command->format == IVON_NPY;
    if (traits->regression) {
        predict_output_add(&columns, shape, "mean", NULL, IVON_F32, numbers, p->mean);
        if (!npy)
            predict_output_add(&columns, shape, "epistemic_std", NULL, IVON_F32, numbers,
                               p->epistemic_std);
        if (!npy && (!traits->noise || command->options.task.noise_std > 0))
            predict_output_add(&columns, shape, "aleatoric_std", NULL, IVON_F32, numbers,
                               p->aleatoric_std);
        if (!npy)
            predict_output_add_targets(&columns, output, p);
    } else {
        if (!npy) {
            predict_output_add_classes(&columns, shape, "prediction", NULL, IVON_NAMES,
                                       traits->classes ? 0 : numbers, p->prediction);
            predict_output_add(&columns, shape, "max_probability", NULL, IVON_F32, 0,
                               p->max_probability);
            predict_output_add(&columns, shape, "entropy", NULL, IVON_F32, 0, p->entropy);
        }
        if (!npy && p->expected_entropy) {
            predict_output_add(&columns, shape, "expected_entropy", NULL, IVON_F32, 0,
                               p->expected_entropy);
            predict_output_add(&columns, shape, "mutual_information", NULL, IVON_F32, 0,
                               p->mutual_information);
        }
        if (!npy)
            predict_output_add_targets(&columns, output, p);
        predict_output_add(&columns, shape, "probabilities", "p", IVON_F32, shape->outputs,
                           p->probabilities);
    }
    if (!npy && output->calibrated)
        predict_output_add_calibrated(&columns, output);
    if (!npy && command->options.logits)
        predict_output_add(&columns, shape, "logits", "logit", IVON_F32, shape->outputs, p->logits);
    return columns;
}

int predict_open_table(struct predict_output *output, const struct ivon_predictions *like,
                       const char *provenance, struct ivon_error *error)
{
    const struct predict_command *command = output->command;
    char creator[64];
    snprintf(creator, sizeof creator, "ivon-predict %s", ivon_version());
    struct columns columns = predict_output_list_columns(output, like);
    struct ivon_table_options options = {.size = sizeof options,
                                         .format = (enum ivon_table_format)command->format,
                                         .rows = output->rows,
                                         .tokens = output->shape.tokens,
                                         .replace = command->files.force,
                                         .creator = creator,
                                         .provenance = provenance};
    evaluation_name_columns(&command->evaluation, columns.naming, &options);
    return table_output_open(&output->table, command->output, columns.column, columns.count,
                             &options, error);
}

static void count_infinite(struct predict_output *output, const struct ivon_predictions *p)
{
    size_t rows = p->loss ? p->count * predict_rows_per_example(output) : 0;
    for (size_t i = 0; i < rows; i++)
        output->infinite += isinf(p->loss[i]) != 0;
}

int predict_write_table(struct predict_output *output, const struct ivon_predictions *p,
                        struct ivon_error *error)
{
    struct columns columns = predict_output_list_columns(output, p);
    count_infinite(output, p);
    return ivon_table_append(output->table, p->count, columns.data, error);
}
