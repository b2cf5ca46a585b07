/* Columns of tables: numbers, and classes by their numbers or, with --classes, by their names. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/plot/plot.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

int plot_read(struct ivon_table_reader *table, const char *name, double **numbers,
              struct ivon_error *error)
{
    size_t column;
    int code = ivon_table_reader_find(table, name, &column, error);
    if (code)
        return code;
    *numbers = xcalloc((size_t)ivon_table_reader_rows(table) + 1, sizeof **numbers);
    code = ivon_table_reader_read(table, column, *numbers, error);
    for (uint64_t i = 0; i < ivon_table_reader_rows(table) && !code; i++) {
        double size = fabs((*numbers)[i]);
        if (size > 1e100)
            (*numbers)[i] = NAN;
        else if (size < 1e-100)
            (*numbers)[i] = 0;
    }
    return code;
}

/* Classes. */

struct classes_reading {
    const struct plot_command *command;
    const struct ivon_table_reader *table;
    const char *column;
    double *numbers;
};

/* The number of the class of that name; NaN: it is no name. */
static double plot_class_of(const struct name_list *classes, const char *name)
{
    for (size_t i = 0; i < classes->count; i++)
        if (strcmp(classes->names[i], name) == 0)
            return (double)i;
    return NAN;
}

static int plot_class_fault(const struct classes_reading *reading, uint64_t row, const char *text,
                            bool number, struct ivon_error *error)
{
    const struct name_list *classes = &reading->command->class_names;
    const char *expected = number           ? "which is a number, and the name of another class"
                           : classes->count ? "expected a number, or one of the names in "
                                            : "expected a number; if these are names of classes, "
                                              "list them by --classes=FILE";
    return error_fill(error, IVON_ERROR_DATA, "%s: row %llu, column '%s': found '%.60s', %s%s",
                      ivon_table_reader_path(reading->table), (unsigned long long)row,
                      reading->column, text, expected,
                      classes->count && !number ? classes->path : "");
}

static int plot_on_class(void *context, uint64_t row, const char *text, struct ivon_error *error)
{
    const struct classes_reading *reading = context;
    char *end;
    double named = plot_class_of(&reading->command->class_names, text);
    double number = *text ? strtod(text, &end) : NAN;
    bool is_number = !*text || (end != text && !*end);
    if (isnan(named) ? !is_number : *text && is_number && named != number)
        return plot_class_fault(reading, row, text, is_number, error);
    reading->numbers[row] = isnan(named) ? number : named;
    return 0;
}

int plot_read_classes(const struct plot_command *command, struct ivon_table_reader *table,
                      const char *name, double **numbers, struct ivon_error *error)
{
    size_t column;
    int code = ivon_table_reader_find(table, name, &column, error);
    if (code)
        return code;
    *numbers = xcalloc((size_t)ivon_table_reader_rows(table) + 1, sizeof **numbers);
    struct classes_reading reading = {command, table, name, *numbers};
    return ivon_table_reader_read_text(table, column, plot_on_class, &reading, error);
}

int plot_read_members(const struct plot_command *command, struct ivon_table_reader *table,
                      const struct plot_member *members, size_t count, void *structs, size_t size,
                      struct ivon_error *error)
{
    int code = 0;
    for (size_t m = 0; m < count && !code; m++) {
        double *numbers = NULL;
        if (members[m].needed || ivon_table_reader_has(table, members[m].name))
            code = members[m].is_class
                       ? plot_read_classes(command, table, members[m].name, &numbers, error)
                       : plot_read(table, members[m].name, &numbers, error);
        for (uint64_t i = 0; i < ivon_table_reader_rows(table) && !code; i++) {
            double number = numbers ? numbers[i] : NAN;
            memcpy((char *)structs + i * size + members[m].offset, &number, sizeof number);
        }
        free(numbers);
    }
    return code;
}

bool plot_is_row(double number, uint64_t rows)
{
    return number >= 0 && number < (double)rows && number == floor(number);
}

char *plot_class_text(const struct plot_command *command, double class)
{
    const struct name_list *classes = &command->class_names;
    return classes->count && plot_is_row(class, classes->count)
               ? xstrdup(classes->names[(size_t) class])
               : xasprintf("%.6g", class);
}
