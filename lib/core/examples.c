#include "core/examples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/stream.h"

enum {
    BUFFER_SIZE = 1 << 18, /* bytes of stored elements in memory; at least one example */
    TILE = 1024,           /* elements converted at a time */
    BYTES = 256,           /* values that an element of one byte has */
    TABLE_CHANNELS = 64,   /* at most, whose tables fit a cache */
};

struct field_scaling {
    bool identity; /* stored floats are used as they are */
    double divisor;
    size_t channels;
    double *mean, *std; /* one for each channel */
    float *table;       /* of what each byte becomes, for each channel; or null */
};

struct ivon_examples {
    const struct ivon_examples_class *class;
    void *self;
    char *path;
    uint64_t count;
    struct ivon_field *fields; /* own their names */
    struct field_scaling *scalings;
    size_t field_count;
    void *buffer;
    size_t buffer_size;
    enum ivon_hint extents_hint;
};

/* (x / divisor − mean) / std in double, rounded once: one channel, or one for each element. */

IVON_DISPATCH static void scale_run(float *restrict out, const double *restrict in, size_t count,
                                    double divisor, double mean, double std)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)((in[i] / divisor - mean) / std);
}

IVON_DISPATCH static void scale_per_element(float *restrict out, const double *restrict in,
                                            size_t count, double divisor,
                                            const double *restrict mean, const double *restrict std)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)((in[i] / divisor - mean[i]) / std[i]);
}

/* Scales a tile. Its first element has index `at` in its example; it may continue into the
   following examples. */
static void examples_scale(float *out, const double *in, size_t at, size_t count, size_t example,
                           const struct field_scaling *scaling)
{
    if (scaling->channels == 1) {
        scale_run(out, in, count, scaling->divisor, *scaling->mean, *scaling->std);
        return;
    }
    size_t stride = example / scaling->channels;
    for (size_t run; count; count -= run, in += run, out += run) {
        size_t channel = at / stride;
        const double *mean = scaling->mean + channel, *std = scaling->std + channel;
        run = stride == 1 ? scaling->channels - channel : stride - at % stride;
        run = run < count ? run : count;
        if (stride == 1)
            scale_per_element(out, in, run, scaling->divisor, mean, std);
        else
            scale_run(out, in, run, scaling->divisor, *mean, *std);
        at = (at + run) % example;
    }
}

/* The same of elements of one byte, by the table. */
static void examples_look_up(float *restrict out, const unsigned char *restrict in, size_t at,
                             size_t count, size_t example, const struct field_scaling *scaling)
{
    size_t stride = example / scaling->channels;
    for (size_t run; count; count -= run, in += run, out += run) {
        const float *table = scaling->table + at / stride * BYTES;
        run = scaling->channels == 1 ? count : stride - at % stride;
        run = run < count ? run : count;
        for (size_t i = 0; i < run; i++)
            out[i] = table[in[i]];
        at = (at + run) % example;
    }
}

/* Makes a table for elements of one byte, unless a number in it would not be finite. */
static bool scaling_tabulate(struct field_scaling *scaling, const struct ivon_field *field)
{
    unsigned char bytes[BYTES];
    double values[BYTES];
    bool finite = true;
    if (ivon_dtype_size(field->dtype) != 1 || scaling->channels > TABLE_CHANNELS)
        return true;
    scaling->table = calloc(scaling->channels, BYTES * sizeof *scaling->table);
    if (!scaling->table)
        return false;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)i;
    ivon_dtype_to_f64(values, bytes, field->dtype, BYTES);
    for (size_t c = 0; c < scaling->channels; c++)
        scale_run(scaling->table + c * BYTES, values, BYTES, scaling->divisor, scaling->mean[c],
                  scaling->std[c]);
    for (size_t i = 0; i < scaling->channels * BYTES; i++)
        finite = finite && isfinite(scaling->table[i]);
    if (!finite) {
        free(scaling->table);
        scaling->table = NULL;
    }
    return true;
}

static bool field_copy(struct ivon_field *to, const struct ivon_field *from)
{
    *to = *from;
    to->name = strdup(from->name);
    return to->name != NULL;
}

