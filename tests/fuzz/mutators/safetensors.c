/* safetensors: the header as JSON, behind its right length, or what follows it; and indices, which
   are JSON alone. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/mutators/mutators.h"

bool mutate_structure(struct buffer *out, const uint8_t *data, size_t size)
{
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && size >= 8; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (size && *data == '{')
        return mutate_json(out, data, size);
    if (size < 8 || length > size - 8)
        return false;
    const uint8_t *header = data + 8, *after = header + length;
    size_t rest = size - 8 - (size_t)length;
    struct buffer text = new_buffer(out->room);
    bool of_data = once_in(8);
    if (of_data)
        put(&text, header, (size_t)length);
    else
        mutate_json(&text, header, (size_t)length);
    put_number(out, once_in(32) ? other_number(text.size) : text.size, 8);
    put(out, text.data, text.size);
    if (of_data)
        put_mutated(out, after, rest);
    else
        put(out, after, rest);
    out->overflows |= text.overflows;
    free(text.data);
    return true;
}
