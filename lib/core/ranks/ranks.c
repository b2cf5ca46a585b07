#define _GNU_SOURCE
#include "core/ranks.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/ranks/engine.h"
#include "core/ranks/launcher.h"

struct ivon_ranks {
    const struct ranks_engine *engine;
    int rank, count;
    struct ivon_error failure; /* that was agreed on; its code is 0 before */
    bool alone;                /* a failure of this one, which the others did not come for */
};

/* Joining. */

/* The plug-ins lie below the folder of this library, wherever that is. */
static int ranks_plugin(char *path, size_t size, const char *name, struct ivon_error *error)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)ranks_plugin, &info) || !info.dli_fname)
        return ivon_error_set(error, IVON_ERROR_INTERNAL, "cannot find the library's own folder");
    const char *slash = strrchr(info.dli_fname, '/');
    int folder = slash ? (int)(slash - info.dli_fname) : 1;
    int length = snprintf(path, size, "%.*s/ivon/ranks-%s.so", folder, slash ? info.dli_fname : ".",
                          name);
    return length > 0 && (size_t)length < size
               ? 0
               : ivon_error_set(error, IVON_ERROR_INTERNAL, "%s: the name is too long",
                                info.dli_fname);
}

/*
 * Ranks of one machine copy large messages out of one another's memory, as a debugger does, which
 * the limits of a process that is confined (Landlock) forbid: here they go through shared memory.
 * UCX, below MPICH, would take signals over. What the user has set, stays. Libraries read some of
 * these as soon as they are loaded.
 */
