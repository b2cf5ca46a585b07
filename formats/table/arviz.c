/*
 * InferenceData as netCDF-4, which is HDF5 with dimension scales: a data set of a group is a
 * variable; one that is a scale is also a dimension, and attached to each axis that it measures
 * (HDF5 Dimension Scale Specification; NetCDF Users Guide, appendix "File format specifications").
 */
#include "ivon/arviz.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/options.h"
#include "core/stream.h"
#include "formats/io/atomic.h"
#include "formats/hdf5/layout.h"
#include "formats/io/strings.h"
#include "formats/io/suffix.h"
#include "ivon/ivon.h"

enum { CHAIN, DRAW, EXAMPLE, OUTPUT, AXIS_COUNT };
enum { COORDINATES_MAX = 3 * AXIS_COUNT, PATH_SIZE = 64 };

static const char *const axis_names[AXIS_COUNT] = {"chain", "draw", "y_dim_0", "y_dim_1"};

struct ivon_arviz {
    struct atomic_file file;
    struct ivon_arviz_options options;
    size_t target_size; /* bytes of an example's target */
    int64_t extents[AXIS_COUNT];
    uint64_t log_likelihood, replicates, targets; /* offsets in the file */
    struct {
        uint64_t offset;
        int axis;
    } coordinates[COORDINATES_MAX];
    size_t coordinate_count;
    atomic_uint_fast64_t written, observed; /* examples of samples, and of the data */
};

/* The variable of axis `axis`: its coordinates. */
static hid_t put_scale(struct hdf5_layout *layout, struct ivon_arviz *arviz, const char *group,
                       int axis)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", group, axis_names[axis]);
    int64_t extent = arviz->extents[axis];
    uint64_t offset;
    hid_t scale = hdf5_put_dataset(layout, path, IVON_I64, 1, &extent, &offset);
    if (scale < 0)
        return -1;
    if (H5DSset_scale(scale, axis_names[axis]) < 0) {
        H5Dclose(scale);
        return -1;
    }
    size_t i = arviz->coordinate_count++;
    arviz->coordinates[i].offset = offset;
    arviz->coordinates[i].axis = axis;
    return scale;
}

/* A group with its dimensions `first` to `last` and the variable y over them. */
static bool arviz_put_group(struct hdf5_layout *layout, struct ivon_arviz *arviz, const char *group,
                            int first, int last, enum ivon_dtype dtype, uint64_t *offset)
{
    char path[PATH_SIZE];
    hid_t scales[AXIS_COUNT], y = -1;
    bool fine = true;
    int count = last - first + 1, opened = 0;
    for (; opened < count && fine; opened++) {
        scales[opened] = put_scale(layout, arviz, group, first + opened);
        fine = scales[opened] >= 0;
    }
    snprintf(path, sizeof path, "%s/y", group);
    if (fine)
        y = hdf5_put_dataset(layout, path, dtype, count, &arviz->extents[first], offset);
    fine = y >= 0;
    for (int i = 0; i < count && fine; i++)
        fine = H5DSattach_scale(y, scales[i], (unsigned)i) >= 0;
    if (y >= 0)
        H5Dclose(y);
    while (opened--)
        if (scales[opened] >= 0)
            H5Dclose(scales[opened]);
    return fine;
}

static int arviz_describe(void *context, struct hdf5_layout *layout, struct ivon_error *error)
{
    struct ivon_arviz *arviz = context;
    enum ivon_dtype dtype = arviz->options.target_dtype;
    int last = arviz->options.outputs == 1 ? EXAMPLE : OUTPUT;
    hid_t root = hdf5_layout_root(layout);
    char properties[PATH_SIZE];
    snprintf(properties, sizeof properties, "version=2,ivon=%s", ivon_version());
    bool fine = hdf5_put_text(root, "_NCProperties", properties) &&
                hdf5_put_text(root, "creator", arviz->options.creator) &&
                arviz_put_group(layout, arviz, "log_likelihood", CHAIN, EXAMPLE, IVON_F64,
                                &arviz->log_likelihood) &&
                arviz_put_group(layout, arviz, "posterior_predictive", CHAIN, last, dtype,
                                &arviz->replicates) &&
                arviz_put_group(layout, arviz, "observed_data", EXAMPLE, last, dtype,
                                &arviz->targets);
    return fine
               ? 0
               : ivon_error_set(error, IVON_ERROR_IO, "%s: HDF5 cannot write it", arviz->file.path);
}

static int write_coordinates(struct ivon_arviz *arviz, uint64_t offset, int64_t extent,
                             struct ivon_error *error)
{
    int64_t values[1024];
    int64_t capacity = sizeof values / sizeof values[0];
    int code = 0;
    for (int64_t first = 0; first < extent && !code; first += capacity) {
        int64_t count = extent - first < capacity ? extent - first : capacity;
        for (int64_t i = 0; i < count; i++)
            values[i] = first + i;
        code = atomic_write(&arviz->file, offset + (uint64_t)first * sizeof values[0], values,
                            (size_t)count * sizeof values[0], error);
    }
    return code;
}

