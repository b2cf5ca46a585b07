#define _GNU_SOURCE
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/merge/evaluate.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

enum {
    LABEL_MAX = 40, /* characters */
    NUMBER = 9,     /* of a printed number, at least */
};

const struct ivon_metric *merge_table_metric(const struct merge_table *table, size_t row,
                                             size_t data, size_t metric)
{
    return &table->metrics[(row * table->data_count + data) * table->metric_count + metric];
}

int merge_table_set(struct merge_table *table, size_t row, size_t data,
                    const struct ivon_predict_metric *metrics, size_t count,
                    struct ivon_error *error)
{
    if (!table->metrics) {
        table->metric_count = count;
        table->metrics = xcalloc(table->rows, table->data_count * count * sizeof *table->metrics);
    }
    if (count != table->metric_count)
        return error_fill(error, IVON_ERROR_DATA, "data sets have %zu and %zu metrics",
                          table->metric_count, count);
    size_t first = (row * table->data_count + data) * count;
    for (size_t i = 0; i < count; i++)
        table->metrics[first + i] = metrics[i].metric;
    return 0;
}

/* The place of the negative log-likelihood, which every likelihood has. */
static size_t table_nll(const struct merge_table *table)
{
    size_t nll = 0;
    for (size_t i = 0; i < table->metric_count; i++)
        if (strcmp(table->metrics[i].name, "nll") == 0)
            nll = i;
    return nll;
}

static double table_loss(const struct merge_table *table, size_t row, size_t data)
{
    return merge_table_metric(table, row, data, table_nll(table))->value;
}

/* Returns whether a row is as good as another on all data sets and better on one. */
static bool table_dominates(const struct merge_table *table, size_t row, size_t other)
{
    bool better = false;
    for (size_t d = 0; d < table->data_count; d++) {
        double loss = table_loss(table, row, d), bound = table_loss(table, other, d);
        if (!(loss <= bound))
            return false;
        better |= loss < bound;
    }
    return better;
}

/* The number that is least in the row to pick. */
static double table_criterion(const struct merge_table *table, const struct merge_search *search,
                              size_t row)
{
    double sum = 0, worst = -INFINITY;
    for (size_t d = 0; d < table->data_count; d++) {
        double loss = table_loss(table, row, d);
        double weight = search->pick == PICK_WEIGHTED ? search->pick_weights[d] : 1;
        if (isnan(loss))
            return NAN;
        sum += weight > 0 ? weight * loss : 0;
        worst = fmax(worst, loss);
    }
    return search->pick == PICK_WORST ? worst : sum;
}

int merge_table_judge(struct merge_table *table, const struct merge_search *search,
                      struct ivon_error *error)
{
    double least = NAN;
    table->front = xcalloc(table->rows + 1, sizeof *table->front);
    for (size_t row = 0; row < table->rows; row++) {
        double criterion = table_criterion(table, search, row);
        table->front[row] = true;
        for (size_t d = 0; d < table->data_count; d++)
            table->front[row] &= !isnan(table_loss(table, row, d));
        for (size_t other = 0; other < table->rows && table->front[row]; other++)
            table->front[row] = !table_dominates(table, other, row);
        if (isnan(least) || criterion < least) {
            least = criterion;
            table->pick = row;
        }
    }
    return isnan(least) ? error_fill(error, IVON_ERROR_DATA,
                                     "no merge has a negative log-likelihood that is a number")
                        : 0;
}

/* Columns. */

/* A short name of DATA: its file's without folder and suffix, and what follows a colon. */
static char *data_label(const char *data)
{
    const char *colon = strchr(data, ':');
    size_t length = colon ? (size_t)(colon - data) : strlen(data);
    const char *name = data + length;
    while (name > data && name[-1] != '/')
        name--;
    length -= (size_t)(name - data);
    const char *dot = memrchr(name, '.', length);
    char *label = xasprintf("%.*s%s", (int)(dot && dot > name ? (size_t)(dot - name) : length),
                            name, colon ? colon : "");
    size_t kept = 0;
    for (const char *at = label; *at && kept < LABEL_MAX; at++)
        if (isalnum((unsigned char)*at) || *at == '-')
            label[kept++] = *at;
        else if (kept && label[kept - 1] != '_')
            label[kept++] = '_';
    label[kept] = '\0';
    return label;
}

