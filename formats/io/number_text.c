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

/*
 * The same of a float, m < 2^24, with 6 to 9 digits, in whole numbers and without an error: with
 * k = 8 - ⌊log10 m·2^q⌋, D = m·5^k / 2^s, where s = -q - k, and half the distance to the neighbour
 * is 5^k / 2^(s + 1). The neighbours are equally far away: then what fails with some digits fails
 * with fewer. False where k or s are not within the bounds that keep 10^4 units of D, twice, below
 * 2^64.
 */
static bool shortest_float(uint32_t m, int q, struct decimal *result)
{
    enum { FIRST = 6, LAST = 9, FIVES_MAX = 22, SHIFT_MAX = 48 };
    static const uint64_t fives[FIVES_MAX + 1] = {1,
                                                  5,
                                                  25,
                                                  125,
                                                  625,
                                                  3125,
                                                  15625,
                                                  78125,
                                                  390625,
                                                  1953125,
                                                  9765625,
                                                  48828125,
                                                  244140625,
                                                  1220703125,
                                                  6103515625,
                                                  30517578125,
                                                  152587890625,
                                                  762939453125,
                                                  3814697265625,
                                                  19073486328125,
                                                  95367431640625,
                                                  476837158203125,
                                                  2384185791015625};
    int binary = 31 - __builtin_clz(m) + q;
    int power = LAST - 1 - (binary * 78913 / 262144 - (binary < 0)), shift = -q - power;
    if (power < 0 || power > FIVES_MAX || shift < 0 || shift > SHIFT_MAX)
        return false;
    /* The product's digits of 2^32 and above, and below. */
    uint64_t low = m * (fives[power] & UINT32_MAX), high = m * (fives[power] >> 32) + (low >> 32);
    low &= UINT32_MAX;
    uint64_t whole = shift < 32 ? high << (32 - shift) | low >> shift : high >> (shift - 32);
    uint64_t fraction = (high << 32 | low) & ((UINT64_C(1) << shift) - 1);
    int spare = whole >= 1000000000; /* the logarithm may be one too small */
    uint64_t digits = spare ? whole / 10 : whole, unit = spare ? 10 : 1;
    for (int count = LAST; count >= FIRST; count--, digits /= 10, unit *= 10) {
        uint64_t one = unit << shift, rest = (whole - digits * unit) << shift | fraction;
        bool up = 2 * rest > one || (2 * rest == one && digits % 2);
        if (count < LAST && 2 * (up ? one - rest : rest) >= fives[power])
            break;
        *result = (struct decimal){digits + up, LAST + spare - count - power};
    }
    return true;
}

enum { DIGITS_MAX = 20 };

/* Writes the digits to the end of the buffer, and returns where they begin. */
static size_t last_digits(char buffer[DIGITS_MAX], uint64_t digits)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    size_t at = DIGITS_MAX;
    for (; digits > 99; digits /= 100)
        memcpy(buffer + (at -= 2), pairs + 2 * (digits % 100), 2);
    if (digits > 9)
        memcpy(buffer + (at -= 2), pairs + 2 * digits, 2);
    else
        buffer[--at] = (char)('0' + digits);
    return at;
}

static size_t put_digits(char *text, uint64_t digits)
{
    char buffer[DIGITS_MAX];
    size_t at = last_digits(buffer, digits);
    memcpy(text, buffer + at, DIGITS_MAX - at);
    return DIGITS_MAX - at;
}

/* 0.00123, 123000, 1.23: `first` is the power of ten of the first digit. DIGITS_MAX characters may
   be read at `digits`. */
static size_t put_fixed(char *text, const char *digits, int count, int first)
{
    size_t size = (size_t)count, whole = first < 0 ? 0 : (size_t)first + 1;
    if (first < 0) {
        static const char zero[] = {'0', '.', '0', '0', '0', '0', '0', '0'};
        size_t zeros = (size_t)(-first - 1) + 2;
        memcpy(text, zero, sizeof zero);
        memcpy(text + zeros, digits, DIGITS_MAX); /* a fixed number is copied without a call */
        return zeros + size;
    }
    if (size <= whole) {
        memcpy(text, digits, size);
        memset(text + size, '0', whole - size);
        return whole;
    }
    memcpy(text, digits, whole);
    text[whole] = '.';
    memcpy(text + whole + 1, digits + whole, size - whole);
    return size + 1;
}

static size_t put_decimal(char *text, struct decimal value)
{
    char buffer[2 * DIGITS_MAX] = {0};
    while (value.digits % 10 == 0) {
        value.digits /= 10;
        value.exponent++;
    }
    size_t start = last_digits(buffer, value.digits);
    const char *digits = buffer + start;
    int count = (int)(DIGITS_MAX - start), first = value.exponent + count - 1;
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
    uint32_t m = exponent ? fraction | UINT32_C(1) << 23 : fraction;
    int q = (int)(exponent ? exponent : 1) - 150;
    bool narrow = !fraction && exponent > 1;
    struct decimal decimal;
    if (narrow || !shortest_float(m, q, &decimal))
        decimal = shortest(fabs((double)value), m, q, narrow, 6, 9);
    return sign + put_decimal(text + sign, decimal);
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
