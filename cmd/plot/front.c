/* Pareto fronts: what merged models lose on two data sets, as ivon-merge --evaluate found it. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/plot/plot.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

enum { WEIGHTS_MAX = 64, LOSSES = 2 };

static const char loss_prefix[] = "nll.";

/* The sets of a table's rows that are drawn, each with points of its own. */
enum front_set { SET_OTHERS, SET_FRONT, SET_ALONE, SET_PICK, SET_COUNT };

/* One row. */
struct front_point {
    double loss[LOSSES];
    bool in[SET_COUNT];
    int model; /* of SET_ALONE */
};

struct front {
    struct front_point *points; /* in the order of the first loss */
    size_t count;
    bool has[SET_COUNT];
};

/* Finds the two columns of losses, as the first table names them. */
static int front_find_losses(const struct ivon_table_reader *table, const char *names[LOSSES],
                             struct ivon_error *error)
{
    size_t found = 0;
    for (size_t i = 0; i < ivon_table_reader_count(table); i++) {
        const char *name = ivon_table_reader_name(table, i);
        size_t length = strlen(name);
        bool deviation = length > 3 && strcmp(name + length - 3, "_se") == 0;
        if (strncmp(name, loss_prefix, sizeof loss_prefix - 1) != 0 || deviation)
            continue;
        if (found < LOSSES)
            names[found] = name;
        found++;
    }
    return found == LOSSES
               ? 0
               : error_fill(error, IVON_ERROR_DATA,
                            "%s: has %zu columns '%sDATA', expected those of two data sets",
                            ivon_table_reader_path(table), found, loss_prefix);
}

/* Returns the model whose weight is 1 while all others are 0; -1 for none. */
static int front_alone(double *const *weights, size_t models, uint64_t row)
{
    int alone = -1;
    for (size_t t = 0; t < models; t++) {
        if (weights[t][row] == 0)
            continue;
        if (weights[t][row] != 1 || alone >= 0)
            return -1;
        alone = (int)t;
    }
    return alone;
}

/* Reads weight0, weight1, …: as many as there are. */
static int front_read_weights(struct ivon_table_reader *table, double **weights, size_t *models,
                              struct ivon_error *error)
{
    char name[32] = "weight0";
    int code = 0;
    while (*models < WEIGHTS_MAX && ivon_table_reader_has(table, name) && !code) {
        code = plot_read(table, name, &weights[*models], error);
        *models += !code;
        snprintf(name, sizeof name, "weight%zu", *models);
    }
    return code;
}

static int front_by_loss(const void *a, const void *b)
{
    const struct front_point *left = a, *right = b;
    return (left->loss[0] > right->loss[0]) - (left->loss[0] < right->loss[0]);
}

/* Sorts rows with finite losses into the sets. */
static void front_fill(struct front *front, uint64_t rows, double *const *columns,
                       double *const *weights, size_t models)
{
    front->points = xcalloc((size_t)rows + 1, sizeof *front->points);
    for (uint64_t row = 0; row < rows; row++) {
        struct front_point *point = &front->points[front->count];
        *point = (struct front_point){.loss = {columns[0][row], columns[1][row]},
                                      .model = front_alone(weights, models, row)};
        if (!isfinite(point->loss[0]) || !isfinite(point->loss[1]))
            continue;
        point->in[SET_FRONT] = columns[2][row] == 1;
        point->in[SET_OTHERS] = !point->in[SET_FRONT];
        point->in[SET_PICK] = columns[3][row] == 1;
        point->in[SET_ALONE] = point->model >= 0 && models > 1;
        for (int set = 0; set < SET_COUNT; set++)
            front->has[set] |= point->in[set];
        front->count++;
    }
    qsort(front->points, front->count, sizeof *front->points, front_by_loss);
}

static int front_read(struct front *front, struct ivon_table_reader *table,
                      const char *const losses[LOSSES], struct ivon_error *error)
{
    const char *const names[] = {losses[0], losses[1], "front", "pick"};
    double *columns[4] = {NULL}, *weights[WEIGHTS_MAX] = {NULL};
    size_t models = 0;
    int code = 0;
    for (int c = 0; c < 4 && !code; c++)
        code = plot_read(table, names[c], &columns[c], error);
    if (!code)
        code = front_read_weights(table, weights, &models, error);
    if (!code)
        front_fill(front, ivon_table_reader_rows(table), columns, weights, models);
    if (!code && !front->count)
        code = error_fill(error, IVON_ERROR_DATA, "%s: has no row with finite numbers",
                          ivon_table_reader_path(table));
    for (size_t t = 0; t < models; t++)
        free(weights[t]);
    for (int c = 0; c < 4; c++)
        free(columns[c]);
    return code;
}

