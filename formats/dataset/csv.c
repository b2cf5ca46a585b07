/*
 * CSV as examples: one target column, if any, and the others, or those that are numbered, as the
 * one input. Opening reads the file once, checks its records and the targets, and keeps the places
 * of some of the rows, at equal distances.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/class_names.h"
#include "core/error.h"
#include "formats/io/csv.h"
#include "formats/dataset/dataset.h"

enum {
    COLUMNS_MAX = 1 << 20,
    INDEX_MAX = 1 << 16, /* places that are kept; when they are full, every other one is */
    STRIDE = 256,        /* rows between two of them, at first */
    CELL_SIZE = 64,      /* of a cell or a header, in messages */
    FAULT_SIZE = 200,    /* of what is wrong with a cell */
    NAME_SIZE = 4096,    /* of a class's name with quotes in it */
    PIECE = 1 << 22,     /* bytes that stay in memory while the index is made */
};

static const size_t NO_COLUMN = SIZE_MAX;

struct place {
    uint64_t row, offset;
};

struct dataset_csv {
    struct mapped_file file;
    locale_t locale;
    uint64_t header, start; /* offsets of the first line and of the first row */
    bool has_header;
    size_t columns;
    size_t *slots; /* where each column goes in the input, or NO_COLUMN */
    size_t inputs;
    size_t target; /* or NO_COLUMN */
    bool wants_target;
    bool whole; /* all targets are whole numbers, or names of classes */
    struct class_names classes;
    struct {
        bool any;
        uint64_t row; /* the first */
    } names, numbers; /* targets that are names, or numbers from 0 on */
    uint64_t rows;
    uint64_t *index; /* offsets of rows 0, stride, 2 stride, … */
    size_t index_count;
    uint64_t stride;
    struct place next[2]; /* where reading the input, and the target, would go on */
};

/* A target as it was read. */
struct target {
    bool whole, named;
    int64_t integer;
    float number;
};

static struct csv_text text_from(const struct dataset_csv *csv, uint64_t offset)
{
    const char *data = (const char *)csv->file.data;
    return (struct csv_text){data + offset, data + csv->file.size};
}

static uint64_t dataset_csv_offset_of(const struct dataset_csv *csv, const struct csv_text *text)
{
    return (uint64_t)(text->at - (const char *)csv->file.data);
}

/* Bytes [from, to) were read, and leave memory. */
static void dataset_csv_let_go(const struct dataset_csv *csv, uint64_t from, uint64_t to)
{
    mapped_advise(&csv->file, from, to - from, MADV_DONTNEED);
}

/* Complaints. */

static unsigned long long line_at(const struct dataset_csv *csv, uint64_t offset)
{
    unsigned long long line = 1;
    const unsigned char *at = csv->file.data, *end = at + offset;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        at++;
        line++;
    }
    return line;
}

/* "'name'" of a column, by the header, or else its number from 1. */
static void name_column(const struct dataset_csv *csv, size_t column, char out[CELL_SIZE + 2])
{
    struct csv_field field = {0};
    struct csv_text text = text_from(csv, csv->header);
    char name[CELL_SIZE];
    snprintf(out, CELL_SIZE + 2, "%zu", column + 1);
    for (size_t i = 0; csv->has_header && i <= column; i++)
        if (csv_next_field(&text, &field) || (field.last && i < column))
            return;
    if (!csv->has_header)
        return;
    csv_excerpt(&field, name, sizeof name);
    snprintf(out, CELL_SIZE + 2, "'%s'", name);
}

static int bad_row(const struct dataset_csv *csv, uint64_t row, uint64_t offset, const char *what,
                   struct ivon_error *error)
{
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: row %llu (line %llu): %s", csv->file.path,
                          (unsigned long long)row, line_at(csv, offset), what);
}

static int bad_cell(const struct dataset_csv *csv, uint64_t row, uint64_t offset, size_t column,
                    const struct csv_field *field, const char *fault, struct ivon_error *error)
{
    char name[CELL_SIZE + 2], cell[CELL_SIZE];
    bool unnamed = column == csv->target && field->size && !csv->classes.count;
    name_column(csv, column, name);
    csv_excerpt(field, cell, sizeof cell);
    return ivon_error_hint(error, unnamed ? IVON_HINT_CLASSES : IVON_HINT_NONE,
                           ivon_error_set(error, IVON_ERROR_DATA,
                                          "%s: row %llu (line %llu), column %s: found '%s', %s",
                                          csv->file.path, (unsigned long long)row,
                                          line_at(csv, offset), name, cell, fault));
}

