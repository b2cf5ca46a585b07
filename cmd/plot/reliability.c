/* Reliability diagrams: how often predictions of some confidence are right. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/evaluation/evaluation.h"
#include "cmd/shared/memory.h"
#include "cmd/plot/plot.h"
#include "cmd/shared/report.h"

enum {
    BINS = 15,
    HEADING = 36, /* pixels of the title */
    HEIGHT = 600, /* pixels of all but the key, by default */
};

/* The contents of a bin of confidences. */
struct bin {
    double confidence, correct; /* sums */
    uint64_t count;
};

/* The labels of DATA: those of one example after those of another. */
struct labels {
    int64_t *values;
    uint64_t examples;
    size_t per_example; /* labels of an example */
};

static int read_data(struct labels *labels, const struct plot_command *command,
                     struct ivon_error *error)
{
    struct ivon_examples *examples = NULL;
    const char *name = command->dataset.targets ? command->dataset.targets : "y";
    int code = ivon_dataset_open(&examples, command->data, &command->dataset, error);
    ptrdiff_t field = code ? -1 : ivon_examples_find(examples, name);
    if (!code && field < 0)
        code = evaluation_no_targets(command->data, name, error);
    if (!code) {
        labels->examples = ivon_examples_count(examples);
        labels->per_example = ivon_examples_field(examples, (size_t)field)->count;
        size_t count;
        if (__builtin_mul_overflow(labels->examples, labels->per_example, &count))
            memory_exhausted();
        labels->values = xcalloc(count + 1, sizeof *labels->values);
        code = ivon_examples_read_i64(examples, (size_t)field, 0, (size_t)labels->examples,
                                      labels->values, error);
    }
    ivon_examples_close(examples);
    return code;
}

/* The row's place among the labels: by its index, and token, or else as they come. */
static int find_label(const struct labels *labels, const struct ivon_table_reader *table,
                      uint64_t row, const double *index, const double *token, double *label,
                      struct ivon_error *error)
{
    double per_example = (double)labels->per_example,
           example = index ? index[row] : floor((double)row / per_example);
    double at = !index ? (double)row - example * per_example : token ? token[row] : 0;
    bool whole = example == floor(example) && at == floor(at);
    if (!whole || !(example >= 0 && example < (double)labels->examples) ||
        !(at >= 0 && at < per_example))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: row %llu is of example %g, label %g, the data have %llu "
                          "examples of %zu",
                          ivon_table_reader_path(table), (unsigned long long)row,
                          report_number(example), report_number(at),
                          (unsigned long long)labels->examples, labels->per_example);
    *label = (double)labels->values[(size_t)example * labels->per_example + (size_t)at];
    return 0;
}

static int match_labels(struct labels *labels, struct ivon_table_reader *table, double **out,
                        struct ivon_error *error)
{
    uint64_t rows = ivon_table_reader_rows(table);
    double *index = NULL, *token = NULL;
    int code = 0;
    *out = xcalloc((size_t)rows + 1, sizeof **out);
    if (ivon_table_reader_has(table, "index"))
        code = plot_read(table, "index", &index, error);
    else if (rows != labels->examples * labels->per_example)
        code = error_fill(error, IVON_ERROR_DATA, "%s: %llu predictions, but %llu labels",
                          ivon_table_reader_path(table), (unsigned long long)rows,
                          (unsigned long long)(labels->examples * labels->per_example));
    if (!code && index && labels->per_example > 1)
        code = plot_read(table, "token", &token, error);
    for (uint64_t i = 0; i < rows && !code; i++)
        code = find_label(labels, table, i, index, token, &(*out)[i], error);
    free(index);
    free(token);
    return code;
}

static int read_labels(const struct plot_command *command, struct ivon_table_reader *table,
                       double **out, struct ivon_error *error)
{
    struct labels labels = {0};
    struct ivon_error inner;
    if (!command->data)
        return plot_read_classes(command, table, "label", out, &inner)
                   ? error_fill(error, inner.code, "%s; labels may come from --data=DATA",
                                inner.message)
                   : 0;
    int code = read_data(&labels, command, error);
    if (!code)
        code = match_labels(&labels, table, out, error);
    free(labels.values);
    return code;
}

static int count_bins(struct bin *bins, size_t count, const struct ivon_table_reader *table,
                      int64_t ignored, const double *confidence, const double *prediction,
                      const double *label, struct ivon_error *error)
{
    uint64_t counted = 0;
    for (uint64_t i = 0; i < ivon_table_reader_rows(table); i++) {
        int64_t class = (int64_t)label[i];
        if (!ivon_target_counts(IVON_CATEGORICAL, 1, &class, ignored))
            continue;
        if (class < 0)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: row %llu: label %lld, expected a class, or the ignored label "
                              "%lld",
                              ivon_table_reader_path(table), (unsigned long long)i,
                              (long long)class, (long long)ignored);
        if (!(confidence[i] >= 0 && confidence[i] <= 1 + 1e-6)) /* rounded, a sum may exceed 1 */
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: row %llu, column 'max_probability': found %g, expected a "
                              "probability",
                              ivon_table_reader_path(table), (unsigned long long)i,
                              report_number(confidence[i]));
        struct bin *bin = &bins[ivon_confidence_bin((float)confidence[i], count)];
        bin->confidence += confidence[i];
        bin->correct += prediction[i] == label[i];
        bin->count++;
        counted++;
    }
    if (!counted)
        return error_fill(error, IVON_ERROR_DATA, "%s: has no prediction with a label",
                          ivon_table_reader_path(table));
    return 0;
}

