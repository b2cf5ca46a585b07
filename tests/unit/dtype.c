/* Conversions between element types, against arithmetic that shares nothing with them. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/dtype.h"

enum { BATCH = 4099 /* not a multiple of any vector's width */ };

/* A binary floating-point format. */
struct format {
    enum ivon_dtype dtype;
    int digits;   /* of the significand, the hidden one included */
    int bias;     /* of the exponent */
    int exponent; /* bits of it */
};

static const struct format formats[] = {
    {IVON_F16, 11, 15, 5}, {IVON_BF16, 8, 127, 8}, {IVON_F32, 24, 127, 8}};

static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The number that a bit pattern stands for. */
static double decode(const struct format *format, uint32_t bits)
{
    int fraction = format->digits - 1;
    uint32_t mantissa = bits & ((1u << fraction) - 1);
    int exponent = (int)(bits >> fraction & ((1u << format->exponent) - 1));
    double magnitude;
    if (exponent == (1 << format->exponent) - 1)
        magnitude = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        magnitude = ldexp(mantissa, 1 - format->bias - fraction);
    else
        magnitude = ldexp((double)(1u << fraction) + mantissa, exponent - format->bias - fraction);
    return bits >> (fraction + format->exponent) & 1 ? -magnitude : magnitude;
}

/* The bit pattern nearest to a number, ties to even, found by comparing exact remainders. */
static uint32_t encode(const struct format *format, double value)
{
    int fraction = format->digits - 1;
    uint32_t infinity = ((1u << format->exponent) - 1) << fraction;
    uint32_t sign = signbit(value) ? 1u << (fraction + format->exponent) : 0;
    double magnitude = fabs(value);
    int exponent, smallest = 1 - format->bias - fraction;
    if (isinf(value))
        return sign | infinity;
    if (magnitude == 0)
        return sign;
    frexp(magnitude, &exponent); /* 2^(exponent-1) <= magnitude < 2^exponent */
    int unit = exponent - format->digits > smallest ? exponent - format->digits : smallest;
    double quotient = ldexp(magnitude, -unit); /* exact: at most 53 digits, no underflow */
    double whole = floor(quotient), remainder = quotient - whole;
    if (remainder > 0.5 || (remainder == 0.5 && fmod(whole, 2) == 1))
        whole++;
    /* Counting units from the smallest on passes through the binades, and ends at infinity. */
    uint32_t bits = (uint32_t)whole + ((uint32_t)(unit - smallest) << fraction);
    return sign | (bits > infinity || unit - smallest > 1 << format->exponent ? infinity : bits);
}

static void check_narrowing(const struct format *format, const double *values, size_t count)
{
    static uint32_t wide[BATCH];
    static uint16_t narrow[BATCH];
    bool is_wide = format->dtype == IVON_F32;
    assert_true(count <= BATCH);
    ivon_dtype_from_f64(is_wide ? (void *)wide : (void *)narrow, format->dtype, values, count);
    for (size_t i = 0; i < count; i++) {
        uint32_t found = is_wide ? wide[i] : narrow[i];
        if (isnan(values[i])) {
            if (!isnan(decode(format, found)))
                fail_msg("NaN became %a", decode(format, found));
        } else if (found != encode(format, values[i])) {
            fail_msg("%a became %#x in %s, expected %#x", values[i], found,
                     ivon_dtype_name(format->dtype), encode(format, values[i]));
        }
    }
}

static void widens_every_short_float(void **state)
{
    (void)state;
    static uint16_t bits[1 << 16];
    static double values[1 << 16];
    static uint16_t back[1 << 16];
    for (uint32_t i = 0; i < 1 << 16; i++)
        bits[i] = (uint16_t)i;
    for (size_t f = 0; f < 2; f++) {
        ivon_dtype_to_f64(values, bits, formats[f].dtype, 1 << 16);
        ivon_dtype_from_f64(back, formats[f].dtype, values, 1 << 16);
        for (uint32_t i = 0; i < 1 << 16; i++) {
            double expected = decode(&formats[f], i);
            if (isnan(expected)) {
                assert_true(isnan(values[i]));
                assert_true(isnan(decode(&formats[f], back[i])));
                assert_int_equal(back[i] >> 15, i >> 15);
                continue;
            }
            assert_memory_equal(&values[i], &expected, sizeof expected);
            assert_int_equal(back[i], i);
        }
    }
}

