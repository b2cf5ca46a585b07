/* A target that opens bytes as a checkpoint and reads all of it: the path that every command takes,
   whatever the format. Each format has a target of its own, with files of its own to begin with. */
#ifndef TESTS_FUZZ_OPEN_H
#define TESTS_FUZZ_OPEN_H

#include "tests/fuzz/source.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    const struct ivon_open_options options = {.size = sizeof options, .resources.memory = 4 << 20};
    return read_checkpoint(input_file(0, data, size), &options) ? -1 : 0;
}

#endif
