/* Weights in one file and their Hessian in another, as --hessian=FILE joins them. */
#include "tests/fuzz/parts.h"
#include "tests/fuzz/source.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    struct part parts[PARTS];
    if (is_hdf5(data, size))
        return -1;
    split_parts(parts, PARTS, data, size);
    const struct ivon_open_options options = {
        .size = sizeof options,
        .resources.memory = 4 << 20,
        .for_several = true,
        .hessian = input_file(1, parts[1].data, parts[1].size)};
    return read_checkpoint(input_file(0, parts[0].data, parts[0].size), &options) ? -1 : 0;
}
