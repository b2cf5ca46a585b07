/* ivon-predict --shift: metrics on corrupted images, by corruption and level. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/shared/table_output.h"

enum { METRICS_MAX = 16, SHIFTS_MAX = 256 };

struct predict_shift {
    const struct predict_command *command;
    struct ivon_examples *whole; /* the data without --limit; null: they have none */
    struct ivon_corrupt_options options;
    struct ivon_pixel_range *ranges;
    size_t at;                                    /* the row to come */
    const struct ivon_metric *found[METRICS_MAX]; /* of the row: null where it has none */
    const char *names[METRICS_MAX];               /* of the columns, once the first row is there */
    size_t count;
    FILE *stream; /* into `text`, the table */
    char *text;
    size_t size;
};

/* Options. */

static bool parse_levels(const char *text, bool levels[IVON_CORRUPTION_LEVELS + 1])
{
    for (;; text++) {
        int low = *text - '0', high = low;
        if (low < 0 || low > IVON_CORRUPTION_LEVELS)
            return false;
        text++;
        if (strncmp(text, "..", 2) == 0) {
            high = text[2] - '0';
            if (high < low || high > IVON_CORRUPTION_LEVELS)
                return false;
            text += 3;
        }
        for (int level = low; level <= high; level++)
            levels[level] = true;
        if (*text != ',')
            return !*text;
    }
}

/* Returns how many corruptions the name stands for, from `first` on: one, or all. */
static int parse_corruptions(const char *name, size_t length, int *first)
{
    const char *known;
    int count = 0;
    *first = 0;
    for (; (known = ivon_corruption_name((enum ivon_corruption)count)); count++)
        if (strlen(known) == length && strncmp(known, name, length) == 0) {
            *first = count;
            return 1;
        }
    return length == 3 && strncmp(name, "all", length) == 0 ? count : 0;
}

void predict_parse_shift(struct predict_command *command, struct argp_state *state,
                         const char *argument)
{
    bool levels[IVON_CORRUPTION_LEVELS + 1] = {false};
    const char *colon = strchrnul(argument, ':');
    int first, count = parse_corruptions(argument, (size_t)(colon - argument), &first);
    if (!count || !parse_levels(*colon ? colon + 1 : "0..5", levels))
        argp_failure(state, EX_USAGE, 0,
                     "--shift: '%s', expected noise, impulse, blur, pixelate, contrast, brightness "
                     "or all, and levels from 0 to 5 such as :3, :1,5 or :0..5",
                     argument);
    for (int i = 0; i < count; i++)
        for (int level = 0; level <= IVON_CORRUPTION_LEVELS; level++) {
            if (!levels[level])
                continue;
            if (command->shift_count == SHIFTS_MAX)
                argp_failure(state, EX_USAGE, 0, "--shift: more than %d corruptions", SHIFTS_MAX);
            command->shifts = xreallocarray(command->shifts, command->shift_count + 1,
                                            sizeof *command->shifts);
            command->shifts[command->shift_count++] = (struct predict_shifted){
                (enum ivon_corruption)(first + i), level};
        }
}

void predict_parse_image_shape(struct predict_command *command, struct argp_state *state,
                               const char *argument)
{
    int64_t extents[3];
    const char *at = argument;
    int count = 0;
    for (; count < 3; at++) {
        char *end;
        long long extent = *at >= '0' && *at <= '9' ? strtoll(at, &end, 10) : 0;
        if (extent < 1 || extent > INT32_MAX)
            break;
        extents[count++] = extent;
        at = end;
        if (*at != 'x')
            break;
    }
    if (count < 2 || *at)
        argp_failure(state, EX_USAGE, 0,
                     "--image-shape: '%s', expected HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH",
                     argument);
    command->image[0] = count == 3 ? extents[0] : 1;
    command->image[1] = extents[count - 2];
    command->image[2] = extents[count - 1];
}

void predict_check_shift(const struct predict_command *command, struct argp_state *state)
{
    if (!command->shift_count) {
        if (command->image[0])
            argp_failure(state, EX_USAGE, 0, "--image-shape is for --shift");
        return;
    }
    if (!command->metrics)
        argp_failure(state, EX_USAGE, 0, "--shift prints metrics: it needs --metrics");
    if (command->average || command->ood || command->compare || command->by_class ||
        command->groups || command->log_likelihoods || command->options.logits ||
        command->acquire >= 0)
        argp_failure(state, EX_USAGE, 0,
                     "--shift runs the network on corrupted data, and prints metrics of each: "
                     "--average, --ood, --compare, --by-class, --groups, --log-likelihoods, "
                     "--logits and --acquire do not go with it");
    if (command->format != IVON_CSV && command->format != IVON_JSONL)
        argp_failure(state, EX_USAGE, 0, "--shift prints text: write CSV or JSON Lines");
    if (command->json && command->output && command->format != IVON_JSONL)
        argp_failure(state, EX_USAGE, 0, "--json prints JSON Lines: -o names another format");
}

