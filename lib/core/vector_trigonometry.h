/*
 * Sine, cosine and tangent of floats, as core/vector_math.h has other functions: without branches
 * or calls, for all floats, with the same bits on every instruction set.
 *
 * The argument is reduced in double. With x = m 2^e, |m| < 2^24 and e >= 0, x is m F quarter turns,
 * where F = 2^e 2/π; and if e > 0, m is whole, and F counts modulo 4. F is held as the sum of 29
 * digits, whose product with m is exact, and 53 more: quarter turns are right to 2^-57, and there
 * is no float (but 0) that is nearer than 2^-29 to a whole number of them.
 *
 * The table of F keeps compilers from vector code. Below VECTOR_NEAR e is 0, and the functions
 * called near give the same bits without it.
 */
#ifndef CORE_VECTOR_TRIGONOMETRY_H
#define CORE_VECTOR_TRIGONOMETRY_H

#include "core/vector_math.h"

enum { VECTOR_TURNS = 105, VECTOR_NEAR = 1 << 24 };

/* 2^e 2/π modulo 4, from -2 to 2 */
static const double vector_turns[VECTOR_TURNS][2] = {
    {0x1.45f306ep-1, -0x1.b1bbead603d8bp-32},  {0x1.45f306ep+0, -0x1.b1bbead603d8bp-31},
    {-0x1.7419f24p+0, -0x1.b1bbead603d8bp-30}, {0x1.17cc1b7p+0, 0x1.391054a7f09d6p-31},
    {-0x1.d067c92p+0, 0x1.391054a7f09d6p-30},  {0x1.7cc1b74p-2, -0x1.8ddf56b01ec54p-30},
    {0x1.7cc1b72p-1, 0x1.c882a53f84ebp-31},    {0x1.7cc1b72p+0, 0x1.c882a53f84ebp-30},
    {-0x1.067c91bp+0, -0x1.bbead603d8a83p-32}, {0x1.f306dcap+0, -0x1.bbead603d8a83p-31},
    {-0x1.9f246cp-4, -0x1.bbead603d8a83p-30},  {-0x1.9f246c8p-3, 0x1.1054a7f09d5f4p-31},
    {-0x1.9f246c8p-2, 0x1.1054a7f09d5f4p-30},  {-0x1.9f246c6p-1, -0x1.df56b01ec5417p-30},
    {-0x1.9f246c7p+0, 0x1.054a7f09d5f48p-32},  {0x1.836e4e4p-1, 0x1.054a7f09d5f48p-31},
    {0x1.836e4e4p+0, 0x1.054a7f09d5f48p-30},   {-0x1.f246c6ep-1, -0x1.f56b01ec5417p-30},
    {-0x1.f246c6fp+0, 0x1.529fc2757d1f5p-34},  {0x1.b72722p-4, 0x1.529fc2757d1f5p-33},
    {0x1.b72722p-3, 0x1.529fc2757d1f5p-32},    {0x1.b72722p-2, 0x1.529fc2757d1f5p-31},
    {0x1.b72722p-1, 0x1.529fc2757d1f5p-30},    {0x1.b727221p+0, -0x1.5ac07b1505c16p-30},
    {-0x1.236377ep-1, 0x1.4a7f09d5f47d5p-30},  {-0x1.236377dp+0, -0x1.6b01ec5417056p-30},
    {0x1.b939105p+0, 0x1.29fc2757d1f53p-30},   {-0x1.1b1bbeap-1, -0x1.ac07b1505c159p-30},
    {-0x1.1b1bbebp+0, 0x1.4fe13abe8fa9ap-31},  {0x1.c9c882ap+0, 0x1.4fe13abe8fa9ap-30},
    {-0x1.b1bbeacp-2, -0x1.603d8a82e0acbp-30}, {-0x1.b1bbeaep-1, 0x1.3f84eafa3ea6ap-30},
    {-0x1.b1bbeadp+0, -0x1.80f62a0b82b2dp-30}, {0x1.391054ap-1, 0x1.fc2757d1f534ep-31},
    {0x1.391054ap+0, 0x1.fc2757d1f534ep-30},   {-0x1.8ddf56bp+0, -0x1.ec54170565912p-36},
    {0x1.c882a54p-1, -0x1.ec54170565912p-35},  {0x1.c882a54p+0, -0x1.ec54170565912p-34},
    {-0x1.bbead6p-2, -0x1.ec54170565912p-33},  {-0x1.bbead6p-1, -0x1.ec54170565912p-32},
    {-0x1.bbead6p+0, -0x1.ec54170565912p-31},  {0x1.1054a8p-1, -0x1.ec54170565912p-30},
    {0x1.1054a7fp+0, 0x1.3abe8fa9a6eep-33},    {-0x1.df56b02p+0, 0x1.3abe8fa9a6eep-32},
    {0x1.054a7fp-2, 0x1.3abe8fa9a6eep-31},     {0x1.054a7fp-1, 0x1.3abe8fa9a6eep-30},
    {0x1.054a7f1p+0, -0x1.8a82e0acb223fp-30},  {-0x1.f56b01fp+0, 0x1.d5f47d4d37703p-31},
    {0x1.529fc2p-4, 0x1.d5f47d4d37703p-30},    {0x1.529fc28p-3, -0x1.505c1596447e5p-32},
    {0x1.529fc28p-2, -0x1.505c1596447e5p-31},  {0x1.529fc28p-1, -0x1.505c1596447e5p-30},
    {0x1.529fc27p+0, 0x1.5f47d4d377037p-30},   {-0x1.5ac07b1p+0, -0x1.4170565911f92p-30},
    {0x1.4a7f09dp+0, 0x1.7d1f534ddc0dbp-30},   {-0x1.6b01ec5p+0, -0x1.05c1596447e49p-30},
    {0x1.29fc275p+0, 0x1.f47d4d377036ep-30},   {-0x1.ac07b15p+0, -0x1.70565911f924fp-34},
    {0x1.4fe13acp-1, -0x1.70565911f924fp-33},  {0x1.4fe13acp+0, -0x1.70565911f924fp-32},
    {-0x1.603d8a8p+0, -0x1.70565911f924fp-31}, {0x1.3f84ebp+0, -0x1.70565911f924fp-30},
    {-0x1.80f62a1p+0, 0x1.1f534ddc0db63p-30},  {0x1.fc2757ep-1, -0x1.c1596447e493bp-30},
    {0x1.fc2757dp+0, 0x1.f534ddc0db629p-32},   {-0x1.ec5418p-6, 0x1.f534ddc0db629p-31},
    {-0x1.ec5418p-5, 0x1.f534ddc0db629p-30},   {-0x1.ec5417p-4, -0x1.596447e493ad5p-34},
    {-0x1.ec5417p-3, -0x1.596447e493ad5p-33},  {-0x1.ec5417p-2, -0x1.596447e493ad5p-32},
    {-0x1.ec5417p-1, -0x1.596447e493ad5p-31},  {-0x1.ec5417p+0, -0x1.596447e493ad5p-30},
    {0x1.3abe8f8p-3, 0x1.4d377036d8a56p-30},   {0x1.3abe8fcp-2, -0x1.65911f924eb53p-30},
    {0x1.3abe8fap-1, 0x1.34ddc0db6295ap-30},   {0x1.3abe8fbp+0, -0x1.96447e493ad4dp-30},
    {-0x1.8a82e0bp+0, 0x1.a6ee06db14acdp-31},  {0x1.d5f47d4p-1, 0x1.a6ee06db14acdp-30},
    {0x1.d5f47d5p+0, -0x1.6447e493ad4cep-31},  {-0x1.505c158p-2, -0x1.6447e493ad4cep-30},
    {-0x1.505c15ap-1, 0x1.377036d8a5665p-30},  {-0x1.505c159p+0, -0x1.911f924eb5336p-30},
    {0x1.5f47d4dp+0, 0x1.bb81b6c52b328p-31},   {-0x1.4170566p+0, 0x1.bb81b6c52b328p-30},
    {0x1.7d1f535p+0, -0x1.11f924eb53362p-31},  {-0x1.05c1596p+0, -0x1.11f924eb53362p-30},
    {0x1.f47d4d3p+0, 0x1.dc0db6295993cp-30},   {-0x1.705659p-4, -0x1.1f924eb53361ep-32},
    {-0x1.705659p-3, -0x1.1f924eb53361ep-31},  {-0x1.705659p-2, -0x1.1f924eb53361ep-30},
    {-0x1.7056592p-1, 0x1.c0db6295993c4p-30},  {-0x1.7056591p+0, -0x1.f924eb53361dep-32},
    {0x1.1f534dep+0, -0x1.f924eb53361dep-31},  {-0x1.c159644p+0, -0x1.f924eb53361dep-30},
    {0x1.f534ddcp-2, 0x1.b6c52b3278872p-35},   {0x1.f534ddcp-1, 0x1.b6c52b3278872p-34},
    {0x1.f534ddcp+0, 0x1.b6c52b3278872p-33},   {-0x1.596448p-4, 0x1.b6c52b3278872p-32},
    {-0x1.596448p-3, 0x1.b6c52b3278872p-31},   {-0x1.596448p-2, 0x1.b6c52b3278872p-30},
    {-0x1.596447ep-1, -0x1.24eb53361de38p-31}, {-0x1.596447ep+0, -0x1.24eb53361de38p-30},
    {0x1.4d37703p+0, 0x1.b6295993c439p-30},    {-0x1.65911f9p+0, -0x1.275a99b0ef1bfp-31},
    {0x1.34ddc0ep+0, -0x1.275a99b0ef1bfp-30}};