static bool scaling_copy(struct field_scaling *to, const struct examples_scaling *from)
{
    *to = (struct field_scaling){.identity = from->divisor == 1 && !from->mean && !from->std,
                                 .divisor = from->divisor,
                                 .channels = from->channels,
                                 .mean = calloc(from->channels, sizeof *to->mean),
                                 .std = calloc(from->channels, sizeof *to->std)};
    if (!to->mean || !to->std)
        return false;
    for (size_t c = 0; c < from->channels; c++) {
        to->mean[c] = from->mean ? from->mean[c] : 0;
        to->std[c] = from->std ? from->std[c] : 1;
    }
    return true;
}

/* Counts the elements of an example. The elements of all examples together must be addressable. */
static int count_elements(struct ivon_field *field, uint64_t rows, const char *path,
                          struct ivon_error *error)
{
    size_t size = ivon_dtype_size(field->dtype);
    uint64_t bytes;
    if (!tensor_shape_count(field->rank, field->shape, size, &field->count) ||
        __builtin_mul_overflow(field->count * size, rows, &bytes) || bytes > PTRDIFF_MAX)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is larger than memory can be", path,
                              field->name);
    if (!field->count)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: the examples of '%s' have no elements",
                              path, field->name);
    return 0;
}

int ivon_examples_new(struct ivon_examples **out, const struct ivon_examples_class *class,
                      void *self, const char *path, uint64_t count, const struct ivon_field *fields,
                      const struct examples_scaling *scalings, size_t field_count,
                      struct ivon_error *error)
{
    int code = 0;
    struct ivon_examples *examples = calloc(1, sizeof *examples);
    if (!examples)
        return ivon_error_memory(error);
    examples->path = strdup(path);
    examples->count = count;
    examples->field_count = field_count;
    examples->fields = calloc(field_count ? field_count : 1, sizeof *examples->fields);
    examples->scalings = calloc(field_count ? field_count : 1, sizeof *examples->scalings);
    if (!examples->path || !examples->fields || !examples->scalings)
        code = ivon_error_memory(error);
    for (size_t i = 0; i < field_count && !code; i++) {
        if (!field_copy(&examples->fields[i], &fields[i]) ||
            !scaling_copy(&examples->scalings[i], &scalings[i]) ||
            !scaling_tabulate(&examples->scalings[i], &fields[i]))
            code = ivon_error_memory(error);
        else
            code = count_elements(&examples->fields[i], count, path, error);
    }
    if (code) {
        ivon_examples_close(examples); /* its class is not set yet: `self` stays the caller's */
        return code;
    }
    examples->class = class;
    examples->self = self;
    examples->extents_hint = class->extents_hint;
    *out = examples;
    return 0;
}

int examples_new_like(struct ivon_examples **out, const struct ivon_examples_class *class,
                      void *self, const char *path, const struct ivon_examples *like,
                      uint64_t count, ptrdiff_t floats, struct ivon_error *error)
{
    struct examples_scaling *scalings = calloc(like->field_count + 1, sizeof *scalings);
    struct ivon_field *fields = calloc(like->field_count + 1, sizeof *fields);
    if (!scalings || !fields) {
        free(scalings);
        free(fields);
        return ivon_error_memory(error);
    }
    for (size_t i = 0; i < like->field_count; i++) {
        const struct field_scaling *from = &like->scalings[i];
        scalings[i] = (struct examples_scaling){from->divisor, from->channels, from->mean,
                                                from->std};
        fields[i] = like->fields[i];
    }
    if (floats >= 0) {
        fields[floats].dtype = IVON_F32;
        scalings[floats] = (struct examples_scaling){.divisor = 1, .channels = 1};
    }
    int code = ivon_examples_new(out, class, self, path, count, fields, scalings, like->field_count,
                                 error);
    for (size_t i = 0; i < like->field_count && !code; i++)
        (*out)->scalings[i].identity = like->scalings[i].identity || (ptrdiff_t)i == floats;
    if (!code)
        (*out)->extents_hint = like->extents_hint;
    free(fields);
    free(scalings);
    return code;
}

enum ivon_hint examples_extents_hint(const struct ivon_examples *examples)
{
    return examples->extents_hint;
}

int examples_read_stored(struct ivon_examples *examples, size_t field, uint64_t first, size_t count,
                         void *buffer, struct ivon_error *error)
{
    return examples->class->read(examples->self, field, first, count, buffer, error);
}

uint64_t ivon_examples_number(const struct ivon_examples *examples, uint64_t example)
{
    return examples->class->number ? examples->class->number(examples->self, example) : example;
}

const char *const *ivon_examples_characters(const struct ivon_examples *examples, size_t *count)
{
    *count = 0;
    return examples->class->characters ? examples->class->characters(examples->self, count) : NULL;
}

