/*
 * A merge while it runs: merge/run.c has the jobs; merge/tile.c merges elements that merge/load.c
 * reads, where merge/shortfall.c sees to those without a precision and merge/movement.c to how far
 * they went; merge/copy.c has the tensors that are not merged.
 */
#ifndef BAYES_MERGE_RUN_H
#define BAYES_MERGE_RUN_H

#include <pthread.h>

#include "bayes/merge/kernel.h"
#include "bayes/merge/private.h"
#include "core/meter.h"

/* The elements that stay without a positive precision, in the first tensor that has any. */
struct merge_shortfall {
    size_t entry; /* SIZE_MAX: none */
    size_t result;
    uint64_t count;
    double worst;
    size_t worst_index;
};

/* A thread's memory. */
struct merge_scratch {
    /* Blocks that are read, for inputs that cannot be mapped: base, then models. */
    unsigned char **mean_blocks, **hessian_blocks;
    const unsigned char **means, **hessians; /* of this block, wherever they lie; null: none */
    unsigned char *mean_out;                 /* result_count blocks */
    float *hessian_out;
    double base_mean[MERGE_TILE], base_precision[MERGE_TILE], base_hessian[MERGE_TILE];
    double mean[MERGE_TILE], hessian[MERGE_TILE], precision[MERGE_TILE];
    double model_mean[MERGE_TILE];
    bool dropped[MERGE_TILE]; /* elements that keep the base's value */
    struct merge_sums sums;
    uint64_t *nonpositive; /* per result */
};

struct merge_run {
    struct ivon_merge *merge;
    struct ivon_sink *const *sinks;
    struct merge_scratch *scratch; /* per thread */
    struct ivon_header *headers;   /* per result */
    int threads;
    size_t block;
    double *movement; /* per job, per result: squared norms of the models, then of the total */
    struct meter meter;
    pthread_mutex_t lock; /* protects the members below */
    struct merge_shortfall shortfall;
    size_t failed_entry; /* the first whose job failed; SIZE_MAX: none */
};

/* Merges elements [offset, offset + count) of the block that begins with the job's element
   `first`, whose inputs are fetched, for every result. */
int merge_tile(struct merge_run *run, struct merge_scratch *scratch, size_t job, size_t first,
               size_t offset, size_t count, struct ivon_error *error);

/* Reads the base of a tile: m_0 and its own precision, zero where the formula has no base. */
void merge_load_base(const struct ivon_merge *merge, struct merge_scratch *scratch,
                     const struct merge_entry *entry, size_t offset, size_t count);

/* Reads model t of a tile into scratch->model_mean and ->hessian; its weight is α (slope h +
   intercept), see merge_accumulate. */
void merge_load_model(const struct ivon_merge *merge, struct merge_scratch *scratch,
                      const struct merge_entry *entry, size_t t, size_t offset, size_t count,
                      double *slope, double *intercept);

/* Handles the elements of a tile whose precision is not positive: they get the base's values, or
   are recorded for the error. `at` is the index of the tile's first element in its tensor. */
void merge_handle_nonpositive(struct merge_run *run, struct merge_scratch *scratch,
                              size_t entry_index, size_t result, size_t at, size_t count);

/* Returns whether an earlier tensor already failed: then only that tensor's count matters. */
bool merge_earlier_failed(struct merge_run *run, size_t entry);

/* Fails if some element stayed without a positive precision. */
int merge_report_shortfall(const struct merge_run *run, struct ivon_error *error);

/* Copies a job of a tensor that is not merged. */
int merge_copy_range(struct merge_run *run, struct merge_scratch *scratch,
                     const struct merge_job *job, struct ivon_error *error);

/* Squared norms of the movement of each model and of all together. They are allocated, then a tile
   is added to its job's sums, then the norms of all jobs are computed. See ivon/merge.h. */
int merge_allocate_movement(struct merge_run *run, struct ivon_error *error);
void merge_add_movement(struct merge_run *run, struct merge_scratch *scratch, size_t job,
                        size_t result, size_t offset, size_t count);
void merge_gather_movement(const struct merge_run *run);

#endif
