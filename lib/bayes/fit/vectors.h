/*
 * Whitened vectors (whitened.h) that ranks hold together: each has some whole pieces of every
 * vector. Sums over vectors are those of pieces, in their order, and products that round are made
 * of one piece at a time, so that no bit depends on how many ranks there are.
 *
 *   vector   |---- piece 0 ----|---- piece 1 ----|---- piece 2 ----|-- 3 --|
 *   rank     |                 0                 |            1            |
 *
 * Rank 0 reads what all of them hold through a source, which asks the others for it, by blocks.
 */
#ifndef BAYES_FIT_VECTORS_H
#define BAYES_FIT_VECTORS_H

#include "bayes/fit/private.h"
#include "core/ranks.h"

enum { VECTORS_PIECE = 1 << 13 /* elements */ };

/* The pieces of a vector of `size` elements that this rank holds, and their elements: all of a
   process that is alone. */
struct ranks_range vectors_pieces(const struct ivon_ranks *ranks, size_t size);
struct ranks_range vectors_own(const struct ivon_ranks *ranks, size_t size);

/* The elements [at, at + count) that are among these; none: the range is empty. */
struct ranks_range vectors_within(struct ranks_range own, size_t at, size_t count);

static inline size_t vectors_count(struct ranks_range range)
{
    return range.end - range.first;
}

/* The end of the piece that a place is in, or of the range. */
static inline size_t vectors_piece_end(size_t place, size_t end)
{
    size_t next = (place / VECTORS_PIECE + 1) * VECTORS_PIECE;
    return next < end ? next : end;
}

/*
 * A tensor with a row of `count` elements for each vector. Element i of a row is that of the vector
 * at the place at + (i / inner) outer + (i % inner) step, where `inner` divides `count`.
 */
struct vectors_tensor {
    size_t index; /* of the tensor in rank 0's source */
    size_t count, at, inner, outer, step;
    const float *data; /* this rank's elements: of the first vector from place `first` on, */
    size_t first;
    size_t stride; /* and from one vector to the next */
};

/* Tensors of vectors of `size` elements, the same on all ranks but for their data, which stay. */
struct vectors_set {
    struct ivon_ranks *ranks;
    size_t size;
    const struct vectors_tensor *tensors;
    size_t count;
};

/*
 * Makes a source of `memory`, one over memory, which is taken over, in which these tensors have no
 * data of their own. All ranks call it; `code`, with its error, says whether rank 0 has `memory`.
 * Rank 0 gets the source, which its thread alone can read, and has to close; the others, with a
 * null `memory`, send it what they hold until it is closed, and then get a null source. Of a
 * process alone it is `memory`.
 */
int vectors_open(struct ivon_source **source, const struct vectors_set *set,
                 struct ivon_source *memory, int code, struct ivon_error *error);

#endif
