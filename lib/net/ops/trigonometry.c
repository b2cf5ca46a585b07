/* Trigonometric and hyperbolic functions, and their inverses. */
#include "core/vector_trigonometry.h"
#include "net/ops/function.h"

/* clang-format takes products in macro arguments for declarations. */
/* clang-format off */
FUNCTION(sine, vector_sin(x), vector_cos(x))
FUNCTION(cosine, vector_cos(x), -vector_sin(x))
FUNCTION(tangent, vector_tan(x), 1 + y * y)
/* Of those that networks seldom have, by libm in double. */
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
