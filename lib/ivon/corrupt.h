/*
 * Corruptions of images: data as they might come in use, to learn how a network's predictions, and
 * what it says of their uncertainty, hold out (Hendrycks & Dietterich, ICLR 2019,
 * arXiv:1903.12261; Ovadia et al., NeurIPS 2019, arXiv:1906.02530). A level from 1 to 5 says how
 * strong one is.
 *
 * Inputs are often normalised, so that a pixel x is scaled by the least and the greatest number of
 * its channel, l and h: u = (x − l)/(h − l). A corruption makes u' of it, and the pixel becomes
 * l + (h − l) min(max(u', 0), 1). Where l = h nothing changes. With the constants c of the levels,
 * of an image of H × W pixels:
 *
 *   noise       u' = u + c n, n standard normal       c = 0.08, 0.12, 0.18, 0.26, 0.38
 *   impulse     u' = 0 for a share c/2 of the numbers, 1 for another, chosen at random
 *                                                     c = 0.03, 0.06, 0.09, 0.17, 0.27
 *   blur        u' = a Gaussian kernel's mean of u: weights exp(−d²/(2 s²)) along each axis for
 *               |d| ≤ ⌊4 s + ½⌋, s = c max(1, min(H, W)/32), and beyond the edge the edge's pixel
 *                                                     c = 0.4, 0.6, 0.7, 0.8, 1
 *   pixelate    u' = the mean of u over the cell of a grid of ⌊c H + ½⌋ × ⌊c W + ½⌋ equal cells, at
 *               least one, that the pixel's centre is in, parts of pixels counted by their area
 *                                                     c = 0.75, 0.6, 0.5, 0.4, 0.3
 *   contrast    u' = m + c (u − m), m the mean of u over the image's channel
 *                                                     c = 0.75, 0.5, 0.4, 0.3, 0.15
 *   brightness  u' = u + c                            c = 0.1, 0.2, 0.3, 0.4, 0.5
 *
 * Random numbers have addresses: a function of seed, the example's number and the element alone.
 * A level has the numbers of the others, so that levels differ by their strength only.
 */
#ifndef IVON_CORRUPT_H
#define IVON_CORRUPT_H

#include "ivon/examples.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_corruption {
    IVON_CORRUPT_NOISE,
    IVON_CORRUPT_IMPULSE,
    IVON_CORRUPT_BLUR,
    IVON_CORRUPT_PIXELATE,
    IVON_CORRUPT_CONTRAST,
    IVON_CORRUPT_BRIGHTNESS
};

enum { IVON_CORRUPTION_LEVELS = 5 };

/* "noise"; null: there is no such corruption. They are numbered from 0 on without gaps. */
IVON_API const char *ivon_corruption_name(enum ivon_corruption corruption);

/* The least and the greatest number of a channel. */
struct ivon_pixel_range {
    double low, high;
};

/* Sets ranges[c] for each of the channels of a field, as ivon_examples_read_f32 gives it: a pass
   over all examples, of which there has to be one. Fails with IVON_ERROR_ARGUMENT where an
   example's elements are no multiple of their number. */
IVON_API int ivon_pixel_ranges(struct ivon_examples *examples, size_t field, int64_t channels,
                               struct ivon_pixel_range *ranges, struct ivon_error *error);

struct ivon_corrupt_options {
    size_t size; /* sizeof this struct: set by ivon_corrupt_defaults() */
    enum ivon_corruption corruption;
    int level;                             /* from 1 to 5 */
    size_t field;                          /* of the examples: the images */
    int64_t channels, height, width;       /* of one, in this order, of row-major numbers */
    const struct ivon_pixel_range *ranges; /* of each channel; copied */
    uint64_t seed;
};

/* Only the size is set: noise of no level. */
IVON_API void ivon_corrupt_options_init(struct ivon_corrupt_options *options, size_t size);
static inline struct ivon_corrupt_options ivon_corrupt_defaults(void)
{
    struct ivon_corrupt_options options;
    ivon_corrupt_options_init(&options, sizeof options);
    return options;
}

/*
 * The same examples, whose images are corrupted when they are read; they are floats then. The set
 * that they are of must outlive them. Fails with IVON_ERROR_ARGUMENT where there is no such
 * corruption or level, or where an example of the field does not have such an image's number of
 * elements.
 */
IVON_API int ivon_examples_corrupt(struct ivon_examples **corrupted, struct ivon_examples *all,
                                   const struct ivon_corrupt_options *options,
                                   struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
