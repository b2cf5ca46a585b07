/* Opens bytes as a checkpoint and reads all of it: the path that every command takes, whatever the
   format. Each format has a target of its own, with files of its own to begin with. */
#ifndef TESTS_FUZZ_OPEN_H
#define TESTS_FUZZ_OPEN_H

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/stream.h"
#include "ivon/ivon.h"
#include "tests/fuzz/fuzz.h"

static volatile unsigned char kept; /* so that no read is optimised away */

static void check_error(int code, const struct ivon_error *error)
{
    assert(code == IVON_ERROR_DATA || code == IVON_ERROR_INPUT);
    assert(error->code == code && error->message[0] && !strchr(error->message, '\n'));
}

static void read_tensor(struct ivon_source *source, size_t index)
{
    enum { PIECE = 1000 };
    double buffer[PIECE];
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    size_t size = ivon_dtype_size(tensor->dtype), count;
    assert(tensor_shape_count(tensor->rank, tensor->shape, size, &count) && count == tensor->count);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[4096];
    const char *directory = getenv("TMPDIR");
    struct ivon_source *source = NULL;
    struct ivon_error error = {0};
    snprintf(path, sizeof path, "%s/ivon-fuzz-XXXXXX", directory ? directory : "/dev/shm");
    int file = mkstemp(path);
    assert(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
    const struct ivon_open_options options = {.memory = 4 << 20};
    int code = ivon_checkpoint_open(&source, path, &options, &error);
    if (code)
        check_error(code, &error);
    for (size_t i = 0; !code && i < ivon_source_tensor_count(source); i++)
        read_tensor(source, i);
    ivon_source_close(source);
    unlink(path);
    return code ? -1 : 0;
}

#endif