/* Targets. */

/* The class of that name, or -1. */
static int64_t dataset_csv_class_of(const struct dataset_csv *csv, const struct csv_field *field)
{
    char name[NAME_SIZE];
    if (!csv->classes.count || field->size >= sizeof name)
        return -1;
    if (!memchr(field->text, '"', field->size))
        return class_names_find(&csv->classes, field->text, field->size);
    return class_names_find(&csv->classes, name, csv_unquote(field, name));
}

/* Says what is wrong with a target; `class` is that of its name, or -1. */
static void dataset_csv_fault(const struct dataset_csv *csv, int64_t class, char fault[FAULT_SIZE])
{
    if (!csv->classes.count)
        snprintf(fault, FAULT_SIZE, "expected a number");
    else if (class < 0)
        snprintf(fault, FAULT_SIZE, "expected the name of one of the %zu classes",
                 csv->classes.count);
    else
        snprintf(fault, FAULT_SIZE,
                 "which is a number, and the name of class %lld: names of classes that are other "
                 "classes' numbers cannot be told from them",
                 (long long)class);
}

/* Reads a target. False: `fault` says what is wrong with it. */
static bool read_target(const struct dataset_csv *csv, const struct csv_field *field,
                        struct target *target, char fault[FAULT_SIZE])
{
    int64_t class = dataset_csv_class_of(csv, field);
    bool whole = csv_whole(field, csv->locale, &target->integer), fine = true;
    target->named = class >= 0 && !whole;
    if (!csv->classes.count)
        fine = csv_float(field, csv->locale, &target->number);
    else if (whole)
        fine = class < 0 || class == target->integer;
    else if (class >= 0)
        target->integer = class;
    else
        fine = false;
    target->whole = whole || target->named;
    if (!fine)
        dataset_csv_fault(csv, class, fault);
    return fine;
}

/* Notes whether a row's target is a name or a number; false where they are mixed. */
static bool dataset_csv_note_target(struct dataset_csv *csv, uint64_t row,
                                    const struct target *target)
{
    if (!csv->classes.count || (!target->named && target->integer < 0))
        return true;
    bool named = target->named;
    if (named && !csv->names.any)
        csv->names.row = row;
    if (!named && !csv->numbers.any)
        csv->numbers.row = row;
    csv->names.any = csv->names.any || named;
    csv->numbers.any = csv->numbers.any || !named;
    return !csv->names.any || !csv->numbers.any;
}

/* Rows. */

/* Reads the row that `text` is at, whose number is for messages: its inputs and its target, or
   neither where null. */
static int read_row(const struct dataset_csv *csv, struct csv_text *text, uint64_t row,
                    float *inputs, struct target *target, struct ivon_error *error)
{
    struct csv_field field;
    struct csv_text found = *text;
    uint64_t offset = dataset_csv_offset_of(csv, text);
    size_t column = 0;
    char fault[FAULT_SIZE] = "expected a number";
    if (!inputs && csv_skip_record(text, csv->columns, csv->target, &found))
        return target &&
                       (csv_next_field(&found, &field) || !read_target(csv, &field, target, fault))
                   ? bad_cell(csv, row, offset, csv->target, &field, fault, error)
                   : 0;
    do {
        bool fine = true;
        if (inputs && column < csv->columns && csv->slots[column] != NO_COLUMN &&
            csv_next_float(text, &inputs[csv->slots[column]], &field.last)) {
            column++;
            continue;
        }
        const char *broken = csv_next_field(text, &field);
        if (broken)
            return bad_row(csv, row, offset, broken, error);
        if (inputs && column < csv->columns && csv->slots[column] != NO_COLUMN)
            fine = csv_float(&field, csv->locale, &inputs[csv->slots[column]]);
        if (target && column == csv->target)
            fine = read_target(csv, &field, target, fault);
        if (!fine)
            return bad_cell(csv, row, offset, column, &field, fault, error);
        column++;
    } while (!field.last);
    if (column == csv->columns)
        return 0;
    char what[80];
    snprintf(what, sizeof what, "has %zu columns, expected %zu as in the first line", column,
             csv->columns);
    return bad_row(csv, row, offset, what, error);
}

/* The first line. */

