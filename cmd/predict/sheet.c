/* A table with a row for each of several predictions: keys that tell them apart, and metrics. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

/* The metrics that become columns, those of them that the first row has. */
static const char *const sheet_columns[] = {
    "accuracy",         "rmse",        "nll",      "brier",    "crps",  "ece", "aurc",
    "coverage_at_risk", "coverage_90", "coverage", "set_size", "width",
};
enum { COLUMNS = sizeof sheet_columns / sizeof *sheet_columns };

struct predict_sheet {
    const struct predict_command *command;
    const char *names[COLUMNS]; /* of the columns, once the first row is there */
    size_t count;
    FILE *stream; /* into `text`, the table */
    char *text;
    size_t size;
};

int predict_sheet_open(struct predict_sheet **out, const struct predict_command *command,
                       struct ivon_error *error)
{
    struct predict_sheet *sheet = xcalloc(1, sizeof *sheet);
    *out = sheet;
    sheet->command = command;
    sheet->stream = open_memstream(&sheet->text, &sheet->size);
    return sheet->stream
               ? output_refuse(table_output_file(command->output), command->files.force, error)
               : error_memory(error);
}

void predict_sheet_close(struct predict_sheet *sheet)
{
    if (!sheet)
        return;
    if (sheet->stream)
        fclose(sheet->stream);
    free(sheet->text);
    free(sheet);
}

static const struct ivon_metric *sheet_find(const struct ivon_metric *metrics, size_t count,
                                            const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return &metrics[i];
    return NULL;
}

static void sheet_list_columns(struct predict_sheet *sheet, json_t *keys,
                               const struct ivon_metric *metrics, size_t count)
{
    const char *name;
    json_t *value;
    for (size_t c = 0; c < COLUMNS; c++)
        if (sheet_find(metrics, count, sheet_columns[c]))
            sheet->names[sheet->count++] = sheet_columns[c];
    if (sheet->command->format == IVON_JSONL)
        return;
    json_object_foreach(keys, name, value)
    {
        fprintf(sheet->stream, "%s,", name);
    }
    for (size_t c = 0; c < sheet->count; c++)
        fprintf(sheet->stream, "%s%s,%s_se", c ? "," : "", sheet->names[c], sheet->names[c]);
    fputc('\n', sheet->stream);
}

static void sheet_put_json(const struct predict_sheet *sheet, json_t *keys,
                           const struct ivon_metric *metrics, size_t count)
{
    for (size_t c = 0; c < sheet->count; c++) {
        const struct ivon_metric *metric = sheet_find(metrics, count, sheet->names[c]);
        char error_name[64];
        snprintf(error_name, sizeof error_name, "%s_se", sheet->names[c]);
        json_object_set_new(keys, sheet->names[c],
                            report_json_number(metric ? metric->value : NAN));
        json_object_set_new(keys, error_name,
                            report_json_number(metric ? metric->standard_error : NAN));
    }
    json_dumpf(keys, sheet->stream, JSON_COMPACT);
    fputc('\n', sheet->stream);
}

/* Puts as many digits as tell the number from all others. */
static void sheet_put_number(const struct predict_sheet *sheet, double value)
{
    char text[32];
    int digits = 15;
    do
        snprintf(text, sizeof text, "%.*g", digits, report_number(value));
    while (strtod(text, NULL) != value && ++digits <= 17);
    fputs(text, sheet->stream);
}

static void sheet_put_csv(const struct predict_sheet *sheet, json_t *keys,
                          const struct ivon_metric *metrics, size_t count)
{
    const char *name;
    json_t *value;
    json_object_foreach(keys, name, value)
    {
        if (json_is_string(value))
            report_csv_text(sheet->stream, json_string_value(value));
        else
            sheet_put_number(sheet, json_number_value(value));
        fputc(',', sheet->stream);
    }
    for (size_t c = 0; c < sheet->count; c++) {
        const struct ivon_metric *metric = sheet_find(metrics, count, sheet->names[c]);
        if (c)
            fputc(',', sheet->stream);
        sheet_put_number(sheet, metric ? metric->value : NAN);
        fputc(',', sheet->stream);
        sheet_put_number(sheet, metric ? metric->standard_error : NAN);
    }
    fputc('\n', sheet->stream);
}

void predict_sheet_add(struct predict_sheet *sheet, json_t *keys, const struct ivon_metric *metrics,
                       size_t count)
{
    if (!sheet->count)
        sheet_list_columns(sheet, keys, metrics, count);
    if (sheet->command->format == IVON_JSONL)
        sheet_put_json(sheet, keys, metrics, count);
    else
        sheet_put_csv(sheet, keys, metrics, count);
    json_decref(keys);
}

int predict_sheet_finish(struct predict_sheet *sheet, struct ivon_error *error)
{
    const struct predict_command *command = sheet->command;
    const char *file = table_output_file(command->output);
    bool failed = fclose(sheet->stream);
    sheet->stream = NULL;
    if (failed)
        return error_memory(error);
    if (file)
        return ivon_output_write(file, sheet->text, sheet->size, command->files.force, error);
    if (fwrite(sheet->text, 1, sheet->size, stdout) != sheet->size || fflush(stdout))
        return error_fill(error, IVON_ERROR_IO, "cannot write to standard output");
    return 0;
}
