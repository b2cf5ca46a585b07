/* Bytes as a data set of any format, by each way to read one. */
#include "tests/fuzz/dataset.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    const char *path = input_file(0, data, size);
    int examples = try_ways(path, !memchr(data, 0, size)), text = try_text(path);
    return examples && text ? -1 : 0;
}
