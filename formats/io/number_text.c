/*
 * A number x = m·2^q is scaled to D = x·10^k, a whole number of as many digits as it may get, or
 * one more, and a fraction, in twice the precision of double, where powers up to 10^22 are exact. A
 * decimal number reads back to x when it is nearer than half the distance to x's neighbour, which
 * is D/2m in the units of D.
 *
 * C has nothing for this: printf gives a number of digits that is asked for, with the locale's
 * decimal point, and trying 6 to 9 of them, each read back by strtof, takes 5.5 times as long as
 * this. Tables of predictions are mostly such numbers.
 */
#include "formats/io/number_text.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

enum { POWER_MAX = sizeof powers / sizeof powers[0] - 1, FIXED_MIN = -4, FIXED_MAX = 16 };

/* high + low, whose sum in double is high */
struct pair {
    double high, low;
};

/*
 * value·10^power, with a relative error of 2^-100: that of a step is a few 2^-106, and there are at
 * most 16 steps. The factor 2^200 keeps the residues of the smallest numbers from underflow.
 */
static struct pair number_text_scale(double value, int power)
{
    double shift = power > 0 ? 0x1p200 : 1;
    struct pair x = {value * shift, 0};
    while (power) {
        int step = power > POWER_MAX ? POWER_MAX : power < -POWER_MAX ? -POWER_MAX : power;
        double factor = powers[step > 0 ? step : -step];
        double rough = step > 0 ? x.high * factor : x.high / factor;
        double rest = step > 0 ? fma(x.high, factor, -rough) + x.low * factor
                               : (fma(-rough, factor, x.high) + x.low) / factor;
        x.high = rough + rest;
        x.low = rest - (x.high - rough);
        power -= step;
    }
    return (struct pair){x.high / shift, x.low / shift};
}

/* digits·10^exponent */
struct decimal {
    uint64_t digits;
    int exponent;
};

/*
 * Of m·2^q = value > 0, with at least `first` and at most `last` digits, which always suffice.
 * `narrow` says that the neighbour below is half as far away as the one above.
 *
 * What is known of D is off by at most 2^-38 (a rest below 10^4, in double), and half the distance
 * to a neighbour is at least 0.55; so what passes with a margin of 2^-30 reads back for certain.
 */
static struct decimal shortest(double value, uint64_t m, int q, bool narrow, int first, int last)
{
    int binary = 63 - __builtin_clzll(m) + q;             /* 2^binary <= value */
    int decimal = binary * 78913 / 262144 - (binary < 0); /* 78913/2^18 = log10(2) - 8e-7 */
    int power = last - 1 - decimal;
    struct pair scaled = number_text_scale(value, power);
    uint64_t whole = (uint64_t)scaled.high;
    double fraction = scaled.high - (double)whole + scaled.low; /* of some units above 2^53 */
    int64_t carry = (int64_t)fraction - (fraction < 0);
    whole += (uint64_t)carry;
    fraction -= (double)carry;
    double above = scaled.high * 0.5 / (double)m, below = narrow ? above / 2 : above;
    int spare = whole >= (uint64_t)powers[last]; /* `decimal` may be one too small */
    for (int count = first;; count++) {
        uint64_t unit = (uint64_t)powers[last + spare - count];
        uint64_t digits = whole / unit;
        double rest = (double)(whole % unit) + fraction, half = (double)unit / 2;
        bool up = rest > half || (rest == half && digits % 2);
        double error = up ? (double)unit - rest : rest;
        if (count == last || error < (up ? above : below) * (1 - 0x1p-30))
            return (struct decimal){digits + up, last + spare - count - power};
    }
}

static size_t put_digits(char *text, uint64_t digits)
{
    char reversed[20];
    size_t count = 0;
    do
        reversed[count++] = (char)('0' + digits % 10);
    while (digits /= 10);
    for (size_t i = 0; i < count; i++)
        text[i] = reversed[count - 1 - i];
    return count;
}

/* 0.00123, 123000, 1.23: `first` is the power of ten of the first digit. */
static size_t put_fixed(char *text, const char *digits, int count, int first)
{
    char *to = text;
    if (first < 0) {
        *to++ = '0';
        *to++ = '.';
    }
    for (int i = first + 1; i < 0; i++)
        *to++ = '0';
    for (int i = 0; i < count || i <= first; i++) {
        if (i > 0 && i == first + 1)
            *to++ = '.';
        *to++ = i < count ? digits[i] : '0';
    }
    return (size_t)(to - text);
}

static size_t put_decimal(char *text, struct decimal value)
{
    char digits[20];
    while (value.digits % 10 == 0) {
        value.digits /= 10;
        value.exponent++;
    }
    int count = (int)put_digits(digits, value.digits), first = value.exponent + count - 1;
    if (first >= FIXED_MIN && first < FIXED_MAX)
        return put_fixed(text, digits, count, first);
    char *to = text;
    *to++ = digits[0];
    if (count > 1)
        *to++ = '.';
    for (int i = 1; i < count; i++)
        *to++ = digits[i];
    *to++ = 'e';
    *to++ = first < 0 ? '-' : '+';
    uint64_t magnitude = (uint64_t)(first < 0 ? -first : first);
    if (magnitude < 10)
        *to++ = '0';
    return (size_t)(to - text) + put_digits(to, magnitude);
}

static size_t put_sign(char *text, bool negative)
{
    *text = '-';
    return negative;
}

static size_t put_zero(char *text, bool negative)
{
    memcpy(text, negative ? "-0.0" : "0", negative ? 4 : 1);
    return negative ? 4 : 1;
}

size_t number_text_f32(char *text, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bool negative = bits >> 31;
    uint32_t exponent = bits >> 23 & 0xff, fraction = bits & 0x7fffff;
    if (value == 0)
        return put_zero(text, negative);
    size_t sign = put_sign(text, negative);
    return sign +
           put_decimal(text + sign, shortest(fabs((double)value),
                                             exponent ? fraction | UINT32_C(1) << 23 : fraction,
                                             (int)(exponent ? exponent : 1) - 150,
                                             !fraction && exponent > 1, 6, 9));
}

size_t number_text_f64(char *text, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bool negative = bits >> 63;
    uint64_t exponent = bits >> 52 & 0x7ff, fraction = bits << 12 >> 12;
    if (value == 0)
        return put_zero(text, negative);
    size_t sign = put_sign(text, negative);
    return sign +
           put_decimal(text + sign,
                       shortest(fabs(value), exponent ? fraction | UINT64_C(1) << 52 : fraction,
                                (int)(exponent ? exponent : 1) - 1075, !fraction && exponent > 1,
                                15, 17));
}

size_t number_text_i64(char *text, int64_t value)
{
    size_t sign = put_sign(text, value < 0);
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    return sign + put_digits(text + sign, magnitude);
}
