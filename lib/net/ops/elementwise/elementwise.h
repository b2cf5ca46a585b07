/*
 * Chains of element-wise operators on floats, run block by block so that intermediate values stay
 * in the first-level cache: y = f_n(… f_2(f_1(x, b_1), b_2) …, b_n).
 */
#ifndef NET_OPS_ELEMENTWISE_ELEMENTWISE_H
#define NET_OPS_ELEMENTWISE_ELEMENTWISE_H

#include "net/graph/operator.h"

enum { NET_CHAIN_LINKS_MAX = 32 };

/* Links that other steps know to compute themselves. */
enum net_link_kind {
    NET_LINK_OTHER,
    NET_LINK_SUM,       /* of the running value and the operand */
    NET_LINK_RECTIFIED, /* 0 in place of a value below */
    NET_LINK_LEAST,     /* the operand in place of a value that is not above, unless that is NaN */
    NET_LINK_MOST       /* the operand in place of a value that is not below, unless that is NaN */
};

struct net_chain_link {
    enum net_link_kind kind;
    net_unary *unary; /* or */
    net_binary *binary;
    const struct net_tensor *operand; /* of a binary: the operand that is not the running value */
    bool operand_first;               /* f(operand, running value) */
};

/*
 * 1 to NET_CHAIN_LINKS_MAX links. Every operand, and the input, is broadcast to the output's shape.
 * output->data may be the data of the input, or of any operand that has the output's shape.
 */
struct net_chain {
    const struct net_tensor *input;
    struct net_tensor *output;
    const struct net_chain_link *links;
    size_t link_count;
};

void net_chain_run(const struct net_chain *chain);

/*
 * Sets 1 or 2 links that compute the same bits as an inferred call's forward, with input
 * `running_input` as the running value. Returns their number. Returns 0 if there are none: the
 * operator or type has no links, the input has another shape than the output, or it is also the
 * other operand. Operands are inputs of the call, or lie in call->prepared.
 */
int net_chain_links(const struct net_call *call, size_t running_input,
                    struct net_chain_link links[2]);

#endif
