/* Bytes as a data set of any format, by each way to read one. */
#include "tests/fuzz/dataset.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    return try_ways(input_file(0, data, size), !memchr(data, 0, size));
}
