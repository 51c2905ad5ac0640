// Dates, times and intervals.
#include "proto/binary_form.h"

#include <inttypes.h>

#define DAY_US  INT64_C(86400000000)
#define HOUR_US INT64_C(3600000000)

// Since 2000-01-01.
struct civil {
    int64_t year; // 0 is 1 BC
    int month, day;
};

// Years count from March here, so that the leap day is the last of its year; 400 of them repeat.
static struct civil civil_of(int64_t days)
{
    enum { CYCLE = 146097, MARCH_2000 = 60 };
    days -= MARCH_2000; // since 2000-03-01
    int64_t cycle = days / CYCLE - (days % CYCLE < 0), day = days - cycle * CYCLE;
    int64_t year = (day - day / 1460 + day / 36524 - day / (CYCLE - 1)) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153; // 0: March
    struct civil c = {.year = 2000 + cycle * 400 + year + (month >= 10),
                      .month = (int)(month < 10 ? month + 3 : month - 9),
                      .day = (int)(of_year - (153 * month + 2) / 5 + 1)};
    return c;
}

static void put_date(struct buf *out, struct civil c)
{
    binary_put_digits(out, (uint64_t)(c.year > 0 ? c.year : 1 - c.year), 4);
    buf_putc(out, '-');
    binary_put_digits(out, (uint64_t)c.month, 2);
    buf_putc(out, '-');
    binary_put_digits(out, (uint64_t)c.day, 2);
}

static void put_era(struct buf *out, struct civil c)
{
    if (c.year <= 0)
        buf_puts(out, " BC");
}

// "05.123", without zeros at the end of the fraction.
static void put_seconds(struct buf *out, uint64_t us)
{
    binary_put_digits(out, us / 1000000, 2);
    uint64_t fraction = us % 1000000;
    if (fraction == 0)
        return;
    buf_putc(out, '.');
    binary_put_digits(out, fraction, 6);
    while (out->p[out->n - 1] == '0')
        out->n--;
}

static void put_time(struct buf *out, uint64_t us)
{
    binary_put_digits(out, us / HOUR_US, 2);
    buf_putc(out, ':');
    binary_put_digits(out, us / 60000000 % 60, 2);
    buf_putc(out, ':');
    put_seconds(out, us % 60000000);
}

static bool read_time(struct reader *r, uint64_t *ret_us)
{
    *ret_us = reader_be64(r);
    return *ret_us <= DAY_US; // 24:00:00 is one
}

bool binary_date(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    int32_t days = (int32_t)reader_be32(r);
    if (days == INT32_MAX || days == INT32_MIN) {
        buf_puts(d->out, days > 0 ? "infinity" : "-infinity");
        return true;
    }
    struct civil c = civil_of(days);
    put_date(d->out, c);
    put_era(d->out, c);
    return true;
}

bool binary_time(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint64_t us;
    if (!read_time(r, &us))
        return false;
    put_time(d->out, us);
    return true;
}

bool binary_timetz(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint64_t us;
    if (!read_time(r, &us))
        return false;
    put_time(d->out, us);
    int64_t west = (int32_t)reader_be32(r);
    uint64_t zone = (uint64_t)(west < 0 ? -west : west);
    buf_putc(d->out, west <= 0 ? '+' : '-');
    binary_put_digits(d->out, zone / 3600, 2);
    if (zone % 3600) {
        buf_putc(d->out, ':');
        binary_put_digits(d->out, zone / 60 % 60, 2);
    }
    if (zone % 60) {
        buf_putc(d->out, ':');
        binary_put_digits(d->out, zone % 60, 2);
    }
    return true;
}

static bool put_timestamp(struct buf *out, struct reader *r, const char *zone)
{
    int64_t us = (int64_t)reader_be64(r);
    if (us == INT64_MAX || us == INT64_MIN) {
        buf_puts(out, us > 0 ? "infinity" : "-infinity");
        return true;
    }
    int64_t rest = us % DAY_US;
    struct civil c = civil_of(us / DAY_US - (rest < 0));
    put_date(out, c);
    buf_putc(out, ' ');
    put_time(out, (uint64_t)(rest < 0 ? rest + DAY_US : rest));
    buf_puts(out, zone);
    put_era(out, c);
    return true;
}

bool binary_timestamp(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    return put_timestamp(d->out, r, "");
}

bool binary_timestamptz(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    return put_timestamp(d->out, r, "+00");
}

// ---- intervals ----

struct parts {
    struct buf *out;
    bool any;    // something stands there
    bool before; // what stands there last is negative: a positive one behind it needs a sign
};

static void put_part(struct parts *p, int64_t v, const char *unit)
{
    if (v == 0)
        return;
    buf_printf(p->out, "%s%s%" PRId64 " %s%s", p->any ? " " : "", p->before && v > 0 ? "+" : "", v,
               unit, v == 1 ? "" : "s");
    p->any = true;
    p->before = v < 0;
}

bool binary_interval(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    int64_t us = (int64_t)reader_be64(r);
    int32_t days = (int32_t)reader_be32(r), months = (int32_t)reader_be32(r);
    bool most = us == INT64_MAX && days == INT32_MAX && months == INT32_MAX;
    bool least = us == INT64_MIN && days == INT32_MIN && months == INT32_MIN;
    if (d->b->version >= 170000 && (most || least)) {
        buf_puts(d->out, most ? "infinity" : "-infinity");
        return true;
    }
    struct parts p = {.out = d->out};
    put_part(&p, months / 12, "year");
    put_part(&p, months % 12, "mon");
    put_part(&p, days, "day");
    if (p.any && us == 0)
        return true;
    buf_printf(d->out, "%s%s", p.any ? " " : "", us < 0 ? "-" : p.before ? "+" : "");
    put_time(d->out, us < 0 ? 0 - (uint64_t)us : (uint64_t)us);
    return true;
}
