/*
 * The inside of a pruned source: prune/search.c scores elements and finds which stay, prune/prune.c
 * is the source, and prune/restore.c the one of what was before.
 */
#ifndef BAYES_PRUNE_PRIVATE_H
#define BAYES_PRUNE_PRIVATE_H

#include "ivon/prune.h"

#define PRUNE_PREFIX "pruned." /* of the name of a mean's buffer */

enum {
    PRUNE_TILE = 1024,   /* elements that are scored at a time */
    PRUNE_JOB = 1 << 20, /* elements of one thread */
};

/* A mean that is ranked. */
struct prune_entry {
    size_t mean;       /* tensor of the source */
    ptrdiff_t hessian; /* of the scored source; -1: by magnitude */
    size_t first_job;
    uint64_t kept;
};

/* The elements that stay: of scores above the bound, and of those equal to it before the cut. */
struct prune_cut {
    uint64_t bound;
    size_t entry, element;
};

struct pruned {
    struct ivon_source *source, *reduced; /* the second, where there is a structure, is owned */
    struct ivon_prune_options options;
    struct prune_entry *entries;
    size_t entry_count, job_count;
    uint64_t elements;
    struct prune_cut cut;
    uint64_t least; /* score that stayed */
    struct ivon_pruned_tensor *report;
    /* Of each tensor of this source: the other source's, what stands for an entry, and whether it
       is the entry's buffer. */
    size_t *tensors;
    ptrdiff_t *entry_of;
    bool *is_buffer;
    size_t listed;
};

/* Returns the source that has the Hessians of scores. */
static inline struct ivon_source *prune_scored(const struct pruned *pruned)
{
    return pruned->reduced ? pruned->reduced : pruned->source;
}

/* Sets the scores of at most PRUNE_TILE elements, as whole numbers. */
int prune_score(const struct pruned *pruned, const struct prune_entry *entry, size_t first,
                size_t count, uint64_t *scores, struct ivon_error *error);

/* Returns whether an element of an entry stays. */
bool prune_keeps(const struct pruned *pruned, size_t entry, size_t element, uint64_t score);

/* Finds the cut, the least score that stays, and the report. */
int prune_search(struct pruned *pruned, struct ivon_error *error);

/* Returns the name of a mean's buffer, to be freed. */
char *prune_buffer_name(const char *mean);

#endif
