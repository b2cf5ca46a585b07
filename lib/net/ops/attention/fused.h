/*
 * Attention that a graph writes as several nodes: softmax(f(scale q kᵀ)) v, where f is a few
 * element-wise edits of the scores, such as a factor and a mask. Plans put one call of this in the
 * nodes' place (net/plan/attention.c).
 */
#ifndef NET_OPS_ATTENTION_FUSED_H
#define NET_OPS_ATTENTION_FUSED_H

#include "net/ops/attention/attention.h"
#include "net/ops/elementwise/elementwise.h"

/* A chain, or a choice between the score and another number. Operands are broadcast to a shape that
   has the scores in their order. */
struct attention_edit {
    struct net_chain chain; /* its output gives the shape; links: null for a choice */
    struct net_chain_link *links;
    const struct net_tensor *shape, *condition, *other;
    bool kept; /* where the condition holds, the score is kept; else elsewhere */
};

enum { ATTENTION_EDITS_MAX = 6 };

struct attention_fused {
    struct attention attention;
    const struct net_tensor *q, *k, *v, *y;
    struct attention_edit edits[ATTENTION_EDITS_MAX]; /* in the order in which they are made */
    size_t edit_count;
    bool nan_to_zero; /* of probabilities */
    size_t offset;    /* bytes, from the workspace's start to the operands of edits */
    int64_t *seen;    /* of each query: keys from this on have probability 0; null: not known */
};

/* Sets `seen` from choices whose conditions are known. Fails without memory. */
int attention_fused_look(struct attention_fused *fused, struct ivon_error *error);

/* Returns the bytes of workspace. */
size_t attention_fused_plan(struct attention_fused *fused);

void attention_fused_run(const struct attention_fused *fused, void *workspace);

void attention_fused_free(struct attention_fused *fused);

#endif