static int fill_bins(const struct plot_command *command, struct ivon_table_reader *table,
                     struct bin *bins, size_t count, struct ivon_error *error)
{
    double *confidence = NULL, *prediction = NULL, *label = NULL;
    int code = plot_read(table, "max_probability", &confidence, error);
    if (!code)
        code = plot_read_classes(command, table, "prediction", &prediction, error);
    if (!code)
        code = read_labels(command, table, &label, error);
    if (!code)
        code = count_bins(bins, count, table, command->ignored, confidence, prediction, label,
                          error);
    free(confidence);
    free(prediction);
    free(label);
    return code;
}

/* The script. */

/* Mean confidence, accuracy, what lies a standard error beside it, the bin's middle, the count;
   returns the expected calibration error. */
static double plot_reliability_put_bins(struct script *script, const struct bin *bins, size_t count)
{
    enum { NUMBERS = 6 };
    double gaps = 0, total = 0;
    script_open_block(script);
    for (size_t b = 0; b < count; b++) {
        double n = (double)bins[b].count, accuracy = bins[b].correct / n;
        double se = sqrt(accuracy * (1 - accuracy) / n), middle = (double)b + 0.5;
        const double numbers[NUMBERS] = {bins[b].confidence / n,
                                         accuracy,
                                         n > 0 ? fmax(accuracy - se, 0) : NAN,
                                         n > 0 ? fmin(accuracy + se, 1) : NAN,
                                         middle / (double)count,
                                         n};
        gaps += fabs(bins[b].correct - bins[b].confidence);
        total += n;
        for (int i = 0; i < NUMBERS; i++) {
            script_number(script, numbers[i]);
            script_add(script, i < NUMBERS - 1 ? " " : "\n");
        }
    }
    script_close_block(script);
    return gaps / total;
}

static void put_curves(const struct plot_command *command, struct script *script,
                       const double *errors)
{
    int lines = (int)command->file_count + 1;
    double height = command->height;
    script_add(script,
               "set tmargin at screen %.9g\nset bmargin at screen 0.37\n"
               "set key at screen 0.55,%.9g center top Left reverse samplen 3\n"
               "set xrange [0:1]\nset yrange [0:1]\nset xtics 0.2\nset ytics 0.2\n"
               "set format x ''\nset ylabel 'accuracy'\n"
               "plot x with lines lc rgb '#808080' dt 2 lw 1 title 'as confident as right'",
               1 - (HEADING + 8 + LINE * lines) / height, 1 - HEADING / height);
    for (size_t i = 0; i < command->file_count; i++) {
        char error[80];
        script_add(script,
                   ", \\\n  $b%zu using 1:3:(0):($4-$3) with vectors nohead lc rgb "
                   "'%s' dt 1 notitle, \\\n  $b%zu using 1:2 with linespoints ",
                   i, script_colour(i), i);
        script_style(script, i);
        snprintf(error, sizeof error, "%scalibration error %.3f",
                 command->file_count > 1 ? ": " : "", errors[i]);
        script_add(script, " title ");
        if (command->file_count > 1) {
            script_text(script, plot_file_name(command->files[i]), KEY_MAX);
            script_add(script, ".");
        }
        script_text(script, error, KEY_MAX);
    }
    script_add(script, "\n");
}

static void put_counts(const struct plot_command *command, struct script *script,
                       const struct bin *bins, size_t count)
{
    double most = 0, files = (double)command->file_count;
    for (size_t i = 0; i < count * command->file_count; i++)
        most = fmax(most, (double)bins[i].count);
    script_add(script,
               "set tmargin at screen 0.33\nset bmargin at screen 0.12\nunset key\n"
               "set format x\nset xlabel 'confidence (maximum probability)'\n"
               "set ylabel 'predictions'\nset boxwidth %.9g\n",
               1 / (double)count / files);
    script_counts(script, most);
    script_add(script, "plot ");
    for (size_t i = 0; i < command->file_count; i++)
        script_add(script,
                   "%s$b%zu using ($5+%.9g):6 with boxes lc rgb '%s' fs solid %s border lc "
                   "rgb '#404040'",
                   i ? ", \\\n  " : "", i, (((double)i + 0.5) / files - 0.5) / (double)count,
                   script_colour(i), i % 2 ? "0.35" : "0.8");
    script_add(script, "\nunset multiplot\n");
}

int plot_reliability(struct plot_command *command, struct ivon_error *error)
{
    struct script *script = &command->script;
    size_t count = command->bins ? command->bins : BINS;
    struct bin *bins = xcalloc(count * command->file_count, sizeof *bins);
    double *errors = xcalloc(command->file_count, sizeof *errors);
    int code = 0;
    int lines = (int)command->file_count + 1; /* of the key */
    if (!command->height)
        command->height = HEIGHT + LINE * lines;
    if (command->height < HEIGHT / 2 + 2 * LINE * lines)
        code = error_fill(error, IVON_ERROR_ARGUMENT,
                          "%d pixels are not high enough for %zu curves and their names",
                          command->height, command->file_count);
    if (!code && command->file_count > CURVES_MAX)
        code = error_fill(error, IVON_ERROR_ARGUMENT, "%zu files, expected at most %d",
                          command->file_count, CURVES_MAX);
    for (size_t i = 0; i < command->file_count && !code; i++)
        code = fill_bins(command, command->tables[i], bins + i * count, count, error);
    if (!code) {
        script_begin(command);
        for (size_t i = 0; i < command->file_count; i++)
            errors[i] = plot_reliability_put_bins(script, bins + i * count, count);
        script_add(script, "set multiplot title ");
        script_title(command);
        script_add(script, "\nset lmargin at screen 0.15\nset rmargin at screen 0.96\n");
        put_curves(command, script, errors);
        put_counts(command, script, bins, count);
    }
    free(bins);
    free(errors);
    return code;
}
