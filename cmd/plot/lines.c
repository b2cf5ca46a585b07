/* Curves of columns: the loss along a training, merged models by their scaling, averages by their
   number of samples, metrics by the level of a corruption, losses by the learning rate. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/plot/plot.h"
#include "cmd/shared/report.h"

enum {
    PANELS = 4,
    PANEL = 480,        /* pixels of one's width, by default */
    PANEL_HEIGHT = 400, /* without the key */
    AXIS = 70,          /* pixels beside the curves */
    SAMPLE = 50,        /* pixels of a piece of curve in the key */
    POINTS_SHOWN = 12,  /* symbols on a curve */
    COLUMNS = 5,
};

/* A column that becomes a curve, with a band where there is a column NAME_se. */
struct line_column {
    const char *name, *title; /* the title of its curve; null: the group's alone */
};

struct line_panel {
    const char *label; /* of its axis */
    struct line_column columns[COLUMNS];
};

struct line_kind {
    const char *x, *x_label;
    const char *group; /* a column of names: rows that differ in it are curves of their own */
    struct line_panel panels[PANELS];
    int base;  /* of a logarithmic horizontal axis; 0: it is not */
    bool cuts; /* what rises by a quarter above where its curve begins is not shown */
};

struct point {
    double x, y, se; /* NaN: no standard error */
};

struct curve {
    char *title;
    size_t panel;
    struct point *points; /* in the order of x */
    size_t count;
};

struct lines {
    struct plot_command *command;
    const struct line_kind *kind;
    struct curve curves[CURVES_MAX * PANELS];
    size_t curve_count, in_panel[PANELS];
    int key_columns;
    bool by_row; /* the horizontal axis numbers the rows: their x is not known */
};

/* The rows of a table that share a name; or all, under none. */
struct groups {
    const char *path; /* of the table */
    char *names[CURVES_MAX];
    size_t count;
    size_t *of_row; /* null: one group */
};

/* Groups. */

static int too_many(const char *path, struct ivon_error *error)
{
    return error_fill(error, IVON_ERROR_DATA, "%s: more than %d curves in one picture", path,
                      CURVES_MAX);
}

static int plot_lines_on_group(void *context, uint64_t row, const char *text,
                               struct ivon_error *error)
{
    struct groups *groups = context;
    size_t found = 0;
    while (found < groups->count && strcmp(groups->names[found], text) != 0)
        found++;
    groups->of_row[row] = found;
    if (found < groups->count)
        return 0;
    if (groups->count == CURVES_MAX)
        return too_many(groups->path, error);
    groups->names[groups->count++] = xstrdup(text);
    return 0;
}

static int plot_lines_read_groups(struct groups *groups, struct ivon_table_reader *table,
                                  const char *name, struct ivon_error *error)
{
    size_t column;
    *groups = (struct groups){.path = ivon_table_reader_path(table)};
    if (!ivon_table_reader_has(table, name))
        return 0;
    groups->of_row = xcalloc((size_t)ivon_table_reader_rows(table) + 1, sizeof *groups->of_row);
    int code = ivon_table_reader_find(table, name, &column, error);
    return code ? code
                : ivon_table_reader_read_text(table, column, plot_lines_on_group, groups, error);
}

static void release_groups(struct groups *groups)
{
    for (size_t i = 0; i < groups->count; i++)
        free(groups->names[i]);
    free(groups->of_row);
}

/* Curves. */

/* "FILE: METHOD, COLUMN" of what there is. */
static char *title_of(const struct lines *lines, const char *path, const char *group,
                      const char *column)
{
    const char *file = lines->command->file_count > 1 ? plot_file_name(path) : "";
    if (!group)
        group = "";
    if (!column)
        column = "";
    return xasprintf("%s%s%s%s%s", file, *file && (*group || *column) ? ": " : "", group,
                     *group && *column ? ", " : "", column);
}

static int by_x(const void *a, const void *b)
{
    const struct point *left = a, *right = b;
    return (left->x > right->x) - (left->x < right->x);
}

