/* A sheet of the images whose score is greatest, with what they are and were taken for. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/plot/plot.h"
#include "cmd/shared/report.h"

enum {
    TOP = 24,
    CELL = 128,      /* pixels of an image and its captions, by default */
    CAPTIONS = 34,   /* pixels of two lines */
    HEADING = 44,    /* pixels of the title */
    THUMBNAIL = 112, /* the most pixels of an image's side; larger ones are averaged */
    SIDE_MAX = 1 << 14,
};

struct entry {
    double score, index, label, prediction; /* NaN: there is none */
    uint64_t row;
};

/* An image as the data have it: channels × height × width. */
struct layout {
    int64_t channels, height, width;
};

struct sheet {
    struct plot_command *command;
    struct ivon_examples *examples;
    size_t field;
    struct layout layout;
    struct entry *entries; /* in falling order of their scores */
    size_t count, columns, rows;
    float *pixels; /* of an image */
    bool scaled;   /* numbers from 0 to 1, as bytes become */
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

/* The member at `offset` of all entries, from a column; NaN where it is missing and need not be
   there. */
static int plot_images_fill(struct sheet *sheet, struct ivon_table_reader *table, const char *name,
                            bool needed, size_t offset, struct ivon_error *error)
{
    double *numbers = NULL;
    int code = needed || ivon_table_reader_has(table, name)
                   ? plot_read(table, name, &numbers, error)
                   : 0;
    for (uint64_t i = 0; i < ivon_table_reader_rows(table) && !code; i++) {
        double number = numbers ? numbers[i] : NAN;
        memcpy((char *)&sheet->entries[i] + offset, &number, sizeof number);
        sheet->entries[i].row = i;
    }
    free(numbers);
    return code;
}

static int read_entries(struct sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    struct ivon_table_reader *table = command->tables[0];
    size_t rows = (size_t)ivon_table_reader_rows(table), top = command->top ? command->top : TOP;
    sheet->entries = xcalloc(rows + 1, sizeof *sheet->entries);
    int code = plot_images_fill(sheet, table, "index", true, offsetof(struct entry, index), error);
    if (!code)
        code = plot_images_fill(sheet, table, plot_score(command, table), true,
                                offsetof(struct entry, score), error);
    if (!code)
        code = plot_images_fill(sheet, table, "label", false, offsetof(struct entry, label), error);
    if (!code)
        code = plot_images_fill(sheet, table, "prediction", false,
                                offsetof(struct entry, prediction), error);
    if (!code && !rows)
        code = error_fill(error, IVON_ERROR_DATA, "%s: has no row", ivon_table_reader_path(table));
    qsort(sheet->entries, rows, sizeof *sheet->entries, falling);
    sheet->count = rows < top ? rows : top;
    return code;
}

/* The data. */

static bool is_square(int64_t count, int64_t *side)
{
    *side = (int64_t)lround(sqrt((double)count));
    return *side * *side == count;
}

/* Height × width, channels × height × width, or a square image as a vector. */
static bool find_layout(const struct ivon_field *field, struct layout *layout)
{
    const int64_t *shape = field->shape;
    int64_t count = (int64_t)field->count, side;
    *layout = (struct layout){.channels = 1};
    if (field->rank == 3 && (shape[0] == 1 || shape[0] == 3))
        *layout = (struct layout){shape[0], shape[1], shape[2]};
    else if (field->rank == 2)
        *layout = (struct layout){1, shape[0], shape[1]};
    else if (field->rank == 1 && is_square(count, &side))
        *layout = (struct layout){1, side, side};
    else if (field->rank == 1 && count % 3 == 0 && is_square(count / 3, &side))
        *layout = (struct layout){3, side, side};
    return layout->height > 0 && layout->width > 0 && layout->height <= SIDE_MAX &&
           layout->width <= SIDE_MAX;
}

static int plot_images_open_data(struct sheet *sheet, struct ivon_error *error)
{
    const struct plot_command *command = sheet->command;
    struct ivon_dataset_options options = command->dataset;
    if (!options.target_column)
        options.targets = "";
    int code = ivon_dataset_open(&sheet->examples, command->data, &options, error);
    if (code)
        return code;
    const struct ivon_field *field = ivon_examples_field(sheet->examples, sheet->field);
    sheet->scaled = field->dtype == IVON_U8;
    if (!find_layout(field, &sheet->layout))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: '%s' has %d axes and %zu numbers for each example, expected "
                          "images: height x width, 1 or 3 x height x width, or a square",
                          command->data, field->name, field->rank, field->count);
    sheet->pixels = xcalloc(field->count, sizeof *sheet->pixels);
    return 0;
}

/* Reads an entry's image; afterwards its numbers are from 0 to 1. */
static int read_image(struct sheet *sheet, const struct entry *entry, struct ivon_error *error)
{
    uint64_t examples = ivon_examples_count(sheet->examples);
    size_t count = ivon_examples_field(sheet->examples, sheet->field)->count;
    if (!(entry->index >= 0 && entry->index < (double)examples) ||
        entry->index != floor(entry->index))
        return error_fill(
            error, IVON_ERROR_DATA, "%s: row %llu has index %g, but there are %llu examples in %s",
            sheet->command->files[0], (unsigned long long)entry->row, report_number(entry->index),
            (unsigned long long)examples, sheet->command->data);
    int code = ivon_examples_read_f32(sheet->examples, sheet->field, (uint64_t)entry->index, 1,
                                      sheet->pixels, error);
    struct range range = range_empty();
    for (size_t i = 0; i < count && !code; i++)
        range_add(&range, sheet->pixels[i]);
    if (sheet->scaled)
        range = (struct range){0, 1};
    double length = range.high > range.low ? range.high - range.low : 1;
    for (size_t i = 0; i < count && !code; i++) {
        double value = ((double)sheet->pixels[i] - range.low) / length;
        sheet->pixels[i] = isfinite(value) ? (float)value : 0;
    }
    return code;
}