/* Returns whether a cell of the first line can be one of a row; targets may be names. */
static bool dataset_csv_is_value(const struct dataset_csv *csv, const struct csv_field *field)
{
    float number;
    return csv_float(field, csv->locale, &number) ||
           (csv->wants_target && dataset_csv_class_of(csv, field) >= 0);
}

/* The cells of a first line. */
struct first_line {
    size_t values, gaps; /* the others are names */
    bool counts;         /* cell i is the number i */
};

/* Returns whether a cell is what a missing value is written as, which is no name of a column. */
static bool dataset_csv_is_gap(const struct csv_field *field)
{
    static const char *const gaps[] = {"", "NA", "N/A", "n/a", "NULL", "Null", "null", "None", "?"};
    for (size_t i = 0; i < sizeof gaps / sizeof gaps[0]; i++)
        if (csv_equal(field, gaps[i]))
            return true;
    return false;
}

static void dataset_csv_count_cell(const struct dataset_csv *csv, const struct csv_field *field,
                                   struct first_line *line)
{
    float number;
    bool value = dataset_csv_is_value(csv, field);
    line->values += value;
    line->gaps += !value && dataset_csv_is_gap(field);
    line->counts = line->counts && csv_float(field, csv->locale, &number) &&
                   number == (float)(csv->columns - 1);
}

/* A line with a name is a header. Numbers from 0 on may be one, as pandas writes columns that have
   no names, or an example: of two, such as "0,1", they are taken for an example. */
static int dataset_csv_judge(struct dataset_csv *csv, const struct first_line *line,
                             struct ivon_error *error)
{
    enum { FEW = 2 };
    bool named = line->values + line->gaps < csv->columns;
    csv->has_header = named || !line->values;
    if (!line->counts || csv->columns <= FEW)
        return 0;
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: line %llu has the numbers 0 to %zu, which may be a header or an "
                          "example: expected names of columns, or no header",
                          csv->file.path, line_at(csv, csv->header), csv->columns - 1);
}

static int dataset_csv_read_first_line(struct dataset_csv *csv, struct ivon_error *error)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8, as some programs write it */
    struct csv_text text = text_from(csv, 0);
    struct csv_field field;
    struct first_line line = {.counts = true};
    if (csv->file.size >= 3 && memcmp(text.at, mark, 3) == 0)
        text.at += 3;
    if (!csv_next_record(&text))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: has nothing but empty lines",
                              csv->file.path);
    csv->header = dataset_csv_offset_of(csv, &text);
    do {
        const char *broken = csv_next_field(&text, &field);
        if (broken)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: line %llu: %s", csv->file.path,
                                  line_at(csv, csv->header), broken);
        if (csv->columns++ == COLUMNS_MAX)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: has more than %d columns",
                                  csv->file.path, COLUMNS_MAX);
        dataset_csv_count_cell(csv, &field, &line);
    } while (!field.last);
    int code = dataset_csv_judge(csv, &line, error);
    csv->start = csv->has_header ? dataset_csv_offset_of(csv, &text) : csv->header;
    csv->next[0].offset = csv->next[1].offset = csv->start;
    return code;
}

/* Finds a column by its header, or else by its number from 1. */
static int find_target(struct dataset_csv *csv, const char *name, struct ivon_error *error)
{
    struct csv_text text = text_from(csv, csv->header);
    struct csv_field field;
    char *end;
    for (size_t i = 0; csv->has_header && i < csv->columns; i++) {
        if (csv_next_field(&text, &field) || !csv_equal(&field, name))
            continue;
        if (csv->target != NO_COLUMN)
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: column '%s' occurs twice",
                                  csv->file.path, name);
        csv->target = i;
    }
    unsigned long long number = *name >= '1' && *name <= '9' ? strtoull(name, &end, 10) : 0;
    if (csv->target == NO_COLUMN && number && !*end && number <= csv->columns)
        csv->target = (size_t)number - 1;
    if (csv->target != NO_COLUMN)
        return 0;
    char first[CELL_SIZE + 2], last[CELL_SIZE + 2];
    name_column(csv, 0, first);
    if (csv->columns == 1)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has no column '%s', but one column, %s: "
                              "expected commas between columns",
                              csv->file.path, name, first);
    name_column(csv, csv->columns - 1, last);
    return ivon_error_set(error, IVON_ERROR_DATA,
                          "%s: has no column '%s', but %zu columns from %s "
                          "to %s",
                          csv->file.path, name, csv->columns, first, last);
}

struct numbered {
    int64_t number;
    size_t column;
};

