/* Histograms of a score of the examples. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/plot/plot.h"
#include "cmd/shared/report.h"

enum { BINS = 40 };

struct histogram {
    double *values;               /* the finite ones, in rising order */
    size_t count, left_out, most; /* in a bin */
    bool logarithmic;             /* the values' axis */
    bool counts_by_powers;        /* the counts' */
    struct range range;
};

static int rising(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Leaves out the examples that do not count: their label is the ignored one, their score 0 or, as a
   loss of ivon-predict, no number. */
static int leave_uncounted(struct histogram *histogram, const struct plot_command *command,
                           struct ivon_table_reader *table, uint64_t *rows,
                           struct ivon_error *error)
{
    double *labels = NULL;
    uint64_t kept = 0;
    if (!ivon_table_reader_has(table, "label"))
        return 0;
    int code = plot_read_classes(command, table, "label", &labels, error);
    for (uint64_t i = 0; i < *rows && !code; i++) {
        int64_t label = (int64_t)labels[i];
        if ((histogram->values[i] != 0 && !isnan(histogram->values[i])) ||
            ivon_target_counts(IVON_CATEGORICAL, 1, &label, command->ignored))
            histogram->values[kept++] = histogram->values[i];
    }
    free(labels);
    *rows = kept;
    return code;
}

/* Keeps what is finite, in order. */
static void sort(struct histogram *histogram, uint64_t rows)
{
    for (uint64_t i = 0; i < rows; i++)
        if (isfinite(histogram->values[i]))
            histogram->values[histogram->count++] = histogram->values[i];
    histogram->left_out = (size_t)rows - histogram->count;
    qsort(histogram->values, histogram->count, sizeof *histogram->values, rising);
}

/*
 * A logarithmic axis, if none is below 0, few are 0, and those in between span more than two powers
 * of ten. Zeros then have no place.
 */
static void choose_scale(struct histogram *histogram)
{
    const double *values = histogram->values;
    size_t count = histogram->count, zeros = 0;
    while (zeros < count && values[zeros] <= 0)
        zeros++;
    double low = values[count / 20], high = values[count - 1 - count / 20];
    histogram->logarithmic = values[0] >= 0 && zeros <= count / 20 && low > 0 && high / low > 100;
    if (!histogram->logarithmic)
        return;
    memmove(histogram->values, values + zeros, (count - zeros) * sizeof *values);
    histogram->count -= zeros;
    histogram->left_out += zeros;
}

/* The lower edge of bin `b` of `bins`. */
static double edge(const struct histogram *histogram, size_t b, size_t bins)
{
    double share = (double)b / (double)bins;
    struct range range = histogram->range;
    return histogram->logarithmic ? range.low * pow(range.high / range.low, share)
                                  : range.low * (1 - share) + range.high * share;
}

static void plot_histogram_put_bins(struct script *script, struct histogram *histogram, size_t bins)
{
    size_t at = 0, count = histogram->count;
    script_open_block(script);
    for (size_t b = 0; b < bins; b++) {
        double low = edge(histogram, b, bins), high = edge(histogram, b + 1, bins);
        size_t first = at;
        while (at < count && (histogram->values[at] < high || b + 1 == bins))
            at++;
        histogram->most = at - first > histogram->most ? at - first : histogram->most;
        script_number(script, low / 2 + high / 2);
        script_add(script, " %zu ", at - first);
        script_number(script, high - low);
        script_add(script, "\n");
    }
    script_close_block(script);
    /* Nine tenths in one bin: the others would not be seen. */
    histogram->counts_by_powers = histogram->most > 20 &&
                                  (double)histogram->most > 0.9 * (double)count;
}

/* The unit of a column of ivon-sensitivity, or an empty string. */
static const char *unit_of(const char *name)
{
    const struct ivon_score_traits *traits;
    bool nats = strcmp(name, "loss") == 0;
    for (unsigned i = 0; (traits = ivon_score_traits((enum ivon_score)i)); i++)
        nats |= traits->nats && strcmp(name, traits->name) == 0;
    return nats ? " (nats)" : "";
}

static void plot_histogram_put_axes(struct script *script, const struct histogram *histogram,
                                    const char *name)
{
    char note[80] = "";
    if (histogram->left_out)
        snprintf(note, sizeof note, " (%zu that are zero or not finite are left out)",
                 histogram->left_out);
    script_add(script, "set xlabel ");
    script_text(script, name, KEY_MAX);
    script_add(script, ".'%s%s'\nset ylabel 'number of examples (%zu in all)'\n", unit_of(name),
               note, histogram->count);
    if (histogram->logarithmic)
        script_add(script, "set logscale x\nset format x '%%g'\n");
    script_range(script, 'x', histogram->range, histogram->logarithmic);
    if (histogram->counts_by_powers)
        script_add(script, "set logscale y\nset yrange [0.5:%zu]\nset format y '%%.0f'\n",
                   2 * histogram->most);
    else
        script_counts(script, (double)histogram->most);
}

static void plot_histogram_put_script(struct plot_command *command, struct histogram *histogram,
                                      const char *name)
{
    struct script *script = &command->script;
    histogram->range = (struct range){histogram->values[0],
                                      histogram->values[histogram->count - 1]};
    if (!(histogram->range.high > histogram->range.low)) { /* all are equal */
        double margin = histogram->range.low != 0 ? fabs(histogram->range.low) / 2 : 1;
        histogram->range.low -= margin;
        histogram->range.high += margin;
    }
    script_begin(command);
    plot_histogram_put_bins(script, histogram, command->bins ? command->bins : BINS);
    plot_histogram_put_axes(script, histogram, name);
    script_add(script, "set title ");
    script_title(command);
    script_add(script,
               "\nunset key\nplot $b0 using 1:2:3 with boxes lc rgb '%s' fs solid 0.6 "
               "border lc rgb '#404040'\n",
               script_colour(0));
}

int plot_histogram(struct plot_command *command, struct ivon_error *error)
{
    struct ivon_table_reader *table = command->tables[0];
    const char *name = plot_score(command, table);
    struct histogram histogram = {0};
    uint64_t rows = ivon_table_reader_rows(table);
    int code = plot_read(table, name, &histogram.values, error);
    if (!code)
        code = leave_uncounted(&histogram, command, table, &rows, error);
    if (!code)
        sort(&histogram, rows);
    if (!code && !histogram.count)
        code = error_fill(error, IVON_ERROR_DATA, "%s: has no row with finite numbers",
                          ivon_table_reader_path(table));
    if (!code) {
        choose_scale(&histogram);
        plot_histogram_put_script(command, &histogram, name);
    }
    free(histogram.values);
    return code;
}
