/*
 * An input as a file that is in memory alone. One file serves all inputs of a process: to make and
 * to remove one for each takes longer than to read most of them.
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { INPUT_FILES = 4, INPUT_PATH = 64 };

/* The name of file `index`, which holds the input and nothing else until the next call. */
static inline const char *input_file(size_t index, const uint8_t *data, size_t size)
{
    static char paths[INPUT_FILES][INPUT_PATH];
    static int files[INPUT_FILES];
    assert(index < INPUT_FILES);
    if (!files[index]) {
        files[index] = memfd_create("ivon-fuzz", MFD_CLOEXEC);
        assert(files[index] > 0);
        snprintf(paths[index], INPUT_PATH, "/proc/self/fd/%d", files[index]);
    }
    assert(pwrite(files[index], data, size, 0) == (ssize_t)size);
    assert(ftruncate(files[index], (off_t)size) == 0);
    return paths[index];
}

/* What a process of its own reads. Targets of formats that take microseconds leave it to others. */
static inline bool is_hdf5(const uint8_t *data, size_t size)
{
    return memmem(data, size, "\211HDF\r\n\032\n", 8) != NULL;
}

#endif