/* Images. */

/* Finds the array of the images: that of the network's only input. */
static int shift_find_field(struct predict_shift *shift, const struct ivon_network *network,
                            struct ivon_error *error)
{
    const struct predict_command *command = shift->command;
    const struct ivon_task *task = &command->evaluation.task;
    const char *path = ivon_examples_path(command->examples);
    const char *input = ivon_network_input(network, 0);
    if (!input || ivon_network_input(network, 1))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: the graph takes %s, and --shift needs one array of images", path,
                          input ? "several arrays" : "no data");
    if (!ivon_network_input_shape(network, 0).floats)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: the graph's input '%s' takes whole numbers, as tokens are: --shift "
                          "corrupts images",
                          path, input);
    ptrdiff_t field = task->input_count
                          ? ivon_examples_find(command->examples, task->inputs[0].field)
                          : 0;
    if (field < 0)
        return error_fill(error, IVON_ERROR_DATA, "%s: has no array '%s'", path,
                          task->inputs[0].field);
    shift->options.field = (size_t)field;
    return 0;
}

static bool shift_is_colours(int64_t extent)
{
    return extent == 1 || extent == 3 || extent == 4;
}

/* Sets the extents of an image: channels × height × width, or without channels. */
static bool shift_set_image(struct predict_shift *shift, const int64_t *shape, int rank)
{
    if (rank != 2 && rank != 3)
        return false;
    for (int i = 0; i < rank; i++)
        if (shape[i] < 1)
            return false;
    /* Channels that come last are no width. */
    if (rank == 3 && !shift_is_colours(shape[0]) && shift_is_colours(shape[2]))
        return false;
    shift->options.channels = rank == 3 ? shape[0] : 1;
    shift->options.height = shape[rank - 2];
    shift->options.width = shape[rank - 1];
    return true;
}

static int shift_find_layout(struct predict_shift *shift, const struct ivon_network *network,
                             struct ivon_error *error)
{
    const struct predict_command *command = shift->command;
    const struct ivon_field *field = ivon_examples_field(command->examples, shift->options.field);
    const struct ivon_input_shape input = ivon_network_input_shape(network, 0);
    const int64_t *image = command->image;
    const char *path = ivon_examples_path(command->examples);
    if (image[0]) {
        if ((double)image[0] * (double)image[1] * (double)image[2] != (double)field->count)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: an example of '%s' has %zu numbers, expected %lld x %lld x %lld "
                              "as --image-shape has it",
                              path, field->name, field->count, (long long)image[0],
                              (long long)image[1], (long long)image[2]);
        shift->options.channels = image[0];
        shift->options.height = image[1];
        shift->options.width = image[2];
        return 0;
    }
    if ((input.rank == 4 && shift_set_image(shift, input.shape + 1, 3)) ||
        shift_set_image(shift, field->shape, field->rank))
        return 0;
    return error_fill(error, IVON_ERROR_DATA,
                      "%s: an example of '%s' has %d axes and %zu numbers, expected images of "
                      "channels x height x width or height x width: --image-shape says what they "
                      "are",
                      path, field->name, field->rank, field->count);
}

static int shift_measure(struct predict_shift *shift, struct ivon_error *error)
{
    const struct predict_command *command = shift->command;
    const struct evaluation_options *evaluation = &command->evaluation;
    int code = 0;
    if (evaluation->dataset.limit)
        code = evaluation_open_whole(evaluation, evaluation->data, &shift->whole, error);
    shift->ranges = xcalloc((size_t)shift->options.channels, sizeof *shift->ranges);
    shift->options.ranges = shift->ranges;
    return code ? code
                : ivon_pixel_ranges(shift->whole ? shift->whole : command->examples,
                                    shift->options.field, shift->options.channels, shift->ranges,
                                    error);
}

int predict_shift_open(struct predict_shift **out, const struct predict_command *command,
                       const struct ivon_network *network, struct ivon_error *error)
{
    struct predict_shift *shift = xcalloc(1, sizeof *shift);
    *out = shift;
    shift->command = command;
    shift->options = ivon_corrupt_defaults();
    shift->options.seed = command->options.sample.seed;
    shift->stream = open_memstream(&shift->text, &shift->size);
    if (!shift->stream)
        return error_memory(error);
    int code = output_refuse(table_output_file(command->output), command->files.force, error);
    if (!code)
        code = shift_find_field(shift, network, error);
    if (!code)
        code = shift_find_layout(shift, network, error);
    return code ? code : shift_measure(shift, error);
}

