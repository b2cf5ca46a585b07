/* Tables of text: JSON Lines, and CSV, whose cells and commas are tokens, too. */
#include "tests/fuzz/mutators/mutators.h"

bool mutate_structure(struct buffer *out, const uint8_t *data, size_t size)
{
    return mutate_json(out, data, size);
}
