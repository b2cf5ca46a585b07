/* Checkpoints for tests: tensors of random bytes, written, read back and compared. */
#ifndef TESTS_UNIT_CHECKPOINTS_H
#define TESTS_UNIT_CHECKPOINTS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ivon/checkpoint.h"

enum { TENSORS_MAX = 64 };

static inline uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Tensors and their bytes. */
struct checkpoint {
    struct ivon_header header;
    struct ivon_tensor tensors[TENSORS_MAX];
    unsigned char *data[TENSORS_MAX];
    size_t count;
    uint64_t seed;
    size_t alignment; /* that files promise; 0: that of the element */
    const struct ivon_create_options *options;
};

static inline struct ivon_tensor *add_tensor(struct checkpoint *checkpoint, enum ivon_part part,
                                             const char *name, enum ivon_dtype dtype, int rank,
                                             const int64_t *shape)
{
    assert_true(checkpoint->count < TENSORS_MAX);
    struct ivon_tensor *tensor = &checkpoint->tensors[checkpoint->count];
    *tensor = (struct ivon_tensor){.name = name,
                                   .part = part,
                                   .dtype = dtype,
                                   .rank = rank,
                                   .count = 1,
                                   .ess = NAN,
                                   .weight_decay = NAN};
    for (int i = 0; i < rank; i++) {
        tensor->shape[i] = shape[i];
        tensor->count *= (size_t)shape[i];
    }
    if (part == IVON_HESSIAN) {
        tensor->ess = checkpoint->header.ess;
        tensor->weight_decay = checkpoint->header.weight_decay;
    }
    size_t size = tensor->count * ivon_dtype_size(dtype);
    unsigned char *bytes = malloc(size + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(dtype == IVON_BOOL ? random_bits(&checkpoint->seed) & 1
                                                      : random_bits(&checkpoint->seed));
    checkpoint->data[checkpoint->count++] = bytes;
    return tensor;
}

static inline void release_checkpoint(struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->count; i++)
        free(checkpoint->data[i]);
}

/* Writes the file in pieces of `piece` elements, the last ones first. */
static inline void write_checkpoint(const struct checkpoint *checkpoint, const char *path,
                                    size_t piece)
{
    struct ivon_sink *sink = NULL;
    struct ivon_error error = {0};
    if (ivon_checkpoint_create(&sink, path, &checkpoint->header, checkpoint->tensors,
                               checkpoint->count, checkpoint->options, &error))
        fail_msg("%s", error.message);
    for (size_t i = checkpoint->count; i-- > 0;) {
        size_t count = checkpoint->tensors[i].count;
        size_t size = ivon_dtype_size(checkpoint->tensors[i].dtype);
        for (size_t pieces = (count + piece - 1) / piece; pieces-- > 0;) {
            size_t first = pieces * piece, length = count - first < piece ? count - first : piece;
            if (ivon_sink_write(sink, i, first, length, checkpoint->data[i] + first * size, &error))
                fail_msg("%s", error.message);
        }
    }
    assert_int_equal(access(path, F_OK), -1);
    if (ivon_sink_commit(sink, &error))
        fail_msg("%s", error.message);
    ivon_sink_close(sink);
}

static inline struct ivon_source *open_checkpoint(const char *path)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    if (ivon_checkpoint_open(&source, path, NULL, &error))
        fail_msg("%s", error.message);
    return source;
}

static inline unsigned char *load_file(const char *path, size_t *size)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    *size = (size_t)status.st_size;
    unsigned char *bytes = malloc(*size);
    FILE *file = fopen(path, "rb");
    assert_true(bytes && file);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static inline void assert_number(double found, double expected)
{
    assert_true(isnan(expected) ? isnan(found) : found == expected);
}

static inline void assert_text(const char *found, const char *expected)
{
    if (expected)
        assert_string_equal(found, expected);
    else
        assert_null(found);
}

static inline void check_tensor(struct ivon_source *source, size_t i,
                                const struct ivon_tensor *expected, const unsigned char *data,
                                size_t alignment)
{
    struct ivon_error error;
    const struct ivon_tensor *found = ivon_source_tensor(source, i);
    size_t size = ivon_dtype_size(expected->dtype), count = expected->count;
    assert_string_equal(found->name, expected->name);
    assert_int_equal(found->part, expected->part);
    assert_int_equal(found->dtype, expected->dtype);
    assert_int_equal(found->rank, expected->rank);
    assert_memory_equal(found->shape, expected->shape, sizeof found->shape);
    assert_int_equal(found->count, count);
    assert_number(found->ess, expected->ess);
    assert_number(found->weight_decay, expected->weight_decay);
    assert_int_equal(ivon_source_find(source, expected->part, expected->name), i);
    unsigned char *buffer = malloc(count * size + 1);
    assert_non_null(buffer);
    assert_int_equal(ivon_source_read(source, i, 0, count, buffer, &error), 0);
    assert_memory_equal(buffer, data, count * size);
    if (count > 2) {
        assert_int_equal(ivon_source_read(source, i, 1, count - 2, buffer, &error), 0);
        assert_memory_equal(buffer, data + size, (count - 2) * size);
    }
    free(buffer);
    const unsigned char *view = ivon_source_view(source, i, 0);
    if (count) {
        assert_non_null(view);
        /* A mapping starts at a page, so this is also the alignment within the file. */
        assert_int_equal((uintptr_t)view % (alignment ? alignment : size), 0);
        assert_memory_equal(view, data, count * size);
        assert_ptr_equal(ivon_source_view(source, i, count - 1), view + (count - 1) * size);
    }
    ivon_source_will_need(source, i, 0, count);
    ivon_source_done_with(source, i, 0, count);
}

