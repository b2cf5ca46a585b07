/*
 * The plan of a merge, shared by its planners (merge/plan.c; merge/tensors.c, merge/passage.c,
 * merge/vocabulary.c and merge/fates.c for the fate of each tensor, merge/entries.c for the inputs
 * that it takes, merge/weights.c for the models' weights, merge/precision.c for the result's
 * precision, merge/jobs.c for the pieces of work) and its execution (merge/run.h).
 */
#ifndef BAYES_MERGE_PRIVATE_H
#define BAYES_MERGE_PRIVATE_H

#include "bayes/merge/methods.h"
#include "bayes/posterior.h"
#include "core/stream.h"
#include "ivon/merge.h"

/* A tensor of one input: its mean and Hessian, or -1. */
struct merge_input {
    ptrdiff_t mean;
    ptrdiff_t hessian;
};

struct merge_model {
    struct ivon_source *source;
    double weight;
    size_t caller_index; /* position in the caller's list */
};

/* One piece of work: a tensor to merge, or one to copy. */
struct merge_entry {
    size_t first; /* element, here and in every input: 0, but of rows that one input alone has */
    size_t count;
    size_t output;            /* of the mean, or of the copy */
    ptrdiff_t output_hessian; /* -1: none is written */
    /* Of a merged tensor: */
    struct merge_input base;
    struct merge_input *models; /* in the plan's order; null for a copy */
    double *weights;            /* likewise; null: the models' own */
    ptrdiff_t alone; /* the input that these rows are taken from, as merge_source counts; -1: all */
    bool structured; /* its precision, or its mean with it, is no matter of elements */
    ptrdiff_t group; /* that it is merged in (structured/structured.h); -1: none */
    /* Of a copy: */
    struct ivon_source *from;
    size_t from_tensor;
    bool compare; /* with the same tensor of the other inputs */
    bool differs; /* from one of them, as a run found */
};

/* An input that does not have a tensor as the others do. */
struct merge_mismatch {
    const struct ivon_source *source;
    struct merge_input input;
    const char *reason;
    const struct ivon_tensor *reference; /* as the others have it; null: none does */
    const char *reference_path;
};

/* A range of an entry: what one thread does at a time. */
struct merge_job {
    size_t entry;
    size_t first;
    size_t count;
};

/* How many rows an input has in the tensors of the vocabulary, and the first of these. */
struct merge_rows {
    int64_t count;
    const char *name;
};

/* One output of a merge. */
struct merge_result {
    double scale;
    const double *factors; /* of the models' weights, in the plan's order; null: 1 */
};

struct ivon_merge {
    struct ivon_merge_options options;
    const struct merge_method *method;
    struct merge_result *results;
    size_t result_count;
    double *factors; /* that the results point to */
    bool base_in_formula;
    bool with_hessian; /* whether Hessians are written */
    struct ivon_source *base;
    struct merge_model *models; /* sorted by path and weight */
    size_t model_count;

    struct tensor_list outputs;
    struct tensor_list means;          /* those that results of means alone have */
    ptrdiff_t *place_in_means;         /* of each output; -1: it is dropped */
    struct ivon_merge_tensor *tensors; /* names borrowed from the sources */
    size_t tensor_count, tensor_capacity;
    struct merge_entry *entries;
    size_t entry_count, entry_capacity;
    struct merge_job *jobs;
    size_t job_count;
    uint64_t input_bytes;
    struct ivon_merge_tie *ties;
    size_t tie_count;
    struct merge_rows *rows; /* per input, of the tensors whose rows differ; null: none */
    struct merge_structured *structured; /* null: all precisions are diagonal */
    const char *missing, *missing_from;  /* the first tensor that an input lacks, and that input */

    /* Results of a run. */
    uint64_t *nonpositive; /* per result */
    double *movement;      /* per result: the norm of each model, then the total */
};

