#include "proto/binary_form.h"

struct slice binary_sized(struct reader *r, bool *ret_null)
{
    uint32_t n = reader_be32(r);
    *ret_null = n == UINT32_MAX && !r->failed;
    if (*ret_null)
        return (struct slice){NULL, 0};
    const uint8_t *at = reader_take(r, n);
    return (struct slice){at, at ? n : 0};
}

void binary_put_digits(struct buf *out, uint64_t v, int width)
{
    uint64_t least = 1;
    for (int i = 1; i < width; i++)
        least *= 10;
    for (; v < least && least > 1; least /= 10)
        buf_putc(out, '0');
    buf_put_u64(out, v);
}

// ---- values of one piece ----

static bool put_bool(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint8_t v = reader_u8(r);
    buf_putc(d->out, v ? 't' : 'f');
    return v <= 1;
}

static bool put_int(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    switch (reader_left(r)) {
    case 2:
        buf_put_i64(d->out, (int16_t)reader_be16(r));
        return true;
    case 4:
        buf_put_i64(d->out, (int32_t)reader_be32(r));
        return true;
    default:
        buf_put_i64(d->out, (int64_t)reader_be64(r));
        return true;
    }
}

static bool put_uint(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    buf_put_u64(d->out, reader_left(r) == 4 ? reader_be32(r) : reader_be64(r));
    return true;
}

// "char": a byte of no encoding. Since 16 one that is no ASCII is shown in octal; before, it went
// through the conversion of encodings, of which its binary form does not know.
static bool put_char(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint8_t c = reader_u8(r);
    if (c >= 0x80 && d->b->version < 160000)
        return false;
    if (c >= 0x80)
        buf_printf(d->out, "\\%03o", c);
    else if (c)
        buf_putc(d->out, (char)c);
    return true;
}

static const char hex[] = "0123456789abcdef";

static void put_hex(struct buf *out, const uint8_t *p, size_t n)
{
    uint8_t *to = buf_room(out, 2 * n);
    for (size_t i = 0; i < n; i++) {
        *to++ = (uint8_t)hex[p[i] >> 4];
        *to++ = (uint8_t)hex[p[i] & 15];
    }
    out->n += 2 * n;
}

static bool put_bytea(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    size_t n = reader_left(r);
    buf_puts(d->out, "\\x");
    put_hex(d->out, reader_take(r, n), n);
    return true;
}

static bool put_uuid(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    const uint8_t *at = reader_take(r, 16);
    for (size_t i = 0; at && i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            buf_putc(d->out, '-');
        put_hex(d->out, at + i, 1);
    }
    return true;
}

static bool put_macaddr(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    size_t n = reader_left(r) == 8 ? 8 : 6;
    const uint8_t *at = reader_take(r, n);
    for (size_t i = 0; at && i < n; i++) {
        if (i)
            buf_putc(d->out, ':');
        put_hex(d->out, at + i, 1);
    }
    return true;
}

static bool put_tid(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint32_t block = reader_be32(r);
    buf_printf(d->out, "(%u,%u)", block, reader_be16(r));
    return true;
}

static bool put_lsn(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint64_t lsn = reader_be64(r);
    int width = d->b->version >= 190000 ? 8 : 1;
    buf_printf(d->out, "%X/%0*X", (uint32_t)(lsn >> 32), width, (uint32_t)lsn);
    return true;
}

// The count comes first, and last in the text.
static bool put_snapshot(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint32_t n = reader_be32(r);
    for (uint64_t i = 0; i < (uint64_t)n + 2 && !r->failed; i++) {
        if (i)
            buf_putc(d->out, i <= 2 ? ':' : ',');
        buf_put_u64(d->out, reader_be64(r));
    }
    if (n == 0)
        buf_putc(d->out, ':');
    return true;
}

static bool put_bit(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint32_t bits = reader_be32(r);
    const uint8_t *at = reader_take(r, ((size_t)bits + 7) / 8);
    if (!at || bits == 0)
        return bits == 0;
    uint8_t *to = buf_room(d->out, bits);
    for (uint32_t i = 0; i < bits; i++)
        *to++ = at[i / 8] & 0x80 >> i % 8 ? '1' : '0';
    d->out->n += bits;
    return true;
}

// ---- network addresses ----

// Where the longest run of zeros begins, the first of the longest; *ret_n: of how many words, 0
// when it is not worth "::".
static int zero_run(const uint16_t words[8], int *ret_n)
{
    int best = -1, best_n = 1;
    for (int i = 0; i < 8; i++) {
        int n = 0;
        while (i + n < 8 && words[i + n] == 0)
            n++;
        if (n > best_n) {
            best = i;
            best_n = n;
        }
        i += n;
    }
    *ret_n = best < 0 ? 0 : best_n;
    return best;
}

static void put_ipv4(struct buf *out, const uint8_t *a)
{
    buf_printf(out, "%u.%u.%u.%u", a[0], a[1], a[2], a[3]);
}