/* A curve of the rows of group `g`; none where no row has finite numbers. */
static int add_curve(struct lines *lines, size_t panel, const struct groups *groups, size_t g,
                     const double *x, const double *y, const double *se, uint64_t rows, char *title,
                     const char *path, struct ivon_error *error)
{
    struct curve curve = {.title = title, .panel = panel};
    curve.points = xcalloc((size_t)rows + 1, sizeof *curve.points);
    for (uint64_t i = 0; i < rows; i++) {
        double at = lines->by_row ? (double)(i + 1) : x[i];
        bool own = !groups->of_row || groups->of_row[i] == g;
        if (own && isfinite(at) && isfinite(y[i]))
            curve.points[curve.count++] = (struct point){at, y[i], se ? se[i] : NAN};
    }
    qsort(curve.points, curve.count, sizeof *curve.points, by_x);
    if (curve.count && lines->in_panel[panel]++ < CURVES_MAX) {
        lines->curves[lines->curve_count++] = curve;
        return 0;
    }
    bool many = curve.count;
    free(curve.points);
    free(title);
    return many ? too_many(path, error) : 0;
}

static int add_column(struct lines *lines, struct ivon_table_reader *table,
                      const struct groups *groups, size_t panel, const struct line_column *column,
                      const double *x, struct ivon_error *error)
{
    const char *path = ivon_table_reader_path(table);
    uint64_t rows = ivon_table_reader_rows(table);
    double *y = NULL, *se = NULL;
    char se_name[64];
    snprintf(se_name, sizeof se_name, "%s_se", column->name);
    int code = plot_read(table, column->name, &y, error);
    if (!code && ivon_table_reader_has(table, se_name))
        code = plot_read(table, se_name, &se, error);
    for (size_t g = 0; g < (groups->of_row ? groups->count : 1) && !code; g++)
        code = add_curve(
            lines, panel, groups, g, x, y, se, rows,
            title_of(lines, path, groups->of_row ? groups->names[g] : NULL, column->title), path,
            error);
    free(y);
    free(se);
    return code;
}

static int add_table(struct lines *lines, struct ivon_table_reader *table, struct ivon_error *error)
{
    const struct line_kind *kind = lines->kind;
    struct groups groups;
    double *x = NULL;
    size_t added = 0, column;
    int code = plot_lines_read_groups(&groups, table, kind->group, error);
    if (!code)
        code = plot_read(table, kind->x, &x, error);
    for (size_t p = 0; p < PANELS; p++)
        for (size_t c = 0; c < COLUMNS && kind->panels[p].columns[c].name && !code; c++) {
            if (!ivon_table_reader_has(table, kind->panels[p].columns[c].name))
                continue;
            code = add_column(lines, table, &groups, p, &kind->panels[p].columns[c], x, error);
            added++;
        }
    if (!code && !added) /* for its message, which lists the columns */
        code = ivon_table_reader_find(table, kind->panels[0].columns[0].name, &column, error);
    free(x);
    release_groups(&groups);
    return code;
}

/* A checkpoint that does not know its step says -1. */
static int look_at_steps(struct lines *lines, struct ivon_table_reader *table,
                         struct ivon_error *error)
{
    double *x = NULL;
    int code = plot_read(table, lines->kind->x, &x, error);
    for (uint64_t i = 0; i < ivon_table_reader_rows(table) && !code; i++)
        lines->by_row = lines->by_row || x[i] < 0;
    free(x);
    return code;
}

/* The script. */

static size_t put_points(struct script *script, const struct curve *curve)
{
    size_t block = script_open_block(script);
    for (size_t i = 0; i < curve->count; i++) {
        const struct point *point = &curve->points[i];
        const double numbers[] = {point->x, point->y, point->y - point->se, point->y + point->se};
        for (int j = 0; j < 4; j++) {
            script_number(script, numbers[j]);
            script_add(script, j < 3 ? " " : "\n");
        }
    }
    script_close_block(script);
    return block;
}

static bool has_band(const struct curve *curve)
{
    for (size_t i = 0; i < curve->count; i++)
        if (isfinite(curve->points[i].se))
            return true;
    return false;
}

/* True if the horizontal axis should be logarithmic. */
static bool is_logarithmic(const struct lines *lines, struct range x)
{
    return lines->kind->base && x.low > 0 && x.high / x.low >= 8;
}

