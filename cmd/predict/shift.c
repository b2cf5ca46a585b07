/* ivon-predict --shift: metrics on corrupted images, by corruption and level, as a sheet. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/predict/predict.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/shared/outputs/table.h"

enum { SHIFTS_MAX = 256 };

struct predict_shift {
    const struct predict_command *command;
    struct ivon_examples *whole; /* the data without --limit; null: they have none */
    struct ivon_corrupt_options options;
    struct ivon_pixel_range *ranges;
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
    if (!command->shift_count && command->image[0])
        argp_failure(state, EX_USAGE, 0, "--image-shape is for --shift");
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
    int code = shift_find_field(shift, network, error);
    if (!code)
        code = shift_find_layout(shift, network, error);
    return code ? code : shift_measure(shift, error);
}

void predict_shift_close(struct predict_shift *shift)
{
    if (!shift)
        return;
    ivon_examples_close(shift->whole);
    free(shift->ranges);
    free(shift);
}

int predict_shift_examples(const struct predict_shift *shift, const struct predict_shifted *row,
                           struct ivon_examples **corrupted, struct ivon_error *error)
{
    struct ivon_corrupt_options options = shift->options;
    options.corruption = row->corruption;
    options.level = row->level;
    *corrupted = NULL;
    return row->level ? ivon_examples_corrupt(corrupted, shift->command->examples, &options, error)
                      : 0;
}
