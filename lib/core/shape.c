#include "core/shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ivon/stream.h"

const char *shape_text(int rank, const int64_t *shape, char text[256])
{
    size_t length = 0;
    strcpy(text, rank < 0 ? "?" : "scalar");
    for (int i = 0; i < rank; i++) {
        const char *between = i ? "x" : "";
        length += (size_t)(shape[i] < 0 ? snprintf(text + length, 256 - length, "%s?", between)
                                        : snprintf(text + length, 256 - length, "%s%" PRId64,
                                                   between, shape[i]));
    }
    return text;
}

const char *ivon_tensor_shape_text(const struct ivon_tensor *tensor, char text[256])
{
    return shape_text(tensor->rank, tensor->shape, text);
}
