// Time. Microseconds everywhere; wall time counts from 1970-01-01 UTC.
#pragma once

#include "base/base.h"

int64_t clock_mono_us(void); // never steps: deadlines, durations
int64_t clock_wall_us(void); // may step: what people read
// Wall time as it was at the first call of this process, going on without steps: for the age of
// what is kept, which a clock that jumps (a machine that slept, a first answer of NTP) must not
// end.
int64_t clock_steady_us(void);
// Time since a wall time that another machine may have said; 0 where its clock is ahead of ours.
int64_t clock_age_us(int64_t wall_us);

// PostgreSQL counts from 2000-01-01.
#define PG_EPOCH_US INT64_C(946684800000000)
// A time as the server says it, which may lie: bounded to what a timestamp can be there (4713 BC
// to 294276), so that it can be counted with.
int64_t clock_from_pg(int64_t pg_us);

#define CLOCK_TEXT_MAX 48
// "2026-11-23T15:44:00.123456Z" (years 0001 to 9999; others as a number of microseconds).
size_t clock_text(int64_t wall_us, char buf[CLOCK_TEXT_MAX]);
