/* Texts in lines: each query, those that helped it, those that harmed it. */
#include <math.h>
#include <stdlib.h>

#include "cmd/plot/influence.h"
#include "cmd/shared/report.h"

enum {
    TEXT_WIDTH = 1000, /* pixels of the picture, by default */
    LEAST = 10,        /* pixels of a line's height that can be read */
};

/* The places in a line, in pixels, at which its numbers end and its words begin. */
enum { AT_ROW = 130, AT_INFLUENCE = 205, AT_LABEL = 250, AT_TOKEN = 300, AT_TEXT = 315 };

enum { FOR_NAMES = 84 /* pixels more of a label where classes have names */ };

static int plot_influence_shift(const struct plot_command *command)
{
    return command->classes ? FOR_NAMES : 0;
}

/* A line of text. */
struct text_line {
    double example, token, influence, label; /* as of a row of the table */
};

static void plot_influence_put_label(struct plot_command *command, double label, double y)
{
    char *class = plot_class_text(command, label);
    int end = AT_LABEL + plot_influence_shift(command);
    script_add(&command->script, "set label ");
    script_text(&command->script, class,
                command->classes ? (size_t)((end - AT_INFLUENCE) / CHARACTER - 1) : KEY_MAX);
    script_add(&command->script, " at %d,%g right\n", end, y);
    free(class);
}

/* One line about an example; an influence that is NaN is not written. */
static int plot_influence_put_text(struct influence_sheet *sheet, const struct source *source,
                                   const char *word, const struct text_line *line, double y,
                                   struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    struct script *script = &command->script;
    int shift = plot_influence_shift(command);
    char *text = NULL;
    int code = vocabulary_text(&sheet->vocabulary, source->examples, 0, (uint64_t)line->example,
                               (int64_t)line->token, &text, error);
    if (code) {
        free(text);
        return code;
    }
    script_add(script, "set label '%s' at 12,%g\n", word, y);
    script_add(script, "set label '%.0f' at %d,%g right\n", line->example, AT_ROW, y);
    if (!isnan(line->influence))
        script_add(script, "set label '%+.3g' at %d,%g right\n", line->influence, AT_INFLUENCE, y);
    if (isfinite(line->label))
        plot_influence_put_label(command, line->label, y);
    if (line->token >= 0)
        script_add(script, "set label '%.0f' at %d,%g right\n", line->token, AT_TOKEN + shift, y);
    script_add(script, "set label ");
    script_text(script, text, (size_t)((command->width - AT_TEXT - shift) / CHARACTER));
    script_add(script, " at %d,%g\n", AT_TEXT + shift, y);
    free(text);
    return 0;
}

static int plot_influence_put_found_texts(struct influence_sheet *sheet, const struct found *founds,
                                          size_t count, const char *word, double *y, double height,
                                          struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < count && !code; i++) {
        struct text_line line = {founds[i].row, founds[i].token, founds[i].influence, NAN};
        code = plot_influence_label(sheet, &founds[i], &line.label, error);
        if (!code)
            code = plot_influence_put_text(sheet, &sheet->train, word, &line, *y, error);
        *y += height;
    }
    return code;
}

static int plot_influence_put_query_texts(struct influence_sheet *sheet, const struct asked *asked,
                                          double *y, double height, struct ivon_error *error)
{
    const struct found *query = plot_influence_query(asked);
    struct text_line line = {query->query, query->query_token, NAN, NAN};
    plot_influence_rule(&sheet->command->script, 8, *y - height / 2, sheet->command->width - 8,
                        *y - height / 2);
    int code = plot_influence_read_label(&sheet->query, query->query, &line.label, error);
    if (!code)
        code = plot_influence_put_text(sheet, &sheet->query, "query", &line, *y, error);
    *y += height;
    if (!code)
        code = plot_influence_put_found_texts(sheet, asked->helpful, asked->helpful_count,
                                              "helpful", y, height, error);
    if (!code)
        code = plot_influence_put_found_texts(sheet, asked->harmful, asked->harmful_count,
                                              "harmful", y, height, error);
    *y += height / 2;
    return code;
}

int plot_influence_put_texts(struct influence_sheet *sheet, struct ivon_error *error)
{
    struct plot_command *command = sheet->command;
    const struct ivon_table_reader *table = command->tables[0];
    struct script *script = &command->script;
    double lines = 0;
    int shift = plot_influence_shift(command);
    for (size_t i = 0; i < sheet->asked_count; i++)
        lines += 1.5 + (double)(sheet->asked[i].helpful_count + sheet->asked[i].harmful_count);
    plot_influence_begin(sheet, TEXT_WIDTH, HEADING + WORDS + LINE * lines);
    double height = (command->height - HEADING - WORDS) / lines, y = HEADING + WORDS;
    if (height < LEAST || command->width < AT_TEXT + shift + 20 * CHARACTER)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "%d x %d pixels are not enough for %.0f lines of text", command->width,
                          command->height, ceil(lines));
    script_add(script, "set label 'row' at %d,%d right\nset label 'influence' at %d,%d right\n",
               AT_ROW, HEADING, AT_INFLUENCE, HEADING);
    if (ivon_table_reader_has(table, "label") || sheet->train.target >= 0)
        script_add(script, "set label 'label' at %d,%d right\n", AT_LABEL + shift, HEADING);
    if (ivon_table_reader_has(table, "token") || ivon_table_reader_has(table, "query_token"))
        script_add(script, "set label 'token' at %d,%d right\n", AT_TOKEN + shift, HEADING);
    int code = 0;
    for (size_t i = 0; i < sheet->asked_count && !code; i++)
        code = plot_influence_put_query_texts(sheet, &sheet->asked[i], &y, height, error);
    script_add(script, "plot NaN notitle\n");
    return code;
}
