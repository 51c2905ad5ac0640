#include "base/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    CHECK(clock_gettime(id, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

static int64_t steady_offset;

static void set_steady_offset(void)
{
    steady_offset = clock_wall_us() - clock_mono_us();
}

int64_t clock_steady_us(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CHECK(pthread_once(&once, set_steady_offset) == 0);
    return clock_mono_us() + steady_offset;
}

int64_t clock_age_us(int64_t wall_us)
{
    int64_t age = clock_wall_us() - wall_us;
    return age > 0 ? age : 0;
}

int64_t clock_from_pg(int64_t pg_us)
{
    const int64_t min = INT64_C(-211813488000000000); // src/include/datatype/timestamp.h
    const int64_t max = INT64_MAX - PG_EPOCH_US;
    return (pg_us < min ? min : pg_us > max ? max : pg_us) + PG_EPOCH_US;
}

// Days since 1970-01-01 to a civil date (proleptic Gregorian), by counting eras of 400 years.
static void civil_from_days(int64_t days, int64_t *ret_y, unsigned *ret_m, unsigned *ret_d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned doe = (unsigned)(days - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    *ret_d = doy - (153 * mp + 2) / 5 + 1;
    *ret_m = mp < 10 ? mp + 3 : mp - 9;
    *ret_y = (int64_t)yoe + era * 400 + (*ret_m <= 2);
}

static char *digits(char *at, unsigned v, int n)
{
    for (int i = n - 1; i >= 0; i--, v /= 10)
        at[i] = (char)('0' + v % 10);
    return at + n;
}

size_t clock_text(int64_t wall_us, char buf[CLOCK_TEXT_MAX])
{
    const int64_t day_us = INT64_C(86400000000);
    int64_t days = wall_us / day_us;
    int64_t rest = wall_us % day_us;
    if (rest < 0) {
        rest += day_us;
        days--;
    }
    int64_t y;
    unsigned m, d;
    civil_from_days(days, &y, &m, &d);
    if (y < 1 || y > 9999)
        return (size_t)snprintf(buf, CLOCK_TEXT_MAX, "%" PRId64, wall_us);
    unsigned s = (unsigned)(rest / 1000000), us = (unsigned)(rest % 1000000);
    char *at = digits(buf, (unsigned)y, 4);
    *at++ = '-';
    at = digits(at, m, 2);
    *at++ = '-';
    at = digits(at, d, 2);
    *at++ = 'T';
    at = digits(at, s / 3600, 2);
    *at++ = ':';
    at = digits(at, s / 60 % 60, 2);
    *at++ = ':';
    at = digits(at, s % 60, 2);
    *at++ = '.';
    at = digits(at, us, 6);
    *at++ = 'Z';
    *at = 0;
    return (size_t)(at - buf);
}