void ivon_examples_close(struct ivon_examples *examples)
{
    if (!examples)
        return;
    if (examples->class)
        examples->class->close(examples->self);
    for (size_t i = 0; i < examples->field_count; i++) {
        if (examples->fields)
            free((char *)examples->fields[i].name);
        if (examples->scalings) {
            free(examples->scalings[i].mean);
            free(examples->scalings[i].std);
            free(examples->scalings[i].table);
        }
    }
    free(examples->fields);
    free(examples->scalings);
    free(examples->buffer);
    free(examples->path);
    free(examples);
}

const char *ivon_examples_path(const struct ivon_examples *examples)
{
    return examples->path;
}

uint64_t ivon_examples_count(const struct ivon_examples *examples)
{
    return examples->count;
}

size_t ivon_examples_field_count(const struct ivon_examples *examples)
{
    return examples->field_count;
}

const struct ivon_field *ivon_examples_field(const struct ivon_examples *examples, size_t i)
{
    return i < examples->field_count ? &examples->fields[i] : NULL;
}

ptrdiff_t ivon_examples_find(const struct ivon_examples *examples, const char *name)
{
    for (size_t i = 0; i < examples->field_count; i++)
        if (strcmp(examples->fields[i].name, name) == 0)
            return (ptrdiff_t)i;
    return -1;
}

static int examples_check_range(const struct ivon_examples *examples, size_t field, uint64_t first,
                                size_t count, struct ivon_error *error)
{
    if (field < examples->field_count && first <= examples->count &&
        count <= examples->count - first)
        return 0;
    return ivon_error_set(error, IVON_ERROR_ARGUMENT, "%s: no such range of field %zu",
                          examples->path, field);
}

/* Returns how many examples fit the buffer, which is allocated for at least one; 0 on failure. */
static size_t examples_reserve(struct ivon_examples *examples, const struct ivon_field *field)
{
    size_t size = field->count * ivon_dtype_size(field->dtype);
    size_t wanted = size > BUFFER_SIZE ? size : BUFFER_SIZE;
    if (examples->buffer_size < wanted) {
        free(examples->buffer);
        examples->buffer = malloc(wanted);
        examples->buffer_size = examples->buffer ? wanted : 0;
    }
    return examples->buffer_size / size;
}

/*
 * Reads examples piece by piece and has `convert` turn each piece of stored elements into
 * `out_size` bytes an element; `first` is then the piece's first example.
 */
static int read_pieces(struct ivon_examples *examples, size_t index, uint64_t first, size_t count,
                       char *out, size_t out_size,
                       int (*convert)(const struct ivon_examples *examples, size_t index,
                                      uint64_t first, size_t count, void *out,
                                      struct ivon_error *error),
                       struct ivon_error *error)
{
    const struct ivon_field *field = &examples->fields[index];
    size_t most = examples_reserve(examples, field);
    if (!most)
        return ivon_error_memory(error);
    int code = 0;
    while (count && !code) {
        size_t piece = count < most ? count : most;
        code = examples->class->read(examples->self, index, first, piece, examples->buffer, error);
        if (!code)
            code = convert(examples, index, first, piece * field->count, out, error);
        first += piece;
        count -= piece;
        out += piece * field->count * out_size;
    }
    return code;
}

/* The address of a stored element in the buffer. */
static const char *stored(const struct ivon_examples *examples, const struct ivon_field *field,
                          size_t element)
{
    return (const char *)examples->buffer + element * ivon_dtype_size(field->dtype);
}

/* Returns true if all numbers are finite: infinity and NaN have all exponent bits set. */
IVON_DISPATCH static bool all_finite(const float *a, size_t count)
{
    const uint32_t exponent = 0x7f800000;
    uint32_t failed = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &a[i], sizeof bits);
        failed |= (bits & exponent) == exponent;
    }
    return !failed;
}

/* Fails on the first of `count` numbers that is not finite. The first number has index `at` in the
   examples from `first` on. `stored` has the numbers as the file has them, or is null. */
