/*
 * Pictures from strangers. A child process (formats/io/sandbox.h) decodes them one by one, scales
 * them, and leaves them in memory that this side shares; what it says of their size is checked.
 */
#ifndef FORMATS_IMAGE_SAFE_H
#define FORMATS_IMAGE_SAFE_H

#include "formats/image/image.h"
#include "ivon/error.h"

struct image_reader;

/* A picture as channels x height x width bytes. */
struct image_planes {
    const unsigned char *data; /* valid until the next is read */
    size_t channels, height, width;
    bool colour; /* of the file, whatever the channels are */
};

/* Starts the process; `confine`: with seccomp. `fit` is copied, and checked already: its extents,
   and their product, are those of a picture, and none exceeds short_side where there is one. */
int image_reader_open(struct image_reader **reader, const struct image_fit *fit, bool confine,
                      struct ivon_error *error);
void image_reader_close(struct image_reader *reader);

/* Reads a file as 1 or 3 channels, or, with 0, as many as it has. Not for several threads at
   once. */
int image_reader_read(struct image_reader *reader, const char *path, size_t channels,
                      struct image_planes *planes, struct ivon_error *error);

#endif
