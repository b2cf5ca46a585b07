#include "formats/table/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/options.h"
#include "core/stream.h"
#include "formats/io/suffix.h"
#include "ivon/targets.h"

/* The formats, by their values. */
static const struct table_class *const classes[] = {[IVON_CSV] = &table_csv,
                                                    [IVON_JSONL] = &table_jsonl,
                                                    [IVON_NPY] = &table_npy,
                                                    [IVON_HDF5] = &table_hdf5};

int ivon_table_format_of(const char *path)
{
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (suffix_is_one_of(path, classes[i]->suffixes))
            return (int)i;
    return -1;
}

static int check_name(const struct ivon_table *table, size_t c, struct ivon_error *error)
{
    const char *name = table->columns[c].is.name;
    if (!tensor_name_valid(name) || !tensor_name_valid(table->columns[c].is.prefix))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%s' is not a usable name for a column", table->name, name);
    bool twice = table->class->text && !table->options.own_index &&
                 (strcmp(name, "index") == 0 ||
                  (strcmp(name, "token") == 0 && table->options.tokens));
    for (size_t i = 0; i < c && !twice; i++)
        twice = strcmp(name, table->columns[i].is.name) == 0;
    return twice ? ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: column '%s' occurs twice",
                                  table->name, name)
                 : 0;
}

/* Checks that the table's names suit a column that has them. */
static int check_names(const struct ivon_table *table, const struct table_column *column,
                       struct ivon_error *error)
{
    const struct ivon_column *is = &column->is;
    const char *const *names = table->options.names;
    size_t count = names ? table->options.name_count : 0;
    bool sets = column->naming == IVON_NAME_SETS;
    if (is->dtype != IVON_I64 ||
        (sets && (is->rank == 0 || (uint64_t)is->shape[is->rank - 1] != count)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: column '%s': its elements are not the numbers of %zu names",
                              table->name, is->name, count);
    for (size_t i = 0; i < count && sets; i++)
        if (strchr(names[i], '|'))
            return ivon_error_set(
                error, IVON_ERROR_ARGUMENT,
                "%s: '%s' has a bar in it, which stands between the names of a set", table->name,
                names[i]);
    return 0;
}

static int check_column(const struct ivon_table *table, struct table_column *column,
                        struct ivon_error *error)
{
    const struct ivon_column *is = &column->is;
    if (is->dtype != IVON_F32 && is->dtype != IVON_F64 && is->dtype != IVON_I64)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: column '%s' has elements of type %s, expected f32, f64 or i64",
                              table->name, is->name, ivon_dtype_name(is->dtype));
    size_t size = ivon_dtype_size(is->dtype), total;
    if (is->rank < 0 || is->rank >= IVON_RANK_MAX ||
        !tensor_shape_count(is->rank, is->shape, size, &column->count) ||
        (table->options.rows != IVON_ROWS_OPEN &&
         (__builtin_mul_overflow(table->options.rows, column->count * size, &total) ||
          total > PTRDIFF_MAX)))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: column '%s': its shape is not one of less than %d dimensions "
                              "that a file can hold",
                              table->name, is->name, IVON_RANK_MAX);
    column->size = column->count * size;
    if (table->options.tokens && (is->rank == 0 || is->shape[0] != table->options.tokens))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: column '%s' does not have %lld tokens", table->name, is->name,
                              (long long)table->options.tokens);
    return column->naming == IVON_NUMBERS ? 0 : check_names(table, column, error);
}

/* Copies a description; the prefix of the columns that it becomes is made up where it has none. */
static int copy_column(struct table_column *column, const struct ivon_column *from,
                       struct ivon_error *error)
{
    char *name = strdup(from->name);
    char *prefix = from->prefix ? strdup(from->prefix) : malloc(strlen(from->name) + 2);
    if (prefix && !from->prefix)
        strcat(strcpy(prefix, from->name), "_");
    column->is = *from;
    column->is.name = name;
    column->is.prefix = prefix;
    return name && prefix ? 0 : ivon_error_memory(error);
}

/* Copies a text that is written after the caller may have let go of it. */
static bool table_keep(const char **text, char **copy)
{
    *copy = *text ? strdup(*text) : NULL;
    bool fine = !*text || *copy;
    *text = *copy;
    return fine;
}

