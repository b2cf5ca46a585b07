#include "ivon/dtype.h"

#include <stdint.h>
#include <string.h>

#include "core/dispatch.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are mapped as they are stored");

static const struct {
    const char *name;
    size_t size;
} dtypes[IVON_DTYPE_COUNT] = {
    [IVON_F64] = {"f64", 8},   [IVON_F32] = {"f32", 4}, [IVON_F16] = {"f16", 2},
    [IVON_BF16] = {"bf16", 2}, [IVON_I64] = {"i64", 8}, [IVON_I32] = {"i32", 4},
    [IVON_I16] = {"i16", 2},   [IVON_I8] = {"i8", 1},   [IVON_U64] = {"u64", 8},
    [IVON_U32] = {"u32", 4},   [IVON_U16] = {"u16", 2}, [IVON_U8] = {"u8", 1},
    [IVON_BOOL] = {"bool", 1},
};

size_t ivon_dtype_size(enum ivon_dtype dtype)
{
    return dtypes[dtype].size;
}

const char *ivon_dtype_name(enum ivon_dtype dtype)
{
    return dtypes[dtype].name;
}

bool ivon_dtype_is_float(enum ivon_dtype dtype)
{
    return dtype <= IVON_BF16;
}

static inline float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/*
 * A binary16 shifted into a binary32's fields has an exponent 112 too small; multiplying by 2^112
 * mends it exactly, subnormals included. An exponent of all ones must stay all ones.
 */
static inline float float_from_half(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    uint32_t finite = float_bits(float_from_bits(magnitude) * 0x1p112f);
    uint32_t special = magnitude | 0x7f800000;
    uint32_t bits = magnitude >= 0x0f800000 ? special : finite;
    return float_from_bits(bits | (uint32_t)(half & 0x8000) << 16);
}

/*
 * A double rounded to odd in binary32: truncated, with the last bit set when anything was cut.
 * Rounding this to a shorter type gives the same as rounding the double itself, because 24 digits
 * are at least two more than the 11 (or 8) that remain (Boldo & Melquiond, IEEE Trans. Comp. 2008).
 */
static inline uint32_t odd_float_bits(double value)
{
    float nearest = (float)value;
    uint32_t bits = float_bits(nearest);
    double back = nearest;
    double size = value < 0 ? -value : value;
    double size_back = back < 0 ? -back : back;
    bits -= size_back > size; /* also turns an infinity of a finite value into the largest float */
    bits |= back != value && value == value;
    return bits;
}

/* To nearest even at bit 16; a NaN keeps its sign and becomes quiet. */
static inline uint16_t bfloat_from_odd(uint32_t bits)
{
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

/*
 * To nearest even: normal numbers by integer addition at bit 13, subnormal ones (below 2^-14) by
 * adding 1/2, whose unit in the last place, 2^-24, is that of the subnormal binary16.
 */
static inline uint16_t half_from_odd(uint32_t bits)
{
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    uint32_t normal = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
    uint32_t subnormal = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000;
    uint32_t half = magnitude < 0x38800000 ? subnormal : normal;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half; /* from 65520 on */
    half = magnitude > 0x7f800000 ? 0x7e00 : half;
    return (uint16_t)(half | sign);
}

#define WIDEN(name, type)                                                                          \
    IVON_DISPATCH static void name(double *restrict out, const type *restrict in, size_t count)    \
    {                                                                                              \
        for (size_t i = 0; i < count; i++)                                                         \
            out[i] = (double)in[i];                                                                \
    }
WIDEN(widen_f32, float)
WIDEN(widen_i64, int64_t)
WIDEN(widen_i32, int32_t)
WIDEN(widen_i16, int16_t)
WIDEN(widen_i8, int8_t)
WIDEN(widen_u64, uint64_t)
WIDEN(widen_u32, uint32_t)
WIDEN(widen_u16, uint16_t)
WIDEN(widen_u8, uint8_t)
#undef WIDEN

IVON_DISPATCH static void widen_f16(double *restrict out, const uint16_t *restrict in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = float_from_half(in[i]);
}

IVON_DISPATCH static void widen_bf16(double *restrict out, const uint16_t *restrict in,
                                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = float_from_bits((uint32_t)in[i] << 16);
}

IVON_DISPATCH static void narrow_f32(float *restrict out, const double *restrict in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)in[i];
}

IVON_DISPATCH static void narrow_f16(uint16_t *restrict out, const double *restrict in,
                                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = half_from_odd(odd_float_bits(in[i]));
}

IVON_DISPATCH static void narrow_bf16(uint16_t *restrict out, const double *restrict in,
                                      size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = bfloat_from_odd(odd_float_bits(in[i]));
}

void ivon_dtype_to_f64(double *out, const void *in, enum ivon_dtype dtype, size_t count)
{
    switch (dtype) {
    case IVON_F64:
        memcpy(out, in, count * sizeof *out);
        break;
    case IVON_F32:
        widen_f32(out, in, count);
        break;
    case IVON_F16:
        widen_f16(out, in, count);
        break;
    case IVON_BF16:
        widen_bf16(out, in, count);
        break;
    case IVON_I64:
        widen_i64(out, in, count);
        break;
    case IVON_I32:
        widen_i32(out, in, count);
        break;
    case IVON_I16:
        widen_i16(out, in, count);
        break;
    case IVON_I8:
        widen_i8(out, in, count);
        break;
    case IVON_U64:
        widen_u64(out, in, count);
        break;
    case IVON_U32:
        widen_u32(out, in, count);
        break;
    case IVON_U16:
        widen_u16(out, in, count);
        break;
    case IVON_U8:
    case IVON_BOOL:
    case IVON_DTYPE_COUNT:
        widen_u8(out, in, count);
        break;
    }
}

void ivon_dtype_from_f64(void *out, enum ivon_dtype dtype, const double *in, size_t count)
{
    switch (dtype) {
    case IVON_F32:
        narrow_f32(out, in, count);
        break;
    case IVON_F16:
        narrow_f16(out, in, count);
        break;
    case IVON_BF16:
        narrow_bf16(out, in, count);
        break;
    default:
        memcpy(out, in, count * sizeof *in);
        break;
    }
}
