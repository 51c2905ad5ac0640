// What an error of the server, or one of libpq's, means: whether it passes by itself, and what to
// do about it where that is always the same.
#pragma once

#include "base/err.h"

struct refusal {
    enum err_class class;
    const char *remedy; // or NULL
};

// sqlstate "": libpq's own words. What is not known passes without a SQLSTATE (ERR_RETRY), and
// needs somebody who does something with one (ERR_SOURCE).
struct refusal refusal_find(const char *sqlstate, const char *text);
