// Rows: any text as a value of any built-in type. It must be encoded or kept as it is; and what was
// encoded, written again as PostgreSQL's text, must be encoded to the same bytes.
#include "base/clock.h"
#include "proto/row.h"
#include "proto/types.h"

#include <stdio.h>

#define CHOICES 128 // the first byte names the type

static void put_quoted(struct buf *out, struct slice text)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '"' || text.p[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, (char)text.p[i]);
    }
    buf_putc(out, '"');
}

static void put_instant(struct buf *out, struct slice message)
{
    struct reader r = reader_of(message.p, message.n);
    struct wire_field f;
    int64_t seconds = 0, nanos = 0;
    while (wire_next(&r, &f))
        *(f.number == 1 ? &seconds : &nanos) = (int64_t)f.v;
    CHECK(reader_done(&r) && nanos >= 0 && nanos < 1000000000 && nanos % 1000 == 0);
    char text[CLOCK_TEXT_MAX];
    clock_text(seconds * 1000000 + nanos / 1000, text); // 2026-11-23T15:44:00.123456Z
    CHECK(strlen(text) == 27);
    text[10] = ' ';
    buf_put(out, text, 26);
    buf_puts(out, "+00");
}

// A value as PostgreSQL's text.
static void put_scalar(struct buf *out, enum kind k, struct wire_field f)
{
    float single;
    double d;
    uint32_t bits = (uint32_t)f.v;
    switch (k) {
    case KIND_BOOL:
        buf_putc(out, f.v ? 't' : 'f');
        break;
    case KIND_INT32:
    case KIND_INT64:
    case KIND_UINT32:
        buf_put_i64(out, (int64_t)f.v);
        break;
    case KIND_FLOAT:
    case KIND_DOUBLE:
        memcpy(&single, &bits, sizeof single);
        memcpy(&d, &f.v, sizeof d);
        d = k == KIND_FLOAT ? (double)single : d;
        if (d - d == 0)
            buf_printf(out, "%.*g", k == KIND_FLOAT ? 9 : 17, d);
        else
            buf_puts(out, d != d ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
        break;
    case KIND_BYTES:
        buf_puts(out, "\\x");
        for (size_t i = 0; i < f.bytes.n; i++)
            buf_printf(out, "%02x", f.bytes.p[i]);
        break;
    case KIND_TIMESTAMP:
        put_instant(out, f.bytes);
        break;
    default:
        buf_put(out, f.bytes.p, f.bytes.n);
    }
}

struct array {
    struct wire_field values[4096];
    bool null[4096];
    size_t n;
    uint64_t length[ARRAY_DIMENSIONS_MAX];
    int32_t lower[ARRAY_DIMENSIONS_MAX];
    size_t dimensions;
};

static void read_packed(struct array *a, enum kind element, struct slice packed)
{
    struct reader r = reader_of(packed.p, packed.n);
    while (reader_left(&r)) {
        CHECK(a->n < ARRAY_LEN(a->values));
        struct wire_field *f = &a->values[a->n++];
        f->v = element == KIND_DOUBLE  ? reader_le64(&r)
               : element == KIND_FLOAT ? reader_le32(&r)
                                       : reader_varint(&r);
    }
    CHECK(reader_done(&r));
}

static void read_array(struct array *a, enum kind element, struct slice message)
{
    bool packed = element != KIND_STRING && element != KIND_BYTES && element != KIND_TIMESTAMP;
    struct reader r = reader_of(message.p, message.n);
    struct wire_field f;
    memset(a, 0, sizeof *a);
    while (wire_next(&r, &f)) {
        struct reader in = reader_of(f.bytes.p, f.bytes.n);
        struct wire_field part;
        if (f.number == 1 && packed) {
            read_packed(a, element, f.bytes);
        } else if (f.number == 1) {
            CHECK(a->n < ARRAY_LEN(a->values));
            a->values[a->n++] = f;
        } else if (f.number == 2) {
            while (reader_left(&in)) {
                uint64_t i = reader_varint(&in);
                CHECK(i < a->n && !a->null[i]);
                a->null[i] = true;
            }
        } else {
            CHECK(f.number == 3 && a->dimensions < ARRAY_DIMENSIONS_MAX);
            while (wire_next(&in, &part))
                if (part.number == 1)
                    a->length[a->dimensions] = part.v;
                else
                    a->lower[a->dimensions] = (int32_t)part.v;
            a->dimensions++;
        }
    }
    CHECK(reader_done(&r));
    if (!a->dimensions && a->n) {
        a->length[0] = a->n;
        a->lower[0] = 1;
        a->dimensions = 1;
    }
}

static void put_level(struct buf *out, const struct array *a, enum kind element, char delimiter,
                      size_t depth, size_t *next)
{
    buf_putc(out, '{');
    for (uint64_t i = 0; i < a->length[depth]; i++) {
        if (i)
            buf_putc(out, delimiter);
        if (depth + 1 < a->dimensions) {
            put_level(out, a, element, delimiter, depth + 1, next);
            continue;
        }
        CHECK(*next < a->n);
        if (a->null[*next]) {
            buf_puts(out, "NULL");
        } else {
            AUTO_BUF struct buf text = {0};
            put_scalar(&text, element, a->values[*next]);
            put_quoted(out, buf_slice(&text));
        }
        ++*next;
    }
    buf_putc(out, '}');
}

static void put_array(struct buf *out, enum kind element, char delimiter, struct slice message)
{
    static struct array a;
    read_array(&a, element, message);
    bool shifted = false;
    for (size_t d = 0; d < a.dimensions; d++)
        shifted |= a.lower[d] != 1;
    for (size_t d = 0; shifted && d < a.dimensions; d++)
        buf_printf(out, "[%d:%lld]", a.lower[d],
                   (long long)a.lower[d] + (long long)a.length[d] - 1);
    if (shifted)
        buf_putc(out, '=');
    size_t next = 0;
    put_level(out, &a, element, delimiter, 0, &next);
    CHECK(next == a.n);
}

static void encode(struct row_out *out, const struct row_map *map, const void *text, size_t n)
{
    struct value v = {text, (uint32_t)n, VALUE_TEXT};
    struct err e;
    CHECK(row_encode(out, map, &(struct tuple){1, &v}, NULL, ROW_AFTER, &e) == 0);
    CHECK((out->row.n > 0) != (out->exact.n > 0) && out->unchanged.n == 0);
}

static const struct type *choose(uint8_t choice)
{
    static const struct type *types[CHOICES];
    size_t n = 0;
    if (!types[0])
        for (uint32_t oid = 1; oid < 10000 && n < CHOICES; oid++)
            if (type_builtin(oid) && (type_builtin(oid)->kind != KIND_STRING || oid == 25))
                types[n++] = type_builtin(oid);
    for (n = 0; n < CHOICES && types[n]; n++)
        ;
    return types[choice % n];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > 4096)
        return 0;
    const struct type *t = choose(data[0]);
    struct column c = {.number = 1 + data[0], .kind = t->kind, .base_type = (char *)t->base_name};
    struct row_map map = {.n = 1, .columns = {&c}};
    struct row_out out = {0}, again = {0};
    row_map_init(&map);
    encode(&out, &map, data + 1, n - 1);
    if (out.row.n) {
        struct reader r = reader_of(out.row.p, out.row.n);
        struct wire_field f;
        CHECK(wire_next(&r, &f) && reader_done(&r) && f.number == c.number);
        AUTO_BUF struct buf text = {0};
        if (t->kind < KIND_ARRAY)
            put_scalar(&text, t->kind, f);
        else if (f.bytes.n == 0)
            buf_puts(&text, "{}");
        else
            put_array(&text, t->kind - KIND_ARRAY, type_array_delimiter(t->base_name), f.bytes);
        encode(&again, &map, buf_cstr(&text), text.n); // a value's text is never NULL
        CHECK(again.row.n == out.row.n && memcmp(again.row.p, out.row.p, out.row.n) == 0);
    }
    row_out_fini(&out);
    row_out_fini(&again);
    row_map_fini(&map);
    return 0;
}