static int examples_check_finite(const struct ivon_examples *examples, size_t index, uint64_t first,
                                 size_t at, const float *a, const double *stored, size_t count,
                                 struct ivon_error *error)
{
    const struct ivon_field *field = &examples->fields[index];
    if (all_finite(a, count))
        return 0;
    for (size_t i = 0;; i++) {
        double value = stored ? stored[i] : (double)a[i];
        if (isfinite(a[i]))
            continue;
        return ivon_error_set(
            error, IVON_ERROR_DATA, "%s: '%s': row %llu holds %.9g, expected %s", examples->path,
            field->name,
            (unsigned long long)ivon_examples_number(examples, first + (at + i) / field->count),
            isnan(value) ? (double)NAN : value, /* without its sign */
            isfinite(value) ? "what single precision holds" : "a finite number");
    }
}

static int convert_f32(const struct ivon_examples *examples, size_t index, uint64_t first,
                       size_t count, void *out, struct ivon_error *error)
{
    int code = 0;
    double tile[TILE];
    float *to = out;
    const struct ivon_field *field = &examples->fields[index];
    const struct field_scaling *scaling = &examples->scalings[index];
    if (scaling->table) {
        examples_look_up(to, examples->buffer, 0, count, field->count, scaling);
        return 0;
    }
    for (size_t done = 0, size; done < count && !code; done += size) {
        size = count - done < TILE ? count - done : TILE;
        ivon_dtype_to_f64(tile, stored(examples, field, done), field->dtype, size);
        examples_scale(to + done, tile, done % field->count, size, field->count, scaling);
        code = examples_check_finite(examples, index, first, done, to + done, tile, size, error);
    }
    return code;
}

int ivon_examples_read_f32(struct ivon_examples *examples, size_t field, uint64_t first,
                           size_t count, float *out, struct ivon_error *error)
{
    int code = examples_check_range(examples, field, first, count, error);
    if (code || !count)
        return code;
    if (examples->fields[field].dtype != IVON_F32 || !examples->scalings[field].identity)
        return read_pieces(examples, field, first, count, (char *)out, sizeof *out, convert_f32,
                           error);
    code = examples->class->read(examples->self, field, first, count, out, error);
    return code ? code
                : examples_check_finite(examples, field, first, 0, out, NULL,
                                        count * examples->fields[field].count, error);
}

static int convert_u64(const struct ivon_examples *examples, size_t index, uint64_t first,
                       size_t count, int64_t *out, struct ivon_error *error)
{
    const struct ivon_field *field = &examples->fields[index];
    const uint64_t *from = examples->buffer;
    for (size_t i = 0; i < count; i++) {
        if (from[i] > INT64_MAX)
            return ivon_error_set(
                error, IVON_ERROR_DATA, "%s: '%s': row %llu is %llu, expected less than 2^63",
                examples->path, field->name,
                (unsigned long long)ivon_examples_number(examples, first + i / field->count),
                (unsigned long long)from[i]);
        out[i] = (int64_t)from[i];
    }
    return 0;
}

/* All types but the 64-bit integers convert to double without loss. */
static int convert_i64(const struct ivon_examples *examples, size_t index, uint64_t first,
                       size_t count, void *out, struct ivon_error *error)
{
    double tile[TILE];
    int64_t *to = out;
    const struct ivon_field *field = &examples->fields[index];
    if (field->dtype == IVON_U64)
        return convert_u64(examples, index, first, count, to, error);
    for (size_t done = 0, size; done < count; done += size) {
        size = count - done < TILE ? count - done : TILE;
        ivon_dtype_to_f64(tile, stored(examples, field, done), field->dtype, size);
        for (size_t i = 0; i < size; i++) {
            bool fits = tile[i] >= -0x1p63 && tile[i] < 0x1p63;
            int64_t whole = fits ? (int64_t)tile[i] : 0;
            if (!fits || (double)whole != tile[i])
                return ivon_error_set(error, IVON_ERROR_DATA,
                                      "%s: '%s': row %llu is %.9g, expected a whole number",
                                      examples->path, field->name,
                                      (unsigned long long)ivon_examples_number(
                                          examples, first + (done + i) / field->count),
                                      tile[i]);
            to[done + i] = whole;
        }
    }
    return 0;
}

int ivon_examples_read_i64(struct ivon_examples *examples, size_t field, uint64_t first,
                           size_t count, int64_t *out, struct ivon_error *error)
{
    int code = examples_check_range(examples, field, first, count, error);
    if (code || !count)
        return code;
    if (examples->fields[field].dtype == IVON_I64)
        return examples->class->read(examples->self, field, first, count, out, error);
    return read_pieces(examples, field, first, count, (char *)out, sizeof *out, convert_i64, error);
}
