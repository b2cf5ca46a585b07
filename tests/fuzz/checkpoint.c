/* Opens bytes as a checkpoint and reads all of it: the path that every command takes. */
#include "tests/fuzz/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[4096];
    write_input(path, data, size);
    int code = read_checkpoint(path, &(struct ivon_open_options){.memory = 4 << 20});
    unlink(path);
    return code ? -1 : 0;
}
