/* The rows of a table of influences, in the order in which they are shown, and their data. */
#include "cmd/plot/influence.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum {
    TOP = 5,     /* rows of each sign for a query, by default */
    QUERIES = 8, /* by default */
    MOST = 8000, /* pixels of a side, by default */
    TOKENS_MOST = 1 << 30,
};

/* The table. */

static int plot_influence_sign(double a, double b)
{
    return (a > b) - (a < b);
}

static int plot_influence_order(const void *a, const void *b)
{
    const struct found *left = a, *right = b;
    int order = plot_influence_sign(left->query, right->query);
    if (!order)
        order = plot_influence_sign(left->query_token, right->query_token);
    if (!order)
        order = (left->rank < 0) - (right->rank < 0);
    if (!order)
        order = plot_influence_sign(fabs(left->rank), fabs(right->rank));
    return order ? order : (left->line > right->line) - (left->line < right->line);
}

static int plot_influence_check_found(const struct influence_sheet *sheet,
                                      const struct found *found, struct ivon_error *error)
{
    const char *path = sheet->command->files[0];
    unsigned long long line = found->line;
    if (found->rank == 0 || found->rank != floor(found->rank))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: row %llu has rank %g, expected 1, 2, ... or -1, -2, ...", path, line,
                          report_number(found->rank));
    if ((found->token != -1 && !plot_is_row(found->token, TOKENS_MOST)) ||
        (found->query_token != -1 && !plot_is_row(found->query_token, TOKENS_MOST)))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: row %llu has tokens %g and %g, expected numbers of tokens", path,
                          line, found->query_token, found->token);
    if (!plot_is_row(found->query, ivon_examples_count(sheet->query.examples)))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: row %llu is of query %g, but there are %llu examples in %s", path,
                          line, report_number(found->query),
                          (unsigned long long)ivon_examples_count(sheet->query.examples),
                          sheet->command->queries);
    if (!plot_is_row(found->row, ivon_examples_count(sheet->train.examples)))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: row %llu is of training row %g, but there are %llu examples in %s",
                          path, line, report_number(found->row),
                          (unsigned long long)ivon_examples_count(sheet->train.examples),
                          sheet->command->data);
    return 0;
}

static int plot_influence_read(struct influence_sheet *sheet, struct ivon_error *error)
{
    static const struct plot_member members[] = {
        {"query", offsetof(struct found, query), true, false},
        {"query_token", offsetof(struct found, query_token), false, false},
        {"rank", offsetof(struct found, rank), true, false},
        {"row", offsetof(struct found, row), true, false},
        {"token", offsetof(struct found, token), false, false},
        {"influence", offsetof(struct found, influence), true, false},
        {"label", offsetof(struct found, label), false, true}};
    struct ivon_table_reader *table = sheet->command->tables[0];
    sheet->count = (size_t)ivon_table_reader_rows(table);
    sheet->founds = xcalloc(sheet->count + 1, sizeof *sheet->founds);
    int code = plot_read_members(sheet->command, table, members, sizeof members / sizeof members[0],
                                 sheet->founds, sizeof *sheet->founds, error);
    for (size_t i = 0; i < sheet->count; i++) {
        sheet->founds[i].line = i;
        if (isnan(sheet->founds[i].query_token))
            sheet->founds[i].query_token = -1;
        if (isnan(sheet->founds[i].token))
            sheet->founds[i].token = -1;
    }
    if (!code && !sheet->count)
        code = error_fill(error, IVON_ERROR_DATA, "%s: has no row", ivon_table_reader_path(table));
    return code;
}

/* The rows from `first` on that are of one query, and how many of them are helpful. */
static size_t plot_influence_run(const struct influence_sheet *sheet, size_t first, size_t *helpful)
{
    const struct found *founds = sheet->founds;
    size_t end = first;
    *helpful = 0;
    for (; end < sheet->count && founds[end].query == founds[first].query &&
           founds[end].query_token == founds[first].query_token;
         end++)
        *helpful += founds[end].rank > 0;
    return end - first;
}

static size_t plot_influence_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t plot_influence_most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Checks and sorts the rows, and finds the queries that are shown. */
static int plot_influence_group(struct influence_sheet *sheet, struct ivon_error *error)
{
    const struct plot_command *command = sheet->command;
    size_t top = command->top ? command->top : TOP;
    size_t limit = command->limit ? command->limit : QUERIES;
    int code = 0;
    for (size_t i = 0; i < sheet->count && !code; i++)
        code = plot_influence_check_found(sheet, &sheet->founds[i], error);
    if (code)
        return code;
    qsort(sheet->founds, sheet->count, sizeof *sheet->founds, plot_influence_order);
    sheet->asked = xcalloc(limit, sizeof *sheet->asked);
    for (size_t i = 0; i < sheet->count; sheet->queries++) {
        size_t helpful, run = plot_influence_run(sheet, i, &helpful);
        struct asked asked = {&sheet->founds[i], &sheet->founds[i + helpful],
                              plot_influence_least(helpful, top),
                              plot_influence_least(run - helpful, top)};
        i += run;
        if (sheet->queries >= limit)
            continue;
        sheet->asked[sheet->asked_count++] = asked;
        sheet->helpful = plot_influence_most(sheet->helpful, asked.helpful_count);
        sheet->harmful = plot_influence_most(sheet->harmful, asked.harmful_count);
    }
    return 0;
}

