/*
 * Dropout in a training, by address (core/random.h): the word of element e of example n in epoch t,
 * at a step's weight sample s, is half e mod 8, low halves of words before high ones, of block
 *     n ⌈size/8⌉ + ⌊e/8⌋
 * of the stream (seed, t, "/dropout/s/NAME"), a name that no tensor has; `size` is the number of an
 * example's elements, and NAME that of the node's output. So a mask depends neither on threads,
 * tiles and batches nor on where a training was interrupted.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"
#include "net/plan/dropout.h"
#include "train/trainer/private.h"

enum { BLOCK_WORDS = 4, BLOCK_HALVES = 2 * BLOCK_WORDS, NAME_MAX_BYTES = 512 };

int dropout_check_options(const struct ivon_train_options *options, struct ivon_error *error)
{
    double ratio = options->dropout;
    return isnan(ratio) || (ratio >= 0 && ratio < 1)
               ? 0
               : ivon_error_set(error, IVON_ERROR_ARGUMENT,
                                "a dropout of %g, expected a number from 0 to below 1", ratio);
}

/* The shapes of the inputs for `tile` examples. */
static int dropout_shapes(const struct feed *feed, int64_t tile, struct net_tensor **shapes,
                          struct ivon_error *error)
{
    *shapes = calloc(feed->network->input_count + 1, sizeof **shapes);
    return *shapes ? feed_shapes(feed, tile, *shapes, error) : ivon_error_memory(error);
}

int dropout_place(struct ivon_trainer *trainer, struct ivon_error *error)
{
    const struct feed *feed = &trainer->data.feed;
    struct net_tensor *one = NULL, *two = NULL;
    struct net_dropouts *dropouts = net_training_dropouts(trainer->training);
    if (!dropouts->count)
        return 0;
    int code = dropout_shapes(feed, 1, &one, error);
    if (!code && feed->fixed != 1)
        code = dropout_shapes(feed, 2, &two, error);
    if (!code)
        code = net_dropouts_place(dropouts, trainer->network, one, two, error);
    free(one);
    free(two);
    return code;
}

void dropout_words(void *context, const struct net_dropout *dropout, size_t example, size_t first,
                   size_t count, uint32_t *out)
{
    const struct lane *lane = context;
    const struct chosen *chosen = lane->chosen +
                                  (example < lane->present ? example : lane->present - 1);
    char name[NAME_MAX_BYTES];
    uint64_t words[NET_MASK_PIECE / 2];
    uint64_t blocks = (net_dropout_size(dropout) + BLOCK_HALVES - 1) / BLOCK_HALVES;
    snprintf(name, sizeof name, "/dropout/%u/%s", lane->trainer->sample, dropout->name);
    struct random_stream stream = random_stream_of(lane->trainer->options.seed, chosen->epoch,
                                                   name);
    random_words(&stream, chosen->example * blocks + first / BLOCK_HALVES,
                 (count + BLOCK_HALVES - 1) / BLOCK_HALVES, words);
    for (size_t i = 0; i < count; i++)
        out[i] = (uint32_t)(words[i / 2] >> (i % 2 ? 32 : 0));
}
