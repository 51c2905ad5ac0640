#include "proto/json_value.h"

#include "base/clock.h"
#include "proto/shortest.h"
#include "proto/wire.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// ---- strings ----

typedef int8_t v16 __attribute__((vector_size(16)));

// The place of the first byte that is not plain ASCII text, 16 when there is none.
static inline unsigned first_odd(const uint8_t *p)
{
    v16 v;
    memcpy(&v, p, sizeof v);
    // Signed: bytes from 0x80 are below the space too.
    v16 odd = (v < 0x20) | (v == '"') | (v == '\\');
    uint64_t half[2];
    memcpy(half, &odd, sizeof half);
    if (half[0])
        return (unsigned)__builtin_ctzll(half[0]) / 8;
    return half[1] ? 8 + (unsigned)__builtin_ctzll(half[1]) / 8 : 16;
}

static inline bool is_tail(uint8_t c)
{
    return (c & 0xc0) == 0x80;
}

// The length of the UTF-8 sequence at p, whose first byte is not ASCII; 0 when it is none.
static size_t utf8_length(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c >= 0xc2 && c <= 0xdf)
        return n >= 2 && is_tail(p[1]) ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef) {
        if (n < 3 || !is_tail(p[1]) || !is_tail(p[2]))
            return 0;
        bool overlong = c == 0xe0 && p[1] < 0xa0, surrogate = c == 0xed && p[1] > 0x9f;
        return overlong || surrogate ? 0 : 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        if (n < 4 || !is_tail(p[1]) || !is_tail(p[2]) || !is_tail(p[3]))
            return 0;
        bool overlong = c == 0xf0 && p[1] < 0x90, beyond = c == 0xf4 && p[1] > 0x8f;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

// Whether a byte of x is not plain ASCII text. A borrow can only come from a byte that is not.
static inline bool any_odd(uint64_t x)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    uint64_t quote = x ^ ones * '"', backslash = x ^ ones * '\\';
    return (((x - ones * 0x20) | x | (quote - ones) | (backslash - ones)) & high) != 0;
}

// Copies n < 16 bytes of plain ASCII text; false when they are not (then what is written is void).
static inline bool copy_short(uint8_t *to, const uint8_t *p, size_t n)
{
    if (n >= 8) { // two words that may overlap
        uint64_t head, tail;
        memcpy(&head, p, 8);
        memcpy(&tail, p + n - 8, 8);
        memcpy(to, &head, 8);
        memcpy(to + n - 8, &tail, 8);
        return !any_odd(head) && !any_odd(tail);
    }
    if (n >= 4) {
        uint32_t head, tail;
        memcpy(&head, p, 4);
        memcpy(&tail, p + n - 4, 4);
        memcpy(to, &head, 4);
        memcpy(to + n - 4, &tail, 4);
        return !any_odd((uint64_t)tail << 32 | head);
    }
    bool odd = false;
    for (size_t i = 0; i < n; i++) {
        to[i] = p[i];
        odd |= p[i] < 0x20 || p[i] >= 0x80 || p[i] == '"' || p[i] == '\\';
    }
    return !odd;
}

size_t json_plain(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if (n - i >= 16) {
            unsigned k = first_odd(p + i);
            i += k;
            if (k == 16)
                continue;
        }
        if (p[i] < 0x80) {
            if (p[i] < 0x20 || p[i] == '"' || p[i] == '\\')
                return i;
            i++;
            continue;
        }
        do { // text in another script: more of it is likely
            size_t length = utf8_length(p + i, n - i);
            if (length == 0)
                return i;
            i += length;
        } while (i < n && p[i] >= 0x80);
    }
    return n;
}

static uint8_t *put_escape(uint8_t *at, uint8_t c)
{
    static const char short_form[0x20] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    static const char hex[] = "0123456789abcdef";
    if (c >= 0x80) { // not UTF-8: U+FFFD
        *at++ = 0xef;
        *at++ = 0xbf;
        *at++ = 0xbd;
        return at;
    }
    *at++ = '\\';
    if (c >= 0x20) { // a quote, a backslash
        *at++ = c;
    } else if (short_form[c]) {
        *at++ = (uint8_t)short_form[c];
    } else {
        *at++ = 'u';
        *at++ = '0';
        *at++ = '0';
        *at++ = (uint8_t)hex[c >> 4];
        *at++ = (uint8_t)hex[c & 15];
    }
    return at;
}

