/* Softmax of rows, for other files as well. */
#ifndef NET_OPS_SOFTMAX_H
#define NET_OPS_SOFTMAX_H

#include <stddef.h>

/* y = softmax(x) of each of `rows` rows of `length` elements, one behind the other; y may be x. */
void net_softmax_rows(const float *x, float *y, size_t rows, size_t length);

#endif
