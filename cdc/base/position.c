#include "base/position.h"

#include <inttypes.h>
#include <stdio.h>

const char *lsn_text(lsn_t lsn, char *buf)
{
    snprintf(buf, LSN_TEXT_MAX, LSN_FMT, LSN_ARG(lsn));
    return buf;
}

// Hex digits from *s up to `end` or another character, at most `digits_max`; false when there is
// none.
static bool hex_take(const char **s, const char *end, int digits_max, uint64_t *ret_v)
{
    uint64_t v = 0;
    int n = 0;
    for (; *s < end; (*s)++, n++) {
        char c = **s;
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            break;
        if (n == digits_max)
            return false;
        v = v << 4 | (unsigned)d;
    }
    if (n == 0)
        return false;
    *ret_v = v;
    return true;
}

static bool char_take(const char **s, const char *end, char c)
{
    if (*s == end || **s != c)
        return false;
    (*s)++;
    return true;
}

bool lsn_parse(const char *text, lsn_t *ret_lsn)
{
    const char *s = text, *end = text + strlen(text);
    uint64_t hi, lo;
    if (!hex_take(&s, end, 8, &hi) || !char_take(&s, end, '/') || !hex_take(&s, end, 8, &lo) ||
        s != end)
        return false;
    *ret_lsn = hi << 32 | lo;
    return true;
}

static char *hex_put(char *at, uint64_t v, int digits_min)
{
    int n = v ? (67 - __builtin_clzll(v)) / 4 : 1;
    if (n < digits_min)
        n = digits_min;
    for (int i = n - 1; i >= 0; i--, v >>= 4)
        at[i] = "0123456789abcdef"[v & 15];
    return at + n;
}

size_t cursor_text(const struct cursor *c, char buf[CURSOR_TEXT_MAX])
{
    char *at = hex_put(buf, c->stream_id, 16);
    *at++ = '.';
    at = hex_put(at, c->timeline, 1);
    *at++ = '.';
    at = hex_put(at, c->at.lsn, 1);
    *at++ = '.';
    at = hex_put(at, c->at.ordinal, 1);
    if (c->attempt) {
        *at++ = '.';
        at = hex_put(at, c->attempt, 1);
    }
    *at = 0;
    return (size_t)(at - buf);
}

bool cursor_parse(const char *text, size_t n, struct cursor *ret_c)
{
    const char *s = text, *end = text + n;
    uint64_t stream, timeline, lsn, ordinal, attempt = 0;
    if (!hex_take(&s, end, 16, &stream) || s != text + 16 || !char_take(&s, end, '.') ||
        !hex_take(&s, end, 8, &timeline) || !char_take(&s, end, '.') ||
        !hex_take(&s, end, 16, &lsn) || !char_take(&s, end, '.') ||
        !hex_take(&s, end, 16, &ordinal))
        return false;
    if (s != end && (!char_take(&s, end, '.') || !hex_take(&s, end, 8, &attempt)))
        return false;
    if (s != end)
        return false;
    *ret_c = (struct cursor){stream, (uint32_t)timeline, {lsn, ordinal}, (uint32_t)attempt};
    return true;
}
