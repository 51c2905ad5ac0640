// The shortest decimal of a float, as PostgreSQL writes it (since 12): the least digits that are
// nearer to it than to any other float. A decimal in the very middle between two is not taken,
// though a reader that rounds to even would take it for the right one.
#pragma once

#include "base/base.h"

#define SHORTEST_TEXT_MAX 32

// Writes v > 0, finite, with n significant digits ("1.50e+02"); true: these name it. Of all
// decimals of n digits it is the nearest, or the next one up where only that names it. 17 digits
// name every double, 9 every float.
bool shortest_double(char text[SHORTEST_TEXT_MAX], double v, int n);
bool shortest_float(char text[SHORTEST_TEXT_MAX], float v, int n);