/* ".LABEL" for each data set, or nothing where there is one alone. */
static void list_labels(struct merge_search *search)
{
    search->labels = xcalloc(search->data_count, sizeof *search->labels);
    for (size_t d = 0; d < search->data_count; d++) {
        char *label = data_label(search->data[d]);
        bool taken = false;
        search->labels[d] = search->data_count > 1 ? xasprintf(".%s", label) : xstrdup("");
        for (size_t e = 0; e < d; e++)
            taken |= strcmp(search->labels[d], search->labels[e]) == 0;
        if (taken || !*label) {
            free(search->labels[d]);
            search->labels[d] = xasprintf(".%s%s%zu", label, *label ? "_" : "", d);
        }
        free(label);
    }
}

/* The columns of a table in a file. */
struct table_columns {
    struct ivon_column *columns;
    double *numbers; /* of one row */
    int64_t *integers;
    const void **data;
    size_t count;
};

static void columns_add(struct table_columns *columns, enum ivon_dtype dtype, const void *data,
                        char *name)
{
    columns->columns[columns->count] = (struct ivon_column){.name = name, .dtype = dtype};
    columns->data[columns->count++] = data;
}

static struct table_columns columns_list(const struct merge_command *command)
{
    const struct merge_table *table = command->evaluated;
    size_t numbers = 1 + command->model_count + 2 * table->data_count * table->metric_count;
    struct table_columns columns = {.columns = xcalloc(numbers + 2, sizeof *columns.columns),
                                    .numbers = xcalloc(numbers, sizeof *columns.numbers),
                                    .integers = xcalloc(2, sizeof *columns.integers),
                                    .data = xcalloc(numbers + 2, sizeof *columns.data)};
    double *number = columns.numbers;
    if (command->sweep)
        columns_add(&columns, IVON_F64, number++, xstrdup("scale"));
    for (size_t t = 0; t < command->model_count; t++)
        columns_add(&columns, IVON_F64, number++, xasprintf("weight%zu", t));
    for (size_t d = 0; d < table->data_count; d++)
        for (size_t m = 0; m < table->metric_count; m++) {
            const char *metric = table->metrics[m].name, *label = command->search.labels[d];
            columns_add(&columns, IVON_F64, number++, xasprintf("%s%s", metric, label));
            columns_add(&columns, IVON_F64, number++, xasprintf("%s%s_se", metric, label));
        }
    columns_add(&columns, IVON_I64, columns.integers, xstrdup("front"));
    columns_add(&columns, IVON_I64, columns.integers + 1, xstrdup("pick"));
    return columns;
}

static void columns_fill(struct table_columns *columns, const struct merge_command *command,
                         size_t row)
{
    const struct merge_table *table = command->evaluated;
    double *number = columns->numbers;
    if (command->sweep)
        *number++ = command->scales[row];
    for (size_t t = 0; t < command->model_count; t++)
        *number++ = table->weights[row * command->model_count + t];
    for (size_t d = 0; d < table->data_count; d++)
        for (size_t m = 0; m < table->metric_count; m++) {
            const struct ivon_metric *metric = merge_table_metric(table, row, d, m);
            *number++ = metric->value;
            *number++ = metric->standard_error;
        }
    columns->integers[0] = table->front[row];
    columns->integers[1] = row == table->pick;
}

static void columns_release(struct table_columns *columns)
{
    for (size_t i = 0; i < columns->count; i++)
        free((char *)columns->columns[i].name);
    free(columns->columns);
    free(columns->numbers);
    free(columns->integers);
    free(columns->data);
}

int merge_table_write(const struct merge_command *command, const char *creator,
                      struct ivon_error *error)
{
    const struct merge_table *table = command->evaluated;
    struct table_columns columns = columns_list(command);
    const struct ivon_table_options options = {.size = sizeof options,
                                               .format = command->search.format,
                                               .rows = table->rows,
                                               .replace = command->files.force,
                                               .creator = creator};
    struct ivon_table *out = NULL;
    int code = table_output_open(&out, command->search.table, columns.columns, columns.count,
                                 &options, error);
    for (size_t row = 0; row < table->rows && !code; row++) {
        columns_fill(&columns, command, row);
        code = ivon_table_append(out, 1, columns.data, error);
    }
    if (!code)
        code = ivon_table_commit(out, error);
    ivon_table_close(out);
    columns_release(&columns);
    return code;
}

/* Text. */

static void print_heading(const char *name, const char *label)
{
    printf("%*s%s ", NUMBER - (int)strlen(label) > 0 ? NUMBER - (int)strlen(label) : 0, name,
           label);
}

