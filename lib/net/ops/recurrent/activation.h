/* The functions that LSTM, GRU and RNN may apply to their gates and states. */
#ifndef NET_OPS_RECURRENT_ACTIVATION_H
#define NET_OPS_RECURRENT_ACTIVATION_H

#include "net/graph/operator.h"

struct activation {
    int kind; /* a row of the table in activation.c */
    float alpha, beta;
};

/* Sets the function of that name, in any case, with the numbers that it has by default; false if
   there is none. */
bool activation_find(const char *name, struct activation *function);

/* For shape rules: sets the `count` functions of the attributes activations, activation_alpha and
   activation_beta, or those named in `otherwise`, which has as many. Numbers are taken from the
   lists by the functions that have any, in their order. */
int activation_read(const struct net_call *call, const char *const *otherwise, size_t count,
                    struct activation *functions, struct ivon_error *error);

/* values[i] = f(values[i] clipped to [-clip, clip]). Where `slopes` is not null, slopes[i] = the
   derivative there: 0 where it was clipped. */
void activation_run(const struct activation *function, float clip, float *values, float *slopes,
                    size_t count);

#endif
