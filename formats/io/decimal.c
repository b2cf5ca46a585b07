/*
 * w·10^e, w of up to 19 digits and |e| at most 22, is computed in double: w is rounded to double,
 * 10^|e| is one, and the product or quotient is rounded again (Clinger, PLDI 1990, whose w needs no
 * rounding). The result is off by less than 2 units in its last place. Rounding it to a float gives
 * what rounding the number itself would, unless the middle between two floats lies as near as that.
 */
#include "formats/io/decimal.h"

#include <stdint.h>
#include <stddef.h>
#include <string.h>

enum { DIGITS_MAX = 19, POWER_MAX = 22, LENGTH_MAX = 40, NEAR = 3 };

static const double powers[POWER_MAX + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                             1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                             1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static inline bool is_digit(char character)
{
    return (unsigned char)(character - '0') < 10;
}

/* Behind the "e": a sign, perhaps, and one or two digits. */
static const char *read_exponent(const char *at, const char *end, int *exponent)
{
    bool negative = at < end && *at == '-';
    int size = 0;
    at += at < end && (*at == '-' || *at == '+');
    const char *digits = at;
    for (; at < end && at - digits < 3 && is_digit(*at); at++)
        size = 10 * size + (*at - '0');
    if (at == digits || at - digits > 2)
        return NULL;
    *exponent += negative ? -size : size;
    return at;
}

/* Rounds a double that is off by less than NEAR units; false if the float could be another. */
static inline bool round_once(double size, float *value)
{
    const uint64_t middle = UINT64_C(1) << 28; /* in the 29 digits that a float has less */
    const uint64_t near = NEAR;
    uint64_t bits;
    memcpy(&bits, &size, sizeof bits);
    uint64_t rest = bits & (2 * middle - 1);
    *value = (float)size;
    return rest - (middle - near) > 2 * near && size >= 0x1p-126 && size < 0x1p127;
}

const char *decimal_float(const char *at, const char *end, float *value)
{
    uint64_t digits = 0;
    end = end - at > LENGTH_MAX ? at + LENGTH_MAX : end; /* where it is cut, no comma follows */
    bool negative = at < end && *at == '-';
    at += negative;
    const char *start = at, *point = NULL;
    for (; at < end && is_digit(*at); at++)
        digits = 10 * digits + (uint64_t)(*at - '0');
    ptrdiff_t count = at - start;
    int exponent = 0;
    if (at < end && *at == '.') {
        for (point = ++at; at < end && is_digit(*at); at++)
            digits = 10 * digits + (uint64_t)(*at - '0');
        exponent = (int)(point - at);
        count += at - point;
    }
    if (count < 1 || count > DIGITS_MAX)
        return NULL;
    if (at < end && (*at == 'e' || *at == 'E'))
        at = read_exponent(at + 1, end, &exponent);
    if (!at || exponent < -POWER_MAX || exponent > POWER_MAX)
        return NULL;
    double size = exponent < 0 ? (double)digits / powers[-exponent]
                               : (double)digits * powers[exponent];
    if (!digits)
        *value = 0;
    else if (!round_once(size, value))
        return NULL;
    *value = negative ? -*value : *value;
    return at;
}
