/*
 * A merge while it runs: merge/run.c has the jobs; merge/tile.c merges elements that merge/load.c
 * reads, where merge/shortfall.c sees to those without a precision and merge/movement.c to how far
 * they went; merge/copy.c has the tensors that are not merged; merge/share.c has what processes
 * share. Of methods that need numbers of a whole tensor first, merge/measure.c has these:
 * merge/ranks.c finds the magnitudes between which elements are kept, merge/angles.c the angles, in
 * passes over it of merge/pass.c.
 */
#ifndef BAYES_MERGE_RUN_H
#define BAYES_MERGE_RUN_H

#include <pthread.h>

#include "bayes/merge/kernel.h"
#include "bayes/merge/private.h"
#include "core/meter.h"
#include "core/ranks.h"
#include "core/thread_pool.h"

/* The elements that stay without a positive precision, in the first tensor that has any. */
struct merge_shortfall {
    size_t entry; /* SIZE_MAX: none */
    size_t result;
    uint64_t count;
    double worst;
    size_t worst_index;
};

/* An element's place in a tensor, by falling magnitude, then by rising index. */
struct merge_rank {
    uint64_t magnitude; /* the bits of |m_t − m_0|, which rise with it */
    size_t index;
};

/* The numbers of a whole tensor that a method needs. */
struct merge_measured {
    struct merge_rank *last, *dropped; /* of each model: the last element kept, and the last of the
                                          larger ones that are not */
    double *coefficients;              /* per result: of the base, then of the models */
};

#define IVON_MERGE_DENSITY  0.2 /* where none is given */
#define IVON_MERGE_OUTLIERS 0.01

enum { MERGE_DIGITS = 1 << 16 /* of a magnitude, in one pass */ };

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
    /* Of methods with a mask or coefficients, else null: */
    double *terms;                         /* MERGE_TILE of the base, then of each model */
    uint64_t *histograms[2];               /* MERGE_DIGITS each */
    struct merge_measured own;             /* of a tensor that this thread has alone */
    const struct merge_measured *measured; /* of the tensor that is merged */
};

struct merge_run {
    struct ivon_merge *merge;
    struct ivon_sink *const *sinks;
    struct merge_scratch *scratch; /* per thread */
    struct ivon_header *headers;   /* per result */
    int threads;
    struct thread_pool *pool;
    struct ranks_range jobs, groups; /* of this rank */
    size_t first_job;                /* of those that are run at present */
    size_t block;
    struct merge_measured measured; /* of a tensor that all threads work on */
    double *movement; /* per job, per result: squared norms of the models, then of the total */
    double *group_movement; /* the same, per group */
    struct meter meter;
    pthread_mutex_t lock; /* protects the members below */
    struct merge_shortfall shortfall;
    size_t failed_entry; /* the first whose job failed; SIZE_MAX: none */
};

/* Merges elements [offset, offset + count) of the block that begins with the job's element
   `first`, whose inputs are fetched, for every result. */
int merge_tile(struct merge_run *run, struct merge_scratch *scratch, size_t job, size_t first,
               size_t offset, size_t count, struct ivon_error *error);

/* Fails with the name of the input whose element is not finite, or of the type that cannot hold the
   result. */
int merge_report_nonfinite(const struct ivon_merge *merge, struct merge_scratch *scratch,
                           const struct merge_entry *entry, size_t first, size_t offset, size_t i,
                           struct ivon_error *error);

/* Points to a block of input `i` of an entry, 0 being the base, wherever it lies. */
int merge_fetch_input(struct merge_run *run, struct merge_scratch *scratch,
                      const struct merge_entry *entry, size_t i, size_t first, size_t count,
                      struct ivon_error *error);

/* Returns whether a method needs numbers of whole tensors; and those of an entry. */
bool merge_measures(const struct merge_method *method);
bool merge_measures_entry(const struct ivon_merge *merge, const struct merge_entry *entry);

