/* Mod: y = a − q b, with the quotient a/b rounded down, or with fmod towards 0, so that y has the
   sign of b, or of a. ∂y/∂a = 1, ∂y/∂b = −q. */
#include <math.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/elementwise/blockwise.h"

static bool modulo_truncates(const struct net_call *call)
{
    return net_attribute_integer(call->node, "fmod", 0) != 0;
}

static int modulo_infer(struct net_call *call, struct ivon_error *error)
{
    int code = block_expect(call, 0, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
    if (!code)
        code = block_expect(call, 1, 1U << call->inputs[0]->type, error);
    return code ? code : block_infer(call, call->inputs[0]->type, 2, error);
}

static void modulo_integers(void *out, const struct block *block)
{
    bool truncates = modulo_truncates(block->call);
    const int64_t *a = block->operands[0], *b = block->operands[1];
    int64_t *y = out;
    for (size_t i = 0; i < block->count; i++) {
        int64_t divisor = b[i], rest = divisor == -1 ? 0 : a[i] % divisor;
        y[i] = rest && !truncates && (rest < 0) != (divisor < 0) ? rest + divisor : rest;
    }
}

static void modulo_floats(void *out, const struct block *block)
{
    bool truncates = modulo_truncates(block->call);
    const float *a = block->operands[0], *b = block->operands[1];
    float *y = out;
    for (size_t i = 0; i < block->count; i++) {
        float divisor = b[i], rest = fmodf(a[i], divisor);
        if (!truncates && rest == 0)
            rest = copysignf(rest, divisor);
        else if (!truncates && (rest < 0) != (divisor < 0))
            rest += divisor;
        y[i] = rest;
    }
}

/* Divisors are checked before the first division. */
static int modulo_forward(const struct net_call *call, struct ivon_error *error)
{
    const struct net_tensor *divisor = call->inputs[1];
    bool integers = divisor->type == NET_INTEGER;
    for (size_t i = 0; integers && call->outputs[0]->count && i < divisor->count; i++)
        if (((const int64_t *)divisor->data)[i] == 0)
            return net_fail(call, error, "element %zu of its integer divisor is 0", i);
    block_forward(call, integers ? modulo_integers : modulo_floats);
    return 0;
}

IVON_DISPATCH static void modulo_slope(float *out, const struct block *block, size_t which)
{
    const float *a = block->operands[0], *b = block->operands[1], *y = block->output;
    BLOCK_EACH(block->count)
    {
        float quotient = vector_round((a[i] - y[i]) / b[i]);
        out[i] = which ? -quotient : 1;
    }
}
BLOCK_DERIVATIVES(modulo)

const struct net_operator net_modulo_operators[] = {
    {.name = "Mod",
     .since = 10,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .attributes = {{"fmod", NET_INT}},
     .infer = modulo_infer,
     .forward = modulo_forward,
     .backward = modulo_backward,
     .tangent = modulo_tangent},
    {0},
};
