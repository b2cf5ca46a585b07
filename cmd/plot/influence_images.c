/* Each query's images in a row: the query's, those that helped it, those that harmed it. */
#include <math.h>
#include <stdlib.h>

#include "cmd/plot/influence.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum {
    CELL = 104, /* pixels of an image's width, by default */
    GAP = 16,   /* pixels between the query, helpful and harmful ones */
};

static int plot_influence_put_image(struct influence_sheet *sheet, struct source *source,
                                    struct thumbnail *thumbnail, double example, double label,
                                    double token, const char *caption, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    bool labelled = isfinite(label);
    char number[32] = "", *class = plot_class_text(command, label);
    if (token >= 0)
        snprintf(number, sizeof number, "%stoken %.6g", labelled ? ", " : "", token);
    char *second = xasprintf("%s%s%s", labelled ? "label " : "", labelled ? class : "", number);
    int code = thumbnails_put(&source->images, &command->script, (uint64_t)example, thumbnail,
                              error);
    if (!code)
        thumbnails_caption(&source->images, command, thumbnail, caption, second);
    free(class);
    free(second);
    return code;
}

/* The cell's middle: the query, a gap, the helpful ones, a gap, the harmful ones. */
static double plot_influence_x(const struct influence_sheet *sheet, double cell, size_t column)
{
    double gaps = (column > 0) + (sheet->helpful && column > sheet->helpful);
    return GAP * gaps + cell * ((double)column + 0.5);
}

static int plot_influence_put_founds(struct influence_sheet *sheet, const struct found *founds,
                                     size_t count, size_t column, struct thumbnail *cells,
                                     double cell, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        char caption[64];
        double label;
        cells[i].x = plot_influence_x(sheet, cell, column + i);
        snprintf(caption, sizeof caption, "%.0f:  %+.3g", founds[i].row,
                 report_number(founds[i].influence));
        code = plot_influence_label(sheet, &founds[i], &label, error);
        if (!code)
            code = plot_influence_put_image(sheet, &sheet->train, &cells[i], founds[i].row, label,
                                            founds[i].token, caption, error);
    }
    return code;
}

/* One line of the sheet, at the height and scale that its cells have. */
static int plot_influence_put_line(struct influence_sheet *sheet, const struct asked *asked,
                                   struct thumbnail *cells, double cell, struct ivon_error *error)
{
    const struct found *query = plot_influence_query(asked);
    char caption[64];
    double label;
    cells[0].x = plot_influence_x(sheet, cell, 0);
    snprintf(caption, sizeof caption, "query %.0f", query->query);
    int code = plot_influence_read_label(&sheet->query, query->query, &label, error);
    if (!code)
        code = plot_influence_put_image(sheet, &sheet->query, &cells[0], query->query, label,
                                        query->query_token, caption, error);
    if (!code)
        code = plot_influence_put_founds(sheet, asked->helpful, asked->helpful_count, 1, cells + 1,
                                         cell, error);
    if (!code)
        code = plot_influence_put_founds(sheet, asked->harmful, asked->harmful_count,
                                         1 + sheet->helpful, cells + 1 + sheet->helpful, cell,
                                         error);
    return code;
}

/* The names of the columns, with lines between them. */
static void plot_influence_put_words(struct influence_sheet *sheet, double cell)
{
    static const char *const words[] = {"query", "most helpful", "most harmful"};
    const size_t counts[] = {1, sheet->helpful, sheet->harmful};
    const struct plot_command *command = sheet->command;
    struct script *script = &sheet->command->script;
    double x = 0;
    for (size_t i = 0; i < 3; i++) {
        double width = cell * (double)counts[i];
        if (!counts[i])
            continue;
        if (i)
            plot_influence_rule(script, x - GAP / 2.0, HEADING - 6, x - GAP / 2.0,
                                command->height - 6);
        script_add(script, "set label '%s%s' at %g,%d center\n", words[i],
                   counts[i] > 1 ? " first" : "", x + width / 2, HEADING + 2);
        x += width + GAP;
    }
}

static void plot_influence_plot(struct influence_sheet *sheet, const struct thumbnail *cells,
                                size_t columns)
{
    struct script *script = &sheet->command->script;
    const char *before = "plot ";
    for (size_t i = 0; i < sheet->asked_count; i++)
        for (size_t c = 0; c < columns; c++) {
            const struct asked *asked = &sheet->asked[i];
            if (c && (c <= sheet->helpful ? c > asked->helpful_count
                                          : c - sheet->helpful > asked->harmful_count))
                continue;
            script_add(script, "%s", before);
            thumbnails_plot(c ? &sheet->train.images : &sheet->query.images, script,
                            &cells[i * columns + c]);
            before = ", \\\n  ";
        }
    script_add(script, "\n");
}

int plot_influence_put_images(struct influence_sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    size_t columns = 1 + sheet->helpful + sheet->harmful, lines = sheet->asked_count;
    double gaps = GAP * ((sheet->helpful > 0) + (sheet->harmful > 0)), above = HEADING + WORDS;
    plot_influence_begin(sheet, gaps + CELL * (double)columns,
                         above + (CELL - 12 + CAPTIONS + 8) * (double)lines);
    double width = (command->width - gaps) / (double)columns;
    double height = (command->height - above) / (double)lines;
    struct thumbnail *cells = xcalloc(columns * lines, sizeof *cells);
    int code = 0;
    plot_influence_put_words(sheet, width);
    for (size_t i = 0; i < lines && !code; i++) {
        struct thumbnail *line = cells + i * columns;
        for (size_t c = 0; c < columns; c++)
            line[c] = (struct thumbnail){
                .top = above + height * (double)i,
                .width = width,
                .scale = thumbnails_scale(c ? &sheet->train.images : &sheet->query.images, width,
                                          height)};
        code = plot_influence_put_line(sheet, &sheet->asked[i], line, width, error);
    }
    if (!code)
        plot_influence_plot(sheet, cells, columns);
    free(cells);
    return code;
}
