/* A target that opens bytes as a checkpoint and reads all of it: the path that every command takes,
   whatever the format. Each format has a target of its own, with files of its own to begin with. */
#ifndef TESTS_FUZZ_OPEN_H
#define TESTS_FUZZ_OPEN_H

#include "tests/fuzz/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[4096];
    write_input(path, data, size);
    int code = read_checkpoint(path, &(struct ivon_open_options){.memory = 4 << 20});
    unlink(path);
    return code ? -1 : 0;
}

#endif
