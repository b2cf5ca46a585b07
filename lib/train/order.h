/*
 * In which order, and how changed, the examples of an epoch are seen: by address (core/random.h),
 * so that an epoch can be resumed anywhere and is the same for every thread count and batch size.
 */
#ifndef TRAIN_ORDER_H
#define TRAIN_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/train.h"

/*
 * Fills order[count] with a random permutation of 0 … count − 1, count below 2^32: four bytes for
 * each example are all the memory there is. Fisher & Yates's shuffle (Knuth's Algorithm P), from
 * the last position down; position i swaps with ⌊word (i + 1) / 2^64⌋, word by word of the stream
 * (seed, epoch, "/order"), a name that no tensor has. The division's bias is below 2^-32.
 */
void order_shuffle(uint32_t *order, size_t count, uint64_t seed, uint64_t epoch);

/* The augmentation of an epoch's images. */
struct augmentation {
    int64_t crop;   /* pad each side by so many pixels, then cut the image's size out; 0: don't */
    bool reflect;   /* they are those within, reflected at the outer ones; else zeros */
    bool flip;      /* left and right are swapped in half of the images */
    int64_t cutout; /* zero a square of so many pixels a side, at last; 0: don't */
};

/* Parses a text as ivon_augmentation_parse says. */
int augmentation_parse(struct augmentation *augmentation, const char *text,
                       struct ivon_error *error);

/* The augmentation that options ask for: bits of ivon_augmentation, and their numbers. */
int augmentation_make(struct augmentation *augmentation, unsigned bits, unsigned crop,
                      unsigned cutout, struct ivon_error *error);

/*
 * One image of shape channels × height × width from `image` to `out`, which do not overlap. All
 * channels move together. Word 0 of block `example` of the stream (seed, epoch, "/augmentation")
 * gives the cut's row, word 1 its column, of 2 crop + 1 each; word 2 whether it is flipped; the
 * high half of word 3 the row r of cutout's pixel, and its low half the column: `cutout` rows from
 * r − ⌊cutout/2⌋ on have zeros.
 */
void augmentation_apply(const struct augmentation *augmentation, uint64_t seed, uint64_t epoch,
                        uint64_t example, int64_t channels, int64_t height, int64_t width,
                        const float *image, float *out);

#endif