/* Sine and cosine of |x|, each up to its sign, and the number of quarter turns modulo 4. */
struct vector_angle {
    double sine, cosine; /* of x less the nearest whole number of quarter turns */
    uint32_t quarters;
};

/* Of m (head + rest) quarter turns. */
static inline struct vector_angle vector_angle_of_turns(double m, double head, double rest)
{
    struct vector_angle angle;
    double turns = m * head, shifted = turns + 0x1.8p+52;
    double r = (turns - (shifted - 0x1.8p+52)) + m * rest, z = r * r;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    angle.quarters = (uint32_t)bits;
    /* the series, to 2^-36 */
    double q = -0x1.e3074fde8871fp-19;
    q = q * z + 0x1.50783487ee782p-13;
    q = q * z - 0x1.32d2cce62bd86p-8;
    q = q * z + 0x1.466bc6775aae2p-4;
    q = q * z - 0x1.4abbce625be53p-1;
    angle.sine = r * (q * z + 0x1.921fb54442d18p+0);
    q = 0x1.f9d38a3763cc3p-22;
    q = q * z - 0x1.a6d1f2a204a8cp-16;
    q = q * z + 0x1.e1f506891babbp-11;
    q = q * z - 0x1.55d3c7e3cbffap-6;
    q = q * z + 0x1.03c1f081b5ac4p-2;
    q = q * z - 0x1.3bd3cc9be45dep+0;
    angle.cosine = q * z + 1;
    return angle;
}

