/* The parts of y = (Σ |x|^p)^(1/p), which LpPool and GlobalLpPool share. */
#ifndef NET_OPS_POOLING_LP_H
#define NET_OPS_POOLING_LP_H

#include <math.h>

#include "net/graph/operator.h"

/* For shape rules: reads the attribute p; fails unless it is at least 1. */
static inline int lp_read(const struct net_call *call, struct ivon_error *error)
{
    int64_t p = net_attribute_integer(call->node, "p", 2);
    return p < 1 ? net_fail(call, error, "p is %lld, expected at least 1", (long long)p) : 0;
}

static inline double lp_power(const struct net_call *call)
{
    return (double)net_attribute_integer(call->node, "p", 2);
}

/* |x|^p */
static inline double lp_term(double x, double p)
{
    return p == 2 ? x * x : p == 1 ? fabs(x) : pow(fabs(x), p);
}

/* Its slope over p. */
static inline double lp_term_slope(double x, double p)
{
    double size = p == 2 ? fabs(x) : p == 1 ? x != 0 : pow(fabs(x), p - 1);
    return x < 0 ? -size : size;
}

static inline double lp_root(double sum, double p)
{
    return p == 2 ? sqrt(sum) : p == 1 ? sum : pow(sum, 1 / p);
}

/* The slope of the root at which it is y, times p; 0 at 0, where there is none. */
static inline double lp_root_slope(double y, double p)
{
    return y > 0 ? (p == 2 ? 1 / y : p == 1 ? 1 : pow(y, 1 - p)) : 0;
}

#endif
