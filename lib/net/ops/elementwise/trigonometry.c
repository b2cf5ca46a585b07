/* Trigonometric and hyperbolic functions, and their inverses. */
#include "core/vector_trigonometry.h"
#include "net/ops/elementwise/function.h"

/* Sin, Cos, Tan. */

IVON_DISPATCH static bool all_near(const float *x, size_t count)
{
    uint32_t far = 0;
    for (size_t i = 0; i < count; i++)
        far |= vector_abs(x[i]) < VECTOR_NEAR ? 0U : 1U;
    return !far;
}

#define PERIODIC(name, function)                                                                   \
    IVON_DISPATCH static void name##_near(float *out, const float *in, size_t count)               \
    {                                                                                              \
        BLOCK_EACH(count)                                                                          \
        {                                                                                          \
            out[i] = function##_near(in[i]);                                                       \
        }                                                                                          \
    }                                                                                              \
    static void name##_floats(float *out, const float *in, size_t count)                           \
    {                                                                                              \
        if (all_near(in, count))                                                                   \
            name##_near(out, in, count);                                                           \
        else                                                                                       \
            for (size_t i = 0; i < count; i++)                                                     \
                out[i] = function(in[i]);                                                          \
    }
PERIODIC(sine, vector_sin)
PERIODIC(cosine, vector_cos)
PERIODIC(tangent, vector_tan)

static void sine_slope(float *out, const struct block *block, size_t which)
{
    (void)which;
    cosine_floats(out, block->operands[0], block->count);
}
BLOCK_DERIVATIVES(sine)

static void cosine_slope(float *out, const struct block *block, size_t which)
{
    (void)which;
    sine_floats(out, block->operands[0], block->count);
    for (size_t i = 0; i < block->count; i++)
        out[i] = -out[i];
}
BLOCK_DERIVATIVES(cosine)

static void tangent_slope(float *out, const struct block *block, size_t which)
{
    (void)which;
    for (size_t i = 0; i < block->count; i++)
        out[i] = 1 + block->output[i] * block->output[i];
}
BLOCK_DERIVATIVES(tangent)

/* Functions that networks seldom have, by libm in double. */

/* clang-format takes products in macro arguments for declarations. */
/* clang-format off */
FUNCTION(arc_sine, (float)asin((double)x), 1 / sqrtf((1 - x) * (1 + x)))
FUNCTION(arc_cosine, (float)acos((double)x), -1 / sqrtf((1 - x) * (1 + x)))
FUNCTION(arc_tangent, (float)atan((double)x), 1 / (1 + x * x))
FUNCTION(hyperbolic_sine, (float)sinh((double)x), (float)cosh((double)x))
FUNCTION(hyperbolic_cosine, (float)cosh((double)x), (float)sinh((double)x))
FUNCTION(area_sine, (float)asinh((double)x), 1 / sqrtf(1 + x * x))
FUNCTION(area_cosine, (float)acosh((double)x), 1 / sqrtf((x - 1) * (x + 1)))
FUNCTION(area_tangent, (float)atanh((double)x), 1 / ((1 - x) * (1 + x)))
/* clang-format on */

const struct net_operator net_trigonometry_operators[] = {
    FLOAT_ROW("Sin", 7, sine),
    FLOAT_ROW("Cos", 7, cosine),
    FLOAT_ROW("Tan", 7, tangent),
    FLOAT_ROW("Asin", 7, arc_sine),
    FLOAT_ROW("Acos", 7, arc_cosine),
    FLOAT_ROW("Atan", 7, arc_tangent),
    FLOAT_ROW("Sinh", 9, hyperbolic_sine),
    FLOAT_ROW("Cosh", 9, hyperbolic_cosine),
    FLOAT_ROW("Asinh", 9, area_sine),
    FLOAT_ROW("Acosh", 9, area_cosine),
    FLOAT_ROW("Atanh", 9, area_tangent),
    {0},
};