/* The key is above the curves, in as many columns as its longest title lets fit. Makes the picture
   as large as it takes, unless its size is given. */
static int fit_key(struct lines *lines, int panels, struct ivon_error *error)
{
    struct plot_command *command = lines->command;
    size_t longest = 1, most = 0;
    for (size_t p = 0; p < PANELS; p++)
        most = lines->in_panel[p] > most ? lines->in_panel[p] : most;
    for (size_t c = 0; c < lines->curve_count; c++)
        if (strlen(lines->curves[c].title) > longest)
            longest = strlen(lines->curves[c].title);
    int title = longest < KEY_MAX ? (int)longest : KEY_MAX;
    if (!command->width)
        command->width = PANEL * panels;
    lines->key_columns = (command->width / panels - AXIS) / (CHARACTER * title + SAMPLE);
    if (lines->key_columns < 1)
        lines->key_columns = 1;
    int rows = ((int)most + lines->key_columns - 1) / lines->key_columns;
    if (!command->height)
        command->height = PANEL_HEIGHT + LINE * rows;
    if (command->height < PANEL_HEIGHT / 2 + LINE * rows)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "%d pixels are not high enough for %zu curves and their names",
                          command->height, most);
    return 0;
}

static void plot_lines_put_axes(const struct lines *lines, size_t panel, struct range x,
                                struct range y)
{
    struct script *script = &lines->command->script;
    bool logarithmic = is_logarithmic(lines, x);
    script_add(script, "set xlabel '%s'\nset ylabel '%s'\n",
               lines->by_row ? "checkpoint, in the order of the rows" : lines->kind->x_label,
               lines->kind->panels[panel].label);
    if (logarithmic)
        script_add(script, "set logscale x %d\nset format x '%%g'\n", lines->kind->base);
    script_range(script, 'x', x, logarithmic);
    script_range(script, 'y', y, false);
    if (lines->by_row && x.high - x.low < POINTS_SHOWN)
        script_add(script, "set xtics 1\n");
}

/* True if a point lies where the picture has to reach. */
static bool plot_lines_shows(const struct lines *lines, const struct curve *curve, size_t point)
{
    double begins = curve->points[0].y;
    return !lines->kind->cuts || curve->points[point].y <= begins + fabs(begins) / 4;
}

static void put_panel(const struct lines *lines, size_t panel)
{
    struct script *script = &lines->command->script;
    struct range x = range_empty(), y = range_empty();
    size_t first = script->blocks, shown = 0;
    for (size_t c = 0; c < lines->curve_count; c++) {
        const struct curve *curve = &lines->curves[c];
        for (size_t i = 0; i < curve->count && curve->panel == panel; i++) {
            range_add(&x, curve->points[i].x);
            if (!plot_lines_shows(lines, curve, i))
                continue;
            range_add(&y, curve->points[i].y);
            range_add(&y, curve->points[i].y - curve->points[i].se);
            range_add(&y, curve->points[i].y + curve->points[i].se);
        }
        if (curve->panel == panel)
            put_points(script, curve);
    }
    plot_lines_put_axes(lines, panel, x, y);
    script_add(script, "plot ");
    for (size_t c = 0; c < lines->curve_count; c++) {
        const struct curve *curve = &lines->curves[c];
        if (curve->panel != panel)
            continue;
        size_t block = first + shown;
        script_add(script, "%s", shown ? ", \\\n  " : "");
        if (has_band(curve) && curve->count > 1)
            script_add(script,
                       "$b%zu using 1:3:4 with filledcurves lc rgb '%s' fs transparent "
                       "solid 0.2 noborder notitle, \\\n  ",
                       block, script_colour(shown));
        else if (has_band(curve))
            script_add(script,
                       "$b%zu using 1:3:(0):($4-$3) with vectors nohead lc rgb '%s' "
                       "dt 1 notitle, \\\n  ",
                       block, script_colour(shown));
        script_add(script, "$b%zu using 1:2 with linespoints ", block);
        script_style(script, shown++);
        script_add(script, " pi %zu title ", curve->count / POINTS_SHOWN + 1);
        script_text(script, curve->title, KEY_MAX);
    }
    script_add(script, "\n");
}

