/* A predictor's run over its data (run.c), whose results leave it piece by piece (results.c). */
#ifndef BAYES_PREDICT_RUN_H
#define BAYES_PREDICT_RUN_H

#include "bayes/predict/private.h"

struct wave_sample;

struct run {
    struct ivon_predictor *predictor;
    int threads;
    struct wave_sample *samples;   /* predictor->wave */
    struct linearised *linearised; /* null: the network is not */
    uint64_t drawn;                /* samples, with those of the wave */
    uint64_t *set;  /* of each thread: the number of the drawn sample, from 1, that its
                                    network has the weights of */
    uint64_t first; /* of the block */
    size_t count;
    size_t piece;   /* first example of the piece within the block */
    uint64_t round; /* first example of rank 0's block, in this round of all ranks' */
    int (*on_block)(void *context, const struct ivon_predictions *predictions,
                    struct ivon_error *error);
    void *context; /* of on_block */
    /* The samples that are being added: */
    size_t member, pass;
    double weight;
    size_t wave;
    bool at_mean; /* only the outputs at the mean are wanted */
};

static inline size_t predict_run_tiles(const struct run *run, size_t examples)
{
    return (examples + run->predictor->runner.tile - 1) / run->predictor->runner.tile;
}

/* Returns how many examples the piece has that begins at one of the block. */
static inline size_t predict_run_piece(const struct run *run, size_t first)
{
    size_t left = run->count - first;
    return left < run->predictor->piece ? left : run->predictor->piece;
}

/* Sets the first row of tile `tile` of the block, and returns how many rows it has. */
static inline size_t predict_run_rows(const struct run *run, size_t tile, size_t *row)
{
    size_t tokens = run->predictor->outputs.tokens, most = run->predictor->runner.tile * tokens;
    *row = tile * most;
    size_t left = run->count * tokens - *row;
    return left < most ? left : most;
}

/* Returns where the matrix of log-likelihoods has a sample's value of an example: it stands piece
   by piece, so that each can be handed out by itself. */
static inline size_t predict_run_place(const struct run *run, uint64_t sample, size_t example)
{
    const struct ivon_predictor *predictor = run->predictor;
    size_t first = example / predictor->piece * predictor->piece;
    return first * predictor->member_count * predictor->passes +
           (size_t)sample * predict_run_piece(run, first) + example - first;
}

/* Computes the results of tile i of the piece; a job of `thread`, whose context is the run. */
int predict_run_finish_tile(void *context, size_t i, int thread, struct ivon_error *error);

/* Computes the results of a piece, unless that is `finished`, measures them and hands them out. */
int predict_run_hand_out(struct run *run, bool finished, struct ivon_error *error);

/* Adds the losses of the block's rows at the mean, as the metrics have the NLL. */
void predict_run_measure_at_mean(const struct run *run);

#endif