static void the_reference_agrees_with_the_compiler(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 200000; i++) {
        double value = double_of_bits(random_bits(&seed));
        if (i % 2) /* half of them in the range of binary32, subnormals included */
            value = ldexp(1 + (double)(random_bits(&seed) >> 11) * 0x1p-53,
                          (int)(random_bits(&seed) % 290) - 155);
        float single = (float)value;
        uint32_t bits;
        memcpy(&bits, &single, sizeof bits);
        if (!isnan(value))
            assert_int_equal(bits, encode(&formats[2], value));
    }
}

/* Around the boundary between two neighbours: the boundary itself and one unit to either side. */
static size_t add_boundary(double *values, double low, double high)
{
    double middle = low / 2 + high / 2; /* exact: two digits more than the format has */
    const double around[] = {
        middle, nextafter(middle, INFINITY), nextafter(middle, -INFINITY), -middle,
        low,    nextafter(low, INFINITY),    nextafter(low, -INFINITY)};
    memcpy(values, around, sizeof around);
    return sizeof around / sizeof around[0];
}

static void rounds_every_boundary_of_short_floats(void **state)
{
    (void)state;
    static double values[BATCH];
    for (size_t f = 0; f < 2; f++) {
        const struct format *format = &formats[f];
        uint32_t infinity = ((1u << format->exponent) - 1) << (format->digits - 1);
        size_t count = 0;
        for (uint32_t bits = 0; bits < infinity; bits++) {
            double low = decode(format, bits);
            /* Beyond the largest number, the one that a larger exponent would allow. */
            double high = bits + 1 == infinity ? ldexp(1, format->bias + 1)
                                               : decode(format, bits + 1);
            count += add_boundary(values + count, low, high);
            if (count + 7 > BATCH || bits + 1 == infinity) {
                check_narrowing(format, values, count);
                count = 0;
            }
        }
    }
}

static void rounds_random_boundaries_of_singles(void **state)
{
    (void)state;
    static double values[BATCH];
    uint64_t seed = 2;
    for (int round = 0; round < 100; round++) {
        size_t count = 0;
        while (count + 7 <= BATCH) {
            uint32_t bits = (uint32_t)(random_bits(&seed) % 0x7f800000);
            if (round == 0) /* the smallest, the first normal ones, the largest */
                bits = (uint32_t)(count / 7 < 200   ? count / 7
                                  : count / 7 < 400 ? 0x7fff00 + count / 7
                                                    : 0x7f7fffff - count / 7 + 400);
            double high = bits == 0x7f7fffff ? 0x1p128 : decode(&formats[2], bits + 1);
            count += add_boundary(values + count, decode(&formats[2], bits), high);
        }
        check_narrowing(&formats[2], values, count);
    }
}

static void rounds_random_doubles(void **state)
{
    (void)state;
    static double values[BATCH];
    uint64_t seed = 3;
    for (size_t f = 0; f < 3; f++)
        for (int round = 0; round < 60; round++) {
            /* From far below the smallest number to far above the largest. */
            int low = -formats[f].bias - formats[f].digits - 8, high = formats[f].bias + 8;
            for (size_t i = 0; i < BATCH; i++) {
                uint64_t bits = random_bits(&seed);
                int exponent = low + (int)(random_bits(&seed) % (uint64_t)(high - low));
                values[i] = round % 3 == 0 ? double_of_bits(bits) /* any exponent, and NaNs */
                                           : ldexp(1 + (double)(bits >> 12) * 0x1p-52, exponent) *
                                                 (bits & 1 ? 1 : -1);
            }
            check_narrowing(&formats[f], values, BATCH - (size_t)round);
        }
}