static inline struct vector_angle vector_angle_near(float x)
{
    return vector_angle_of_turns((double)vector_abs(x), 0x1.45f306ep-1, -0x1.b1bbead603d8bp-32);
}

static inline struct vector_angle vector_angle_of(float x)
{
    int32_t exponent = (int32_t)(vector_bits(x) >> 23 & 0xff) - 150;
    int32_t e = exponent < 0 ? 0 : exponent;
    e = e < VECTOR_TURNS ? e : VECTOR_TURNS - 1;
    float m = vector_abs(x) * vector_float((uint32_t)(127 - e) << 23);
    return vector_angle_of_turns((double)m, vector_turns[e][0], vector_turns[e][1]);
}

static inline float vector_sine_of(struct vector_angle angle, float x)
{
    float size = (float)(angle.quarters & 1 ? angle.cosine : angle.sine);
    uint32_t sign = (angle.quarters & 2) << 30 ^ (vector_bits(x) & 0x80000000);
    return vector_float(vector_bits(size) ^ sign);
}

static inline float vector_cosine_of(struct vector_angle angle)
{
    float size = (float)(angle.quarters & 1 ? angle.sine : angle.cosine);
    return vector_float(vector_bits(size) ^ ((angle.quarters + 1) & 2) << 30);
}

static inline float vector_tangent_of(struct vector_angle angle, float x)
{
    double over = angle.quarters & 1 ? angle.cosine : angle.sine;
    double under = angle.quarters & 1 ? -angle.sine : angle.cosine;
    float size = (float)(over / under);
    return vector_float(vector_bits(size) ^ (vector_bits(x) & 0x80000000));
}

/* sin x; 0.6 ulp. NaN for infinities, as the others. */
static inline float vector_sin(float x)
{
    float result = vector_sine_of(vector_angle_of(x), x);
    return vector_abs(x) < INFINITY ? result : NAN;
}

static inline float vector_sin_near(float x)
{
    return vector_sine_of(vector_angle_near(x), x);
}

/* cos x; 0.6 ulp. */
static inline float vector_cos(float x)
{
    float result = vector_cosine_of(vector_angle_of(x));
    return vector_abs(x) < INFINITY ? result : NAN;
}

static inline float vector_cos_near(float x)
{
    return vector_cosine_of(vector_angle_near(x));
}

/* tan x; 0.6 ulp. */
static inline float vector_tan(float x)
{
    float result = vector_tangent_of(vector_angle_of(x), x);
    return vector_abs(x) < INFINITY ? result : NAN;
}

static inline float vector_tan_near(float x)
{
    return vector_tangent_of(vector_angle_near(x), x);
}

#endif
