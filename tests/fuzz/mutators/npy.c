/* npy: the header's text, behind its right length, or the elements. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/mutators/mutators.h"

bool mutate_npy(struct buffer *out, const uint8_t *data, size_t size)
{
    enum { MAGIC = 8 };
    size_t width = size > MAGIC && data[6] == 1 ? 2 : 4, length = 0;
    if (size < MAGIC + width || memcmp(data, "\x93NUMPY", 6) != 0)
        return false;
    const uint8_t *text = data + MAGIC + width;
    for (size_t i = 0; i < width; i++)
        length |= (size_t)data[MAGIC + i] << (8 * i);
    size_t left = size - MAGIC - width;
    length = length < left ? length : left;
    struct buffer header = new_buffer(2 * length + 64);
    bool of_data = once_in(4);
    if (of_data)
        put(&header, text, length);
    else
        mutate_json(&header, text, length);
    put(out, data, MAGIC);
    put_number(out, header.size, width);
    put(out, header.data, header.size);
    if (of_data)
        put_mutated(out, text + length, left - length);
    else
        put(out, text + length, left - length);
    free(header.data);
    return true;
}