static inline void check_checkpoint(const struct checkpoint *checkpoint, const char *path)
{
    struct ivon_source *source = open_checkpoint(path);
    const struct ivon_header *header = ivon_source_header(source);
    assert_string_equal(ivon_source_path(source), path);
    assert_number(header->ess, checkpoint->header.ess);
    assert_number(header->weight_decay, checkpoint->header.weight_decay);
    assert_int_equal(header->step, checkpoint->header.step);
    assert_int_equal(header->n_train, checkpoint->header.n_train);
    assert_number(header->decrement, checkpoint->header.decrement);
    assert_text(header->creator, checkpoint->header.creator);
    assert_text(header->provenance, checkpoint->header.provenance);
    assert_int_equal(ivon_source_tensor_count(source), checkpoint->count);
    for (size_t i = 0; i < checkpoint->count; i++) {
        const struct ivon_tensor *tensor = &checkpoint->tensors[i];
        ptrdiff_t at = ivon_source_find(source, tensor->part, tensor->name);
        assert_true(at >= 0);
        check_tensor(source, (size_t)at, tensor, checkpoint->data[i], checkpoint->alignment);
    }
    ivon_source_close(source);
}

static inline struct ivon_header full_header(void)
{
    return (struct ivon_header){.ess = 1e6,
                                .weight_decay = 1.25e-4,
                                .step = INT64_C(1) << 40,
                                .n_train = 60000,
                                .decrement = 0.1875,
                                .creator = "test \xc3\xa9",
                                .provenance = "{\"command\": \"\\u001b\"}"};
}

/* Every dtype where it may stand, scalars, empty tensors, all ranks, names of all kinds. */
static inline void fill_checkpoint(struct checkpoint *checkpoint)
{
    static const char *const names[IVON_DTYPE_COUNT] = {
        "d.f64", "d.f32", "d.f16", "d.bf16", "d.i64", "d.i32", "d.i16",
        "d.i8",  "d.u64", "d.u32", "d.u16",  "d.u8",  "d.bool"};
    static const int64_t shape[IVON_RANK_MAX] = {3, 1, 2, 1, 5, 1, 1, 2};
    for (enum ivon_dtype dtype = 0; dtype < IVON_DTYPE_COUNT; dtype++)
        add_tensor(checkpoint, IVON_BUFFER, names[dtype], dtype, 2, (const int64_t[]){7, 3});
    for (enum ivon_dtype dtype = IVON_F64; dtype <= IVON_BF16; dtype++) {
        add_tensor(checkpoint, IVON_MEAN, names[dtype], dtype, 1, (const int64_t[]){129});
        add_tensor(checkpoint, IVON_HESSIAN, names[dtype], dtype, 1, (const int64_t[]){129});
    }
    add_tensor(checkpoint, IVON_MOMENTUM, "d.f32", IVON_F32, 1, (const int64_t[]){129});
    add_tensor(checkpoint, IVON_MEAN, "scalar", IVON_F32, 0, NULL);
    add_tensor(checkpoint, IVON_BUFFER, "scalar", IVON_I64, 0, NULL);
    add_tensor(checkpoint, IVON_MEAN, "empty", IVON_F32, 1, (const int64_t[]){0});
    add_tensor(checkpoint, IVON_HESSIAN, "empty", IVON_F32, 1, (const int64_t[]){0});
    add_tensor(checkpoint, IVON_MEAN, "empty too", IVON_BF16, 3, (const int64_t[]){4, 0, 5});
    add_tensor(checkpoint, IVON_MEAN, "deep/down/there.weight", IVON_F32, 2,
               (const int64_t[]){9, 31});
    add_tensor(checkpoint, IVON_MEAN, "deep/down/bias", IVON_F32, 1, (const int64_t[]){9});
    add_tensor(checkpoint, IVON_MEAN, "deep/up", IVON_F16, 1, (const int64_t[]){1});
    add_tensor(checkpoint, IVON_MEAN, "\xce\xb8 'quoted' [0]", IVON_F32, 1, (const int64_t[]){2});
    add_tensor(checkpoint, IVON_MEAN, "large", IVON_F32, 2, (const int64_t[]){301, 199});
    for (int rank = 1; rank <= IVON_RANK_MAX; rank++) {
        static const char *const ranks[] = {"r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"};
        add_tensor(checkpoint, IVON_MEAN, ranks[rank - 1], IVON_F32, rank, shape);
    }
    add_tensor(checkpoint, IVON_GRAPH, "model.onnx", IVON_U8, 1, (const int64_t[]){1001});
}

#endif
