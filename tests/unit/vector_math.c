/* Functions of floats against libm's in double, and one instruction set against another. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/vector_trigonometry.h"

enum { BLOCK = 4096 };

/* Between the bits of floats that are tried: primes. */
#ifdef __SANITIZE_ADDRESS__
enum { BETWEEN = 8191 };
#else
enum { BETWEEN = 1021 };
#endif

typedef void loop(float *out, const float *in, size_t count);

#define LOOP(name)                                                                                 \
    static void loop_##name(float *out, const float *in, size_t count)                             \
    {                                                                                              \
        for (size_t i = 0; i < count; i++)                                                         \
            out[i] = vector_##name(in[i]);                                                         \
    }
#ifdef __x86_64__
#define CLONE(name, set)                                                                           \
    __attribute__((target(#set), optimize("O3"))) static void loop_##name##_##set(                 \
        float *out, const float *in, size_t count)                                                 \
    {                                                                                              \
        for (size_t i = 0; i < count; i++)                                                         \
            out[i] = vector_##name(in[i]);                                                         \
    }
#define CLONES(name) CLONE(name, avx2) CLONE(name, avx512f)
#define ROW(name, oracle, error)                                                                   \
    {                                                                                              \
#name, loop_##name, {loop_##name##_avx2, loop_##name##_avx512f }, oracle, error            \
    }
#else
#define CLONES(name)
#define ROW(name, oracle, error)                                                                   \
    {                                                                                              \
#name, loop_##name, {NULL, NULL }, oracle, error                                           \
    }
#endif
#define ALL(name) LOOP(name) CLONES(name)
ALL(exp)
ALL(expm1)
ALL(log)
ALL(log1p)
ALL(tanh)
ALL(sigmoid)
ALL(softplus)
ALL(erf)
ALL(round)
ALL(floor)
ALL(ceil)
ALL(sin)
ALL(cos)
ALL(tan)

static double sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

static double softplus(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x))) + (isnan(x) ? x : 0);
}

/*
 * Bounds: in each function the last operation rounds by 1/2 ulp, and what enters it carries the
 * rounding of the reduced argument and of the polynomial (about 1/4 each); expm1 adds a
 * cancellation by at most a factor of 2 next to log(2)/2; tanh and sigmoid divide (two more
 * roundings of up to one ulp of the quotient each, where it is next above a power of two). Libm's
 * own error in double, 2^-29 ulp, does not show. Sine, cosine and tangent are taken in double:
 * their reduced arguments are right to 2^-57 where they are 2^-29 at least, that is to 2^-5 ulp.
 */
static const struct {
    const char *name;
    loop *loop, *clones[2];
    double (*oracle)(double);
    double error; /* ulp */
} functions[] = {
    ROW(exp, exp, 1),           ROW(expm1, expm1, 1.5), ROW(log, log, 1),
    ROW(log1p, log1p, 1),       ROW(tanh, tanh, 2.5),   ROW(sigmoid, sigmoid, 2.5),
    ROW(softplus, softplus, 2), ROW(erf, erf, 1.5),     ROW(round, rint, 0),
    ROW(floor, floor, 0),       ROW(ceil, ceil, 0),     ROW(sin, sin, 0.6),
    ROW(cos, cos, 0.6),         ROW(tan, tan, 0.6),
};

enum { FUNCTION_COUNT = sizeof functions / sizeof functions[0] };

/* The distance of neighbouring floats at x. */
static double ulp(double x)
{
    int exponent;
    (void)frexp(x, &exponent);
    return exponent < -125 ? 0x1p-149 : ldexp(1, exponent - 24);
}

/* NaN for NaN; zeros with their sign and infinities exactly, where double rounds to one; else
   within `error` ulp. */
static bool close_to(float found, double exact, double error)
{
    float nearest = (float)exact;
    if (isnan(exact))
        return isnan(found);
    if (nearest == 0 && fabs(exact) > 0x1p-151)
        return fabsf(found) <= FLT_TRUE_MIN && signbit(found) == signbit(nearest);
    if (nearest == 0 || isinf(exact))
        return vector_bits(found) == vector_bits(nearest);
    if (isinf(nearest))
        return isinf(found) || fabsf(found) == FLT_MAX;
    return fabs((double)found - exact) <= error * ulp(exact);
}

static void check(size_t function, const float *in, size_t count)
{
    static float out[BLOCK], clone[BLOCK];
    functions[function].loop(out, in, count);
    for (size_t i = 0; i < count; i++) {
        double exact = functions[function].oracle((double)in[i]);
        if (!close_to(out[i], exact, functions[function].error))
            fail_msg("%s(%a) = %a, expected %a", functions[function].name, (double)in[i],
                     (double)out[i], exact);
    }
#ifdef __x86_64__
    const bool supported[] = {__builtin_cpu_supports("avx2"), __builtin_cpu_supports("avx512f")};
    for (size_t j = 0; j < 2; j++) {
        if (!supported[j])
            continue;
        functions[function].clones[j](clone, in, count);
        for (size_t i = 0; i < count; i++)
            if (vector_bits(clone[i]) != vector_bits(out[i]) && !isnan(out[i]))
                fail_msg("%s(%a) = %a, on a wider instruction set %a", functions[function].name,
                         (double)in[i], (double)out[i], (double)clone[i]);
    }
#endif
}

