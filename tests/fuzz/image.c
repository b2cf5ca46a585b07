/* Pictures, as the process that decodes them meets them: decoded, made grey, and brought to one
   size. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "formats/image/resample.h"
#include "tests/fuzz/fuzz.h"

enum { PIXELS = 1 << 20 /* what takes longer to make than to break */ };

static volatile unsigned char kept; /* so that no read is optimised away */

static void try_fit(const uint8_t *data, size_t size, const struct image_fit *fit, size_t channels)
{
    char reason[IMAGE_REASON_SIZE];
    struct image image = {0};
    if (image_decode(&image, data, size, reason)) {
        if (channels == 1)
            image_make_grey(&image);
        size_t out = channels *
                     (fit->height ? fit->height * fit->width : image.height * image.width);
        unsigned char *planes = malloc(out);
        assert(planes && image_resample(&image, fit));
        image_copy_planes(planes, &image, channels);
        for (size_t i = 0; i < out; i++)
            kept = planes[i];
        free(planes);
    }
    image_release(&image);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    static const struct image_fit fits[] = {{0}, {7, 5, 0}, {3, 4, 6}};
    char reason[IMAGE_REASON_SIZE] = "";
    struct image image = {0};
    bool fine = image_decode(&image, data, size, reason);
    bool small = fine && image.height * image.width <= PIXELS;
    assert(fine || (*reason && memchr(reason, '\0', sizeof reason) && !strchr(reason, '\n')));
    assert(!fine || image.channels == 1 || image.channels == 3);
    image_release(&image);
    for (size_t i = 0; i < 3 && small; i++)
        try_fit(data, size, &fits[i], i % 2 ? 1 : 3);
    return fine ? 0 : -1;
}