static void print_cell(double value, size_t width)
{
    printf("%*.6g ", (int)(width < NUMBER ? NUMBER : width), report_number(value));
}

/* The metrics that are printed: the first, and the negative log-likelihood. */
static size_t printed_metrics(const struct merge_table *table, size_t metrics[2])
{
    metrics[0] = 0;
    metrics[1] = table_nll(table);
    return metrics[1] ? 2 : 1;
}

void merge_table_print(const struct merge_command *command)
{
    const struct merge_table *table = command->evaluated;
    char *const *labels = command->search.labels;
    size_t metrics[2], printed = printed_metrics(table, metrics);
    for (size_t t = 0; t < command->model_count; t++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", t);
        print_heading("weight", number);
    }
    for (size_t d = 0; d < table->data_count; d++)
        for (size_t m = 0; m < printed; m++)
            print_heading(table->metrics[metrics[m]].name, labels[d]);
    puts("front pick");
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t t = 0; t < command->model_count; t++)
            print_cell(table->weights[row * command->model_count + t], 0);
        for (size_t d = 0; d < table->data_count; d++)
            for (size_t m = 0; m < printed; m++)
                print_cell(merge_table_metric(table, row, d, metrics[m])->value,
                           strlen(table->metrics[metrics[m]].name) + strlen(labels[d]));
        printf("%5s %4s\n", table->front[row] ? "*" : "-", row == table->pick ? "*" : "-");
    }
}

void merge_table_warn(const struct merge_table *table)
{
    size_t infinite = 0;
    for (size_t row = 0; row < table->rows; row++) {
        bool found = false;
        for (size_t d = 0; d < table->data_count; d++)
            found |= isinf(table_loss(table, row, d));
        infinite += found;
    }
    if (infinite)
        report_warning("nll is infinite in %zu of the %zu merges: predictions leave some target "
                       "next to no probability",
                       infinite, table->rows);
    if (table->nonpositive)
        report_warning("%zu of the %zu merges kept the base's mean and precision in elements whose "
                       "merged precision was not positive",
                       table->nonpositive, table->rows);
}

/* JSON. */

static json_t *data_json(const struct merge_command *command, size_t row, size_t data)
{
    const struct merge_table *table = command->evaluated;
    json_t *object = json_object(), *metrics = json_object();
    json_object_set_new(object, "data", report_json_text(command->search.data[data]));
    for (size_t m = 0; m < table->metric_count; m++) {
        const struct ivon_metric *metric = merge_table_metric(table, row, data, m);
        json_t *value = json_object();
        json_object_set_new(value, "value", report_json_number(metric->value));
        json_object_set_new(value, "standard_error", report_json_number(metric->standard_error));
        json_object_set_new(metrics, metric->name, value);
    }
    json_object_set_new(object, "metrics", metrics);
    return object;
}

json_t *merge_table_json(const struct merge_command *command)
{
    const struct merge_table *table = command->evaluated;
    json_t *rows = json_array();
    for (size_t row = 0; row < table->rows; row++) {
        json_t *object = json_object(), *weights = json_array(), *data = json_array();
        for (size_t t = 0; t < command->model_count; t++)
            json_array_append_new(weights,
                                  json_real(table->weights[row * command->model_count + t]));
        for (size_t d = 0; d < table->data_count; d++)
            json_array_append_new(data, data_json(command, row, d));
        json_object_set_new(object, "weights", weights);
        json_object_set_new(object, "data", data);
        json_object_set_new(object, "front", json_boolean(table->front[row]));
        json_object_set_new(object, "pick", json_boolean(row == table->pick));
        json_array_append_new(rows, object);
    }
    return rows;
}

struct merge_table *merge_table_new(struct merge_command *command)
{
    struct merge_table *table = xcalloc(1, sizeof *table);
    size_t models = command->model_count;
    table->rows = command->scale_count;
    table->data_count = command->search.data_count;
    table->weights = xcalloc(table->rows + 1, models * sizeof *table->weights);
    for (size_t row = 0; row < table->rows; row++)
        for (size_t t = 0; t < models; t++)
            table->weights[row * models + t] = merge_factor(command, row, t) *
                                               command->models[t].weight;
    list_labels(&command->search);
    return table;
}

void merge_table_free(struct merge_table *table)
{
    if (!table)
        return;
    free(table->weights);
    free(table->metrics);
    free(table->front);
    free(table);
}
