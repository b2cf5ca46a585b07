/*
 * Two independent standard normals from two random 32-bit numbers (Box & Muller, Ann. Math. Stat.
 * 1958), in binary32 additions and multiplications alone, without branches: the same bits on any
 * instruction set. Its logarithm and its sine take the 32 bits as they are: next to 0 and to 1 they
 * keep what a float between, as the functions of vector_math.h take, would round away.
 */
#ifndef CORE_BOX_MULLER_H
#define CORE_BOX_MULLER_H

#include <stdint.h>
#include <string.h>

static inline float box_muller_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t box_muller_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/*
 * −log(1 − a/2^32): 0 for a = 0, 22.2 for the largest a. Relative error below 2^-21.9.
 *
 * 1 − a/2^32 = 2^e (1 + f) with f in [−1/3, 1/3], and log1p(f) = f − f²/2 + f³ P(f), P fitted to a
 * relative error of 2^-27.6. Where e = 0, f is −a/2^32 itself, which the subtraction from 1 would
 * have rounded.
 */
static inline float box_muller_exponential(uint32_t a)
{
    static const uint32_t two_thirds = 0x3f2aaaab;
    float v = (float)(int32_t)a * 0x1p-32f; /* a/2^32, or that minus 1: each way rounded once */
    float u = box_muller_float(~(uint32_t)((int32_t)a >> 31) & 0x3f800000) - v; /* 1 - v or -v */
    uint32_t bits = box_muller_bits(u);
    int32_t e = (int32_t)(bits - two_thirds) >> 23;
    float reduced = box_muller_float(bits - ((uint32_t)e << 23)) - 1;
    uint32_t below = (uint32_t)(e >> 31); /* all ones where e < 0 */
    float f = box_muller_float((box_muller_bits(reduced) & below) | (box_muller_bits(-v) & ~below));
    float p = -0x1.08054ep-3f;
    p = p * f + 0x1.1e66c8p-3f;
    p = p * f - 0x1.f31158p-4f;
    p = p * f + 0x1.1ed714p-3f;
    p = p * f - 0x1.559dcap-3f;
    p = p * f + 0x1.99d028p-3f;
    p = p * f - 0x1.fffef0p-3f;
    p = p * f + 0x1.555506p-2f;
    float square = f * f;
    float tail = square * (p * f - 0.5f);
    return (float)e * -0x1.62e43p-1f - tail - f;
}

/*
 * cos and sin of 2π b/2^32. Relative errors below 2^-22.3, next to the zeros as well: the nearest
 * multiple of π/2 is subtracted in integers. On what remains, |t| <= π/4, sin t = t + t³ S(t²) and
 * cos t = 1 − t²/2 + t⁴ C(t²), S and C fitted to relative errors of 2^-27.9 and 2^-33.
 */
static inline void box_muller_direction(uint32_t b, float *cosine, float *sine)
{
    uint32_t quadrant = (b + 0x20000000) >> 30;
    float t = (float)(int32_t)(b - (quadrant << 30)) * 0x1.921fb6p-30f;
    float z = t * t;
    float s = t + t * z * (-0x1.555546p-3f + z * (0x1.11073ap-7f + z * -0x1.9943e0p-13f));
    float c = 1 - z * 0.5f +
              z * z * (0x1.55554ap-5f + z * (-0x1.6c0c34p-10f + z * 0x1.99eb9cp-16f));
    uint32_t swap = -(quadrant & 1);
    uint32_t differ = (box_muller_bits(s) ^ box_muller_bits(c)) & swap;
    uint32_t cosine_sign = (quadrant + 1) >> 1 << 31, sine_sign = quadrant >> 1 << 31;
    *cosine = box_muller_float((box_muller_bits(c) ^ differ) ^ cosine_sign);
    *sine = box_muller_float((box_muller_bits(s) ^ differ) ^ sine_sign);
}

#endif
