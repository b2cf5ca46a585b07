/* The gates of Gelu as exporters write them, in several element-wise nodes, and as one function:
   1 + erf(x/√2) and 1 + tanh(√(2/π) (x + 0.044715 x³)). */
#ifndef NET_OPS_ELEMENTWISE_GATE_H
#define NET_OPS_ELEMENTWISE_GATE_H

#include "net/graph/operator.h"

enum { NET_GATE_LINKS_MAX = 6 };

/* An operand of a node: the other one is what the node before computes. */
enum net_gate_operand {
    NET_GATE_NONE,
    NET_GATE_NUMBER,
    NET_GATE_INPUT /* x */
};

struct net_gate_link {
    const char *op;
    enum net_gate_operand operand;
    float number;
    bool first; /* it may be the first operand */
};

/* The function differs from the nodes by less than 2^-20, see gate.c. */
struct net_gate {
    net_unary *unary;
    size_t link_count;
    struct net_gate_link links[NET_GATE_LINKS_MAX];
};

extern const struct net_gate net_gates[]; /* up to one without links */

#endif
