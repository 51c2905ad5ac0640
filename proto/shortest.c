#include "proto/shortest.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

// What is between a float m * 2^e and its neighbours: (2m + 1) * 2^(e-1) above it; below it
// (2m - 1) * 2^(e-1), or (4m - 1) * 2^(e-2) where floats below lie twice as dense.
struct neighbours {
    uint64_t above, below;
    bool dense;
};

static struct neighbours neighbours_of(double v, int mantissa_bits, int exponent_min)
{
    int e;
    double fraction = frexp(v, &e); // [0.5, 1)
    int bits = e < exponent_min ? mantissa_bits - (exponent_min - e) : mantissa_bits;
    uint64_t m = (uint64_t)ldexp(fraction, bits);
    bool dense = m == UINT64_C(1) << (mantissa_bits - 1) && e > exponent_min;
    return (struct neighbours){2 * m + 1, dense ? 4 * m - 1 : 2 * m - 1, dense};
}

// "1.234e-05" as digits * 10^exponent.
static void take_apart(const char *text, uint64_t *ret_digits, int *ret_exponent)
{
    uint64_t digits = 0;
    int decimals = 0;
    const char *p = text;
    for (bool behind = false; *p != 'e'; p++) {
        if (*p == '.') {
            behind = true;
        } else {
            digits = digits * 10 + (uint64_t)(*p - '0');
            decimals += behind;
        }
    }
    for (*ret_exponent = (int)strtol(p + 1, NULL, 10) - decimals; digits && digits % 10 == 0;) {
        digits /= 10;
        ++*ret_exponent;
    }
    *ret_digits = digits;
}

// a * 5^power without its factors of two; 0: too large, for both are below 2^58.
static unsigned __int128 odd_part(uint64_t a, int power)
{
    unsigned __int128 v = a;
    if (power > 24)
        return 0;
    while (v && v % 2 == 0)
        v /= 2;
    for (; power > 0; power--)
        v *= 5;
    return v;
}

// For a text that reads back as the float of n, so that equal odd parts mean equal numbers.
static bool in_the_middle(const char *text, const struct neighbours *n)
{
    uint64_t digits;
    int exponent;
    take_apart(text, &digits, &exponent);
    unsigned __int128 ours = odd_part(digits, exponent > 0 ? exponent : 0);
    int other = exponent < 0 ? -exponent : 0;
    return ours && (ours == odd_part(n->above, other) || ours == odd_part(n->below, other));
}

// The next decimal of as many digits; no power of two needs a digit more then.
static void count_up(char *text)
{
    char *p = strchr(text, 'e');
    while (p > text) {
        if (*--p == '.')
            continue;
        if (*p != '9') {
            ++*p;
            return;
        }
        *p = '0';
    }
}

static bool reads_back(const char *text, double v, bool single)
{
    return single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v;
}

static bool shortest(char text[SHORTEST_TEXT_MAX], double v, int n, bool single)
{
    struct neighbours near =
        neighbours_of(v, single ? FLT_MANT_DIG : DBL_MANT_DIG, single ? FLT_MIN_EXP : DBL_MIN_EXP);
    snprintf(text, SHORTEST_TEXT_MAX, "%.*e", n - 1, v);
    if (reads_back(text, v, single))
        return !in_the_middle(text, &near);
    if (!near.dense)
        return false;
    char up[SHORTEST_TEXT_MAX];
    memcpy(up, text, sizeof up);
    count_up(up);
    if (!reads_back(up, v, single) || in_the_middle(up, &near))
        return false;
    memcpy(text, up, sizeof up);
    return true;
}

bool shortest_double(char text[SHORTEST_TEXT_MAX], double v, int n)
{
    return shortest(text, v, n, false);
}

bool shortest_float(char text[SHORTEST_TEXT_MAX], float v, int n)
{
    return shortest(text, (double)v, n, true);
}
