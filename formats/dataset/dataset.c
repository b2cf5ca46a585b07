#include "formats/dataset/dataset.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/error.h"
#include "core/options.h"
#include "formats/numpy/array.h"
#include "formats/hdf5/safe.h"
#include "formats/image/image.h"
#include "formats/io/zip.h"

struct dataset_format {
    const char *name;
    bool (*recognise)(const struct mapped_file *file);
    int (*open)(struct ivon_examples **examples, struct dataset_request *request,
                struct mapped_file *file, struct ivon_error *error);
    bool groups, columns, pairs, names, sizes; /* what may be chosen in such files */
};

/* True if the file is text, and so CSV: the only format that has no signature. */
static bool csv_recognise(const struct mapped_file *file)
{
    enum { SAMPLE = 4096 };
    return !memchr(file->data, '\0', file->size < SAMPLE ? (size_t)file->size : SAMPLE);
}

static const struct dataset_format formats[] = {
    {.name = "an HDF5 file",
     .recognise = hdf5_recognise,
     .open = dataset_hdf5_open,
     .groups = true,
     .names = true},
    {.name = "an npz file", .recognise = zip_recognise, .open = dataset_npz_open, .names = true},
    {.name = "an npy file", .recognise = npy_recognise, .open = dataset_array_open, .pairs = true},
    {.name = "an IDX file", .recognise = idx_recognise, .open = dataset_array_open, .pairs = true},
    {.name = "a gzip file", .recognise = gzip_recognise, .open = dataset_array_open, .pairs = true},
    {.name = "a CSV file", .recognise = csv_recognise, .open = dataset_csv_open, .columns = true},
};

/* The format of files that the options declare to be text, whatever they look like. */
static const struct dataset_format text = {
    .name = "a text file", .open = dataset_text_open, .groups = true};

static const struct dataset_format image_directory = {
    .name = "a directory of images", .open = dataset_images_open, .sizes = true};

/* The names that `path` consists of, which point into `text`. */
struct dataset_path {
    char *text;
    const char *group;   /* or null */
    const char *targets; /* or null */
};

/* Returns whether it names a file, as standard input does. */
static bool dataset_is_file(const char *path)
{
    struct stat status;
    return strcmp(path, "-") == 0 || (stat(path, &status) == 0 && !S_ISDIR(status.st_mode));
}

static bool dataset_is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/*
 * FILE, DIRECTORY, FILE:GROUP or INPUTS,TARGETS. A file of the whole name comes first; a group
 * begins with a slash or follows the name of a file; targets follow the name of a file.
 */
static bool split_path(struct dataset_path *parts, const char *path)
{
    *parts = (struct dataset_path){.text = strdup(path)};
    if (!parts->text)
        return false;
    if (dataset_is_file(path) || dataset_is_directory(path))
        return true;
    char *colon = strrchr(parts->text, ':');
    if (colon) {
        *colon = '\0';
        if (colon[1] == '/' || dataset_is_file(parts->text)) {
            parts->group = colon + 1;
            return true;
        }
        *colon = ':';
    }
    for (char *comma = strchr(parts->text, ','); comma; comma = strchr(comma + 1, ',')) {
        *comma = '\0';
        if (dataset_is_file(parts->text)) {
            parts->targets = comma + 1;
            return true;
        }
        *comma = ',';
    }
    return true;
}

static int check_images(const struct ivon_dataset_options *options, struct ivon_error *error)
{
    size_t height = options->image_height, width = options->image_width;
    size_t side = options->image_short_side, channels = options->image_channels;
    if (channels && channels != 1 && channels != 3)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%zu channels of images, expected 1 or 3",
                              channels);
    if (!height && !width && !side)
        return 0;
    if (!height || !width || height > IMAGE_SIDE_MAX || width > IMAGE_SIDE_MAX ||
        side > IMAGE_SIDE_MAX || height * width > IMAGE_PIXELS_MAX)
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT,
            "images of %zu x %zu pixels, expected at least one, and at most %d of "
            "at most %d in a row",
            width, height, IMAGE_PIXELS_MAX, IMAGE_SIDE_MAX);
    if (side && (side < height || side < width))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%zu x %zu pixels of images whose shorter side has %zu: expected no "
                              "more than there are",
                              width, height, side);
    return 0;
}