void json_string(struct buf *out, const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    uint8_t *at = buf_room(out, n + 2);
    *at++ = '"';
    if (n < 16 && copy_short(at, p, n)) {
        at[n] = '"';
        out->n += n + 2;
        return;
    }
    for (;;) {
        size_t run = json_plain(p, n);
        if (run)
            memcpy(at, p, run);
        at += run;
        p += run;
        n -= run;
        if (n == 0)
            break;
        out->n = (size_t)(at - out->p);
        at = put_escape(buf_room(out, n + 7), *p++);
        n--;
    }
    *at++ = '"';
    out->n = (size_t)(at - out->p);
}

// ---- numbers ----

void json_u64(struct buf *out, uint64_t v)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char digits[20];
    size_t i = sizeof digits;
    while (v >= 100) {
        i -= 2;
        memcpy(digits + i, pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        i -= 2;
        memcpy(digits + i, pairs + v * 2, 2);
    } else {
        digits[--i] = (char)('0' + v);
    }
    buf_put(out, digits + i, sizeof digits - i);
}

void json_i64(struct buf *out, int64_t v)
{
    if (v < 0)
        buf_putc(out, '-');
    json_u64(out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

// Digits of a decimal (d.ddd x 10^exp) in PostgreSQL's form: with an exponent below 1e-4 and from
// 10^exp_max.
static void put_decimal(struct buf *out, const char *digits, int n, int exp, int exp_max)
{
    if (exp < -4 || exp >= exp_max) {
        buf_putc(out, digits[0]);
        if (n > 1) {
            buf_putc(out, '.');
            buf_put(out, digits + 1, (size_t)n - 1);
        }
        buf_printf(out, "e%+03d", exp);
        return;
    }
    if (exp < 0) {
        buf_puts(out, "0.");
        for (int i = -1; i > exp; i--)
            buf_putc(out, '0');
        buf_put(out, digits, (size_t)n);
        return;
    }
    for (int i = 0; i < n || i <= exp; i++) {
        if (i == exp + 1)
            buf_putc(out, '.');
        buf_putc(out, i < n ? digits[i] : '0');
    }
}

// Splits "d.ddde+xx" as printf wrote it; returns how many digits there are without trailing zeros.
static int split_decimal(const char *text, char *digits, int *ret_exp)
{
    int n = 0;
    const char *s = text;
    for (; *s && *s != 'e'; s++) {
        if (*s >= '0' && *s <= '9')
            digits[n++] = *s;
    }
    *ret_exp = *s ? (int)strtol(s + 1, NULL, 10) : 0;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    return n;
}

// What needs no search: NaN, infinities, whole numbers below `whole_max`.
static bool simple_number(struct buf *out, double v, double whole_max)
{
    if (isnan(v)) {
        buf_puts(out, "NaN");
        return true;
    }
    if (signbit(v)) {
        buf_putc(out, '-');
        v = -v;
    }
    if (isinf(v)) {
        buf_puts(out, "Infinity");
        return true;
    }
    if (v < whole_max && v == (double)(int64_t)v) {
        json_i64(out, (int64_t)v);
        return true;
    }
    return false;
}

static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};

// m / 10^decimals, without trailing zeros.
static void put_fixed(struct buf *out, uint64_t m, int decimals)
{
    uint64_t scale = (uint64_t)powers[decimals], rest = m % scale;
    json_u64(out, m / scale);
    while (rest % 10 == 0) {
        rest /= 10;
        decimals--;
    }
    uint8_t *at = buf_room(out, (size_t)decimals + 1);
    at[0] = '.';
    for (int i = decimals; i > 0; i--, rest /= 10)
        at[i] = (uint8_t)('0' + rest % 10);
    out->n += (size_t)decimals + 1;
}

// v (from 1e-4, below 1e15, not whole) if it is a decimal of 15 digits: each of these is told apart
// from every other by its double, so that it is the shortest when it reads back the same.
static bool put_short_double(struct buf *out, double v)
{
    int decimals = 18;
    while (decimals > 0 && v * powers[decimals] >= 1e15)
        decimals--;
    uint64_t m = (uint64_t)(v * powers[decimals] + 0.5);
    if ((double)m / powers[decimals] != v)
        return false;
    put_fixed(out, m, decimals);
    return true;
}

// The same for a float (from 1e-4, below 1e6): six digits. They are too far from the middle between
// two floats for a double's error to put them on the wrong side of it.
static bool put_short_float(struct buf *out, float f)
{
    int decimals = 10;
    while (decimals > 0 && (double)f * powers[decimals] >= 1e6)
        decimals--;
    uint64_t m = (uint64_t)((double)f * powers[decimals] + 0.5);
    if ((float)((double)m / powers[decimals]) != f)
        return false;
    put_fixed(out, m, decimals);
    return true;
}

void double_text(struct buf *out, double v)
{
    if (simple_number(out, v, 1e15))
        return;
    v = fabs(v); // the sign is written
    bool everyday = v >= 1e-4 && v < 1e15;
    if (everyday && put_short_double(out, v))
        return;
    char text[SHORTEST_TEXT_MAX], digits[20] = "";
    // Normal numbers of up to 15 digits come out with trailing zeros, which are cut.
    for (int n = everyday ? 16 : fpclassify(v) == FP_SUBNORMAL ? 1 : 15;; n++) {
        if (shortest_double(text, v, n) || n == 17)
            break;
    }
    int exp, n = split_decimal(text, digits, &exp);
    put_decimal(out, digits, n, exp, 15);
}

void float_text(struct buf *out, float f)
{
    if (simple_number(out, (double)f, 1e6))
        return;
    f = fabsf(f);
    if (f >= 1e-4F && f < 1e6F && put_short_float(out, f))
        return;
    char text[SHORTEST_TEXT_MAX], digits[20] = "";
    for (int n = fpclassify(f) == FP_SUBNORMAL ? 1 : 6;; n++) {
        if (shortest_float(text, f, n) || n == 9)
            break;
    }
    int exp, n = split_decimal(text, digits, &exp);
    put_decimal(out, digits, n, exp, 6);
}

static float float_of(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float f;
    memcpy(&f, &low, sizeof f);
    return f;
}

static double double_of(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

// ---- bytes, times, positions ----

void json_base64(struct buf *out, struct slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // An absent value has no bytes to point at.
    const uint8_t *p = bytes.n ? bytes.p : (const uint8_t *)"", *end = p + bytes.n;
    uint8_t *at = buf_room(out, (bytes.n + 2) / 3 * 4 + 2), *start = at;
    *at++ = '"';
    for (; end - p >= 3; p += 3) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *at++ = (uint8_t)digits[v >> shift & 63];
    }
    if (end - p > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (end - p > 1 ? (uint32_t)p[1] << 8 : 0);
        *at++ = (uint8_t)digits[v >> 18];
        *at++ = (uint8_t)digits[v >> 12 & 63];
        *at++ = end - p > 1 ? (uint8_t)digits[v >> 6 & 63] : '=';
        *at++ = '=';
    }
    *at++ = '"';
    out->n += (size_t)(at - start);
}

static uint8_t *put_hex(uint8_t *at, uint32_t v)
{
    int n = v ? (35 - __builtin_clz(v)) / 4 : 1;
    for (int i = n - 1; i >= 0; i--, v >>= 4)
        at[i] = (uint8_t) "0123456789ABCDEF"[v & 15];
    return at + n;
}

void json_lsn(struct buf *out, lsn_t lsn)
{
    uint8_t *start = buf_room(out, LSN_TEXT_MAX + 2), *at = start;
    *at++ = '"';
    at = put_hex(at, (uint32_t)(lsn >> 32));
    *at++ = '/';
    at = put_hex(at, (uint32_t)lsn);
    *at++ = '"';
    out->n += (size_t)(at - start);
}

void json_time(struct buf *out, int64_t wall_us)
{
    uint8_t *at = buf_room(out, CLOCK_TEXT_MAX + 2);
    at[0] = '"';
    size_t n = clock_text(wall_us, (char *)at + 1);
    at[n + 1] = '"';
    out->n += n + 2;
}

bool timestamp_decode(struct slice message, int64_t *ret_wall_us)
{
    const int64_t first = INT64_C(-62135596800), last = INT64_C(253402300799); // 0001 .. 9999
    struct reader in = reader_of(message.p, message.n);
    struct wire_field f;
    int64_t seconds = 0, nanos = 0;
    while (wire_next(&in, &f)) {
        if (f.number == 1)
            seconds = (int64_t)f.v;
        else if (f.number == 2)
            nanos = (int64_t)f.v;
    }
    if (!reader_done(&in) || seconds < first || seconds > last || nanos < 0 || nanos > 999999999)
        return false;
    *ret_wall_us = seconds * 1000000 + nanos / 1000;
    return true;
}

// ---- scalars ----

// Infinity and NaN are no JSON numbers.
static void json_double(struct buf *out, double v)
{
    const char *quotes = isfinite(v) ? "" : "\"";
    buf_puts(out, quotes);
    double_text(out, v);
    buf_puts(out, quotes);
}

static void json_float(struct buf *out, float v)
{
    const char *quotes = isfinite(v) ? "" : "\"";
    buf_puts(out, quotes);
    float_text(out, v);
    buf_puts(out, quotes);
}

int json_scalar(struct buf *out, enum kind k, enum json_class class, const struct scalar *s)
{
    int64_t us;
    switch (k) {
    case KIND_BOOL:
        buf_puts(out, s->v ? "true" : "false");
        return 0;
    case KIND_INT32:
        json_i64(out, (int32_t)s->v);
        return 0;
    case KIND_INT64: // beyond 2^53 a JavaScript number would lose digits
        buf_putc(out, '"');
        json_i64(out, (int64_t)s->v);
        buf_putc(out, '"');
        return 0;
    case KIND_UINT32:
        json_u64(out, (uint32_t)s->v);
        return 0;
    case KIND_FLOAT:
        json_float(out, float_of(s->v));
        return 0;
    case KIND_DOUBLE:
        json_double(out, double_of(s->v));
        return 0;
    case KIND_BYTES:
        json_base64(out, s->bytes);
        return 0;
    case KIND_TIMESTAMP:
        if (!timestamp_decode(s->bytes, &us))
            return -1;
        json_time(out, us);
        return 0;
    case KIND_STRING:
        if (class != JSON_CLASS_JSON || !json_document(out, s->bytes))
            json_string(out, (const char *)s->bytes.p, s->bytes.n);
        return 0;
    default:
        return -1;
    }
}

static void bytea_text(struct buf *out, struct slice bytes)
{
    buf_puts(out, "\\x");
    uint8_t *at = buf_room(out, bytes.n * 2);
    for (size_t i = 0; i < bytes.n; i++) {
        *at++ = (uint8_t) "0123456789abcdef"[bytes.p[i] >> 4];
        *at++ = (uint8_t) "0123456789abcdef"[bytes.p[i] & 15];
    }
    out->n += bytes.n * 2;
}

// "2026-11-23 15:44:00.5+00"
static void timestamptz_text(struct buf *out, int64_t wall_us)
{
    char text[CLOCK_TEXT_MAX];
    size_t n = clock_text(wall_us, text) - 1; // without the Z
    text[10] = ' ';
    while (text[n - 1] == '0' && n > sizeof "2026-11-23 15:44:00")
        n--;
    if (text[n - 1] == '.')
        n--;
    buf_put(out, text, n);
    buf_puts(out, "+00");
}

int scalar_text(struct buf *out, enum kind k, const struct scalar *s)
{
    int64_t us;
    switch (k) {
    case KIND_BOOL:
        buf_putc(out, s->v ? 't' : 'f');
        return 0;
    case KIND_INT32:
    case KIND_INT64:
        json_i64(out, (int64_t)s->v);
        return 0;
    case KIND_UINT32:
        json_u64(out, (uint32_t)s->v);
        return 0;
    case KIND_FLOAT:
        float_text(out, float_of(s->v));
        return 0;
    case KIND_DOUBLE:
        double_text(out, double_of(s->v));
        return 0;
    case KIND_BYTES:
        bytea_text(out, s->bytes);
        return 0;
    case KIND_TIMESTAMP:
        if (!timestamp_decode(s->bytes, &us))
            return -1;
        timestamptz_text(out, us);
        return 0;
    case KIND_STRING:
        buf_put(out, s->bytes.p, s->bytes.n);
        return 0;
    default:
        return -1;
    }
}
