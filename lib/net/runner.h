/*
 * A network over examples: a block of them in memory, of which each thread takes a tile at a time.
 *
 *   examples   |----------- block -----------|----------- block -----------|---- ...
 *   tiles      |--------|--------|--------|####|   the last is filled up by its last example
 *   workers        0        1        0      1
 *
 * Every worker has a network of its own, made ready for tiles of one size; the examples come from a
 * feed, or lie where the caller gathers them.
 */
#ifndef NET_RUNNER_H
#define NET_RUNNER_H

#include "core/meter.h"
#include "net/derivative/derivative.h"
#include "net/feed.h"
#include "net/plan/plan.h"

enum runner_mode {
    RUNNER_FORWARD,  /* outputs alone */
    RUNNER_EXAMPLES, /* and the derivatives of every single example */
    RUNNER_ROWS,     /* and the rows by which weights are used: net_derivative_new_rows */
    RUNNER_SUMS      /* and derivatives summed over the examples of a tile */
};

/* The network of one thread. */
struct runner_worker {
    struct net_plan *plan;             /* of RUNNER_FORWARD; else null */
    struct net_derivative *derivative; /* of the others; else null */
    const void **inputs;               /* of the network, for a tile */
    char *scratch;                     /* for a tile that is filled up, or gathered */
    /* The tile that was run last, and its feed; null: none, or it is outdated. */
    const struct feed *feed;
    size_t tile;
};

struct runner {
    /* Set by the caller. */
    const struct ivon_network *network;
    enum runner_mode mode;
    const bool *wanted; /* of each parameter: derivatives are taken of it; null: of all */
    const struct net_block *const *blocks; /* of RUNNER_EXAMPLES: net_derivative_new; or null */
    const struct net_training *training;   /* of RUNNER_SUMS; null: the network is in evaluation */
    size_t memory;                         /* limit of bytes per worker; 0: none */
    /* Checks type and shape of output 0 for `tile` examples. */
    int (*check)(void *context, const char *network, const struct net_tensor *output, size_t tile,
                 struct ivon_error *error);
    void *check_context;
    /* Set by runner_measure. */
    size_t tile;  /* examples */
    size_t bytes; /* that a worker takes */
    int64_t rows; /* of the output that was checked last */
    bool whole;   /* set by runner_choose_tile: the tile is all examples, which one alone is not */
    /* Set by runner_start. */
    struct runner_worker *workers;
    int threads;
};

/* Bounds of a tile. */
struct runner_bounds {
    size_t batch;    /* examples: it has these, if they are not 0; an error if it cannot */
    size_t examples; /* it has at most these */
    size_t cache;    /* bytes of values that caches hold */
    size_t weights;  /* bytes that every tile reads again: those of a few examples may be as many */
    size_t tiles;    /* for threads to share: there are so many, if there are examples enough */
};

/* A tile that was run. */
struct runner_tile {
    struct runner_worker *worker;
    int thread;       /* of the worker */
    size_t at, count; /* first example within the block; number, without those that fill up */
    const float *f;   /* output 0 */
};

/* Plans tiles of `tile` examples, or of 1 if a derivative cannot separate examples, and calls
   `check`. Sets runner->tile and runner->bytes. */
int runner_measure(struct runner *runner, const struct feed *feed, size_t tile,
                   struct ivon_error *error);

/* The same for a number of examples that suits the bounds, runner->memory and the total number of
   examples: a power of two, unless the network or the caller requires another. A network that gives
   one output for each of all the examples, and not one for one, gets all where outputs alone are
   wanted; sets runner->whole, since its rows may be no examples' all the same. */
int runner_choose_tile(struct runner *runner, const struct feed *feed,
                       const struct runner_bounds *bounds, struct ivon_error *error);

/* Makes workers for tiles of runner->tile examples. runner_stop frees them. */
int runner_start(struct runner *runner, const struct feed *feed, int threads,
                 struct ivon_error *error);
void runner_stop(struct runner *runner);

/* Sets the parameters of one worker, or of all, as net_plan_set_parameters says. */
int runner_worker_set(struct runner_worker *worker, const float *const *parameters,
                      struct ivon_error *error);
int runner_set(struct runner *runner, const float *const *parameters, struct ivon_error *error);

/* Reads a block of examples: feed_load. */
int runner_load(struct runner *runner, struct feed *feed, uint64_t first, size_t count,
                struct ivon_error *error);

/* Returns the number of tiles of the block in memory. */
size_t runner_tile_count(const struct runner *runner, const struct feed *feed);

/* Runs tile `index` of the block by the worker of a thread, unless the worker ran it last. */
int runner_run_tile(struct runner *runner, int thread, const struct feed *feed, size_t index,
                    struct runner_tile *tile, struct ivon_error *error);

/* Runs worker->inputs, which point into worker->scratch; the output is borrowed until the next
   run. */
int runner_run_inputs(struct runner_worker *worker, const float **f, struct ivon_error *error);

/* Runs all tiles of the block, and calls `on_tile` for each, in the thread of its worker. `meter`,
   unless null, counts examples and may stop the run. */
int runner_run_block(struct runner *runner, const struct feed *feed,
                     int (*on_tile)(void *context, const struct runner_tile *tile,
                                    struct ivon_error *error),
                     void *context, struct meter *meter, struct ivon_error *error);

#endif