/* The script. */

/* The mean of a channel over the numbers that a pixel of the thumbnail stands for. */
static double plot_images_mean_of(const struct sheet *sheet, int64_t channel, int64_t x, int64_t y,
                                  int64_t step)
{
    const struct layout *layout = &sheet->layout;
    const float *pixels = sheet->pixels +
                          (channel % layout->channels) * layout->height * layout->width;
    double sum = 0;
    int64_t count = 0;
    for (int64_t j = y * step; j < (y + 1) * step && j < layout->height; j++)
        for (int64_t i = x * step; i < (x + 1) * step && i < layout->width; i++, count++)
            sum += (double)pixels[j * layout->width + i];
    return sum / (double)count;
}

/* Lines "x y red green blue". */
static void put_pixels(struct sheet *sheet, int64_t width, int64_t height, int64_t step)
{
    struct script *script = &sheet->command->script;
    script_open_block(script);
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            script_add(script, "%d %d", (int)x, (int)y);
            for (int64_t channel = 0; channel < 3; channel++)
                script_add(script, " %.0f", 255 * plot_images_mean_of(sheet, channel, x, y, step));
            script_add(script, "\n");
        }
    script_close_block(script);
}

static void put_captions(struct sheet *sheet, const struct entry *entry, double x, double y)
{
    struct script *script = &sheet->command->script;
    int font = sheet->command->format == PICTURE_SVG ? 10 : 8; /* pixels, or points */
    script_add(script, "set label '%.0f:  %.4g' at %g,%g center font ',%d'\n", entry->index,
               entry->score, x, y + 11, font);
    bool label = isfinite(entry->label), prediction = isfinite(entry->prediction);
    if (!label && !prediction)
        return;
    script_add(script, "set label '");
    if (label)
        script_add(script, "label %.6g", entry->label);
    if (prediction)
        script_add(script, "%spred. %.6g", label ? ", " : "", entry->prediction);
    script_add(script, "' at %g,%g center font ',%d'\n", x, y + 25, font);
}

static int put_images(struct sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    struct script *script = &command->script;
    int64_t longer = sheet->layout.width > sheet->layout.height ? sheet->layout.width
                                                                : sheet->layout.height;
    int64_t step = (longer + THUMBNAIL - 1) / THUMBNAIL;
    int64_t width = (sheet->layout.width + step - 1) / step;
    int64_t height = (sheet->layout.height + step - 1) / step;
    double cell_width = (double)command->width / (double)sheet->columns;
    double cell_height = ((double)command->height - HEADING) / (double)sheet->rows;
    double scale = fmax(
        fmin((cell_width - 12) / (double)width, (cell_height - CAPTIONS - 8) / (double)height),
        0.01);
    for (size_t i = 0; i < sheet->count; i++) {
        double x = cell_width * ((double)(i % sheet->columns) + 0.5);
        size_t line = i / sheet->columns;
        double y = HEADING + cell_height * (double)line;
        int code = read_image(sheet, &sheet->entries[i], error);
        if (code)
            return code;
        put_pixels(sheet, width, height, step);
        put_captions(sheet, &sheet->entries[i], x, y + scale * (double)height);
        script_add(script,
                   "set object rectangle center %.9g,%.9g size %.9g,%.9g front fs empty "
                   "border lc rgb '#a0a0a0'\n",
                   x, y + scale * (double)height / 2, scale * (double)width,
                   scale * (double)height);
    }
    script_add(script, "plot ");
    for (size_t i = 0; i < sheet->count; i++) {
        double x = cell_width * ((double)(i % sheet->columns) + 0.5);
        size_t line = i / sheet->columns;
        double y = HEADING + cell_height * (double)line;
        script_add(script,
                   "%s$b%zu using (%.9g+%.9g*$1):(%.9g+%.9g*$2):3:4:5 with rgbimage "
                   "notitle",
                   i ? ", \\\n  " : "", i, x - scale * ((double)width - 1) / 2, scale,
                   y + scale / 2, scale);
    }
    script_add(script, "\n");
    return 0;
}

static int put_sheet(struct sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    struct script *script = &command->script;
    sheet->columns = (size_t)ceil(sqrt(1.5 * (double)sheet->count));
    sheet->columns = sheet->columns < 3 ? 3 : sheet->columns;
    sheet->rows = (sheet->count + sheet->columns - 1) / sheet->columns;
    if (!command->width)
        command->width = (int)sheet->columns * CELL;
    if (!command->height)
        command->height = HEADING + (int)sheet->rows * (CELL + CAPTIONS - 4);
    script_begin(command);
    script_add(script,
               "unset border\nunset tics\nunset grid\nunset key\n"
               "set lmargin 0\nset rmargin 0\nset tmargin 0\nset bmargin 0\n"
               "set xrange [0:%d]\nset yrange [%d:0]\nset label ",
               command->width, command->height);
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
    ivon_examples_close(sheet.examples);
    free(sheet.entries);
    free(sheet.pixels);
    return code;
}
