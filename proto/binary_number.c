// Numbers, and the geometric types that are made of them.
#include "proto/binary_form.h"
#include "proto/json_value.h"

// ---- numeric ----

#define NUMERIC_DIGIT 10000 // each of its digits is one of four decimals
#define NUMERIC_SCALE 16383 // digits behind the point at most

enum {
    NUMERIC_PLUS = 0,
    NUMERIC_MINUS = 0x4000,
    NUMERIC_NAN = 0xc000,
    NUMERIC_INFINITY = 0xd000,
    NUMERIC_MINUS_INFINITY = 0xf000,
};

static bool put_special(struct buf *out, uint16_t sign)
{
    if (sign == NUMERIC_NAN)
        buf_puts(out, "NaN");
    else if (sign == NUMERIC_INFINITY)
        buf_puts(out, "Infinity");
    else if (sign == NUMERIC_MINUS_INFINITY)
        buf_puts(out, "-Infinity");
    else
        return false;
    return true;
}

bool binary_numeric(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    struct buf *out = d->out;
    uint16_t n = reader_be16(r);
    int weight = (int16_t)reader_be16(r);
    uint16_t sign = reader_be16(r), scale = reader_be16(r);
    const uint8_t *at = reader_take(r, (size_t)n * 2);
    if (!at || scale > NUMERIC_SCALE)
        return false;
    struct reader digits = reader_of(at, (size_t)n * 2);
    if (sign != NUMERIC_PLUS && sign != NUMERIC_MINUS)
        return put_special(out, sign);
    if (sign == NUMERIC_MINUS)
        buf_putc(out, '-');
    if (weight < 0)
        buf_putc(out, '0');
    int place = weight; // the first digit's power of 10000
    for (; place >= 0; place--) {
        uint16_t v = reader_left(&digits) ? reader_be16(&digits) : 0;
        if (v >= NUMERIC_DIGIT)
            return false;
        binary_put_digits(out, v, place == weight ? 1 : 4);
    }
    if (scale == 0)
        return true;
    buf_putc(out, '.');
    size_t end = out->n + scale;
    for (int zeros = -1 - weight; zeros > 0 && out->n < end; zeros--)
        buf_puts(out, "0000");
    while (out->n < end) {
        uint16_t v = reader_left(&digits) ? reader_be16(&digits) : 0;
        if (v >= NUMERIC_DIGIT)
            return false;
        binary_put_digits(out, v, 4);
    }
    out->n = end;
    return true;
}

// ---- floats ----

static double read_double(struct reader *r)
{
    uint64_t bits = reader_be64(r);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

bool binary_float(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    if (reader_left(r) == 4) {
        uint32_t bits = reader_be32(r);
        float v;
        memcpy(&v, &bits, sizeof v);
        float_text(d->out, v);
    } else {
        double_text(d->out, read_double(r));
    }
    return true;
}

// ---- geometry ----

static void put_point(struct buf *out, struct reader *r)
{
    buf_putc(out, '(');
    double_text(out, read_double(r));
    buf_putc(out, ',');
    double_text(out, read_double(r));
    buf_putc(out, ')');
}

static bool put_points(struct buf *out, struct reader *r, uint32_t n)
{
    for (uint32_t i = 0; i < n && !r->failed; i++) {
        if (i)
            buf_putc(out, ',');
        put_point(out, r);
    }
    return true;
}

bool binary_point(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    put_point(d->out, r);
    return true;
}

bool binary_box(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    return put_points(d->out, r, 2);
}

bool binary_lseg(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    buf_putc(d->out, '[');
    put_points(d->out, r, 2);
    buf_putc(d->out, ']');
    return true;
}

bool binary_path(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint8_t closed = reader_u8(r);
    uint32_t n = reader_be32(r);
    buf_putc(d->out, closed ? '(' : '[');
    put_points(d->out, r, n);
    buf_putc(d->out, closed ? ')' : ']');
    return closed <= 1;
}

bool binary_polygon(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    uint32_t n = reader_be32(r);
    buf_putc(d->out, '(');
    put_points(d->out, r, n);
    buf_putc(d->out, ')');
    return true;
}

bool binary_line(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    for (int i = 0; i < 3; i++) {
        buf_putc(d->out, i ? ',' : '{');
        double_text(d->out, read_double(r));
    }
    buf_putc(d->out, '}');
    return true;
}

bool binary_circle(struct decoding *d, const struct type *t, struct reader *r)
{
    (void)t;
    buf_putc(d->out, '<');
    put_point(d->out, r);
    buf_putc(d->out, ',');
    double_text(d->out, read_double(r));
    buf_putc(d->out, '>');
    return true;
}