/* Floats of all sizes, of both signs, NaNs with all kinds of payloads among them. */
static void sweeps_all_floats(void **state)
{
    (void)state;
    static float in[BLOCK];
    for (size_t f = 0; f < FUNCTION_COUNT; f++)
        for (uint64_t bits = f; bits < UINT64_C(1) << 32;) {
            size_t count = 0;
            for (; count < BLOCK && bits < UINT64_C(1) << 32; bits += BETWEEN)
                in[count++] = vector_float((uint32_t)bits);
            check(f, in, count);
        }
}

static void near_angles_have_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < vector_bits(VECTOR_NEAR); bits += BETWEEN)
        for (uint32_t sign = 0; sign < 2; sign++) {
            float x = vector_float(bits | sign << 31);
            assert_int_equal(vector_bits(vector_sin_near(x)), vector_bits(vector_sin(x)));
            assert_int_equal(vector_bits(vector_cos_near(x)), vector_bits(vector_cos(x)));
            assert_int_equal(vector_bits(vector_tan_near(x)), vector_bits(vector_tan(x)));
        }
}

/* Where formulas change, and where results overflow, underflow or saturate: 2000 neighbours
   each. */
static void meets_the_edges(void **state)
{
    (void)state;
    static const float edges[] = {
        0,           FLT_MIN,  FLT_MAX,     INFINITY,   1,           2,           0x1p-25f,
        0x1p-24f,    0x1p-12f, 0.34657359f, 0.6931472f, 1.0397208f,  0.92f,       3.92f,
        4,           9.01f,    10,          17.32f,     30,          87.33f,      88.72284f,
        89,          103.28f,  103.97f,     105,        0.70710678f, 1.41421356f, 0.41421356f,
        0.29289322f, 0.5f,     1.5f,        2.5f,       8388608,     16777216};
    static float in[2000];
    for (size_t f = 0; f < FUNCTION_COUNT; f++)
        for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
            for (uint32_t sign = 0; sign < 2; sign++) {
                for (uint32_t j = 0; j < 2000; j++)
                    in[j] = vector_float((vector_bits(edges[i]) + j - 1000) ^ sign << 31);
                check(f, in, 2000);
            }
}

static void raises_to_powers(void **state)
{
    (void)state;
    static const float special[] = {0,
                                    1,
                                    2,
                                    3,
                                    0.5f,
                                    1.5f,
                                    1e9f,
                                    1e38f,
                                    FLT_MAX,
                                    FLT_MIN,
                                    FLT_TRUE_MIN,
                                    16777215,
                                    16777216,
                                    16777218,
                                    33554432,
                                    0x1.fffffep-1f,
                                    0x1.000002p+0f,
                                    INFINITY,
                                    NAN};
    enum { SPECIALS = 2 * sizeof special / sizeof special[0] };
    uint64_t random = 88172645463325252U;
    for (uint32_t i = 0; i < 3000000; i++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        float x = vector_float((uint32_t)(random >> 32)), y;
        random = random * 6364136223846793005U + 1442695040888963407U;
        uint32_t other = (uint32_t)(random >> 32);
        if (i < SPECIALS * SPECIALS) {
            x = special[i / SPECIALS / 2] * (i / SPECIALS % 2 ? -1 : 1);
            y = special[i % SPECIALS / 2] * (i % 2 ? -1 : 1);
        } else if (i % 3 == 0) { /* anything to anything, mostly overflow */
            y = vector_float(other);
        } else if (i % 3 == 1) { /* a result in range */
            float size = fabsf(log2f(fabsf(x)));
            y = (float)(int32_t)other * 0x1p-24f / (size > 1 ? size : 1);
        } else { /* half integers */
            y = (float)((int32_t)other >> 24) / 2;
            x = (float)(int32_t)vector_bits(x) * 0x1p-28f;
        }
        /* the double before the last rounding is right to 2^-34: log2's 2^-42 times |y log2 x| */
        double exact = pow((double)x, (double)y);
        if (!close_to(vector_pow(x, y), exact, 0.5 + 0x1p-10))
            fail_msg("%a ^ %a = %a, expected %a", (double)x, (double)y, (double)vector_pow(x, y),
                     exact);
    }
}

/* The exponents of PyTorch's own x², x³, sqrt and reciprocal are these operations. */
static void rounds_simple_powers(void **state)
{
    (void)state;
    for (uint64_t bits = 1; bits < 0x7f800000; bits += 9 * BETWEEN) {
        float x = vector_float((uint32_t)bits);
        double wide = (double)x;
        assert_true(vector_pow(x, 2) == x * x);
        assert_true(vector_pow(-x, 3) == (float)(-wide * wide * wide));
        assert_true(vector_pow(x, 0.5f) == sqrtf(x));
        assert_true(vector_pow(-x, -1) == -1 / x);
        assert_true(vector_pow(-x, 1) == -x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweeps_all_floats),    cmocka_unit_test(near_angles_have_the_same_bits),
        cmocka_unit_test(meets_the_edges),      cmocka_unit_test(raises_to_powers),
        cmocka_unit_test(rounds_simple_powers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
