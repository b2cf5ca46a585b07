#include <stdio.h>
#include <string.h>

#include "formats/image/image.h"

bool image_decode(struct image *image, const unsigned char *data, size_t size,
                  char reason[IMAGE_REASON_SIZE])
{
    static const unsigned char png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const unsigned char jpeg[] = {0xff, 0xd8, 0xff};
    *image = (struct image){0};
    if (size >= sizeof png && memcmp(data, png, sizeof png) == 0)
        return image_decode_png(image, data, size, reason);
    if (size >= sizeof jpeg && memcmp(data, jpeg, sizeof jpeg) == 0)
        return image_decode_jpeg(image, data, size, reason);
    snprintf(reason, IMAGE_REASON_SIZE, size ? "is neither PNG nor JPEG" : "is empty");
    return false;
}
