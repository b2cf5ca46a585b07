/*
 * Elementary functions of floats without branches or calls, for loops under IVON_DISPATCH: the
 * compiler turns a loop over one of them into vector code, and since they consist of IEEE
 * operations in a fixed order, every instruction set gives the same bits (of a NaN: neither sign
 * nor payload is promised).
 *
 * Every function is right for infinities, NaN, zeros of both signs, and subnormal arguments and
 * results. The largest errors, in units in the last place of the exact result, are those that
 * tests/unit/vector_math.c checks over the floats. Polynomials are minimax fits, with coefficients
 * rounded to float one after the other. They are summed in pairs of terms, which do not wait for
 * each other; and results out of range are replaced at the end, since compilers make several
 * branches of what follows a bounded argument.
 */
#ifndef CORE_VECTOR_MATH_H
#define CORE_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float vector_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t vector_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float vector_abs(float x)
{
    return vector_float(vector_bits(x) & 0x7fffffff);
}

static inline float vector_copysign(float size, float sign)
{
    return vector_float((vector_bits(size) & 0x7fffffff) | (vector_bits(sign) & 0x80000000));
}

static inline float vector_clamp(float x, float low, float high) /* NaN stays NaN */
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/*
 * The largest of many floats as the largest of integers in the same order, of which compilers make
 * vectors: floats have no such order for them, because of NaN, which is above infinity here, or
 * below it with a sign. One begins with INT32_MIN.
 */
static inline int32_t vector_larger(int32_t largest, float x)
{
    int32_t bits = (int32_t)vector_bits(x), ordered = bits ^ (-(bits < 0) & INT32_MAX);
    return ordered > largest ? ordered : largest;
}

static inline float vector_ordered_float(int32_t ordered)
{
    return vector_float((uint32_t)(ordered ^ (-(ordered < 0) & INT32_MAX)));
}

/*
 * e^r - 1 where x = n log 2 + r, |r| <= log(2)/2, for |x| < 200; any float for other x. Adding
 * 1.5 2^23 rounds to an integer; the product with the upper part of log 2, which has 10 digits, is
 * exact.
 */
static inline float vector_exp_reduced(float x, uint32_t *n)
{
    float shifted = x * 0x1.715476p+0f + 0x1.8p+23f;
    float multiple = shifted - 0x1.8p+23f;
    float r = (x - multiple * 0x1.63p-1f) - multiple * -0x1.bd0106p-13f;
    float square = r * r;
    float high = 0x1.a242fep-13f * r + 0x1.6d3cecp-10f;
    float middle = 0x1.111004p-7f * r + 0x1.5554f6p-5f;
    float low = 0x1.555556p-3f * r + 0.5f;
    *n = vector_bits(shifted) - 0x4b400000; /* modulo 2^32 */
    return r + square * ((high * square + middle) * square + low);
}

/* e^x; 1 ulp. */
static inline float vector_exp(float x)
{
    uint32_t n;
    float e = 1 + vector_exp_reduced(x, &n);
    uint32_t biased = n + 254, half = biased >> 1; /* 2^n in two factors, since n is -151 to 128 */
    float result = e * vector_float(half << 23) * vector_float((biased - half) << 23);
    result = x > 89 ? INFINITY : result;
    return x < -105 ? 0 : result;
}

/* e^x for x <= 0; 1 ulp. One of the factors is a constant: n is -151 to 0. */
static inline float vector_exp_negative(float x)
{
    uint32_t n;
    float e = 1 + vector_exp_reduced(x, &n);
    float result = e * vector_float((n + 167) << 23) * 0x1p-40f;
    return x < -105 ? 0 : result;
}

/* e^x - 1 for 2^-126 <= |x| <= 88, and even multiples of 2^-149 below. */
static inline float vector_expm1_near(float x)
{
    uint32_t n;
    float e = vector_exp_reduced(x, &n);
    float half = vector_float((n + 126) << 23); /* 2^(n-1), since 2^128 is no float */
    return 2 * (e * half + (half - 0.5f));
}

