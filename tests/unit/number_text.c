/* Numbers as text: what is written reads back, and is as short as printf can make it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/io/number_text.h"

static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const char *f32(float value)
{
    static char text[NUMBER_TEXT_MAX + 1];
    size_t length = number_text_f32(text, value);
    assert_true(length < NUMBER_TEXT_MAX);
    text[length] = '\0';
    return text;
}

static const char *f64(double value)
{
    static char text[NUMBER_TEXT_MAX + 1];
    size_t length = number_text_f64(text, value);
    assert_true(length < NUMBER_TEXT_MAX);
    text[length] = '\0';
    return text;
}

static const char *i64(int64_t value)
{
    static char text[NUMBER_TEXT_MAX + 1];
    text[number_text_i64(text, value)] = '\0';
    return text;
}

static void writes_doubles(void **state)
{
    (void)state;
    assert_string_equal(f64(0), "0");
    assert_string_equal(f64(-0.0), "-0.0");
    assert_string_equal(f64(1), "1");
    assert_string_equal(f64(-2.5), "-2.5");
    assert_string_equal(f64(0.1), "0.1");
    assert_string_equal(f64(0.1 + 0.2), "0.30000000000000004");
    assert_string_equal(f64(1.0 / 3), "0.3333333333333333");
    assert_string_equal(f64(100), "100");
    assert_string_equal(f64(1234.5), "1234.5");
    assert_string_equal(f64(0.0001), "0.0001");
    assert_string_equal(f64(0.00001), "1e-05");
    assert_string_equal(f64(1e15), "1000000000000000");
    assert_string_equal(f64(0x1p53), "9007199254740992");
    assert_string_equal(f64(1e16), "1e+16");
    assert_string_equal(f64(1.5e300), "1.5e+300");
    assert_string_equal(f64(0x1.fffffffffffffp1023), "1.7976931348623157e+308");
    assert_string_equal(f64(-0x1.fffffffffffffp1023), "-1.7976931348623157e+308");
    assert_string_equal(f64(0x1p-1022), "2.2250738585072014e-308");
    assert_string_equal(f64(0x1p-1074), "4.94065645841247e-324");
}

static void writes_floats(void **state)
{
    (void)state;
    assert_string_equal(f32(0), "0");
    assert_string_equal(f32(-0.0f), "-0.0");
    assert_string_equal(f32(1), "1");
    assert_string_equal(f32(0.1f), "0.1");
    assert_string_equal(f32(-1.0f / 3), "-0.33333334");
    assert_string_equal(f32(0x1p24f), "16777216");
    assert_string_equal(f32(1e-5f), "1e-05");
    assert_string_equal(f32(0x1.fffffep127f), "3.4028235e+38");
    assert_string_equal(f32(0x1p-126f), "1.1754944e-38");
    assert_string_equal(f32(0x1p-149f), "1.4013e-45");
}

static void writes_integers(void **state)
{
    (void)state;
    assert_string_equal(i64(0), "0");
    assert_string_equal(i64(-1), "-1");
    assert_string_equal(i64(1000), "1000");
    assert_string_equal(i64(INT64_MAX), "9223372036854775807");
    assert_string_equal(i64(INT64_MIN), "-9223372036854775808");
}

/* A number's digits without zeros at the ends, as a whole number, and the power of ten of the
   first: two texts of one number agree in both. */
struct digits {
    uint64_t digits;
    int first;
};

static struct digits digits_of(const char *text)
{
    struct digits number = {0};
    const char *exponent = strchr(text, 'e');
    int before = 0; /* digits before the point, or minus the zeros after it */
    int point = 0;
    for (text += *text == '-'; *text && *text != 'e'; text++) {
        if (*text == '.') {
            point = 1;
            continue;
        }
        number.digits = number.digits * 10 + (uint64_t)(*text - '0');
        before += number.digits ? !point : -point;
    }
    while (number.digits && number.digits % 10 == 0)
        number.digits /= 10;
    number.first = before - 1 + (exponent ? atoi(exponent + 1) : 0);
    return number;
}

static void assert_digits(const char *found, const char *expected)
{
    struct digits a = digits_of(found), b = digits_of(expected);
    if (a.digits != b.digits || a.first != b.first)
        fail_msg("%s, where printf has %s", found, expected);
}

/*
 * printf rounds exactly, so it is the judge of the digits. It may stop earlier only where the text
 * lies half-way between two numbers, which is read as the even one. Such a text has all digits of
 * (2m+1)·2^(q-1). Below 2^23 that is (2m+1)·5^(1-q)·10^(q-1) with q < 0 and 2m+1 > 2^24 for a
 * normal number: at least 4e8, 9 digits, after which nothing is tried; and over 100 digits for a
 * denormal one. Likewise below 2^52 for doubles: 2^53·25, 18 digits.
 */
static void check_float(float value)
{
    char expected[64];
    const char *text = f32(value);
    float back = strtof(text, NULL);
    if (memcmp(&back, &value, sizeof value) != 0)
        fail_msg("%.9g became %s", (double)value, text);
    if (value == 0 || fabsf(value) >= 0x1p23f)
        return;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(expected, sizeof expected, "%.*e", digits - 1, (double)value);
        if (strtof(expected, NULL) == value)
            break;
    }
    assert_digits(text, expected);
}

static void check_double(double value)
{
    char expected[64];
    const char *text = f64(value);
    double back = strtod(text, NULL);
    if (memcmp(&back, &value, sizeof value) != 0)
        fail_msg("%.17g became %s", value, text);
    if (value == 0 || fabs(value) >= 0x1p52)
        return;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(expected, sizeof expected, "%.*e", digits - 1, value);
        if (strtod(expected, NULL) == value)
            break;
    }
    assert_digits(text, expected);
}

static void reads_back(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        float single = float_of((uint32_t)random_bits(&seed));
        double wide = double_of(random_bits(&seed));
        if (isfinite(single))
            check_float(single);
        if (isfinite(wide))
            check_double(wide);
        check_float((float)(random_bits(&seed) >> 40) * 0x1p-24f); /* probabilities */
        check_double((double)(random_bits(&seed) >> 11) * 0x1p-53);
        check_double((double)(random_bits(&seed) % 1000000) / 1000);
        check_float(float_of((uint32_t)random_bits(&seed) & 0x807fffff)); /* denormal */
        check_double(double_of(random_bits(&seed) & 0x800fffffffffffff));
    }
}

/* Powers of two, whose neighbour below is nearer, with both neighbours; and powers of ten. */
static void reads_back_at_the_seams(void **state)
{
    (void)state;
    for (uint32_t exponent = 1; exponent < 255; exponent++)
        for (uint32_t i = 0; i < 3; i++)
            check_float(float_of((exponent << 23) - 1 + i));
    for (uint64_t exponent = 1; exponent < 2047; exponent++)
        for (uint64_t i = 0; i < 3; i++)
            check_double(double_of((exponent << 52) - 1 + i));
    for (int exponent = -323; exponent <= 308; exponent++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", exponent);
        double value = strtod(text, NULL);
        check_double(nextafter(value, 0));
        check_double(value);
        check_double(nextafter(value, INFINITY));
        if (exponent >= -45 && exponent <= 38)
            check_float(strtof(text, NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_doubles),          cmocka_unit_test(writes_floats),
        cmocka_unit_test(writes_integers),         cmocka_unit_test(reads_back),
        cmocka_unit_test(reads_back_at_the_seams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
