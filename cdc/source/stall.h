// Whether reading has stopped for want of room in the journal. A moment of that is flow control, as
// in each drain that is faster than the disk; only what lasts is said. Pure; times are
// clock_mono_us.
#pragma once

#include "base/base.h"

#define STALL_US INT64_C(2000000) // what lasts

struct stall {
    int64_t since;    // 0: there is room
    const char *said; // why there is none, as far as it is said; or NULL
};

// why: there is no room; NULL: there is. True when `said` has changed.
bool stall_set(struct stall *s, const char *why, int64_t now);
// When it may have something to say though nothing else happens; INT64_MAX: never.
int64_t stall_deadline(const struct stall *s);