static int dataset_csv_compare(const void *a, const void *b)
{
    const struct numbered *left = a, *right = b;
    return left->number < right->number ? -1 : left->number > right->number;
}

/* Takes the columns that are `prefix` and a number, in the order of their numbers; none is none. */
static int choose_numbered(struct dataset_csv *csv, const char *prefix, struct ivon_error *error)
{
    struct csv_text text = text_from(csv, csv->header);
    struct csv_field field;
    int code = 0;
    struct numbered *found = calloc(csv->columns, sizeof *found);
    if (!found)
        return ivon_error_memory(error);
    for (size_t i = 0; i < csv->columns && !csv_next_field(&text, &field); i++) {
        int64_t number = csv_numbered(&field, prefix);
        if (number >= 0 && i != csv->target)
            found[csv->inputs++] = (struct numbered){number, i};
    }
    qsort(found, csv->inputs, sizeof *found, dataset_csv_compare);
    for (size_t i = 0; i < csv->inputs; i++) {
        csv->slots[found[i].column] = i;
        if (i && found[i - 1].number == found[i].number)
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: column '%s%lld' occurs twice",
                                  csv->file.path, prefix, (long long)found[i].number);
    }
    free(found);
    return code;
}

static int choose_columns(struct dataset_csv *csv, const struct ivon_dataset_options *options,
                          struct ivon_error *error)
{
    int code = 0;
    csv->slots = calloc(csv->columns, sizeof *csv->slots);
    if (!csv->slots)
        return ivon_error_memory(error);
    for (size_t i = 0; i < csv->columns; i++)
        csv->slots[i] = NO_COLUMN;
    if (options->target_column)
        code = find_target(csv, options->target_column, error);
    if (code && options->targets_optional && csv->target == NO_COLUMN) {
        csv->wants_target = false;
        code = 0;
    }
    if (!code && options->column_prefix && csv->has_header)
        code = choose_numbered(csv, options->column_prefix, error);
    bool numbered = csv->inputs > 0;
    for (size_t i = 0; i < csv->columns && !code && !numbered; i++)
        if (i != csv->target)
            csv->slots[i] = csv->inputs++;
    if (!code && !csv->inputs)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: has no column but that of the targets",
                              csv->file.path);
    return code;
}

/* The index. */

static bool remember(struct dataset_csv *csv, uint64_t row, uint64_t offset)
{
    if (row % csv->stride)
        return true;
    if (csv->index_count == INDEX_MAX) { /* row is a multiple of twice the stride, too */
        for (size_t i = 0; i < INDEX_MAX / 2; i++)
            csv->index[i] = csv->index[2 * i];
        csv->index_count = INDEX_MAX / 2;
        csv->stride *= 2;
    }
    if ((csv->index_count & (csv->index_count - 1)) == 0) {
        size_t capacity = csv->index_count ? 2 * csv->index_count : 1;
        uint64_t *grown = realloc(csv->index, capacity * sizeof *grown);
        if (!grown)
            return false;
        csv->index = grown;
    }
    csv->index[csv->index_count++] = offset;
    return true;
}

/* A target that is a name among numbers, or a number among names. */
static int dataset_csv_mixed(const struct dataset_csv *csv, uint64_t row, uint64_t offset,
                             struct ivon_error *error)
{
    char what[120];
    bool numbers = row == csv->numbers.row;
    snprintf(what, sizeof what, "its target is a %s, but that of row %llu a %s",
             numbers ? "number" : "name",
             (unsigned long long)(numbers ? csv->names.row : csv->numbers.row),
             numbers ? "name" : "number");
    return bad_row(csv, row, offset, what, error);
}

static int read_index(struct dataset_csv *csv, uint64_t limit, struct ivon_error *error)
{
    struct csv_text text = text_from(csv, csv->start);
    struct target target = {0};
    struct target *wanted = csv->wants_target ? &target : NULL;
    uint64_t held = 0;
    csv->whole = true;
    for (; (!limit || csv->rows < limit) && csv_next_record(&text); csv->rows++) {
        uint64_t offset = dataset_csv_offset_of(csv, &text);
        if (!remember(csv, csv->rows, offset))
            return ivon_error_memory(error);
        if (offset - held > PIECE) {
            dataset_csv_let_go(csv, held, offset);
            held = offset;
        }
        int code = read_row(csv, &text, csv->rows, NULL, wanted, error);
        if (code)
            return code;
        if (wanted && !dataset_csv_note_target(csv, csv->rows, &target))
            return dataset_csv_mixed(csv, csv->rows, offset, error);
        csv->whole = csv->whole && (!wanted || target.whole);
    }
    if (!csv->rows)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: no row of numbers follows its first "
                              "line",
                              csv->file.path);
    return 0;
}

