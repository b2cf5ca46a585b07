/* Examples with their targets, if they have some, of which a block is in memory at a time. */
#ifndef BAYES_LABELLED_H
#define BAYES_LABELLED_H

#include "bayes/outputs.h"
#include "metrics/likelihood/targets.h"
#include "net/runner.h"

struct labelled {
    const struct outputs *outputs; /* of the network, known before labelled_reserve */
    struct ivon_examples *examples;
    uint64_t count;  /* of the examples */
    ptrdiff_t field; /* of the targets; -1: there are none */
    struct feed feed;
    int64_t ignored; /* label that does not count; INT64_MIN: none */
    size_t capacity; /* examples of a block */
    size_t limit;    /* those that the next one has at most; the capacity, unless it is set lower */
    /* The block in memory: */
    uint64_t first;
    size_t present;  /* examples */
    int64_t *labels; /* one of the two, as the likelihood has it; null: no targets */
    float *numbers;
    bool *counts;      /* of each row */
    size_t *positions; /* of each example: its rows that count */
};

/* Pairs the network's inputs with the examples' arrays (feed_open), and finds the targets, if
   `targets` names them. Fails where there are no examples. labelled_close releases it in any
   case. */
int labelled_open(struct labelled *data, const struct ivon_network *network,
                  const struct outputs *outputs, struct ivon_examples *examples,
                  const char *targets, const struct ivon_feed_name *names, size_t name_count,
                  struct ivon_error *error);
void labelled_close(struct labelled *data);

/* Checks the targets, and allocates a block of `capacity` examples. */
int labelled_reserve(struct labelled *data, size_t capacity, int64_t ignored,
                     struct ivon_error *error);

/* Reads the targets of the block that begins at example `first`, checks them, and marks those that
   count. */
int labelled_read_targets(struct labelled *data, uint64_t first, struct ivon_error *error);

/* Reads the examples too. */
int labelled_load(struct labelled *data, struct runner *runner, uint64_t first,
                  struct ivon_error *error);

/* The targets of the block from row `row` on. */
struct row_targets labelled_targets(const struct labelled *data, size_t row);

#endif
