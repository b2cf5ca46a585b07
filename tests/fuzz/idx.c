/* Arrays in files of their own as data sets: npy, IDX, and either behind gzip. */
#include "tests/fuzz/dataset.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    return is_hdf5(data, size) ? -1 : try_ways(input_file(0, data, size), false);
}