static int dataset_check_options(const struct ivon_dataset_options *options,
                                 struct ivon_error *error)
{
    for (size_t c = 0; c < options->channel_count; c++) {
        double mean = options->mean ? options->mean[c] : 0;
        double std = options->std ? options->std[c] : 1;
        if (!isfinite(mean) || !isfinite(std) || std <= 0)
            return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                  "channel %zu is normalized by mean %g and standard deviation %g, "
                                  "expected finite numbers, the latter above 0",
                                  c, mean, std);
    }
    return check_images(options, error);
}

static const struct dataset_format *dataset_recognise(const struct mapped_file *file)
{
    for (size_t i = 0; file->size && i < sizeof formats / sizeof formats[0]; i++)
        if (formats[i].recognise(file))
            return &formats[i];
    return NULL;
}

static int check_format(const struct dataset_format *format, const struct dataset_request *request,
                        const struct mapped_file *file, struct ivon_error *error)
{
    if (!format)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: %s, expected HDF5, npz, npy, IDX or CSV",
                              file->path,
                              file->size ? "is in no format that is known here" : "is empty");
    if (request->group && !format->groups)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: '%s' would be a group, but '%s' is %s, which has none",
                              request->path, request->group, file->path, format->name);
    if (request->targets.path && !format->pairs)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: two files are named, but '%s' is %s, expected npy or IDX",
                              request->path, file->path, format->name);
    if (request->options->named && !format->names)
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: has no array '%s': '%s' is %s, whose arrays have no names",
            request->path, request->options->input_count ? request->options->inputs[0] : "x",
            file->path, format->name);
    if (request->options->target_column && !format->columns)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: a target column can be named in CSV files only, and this is %s",
                              request->path, format->name);
    if (request->options->vocabulary && !format->columns)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: a vocabulary is for texts in CSV files, and this is %s",
                              request->path, format->name);
    if (request->options->image_height && !format->sizes)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: only images can be resized, and this is %s", request->path,
                              format->name);
    return 0;
}

/* Finds the format of what a path names, which is mapped if it is a file. */
static int dataset_examine(const struct dataset_format **format, struct mapped_file *file,
                           const char *path, const struct ivon_dataset_options *options,
                           struct ivon_error *error)
{
    if (dataset_is_directory(path) && !options->characters) {
        *format = &image_directory;
        file->path = strdup(path);
        return file->path ? 0 : ivon_error_memory(error);
    }
    int code = mapped_open(file, path, error);
    if (!code)
        *format = options->characters ? &text : dataset_recognise(file);
    return code;
}

static int dataset_open_file(struct ivon_examples **examples, const char *path,
                             const struct ivon_dataset_options *options, struct ivon_error *error)
{
    struct dataset_path parts;
    struct mapped_file file = {0};
    struct dataset_request request = {.path = path, .options = options};
    int code = dataset_check_options(request.options, error);
    if (code)
        return code;
    if (!split_path(&parts, path))
        return ivon_error_memory(error);
    request.group = parts.group;
    const struct dataset_format *format = NULL;
    code = dataset_examine(&format, &file, parts.text, options, error);
    if (!code && parts.targets)
        code = mapped_open(&request.targets, parts.targets, error);
    if (!code)
        code = check_format(format, &request, &file, error);
    if (!code)
        code = format->open(examples, &request, &file, error);
    mapped_close(&file);
    mapped_close(&request.targets);
    free(parts.text);
    return code;
}

