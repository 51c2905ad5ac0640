// PostgreSQL's ISO text of a timestamptz, to the instant that google.protobuf.Timestamp holds.
#pragma once

#include "base/base.h"

struct timestamp {
    int64_t seconds; // since 1970-01-01 UTC
    int32_t nanos;   // 0..999999999
};

// "2026-11-23 15:44:00.123456+05:30", "0044-03-15 00:00:00-03:12:28 BC". False: not of this form,
// or not within the years 1 to 9999 UTC (infinity, most of BC), which a Timestamp cannot hold.
bool timestamp_parse(const char *text, size_t n, struct timestamp *ret_t) MUST_CHECK;
// The same from PostgreSQL's own number: microseconds since 2000-01-01 UTC.
bool timestamp_from_binary(int64_t us, struct timestamp *ret_t) MUST_CHECK;
