/* Bytes as a table of text: JSON Lines or CSV. */
#include "tests/fuzz/columns.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    return is_hdf5(data, size) ? -1 : read_table(data, size);
}