static void put_ipv6(struct buf *out, const uint8_t *a)
{
    uint16_t words[8];
    for (int i = 0; i < 8; i++)
        words[i] = (uint16_t)(a[2 * i] << 8 | a[2 * i + 1]);
    int n, run = zero_run(words, &n);
    bool ipv4 = run == 0 && (n == 6 || (n == 5 && words[5] == 0xffff));
    for (int i = 0; i < 8; i++) {
        if (n && i >= run && i < run + n) {
            if (i == run)
                buf_putc(out, ':');
            continue;
        }
        if (i)
            buf_putc(out, ':');
        if (i == 6 && ipv4) {
            put_ipv4(out, a + 12);
            return;
        }
        buf_printf(out, "%x", words[i]);
    }
    if (n && run + n == 8)
        buf_putc(out, ':');
}

static bool put_inet(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    enum { IPV4 = 2, IPV6 = 3 };
    uint8_t family = reader_u8(r), bits = reader_u8(r), cidr = reader_u8(r), n = reader_u8(r);
    if (!(family == IPV4 && n == 4 && bits <= 32) && !(family == IPV6 && n == 16 && bits <= 128))
        return false;
    const uint8_t *at = reader_take(r, n);
    if (!at)
        return false;
    if (family == IPV4)
        put_ipv4(d->out, at);
    else
        put_ipv6(d->out, at);
    if (cidr || bits != n * 8)
        buf_printf(d->out, "/%u", bits);
    return true;
}

// ---- the table ----

static bool put_text(struct decoding *d, const struct type *t, struct reader *r)
{
    struct slice text, bytes = {r->p, reader_left(r)};
    r->p = r->end;
    if (!binary_plain(t, bytes, &text))
        return false;
    buf_put(d->out, text.p, text.n);
    return true;
}

static bool (*const forms[FORM_COUNT])(struct decoding *, const struct type *, struct reader *) = {
    [FORM_TEXT] = put_text,
    [FORM_VERSIONED] = put_text,
    [FORM_CHAR] = put_char,
    [FORM_BOOL] = put_bool,
    [FORM_INT] = put_int,
    [FORM_UINT] = put_uint,
    [FORM_FLOAT] = binary_float,
    [FORM_NUMERIC] = binary_numeric,
    [FORM_BYTEA] = put_bytea,
    [FORM_UUID] = put_uuid,
    [FORM_TID] = put_tid,
    [FORM_LSN] = put_lsn,
    [FORM_SNAPSHOT] = put_snapshot,
    [FORM_INET] = put_inet,
    [FORM_MACADDR] = put_macaddr,
    [FORM_BIT] = put_bit,
    [FORM_DATE] = binary_date,
    [FORM_TIME] = binary_time,
    [FORM_TIMETZ] = binary_timetz,
    [FORM_TIMESTAMP] = binary_timestamp,
    [FORM_TIMESTAMPTZ] = binary_timestamptz,
    [FORM_INTERVAL] = binary_interval,
    [FORM_POINT] = binary_point,
    [FORM_LSEG] = binary_lseg,
    [FORM_PATH] = binary_path,
    [FORM_BOX] = binary_box,
    [FORM_POLYGON] = binary_polygon,
    [FORM_LINE] = binary_line,
    [FORM_CIRCLE] = binary_circle,
    [FORM_TSVECTOR] = binary_tsvector,
    [FORM_TSQUERY] = binary_tsquery,
    [FORM_HSTORE] = binary_hstore,
    [FORM_VECTOR] = binary_vector,
    [FORM_ARRAY] = binary_array,
    [FORM_RANGE] = binary_range,
    [FORM_MULTIRANGE] = binary_multirange,
    [FORM_COMPOSITE] = binary_composite,
};

bool binary_plain(const struct type *t, struct slice bytes, struct slice *ret_text)
{
    bool versioned = t->form == FORM_VERSIONED;
    if (!versioned && t->form != FORM_TEXT)
        return false;
    if (versioned && (bytes.n == 0 || bytes.p[0] != 1))
        return false;
    *ret_text = (struct slice){bytes.p + versioned, bytes.n - versioned};
    return true;
}

bool binary_put(struct decoding *d, const struct type *t, struct slice bytes)
{
    if (!t || !forms[t->form] || d->depth == BINARY_DEPTH_MAX)
        return false;
    struct reader r = reader_of(bytes.p, bytes.n);
    d->depth++;
    bool ok = forms[t->form](d, t, &r) && reader_done(&r) && d->out->n <= d->end;
    d->depth--;
    return ok;
}

bool binary_text(const struct binary *b, const struct type *t, struct slice bytes, struct buf *out)
{
    size_t before = out->n;
    struct decoding d = {b, out, 0, before + binary_text_max(b)};
    if (binary_put(&d, t, bytes))
        return true;
    out->n = before;
    return false;
}