static int plot_lines_put_script(struct lines *lines, struct ivon_error *error)
{
    struct plot_command *command = lines->command;
    struct script *script = &command->script;
    int panels = 0;
    for (size_t p = 0; p < PANELS; p++)
        panels += lines->in_panel[p] > 0;
    if (!panels)
        return error_fill(error, IVON_ERROR_DATA, "%s: has no row with finite numbers",
                          command->files[0]);
    int code = fit_key(lines, panels, error);
    if (code)
        return code;
    script_begin(command);
    script_add(script, "set multiplot layout 1,%d title ", panels);
    script_title(command);
    script_add(script,
               ".\"\\n \"\nset key tmargin center horizontal Left reverse samplen 3 "
               "maxcols %d\n",
               lines->key_columns);
    for (size_t p = 0; p < PANELS; p++)
        if (lines->in_panel[p])
            put_panel(lines, p);
    script_add(script, "unset multiplot\n");
    return 0;
}

static int plot_lines_draw(struct plot_command *command, const struct line_kind *kind,
                           struct ivon_error *error)
{
    struct lines *lines = xcalloc(1, sizeof *lines);
    int code = 0;
    lines->command = command;
    lines->kind = kind;
    if (strcmp(kind->x, "step") == 0)
        for (size_t i = 0; i < command->file_count && !code; i++)
            code = look_at_steps(lines, command->tables[i], error);
    for (size_t i = 0; i < command->file_count && !code; i++)
        code = add_table(lines, command->tables[i], error);
    if (!code)
        code = plot_lines_put_script(lines, error);
    for (size_t i = 0; i < lines->curve_count; i++) {
        free(lines->curves[i].title);
        free(lines->curves[i].points);
    }
    free(lines);
    return code;
}

int plot_generalization(struct plot_command *command, struct ivon_error *error)
{
    static const struct line_kind kind = {"step",
                                          "training step",
                                          "method",
                                          {{"mean loss (nats)",
                                            {{"train_loss", "training data"},
                                             {"loo_loss", "leave-one-out"},
                                             {"test_loss", "test data"},
                                             {"waic", "WAIC"},
                                             {"psis_loo", "PSIS-LOO"}}},
                                           {"error (share of wrong predictions)",
                                            {{"train_error", "training data"},
                                             {"loo_error", "leave-one-out"},
                                             {"test_error", "test data"}}}},
                                          0,
                                          false};
    return plot_lines_draw(command, &kind, error);
}

int plot_sweep(struct plot_command *command, struct ivon_error *error)
{
    static const struct line_kind kind = {
        "scale",
        "scaling of the task vectors",
        "method",
        {{"accuracy (share of right predictions)", {{"accuracy", NULL}}},
         {"negative log-likelihood (nats)", {{"nll", NULL}}}},
        0,
        false};
    return plot_lines_draw(command, &kind, error);
}

int plot_samples(struct plot_command *command, struct ivon_error *error)
{
    static const struct line_kind kind = {
        "samples",
        "weight samples",
        "method",
        {{"accuracy (share of right predictions)", {{"accuracy", NULL}}},
         {"negative log-likelihood (nats)", {{"nll", NULL}}}},
        2 /* they are usually doubled */,
        false};
    return plot_lines_draw(command, &kind, error);
}

int plot_shift(struct plot_command *command, struct ivon_error *error)
{
    static const struct line_kind kind = {
        "level",
        "level of the corruption",
        "shift",
        {{"accuracy (share of right predictions)", {{"accuracy", NULL}}},
         {"root mean squared error", {{"rmse", NULL}}},
         {"negative log-likelihood (nats)", {{"nll", NULL}}},
         {"expected calibration error", {{"ece", NULL}}}},
        0,
        false};
    return plot_lines_draw(command, &kind, error);
}

int plot_rates(struct plot_command *command, struct ivon_error *error)
{
    static const struct line_kind kind = {"learning_rate",
                                          "learning rate",
                                          "method",
                                          {{"smoothed loss (nats)", {{"smoothed_loss", NULL}}}},
                                          10,
                                          true};
    return plot_lines_draw(command, &kind, error);
}