static const struct options_kind dataset_options = {
    .defaults = "ivon_dataset_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_dataset_options, resources.reserved)}};

void ivon_dataset_options_init(struct ivon_dataset_options *options, size_t size)
{
    const struct ivon_dataset_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_dataset_open(struct ivon_examples **examples, const char *path,
                      const struct ivon_dataset_options *given, struct ivon_error *error)
{
    struct ivon_dataset_options options = ivon_dataset_defaults(), all;
    struct ivon_examples *tokens = NULL;
    int code = options_read(&dataset_options, &options, given, error);
    if (code)
        return code;
    all = options;
    if (!all.context && !all.vocabulary)
        return dataset_open_file(examples, path, &all, error);
    if (all.vocabulary) {
        code = dataset_open_file(&tokens, path, &all, error);
        return code ? code : dataset_texts(examples, tokens, path, &options, error);
    }
    all.limit = 0;
    all.targets = "";
    code = dataset_open_file(&tokens, path, &all, error);
    return code ? code : dataset_windows(examples, tokens, &options, error);
}

/* Names. */

void dataset_list(char *out, size_t size, const char *const *names, size_t count)
{
    size_t used = 0, shown = 0;
    snprintf(out, size, "nothing");
    for (; shown < count; shown++) {
        size_t left = size - used;
        int length = snprintf(out + used, left, "%s'%s'", shown ? ", " : "", names[shown]);
        if (length < 0 || (size_t)length + sizeof " and 123456789 more" > left)
            break;
        used += (size_t)length;
    }
    if (shown < count)
        snprintf(out + used, size - used, "%s%zu more", shown ? " and " : "", count - shown);
}

const char *dataset_input_name(const struct dataset_request *request, struct ivon_error *error)
{
    const struct ivon_dataset_options *options = request->options;
    if (!options->inputs || !options->input_count)
        return "x";
    if (options->input_count == 1)
        return options->inputs[0];
    ivon_error_set(error, IVON_ERROR_ARGUMENT,
                   "%s: %zu inputs are asked for, but such a file holds one array", request->path,
                   options->input_count);
    return NULL;
}

const char *dataset_targets_name(const struct dataset_request *request)
{
    return request->options->targets ? request->options->targets : "y";
}

bool dataset_targets_required(const struct dataset_request *request)
{
    const struct ivon_dataset_options *options = request->options;
    return options->targets && *options->targets && !options->targets_optional;
}

bool dataset_targets_refused(const struct dataset_request *request)
{
    return request->options->targets && !*request->options->targets;
}

int dataset_find_class(int64_t *number, const struct class_names *classes, const char *path,
                       const char *array, uint64_t row, const char *name, size_t size,
                       struct ivon_error *error)
{
    *number = class_names_find(classes, name, size);
    return *number >= 0 ? 0
                        : ivon_error_set(error, IVON_ERROR_DATA,
                                         "%s%s%s%s: row %" PRIu64 " is '%.60s', expected the name "
                                         "of one of the %zu classes",
                                         path, array ? ": '" : "", array ? array : "",
                                         array ? "'" : "", row, name, classes->count);
}

static bool find_name(const char *const *names, size_t count, const char *name, size_t *index)
{
    for (*index = 0; *index < count; ++*index)
        if (strcmp(names[*index], name) == 0)
            return true;
    return false;
}

/* Returns whether the arrays are those of a posterior; of an .npz file means have bare names. */
static bool dataset_is_posterior(const char *const *names, size_t count)
{
    bool posterior = false;
    for (size_t i = 0; i < count; i++)
        posterior |= strncmp(names[i], "mean/", 5) == 0 || strncmp(names[i], "hessian/", 8) == 0;
    return posterior;
}

static int dataset_lacks(const struct dataset_request *request, const char *const *names,
                         size_t count, const char *name, struct ivon_error *error)
{
    char list[DATASET_LIST_SIZE];
    bool posterior = dataset_is_posterior(names, count);
    dataset_list(list, sizeof list, names, count);
    return ivon_error_set(error, IVON_ERROR_DATA, "%s: has no array '%s', %s%s%s", request->path,
                          name, count ? "but " : "nor any other", count ? list : "",
                          posterior ? ": it looks like a posterior, not data" : "");
}

int dataset_select(struct dataset_selection *selection, const struct dataset_request *request,
                   const char *const *names, size_t count, struct ivon_error *error)
{
    static const char *const default_inputs[] = {"x"};
    bool given = request->options->inputs && request->options->input_count;
    const char *const *inputs = given ? request->options->inputs : default_inputs;
    size_t input_count = given ? request->options->input_count : 1;
    const char *targets = dataset_targets_name(request);
    bool others = count && !dataset_is_posterior(names, count);
    *selection = (struct dataset_selection){
        .arrays = calloc(input_count + 1, sizeof *selection->arrays), .count = input_count};
    if (!selection->arrays)
        return ivon_error_memory(error);
    for (size_t i = 0; i < input_count; i++)
        if (!find_name(names, count, inputs[i], &selection->arrays[i]))
            return ivon_error_hint(error, others ? IVON_HINT_INPUTS : IVON_HINT_NONE,
                                   dataset_lacks(request, names, count, inputs[i], error));
    if (dataset_targets_refused(request))
        return 0;
    selection->targets = find_name(names, count, targets, &selection->arrays[input_count]);
    selection->count += selection->targets;
    if (!selection->targets && dataset_targets_required(request))
        return dataset_lacks(request, names, count, targets, error);
    return 0;
}

/* Examples of arrays. */

static int check_rows(const struct dataset_request *request, const struct dataset_array *arrays,
                      size_t count, struct ivon_error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (arrays[i].rank < 1)
            return ivon_error_set(error, IVON_ERROR_DATA,
                                  "%s: '%s' is a single number, expected a row for each example",
                                  request->path, arrays[i].name);
        if (arrays[i].shape[0] != arrays[0].shape[0])
            return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' has %lld rows, but '%s' %lld",
                                  request->path, arrays[0].name, (long long)arrays[0].shape[0],
                                  arrays[i].name, (long long)arrays[i].shape[0]);
    }
    return 0;
}

