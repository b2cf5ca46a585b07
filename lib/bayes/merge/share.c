/*
 * A merge by several ranks: each runs a range of the jobs, then of the groups of structured
 * posteriors, and writes what it merged itself. What they found joins in the order of jobs and
 * groups, so that it is that of a process alone.
 */
#include <stdlib.h>
#include <string.h>

#include "bayes/merge/run.h"
#include "bayes/rank_inputs.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/ranks.h"

/* A digest of the options and weights that results follow from. */
static uint64_t share_digest(const struct ivon_merge *merge)
{
    const struct ivon_merge_options *options = &merge->options;
    size_t models = merge->model_count * sizeof(double);
    const double numbers[] = {options->delta0,  options->base_scale, options->hessian_scale,
                              options->ess,     options->shrink,     options->density,
                              options->outliers};
    uint64_t digest = digest_add(DIGEST_START, numbers, sizeof numbers);
    for (size_t t = 0; t < merge->model_count; t++)
        digest = digest_add(digest, &merge->models[t].weight, sizeof merge->models[t].weight);
    for (size_t s = 0; s < merge->result_count; s++) {
        digest = digest_add(digest, &merge->results[s].scale, sizeof merge->results[s].scale);
        if (merge->results[s].factors)
            digest = digest_add(digest, merge->results[s].factors, models);
    }
    for (size_t e = 0; e < merge->entry_count; e++) {
        digest = digest_add(digest, &merge->entries[e].count, sizeof merge->entries[e].count);
        if (merge->entries[e].weights)
            digest = digest_add(digest, merge->entries[e].weights, models);
    }
    return digest;
}

int merge_share_check(const struct ivon_merge *merge, struct ivon_error *error)
{
    const struct ivon_merge_options *options = &merge->options;
    struct ivon_ranks *ranks = options->resources.ranks;
    if (!ranks)
        return 0;
    const uint64_t numbers[] = {options->method,    options->on_nonpositive, options->seed,
                                options->movement,  merge->result_count,     merge->entry_count,
                                merge->job_count,   merge->model_count,      merge->base != NULL,
                                share_digest(merge)};
    int code = rank_inputs_check_numbers(ranks, numbers, sizeof numbers / sizeof numbers[0], error);
    if (!code && merge->base)
        code = rank_inputs_check_source(ranks, merge->base, error);
    for (size_t t = 0; t < merge->model_count && !code; t++)
        code = rank_inputs_check_source(ranks, merge->models[t].source, error);
    return code;
}

typedef uint64_t share_bytes(const struct ivon_merge *merge, size_t item);

static uint64_t share_job_bytes(const struct ivon_merge *merge, size_t job)
{
    return merge_job_input(merge, job, NULL);
}

/* How many of the first items read at least so many bytes. */
static size_t share_cut(const struct ivon_merge *merge, size_t count, share_bytes *bytes,
                        uint64_t least)
{
    uint64_t before = 0;
    size_t cut = 0;
    while (cut < count && before < least)
        before += bytes(merge, cut++);
    return cut;
}

/* This rank's part of items, which together read about as many bytes as each other's. */
static struct ranks_range share_range(const struct ivon_merge *merge, size_t count,
                                      share_bytes *bytes)
{
    const struct ivon_ranks *ranks = merge->options.resources.ranks;
    uint64_t rank = (uint64_t)ivon_ranks_rank(ranks), total = 0;
    if (!ranks)
        return (struct ranks_range){0, count};
    for (size_t i = 0; i < count; i++)
        total += bytes(merge, i);
    uint64_t each = total / (uint64_t)ivon_ranks_count(ranks) + 1;
    return (struct ranks_range){share_cut(merge, count, bytes, rank * each),
                                share_cut(merge, count, bytes, (rank + 1) * each)};
}

/* A tensor whose numbers are needed as a whole is not cut: they are found by one rank. */
static size_t share_whole(const struct ivon_merge *merge, size_t cut)
{
    if (cut == merge->job_count ||
        !merge_measures_entry(merge, &merge->entries[merge->jobs[cut].entry]))
        return cut;
    while (cut && merge->jobs[cut - 1].entry == merge->jobs[cut].entry)
        cut--;
    return cut;
}

uint64_t merge_share(struct merge_run *run)
{
    const struct ivon_merge *merge = run->merge;
    size_t groups = merge->structured ? merge_group_count(merge) : 0;
    bool first = !ivon_ranks_rank(merge->options.resources.ranks);
    uint64_t bytes = 0;
    run->jobs = share_range(merge, merge->job_count, share_job_bytes);
    run->jobs.first = share_whole(merge, run->jobs.first);
    run->jobs.end = share_whole(merge, run->jobs.end);
    run->groups = share_range(merge, groups, merge_group_bytes);
    if (groups && merge_groups_are_coupled(merge))
        run->groups = (struct ranks_range){0, first ? groups : 0};
    for (size_t j = run->jobs.first; j < run->jobs.end; j++)
        bytes += share_job_bytes(merge, j);
    for (size_t g = run->groups.first; g < run->groups.end; g++)
        bytes += merge_group_bytes(merge, g);
    return bytes;
}

/* Adds what another rank found to what ranks before it did. */
static void share_join(struct merge_shortfall *sum, const struct merge_shortfall *more)
{
    bool same = more->entry == sum->entry && more->result == sum->result;
    if (more->entry < sum->entry || (more->entry == sum->entry && more->result < sum->result))
        *sum = *more;
    if (!same)
        return;
    sum->count += more->count;
    if (more->worst < sum->worst) /* else that of the lower index is there */
        *sum = (struct merge_shortfall){sum->entry, sum->result, sum->count, more->worst,
                                        more->worst_index};
}

int merge_share_shortfall(struct merge_run *run, struct ivon_error *error)
{
    struct ivon_ranks *ranks = run->merge->options.resources.ranks;
    struct ranks_bytes all;
    int code = ranks_gather_all(ranks, &run->shortfall, sizeof run->shortfall, &all, error);
    if (code)
        return code;
    const struct merge_shortfall *found = (const struct merge_shortfall *)all.data;
    run->shortfall.entry = SIZE_MAX;
    for (int r = 0; r < ivon_ranks_count(ranks); r++)
        share_join(&run->shortfall, &found[r]);
    ranks_bytes_release(&all);
    return merge_report_shortfall(run, error);
}

int merge_share_results(struct merge_run *run, struct ivon_error *error)
{
    struct ivon_merge *merge = run->merge;
    struct ivon_ranks *ranks = merge->options.resources.ranks;
    size_t width = merge->result_count + merge->entry_count;
    struct ranks_bytes all;
    uint64_t *own = ranks ? calloc(width + 1, sizeof *own) : NULL;
    if (!ranks)
        return 0;
    int code = own ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < width && !code; i++)
        own[i] = i < merge->result_count ? merge->nonpositive[i]
                                         : merge->entries[i - merge->result_count].differs;
    code = ivon_ranks_agree(ranks, code, error);
    if (!code)
        code = ranks_gather_all(ranks, own, width * sizeof *own, &all, error);
    free(own);
    if (code)
        return code;
    const uint64_t *found = (const uint64_t *)all.data;
    memset(merge->nonpositive, 0, merge->result_count * sizeof *merge->nonpositive);
    for (size_t k = 0; k < width * (size_t)ivon_ranks_count(ranks); k++) {
        size_t i = k % width;
        if (i < merge->result_count)
            merge->nonpositive[i] += found[k];
        else if (found[k])
            merge->entries[i - merge->result_count].differs = true;
    }
    ranks_bytes_release(&all);
    return 0;
}
