/* The equation of an Einsum, at the shapes of its inputs. */
#ifndef NET_OPS_EINSUM_EQUATION_H
#define NET_OPS_EINSUM_EQUATION_H

#include "net/graph/operator.h"
#include "net/ops/einsum/contraction.h"

struct einsum {
    size_t extent[CONTRACTION_AXES_MAX];
    size_t operands;
    /* Floats of the workspace: scratch memory, and each of two intermediate tensors. */
    size_t scratch, tensor;
    /* Of the operands, then of the output. */
    struct contraction_view views[];
};

/* Reads the attribute `equation` into call->prepared, and sets the shape of the output. */
int einsum_equation(struct net_call *call, struct ivon_error *error);

#endif
