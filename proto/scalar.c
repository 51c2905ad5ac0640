#include "proto/scalar.h"

#include "proto/timestamp.h"
#include "proto/utf8.h"

#include <math.h>

#define FLOAT_TEXT_MAX 400 // no shortest decimal form of a double is longer than 24
#define LENGTH_MAX     5   // bytes of the varint of a length; values are of at most 1 GB

enum wire_type kind_wire_type(enum kind k)
{
    switch (k) {
    case KIND_BOOL:
    case KIND_INT32:
    case KIND_INT64:
    case KIND_UINT32:
        return WIRE_VARINT;
    case KIND_FLOAT:
        return WIRE_I32;
    case KIND_DOUBLE:
        return WIRE_I64;
    default:
        return WIRE_LEN;
    }
}

// ---- numbers ----

bool integer_parse(const char *text, size_t n, int64_t *ret_v)
{
    bool negative = n && text[0] == '-';
    size_t i = negative;
    if (n == i || n - i > 19)
        return false;
    uint64_t v = 0; // 19 digits do not overflow it
    for (; i < n; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (digit > 9)
            return false;
        v = v * 10 + digit;
    }
    if (v > (uint64_t)INT64_MAX + negative)
        return false;
    *ret_v = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

// A decimal number taken apart: digits * 10^exponent.
struct decimal {
    uint64_t digits; // of the first 19 significant ones
    int significant; // how many there are
    int exponent;
    bool negative;
};

// -?D+(.D+)?(e[+-]?D+)?  Nothing else: strtod alone would take hexadecimals and blanks too.
static bool decimal_parse(const char *text, size_t n, struct decimal *ret_d)
{
    struct decimal d = {0};
    const char *p = text, *end = text + n;
    if (p < end && *p == '-') {
        d.negative = true;
        p++;
    }
    bool point = false, digit_last = false;
    for (; p < end; p++) {
        if (*p == '.' && digit_last && !point) {
            point = true;
            digit_last = false;
            continue;
        }
        if (*p < '0' || *p > '9')
            break;
        digit_last = true;
        if (d.significant < 19)
            d.digits = d.digits * 10 + (uint64_t)(*p - '0');
        d.significant += d.digits != 0;
        d.exponent -= point;
    }
    if (!digit_last)
        return false;
    if (p < end) {
        if (*p++ != 'e')
            return false;
        int sign = 1, e = 0;
        if (p < end && (*p == '+' || *p == '-'))
            sign = *p++ == '-' ? -1 : 1;
        if (p == end || end - p > 4)
            return false;
        for (; p < end; p++) {
            if (*p < '0' || *p > '9')
                return false;
            e = e * 10 + (*p - '0');
        }
        d.exponent += sign * e;
    }
    *ret_d = d;
    return true;
}

static bool special_parse(const char *text, size_t n, double *ret_v)
{
    if (n == 3 && memcmp(text, "NaN", 3) == 0)
        *ret_v = NAN;
    else if (n == 8 && memcmp(text, "Infinity", 8) == 0)
        *ret_v = INFINITY;
    else if (n == 9 && memcmp(text, "-Infinity", 9) == 0)
        *ret_v = -INFINITY;
    else
        return false;
    return true;
}

// Where digits and power of ten are both exact, one operation rounds once, and so rightly; the
// rest is strtod's. The process never leaves the "C" locale.
bool double_parse(const char *text, size_t n, double *ret_v)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    struct decimal d;
    if (!decimal_parse(text, n, &d))
        return special_parse(text, n, ret_v);
    double v;
    if (d.significant <= 15 && d.exponent >= -22 && d.exponent <= 22) {
        v = (double)d.digits;
        v = d.exponent < 0 ? v / powers[-d.exponent] : v * powers[d.exponent];
        v = d.negative ? -v : v;
    } else {
        char copy[FLOAT_TEXT_MAX];
        if (n >= sizeof copy)
            return false;
        memcpy(copy, text, n);
        copy[n] = 0;
        v = strtod(copy, NULL);
        if (isinf(v) || (v == 0 && d.digits))
            return false;
    }
    *ret_v = v;
    return true;
}