static void ranks_configure(void)
{
    static const char *const settings[][2] = {
        {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
        {"OMPI_MCA_btl_sm_use_cma", "0"},
        {"UCX_TLS", "^cma"},
        {"UCX_MAX_RNDV_LANES", "0"}, /* else ranks of one machine meet over TCP instead, and wait
                                        for one another for ever as they leave, sometimes */
        {"UCX_ERROR_SIGNALS", ""},
        {"UCX_WARN_UNUSED_ENV_VARS", "n"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        setenv(settings[i][0], settings[i][1], 0);
}

static int ranks_load(const struct ranks_engine **engine, const struct launcher *launcher,
                      struct ivon_error *error)
{
    char path[PATH_MAX];
    int code = ranks_plugin(path, sizeof path, launcher->engine, error);
    if (code)
        return code;
    ranks_configure();
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays loaded: MPI cannot start twice */
    if (!plugin)
        return ivon_error_set(error, IVON_ERROR_INPUT,
                              "%s started %ld processes, but their MPI cannot be loaded (%s): "
                              "IVON_MPI chooses another, or none",
                              launcher->name, launcher->count, dlerror());
    *engine = dlsym(plugin, RANKS_ENGINE_SYMBOL);
    return *engine && strcmp((*engine)->version, IVON_VERSION) == 0
               ? 0
               : ivon_error_set(error, IVON_ERROR_INPUT, "%s: expected one of version %s", path,
                                IVON_VERSION);
}

int ivon_ranks_open(struct ivon_ranks **out, bool *first, struct ivon_error *error)
{
    struct launcher launcher;
    *out = NULL;
    int code = launcher_find(&launcher, getenv, error);
    *first = !launcher.rank;
    if (code || launcher.count == 1)
        return code;
    struct ivon_ranks *ranks = calloc(1, sizeof *ranks);
    if (!ranks)
        return ivon_error_memory(error);
    code = ranks_load(&ranks->engine, &launcher, error);
    if (!code && !ranks->engine->start(&ranks->rank, &ranks->count))
        code = ivon_error_set(error, IVON_ERROR_INTERNAL, "MPI does not start");
    if (!code && ranks->count != launcher.count)
        code = ivon_error_set(error, IVON_ERROR_ARGUMENT,
                              "%s started %ld processes, of which MPI (%s) finds %d: IVON_MPI "
                              "chooses another",
                              launcher.name, launcher.count, launcher.engine, ranks->count);
    if (code) {
        free(ranks);
        return code;
    }
    if (launcher.patience)
        ranks->engine->watch((int)launcher.patience);
    *first = !ranks->rank;
    *out = ranks;
    return 0;
}

void ivon_ranks_close(struct ivon_ranks *ranks)
{
    if (ranks)
        ranks->engine->finish();
    free(ranks);
}

int ivon_ranks_rank(const struct ivon_ranks *ranks)
{
    return ranks ? ranks->rank : 0;
}

int ivon_ranks_count(const struct ivon_ranks *ranks)
{
    return ranks ? ranks->count : 1;
}

bool ivon_ranks_failed(const struct ivon_ranks *ranks)
{
    return ranks && ranks->failure.code;
}

/* All have made the same calls until they agreed, and none since: the next ones meet again. */
bool ivon_ranks_recover(struct ivon_ranks *ranks)
{
    bool all = !ranks || ranks->failure.code;
    if (ranks)
        ranks->failure = (struct ivon_error){0};
    return all;
}

void ivon_ranks_abort(struct ivon_ranks *ranks, int status)
{
    if (ranks)
        ranks->engine->end(status);
}

/* Agreeing. */

enum { PATIENCE = 5 }; /* seconds that a rank which failed waits for the others */

int ivon_ranks_agree(struct ivon_ranks *ranks, int code, struct ivon_error *error)
{
    if (!ranks)
        return code;
    if (ranks->alone)
        return code;
    if (!ranks->failure.code) {
        struct ivon_error own = {0};
        int first = ranks->engine->least(code ? ranks->rank : ranks->count, code ? PATIENCE : 0);
        ranks->alone = first < 0;
        if (first == ranks->count || ranks->alone)
            return code;
        if (code && error)
            own = *error;
        own.code = code;
        ranks->engine->broadcast(first, &own, sizeof own);
        ranks->failure = own;
    }
    if (error)
        *error = ranks->failure;
    return ranks->failure.code;
}

int ranks_barrier(struct ivon_ranks *ranks, struct ivon_error *error)
{
    return ivon_ranks_agree(ranks, 0, error);
}

/* Copying. */

int ranks_broadcast(struct ivon_ranks *ranks, int root, void *data, size_t size,
                    struct ivon_error *error)
{
    int code = ivon_ranks_agree(ranks, 0, error);
    if (!code && ranks)
        ranks->engine->broadcast(root, data, size);
    return code;
}

int ivon_ranks_share(struct ivon_ranks *ranks, void *data, size_t size, struct ivon_error *error)
{
    return ranks_broadcast(ranks, 0, data, size, error);
}

int ranks_exchange(struct ivon_ranks *ranks, const void *data, size_t size, void *all,
                   struct ivon_error *error)
{
    int code = ivon_ranks_agree(ranks, 0, error);
    if (!code && ranks)
        ranks->engine->exchange(data, size, all);
    else if (!code)
        memcpy(all, data, size);
    return code;
}

void ranks_send(struct ivon_ranks *ranks, int to, const void *data, size_t size)
{
    if (ranks)
        ranks->engine->send(to, data, size);
}

void ranks_receive(struct ivon_ranks *ranks, int from, void *data, size_t size)
{
    if (ranks)
        ranks->engine->receive(from, data, size);
}

void ranks_bytes_release(struct ranks_bytes *bytes)
{
    free(bytes->data);
    free(bytes->sizes);
    *bytes = (struct ranks_bytes){0};
}

/* Finds the sizes of all, and memory for their bytes where they are kept. */
static int ranks_bytes_new(struct ivon_ranks *ranks, size_t size, bool kept,
                           struct ranks_bytes *all, struct ivon_error *error)
{
    size_t count = (size_t)ivon_ranks_count(ranks);
    *all = (struct ranks_bytes){.sizes = calloc(count, sizeof *all->sizes)};
    int code = ivon_ranks_agree(ranks, all->sizes ? 0 : ivon_error_memory(error), error);
    if (!code)
        code = ranks_exchange(ranks, &size, sizeof size, all->sizes, error);
    for (size_t r = 0; r < count && all->sizes && !code; r++)
        if (__builtin_add_overflow(all->size, all->sizes[r], &all->size))
            code = ivon_error_memory(error); /* on all alike */
    if (!code && kept && !(all->data = malloc(all->size + 1)))
        code = ivon_error_memory(error);
    code = ivon_ranks_agree(ranks, code, error);
    if (code)
        ranks_bytes_release(all);
    return code;
}

int ranks_gather(struct ivon_ranks *ranks, const void *data, size_t size, struct ranks_bytes *all,
                 struct ivon_error *error)
{
    bool kept = !ivon_ranks_rank(ranks);
    int code = ranks_bytes_new(ranks, size, kept, all, error);
    if (code)
        return code;
    if (kept && size)
        memcpy(all->data, data, size);
    if (!kept)
        ranks_send(ranks, 0, data, size);
    size_t at = size;
    for (int r = 1; kept && r < ivon_ranks_count(ranks); at += all->sizes[r++])
        ranks_receive(ranks, r, all->data + at, all->sizes[r]);
    if (!kept)
        ranks_bytes_release(all);
    return 0;
}

int ranks_gather_all(struct ivon_ranks *ranks, const void *data, size_t size,
                     struct ranks_bytes *all, struct ivon_error *error)
{
    int code = ranks_bytes_new(ranks, size, true, all, error);
    size_t at = 0;
    for (int r = 0; r < ivon_ranks_count(ranks) && !code; at += all->sizes[r++]) {
        if (r == ivon_ranks_rank(ranks) && size)
            memcpy(all->data + at, data, size);
        if (ranks)
            ranks->engine->broadcast(r, all->data + at, all->sizes[r]);
    }
    return code;
}

int ranks_complete(struct ivon_ranks *ranks, void *array, size_t size, struct ivon_error *error)
{
    struct ranks_bytes parts;
    if (!ranks)
        return 0;
    int code = ranks_bytes_new(ranks, size, false, &parts, error);
    size_t at = 0;
    for (int r = 0; r < ranks->count && !code; at += parts.sizes[r++])
        ranks->engine->broadcast(r, (char *)array + at, parts.sizes[r]);
    ranks_bytes_release(&parts);
    return code;
}

/* Ranges and sums. */

struct ranks_range ranks_range(const struct ivon_ranks *ranks, size_t count)
{
    size_t all = (size_t)ivon_ranks_count(ranks), rank = (size_t)ivon_ranks_rank(ranks);
    size_t each = count / all, more = count % all; /* the first `more` ranks have one more */
    size_t first = rank * each + (rank < more ? rank : more);
    return (struct ranks_range){first, first + each + (rank < more)};
}

int ranks_owner(const struct ivon_ranks *ranks, size_t count, size_t index)
{
    size_t all = (size_t)ivon_ranks_count(ranks), each = count / all, more = count % all;
    size_t long_ones = more * (each + 1); /* indices of the ranks that have one more */
    return (int)(index < long_ones ? index / (each + 1) : more + (index - long_ones) / each);
}

struct ranks_addition {
    size_t size, lane_size; /* of a number of the sum, and of a lane */
    void (*add)(void *sum, const void *lane, size_t count);
};

static void ranks_add_doubles(void *sum, const void *lane, size_t count)
{
    double *to = sum;
    const double *from = lane;
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

static void ranks_add_wide(void *sum, const void *lane, size_t count)
{
    double *to = sum;
    const float *from = lane;
    for (size_t i = 0; i < count; i++)
        to[i] += (double)from[i];
}

static void ranks_add_floats(void *sum, const void *lane, size_t count)
{
    float *to = sum;
    const float *from = lane;
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

/* Numbers of a part of a sum, which goes through all ranks: as many parts as ranks, so that all
   have one at hand, but each stays in a cache, and its message takes longer than to begin one. */
static size_t ranks_part(size_t count, int ranks)
{
    const size_t least = 1 << 12, most = 1 << 15;
    size_t part = count / (size_t)ranks;
    return part < least ? least : part > most ? most : part;
}

/* Each rank adds its lanes to a part of the sum and sends it on, while the one before adds to the
   next part; the last rank has the whole. */
static int ranks_sum(struct ivon_ranks *ranks, const struct ranks_addition *addition, void *sum,
                     const void *const *lanes, size_t lane_count, size_t count,
                     struct ivon_error *error)
{
    int rank = ivon_ranks_rank(ranks), last = ivon_ranks_count(ranks) - 1;
    size_t most = ranks_part(count, last + 1);
    int code = ivon_ranks_agree(ranks, 0, error);
    for (size_t at = 0; at < count && !code; at += most) {
        size_t part = count - at < most ? count - at : most;
        size_t offset = at * addition->size, size = part * addition->size;
        if (rank > 0)
            ranks_receive(ranks, rank - 1, (char *)sum + offset, size);
        for (size_t lane = 0; lane < lane_count; lane++)
            addition->add((char *)sum + offset,
                          (const char *)lanes[lane] + at * addition->lane_size, part);
        if (rank < last)
            ranks_send(ranks, rank + 1, (char *)sum + offset, size);
    }
    if (!code && ranks)
        ranks->engine->broadcast(last, sum, count * addition->size);
    return code;
}

int ranks_sum_doubles(struct ivon_ranks *ranks, double *sum, const double *const *lanes,
                      size_t lane_count, size_t count, struct ivon_error *error)
{
    const struct ranks_addition addition = {sizeof(double), sizeof(double), ranks_add_doubles};
    return ranks_sum(ranks, &addition, sum, (const void *const *)lanes, lane_count, count, error);
}

int ranks_sum_floats(struct ivon_ranks *ranks, float *sum, const float *const *lanes,
                     size_t lane_count, size_t count, struct ivon_error *error)
{
    const struct ranks_addition addition = {sizeof(float), sizeof(float), ranks_add_floats};
    return ranks_sum(ranks, &addition, sum, (const void *const *)lanes, lane_count, count, error);
}

int ranks_sum_wide(struct ivon_ranks *ranks, double *sum, const float *const *lanes,
                   size_t lane_count, size_t count, struct ivon_error *error)
{
    const struct ranks_addition addition = {sizeof(double), sizeof(float), ranks_add_wide};
    return ranks_sum(ranks, &addition, sum, (const void *const *)lanes, lane_count, count, error);
}

/* Maps. */

int ranks_round_take(struct ivon_ranks *ranks, const struct ranks_round *round, int code,
                     struct ivon_error *error)
{
    enum { PIECES_MAX = 128 };
    struct ranks_piece pieces[PIECES_MAX];
    int rank = ivon_ranks_rank(ranks);
    code = ivon_ranks_agree(ranks, code, error);
    if (code)
        return code;
    if (!rank)
        code = round->take(round->context, 0, error);
    /* Those whose blocks are here already wait until they are received, even after a failure. */
    for (int r = 1; r < round->present; r++) {
        if (rank && rank != r)
            continue;
        size_t count = round->describe(round->context, r, pieces, PIECES_MAX);
        for (size_t i = 0; i < count && rank; i++)
            ranks_send(ranks, 0, pieces[i].data, pieces[i].size);
        for (size_t i = 0; i < count && !rank; i++)
            ranks_receive(ranks, r, pieces[i].data, pieces[i].size);
        if (!rank && !code)
            code = round->take(round->context, r, error);
    }
    return code;
}