void predict_shift_close(struct predict_shift *shift)
{
    if (!shift)
        return;
    if (shift->stream)
        fclose(shift->stream);
    ivon_examples_close(shift->whole);
    free(shift->ranges);
    free(shift->text);
    free(shift);
}

int predict_shift_examples(const struct predict_shift *shift, struct ivon_examples **corrupted,
                           struct ivon_error *error)
{
    const struct predict_shifted *row = &shift->command->shifts[shift->at];
    struct ivon_corrupt_options options = shift->options;
    options.corruption = row->corruption;
    options.level = row->level;
    *corrupted = NULL;
    return row->level ? ivon_examples_corrupt(corrupted, shift->command->examples, &options, error)
                      : 0;
}

/* The table. */

/* The metrics that become columns, those of them that the first row has. */
static const char *const shift_columns[] = {
    "accuracy",         "rmse",        "nll",      "brier",    "crps",  "ece", "aurc",
    "coverage_at_risk", "coverage_90", "coverage", "set_size", "width",
};
enum { COLUMNS = sizeof shift_columns / sizeof *shift_columns };

static const struct ivon_metric *shift_find(const struct ivon_metric *metrics, size_t count,
                                            const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return &metrics[i];
    return NULL;
}

static void shift_list_columns(struct predict_shift *shift, const struct ivon_metric *metrics,
                               size_t count)
{
    for (size_t c = 0; c < COLUMNS; c++)
        if (shift_find(metrics, count, shift_columns[c]))
            shift->names[shift->count++] = shift_columns[c];
    if (shift->command->format == IVON_JSONL)
        return;
    fputs("shift,level", shift->stream);
    for (size_t c = 0; c < shift->count; c++)
        fprintf(shift->stream, ",%s,%s_se", shift->names[c], shift->names[c]);
    fputc('\n', shift->stream);
}

static void shift_put_json(const struct predict_shift *shift, const char *name, int level)
{
    json_t *object = json_object();
    json_object_set_new(object, "shift", json_string(name));
    json_object_set_new(object, "level", json_integer(level));
    for (size_t c = 0; c < shift->count; c++) {
        const struct ivon_metric *metric = shift->found[c];
        char error_name[64];
        snprintf(error_name, sizeof error_name, "%s_se", shift->names[c]);
        json_object_set_new(object, shift->names[c],
                            report_json_number(metric ? metric->value : NAN));
        json_object_set_new(object, error_name,
                            report_json_number(metric ? metric->standard_error : NAN));
    }
    json_dumpf(object, shift->stream, JSON_COMPACT);
    fputc('\n', shift->stream);
    json_decref(object);
}

/* Puts as many digits as tell the number from all others. */
static void shift_put_number(const struct predict_shift *shift, double value)
{
    char text[32];
    int digits = 15;
    do
        snprintf(text, sizeof text, "%.*g", digits, report_number(value));
    while (strtod(text, NULL) != value && ++digits <= 17);
    fprintf(shift->stream, ",%s", text);
}

void predict_shift_add(struct predict_shift *shift, const struct ivon_metric *metrics, size_t count)
{
    const struct predict_shifted *row = &shift->command->shifts[shift->at++];
    const char *name = ivon_corruption_name(row->corruption);
    if (!shift->count)
        shift_list_columns(shift, metrics, count);
    for (size_t c = 0; c < shift->count; c++)
        shift->found[c] = shift_find(metrics, count, shift->names[c]);
    if (shift->command->format == IVON_JSONL) {
        shift_put_json(shift, name, row->level);
        return;
    }
    fprintf(shift->stream, "%s,%d", name, row->level);
    for (size_t c = 0; c < shift->count; c++) {
        const struct ivon_metric *metric = shift->found[c];
        shift_put_number(shift, metric ? metric->value : NAN);
        shift_put_number(shift, metric ? metric->standard_error : NAN);
    }
    fputc('\n', shift->stream);
}

int predict_shift_finish(struct predict_shift *shift, struct ivon_error *error)
{
    const struct predict_command *command = shift->command;
    const char *file = table_output_file(command->output);
    bool failed = fclose(shift->stream);
    shift->stream = NULL;
    if (failed)
        return error_memory(error);
    if (file)
        return ivon_output_write(file, shift->text, shift->size, command->files.force, error);
    if (fwrite(shift->text, 1, shift->size, stdout) != shift->size || fflush(stdout))
        return error_fill(error, IVON_ERROR_IO, "cannot write to standard output");
    return 0;
}