bool float_parse(const char *text, size_t n, float *ret_v)
{
    static const float powers[] = {1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f,
                                   1e6f, 1e7f, 1e8f, 1e9f, 1e10f};
    struct decimal d;
    double special;
    if (!decimal_parse(text, n, &d)) {
        if (!special_parse(text, n, &special))
            return false;
        *ret_v = (float)special;
        return true;
    }
    float v;
    if (d.significant <= 7 && d.exponent >= -10 && d.exponent <= 10) {
        v = (float)d.digits;
        v = d.exponent < 0 ? v / powers[-d.exponent] : v * powers[d.exponent];
        v = d.negative ? -v : v;
    } else {
        char copy[FLOAT_TEXT_MAX];
        if (n >= sizeof copy)
            return false;
        memcpy(copy, text, n);
        copy[n] = 0;
        v = strtof(copy, NULL);
        if (isinf(v) || (v == 0 && d.digits))
            return false;
    }
    *ret_v = v;
    return true;
}

// ---- bytea ----

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static bool is_hex(const char *text, size_t n)
{
    return n >= 2 && text[0] == '\\' && text[1] == 'x';
}

static bool hex_parse(struct buf *out, const char *text, size_t n)
{
    if (n % 2)
        return false;
    uint8_t *to = buf_room(out, n / 2);
    int bad = 0;
    for (size_t i = 0; i < n; i += 2) {
        int v = hex_digit(text[i]) * 16 | hex_digit(text[i + 1]);
        bad |= v;
        *to++ = (uint8_t)v;
    }
    if (bad < 0)
        return false;
    out->n += n / 2;
    return true;
}

