#include "proto/timestamp.h"

#define SECONDS_MIN (-INT64_C(62135596800)) // 0001-01-01 00:00:00 UTC
#define SECONDS_MAX INT64_C(253402300799)   // 9999-12-31 23:59:59 UTC
#define PG_EPOCH_S  INT64_C(946684800)      // 2000-01-01 00:00:00 UTC

// Reads from min to max digits; false: fewer. A digit more is the next reader's to refuse.
static bool read_digits(const char **at, const char *end, int min, int max, int32_t *ret_v)
{
    const char *p = *at;
    int32_t v = 0;
    int n = 0;
    while (n < max && p < end && *p >= '0' && *p <= '9') {
        v = v * 10 + (*p++ - '0');
        n++;
    }
    if (n < min)
        return false;
    *at = p;
    *ret_v = v;
    return true;
}

static bool read_char(const char **at, const char *end, char c)
{
    if (*at == end || **at != c)
        return false;
    ++*at;
    return true;
}

// ".123456", or nothing.
static bool read_fraction(const char **at, const char *end, int32_t *ret_nanos)
{
    *ret_nanos = 0;
    if (!read_char(at, end, '.'))
        return true;
    const char *first = *at;
    int32_t v;
    if (!read_digits(at, end, 1, 6, &v))
        return false;
    for (int digits = (int)(*at - first); digits < 9; digits++)
        v *= 10;
    *ret_nanos = v;
    return true;
}

// "+05", "+05:30", "-03:12:28": seconds east of UTC.
static bool read_zone(const char **at, const char *end, int32_t *ret_seconds)
{
    bool west = read_char(at, end, '-');
    int32_t h, m = 0, s = 0;
    if ((!west && !read_char(at, end, '+')) || !read_digits(at, end, 2, 2, &h))
        return false;
    if (read_char(at, end, ':')) {
        if (!read_digits(at, end, 2, 2, &m))
            return false;
        if (read_char(at, end, ':') && !read_digits(at, end, 2, 2, &s))
            return false;
    }
    if (m > 59 || s > 59)
        return false;
    *ret_seconds = (west ? -1 : 1) * (h * 3600 + m * 60 + s);
    return true;
}

static int32_t days_in_month(int32_t year, int32_t month)
{
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

// Days since 1970-01-01 in the proleptic Gregorian calendar; year 0 is 1 BC. Years count from
// March here, so that the leap day is the last of its year.
static int64_t days_since_epoch(int32_t year, int32_t month, int32_t day)
{
    int64_t y = (int64_t)year - (month <= 2) + 400000; // positive for every year of PostgreSQL's
    int64_t month_from_march = (month + 9) % 12;
    int64_t days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * month_from_march + 2) / 5 + day - 1;
    return days - (INT64_C(400000) / 400 * 146097 + 719468);
}

bool timestamp_parse(const char *text, size_t n, struct timestamp *ret_t)
{
    const char *at = text, *end = text + n;
    int32_t year, month, day, h, m, s, nanos, zone;
    bool ok = read_digits(&at, end, 4, 6, &year) && read_char(&at, end, '-') &&
              read_digits(&at, end, 2, 2, &month) && read_char(&at, end, '-') &&
              read_digits(&at, end, 2, 2, &day) && read_char(&at, end, ' ') &&
              read_digits(&at, end, 2, 2, &h) && read_char(&at, end, ':') &&
              read_digits(&at, end, 2, 2, &m) && read_char(&at, end, ':') &&
              read_digits(&at, end, 2, 2, &s) && read_fraction(&at, end, &nanos) &&
              read_zone(&at, end, &zone);
    if (!ok || year == 0)
        return false;
    if (end - at == 3 && memcmp(at, " BC", 3) == 0) {
        year = 1 - year;
        at = end;
    }
    if (at != end || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) ||
        h > 23 || m > 59 || s > 59)
        return false;
    int64_t seconds = days_since_epoch(year, month, day) * 86400 + h * 3600 + m * 60 + s - zone;
    if (seconds < SECONDS_MIN || seconds > SECONDS_MAX)
        return false;
    *ret_t = (struct timestamp){seconds, nanos};
    return true;
}

bool timestamp_from_binary(int64_t us, struct timestamp *ret_t)
{
    int64_t rest = us % 1000000, seconds = us / 1000000 - (rest < 0) + PG_EPOCH_S;
    if (seconds < SECONDS_MIN || seconds > SECONDS_MAX) // infinity is the largest and the least
        return false;
    *ret_t = (struct timestamp){seconds, (int32_t)((rest < 0 ? rest + 1000000 : rest) * 1000)};
    return true;
}