/* The script. */

/* One block for each set of each table, in their order. */
static void front_put_blocks(struct script *script, const struct front *front)
{
    for (int set = 0; set < SET_COUNT; set++) {
        script_open_block(script);
        for (size_t i = 0; i < front->count; i++) {
            const struct front_point *point = &front->points[i];
            if (!point->in[set])
                continue;
            script_number(script, point->loss[0]);
            script_add(script, " ");
            script_number(script, point->loss[1]);
            script_add(script, set == SET_ALONE ? " weight%d=1\n" : "\n", point->model);
        }
        script_close_block(script);
    }
}

static void front_put_axes(struct script *script, const struct front *fronts, size_t count,
                           const char *const losses[LOSSES])
{
    for (int axis = 0; axis < LOSSES; axis++) {
        struct range range = range_empty();
        for (size_t f = 0; f < count; f++)
            for (size_t i = 0; i < fronts[f].count; i++)
                range_add(&range, fronts[f].points[i].loss[axis]);
        script_range(script, axis ? 'y' : 'x', range, false);
        script_add(script, "set %clabel 'negative log-likelihood on '.", axis ? 'y' : 'x');
        script_text(script, losses[axis] + sizeof loss_prefix - 1, KEY_MAX);
        script_add(script, ".' (nats)'\n");
    }
}

/* The curves of one table. Sets differ in symbols, so that no colour is needed; those that all
   tables have in common are in the key once. */
static void front_put_sets(struct plot_command *command, const struct front *front, size_t index,
                           bool named[SET_COUNT])
{
    static const char *const symbols[SET_COUNT] = {"pt 6 ps 0.6", NULL, "pt 4 ps 1.8 lw 2",
                                                   "pt 3 ps 2.2 lw 2"};
    static const char *const titles[SET_COUNT] = {"other weights", "front", "one model alone",
                                                  "picked"};
    struct script *script = &command->script;
    for (size_t set = 0; set < SET_COUNT; set++) {
        size_t block = index * SET_COUNT + set;
        if (!front->has[set])
            continue;
        script_add(script, ", \\\n  $b%zu using 1:2 with ", block);
        if (set == SET_FRONT) {
            script_add(script, "linespoints ");
            script_style(script, index);
        } else {
            script_add(script, "points lc rgb '%s' %s",
                       set == SET_OTHERS ? script_colour(index) : "#000000", symbols[set]);
        }
        script_add(script, named[set] ? " notitle" : " title ");
        if (!named[set])
            script_text(script,
                        set == SET_FRONT && command->file_count > 1
                            ? plot_file_name(command->files[index])
                            : titles[set],
                        KEY_MAX);
        named[set] = set != SET_FRONT;
        if (set == SET_ALONE)
            script_add(script, ", \\\n  $b%zu using 1:2:3 with labels offset 0,1.1 notitle", block);
    }
}

int plot_front(struct plot_command *command, struct ivon_error *error)
{
    struct script *script = &command->script;
    struct front *fronts = xcalloc(command->file_count, sizeof *fronts);
    const char *losses[LOSSES];
    bool named[SET_COUNT] = {false};
    int code = front_find_losses(command->tables[0], losses, error);
    if (!code && command->file_count > CURVES_MAX)
        code = error_fill(error, IVON_ERROR_DATA, "more than %d curves in one picture", CURVES_MAX);
    for (size_t f = 0; f < command->file_count && !code; f++)
        code = front_read(&fronts[f], command->tables[f], losses, error);
    if (!code) {
        script_begin(command);
        for (size_t f = 0; f < command->file_count; f++)
            front_put_blocks(script, &fronts[f]);
        front_put_axes(script, fronts, command->file_count, losses);
        script_add(script, "set title ");
        script_title(command);
        script_add(script,
                   "\nset key tmargin center horizontal Left reverse samplen 3\nset rmargin 6\n"
                   "plot NaN notitle");
        for (size_t f = 0; f < command->file_count; f++)
            front_put_sets(command, &fronts[f], f, named);
        script_add(script, "\n");
    }
    for (size_t f = 0; f < command->file_count; f++)
        free(fronts[f].points);
    free(fronts);
    return code;
}