// bytea_output = escape: "\\" is a backslash, "\ooo" a byte in octal, all else itself.
static bool escape_parse(struct buf *out, const char *text, size_t n)
{
    uint8_t *to = buf_room(out, n), *first = to;
    for (size_t i = 0; i < n;) {
        if (text[i] != '\\') {
            *to++ = (uint8_t)text[i++];
        } else if (n - i >= 2 && text[i + 1] == '\\') {
            *to++ = '\\';
            i += 2;
        } else if (n - i >= 4 && text[i + 1] >= '0' && text[i + 1] <= '3' && text[i + 2] >= '0' &&
                   text[i + 2] <= '7' && text[i + 3] >= '0' && text[i + 3] <= '7') {
            *to++ = (uint8_t)((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 |
                              (text[i + 3] - '0'));
            i += 4;
        } else {
            return false;
        }
    }
    out->n += (size_t)(to - first);
    return true;
}

bool bytea_parse(struct buf *out, const char *text, size_t n)
{
    return is_hex(text, n) ? hex_parse(out, text + 2, n - 2) : escape_parse(out, text, n);
}

static bool encode_bytea(struct buf *out, const char *text, size_t n)
{
    size_t before = out->n;
    if (is_hex(text, n)) {
        wire_varint(out, (n - 2) / 2);
        if (hex_parse(out, text + 2, n - 2))
            return true;
    } else { // the length is known behind the value: leave it room, then close up
        buf_room(out, LENGTH_MAX);
        out->n += LENGTH_MAX;
        if (escape_parse(out, text, n)) {
            size_t length = out->n - before - LENGTH_MAX;
            uint8_t *to = varint_write(out->p + before, length);
            memmove(to, out->p + before + LENGTH_MAX, length);
            out->n = (size_t)(to - out->p) + length;
            return true;
        }
    }
    out->n = before;
    return false;
}

// ---- wire form ----

static bool encode_string(struct buf *out, const char *text, size_t n)
{
    if (!utf8_valid(text, n))
        return false;
    uint8_t *to = varint_write(buf_room(out, LENGTH_MAX + n), n);
    memcpy(to, text, n);
    out->n = (size_t)(to - out->p) + n;
    return true;
}

static bool encode_bool(struct buf *out, const char *text, size_t n)
{
    if (n != 1 || (text[0] != 't' && text[0] != 'f'))
        return false;
    buf_putc(out, text[0] == 't');
    return true;
}

static bool encode_integer(struct buf *out, enum kind k, const char *text, size_t n)
{
    int64_t v;
    if (!integer_parse(text, n, &v) || (k == KIND_INT32 && v != (int32_t)v) ||
        (k == KIND_UINT32 && v != (uint32_t)v))
        return false;
    wire_varint(out, (uint64_t)v); // a negative int32 takes ten bytes: protobuf's rule
    return true;
}

static void put_timestamp(struct buf *out, struct timestamp t)
{
    uint8_t *length = buf_room(out, 1 + 11 + 6), *at = length + 1;
    if (t.seconds) {
        *at++ = 1 << 3 | WIRE_VARINT;
        at = varint_write(at, (uint64_t)t.seconds);
    }
    if (t.nanos) {
        *at++ = 2 << 3 | WIRE_VARINT;
        at = varint_write(at, (uint64_t)t.nanos);
    }
    *length = (uint8_t)(at - length - 1);
    out->n = (size_t)(at - out->p);
}

static bool encode_timestamp(struct buf *out, const char *text, size_t n)
{
    struct timestamp t;
    if (!timestamp_parse(text, n, &t))
        return false;
    put_timestamp(out, t);
    return true;
}

bool scalar_encode(struct buf *out, enum kind k, const char *text, size_t n)
{
    float f;
    double d;
    switch (k) {
    case KIND_STRING:
        return encode_string(out, text, n);
    case KIND_BOOL:
        return encode_bool(out, text, n);
    case KIND_INT32:
    case KIND_INT64:
    case KIND_UINT32:
        return encode_integer(out, k, text, n);
    case KIND_FLOAT:
        if (!float_parse(text, n, &f))
            return false;
        buf_put(out, &f, sizeof f);
        return true;
    case KIND_DOUBLE:
        if (!double_parse(text, n, &d))
            return false;
        buf_put(out, &d, sizeof d);
        return true;
    case KIND_BYTES:
        return encode_bytea(out, text, n);
    case KIND_TIMESTAMP:
        return encode_timestamp(out, text, n);
    default:
        return false;
    }
}

// ---- from binary ----

// There are many NaNs; text has one.
static void put_float(struct buf *out, uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    f = isnan(f) ? (float)NAN : f;
    buf_put(out, &f, sizeof f);
}

static void put_double(struct buf *out, uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    d = isnan(d) ? (double)NAN : d;
    buf_put(out, &d, sizeof d);
}

static bool binary_integer(enum kind k, struct reader *r, uint64_t *ret_v)
{
    if (k == KIND_INT64)
        *ret_v = reader_be64(r);
    else if (k == KIND_UINT32)
        *ret_v = reader_be32(r);
    else if (reader_left(r) == 2)
        *ret_v = (uint64_t)(int16_t)reader_be16(r);
    else
        *ret_v = (uint64_t)(int32_t)reader_be32(r);
    return reader_done(r);
}

bool scalar_encode_binary(struct buf *out, enum kind k, struct slice bytes)
{
    struct reader r = reader_of(bytes.p, bytes.n);
    struct timestamp t;
    uint64_t v;
    switch (k) {
    case KIND_BOOL:
        if (bytes.n != 1 || bytes.p[0] > 1)
            return false;
        buf_putc(out, (char)bytes.p[0]);
        return true;
    case KIND_INT32:
    case KIND_INT64:
    case KIND_UINT32:
        if (!binary_integer(k, &r, &v))
            return false;
        wire_varint(out, v);
        return true;
    case KIND_FLOAT:
        if (bytes.n != 4)
            return false;
        put_float(out, reader_be32(&r));
        return true;
    case KIND_DOUBLE:
        if (bytes.n != 8)
            return false;
        put_double(out, reader_be64(&r));
        return true;
    case KIND_BYTES:
        wire_varint(out, bytes.n);
        buf_put(out, bytes.p, bytes.n);
        return true;
    case KIND_TIMESTAMP:
        if (bytes.n != 8 || !timestamp_from_binary((int64_t)reader_be64(&r), &t))
            return false;
        put_timestamp(out, t);
        return true;
    default:
        return false;
    }
}

void scalar_encode_zero(struct buf *out, enum kind k)
{
    static const uint8_t zero[8];
    enum wire_type type = kind_wire_type(k);
    buf_put(out, zero, type == WIRE_I64 ? 8 : type == WIRE_I32 ? 4 : 1);
}
