#include "formats/image/image.h"

#include <stdio.h>
#include <stdlib.h>

bool image_allocate(struct image *image, size_t height, size_t width, size_t channels,
                    char reason[IMAGE_REASON_SIZE])
{
    if (!height || !width || height > IMAGE_SIDE_MAX || width > IMAGE_SIDE_MAX ||
        height * width > IMAGE_PIXELS_MAX) {
        snprintf(reason, IMAGE_REASON_SIZE, "has %zu x %zu pixels, expected at most %d", width,
                 height, IMAGE_PIXELS_MAX);
        return false;
    }
    *image = (struct image){malloc(height * width * channels), height, width, channels};
    if (!image->pixels)
        snprintf(reason, IMAGE_REASON_SIZE, "memory is exhausted by %zu x %zu pixels", width,
                 height);
    return image->pixels;
}

void image_release(struct image *image)
{
    free(image->pixels);
    *image = (struct image){0};
}

/* (19595 r + 38470 g + 7471 b + 2^15) / 2^16, the weights being .299, .587 and .114 of 2^16. */
void image_make_grey(struct image *image)
{
    const unsigned char *from = image->pixels;
    if (image->channels == 1)
        return;
    for (size_t i = 0; i < image->height * image->width; i++, from += 3) {
        unsigned luma = 19595U * from[0] + 38470U * from[1] + 7471U * from[2] + 32768U;
        image->pixels[i] = (unsigned char)(luma >> 16);
    }
    image->channels = 1;
}

void image_copy_planes(unsigned char *out, const struct image *image, size_t channels)
{
    size_t count = image->height * image->width, step = image->channels;
    for (size_t c = 0; c < channels; c++, out += count) {
        const unsigned char *from = image->pixels + (step == 1 ? 0 : c);
        for (size_t i = 0; i < count; i++)
            out[i] = from[i * step];
    }
}
