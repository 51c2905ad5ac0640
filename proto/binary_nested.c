// Values made of values: arrays, ranges, composites; and hstore, which quotes as they do.
#include "proto/binary_form.h"

#include <strings.h>

// ---- quoting ----

// How a text stands inside of another: what makes quotes necessary besides quotes, backslashes and
// white space, and whether those two are doubled or escaped.
struct quoting {
    const char *special;
    char extra; // another special character, or 0
    bool doubled;
    bool null_word; // the word NULL needs quotes too
};

static bool needs_quotes(const struct quoting *q, const uint8_t *p, size_t n)
{
    if (n == 0 || (q->null_word && n == 4 && strncasecmp((const char *)p, "NULL", 4) == 0))
        return true;
    for (size_t i = 0; i < n; i++)
        if (p[i] == '"' || p[i] == '\\' || binary_is_space(p[i]) ||
            (q->extra && p[i] == (uint8_t)q->extra) || (p[i] && strchr(q->special, p[i])))
            return true;
    return false;
}

// The text from `start` to the end of out is quoted where it stands, if it has to be.
static void quote_from(struct buf *out, size_t start, const struct quoting *q, bool always)
{
    size_t n = out->n - start, more = 0;
    if (!always && !needs_quotes(q, out->p + start, n))
        return;
    for (size_t i = start; i < out->n; i++)
        more += out->p[i] == '"' || out->p[i] == '\\';
    buf_room(out, more + 2);
    const uint8_t *from = out->p + start + n;
    uint8_t *to = out->p + start + n + more + 2;
    out->n = start + n + more + 2;
    *--to = '"';
    while (from > out->p + start) { // from the end, so that nothing is overwritten
        uint8_t c = *--from;
        *--to = c;
        if (c == '"' || c == '\\')
            *--to = q->doubled ? c : '\\';
    }
    *--to = '"';
}

static bool put_quoted(struct decoding *d, const struct type *t, struct slice bytes,
                       const struct quoting *q)
{
    size_t start = d->out->n;
    if (!binary_put(d, t, bytes))
        return false;
    quote_from(d->out, start, q, false);
    return true;
}

// ---- arrays ----

bool binary_array_read(struct reader *r, struct binary_array *ret_a)
{
    struct binary_array a = {.count = 1};
    uint32_t dimensions = reader_be32(r);
    reader_be32(r); // whether there are NULLs: they say it themselves
    a.element = reader_be32(r);
    if (r->failed || dimensions > ARRAY_DIMENSIONS_MAX)
        return false;
    a.dimensions = (int)dimensions;
    for (uint32_t i = 0; i < dimensions; i++) {
        a.length[i] = (int32_t)reader_be32(r);
        a.lower[i] = (int32_t)reader_be32(r);
        if (a.length[i] < 0 || (int64_t)a.lower[i] + a.length[i] - 1 > INT32_MAX)
            return false;
        a.count *= (uint64_t)a.length[i];
        if (a.count > reader_left(r) / 4) // each has its length at least
            return false;
    }
    if (a.dimensions == 0)
        a.count = 0;
    if (a.count == 0) // an empty int2vector has a dimension, of none
        a.dimensions = 0;
    *ret_a = a;
    return !r->failed;
}

static void put_bounds(struct buf *out, const struct binary_array *a)
{
    bool shifted = false;
    for (int i = 0; i < a->dimensions; i++)
        shifted |= a->lower[i] != 1;
    for (int i = 0; shifted && i < a->dimensions; i++)
        buf_printf(out, "[%d:%lld]", a->lower[i], (long long)a->lower[i] + a->length[i] - 1);
    if (shifted)
        buf_putc(out, '=');
}

// The braces between element i and the one before it: those of every dimension whose run ends (or
// begins) here.
static void put_braces(struct buf *out, const struct binary_array *a, uint64_t i, char brace)
{
    uint64_t run = 1;
    for (int k = a->dimensions - 1; k >= 0; k--) {
        run *= (uint64_t)a->length[k];
        if (i % run == 0)
            buf_putc(out, brace);
    }
}

