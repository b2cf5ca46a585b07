/* The source of a pruned posterior. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bayes/posterior.h"
#include "bayes/prune/private.h"
#include "core/error.h"
#include "core/options.h"
#include "core/stream.h"
#include "ivon/convert.h"
#include "ivon/summary.h"

static const struct options_kind prune_options = {
    .defaults = "ivon_prune_defaults",
    .reserved = {OPTIONS_RESERVED(struct ivon_prune_options, resources.reserved)}};

void ivon_prune_options_init(struct ivon_prune_options *options, size_t size)
{
    const struct ivon_prune_options defaults = {.size = sizeof defaults, .keep = NAN, .least = NAN};
    options_init(options, size, &defaults);
}

static void pruned_close(void *self)
{
    struct pruned *pruned = self;
    if (!pruned)
        return;
    ivon_source_close(pruned->reduced);
    free(pruned->entries);
    free(pruned->report);
    free(pruned->tensors);
    free(pruned->entry_of);
    free(pruned->is_buffer);
    free(pruned);
}

/* The list of tensors. */

/* Finds what is ranked: means that are selected, and have a Hessian where that is needed. */
static int prune_list_entries(struct pruned *pruned, struct ivon_error *error)
{
    const struct ivon_prune_options *options = &pruned->options;
    struct ivon_source *scored = prune_scored(pruned);
    size_t count = ivon_source_tensor_count(pruned->source);
    int code = 0;
    pruned->entries = calloc(count + 1, sizeof *pruned->entries);
    pruned->report = calloc(count + 1, sizeof *pruned->report);
    if (!pruned->entries || !pruned->report)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count && !code; i++) {
        const struct ivon_tensor *mean = ivon_source_tensor(pruned->source, i);
        if (mean->part != IVON_MEAN ||
            (options->select && !options->select(options->context, mean->name)))
            continue;
        ptrdiff_t h = options->by == IVON_PRUNE_SNR
                          ? ivon_source_find(scored, IVON_HESSIAN, mean->name)
                          : -1;
        if (options->by == IVON_PRUNE_SNR && h < 0) {
            code = ivon_source_refuse_opaque(scored, IVON_HESSIAN, mean->name, error);
            continue;
        }
        if (h >= 0)
            code = posterior_check_hessian(scored, mean, ivon_source_tensor(scored, (size_t)h),
                                           true, error);
        pruned->entries[pruned->entry_count++] = (struct prune_entry){
            .mean = i, .hessian = h, .first_job = pruned->job_count};
        pruned->job_count += (mean->count + PRUNE_JOB - 1) / PRUNE_JOB;
        pruned->elements += mean->count;
    }
    if (!code && !pruned->elements)
        code = ivon_error_set(error, IVON_ERROR_DATA, "%s: %s", ivon_source_path(pruned->source),
                              options->by == IVON_PRUNE_SNR
                                  ? "none of the means to prune has a Hessian"
                                  : "no mean is to be pruned");
    return code;
}

static int pruned_append(struct pruned *pruned, struct tensor_list *list, size_t tensor,
                         const struct ivon_tensor *described, ptrdiff_t entry, bool buffer,
                         struct ivon_error *error)
{
    pruned->tensors[pruned->listed] = tensor;
    pruned->entry_of[pruned->listed] = entry;
    pruned->is_buffer[pruned->listed++] = buffer;
    return tensor_list_append(list, described, error);
}

char *prune_buffer_name(const char *mean)
{
    char *name = malloc(sizeof PRUNE_PREFIX + strlen(mean));
    if (name)
        strcat(strcpy(name, PRUNE_PREFIX), mean);
    return name;
}

static int pruned_append_buffer(struct pruned *pruned, struct tensor_list *list, size_t entry,
                                struct ivon_error *error)
{
    struct ivon_tensor tensor = *ivon_source_tensor(pruned->source, pruned->entries[entry].mean);
    char *name = prune_buffer_name(tensor.name);
    if (!name)
        return ivon_error_memory(error);
    int code = 0;
    if (ivon_source_find(pruned->source, IVON_BUFFER, name) >= 0)
        code = ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: has a buffer '%s' already: it is pruned, and has to be restored "
                              "first",
                              ivon_source_path(pruned->source), name);
    tensor.name = name;
    tensor.part = IVON_BUFFER;
    if (!code)
        code = pruned_append(pruned, list, pruned->entries[entry].mean, &tensor, (ptrdiff_t)entry,
                             true, error);
    free(name);
    return code;
}

static int pruned_allocate(struct pruned *pruned, size_t count, struct ivon_error *error)
{
    pruned->tensors = calloc(count, sizeof *pruned->tensors);
    pruned->entry_of = calloc(count, sizeof *pruned->entry_of);
    pruned->is_buffer = calloc(count, sizeof *pruned->is_buffer);
    return pruned->tensors && pruned->entry_of && pruned->is_buffer ? 0 : ivon_error_memory(error);
}

