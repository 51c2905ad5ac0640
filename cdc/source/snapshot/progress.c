#include "source/snapshot/progress.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

struct progress {
    char *table;
    double estimate; // of rows
    uint64_t pages, pages_read, rows;
    int64_t begun_us, logged_us;
    uint64_t logged_rows, logged_pages;
};

struct progress *progress_new(const char *table)
{
    struct progress *p = xcalloc(1, sizeof *p);
    p->table = xstrdup(table);
    progress_restart(p);
    return p;
}

void progress_free(struct progress *p)
{
    if (!p)
        return;
    free(p->table);
    free(p);
}

void progress_restart(struct progress *p)
{
    p->rows = p->logged_rows = p->pages_read = p->logged_pages = 0;
    p->begun_us = p->logged_us = clock_mono_us();
}

void progress_plan(struct progress *p, double rows, uint64_t pages)
{
    p->estimate = rows;
    p->pages = pages;
    log_info("reading existing rows", "table=%s pages=%llu rows_estimate=%.0f", log_quote(p->table),
             (unsigned long long)pages, rows);
}

void progress_add(struct progress *p, uint64_t rows, uint64_t pages)
{
    p->rows += rows;
    p->pages_read += pages;
}

// 0 where nothing is known of the whole; an estimate is none of being done.
static double percent(const struct progress *p)
{
    double done = 0;
    if (p->pages)
        done = 100.0 * (double)p->pages_read / (double)p->pages;
    else if (p->estimate > 0)
        done = 100.0 * (double)p->rows / p->estimate;
    return done > 99 ? 99 : done;
}

static double rate(const struct progress *p, int64_t now)
{
    return (double)p->rows * 1e6 / (double)(now > p->begun_us ? now - p->begun_us : 1);
}

static double seconds_left(const struct progress *p, int64_t now)
{
    double done = percent(p);
    return done > 0 ? (double)(now - p->begun_us) / 1e6 * (100 - done) / done : 0;
}

void progress_put(const struct progress *p, int64_t now, struct buf *out)
{
    buf_printf(out, "%s: %llu rows", p->table, (unsigned long long)p->rows);
    if (percent(p) > 0)
        buf_printf(out, ", %.0f %%", percent(p));
    buf_printf(out, ", %.0f rows/s", rate(p, now));
    if (seconds_left(p, now) >= 1)
        buf_printf(out, ", %.0f s left", seconds_left(p, now));
}

bool progress_log(struct progress *p, int64_t now)
{
    if (now < p->logged_us + PROGRESS_INTERVAL_LOG_US ||
        (p->rows == p->logged_rows && p->pages_read == p->logged_pages))
        return false;
    double recent = (double)(p->rows - p->logged_rows) * 1e6 / (double)(now - p->logged_us);
    p->logged_us = now;
    p->logged_rows = p->rows;
    p->logged_pages = p->pages_read;
    log_info("reading existing rows", "table=%s rows=%llu percent=%.0f rate=%.0f seconds_left=%.0f",
             log_quote(p->table), (unsigned long long)p->rows, percent(p), recent,
             seconds_left(p, now));
    return true;
}
