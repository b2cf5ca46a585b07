/* Conversions between element types, against the compiler's own binary16 and exact arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ivon/dtype.h"

/* The value of a short float with the given fields, by definition. */
static double defined_value(unsigned bits, int exponent_bits, int mantissa_bits)
{
    int sign = bits >> 15 ? -1 : 1, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    double mantissa = bits & ((1u << mantissa_bits) - 1);
    if (exponent == (1 << exponent_bits) - 1)
        return mantissa != 0 ? NAN : sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + ldexp(1, mantissa_bits), exponent - bias - mantissa_bits);
}

static void check_type(enum ivon_dtype dtype, int exponent_bits, int mantissa_bits)
{
    for (unsigned bits = 0; bits < 65536; bits++) {
        uint16_t in = (uint16_t)bits, out;
        double value, expected = defined_value(bits, exponent_bits, mantissa_bits);
        ivon_dtype_to_f64(&value, &in, dtype, 1);
        assert_true(value == expected || (isnan(value) && isnan(expected)));
        ivon_dtype_from_f64(&out, dtype, &value, 1);
        assert_true(out == in || isnan(expected));
        double back;
        ivon_dtype_to_f64(&back, &out, dtype, 1);
        assert_true(!isnan(expected) || isnan(back));
        /* Between this value and the next: the midpoint goes to the even one, what lies a double
           beside it to the nearer one. */
        double next = defined_value(bits + 1, exponent_bits, mantissa_bits);
        if ((bits & 0x7fff) == 0x7fff || isnan(expected) || isnan(next) || isinf(expected))
            continue;
        if (isinf(next)) /* rounding behaves as if the exponents went on */
            next = copysign(ldexp(1, 1 << (exponent_bits - 1)), expected);
        double middle = expected + (next - expected) / 2;
        double points[3] = {nextafter(middle, expected), middle, nextafter(middle, next)};
        uint16_t wanted[3] = {in, (uint16_t)(in + (in & 1)), (uint16_t)(in + 1)}, got[3];
        ivon_dtype_from_f64(got, dtype, points, 3);
        assert_memory_equal(got, wanted, sizeof got);
    }
}

static void test_binary16(void **unused)
{
    (void)unused;
    check_type(IVON_F16, 5, 10);
}

static void test_bfloat16(void **unused)
{
    (void)unused;
    check_type(IVON_BF16, 8, 7);
}

static void test_binary32_and_integers(void **unused)
{
    (void)unused;
    const double values[] = {1 + 0x1p-24, 1 + 0x1.8p-24, -0x1.fffffefp127, 1e300, 0x1p-150};
    const float wanted[] = {1, 1 + 0x1p-23f, -0x1.fffffep127f, INFINITY, 0};
    float got[5];
    ivon_dtype_from_f64(got, IVON_F32, values, 5);
    for (int i = 0; i < 5; i++)
        assert_true(got[i] == wanted[i]);
    const int8_t small[] = {-128, 127};
    const uint64_t large[] = {0, UINT64_MAX};
    double out[2];
    ivon_dtype_to_f64(out, small, IVON_I8, 2);
    assert_true(out[0] == -128 && out[1] == 127);
    ivon_dtype_to_f64(out, large, IVON_U64, 2);
    assert_true(out[0] == 0 && out[1] == 0x1p64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binary16),
        cmocka_unit_test(test_bfloat16),
        cmocka_unit_test(test_binary32_and_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
