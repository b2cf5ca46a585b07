/* A sheet of the images whose score is greatest, with what they are and were taken for. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "cmd/plot/thumbnail.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum {
    TOP = 24,
    CELL = 128, /* pixels of an image and its captions, by default, */
    WIDE = 176, /* or of the latter with names in it */
};

struct entry {
    double score, index, label, prediction; /* NaN: there is none */
    uint64_t row;
};

struct sheet {
    struct plot_command *command;
    struct ivon_examples *examples;
    struct thumbnails images;
    struct entry *entries;        /* in falling order of their scores */
    struct thumbnail *thumbnails; /* theirs */
    size_t count, columns, rows;
};

/* The rows. */

static int falling(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    bool left_none = isnan(left->score), right_none = isnan(right->score);
    if (left_none != right_none)
        return left_none ? 1 : -1;
    if (left->score > right->score || left->score < right->score)
        return left->score > right->score ? -1 : 1;
    return (left->row > right->row) - (left->row < right->row);
}

static int read_entries(struct sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    struct ivon_table_reader *table = command->tables[0];
    size_t rows = (size_t)ivon_table_reader_rows(table), top = command->top ? command->top : TOP;
    struct entry *entries = xcalloc(rows + 1, sizeof *entries);
    const struct plot_member members[] = {
        {"index", offsetof(struct entry, index), true, false},
        {plot_score(command, table), offsetof(struct entry, score), true, false},
        {"label", offsetof(struct entry, label), false, true},
        {"prediction", offsetof(struct entry, prediction), false, true}};
    sheet->entries = entries;
    for (size_t i = 0; i < rows; i++)
        entries[i].row = i;
    int code = plot_read_members(command, table, members, 4, entries, sizeof *entries, error);
    if (!code && !rows)
        code = error_fill(error, IVON_ERROR_DATA, "%s: has no row", ivon_table_reader_path(table));
    qsort(entries, rows, sizeof *entries, falling);
    sheet->count = rows < top ? rows : top;
    sheet->thumbnails = xcalloc(sheet->count + 1, sizeof *sheet->thumbnails);
    return code;
}

static int plot_images_open_data(struct sheet *sheet, struct ivon_error *error)
{
    const struct plot_command *command = sheet->command;
    struct ivon_dataset_options options = command->dataset;
    if (!options.target_column)
        options.targets = "";
    int code = ivon_dataset_open(&sheet->examples, command->data, &options, error);
    return code ? code : thumbnails_open(&sheet->images, sheet->examples, 0, error);
}

/* The script. */

static int put_image(struct sheet *sheet, const struct entry *entry, struct thumbnail *thumbnail,
                     struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    uint64_t examples = ivon_examples_count(sheet->examples);
    char first[64];
    if (!plot_is_row(entry->index, examples))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: row %llu has index %g, but there are %llu examples in %s",
                          command->files[0], (unsigned long long)entry->row,
                          report_number(entry->index), (unsigned long long)examples, command->data);
    int code = thumbnails_put(&sheet->images, &command->script, (uint64_t)entry->index, thumbnail,
                              error);
    bool label = isfinite(entry->label), prediction = isfinite(entry->prediction);
    char *is = plot_class_text(command, entry->label);
    char *taken_for = plot_class_text(command, entry->prediction);
    char *second = xasprintf("%s%s%s%s%s", label ? "label " : "", label ? is : "",
                             label && prediction ? ", " : "", prediction ? "pred. " : "",
                             prediction ? taken_for : "");
    snprintf(first, sizeof first, "%.0f:  %.4g", entry->index, entry->score);
    if (!code)
        thumbnails_caption(&sheet->images, command, thumbnail, first, second);
    free(is);
    free(taken_for);
    free(second);
    return code;
}

static int put_images(struct sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    double cell_width = (double)command->width / (double)sheet->columns;
    double cell_height = ((double)command->height - HEADING) / (double)sheet->rows;
    double scale = thumbnails_scale(&sheet->images, cell_width, cell_height);
    int code = 0;
    for (size_t i = 0; i < sheet->count && !code; i++) {
        size_t line = i / sheet->columns;
        sheet->thumbnails[i] = (struct thumbnail){.x = cell_width *
                                                       ((double)(i % sheet->columns) + 0.5),
                                                  .top = HEADING + cell_height * (double)line,
                                                  .width = cell_width,
                                                  .scale = scale};
        code = put_image(sheet, &sheet->entries[i], &sheet->thumbnails[i], error);
    }
    for (size_t i = 0; i < sheet->count && !code; i++) {
        script_add(&command->script, i ? ", \\\n  " : "plot ");
        thumbnails_plot(&sheet->images, &command->script, &sheet->thumbnails[i]);
    }
    script_add(&command->script, "\n");
    return code;
}

static int put_sheet(struct sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    struct script *script = &command->script;
    sheet->columns = (size_t)ceil(sqrt(1.5 * (double)sheet->count));
    sheet->columns = sheet->columns < 3 ? 3 : sheet->columns;
    sheet->rows = (sheet->count + sheet->columns - 1) / sheet->columns;
    if (!command->width)
        command->width = (int)sheet->columns * (command->classes ? WIDE : CELL);
    if (!command->height)
        command->height = HEADING + (int)sheet->rows * (CELL + CAPTIONS - 4);
    sheet_begin(command);
    if (command->title) {
        script_title(command);
    } else {
        script_add(script, "'The %zu examples of greatest '.", sheet->count);
        script_text(script, plot_score(command, command->tables[0]), KEY_MAX);
    }
    script_add(script, " at %g,18 center\n", command->width / 2.0);
    return put_images(sheet, error);
}

int plot_images(struct plot_command *command, struct ivon_error *error)
{
    struct sheet sheet = {.command = command};
    int code = read_entries(&sheet, error);
    if (!code)
        code = plot_images_open_data(&sheet, error);
    if (!code)
        code = put_sheet(&sheet, error);
    thumbnails_release(&sheet.images);
    ivon_examples_close(sheet.examples);
    free(sheet.thumbnails);
    free(sheet.entries);
    return code;
}
