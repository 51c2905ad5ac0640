// How the reading of one table goes, for people: log lines and one text.
#pragma once

#include "base/buf.h"

#define PROGRESS_INTERVAL_LOG_US INT64_C(10000000)

struct progress;

struct progress *progress_new(const char *table);
void progress_free(struct progress *p); // NULL is fine
// An estimate of all rows (0: none) and the pages that will be read for them (0: not by pages).
void progress_plan(struct progress *p, double rows, uint64_t pages);
void progress_add(struct progress *p, uint64_t rows, uint64_t pages);
// Begins to count anew.
void progress_restart(struct progress *p);
// Logs a line if one is due: once an interval, and only when something came since the last one.
// True: it did.
bool progress_log(struct progress *p, int64_t now);
// "public.t: 1200000 rows, 45 %, 52000 rows/s, 28 s left"
void progress_put(const struct progress *p, int64_t now, struct buf *out);
