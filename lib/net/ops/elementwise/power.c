/* Pow: y = a^b, of the type of a. Either may be floats or integers. */
#include <string.h>

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/elementwise/blockwise.h"

/* Floats. */

/* Returns the value that all elements have, or NaN if they differ. */
static float common(const float *b, size_t count)
{
    uint32_t differ = 0, first = count ? vector_bits(b[0]) : 0;
    for (size_t i = 0; i < count; i++)
        differ |= vector_bits(b[i]) ^ first;
    return differ ? NAN : vector_float(first);
}

/* Computes the exponents 1, 2 and 3 with the bits of vector_pow; returns false for others. */
IVON_DISPATCH static bool power_by_constant(float *out, const float *a, float b, size_t count)
{
    if (b == 1) {
        memmove(out, a, count * sizeof *out);
    } else if (b == 2) {
        BLOCK_EACH(count)
        {
            out[i] = a[i] * a[i];
        }
    } else if (b == 3) {
        BLOCK_EACH(count)
        {
            out[i] = (float)((double)a[i] * (double)a[i] * (double)a[i]);
        }
    } else {
        return false;
    }
    return true;
}

IVON_DISPATCH static void power_by_floats(float *out, const float *a, const float *b, float offset,
                                          size_t count)
{
    BLOCK_EACH(count)
    {
        out[i] = vector_pow(a[i], b[i] + offset);
    }
}

static void power_floats(float *out, const float *a, const float *b, size_t count)
{
    if (!power_by_constant(out, a, common(b, count), count))
        power_by_floats(out, a, b, 0, count);
}

/* The exponents as floats. */
static const float *exponents(const struct block *block, float converted[BLOCK_FLOATS])
{
    const int64_t *b = block->operands[1];
    if (block->call->inputs[1]->type == NET_FLOAT)
        return block->operands[1];
    for (size_t i = 0; i < block->count; i++)
        converted[i] = (float)b[i];
    return converted;
}

static void power_mixed(void *out, const struct block *block)
{
    float converted[BLOCK_FLOATS];
    power_floats(out, block->operands[0], exponents(block, converted), block->count);
}

/* ∂y/∂a = b a^(b−1), 0 where b = 0; ∂y/∂b = y log a, 0 where a = 0 and b is not below. */

IVON_DISPATCH static void slope_in_base(float *out, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = b[i] == 0 ? 0 : b[i] * out[i];
}

IVON_DISPATCH static void slope_in_exponent(float *out, const float *a, const float *b,
                                            const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float slope = y[i] * vector_log(a[i]);
        out[i] = (a[i] == 0) & (b[i] >= 0) ? 0 : slope;
    }
}

static void power_slope(float *out, const struct block *block, size_t which)
{
    float converted[BLOCK_FLOATS];
    const float *a = block->operands[0], *b = exponents(block, converted);
    if (which) {
        slope_in_exponent(out, a, b, block->output, block->count);
        return;
    }
    if (!power_by_constant(out, a, common(b, block->count) - 1, block->count))
        power_by_floats(out, a, b, -1, block->count);
    slope_in_base(out, b, block->count);
}
BLOCK_DERIVATIVES(power)

/* Integers. */

/* Modulo 2^64. For negative b the result is rounded to 0, and 0^b is 0. */
static int64_t integer_power(int64_t a, int64_t b)
{
    uint64_t result = 1, square = (uint64_t)a;
    if (b < 0)
        return a == 1 ? 1 : a != -1 ? 0 : b % 2 ? -1 : 1;
    for (; b; b /= 2, square *= square)
        if (b % 2)
            result *= square;
    return (int64_t)result;
}

static void power_integers(void *out, const struct block *block)
{
    const int64_t *a = block->operands[0], *b = block->operands[1];
    int64_t *y = out;
    for (size_t i = 0; i < block->count; i++)
        y[i] = integer_power(a[i], b[i]);
}

static void power_integers_by_floats(void *out, const struct block *block)
{
    const int64_t *a = block->operands[0];
    const float *b = block->operands[1];
    int64_t *y = out;
    for (size_t i = 0; i < block->count; i++) {
        int64_t whole = block_truncate(b[i]);
        y[i] = (float)whole == b[i] ? integer_power(a[i], whole)
                                    : block_truncate(vector_pow((float)a[i], b[i]));
    }
}

static int power_infer(struct net_call *call, struct ivon_error *error)
{
    int code = 0;
    for (size_t i = 0; i < 2 && !code; i++)
        code = block_expect(call, i, 1U << NET_FLOAT | 1U << NET_INTEGER, error);
    return code ? code : block_infer(call, call->inputs[0]->type, 2, error);
}

static int power_forward(const struct net_call *call, struct ivon_error *error)
{
    (void)error;
    bool floats = call->inputs[0]->type == NET_FLOAT;
    if (call->inputs[1]->type == NET_FLOAT && floats)
        block_chain(call);
    else if (call->inputs[1]->type == NET_FLOAT)
        block_forward(call, power_integers_by_floats);
    else
        block_forward(call, floats ? power_mixed : power_integers);
    return 0;
}

const struct net_operator net_power_operators[] = {
    {.name = "Pow",
     .since = 1,
     .inputs_min = 2,
     .inputs_max = 2,
     .outputs_max = 1,
     .flags = NET_IN_PLACE,
     .infer = power_infer,
     .forward = power_forward,
     .backward = power_backward,
     .tangent = power_tangent,
     .binary = power_floats},
    {0},
};
