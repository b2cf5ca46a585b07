/*
 * PNG and JPEG pictures, as libpng and libjpeg decode them: eight bits a sample, grey or RGB. What
 * is said to be transparent is not; gamma, colour profiles and the orientation of Exif are left
 * alone. A file is a stranger's: formats/image/safe.h decodes it in a process of its own.
 */
#ifndef FORMATS_IMAGE_IMAGE_H
#define FORMATS_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

enum {
    IMAGE_PIXELS_MAX = 1 << 26,
    IMAGE_SIDE_MAX = 65535,
    IMAGE_REASON_SIZE = 256, /* bytes of what is wrong with a file */
};

/* Pixels row by row, of `channels` bytes each: 1 (grey) or 3 (red, green, blue). */
struct image {
    unsigned char *pixels; /* owned */
    size_t height, width, channels;
};

/* How pictures come to one size. */
struct image_fit {
    size_t height, width; /* of the result; 0: a picture keeps its size */
    /* Scale the shorter side to so many pixels, and cut the result out of the middle; 0: scale each
       side to that of the result. */
    size_t short_side;
};

/* Decodes a whole file into `image`, which is empty; false, with what is wrong with the file in
   words that follow its name, where it cannot be. The image is to be released in any case. */
bool image_decode(struct image *image, const unsigned char *data, size_t size,
                  char reason[IMAGE_REASON_SIZE]);
void image_release(struct image *image);

/* Makes an RGB image grey, by the luma of ITU-R BT.601, as PIL does; a grey one stays as it is. */
void image_make_grey(struct image *image);

/* Copies the pixels so that each channel is one block, the grey one as often as there are
   `channels`. */
void image_copy_planes(unsigned char *out, const struct image *image, size_t channels);

/* The formats, for image_decode. Each allocates the pixels by image_allocate. */
bool image_decode_png(struct image *image, const unsigned char *data, size_t size,
                      char reason[IMAGE_REASON_SIZE]);
bool image_decode_jpeg(struct image *image, const unsigned char *data, size_t size,
                       char reason[IMAGE_REASON_SIZE]);

/* Makes room for a picture; false, with the reason, where it has too many pixels or none. */
bool image_allocate(struct image *image, size_t height, size_t width, size_t channels,
                    char reason[IMAGE_REASON_SIZE]);

#endif