/* e^x - 1; 1.5 ulp. */
static inline float vector_expm1(float x)
{
    float result = vector_expm1_near(x);
    result = x > 89 ? INFINITY : result;
    result = x < -30 ? -1 : result;
    return vector_abs(x) < 0x1p-25f ? x : result;
}

/*
 * The split of a logarithm: x = 2^n (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), for positive normal
 * x; returns n as a float.
 */
static inline float vector_log_split(float x, float *f)
{
    uint32_t above = vector_bits(x) - 0x3f3504f3;
    *f = vector_float((above & 0x007fffff) + 0x3f3504f3) - 1;
    return (float)((int32_t)above >> 23);
}

/* n log 2 + log(1 + f) + rest: with s = f/(2+f), log(1+f) = 2 atanh s = f - f²/2 + s (f²/2 + …). */
static inline float vector_log_join(float n, float f, float rest)
{
    float s = f / (2 + f), z = s * s, square = 0.5f * f * f;
    float q = (0x1.f13b1ep-3f * z + 0x1.23d3e0p-2f) * (z * z) +
              (0x1.999c26p-2f * z + 0x1.555554p-1f);
    rest = s * (square + q * z) + (n * 0x1.2fefa4p-17f + rest);
    return ((rest - square) + f) + n * 0x1.62e3p-1f;
}

/* log x; 1 ulp. -inf at 0, NaN below. */
static inline float vector_log(float x)
{
    float f, scaled = x * 0x1p25f;
    uint32_t subnormal = x < 0x1p-126f;
    float n = vector_log_split(subnormal ? scaled : x, &f);
    float result = vector_log_join(subnormal ? n - 25 : n, f, 0);
    result = x < INFINITY ? result : x;
    float outside = x == 0 ? -INFINITY : NAN;
    return x > 0 ? result : outside;
}

/* log(1 + x); 1 ulp. -inf at -1, NaN below. What rounding 1 + x cut off is added to first order. */
static inline float vector_log1p(float x)
{
    float f, sum = 1 + x;
    float n = vector_log_split(sum, &f);
    float cut = x < 1 ? x - (sum - 1) : 1 - (sum - x);
    float result = vector_log_join(n, n == 0 ? x : f, n == 0 ? 0 : cut / sum);
    result = vector_abs(x) < 0x1p-25f ? x : result;
    result = x < INFINITY ? result : x;
    float outside = x == -1 ? -INFINITY : NAN;
    return x > -1 ? result : outside;
}

/* tanh x = (e^2x - 1)/(e^2x + 1); 2.5 ulp. */
static inline float vector_tanh(float x)
{
    float a = vector_abs(x), e = vector_expm1_near(2 * a), size = e / (e + 2);
    return vector_copysign(a > 10 ? 1 : size, x);
}

/* 1/(1 + e^-x); 2.5 ulp. */
static inline float vector_sigmoid(float x)
{
    float e = vector_exp_negative(-vector_abs(x));
    float top = x < 0 ? e : 1;
    return top / (1 + e);
}

/* log(1 + e^x); 2 ulp. */
static inline float vector_softplus(float x)
{
    float small = vector_log1p(vector_exp_negative(-vector_abs(x)));
    float positive = x > 0 ? x : 0;
    return positive + small;
}

/* erf x: x + x P(x²) below 0.92, 1 - e^P(|x|) above; 1.5 ulp. */
static inline float vector_erf(float x)
{
    float a = vector_abs(x), z = a * a, w = z * z;
    float near = (-0x1.812740p-2f * z + 0x1.06eba8p-3f) +
                 w * (-0x1.b80118p-6f * z + 0x1.ce2d64p-4f);
    near = near + w * w * ((-0x1.a606c2p-11f * z + 0x1.5449e4p-8f) + w * 0x1.4f562ep-14f);
    float far = (-0x1.20af5ap+0f * a - 0x1.9a5ff6p-13f) +
                z * (-0x1.a9b460p-4f * a - 0x1.463cbcp-1f);
    far = far + w * ((-0x1.8ee2e0p-9f * a + 0x1.6c2b00p-6f) + z * 0x1.9aebf6p-13f);
    near = a + a * near;
    far = a > 4 ? 1 : 1 - vector_exp_negative(far);
    return vector_copysign(a < 0.92f ? near : far, x);
}

