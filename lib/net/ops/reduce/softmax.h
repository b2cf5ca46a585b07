/* Softmax of rows, for other files as well. */
#ifndef NET_OPS_REDUCE_SOFTMAX_H
#define NET_OPS_REDUCE_SOFTMAX_H

#include "net/graph/operator.h"

/* y = softmax(x) of each of `rows` rows of `length` elements, one behind the other; y may be x. */
void net_softmax_rows(const float *x, float *y, size_t rows, size_t length);

/* The softmax, or its logarithm, along the middle axis of outer × length × inner elements. */
void net_softmax(const float *x, float *y, size_t outer, size_t length, size_t inner,
                 bool logarithm);

/* Returns the length of the rows that an inferred call of a NET_SOFTMAX row normalizes; 0 if their
   elements do not lie one behind the other. */
size_t net_softmax_row_length(const struct net_call *call);

#endif