/* Elements of a job: the granule of threads, of read-ahead and of the sums of movements. */
enum { MERGE_JOB = 1 << 20, MERGE_DEFAULT_MEMORY = 256 << 20 /* bytes */ };

/* α_t of a tensor for a result, without its scale, and Σ α_t. A null entry stands for tensors that
   have the models' own weights. */
double merge_weight(const struct ivon_merge *merge, const struct merge_entry *entry,
                    const struct merge_result *result, size_t t);
double merge_weight_sum(const struct ivon_merge *merge, const struct merge_entry *entry,
                        const struct merge_result *result);

/* Returns the reason why weights cannot be those of a result, or null: of `entry`'s tensor, or,
   null, of all that have the models' own. */
const char *merge_weights_problem(const struct ivon_merge *merge, const struct merge_entry *entry,
                                  const struct merge_result *result);

/* Model t's weight for the tensor of that name. */
int merge_find_weight(const struct ivon_merge *merge, size_t t, const char *name, double *weight,
                      struct ivon_error *error);

/* Input 0 is the base, which may be null, input t + 1 model t. */
struct ivon_source *merge_source(const struct ivon_merge *merge, size_t input);
const struct merge_input *merge_input_of(const struct merge_entry *entry, size_t input);

/* Returns whether a job of the entry reads that input. */
bool merge_reads(const struct ivon_merge *merge, const struct merge_entry *entry, size_t input);

/* The source of the tensors that are not merged: the base, or without one the first given model. */
struct ivon_source *merge_copy_source(const struct ivon_merge *merge);
size_t merge_copy_input(const struct ivon_merge *merge); /* 0: the base; t + 1: model t */

/* Refuse inputs that cannot be merged: quantized weights, adapters, a model without any tensor of
   the copy source; and, once all is planned, a merge without a merged tensor. */
int merge_refuse_quantized_weights(const struct ivon_merge *merge, struct ivon_error *error);
int merge_refuse_adapters(const struct ivon_merge *merge, struct ivon_error *error);
int merge_refuse_unrelated(const struct ivon_merge *merge, struct ivon_error *error);
int merge_refuse_empty(const struct ivon_merge *merge, struct ivon_error *error);

/* Lists the ties. Reads the tensors that an input lacks. */
int merge_find_ties(struct ivon_merge *merge, struct ivon_error *error);

/* An input's mean by its name, or by another name of the same tensor; -1 for none. */
ptrdiff_t merge_find_mean(const struct ivon_merge *merge, const struct ivon_source *source,
                          const char *name);

/* Lists the fate of every tensor: ->tensors, ->entries and ->outputs. */
int merge_plan_tensors(struct ivon_merge *merge, struct ivon_error *error);

void merge_release_entry(struct merge_entry *entry);

/* Returns whether two tensors differ in the number of their rows alone. */
bool merge_only_rows_differ(const struct ivon_tensor *a, const struct ivon_tensor *b);
/* The input whose rows the result has, by the option `vocabulary`. */
size_t merge_rows_owner(const struct ivon_merge *merge, const struct merge_entry *entry);
/* Splits the last entry, which has all rows of their owner, if other inputs have not all of them:
   it keeps the common ones, the others become an entry of their own. */
int merge_split_rows(struct ivon_merge *merge, size_t owner, struct ivon_error *error);

/* Adds an entry that merges nothing yet; null without memory. */
struct merge_entry *merge_add_entry(struct ivon_merge *merge, struct ivon_error *error);

/* Notes the fate of a tensor. */
int merge_add_fate(struct ivon_merge *merge, const struct ivon_tensor *mean,
                   enum ivon_merge_fate fate, const char *reason, struct ivon_error *error);

/* Plans the copy of one tensor of a source under a name, in its own dtype or, for a mean, in the
   asked one. */
int merge_plan_copy(struct ivon_merge *merge, struct ivon_source *from, size_t index,
                    const char *name, struct ivon_error *error);