/* Allocates them, and frees them again. */
int merge_allocate_measured(const struct ivon_merge *merge, struct merge_measured *measured,
                            struct ivon_error *error);
void merge_release_measured(struct merge_measured *measured);

/* Measures the entry of a job, its first: with all threads into run->measured, or, given the
   calling thread's scratch, alone into its own. */
int merge_measure(struct merge_run *run, size_t job, struct merge_scratch *scratch,
                  struct ivon_error *error);

/* Sees a tile of a tensor, which begins with its element `at`: the base in scratch->base_mean, and
   one model in ->model_mean or, with all models, each in ->terms. */
typedef void merge_visit(void *context, struct merge_scratch *scratch, size_t slot, size_t at,
                         size_t count);

/* A pass over a tensor. Its jobs have slots, counted from 0, and are visited in any order; the
   tiles of one are visited in theirs. */
struct merge_pass {
    struct merge_run *run;
    size_t job, job_count;         /* of the tensor */
    struct merge_scratch *scratch; /* the thread that is alone with it; null: all take part */
    bool all_models;
    size_t model;
    bool check; /* that elements are finite */
    merge_visit *visit;
    void *context;
};
int merge_pass_run(struct merge_pass *pass, struct ivon_error *error);

/* Visits one job of a pass, with any thread's scratch. */
int merge_pass_visit(const struct merge_pass *pass, size_t slot, struct merge_scratch *scratch,
                     struct ivon_error *error);

/* Finds the ranks between which the elements of every model are kept; or the coefficients. */
int merge_measure_ranks(const struct merge_pass *tensor, struct merge_measured *measured,
                        struct ivon_error *error);
int merge_measure_angles(const struct merge_pass *tensor, struct merge_measured *measured,
                         struct ivon_error *error);

/* Sums what the mask leaves of a tile's displacements, and leaves each model's share in
   scratch->terms. `at` is the tile's first element in its tensor. */
void merge_sum_masked(const struct ivon_merge *merge, struct merge_scratch *scratch,
                      const struct merge_entry *entry, const struct merge_result *result, size_t at,
                      size_t offset, size_t count);

/* Reads the base of a tile: m_0 and its own precision, zero where the formula has no base. */
void merge_load_base(const struct ivon_merge *merge, struct merge_scratch *scratch,
                     const struct merge_entry *entry, size_t offset, size_t count);

/* Reads a tile of rows that one input alone has: its mean and own precision, into the base's place
   as into the result's. */
void merge_load_alone(const struct ivon_merge *merge, struct merge_scratch *scratch,
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

/* Fails where a rank has other inputs or options than rank 0. */
int merge_share_check(const struct ivon_merge *merge, struct ivon_error *error);

/* Sets the jobs and groups of this rank, and returns the bytes that they read: every rank's read
   about as many. */
uint64_t merge_share(struct merge_run *run);

/* Join what all ranks found: what is short of a precision, which is an error on all of them; how
   many elements kept the base's value, and which buffers differ. */
int merge_share_shortfall(struct merge_run *run, struct ivon_error *error);
int merge_share_results(struct merge_run *run, struct ivon_error *error);

/* Merges the groups, one after the other. */
int merge_structured_run(struct merge_run *run, struct ivon_error *error);

/* Copies a job of a tensor that is not merged. */
int merge_copy_range(struct merge_run *run, struct merge_scratch *scratch,
                     const struct merge_job *job, struct ivon_error *error);

/* Squared norms of the movement of each model and of all together. They are allocated, then a tile
   is added to its job's sums, then the norms of all jobs are computed. See ivon/merge.h. */
int merge_allocate_movement(struct merge_run *run, struct ivon_error *error);
double *merge_group_squares(const struct merge_run *run, size_t group, size_t result);
void merge_add_movement(struct merge_run *run, struct merge_scratch *scratch, size_t job,
                        size_t result, size_t offset, size_t count);
int merge_gather_movement(const struct merge_run *run, struct ivon_error *error);

#endif