static int arviz_check_options(const char *path, const struct ivon_arviz_options *options,
                               struct ivon_error *error)
{
    const int64_t extents[] = {(int64_t)options->samples, (int64_t)options->examples,
                               (int64_t)options->outputs};
    size_t count;
    if (options->target_dtype != IVON_I64 && options->target_dtype != IVON_F32)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: targets of type %s, expected i64 or f32", path,
                              ivon_dtype_name(options->target_dtype));
    if (!tensor_shape_count(3, extents, sizeof(double), &count) || count == 0)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: %llu samples of %llu examples of %zu outputs are not what a "
                              "file can hold",
                              path, (unsigned long long)options->samples,
                              (unsigned long long)options->examples, options->outputs);
    return 0;
}

/* A name says netCDF-4, which is HDF5, or nothing. */
static int check_suffix(const char *path, struct ivon_error *error)
{
    static const char *const known[] = {".nc", ".h5", ".hdf5", NULL};
    char expected[64];
    if (!suffix_of(path) || suffix_is_one_of(path, known))
        return 0;
    strings_alternatives(expected, sizeof expected, known, sizeof known / sizeof *known - 1);
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "%s: no log-likelihoods are written as %s, expected a name in %s", path,
                          suffix_of(path), expected);
}

static const struct options_kind arviz_options = {.defaults = "ivon_arviz_defaults"};

void ivon_arviz_options_init(struct ivon_arviz_options *options, size_t size)
{
    const struct ivon_arviz_options defaults = {.size = sizeof defaults};
    options_init(options, size, &defaults);
}

int ivon_arviz_create(struct ivon_arviz **out, const char *path,
                      const struct ivon_arviz_options *given, struct ivon_error *error)
{
    struct ivon_arviz_options own = ivon_arviz_defaults();
    const struct ivon_arviz_options *options = &own;
    int code = options_read(&arviz_options, &own, given, error);
    if (!code)
        code = check_suffix(path, error);
    if (!code)
        code = arviz_check_options(path, options, error);
    if (code)
        return code;
    struct ivon_arviz *arviz = calloc(1, sizeof *arviz);
    if (!arviz)
        return ivon_error_memory(error);
    arviz->options = *options;
    arviz->target_size = options->outputs * ivon_dtype_size(options->target_dtype);
    arviz->extents[CHAIN] = 1;
    arviz->extents[DRAW] = (int64_t)options->samples;
    arviz->extents[EXAMPLE] = (int64_t)options->examples;
    arviz->extents[OUTPUT] = (int64_t)options->outputs;
    code = atomic_open(&arviz->file, path, options->replace, error);
    if (!code)
        code = hdf5_lay_out(&arviz->file, arviz_describe, arviz, error);
    for (size_t i = 0; i < arviz->coordinate_count && !code; i++)
        if (arviz->coordinates[i].axis != EXAMPLE)
            code = write_coordinates(arviz, arviz->coordinates[i].offset,
                                     arviz->extents[arviz->coordinates[i].axis], error);
    if (code)
        ivon_arviz_close(arviz);
    else
        *out = arviz;
    return code;
}

static int arviz_check_range(const struct ivon_arviz *arviz, uint64_t sample, uint64_t first,
                             size_t count, struct ivon_error *error)
{
    const struct ivon_arviz_options *options = &arviz->options;
    if (sample < options->samples && first <= options->examples &&
        count <= options->examples - first)
        return 0;
    return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                          "%s: there are no examples %llu to %llu of sample %llu", arviz->file.path,
                          (unsigned long long)first, (unsigned long long)(first + count),
                          (unsigned long long)sample);
}

int ivon_arviz_write(struct ivon_arviz *arviz, uint64_t sample, uint64_t first, size_t count,
                     const double *log_likelihoods, const void *replicates,
                     struct ivon_error *error)
{
    int code = arviz_check_range(arviz, sample, first, count, error);
    uint64_t at = sample * arviz->options.examples + first;
    if (!code)
        code = atomic_write(&arviz->file, arviz->log_likelihood + at * sizeof(double),
                            log_likelihoods, count * sizeof(double), error);
    if (!code)
        code = atomic_write(&arviz->file, arviz->replicates + at * arviz->target_size, replicates,
                            count * arviz->target_size, error);
    if (!code)
        arviz->written += count;
    return code;
}

int ivon_arviz_observe(struct ivon_arviz *arviz, uint64_t first, size_t count,
                       const int64_t *numbers, const void *targets, struct ivon_error *error)
{
    int code = arviz_check_range(arviz, 0, first, count, error);
    for (size_t i = 0; i < arviz->coordinate_count && !code; i++)
        if (arviz->coordinates[i].axis == EXAMPLE)
            code = atomic_write(&arviz->file,
                                arviz->coordinates[i].offset + first * sizeof *numbers, numbers,
                                count * sizeof *numbers, error);
    if (!code)
        code = atomic_write(&arviz->file, arviz->targets + first * arviz->target_size, targets,
                            count * arviz->target_size, error);
    if (!code)
        arviz->observed += count;
    return code;
}

int ivon_arviz_commit(struct ivon_arviz *arviz, struct ivon_error *error)
{
    uint64_t written = arviz->written, observed = arviz->observed;
    uint64_t examples = arviz->options.examples, expected = arviz->options.samples * examples;
    if (written != expected || observed != examples)
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s: %llu log-likelihoods and %llu targets, expected %llu and %llu",
                              arviz->file.path, (unsigned long long)written,
                              (unsigned long long)observed, (unsigned long long)expected,
                              (unsigned long long)examples);
    return atomic_commit(&arviz->file, error);
}

void ivon_arviz_close(struct ivon_arviz *arviz)
{
    if (!arviz)
        return;
    atomic_close(&arviz->file);
    free(arviz);
}