static int table_new(struct ivon_table **out, const char *name, const struct ivon_column *columns,
                     size_t column_count, const struct ivon_table_options *options,
                     struct ivon_error *error)
{
    struct ivon_table *table = calloc(1, sizeof *table);
    if (!table)
        return ivon_error_memory(error);
    *table = (struct ivon_table){.class = classes[options->format],
                                 .options = *options,
                                 .file = {.descriptor = -1},
                                 .saved = -1};
    *out = table;
    if (options->rows == IVON_ROWS_OPEN && !table->class->resume)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: an npy file takes no rows that are not counted", name);
    if (options->own_index && options->tokens)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: tokens are numbered by the table itself", name);
    if (column_count == 0)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: a table without columns", name);
    if (table->class->single && column_count != 1)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: an npy file holds one column, not %zu", name, column_count);
    table->name = strdup(name);
    table->columns = calloc(column_count, sizeof *table->columns);
    if (!table->name || !table->columns || !table_keep(&table->options.creator, &table->creator) ||
        !table_keep(&table->options.provenance, &table->provenance))
        return ivon_error_memory(error);
    struct ivon_error found = {0};
    int code = ivon_class_names_check(options->names, options->names ? options->name_count : 0,
                                      &found);
    if (code)
        return ivon_error_set(error, code, "%s: %s", name, found.message);
    for (size_t c = 0; c < column_count && !code; c++) {
        table->column_count++;
        if (options->names && options->name_count && options->naming)
            table->columns[c].naming = options->naming[c];
        code = copy_column(&table->columns[c], &columns[c], error);
        if (!code)
            code = check_name(table, c, error);
        if (!code)
            code = check_column(table, &table->columns[c], error);
    }
    return code;
}

static const struct options_kind table_options = {.defaults = "ivon_table_defaults"};

void ivon_table_options_init(struct ivon_table_options *options, size_t size)
{
    const struct ivon_table_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

static int table_read_options(struct ivon_table_options *options,
                              const struct ivon_table_options *given, struct ivon_error *error)
{
    *options = ivon_table_defaults();
    return options_read(&table_options, options, given, error);
}

/* A stream gets its header with the first row, or at the end: a run that fails before prints
   nothing. Arrays are laid out when their rows are known. */
static bool table_begins_late(const struct ivon_table *table)
{
    return table->stream || (table->options.rows == IVON_ROWS_OPEN && !table->class->text);
}

/* Writes what comes before the rows, unless it is there. */
static int table_begin(struct ivon_table *table, struct ivon_error *error)
{
    if (table->begun)
        return 0;
    table->begun = true;
    if (table->options.rows != IVON_ROWS_OPEN)
        table->space = table->options.rows;
    return table->class->begin(table, error);
}

int ivon_table_create(struct ivon_table **out, const char *path, const struct ivon_column *columns,
                      size_t column_count, const struct ivon_table_options *given,
                      struct ivon_error *error)
{
    struct ivon_table_options options;
    struct ivon_table *table = NULL;
    int code = table_read_options(&options, given, error);
    if (!code)
        code = table_new(&table, path, columns, column_count, &options, error);
    if (!code)
        code = atomic_open(&table->file, path, options.replace, error);
    if (!code && !table_begins_late(table))
        code = table_begin(table, error);
    if (code)
        ivon_table_close(table);
    else
        *out = table;
    return code;
}

int ivon_table_to_stream(struct ivon_table **out, FILE *stream, const char *name,
                         const struct ivon_column *columns, size_t column_count,
                         const struct ivon_table_options *given, struct ivon_error *error)
{
    struct ivon_table_options options;
    struct ivon_table *table = NULL;
    int code = table_read_options(&options, given, error);
    if (code)
        return code;
    if (!classes[options.format]->text)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: a stream takes CSV and JSON Lines only", name);
    code = table_new(&table, name, columns, column_count, &options, error);
    if (!code)
        table->stream = stream;
    if (code)
        ivon_table_close(table);
    else
        *out = table;
    return code;
}

int table_append_arrays(struct ivon_table *table, size_t count, const void *const *columns,
                        struct ivon_error *error)
{
    for (size_t c = 0; c < table->column_count; c++) {
        const struct table_column *column = &table->columns[c];
        int code = atomic_write(&table->file, column->offset + table->appended * column->size,
                                columns[c], count * column->size, error);
        if (code)
            return code;
    }
    return 0;
}

/* Finds room for rows in a file of arrays, which is laid out for so many. */
static int table_announce(struct ivon_table *table, size_t count, struct ivon_error *error)
{
    uint64_t rows = table->appended + count;
    if (table->class->text || table->options.rows != IVON_ROWS_OPEN)
        return 0;
    if (table->begun && table->saved < 0)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: HDF5 takes rows once between two times that it is saved",
                              table->name);
    for (size_t c = 0; c < table->column_count; c++) {
        size_t size;
        if (__builtin_mul_overflow(rows, table->columns[c].size, &size) || size > PTRDIFF_MAX)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "%s: %llu rows are more than a file can hold", table->name,
                                  (unsigned long long)rows);
    }
    table->space = rows;
    return 0;
}

