/*
 * Attention: for every head of every example the rows of y = P v with P = softmax(s + masks),
 * s = c tanh(scale q kᵀ / c), or scale q kᵀ without a cap c. No tensor of scores is made: they are
 * computed for a tile of queries at a time, which stays in the cache, and again by the derivatives.
 *
 *              keys                        one head: rows of q against rows of k;
 *           +---------+                    of a query only the keys in its range count
 *   queries |  tile   |  × v (keys × value_size)
 *           +---------+
 *           |  …      |
 */
#ifndef NET_OPS_ATTENTION_ATTENTION_H
#define NET_OPS_ATTENTION_ATTENTION_H

#include "net/graph/operator.h"

/* The places of an operand's matrices: there is one for each index of the head axes. */
struct attention_operand {
    size_t start;                /* elements before the first matrix */
    size_t steps[IVON_RANK_MAX]; /* elements from one index of a head axis to the next */
    int64_t row;                 /* elements from one row to the next */
};

/* Adds to the scores: a float mask its elements, a boolean or integer one `below` where it is 0. */
struct attention_mask {
    enum net_type type;
    float below; /* -INFINITY, or a finite number */
    size_t steps[IVON_RANK_MAX];
    size_t query, key; /* elements from one to the next */
    size_t count;      /* elements */
    bool repeated;     /* several scores share an element */
};

/* Keys and values come in up to two parts, of which the second follows the first: those of the past
   and the new ones. */
enum { ATTENTION_PARTS = 2, ATTENTION_MASKS = 2 };

/* The scores at which output `scores` is taken. */
enum attention_stage {
    ATTENTION_SCALED,
    ATTENTION_CAPPED,
    ATTENTION_MASKED,
    ATTENTION_PROBABILITIES
};

struct attention {
    /* The heads of all examples, in the output's order; the first axis is that of the examples. */
    int rank;
    size_t extents[IVON_RANK_MAX];
    size_t count; /* product of the extents */
    int64_t queries, keys, size, value_size;
    float scale, softcap; /* softcap 0: none */
    struct attention_operand q, k[ATTENTION_PARTS], v[ATTENTION_PARTS], y;
    bool columns;  /* a key is a column of k[0], whose `row` is the distance of its elements */
    int64_t first; /* keys in part 0; part 1 has the rest */
    struct attention_mask masks[ATTENTION_MASKS];
    size_t mask_count;
    /* Query i is at position i + offset among the keys, or, where examples have lengths, at i −
       queries + length if `at_end`. It sees keys from its position − left to its position + right,
       those below `limit`, and below the example's length. Negative: no bound. */
    int64_t offset, left, right, limit;
    bool at_end;
    bool has_scores; /* a further output holds the scores at `stage` */
    enum attention_stage stage;
    int64_t tile; /* queries at a time */
};

/* The arrays of one run; of part 1 and of masks where there are any. */
struct attention_values {
    const float *q, *k[ATTENTION_PARTS], *v[ATTENTION_PARTS];
    const void *masks[ATTENTION_MASKS];
    const int64_t *lengths; /* of each example, or null; any numbers */
    void *workspace;
};

/* Adjoints of inputs are added to; null where they are not wanted, or zero. */
struct attention_adjoints {
    const float *y, *scores;
    float *q, *k[ATTENTION_PARTS], *v[ATTENTION_PARTS], *masks[ATTENTION_MASKS];
};

struct attention_tangents {
    const float *q, *k[ATTENTION_PARTS], *v[ATTENTION_PARTS], *masks[ATTENTION_MASKS];
    float *y, *scores;
};

/* A part of the scores of one head: `rows` queries from `query` on, keys from `low` to below
   `high`; score (i, j) is p[i keys + j]. */
struct attention_tile {
    size_t head;
    int64_t query, rows, low, high;
    float *p;
};

/* For infer: sets the tile and the head count. Returns the bytes of workspace, or 0 if sizes are
   too large. */
size_t attention_plan(struct attention *attention);

/* Returns the index in an operand or mask at which head `head` starts. */
size_t attention_start(const struct attention *attention, const size_t *steps, size_t head);

/* Sets the keys that a query of a head sees, *low <= *high. */
void attention_range(const struct attention *attention, const struct attention_values *values,
                     size_t head, int64_t query, int64_t *low, int64_t *high);

/* y, and the scores unless `scores` is null. */
void attention_forward(const struct attention *attention, const struct attention_values *values,
                       float *y, float *scores);

void attention_backward(const struct attention *attention, const struct attention_values *values,
                        const struct attention_adjoints *adjoints);

/* Sets tangents->y and tangents->scores, unless null. */
void attention_tangent(const struct attention *attention, const struct attention_values *values,
                       const struct attention_tangents *tangents);

/* The same as forward for scores that the caller completes: `complete` gets tile after tile, in
   the order of the elements of a tensor of all scores, and leaves probabilities. Unless `seen` is
   null, query i has none for keys from seen[i] on. */
void attention_run(const struct attention *attention, const struct attention_values *values,
                   const int64_t *seen,
                   void (*complete)(void *context, const struct attention_tile *tile),
                   void *context, float *y);

#endif
