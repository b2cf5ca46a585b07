/* Pictures of one size, as torchvision's Resize and CenterCrop make them of PIL's pictures. */
#ifndef FORMATS_IMAGE_RESAMPLE_H
#define FORMATS_IMAGE_RESAMPLE_H

#include "formats/image/image.h"

/*
 * Scales and cuts a picture as `fit` says. The filter is a triangle, as wide as a pixel of the
 * coarser of the two grids: along rows first, then along columns, each time rounded to a byte. The
 * result is PIL's to the bit. A picture must not be smaller than what is cut out of it: short_side
 * is at least height and width. False where memory is exhausted.
 */
bool image_resample(struct image *image, const struct image_fit *fit);

#endif