static int pruned_list(struct pruned *pruned, struct tensor_list *list, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(pruned->source), next = 0;
    int code = pruned_allocate(pruned, count + pruned->entry_count + 1, error);
    for (size_t i = 0; i < count && !code; i++) {
        bool ranked = next < pruned->entry_count && pruned->entries[next].mean == i;
        code = pruned_append(pruned, list, i, ivon_source_tensor(pruned->source, i),
                             ranked ? (ptrdiff_t)next++ : -1, false, error);
    }
    for (size_t e = 0; e < pruned->entry_count && !code; e++)
        code = pruned_append_buffer(pruned, list, e, error);
    return code ? code : tensor_list_aliases_of(list, pruned->source, error);
}

/* The source. */

static int pruned_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    const struct pruned *pruned = self;
    ptrdiff_t entry = pruned->entry_of[tensor];
    size_t from = pruned->tensors[tensor];
    size_t size = ivon_dtype_size(ivon_source_tensor(pruned->source, from)->dtype);
    uint64_t scores[PRUNE_TILE];
    int code = ivon_source_read(pruned->source, from, first, count, buffer, error);
    for (size_t at = 0; at < count && entry >= 0 && !code; at += PRUNE_TILE) {
        size_t piece = count - at < PRUNE_TILE ? count - at : PRUNE_TILE;
        code = prune_score(pruned, &pruned->entries[entry], first + at, piece, scores, error);
        for (size_t i = 0; i < piece && !code; i++)
            if (prune_keeps(pruned, (size_t)entry, first + at + i, scores[i]) ==
                pruned->is_buffer[tensor])
                memset((char *)buffer + (at + i) * size, 0, size);
    }
    return code;
}

static const void *pruned_view(void *self, size_t tensor)
{
    const struct pruned *pruned = self;
    return pruned->entry_of[tensor] >= 0
               ? NULL
               : ivon_source_view(pruned->source, pruned->tensors[tensor], 0);
}

/* A mean that is pruned needs the Hessian of its scores, too. */
static void pruned_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    const struct pruned *pruned = self;
    ptrdiff_t entry = pruned->entry_of[tensor];
    ptrdiff_t hessian = entry < 0 ? -1 : pruned->entries[entry].hessian;
    void (*advise)(struct ivon_source *, size_t, size_t, size_t) = advice == MADV_WILLNEED
                                                                       ? ivon_source_will_need
                                                                       : ivon_source_done_with;
    advise(pruned->source, pruned->tensors[tensor], first, count);
    if (hessian >= 0)
        advise(prune_scored(pruned), (size_t)hessian, first, count);
}

static const struct ivon_source_class pruned_class = {pruned_read, pruned_view, pruned_advise,
                                                      pruned_close};

static int prune_check_options(const struct ivon_prune_options *options, struct ivon_error *error)
{
    bool share = !isnan(options->keep);
    if ((unsigned)options->by > IVON_PRUNE_MAGNITUDE || share == !isnan(options->least) ||
        (share && !(options->keep >= 0 && options->keep <= 1)) ||
        (!share && !(options->least >= 0 && isfinite(options->least))))
        return ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "a share of %g to keep, or the least score %g: expected one of them, "
                              "from 0 to 1 or not negative",
                              options->keep, options->least);
    return 0;
}

/* Reduces a covariance with a structure to its diagonal. */
static int prune_reduce(struct pruned *pruned, struct ivon_error *error)
{
    struct ivon_structure structure;
    struct ivon_reduce_options options = ivon_reduce_defaults();
    options.resources.threads = pruned->options.resources.threads;
    int code = ivon_structure_describe(&structure, pruned->source, error);
    if (code || (!structure.blocks && !structure.rank) || pruned->options.by != IVON_PRUNE_SNR)
        return code;
    return ivon_reduce(&pruned->reduced, pruned->source, &options, error);
}

int ivon_prune(struct ivon_source **out, struct ivon_source *source,
               const struct ivon_prune_options *given, struct ivon_error *error)
{
    struct tensor_list list = {0};
    struct pruned *pruned = calloc(1, sizeof *pruned);
    if (!pruned)
        return ivon_error_memory(error);
    pruned->source = source;
    pruned->options = ivon_prune_defaults();
    int code = options_read(&prune_options, &pruned->options, given, error);
    if (!code)
        code = prune_check_options(&pruned->options, error);
    if (!code)
        code = prune_reduce(pruned, error);
    if (!code)
        code = prune_list_entries(pruned, error);
    if (!code)
        code = pruned_list(pruned, &list, error);
    if (!code)
        code = prune_search(pruned, error);
    if (!code)
        code = ivon_source_new(out, &pruned_class, pruned, ivon_source_path(source),
                               ivon_source_header(source), &list, error);
    if (code)
        pruned_close(pruned);
    tensor_list_release(&list);
    return code;
}

const struct ivon_pruned_tensor *ivon_prune_tensors(const struct ivon_source *source, size_t *count)
{
    const struct pruned *pruned = source_self(source, &pruned_class);
    *count = pruned ? pruned->entry_count : 0;
    return pruned ? pruned->report : NULL;
}

double ivon_prune_threshold(const struct ivon_source *source)
{
    const struct pruned *pruned = source_self(source, &pruned_class);
    double square = INFINITY;
    if (pruned && pruned->least != UINT64_MAX)
        memcpy(&square, &pruned->least, sizeof square);
    return sqrt(square);
}