/* Sets *text to the beginning of a row, from the nearest known place before it. */
static int dataset_csv_seek(struct dataset_csv *csv, size_t field, uint64_t row,
                            struct csv_text *text, struct ivon_error *error)
{
    uint64_t known = row / csv->stride;
    struct place place = {known * csv->stride, csv->index[known]};
    if (csv->next[field].row <= row && csv->next[field].row >= place.row)
        place = csv->next[field];
    *text = text_from(csv, place.offset);
    for (; place.row < row; place.row++) {
        csv_next_record(text);
        int code = read_row(csv, text, place.row, NULL, NULL, error);
        if (code)
            return code;
    }
    return 0;
}

/* The class. */

static int csv_read(void *self, size_t field, uint64_t first, size_t count, void *buffer,
                    struct ivon_error *error)
{
    struct dataset_csv *csv = self;
    struct csv_text text;
    struct target target = {0};
    int code = dataset_csv_seek(csv, field, first, &text, error);
    uint64_t start = dataset_csv_offset_of(csv, &text);
    for (size_t i = 0; i < count && !code; i++) {
        csv_next_record(&text);
        float *inputs = field ? NULL : (float *)buffer + i * csv->inputs;
        code = read_row(csv, &text, first + i, inputs, field ? &target : NULL, error);
        if (!code && field && csv->whole)
            ((int64_t *)buffer)[i] = target.integer;
        else if (!code && field)
            ((float *)buffer)[i] = target.number;
    }
    if (!code)
        csv->next[field] = (struct place){first + count, dataset_csv_offset_of(csv, &text)};
    dataset_csv_let_go(csv, start, dataset_csv_offset_of(csv, &text));
    return code;
}

static void csv_close(void *self)
{
    struct dataset_csv *csv = self;
    if (csv->locale)
        freelocale(csv->locale);
    mapped_close(&csv->file);
    class_names_release(&csv->classes);
    free(csv->slots);
    free(csv->index);
    free(csv);
}

static int dataset_csv_make(struct ivon_examples **examples, struct dataset_csv *csv,
                            const struct dataset_request *request, const char *input,
                            struct ivon_error *error)
{
    static const struct ivon_examples_class class = {
        .read = csv_read, .close = csv_close, .extents_hint = IVON_HINT_COLUMNS};
    const struct dataset_array arrays[] = {
        {.name = input,
         .dtype = IVON_F32,
         .rank = 2,
         .shape = {(int64_t)csv->rows, (int64_t)csv->inputs}},
        {.name = dataset_targets_name(request),
         .dtype = csv->whole ? IVON_I64 : IVON_F32,
         .rank = 1,
         .shape = {(int64_t)csv->rows}},
    };
    return dataset_make(examples, &class, csv, request, arrays, csv->wants_target ? 2 : 1,
                        csv->wants_target, error);
}

int dataset_csv_open(struct ivon_examples **examples, struct dataset_request *request,
                     struct mapped_file *file, struct ivon_error *error)
{
    const struct ivon_dataset_options *options = request->options;
    const char *input = dataset_input_name(request, error);
    if (!input)
        return IVON_ERROR_ARGUMENT;
    if (dataset_targets_required(request) && !options->target_column)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: targets '%s' are asked for, but not which column they are",
                              request->path, options->targets);
    struct dataset_csv *csv = calloc(1, sizeof *csv);
    if (!csv)
        return ivon_error_memory(error);
    csv->file = *file;
    *file = (struct mapped_file){0};
    csv->target = NO_COLUMN;
    csv->stride = STRIDE;
    csv->wants_target = options->target_column && !dataset_targets_refused(request);
    csv->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    int code = csv->locale
                   ? class_names_init(&csv->classes, options->classes, options->class_count, error)
                   : ivon_error_memory(error);
    if (!code)
        code = dataset_csv_read_first_line(csv, error);
    if (!code)
        code = choose_columns(csv, options, error);
    if (!code)
        code = read_index(csv, options->limit, error);
    if (!code)
        code = dataset_csv_make(examples, csv, request, input, error);
    if (code)
        csv_close(csv);
    return code;
}