/* To an integer: to nearest even, down, up. */
static inline float vector_round(float x)
{
    float a = vector_abs(x), rounded = (a + 0x1p+23f) - 0x1p+23f;
    return vector_copysign(a < 0x1p+23f ? rounded : a, x);
}

static inline float vector_floor(float x)
{
    float rounded = vector_round(x), below = rounded - 1;
    return rounded > x ? below : rounded;
}

static inline float vector_ceil(float x)
{
    float rounded = vector_round(x), above = rounded + 1;
    return vector_copysign(rounded < x ? above : rounded, x);
}

/* log2 of a float that is not below 0, in double: absolute error 2^-42 times its size. */
static inline double vector_log2_double(float x)
{
    double wide = (double)x;
    uint64_t bits;
    memcpy(&bits, &wide, sizeof bits);
    uint64_t above = bits - 0x3fe6a09e667f3bcd; /* of sqrt(1/2) */
    uint64_t mantissa = (above & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd;
    double m;
    memcpy(&m, &mantissa, sizeof m);
    double n = (double)(int32_t)((uint32_t)(above >> 52) << 20) * 0x1p-20;
    double s = (m - 1) / (m + 1), z = s * s;
    double q = 0x1.21b5122f18f8cp-2;
    q = q * z + 0x1.47950b72f5ea7p-2;
    q = q * z + 0x1.a61a309e7b0e0p-2;
    q = q * z + 0x1.2776c290ecbf4p-1;
    q = q * z + 0x1.ec709dc53e66cp-1;
    q = q * z + 0x1.71547652b8250p+1;
    double result = n + s * q;
    result = x > 0 ? result : -INFINITY;
    return x < INFINITY ? result : (double)x;
}

/* 2^t in double for |t| <= 200; relative error 2^-40. */
static inline double vector_exp2_double(double t)
{
    double shifted = t + 0x1.8p+52, r = t - (shifted - 0x1.8p+52);
    double q = 0x1.640d9117e98e7p-20;
    q = q * r + 0x1.00dc4c4c0dc0ap-16;
    q = q * r + 0x1.4308702ff7e7dp-13;
    q = q * r + 0x1.5d8745a3aea3cp-10;
    q = q * r + 0x1.3b2ab73dc92a3p-7;
    q = q * r + 0x1.c6b08dd700abap-5;
    q = q * r + 0x1.ebfbdff805bc2p-3;
    q = q * r + 0x1.62e42fef84cd2p-1;
    q = q * r + 1;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return q * scale;
}

/*
 * x^y as C99's pow, special cases included, by way of double: 0.51 ulp. Exponents -1, 1/2, 2 and 3
 * give the rounded quotient, root and products.
 */
static inline float vector_pow(float x, float y)
{
    float a = vector_abs(x), b = vector_abs(y);
    double wide = (double)x, t = (double)y * vector_log2_double(a);
    t = t < -200 ? -200 : t;
    t = t > 200 ? 200 : t;
    float size = (float)vector_exp2_double(t);
    size = y == 2 ? x * x : size;
    size = y == -1 ? 1 / a : size;
    size = y == 0.5f ? sqrtf(a) : size;
    size = y == 3 ? (float)(wide * wide * (double)a) : size;

    int32_t whole = (int32_t)(b < 0x1p+24f ? b : 0); /* from 2^24 on, every float is even */
    int32_t integer = (b >= 0x1p+24f) | ((float)whole == b);
    uint32_t odd = integer ? (uint32_t)whole << 31 : 0;
    float result = vector_float(vector_bits(size) ^ (vector_bits(x) & odd));
    result = (x < 0) & (x > -INFINITY) & !integer ? NAN : result;
    return (y == 0) | (x == 1) | ((x == -1) & (b == INFINITY)) ? 1 : result;
}

#endif
