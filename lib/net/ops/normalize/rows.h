/*
 * Normalization by statistics of rows of n elements: y = x̂ scale + b with x̂ = (x − mean) r, where
 * mean, if any, and r are of the row itself. LayerNormalization, InstanceNormalization,
 * GroupNormalization, RMSNormalization, LpNormalization and others differ in what a row is, in r,
 * and in the elements that share an element of scale and b.
 */
#ifndef NET_OPS_NORMALIZE_ROWS_H
#define NET_OPS_NORMALIZE_ROWS_H

#include "net/graph/operator.h"

/* 1 / r */
enum rows_measure {
    ROWS_DEVIATION,      /* √(var + ε), of the variance about the mean */
    ROWS_DEVIATION_PLUS, /* √var + ε */
    ROWS_ROOT_MEAN,      /* √(mean of squares + ε); there is no mean */
    ROWS_LENGTH,         /* √(sum of squares); r of a row of zeros is 0 */
    ROWS_SUM,            /* the sum of sizes; the same */
};

enum { ROWS_INPUTS_MAX = 9 };

/* In call->prepared. Inputs and outputs that a node lacks are NET_NONE. */
struct net_rows {
    size_t count, length;
    enum rows_measure measure;
    double epsilon;
    size_t scale, bias; /* inputs */
    /* Element i of row k takes element (k % cycle) (length / segment) + i / segment of an
       operand. */
    size_t cycle, segment;
    /* For rows that are sums of several inputs: adds a row's terms to `to`, of which null ones are
       zero, and returns false if all are null; and the adjoint of that. `arrays` are those of the
       inputs. Null: the rows are those of input 0. */
    bool (*add_terms)(const struct net_call *call, const float *const *arrays, size_t row,
                      float *to);
    void (*spread)(const struct net_call *call, const float *d, size_t row, float *const *arrays);
    /* Outputs: an element of each row, the mean being 0 if there is none; of the shape of
       input 0. */
    size_t mean, inverse, sum;
    /* The place where each row begins, and those of its elements from there, if rows do not lie one
       after the other; else null. */
    size_t *first, *element;
};

/* For shape rules: prepares rows that have no operands and no further outputs, and sets the
   workspace. With `scattered`, first and element are arrays to be set. */
int net_rows_prepare(struct net_call *call, size_t count, size_t length, bool scattered,
                     struct net_rows **rows, struct ivon_error *error);

/* The functions of the operators' rows. */
#define NET_ROWS_FUNCTIONS                                                                         \
    .forward = net_rows_forward, .backward = net_rows_backward, .tangent = net_rows_tangent

int net_rows_forward(const struct net_call *call, struct ivon_error *error);
void net_rows_backward(const struct net_call *call, const float *const *output_adjoints,
                       float *const *input_adjoints);
void net_rows_tangent(const struct net_call *call, const float *const *input_tangents,
                      float *const *output_tangents);

#endif
