/*
 * Dropout in training (Srivastava et al., JMLR 2014): each element x becomes x/(1 − p), or 0 with
 * probability p, so that its mean stays ("inverted" dropout). The graph stays the one for
 * evaluation, in which Dropout passes its input on; a plan for training (net/graph/training.h)
 * drops. Which elements are dropped is for the caller of its runs to say (struct net_masks): a mask
 * belongs to an example, wherever in a run that stands.
 */
#ifndef NET_GRAPH_DROPOUT_H
#define NET_GRAPH_DROPOUT_H

#include "net/graph/graph.h"

/* One Dropout that drops. Its input of n examples is outer × n × inner. */
struct net_dropout {
    size_t node;      /* of the network */
    const char *name; /* of its output; borrowed */
    double ratio;     /* p, above 0 and below 1 */
    size_t outer, inner;
};

/* Elements of an example. */
static inline size_t net_dropout_size(const struct net_dropout *dropout)
{
    return dropout->outer * dropout->inner;
}

struct net_dropouts {
    struct net_dropout *items; /* in the order of nodes */
    size_t count;
};

/* Random words for a run: one for each of elements [first, first + count) of its example number
   `example`, `first` being a multiple of NET_MASK_PIECE and `count` at most that. An element whose
   word is below p 2^32 is dropped. */
struct net_masks {
    void (*words)(void *context, const struct net_dropout *dropout, size_t example, size_t first,
                  size_t count, uint32_t *words);
    void *context;
};

enum { NET_MASK_PIECE = 1024 };

/*
 * Finds the Dropout nodes of a network: with this ratio, as a float, or, where it is NaN, each
 * node's own, of which those of 0 are left out. A node that is in training by its own input is so
 * no more. Fails where there is none, or where a ratio is no constant from 0 to below 1. Their
 * shapes are set by net_dropouts_place (net/plan/dropout.h).
 */
int net_dropouts_find(struct net_dropouts *dropouts, struct ivon_network *network, double ratio,
                      struct ivon_error *error);
void net_dropouts_release(struct net_dropouts *dropouts);

/* The one that is this node, and has a place; or null. */
const struct net_dropout *net_dropouts_at(const struct net_dropouts *dropouts, size_t node);

#endif
