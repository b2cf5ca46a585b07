/*
 * Common work of ranks (ivon/ranks.h), beside agreements. All ranks call each function, in the same
 * order; each begins with an agreement, and fails on all of them where one has failed. What it then
 * sends is not agreed on again: a rank that cannot take what it is sent says so by its next call.
 *
 * With null ranks a function does what it does for the only rank.
 */
#ifndef CORE_RANKS_H
#define CORE_RANKS_H

#include "ivon/ranks.h"

/* Lanes, blocks or tensors of `count`, of which this rank takes those of [first, end): ranges of
   rising ranks follow one another, and their sizes differ by at most one. */
struct ranks_range {
    size_t first, end;
};
struct ranks_range ranks_range(const struct ivon_ranks *ranks, size_t count);

/* The rank that takes the one of that index. */
int ranks_owner(const struct ivon_ranks *ranks, size_t count, size_t index);

/* Waits for all. */
int ranks_barrier(struct ivon_ranks *ranks, struct ivon_error *error);

/* Copies `size` bytes of rank `root` to all. */
int ranks_broadcast(struct ivon_ranks *ranks, int root, void *data, size_t size,
                    struct ivon_error *error);

/* Sets all[r] to the `size` bytes of rank r, on all ranks: for a few numbers of each. */
int ranks_exchange(struct ivon_ranks *ranks, const void *data, size_t size, void *all,
                   struct ivon_error *error);

/* The bytes of all ranks, of any sizes, one behind another: sizes[r] of rank r. */
struct ranks_bytes {
    unsigned char *data; /* freed by ranks_bytes_release */
    size_t *sizes;       /* of each rank */
    size_t size;         /* of all */
};
void ranks_bytes_release(struct ranks_bytes *bytes);

/* Gathers them on rank 0 alone, others get nothing, or on all. */
int ranks_gather(struct ivon_ranks *ranks, const void *data, size_t size, struct ranks_bytes *all,
                 struct ivon_error *error);
int ranks_gather_all(struct ivon_ranks *ranks, const void *data, size_t size,
                     struct ranks_bytes *all, struct ivon_error *error);

/* Completes an array on all ranks, of which each has `size` bytes in their place: those of rank 0
   are first, then those of rank 1 and so on. */
int ranks_complete(struct ivon_ranks *ranks, void *array, size_t size, struct ivon_error *error);

/*
 * Sets sum[i], of `count` numbers, on all ranks to
 *
 *   (((sum[i] + lane_0[i]) + lane_1[i]) + …) + lane_last[i]
 *
 * where sum[i] is that of rank 0, and lanes are those of rank 0, then those of rank 1 and so on:
 * the same bits however many ranks hold them, if ranges of lanes are ranks_range's. Every rank
 * receives and sends `count` numbers, in a pipeline from rank to rank, and gets the sum.
 */
int ranks_sum_doubles(struct ivon_ranks *ranks, double *sum, const double *const *lanes,
                      size_t lane_count, size_t count, struct ivon_error *error);
int ranks_sum_floats(struct ivon_ranks *ranks, float *sum, const float *const *lanes,
                     size_t lane_count, size_t count, struct ivon_error *error);
/* Of floats, in a sum of doubles. */
int ranks_sum_wide(struct ivon_ranks *ranks, double *sum, const float *const *lanes,
                   size_t lane_count, size_t count, struct ivon_error *error);

/*
 * Single messages between two ranks, which wait for one another, without an agreement: for use
 * behind one, by ranks that all know who sends how many bytes to whom. Nothing for null ranks.
 */
void ranks_send(struct ivon_ranks *ranks, int to, const void *data, size_t size);
void ranks_receive(struct ivon_ranks *ranks, int from, void *data, size_t size);

/*
 * One round of a map whose blocks of work are handed to ranks by their numbers: in round n rank r
 * of R has computed block n R + r, and rank 0 takes them in rising order, its own first, and then
 * that of each other in the place of its own. Where the last round has fewer blocks, the first
 * ranks have them.
 */
struct ranks_piece {
    void *data; /* of a block's results */
    size_t size;
};
struct ranks_round {
    int present; /* ranks 0 to present − 1 have a block */
    /* Sets up to `limit` pieces for the block of that rank, and returns how many they are: called
       by the rank, and by rank 0, for the same sizes. */
    size_t (*describe)(void *context, int rank, struct ranks_piece *pieces, size_t limit);
    /* On rank 0, when its pieces hold the block of that rank. */
    int (*take)(void *context, int rank, struct ivon_error *error);
    void *context;
};

/* `code` is that of this rank's computation. A failure of `take` is rank 0's alone until the next
   agreement. */
int ranks_round_take(struct ivon_ranks *ranks, const struct ranks_round *round, int code,
                     struct ivon_error *error);

#endif
