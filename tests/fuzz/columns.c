/* Bytes as a table of any format. */
#include "tests/fuzz/columns.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    return read_table(data, size);
}