/* Goes on from what was saved, in a new file. */
static int table_resume(struct ivon_table *table, struct ivon_error *error)
{
    struct atomic_file next;
    if (table->saved < 0)
        return 0;
    int code = atomic_open(&next, table->name, true, error);
    if (code)
        return code;
    atomic_close(&table->file);
    table->file = next;
    code = table->class->resume(table, error);
    close(table->saved);
    table->saved = -1;
    return code;
}

int ivon_table_append(struct ivon_table *table, size_t count, const void *const *columns,
                      struct ivon_error *error)
{
    if (count > table->options.rows - table->appended)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: more than the announced %llu rows",
                              table->name, (unsigned long long)table->options.rows);
    int code = table_announce(table, count, error);
    if (!code)
        code = table_begin(table, error);
    if (!code)
        code = table_resume(table, error);
    if (!code)
        code = table->class->append(table, count, columns, error);
    if (code)
        table->failed = true;
    else
        table->appended += count;
    return code;
}

int ivon_table_fill(struct ivon_table *table, size_t column_index, uint64_t first, size_t count,
                    size_t at, size_t width, const void *elements, struct ivon_error *error)
{
    uint64_t rows = table->options.rows;
    bool inside = !table->class->text && !table->appended && column_index < table->column_count &&
                  first <= rows && count <= rows - first &&
                  at <= table->columns[column_index].count &&
                  width <= table->columns[column_index].count - at;
    if (!inside)
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT,
            "%s: %zu elements of column %zu in %zu rows from %llu on have no place", table->name,
            width, column_index, count, (unsigned long long)first);
    const struct table_column *column = &table->columns[column_index];
    size_t size = ivon_dtype_size(column->is.dtype), piece = width * size, times = count;
    uint64_t offset = column->offset + first * column->size + at * size;
    if (width == column->count) { /* rows lie one after the other */
        piece *= count;
        times = count != 0;
    }
    int code = 0;
    for (size_t i = 0; i < times && !code; i++)
        code = atomic_write(&table->file, offset + i * column->size,
                            (const char *)elements + i * piece, piece, error);
    table->filled += count * width;
    table->failed |= code != 0;
    return code;
}

/* Returns whether all that was announced is there. */
static bool table_is_complete(const struct ivon_table *table)
{
    uint64_t rows = table->options.rows, elements = 0;
    for (size_t c = 0; c < table->column_count && table->filled; c++)
        elements += table->columns[c].count * rows;
    return rows == IVON_ROWS_OPEN || (table->filled ? table->filled == elements && !table->appended
                                                    : table->appended == rows);
}

static int table_flush(struct ivon_table *table, struct ivon_error *error)
{
    if (fflush(table->stream))
        return ivon_error_set(error, IVON_ERROR_IO, "%s: cannot write it: %s", table->name,
                              strerror(errno));
    if (ferror(table->stream))
        return ivon_error_set(error, IVON_ERROR_IO, "%s: some of it could not be written",
                              table->name);
    return 0;
}

int ivon_table_save(struct ivon_table *table, struct ivon_error *error)
{
    if (table->failed || table->options.rows != IVON_ROWS_OPEN)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: what cannot take more rows is committed, not saved",
                              table->name);
    if (table->saved >= 0)
        return 0;
    int code = table_begin(table, error);
    if (code)
        return code;
    return table->stream ? table_flush(table, error)
                         : atomic_publish(&table->file, &table->saved, error);
}

int ivon_table_commit(struct ivon_table *table, struct ivon_error *error)
{
    bool complete = table_is_complete(table);
    if (table->filled && !complete && !table->failed)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: not all of its elements were set",
                              table->name);
    if (table->failed || !complete)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: %llu rows, expected %llu",
                              table->name, (unsigned long long)table->appended,
                              (unsigned long long)table->options.rows);
    if (table->saved >= 0)
        return 0;
    int code = table_begin(table, error);
    if (code)
        return code;
    return table->stream ? table_flush(table, error) : atomic_commit(&table->file, error);
}

void ivon_table_close(struct ivon_table *table)
{
    if (!table)
        return;
    atomic_close(&table->file);
    if (table->saved >= 0)
        close(table->saved);
    for (size_t c = 0; c < table->column_count; c++) {
        free((char *)table->columns[c].is.name);
        free((char *)table->columns[c].is.prefix);
    }
    free(table->columns);
    free(table->creator);
    free(table->provenance);
    free(table->text);
    free(table->name);
    free(table);
}
