/* What the targets that open data sets have in common: all of it read, as floats and as
   integers. */
#ifndef TESTS_FUZZ_DATASET_H
#define TESTS_FUZZ_DATASET_H

#include <string.h>

#include "core/stream.h"
#include "ivon/dataset.h"
#include "tests/fuzz/input.h"

enum {
    ELEMENTS = 1 << 16,  /* read at a time */
    READ_MOST = 1 << 22, /* of a field, where a small file claims very many */
};

static volatile float kept; /* so that no read is optimised away */

static inline void check_error(int code, const struct ivon_error *error)
{
    assert(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT || code == IVON_ERROR_ARGUMENT);
    assert(error->code == code && error->message[0] && !strchr(error->message, '\n'));
}

/* Reads a field from its beginning, and then a little from its middle. */
static inline void read_field(struct ivon_examples *examples, size_t index)
{
    static float numbers[ELEMENTS];
    static int64_t integers[ELEMENTS];
    const struct ivon_field *field = ivon_examples_field(examples, index);
    uint64_t rows = ivon_examples_count(examples), count;
    assert(tensor_shape_count(field->rank, field->shape, ivon_dtype_size(field->dtype), &count));
    assert(count == field->count && count > 0);
    if (count > ELEMENTS)
        return;
    uint64_t piece = ELEMENTS / count, read = 0;
    for (uint64_t first = 0; first < rows && read < READ_MOST; first += piece) {
        struct ivon_error error = {0};
        uint64_t size = rows - first < piece ? rows - first : piece;
        int code = ivon_examples_read_f32(examples, index, first, size, numbers, &error);
        if (!code)
            for (uint64_t i = 0; i < size * count; i++)
                kept = numbers[i];
        else
            check_error(code, &error);
        int again = ivon_examples_read_i64(examples, index, first, size, integers, &error);
        if (again)
            check_error(again, &error);
        if (code)
            break;
        read += size * count;
    }
    struct ivon_error error = {0};
    int code = rows ? ivon_examples_read_f32(examples, index, rows / 2, 1, numbers, &error) : 0;
    if (code)
        check_error(code, &error);
}

static inline int try_options(const char *path, const struct ivon_dataset_options *options)
{
    struct ivon_examples *examples = NULL;
    struct ivon_error error = {0};
    int code = ivon_dataset_open(&examples, path, options, &error);
    if (code)
        check_error(code, &error);
    for (size_t i = 0; !code && i < ivon_examples_field_count(examples); i++)
        read_field(examples, i);
    ivon_examples_close(examples);
    return code;
}

/* By each way to read examples; text has columns that can be chosen. */
static inline int try_ways(const char *path, bool is_text)
{
    static const double half = 0.5;
    static const char *const names[] = {"a", "b", "1"};
    static const struct ivon_dataset_options
        plain = {.size = sizeof plain,
                 .classes = names,
                 .class_count = 3,
                 .resources.memory = 4 << 20},
        columns = {.size = sizeof columns,
                   .target_column = "2",
                   .column_prefix = "p",
                   .mean = &half,
                   .std = &half,
                   .channel_count = 1,
                   .limit = 1000},
        named = {.size = sizeof named, .target_column = "1", .classes = names, .class_count = 3},
        windows = {.size = sizeof windows, .context = 3, .stride = 2, .resources.memory = 4 << 20};
    int code = try_options(path, &plain);
    if (is_text)
        code &= try_options(path, &columns) & try_options(path, &named);
    code &= try_options(path, &windows);
    return code ? -1 : 0;
}

/* As characters. */
static inline int try_text(const char *path)
{
    static const struct ivon_dataset_options text = {
        .size = sizeof text, .characters = true, .context = 2};
    return try_options(path, &text) ? -1 : 0;
}

#endif
