/*
 * Merging with structure: tensors whose precisions are no diagonal matrices, and RegMean.
 *
 * A group is what has one precision in some input: a weight, alone or with the bias of the same
 * node, seen as a matrix X of o rows and n columns, the bias its last (bayes/structure.h). In it an
 * input has the operator
 *
 *   S[X] = U_B (s ⊙ (U_Bᵀ X U_A)) U_Aᵀ
 *
 * whose bases may be the identity: a diagonal precision is an operator too. Where an input has a
 * low-rank correction, all that is merged is one system, and
 *
 *   S = U D^(1/2) (I + V ℓ Vᵀ) D^(1/2) Uᵀ
 *
 * over all groups. Sums Σ c S of inputs are solved by conjugate gradients in coordinates of one
 * shared basis Q (load.c): X = X_0 + Q_B Y Q_Aᵀ. Sources: math.md, "Merging with structure"; Tam et
 * al. 2023, arXiv:2312.04339 (conjugate gradients); Jin et al. 2023, arXiv:2212.09849 (RegMean).
 *
 * blocks.c knows the inputs, find.c decides what is a group, outputs.c what a result has of it;
 * system.h solves, regmean.c has RegMean, and write.c the results.
 */
#ifndef BAYES_MERGE_STRUCTURED_H
#define BAYES_MERGE_STRUCTURED_H

#include "bayes/merge/run.h"
#include "bayes/structure.h"
#include "core/thread_pool.h"

enum merge_side { MERGE_INPUT, MERGE_OUTPUT, MERGE_SIDES };

struct merge_group {
    size_t weight;        /* the entry */
    ptrdiff_t bias;       /* the entry; -1: there is none */
    size_t rows, columns; /* o and n */
    bool transposed;      /* the weight is stored with a row for each input */
    /* Of each side: the tensor that is Q, of input `from` as below. -1: the identity. */
    struct {
        size_t from;
        ptrdiff_t tensor;
    } shared[MERGE_SIDES];
    /* Outputs, or -1. Of a block, `hessian` is the block's; else the weight's, beside the bias's.
       So are vectors. */
    ptrdiff_t hessian, bias_hessian, basis[MERGE_SIDES], gram, vectors, bias_vectors;
};

struct merge_structured {
    /* Inputs are the base, which may be none, then the models. */
    struct structure **structures;
    ptrdiff_t **entry_of; /* of each tensor of an input: the entry that merges it; -1: none */
    struct merge_group *groups;
    size_t group_count;
    bool low_rank;                        /* an input has a correction */
    size_t rank;                          /* of the result's correction; 0: it has none */
    struct structure_block_names *blocks; /* of the result; names borrowed */
    size_t block_count;
    ptrdiff_t text; /* the output; -1: the result has no structure */
    size_t text_size;
    struct ivon_merge_solve *solves; /* of a run */
    size_t solve_count;
};

static inline struct ivon_source *merge_input_source(const struct ivon_merge *merge, size_t input)
{
    return input ? merge->models[input - 1].source : merge->base;
}

static inline const struct merge_input *merge_entry_input(const struct merge_entry *entry,
                                                          size_t input)
{
    return input ? &entry->models[input - 1] : &entry->base;
}

static inline const struct merge_entry *merge_group_entry(const struct ivon_merge *merge,
                                                          const struct merge_group *group,
                                                          bool bias)
{
    return &merge->entries[bias ? (size_t)group->bias : group->weight];
}

/* The block that a mean is in and has a covariance of, which is not a diagonal in the mean's own
   shape; null: there is none. */
const struct structure_block *merge_block_of(const struct ivon_merge *merge, size_t input,
                                             ptrdiff_t mean);

/* The block by which an input has a mean merged as a matrix: of RegMean one whose input factor is
   known, else merge_block_of; null: the mean is merged by itself. */
const struct structure_block *merge_group_block(const struct ivon_merge *merge, size_t input,
                                                ptrdiff_t mean);

/* Lists what a result has of groups, of blocks that are kept, and the text that tells of them. */
int merge_list_structure(struct ivon_merge *merge, struct ivon_error *error);

/* The text of a result, padded by spaces to its size; to be freed. `values` are ℓ; or null, when
   there is no correction. */
char *merge_structure_text(const struct merge_structured *structured, const double *values);

/* The elements of a group's arrays. */
static inline size_t merge_group_size(const struct merge_group *group)
{
    return group->rows * group->columns;
}

/* Says that a group's precision is not positive along some direction, where it is `worst` (or NaN);
   or counts its elements, where the base's are to be kept. */
int merge_refuse_group(struct merge_run *run, size_t result, const struct merge_group *group,
                       double worst, struct ivon_error *error);

/* RegMean of a group, for all results. */
int merge_regmean(struct merge_run *run, struct thread_pool *pool, const struct merge_group *group,
                  struct ivon_error *error);

#endif
