/* What the targets that open checkpoints have in common: an input as a file, all of it read. */
#ifndef TESTS_FUZZ_SOURCE_H
#define TESTS_FUZZ_SOURCE_H

#include <assert.h>
#include <string.h>

#include "bayes/structure.h"
#include "core/stream.h"
#include "ivon/ivon.h"
#include "tests/fuzz/input.h"

static volatile unsigned char kept; /* so that no read is optimised away */

static inline void check_error(int code, const struct ivon_error *error)
{
    bool bounded = code == IVON_ERROR_MEMORY && strstr(error->message, "exceed the memory of");
    assert(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT || bounded);
    assert(error->code == code && error->message[0] && !strchr(error->message, '\n'));
}

static inline void read_tensor(struct ivon_source *source, size_t index)
{
    enum { PIECE = 1000 };
    double buffer[PIECE];
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    size_t size = ivon_dtype_size(tensor->dtype), count;
    bool opaque = tensor->part == IVON_OPAQUE;
    assert(opaque == (tensor->stored_as != NULL) && (!opaque || tensor->dtype == IVON_U8));
    if (opaque)
        count = tensor->count;
    else
        assert(tensor_shape_count(tensor->rank, tensor->shape, size, &count) &&
               count == tensor->count);
    assert(tensor_name_valid(tensor->name));
    assert(ivon_source_find(source, tensor->part, tensor->name) == (ptrdiff_t)index);
    for (size_t first = 0; first < count; first += PIECE) {
        size_t piece = count - first < PIECE ? count - first : PIECE;
        const unsigned char *data = ivon_source_view(source, index, first);
        struct ivon_error error = {0};
        int code = data ? 0 : ivon_source_read(source, index, first, piece, buffer, &error);
        if (code) {
            check_error(code, &error);
            return;
        }
        for (size_t i = 0; i < piece * size; i++)
            kept = data ? data[i] : ((unsigned char *)buffer)[i];
    }
}

/* The structure of the covariance, which names other tensors. */
static inline void read_structure(struct ivon_source *source)
{
    struct structure *structure = NULL;
    struct ivon_error error = {0};
    int code = structure_read(&structure, source, &error);
    if (code) {
        check_error(code, &error);
        return;
    }
    for (size_t i = 0; i < structure->block_count; i++) {
        const struct structure_block *block = &structure->blocks[i];
        const struct ivon_tensor *weight = ivon_source_tensor(source, block->weight);
        assert(weight->part == IVON_MEAN && structure->block_of[block->weight] == (ptrdiff_t)i);
        assert(block->rows * (block->columns - (block->bias >= 0)) == weight->count);
    }
    for (size_t i = 0; i < structure->rank; i++)
        assert(structure->values[i] > -1);
    structure_free(structure);
}

/* Returns 0 when the file was accepted, and all of it was read. */
static inline int read_checkpoint(const char *path, const struct ivon_open_options *options)
{
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    int code = ivon_checkpoint_open(&source, path, options, &error);
    if (code)
        check_error(code, &error);
    for (size_t i = 0; !code && i < ivon_source_tensor_count(source); i++)
        read_tensor(source, i);
    if (!code)
        read_structure(source);
    ivon_source_close(source);
    return code;
}

#endif