static void rounds_what_is_special(void **state)
{
    (void)state;
    const double values[] = {0.0,
                             -0.0,
                             INFINITY,
                             -INFINITY,
                             NAN,
                             -NAN,
                             DBL_MAX,
                             -DBL_MAX,
                             DBL_MIN,
                             DBL_TRUE_MIN,
                             -DBL_TRUE_MIN,
                             FLT_MAX,
                             FLT_MIN,
                             65504,
                             65519,
                             nextafter(65520, 0),
                             65520,
                             65536,
                             -65520,
                             0x1p-24,
                             0x1p-25,
                             nextafter(0x1p-25, 1),
                             0x1.8p-24,
                             0x1p-14,
                             nextafter(0x1p-14, 0),
                             0x1.fep127,
                             0x1.fefffffffffffp127,
                             0x1.ffp127,
                             0x1.fffffefffffffp127,
                             0x1.ffffffp127,
                             0x1p-133,
                             0x1p-134,
                             nextafter(0x1p-134, 1),
                             0x1p-149,
                             0x1p-150,
                             nextafter(0x1p-150, 1)};
    size_t count = sizeof values / sizeof values[0];
    for (size_t f = 0; f < 3; f++)
        for (size_t i = 0; i < count; i++)
            check_narrowing(&formats[f], values + i, count - i); /* at every position of a vector */
    double copy[sizeof values / sizeof values[0]];
    ivon_dtype_from_f64(copy, IVON_F64, values, count);
    assert_memory_equal(copy, values, sizeof values);
    ivon_dtype_to_f64(copy, values, IVON_F64, count);
    assert_memory_equal(copy, values, sizeof values);
}

#define CHECK_WIDENING(dtype, type, ...)                                                           \
    do {                                                                                           \
        const type values[] = {__VA_ARGS__};                                                       \
        enum { COUNT = sizeof values / sizeof values[0] };                                         \
        double wide[COUNT];                                                                        \
        ivon_dtype_to_f64(wide, values, dtype, COUNT);                                             \
        for (size_t i = 0; i < COUNT; i++)                                                         \
            assert_true(wide[i] == (double)values[i]);                                             \
        assert_int_equal(ivon_dtype_size(dtype), sizeof(type));                                    \
    } while (0)

static void widens_integers_and_singles(void **state)
{
    (void)state;
    CHECK_WIDENING(IVON_I64, int64_t, 0, -1, INT64_C(1) << 53, -(INT64_C(1) << 53), INT64_MIN,
                   INT64_MAX, 4503599627370497);
    CHECK_WIDENING(IVON_I32, int32_t, 0, -1, INT32_MIN, INT32_MAX, 7, 8, 9);
    CHECK_WIDENING(IVON_I16, int16_t, 0, -1, INT16_MIN, INT16_MAX, 7, 8, 9);
    CHECK_WIDENING(IVON_I8, int8_t, 0, -1, INT8_MIN, INT8_MAX, 7, 8, 9);
    CHECK_WIDENING(IVON_U64, uint64_t, 0, 1, UINT64_C(1) << 53, UINT64_MAX, UINT64_C(1) << 63);
    CHECK_WIDENING(IVON_U32, uint32_t, 0, 1, UINT32_MAX, 1u << 31);
    CHECK_WIDENING(IVON_U16, uint16_t, 0, 1, UINT16_MAX, 1u << 15);
    CHECK_WIDENING(IVON_U8, uint8_t, 0, 1, UINT8_MAX, 128);
    CHECK_WIDENING(IVON_BOOL, uint8_t, 0, 1);
    CHECK_WIDENING(IVON_F32, float, 0, -0.0f, 1.5f, FLT_MAX, -FLT_MAX, FLT_MIN, FLT_TRUE_MIN,
                   INFINITY, -INFINITY);
    CHECK_WIDENING(IVON_F64, double, 0, -0.0, DBL_MAX, DBL_TRUE_MIN, INFINITY);
}

static void names_and_kinds(void **state)
{
    (void)state;
    static const char *const names[IVON_DTYPE_COUNT] = {
        "f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "bool"};
    for (enum ivon_dtype dtype = 0; dtype < IVON_DTYPE_COUNT; dtype++) {
        assert_string_equal(ivon_dtype_name(dtype), names[dtype]);
        bool is_float = names[dtype][0] == 'f' || strncmp(names[dtype], "bf", 2) == 0;
        assert_int_equal(ivon_dtype_is_float(dtype), is_float);
    }
    assert_int_equal(ivon_dtype_size(IVON_F16), 2);
    assert_int_equal(ivon_dtype_size(IVON_BF16), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widens_every_short_float),
        cmocka_unit_test(the_reference_agrees_with_the_compiler),
        cmocka_unit_test(rounds_every_boundary_of_short_floats),
        cmocka_unit_test(rounds_random_boundaries_of_singles),
        cmocka_unit_test(rounds_random_doubles),
        cmocka_unit_test(rounds_what_is_special),
        cmocka_unit_test(widens_integers_and_singles),
        cmocka_unit_test(names_and_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