static int scaling_of(struct examples_scaling *scaling, const struct dataset_request *request,
                      const struct dataset_array *array, bool is_target, struct ivon_error *error)
{
    const struct ivon_dataset_options *options = request->options;
    bool bytes = array->dtype == IVON_U8;
    *scaling = (struct examples_scaling){.divisor = 1, .channels = 1};
    if (is_target)
        return 0;
    if (bytes && !options->no_scaling)
        scaling->divisor = 255;
    if (!options->channel_count || (!bytes && !ivon_dtype_is_float(array->dtype)))
        return 0;
    int64_t channels = array->rank > 1 ? array->shape[1] : 1;
    if (options->channel_count != 1 && (uint64_t)channels != options->channel_count)
        return ivon_error_set(
            error, IVON_ERROR_ARGUMENT, "%s: '%s' has %lld channels, but the normalization %zu",
            request->path, array->name, (long long)channels, options->channel_count);
    scaling->channels = options->channel_count;
    scaling->mean = options->mean;
    scaling->std = options->std;
    return 0;
}

static void dataset_describe(struct ivon_field *field, const struct dataset_array *array)
{
    *field = (struct ivon_field){
        .name = array->name, .dtype = array->dtype, .rank = array->rank - 1};
    for (int i = 0; i < field->rank; i++)
        field->shape[i] = array->shape[i + 1];
}

int dataset_make(struct ivon_examples **examples, const struct ivon_examples_class *class,
                 void *self, const struct dataset_request *request,
                 const struct dataset_array *arrays, size_t count, bool targets,
                 struct ivon_error *error)
{
    int code = check_rows(request, arrays, count, error);
    struct ivon_field *fields = calloc(count, sizeof *fields);
    struct examples_scaling *scalings = calloc(count, sizeof *scalings);
    if (!code && (!fields || !scalings))
        code = ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        dataset_describe(&fields[i], &arrays[i]);
        code = scaling_of(&scalings[i], request, &arrays[i], targets && i == count - 1, error);
    }
    if (!code) {
        uint64_t rows = (uint64_t)arrays[0].shape[0], limit = request->options->limit;
        code = ivon_examples_new(examples, class, self, request->path,
                                 limit && limit < rows ? limit : rows, fields, scalings, count,
                                 error);
    }
    free(fields);
    free(scalings);
    return code;
}