/* Takes a mean, and its Hessian with its own ess and weight decay, from the base or first model. */
int merge_keep_tensor(struct ivon_merge *merge, const struct ivon_tensor *mean, const char *reason,
                      struct ivon_error *error);

/* Plans what options.on_mismatch asks for, or fails, where `source` does not have a tensor as the
   others do, for that reason. */
int merge_plan_mismatch(struct ivon_merge *merge, const struct ivon_tensor *mean,
                        const struct merge_mismatch *mismatch, struct ivon_error *error);

/* Plans the tensor of that mean's name, of the one model that has a weight there. */
int merge_plan_passage(struct ivon_merge *merge, const struct ivon_tensor *mean,
                       struct ivon_error *error);

/* Splits the entries into jobs and adds up what they read. */
int merge_make_jobs(struct ivon_merge *merge, struct ivon_error *error);

/* Returns the bytes that a job reads. Calls `advise` for each range, ivon_source_will_need or
   ivon_source_done_with, unless it is null. */
typedef void merge_advise(struct ivon_source *source, size_t tensor, size_t first, size_t count);
uint64_t merge_job_input(const struct ivon_merge *merge, size_t job, merge_advise *advise);

/* Returns whether the result has Hessians: the method needs them, or all inputs have them. */
bool merge_has_precision(const struct ivon_merge *merge);

/* Returns whether the base's part of the precision is known without the base's Hessian. */
bool merge_base_precision_known(const struct ivon_merge *merge);

/* The header of a result with what is dropped of it where the result is means alone. */
struct ivon_header merge_whole_header(const struct ivon_merge *merge, size_t result);

/* Results of means alone: lists what they have of the outputs; makes sinks in front of the caller's
   that drop the rest, or leaves *out null where nothing is dropped. */
bool merge_is_of_means(const struct ivon_merge *merge);
int merge_means_list(struct ivon_merge *merge, struct ivon_error *error);
int merge_means_sinks(struct ivon_sink ***out, const struct ivon_merge *merge,
                      struct ivon_sink *const *sinks, struct ivon_error *error);
void merge_means_release(const struct ivon_merge *merge, struct ivon_sink **sinks);

/* Fails unless the result's ess and weight decay, if there are any, can be written. */
int merge_check_precision(const struct ivon_merge *merge, struct ivon_error *error);

/* Returns whether an entry's means are merged element by element, by jobs. */
static inline bool merge_is_streamed(const struct ivon_merge *merge,
                                     const struct merge_entry *entry)
{
    return entry->group < 0 || !(merge->method->precise || merge->method->grams);
}

/*
 * Structured inputs (structured/structured.h). The structures are read first; once the tensors are
 * planned, those that are `structured` are grouped. Inputs are 0, the base, and t + 1, model t.
 */
int merge_structured_read(struct ivon_merge *merge, struct ivon_error *error);
int merge_structured_plan(struct ivon_merge *merge, struct ivon_error *error);
void merge_structured_free(struct ivon_merge *merge);

/* Returns whether an input has a mean in a block with a covariance, and no Hessian of its shape. */
bool merge_in_block(const struct ivon_merge *merge, size_t input, ptrdiff_t mean);

/* The Hessian that holds for a mean, its own or its block's; null: there is none. */
const struct ivon_tensor *merge_hessian_of(const struct ivon_merge *merge, size_t input,
                                           const struct merge_input *tensors);

/* Returns whether an input has a low-rank correction. */
bool merge_has_correction(const struct ivon_merge *merge);

/* Returns whether an entry, whose inputs are set, is merged in a group. */
bool merge_is_structured(const struct ivon_merge *merge, const struct merge_entry *entry);

size_t merge_group_count(const struct ivon_merge *merge);

/* Returns whether the groups are one system, of which no part can be merged by itself. */
bool merge_groups_are_coupled(const struct ivon_merge *merge);

/* Bytes that a group reads. */
uint64_t merge_group_bytes(const struct ivon_merge *merge, size_t group);

#endif
