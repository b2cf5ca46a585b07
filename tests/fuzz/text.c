/* Texts, of which every character is a token. */
#include "tests/fuzz/dataset.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    return try_text(input_file(0, data, size));
}
