/* Inputs in one file and targets in another: INPUTS,TARGETS. */
#include "tests/fuzz/dataset.h"
#include "tests/fuzz/parts.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    char path[2 * INPUT_PATH];
    struct part parts[PARTS];
    if (is_hdf5(data, size))
        return -1;
    split_parts(parts, PARTS, data, size);
    const char *inputs = input_file(0, parts[0].data, parts[0].size);
    const char *targets = input_file(1, parts[1].data, parts[1].size);
    snprintf(path, sizeof path, "%s,%s", inputs, targets);
    return try_ways(path, false);
}