bool binary_array(struct decoding *d, const struct type *t, struct reader *r)
{
    struct binary_array a;
    if (!binary_array_read(r, &a) || a.element != t->inner)
        return false;
    const struct type *element = d->b->find(d->b->arg, a.element);
    if (!element)
        return false;
    struct quoting q = {"{}", element->delimiter, false, true};
    if (a.count == 0)
        buf_puts(d->out, "{}");
    else
        put_bounds(d->out, &a);
    for (uint64_t i = 0; i < a.count; i++) {
        if (i) {
            put_braces(d->out, &a, i, '}');
            buf_putc(d->out, element->delimiter);
        }
        put_braces(d->out, &a, i, '{');
        bool null;
        struct slice bytes = binary_sized(r, &null);
        if (null)
            buf_puts(d->out, "NULL");
        else if (r->failed || !put_quoted(d, element, bytes, &q))
            return false;
    }
    if (a.count)
        put_braces(d->out, &a, a.count, '}');
    return true;
}

bool binary_vector(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    struct binary_array a;
    if (!binary_array_read(r, &a) || a.dimensions > 1)
        return false;
    for (uint64_t i = 0; i < a.count; i++) {
        bool null;
        struct slice bytes = binary_sized(r, &null);
        if (i)
            buf_putc(d->out, ' ');
        if (null || r->failed || !binary_put(d, d->b->find(d->b->arg, a.element), bytes))
            return false;
    }
    return true;
}

// ---- ranges ----

enum {
    RANGE_EMPTY = 0x01,
    RANGE_LOWER_INCLUSIVE = 0x02,
    RANGE_UPPER_INCLUSIVE = 0x04,
    RANGE_LOWER_INFINITE = 0x08,
    RANGE_UPPER_INFINITE = 0x10,
};

static bool put_bound(struct decoding *d, const struct type *subtype, struct reader *r)
{
    static const struct quoting q = {"()[],", 0, true, false};
    bool null;
    struct slice bytes = binary_sized(r, &null);
    return !null && !r->failed && put_quoted(d, subtype, bytes, &q);
}

bool binary_range(struct decoding *d, const struct type *t, struct reader *r)
{
    const struct type *subtype = d->b->find(d->b->arg, t->inner);
    uint8_t flags = reader_u8(r);
    if (flags & RANGE_EMPTY) {
        buf_puts(d->out, "empty");
        return true;
    }
    buf_putc(d->out, flags & RANGE_LOWER_INCLUSIVE ? '[' : '(');
    if (!(flags & RANGE_LOWER_INFINITE) && !put_bound(d, subtype, r))
        return false;
    buf_putc(d->out, ',');
    if (!(flags & RANGE_UPPER_INFINITE) && !put_bound(d, subtype, r))
        return false;
    buf_putc(d->out, flags & RANGE_UPPER_INCLUSIVE ? ']' : ')');
    return true;
}

bool binary_multirange(struct decoding *d, const struct type *t, struct reader *r)
{
    const struct type *range = d->b->find(d->b->arg, t->inner);
    uint32_t n = reader_be32(r);
    buf_putc(d->out, '{');
    for (uint32_t i = 0; i < n; i++) {
        bool null;
        struct slice bytes = binary_sized(r, &null);
        if (i)
            buf_putc(d->out, ',');
        if (null || r->failed || !binary_put(d, range, bytes))
            return false;
    }
    buf_putc(d->out, '}');
    return true;
}

// ---- composites, hstore ----

bool binary_composite(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    static const struct quoting q = {"(),", 0, true, false};
    uint32_t n = reader_be32(r);
    buf_putc(d->out, '(');
    for (uint32_t i = 0; i < n; i++) {
        uint32_t oid = reader_be32(r);
        bool null;
        struct slice bytes = binary_sized(r, &null);
        if (i)
            buf_putc(d->out, ',');
        if (r->failed || (!null && !put_quoted(d, d->b->find(d->b->arg, oid), bytes, &q)))
            return false;
    }
    buf_putc(d->out, ')');
    return true;
}

bool binary_hstore(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    static const struct quoting q = {"", 0, false, false};
    uint32_t n = reader_be32(r);
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            buf_puts(d->out, ", ");
        for (int value = 0; value < 2; value++) {
            bool null;
            struct slice bytes = binary_sized(r, &null);
            if (r->failed || (null && !value))
                return false;
            if (value)
                buf_puts(d->out, "=>");
            size_t start = d->out->n;
            buf_put(d->out, bytes.p, bytes.n);
            if (null)
                buf_puts(d->out, "NULL");
            else
                quote_from(d->out, start, &q, true);
        }
    }
    return true;
}