/* The data. */

bool plot_influence_of_texts(const struct plot_command *command)
{
    return command->vocabulary || command->dataset.vocabulary || command->dataset.characters;
}

static int plot_influence_open_source(const struct influence_sheet *sheet, struct source *source,
                                      const char *path, struct ivon_error *error)
{
    int code = ivon_dataset_open(&source->examples, path, &sheet->command->dataset, error);
    if (code)
        return code;
    size_t last = ivon_examples_field_count(source->examples) - 1;
    source->target = last && ivon_examples_field(source->examples, last)->count == 1
                         ? (ptrdiff_t)last
                         : -1;
    if (plot_influence_of_texts(sheet->command))
        return 0;
    struct ivon_error inner;
    code = thumbnails_open(&source->images, source->examples, 0, &inner);
    return code ? error_fill(error, inner.code, "%s; texts take --tokens, or --vocabulary=FILE",
                             inner.message)
                : 0;
}

static int plot_influence_open_data(struct influence_sheet *sheet, struct ivon_error *error)
{
    const struct plot_command *command = sheet->command;
    const char *words = command->vocabulary ? command->vocabulary : command->dataset.vocabulary;
    int code = words ? name_list_read(&sheet->vocabulary, words, "vocabulary", error) : 0;
    if (!code)
        code = plot_influence_open_source(sheet, &sheet->train, command->data, error);
    return code ? code : plot_influence_open_source(sheet, &sheet->query, command->queries, error);
}

int plot_influence_read_label(const struct source *source, double example, double *label,
                              struct ivon_error *error)
{
    *label = NAN;
    if (source->target < 0)
        return 0;
    size_t field = (size_t)source->target;
    float real;
    int64_t whole;
    bool is_float = ivon_dtype_is_float(ivon_examples_field(source->examples, field)->dtype);
    int code = is_float ? ivon_examples_read_f32(source->examples, field, (uint64_t)example, 1,
                                                 &real, error)
                        : ivon_examples_read_i64(source->examples, field, (uint64_t)example, 1,
                                                 &whole, error);
    if (!code)
        *label = is_float ? (double)real : (double)whole;
    return code;
}

/* A label that the table has otherwise is of other data. */
int plot_influence_label(const struct influence_sheet *sheet, const struct found *found,
                         double *label, struct ivon_error *error)
{
    int code = plot_influence_read_label(&sheet->train, found->row, label, error);
    if (!code && isfinite(found->label) && isfinite(*label) && found->label != *label)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: row %llu has label %g, but that of row %.0f of %s is %g",
                          sheet->command->files[0], (unsigned long long)found->line, found->label,
                          found->row, sheet->command->data, *label);
    if (!isfinite(*label))
        *label = found->label;
    return code;
}

const struct found *plot_influence_query(const struct asked *asked)
{
    return asked->helpful_count ? asked->helpful : asked->harmful;
}

/* The sheet. */

void plot_influence_rule(struct script *script, double x0, double y0, double x1, double y1)
{
    script_add(script, "set arrow from %g,%g to %g,%g nohead lw 0.5 lc rgb '#808080'\n", x0, y0, x1,
               y1);
}

void plot_influence_begin(struct influence_sheet *sheet, double width, double height)
{
    struct plot_command *command = sheet->command;
    struct script *script = &command->script;
    if (!command->width)
        command->width = (int)fmin(width, MOST);
    if (!command->height)
        command->height = (int)fmin(height, MOST);
    sheet_begin(command);
    if (command->title)
        script_title(command);
    else if (sheet->asked_count < sheet->queries)
        script_add(script, "'Training rows that helped and harmed the first %zu of %zu queries'",
                   sheet->asked_count, sheet->queries);
    else
        script_add(script, "'Training rows that helped and harmed'");
    script_add(script, " at %g,18 center\n", command->width / 2.0);
}

int plot_influence_open(struct influence_sheet *sheet, struct ivon_error *error)
{
    int code = plot_influence_read(sheet, error);
    if (!code)
        code = plot_influence_open_data(sheet, error);
    return code ? code : plot_influence_group(sheet, error);
}

void plot_influence_close(struct influence_sheet *sheet)
{
    thumbnails_release(&sheet->train.images);
    thumbnails_release(&sheet->query.images);
    ivon_examples_close(sheet->train.examples);
    ivon_examples_close(sheet->query.examples);
    name_list_release(&sheet->vocabulary);
    free(sheet->founds);
    free(sheet->asked);
}
