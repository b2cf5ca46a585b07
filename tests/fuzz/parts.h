/* Several files in one input: each is its size, of four bytes, and its bytes. A size that is too
   large takes what is left. */
#ifndef TESTS_FUZZ_PARTS_H
#define TESTS_FUZZ_PARTS_H

#include <stddef.h>
#include <stdint.h>

struct part {
    const uint8_t *data;
    size_t size;
};

/* Parts that are not there are empty; the last takes what is left. */
static inline void split_parts(struct part *parts, size_t count, const uint8_t *data, size_t size)
{
    enum { WIDTH = 4 };
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        for (size_t k = 0; k < WIDTH && size >= WIDTH; k++)
            length |= (size_t)data[k] << (8 * k);
        data += size >= WIDTH ? WIDTH : size;
        size -= size >= WIDTH ? WIDTH : size;
        length = length < size && i + 1 < count ? length : size;
        parts[i] = (struct part){data, length};
        data += length;
        size -= length;
    }
}

#endif
