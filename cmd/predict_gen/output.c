/* ivon-predict-gen: the rows of its table. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/predict_gen/predict_gen.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

enum { COLUMNS_MAX = 24 };

struct columns {
    struct ivon_column column[COLUMNS_MAX];
    enum ivon_naming naming[COLUMNS_MAX];
    const void *data[COLUMNS_MAX];
    size_t count;
};

static void predict_gen_add(struct columns *columns, const char *name, enum ivon_dtype dtype,
                            const void *data)
{
    columns->column[columns->count] = (struct ivon_column){.name = name, .dtype = dtype};
    columns->naming[columns->count] = IVON_NUMBERS;
    columns->data[columns->count++] = data;
}

static struct columns predict_gen_list_columns(const struct predict_gen_command *command,
                                               const struct predict_gen_row *row)
{
    struct columns columns = {.count = 0};
    bool classes = !ivon_likelihood_traits(command->evaluation.task.likelihood)->regression;
    predict_gen_add(&columns, "step", IVON_I64, &row->step);
    predict_gen_add(&columns, "train_loss", IVON_F64, &row->train_loss.value);
    if (classes)
        predict_gen_add(&columns, "train_error", IVON_F64, &row->train_error.value);
    predict_gen_add(&columns, "loo_loss", IVON_F64, &row->loo_loss.value);
    predict_gen_add(&columns, "loo_loss_se", IVON_F64, &row->loo_loss.standard_error);
    if (classes) {
        predict_gen_add(&columns, "loo_error", IVON_F64, &row->loo_error.value);
        predict_gen_add(&columns, "loo_error_se", IVON_F64, &row->loo_error.standard_error);
    }
    if (command->subsample)
        predict_gen_add(&columns, "train_loss_se", IVON_F64, &row->train_loss.standard_error);
    if (command->subsample && classes)
        predict_gen_add(&columns, "train_error_se", IVON_F64, &row->train_error.standard_error);
    if (command->samples) {
        predict_gen_add(&columns, "waic", IVON_F64, &row->waic.value);
        predict_gen_add(&columns, "psis_loo", IVON_F64, &row->psis_loo.value);
        predict_gen_add(&columns, "psis_loo_se", IVON_F64, &row->psis_loo.standard_error);
        predict_gen_add(&columns, "pareto_k_bad", IVON_I64, &row->pareto_k_bad);
        if (command->importance)
            predict_gen_add(&columns, "approximation_k", IVON_F64, &row->approximation_k);
    }
    if (command->test) {
        predict_gen_add(&columns, "test_loss", IVON_F64, &row->test_loss.value);
        if (classes)
            predict_gen_add(&columns, "test_error", IVON_F64, &row->test_error.value);
    }
    if (command->groups) {
        predict_gen_add(&columns, "lgo_loss", IVON_F64, &row->lgo_loss.value);
        predict_gen_add(&columns, "lgo_loss_se", IVON_F64, &row->lgo_loss.standard_error);
    }
    if (command->groups && classes) {
        predict_gen_add(&columns, "lgo_error", IVON_F64, &row->lgo_error.value);
        predict_gen_add(&columns, "lgo_error_se", IVON_F64, &row->lgo_error.standard_error);
    }
    if (command->compare) {
        predict_gen_add(&columns, "loo_diff", IVON_F64, &row->loo_difference.value);
        predict_gen_add(&columns, "loo_diff_se", IVON_F64, &row->loo_difference.standard_error);
    }
    predict_gen_add(&columns, "hessian_at_start", IVON_I64, &row->hessian_at_start);
    return columns;
}

static struct columns list_class_columns(const struct predict_gen_row *row,
                                         const struct ivon_group_removal *class,
                                         const int64_t *count)
{
    struct columns columns = {.count = 0};
    predict_gen_add(&columns, "step", IVON_I64, &row->step);
    predict_gen_add(&columns, "class", IVON_I64, &class->group);
    columns.naming[columns.count - 1] = IVON_NAMES;
    predict_gen_add(&columns, "count", IVON_I64, count);
    predict_gen_add(&columns, "loss", IVON_F64, &class->own_loss);
    predict_gen_add(&columns, "loss_without", IVON_F64, &class->own_loss_without);
    predict_gen_add(&columns, "error", IVON_F64, &class->own_error);
    predict_gen_add(&columns, "error_without", IVON_F64, &class->own_error_without);
    predict_gen_add(&columns, "rest_loss", IVON_F64, &class->rest_loss);
    predict_gen_add(&columns, "rest_loss_without", IVON_F64, &class->rest_loss_without);
    predict_gen_add(&columns, "rest_error", IVON_F64, &class->rest_error);
    predict_gen_add(&columns, "rest_error_without", IVON_F64, &class->rest_error_without);
    predict_gen_add(&columns, "hessian_at_start", IVON_I64, &row->hessian_at_start);
    return columns;
}

int predict_gen_open_table(struct predict_gen_command *command, struct ivon_error *error)
{
    static const struct predict_gen_row row;
    static const struct ivon_group_removal class;
    char creator[64];
    int64_t count = 0;
    struct columns columns = command->by_class ? list_class_columns(&row, &class, &count)
                                               : predict_gen_list_columns(command, &row);
    snprintf(creator, sizeof creator, "ivon-predict-gen %s", ivon_version());
    struct ivon_table_options options = {
        .size = sizeof options,
        .format = (enum ivon_table_format)command->format,
        .rows = command->follow || command->by_class ? IVON_ROWS_OPEN : command->posterior_count,
        .own_index = true,
        .replace = command->files.force,
        .creator = creator,
        .provenance = command->provenance};
    evaluation_name_columns(&command->evaluation, columns.naming, &options);
    return table_output_open(&command->table, command->output, columns.column, columns.count,
                             &options, error);
}

static int predict_gen_append(struct predict_gen_command *command,
                              const struct predict_gen_row *row, struct ivon_error *error)
{
    int code = 0;
    if (!command->by_class)
        code = ivon_table_append(command->table, 1, predict_gen_list_columns(command, row).data,
                                 error);
    for (size_t i = 0; i < row->class_count && !code; i++) {
        int64_t count = (int64_t)row->classes[i].count;
        code = ivon_table_append(command->table, 1,
                                 list_class_columns(row, &row->classes[i], &count).data, error);
    }
    return code;
}

int predict_gen_write_row(struct predict_gen_command *command, const struct predict_gen_row *row,
                          struct ivon_error *error)
{
    int code = predict_gen_append(command, row, error);
    if (!code && command->follow)
        return ivon_table_save(command->table, error);
    if (!code && fflush(stdout))
        code = error_fill(error, IVON_ERROR_IO, "standard output: cannot write it: %s",
                          strerror(errno));
    return code;
}
