#include "sinks/websocket/omit.h"

#include "proto/wire.h"

struct omission {
    size_t limit;
    struct buf numbers; // packed varints, each once
};

static void note(struct omission *o, uint32_t number)
{
    struct reader r = reader_of(o->numbers.p, o->numbers.n);
    while (reader_left(&r) > 0) {
        if (reader_varint(&r) == number)
            return;
    }
    wire_varint(&o->numbers, number);
}

// Copies the fields of a row (or of a logical message) that are small enough.
static void put_row(struct buf *out, uint32_t field, struct slice row, struct omission *o)
{
    AUTO_BUF struct buf kept = {0};
    struct reader r = reader_of(row.p, row.n);
    struct wire_field f;
    for (const uint8_t *at = r.p; wire_next(&r, &f); at = r.p) {
        if (f.type == WIRE_LEN && f.bytes.n > o->limit)
            note(o, f.number);
        else
            buf_put(&kept, at, (size_t)(r.p - at));
    }
    wire_bytes(out, field, kept.p, kept.n);
}

// An Exact {number, text}: copied, or its column noted.
static void put_exact(struct buf *out, struct slice exact, const uint8_t *at, size_t n,
                      struct omission *o)
{
    struct reader r = reader_of(exact.p, exact.n);
    struct wire_field f;
    uint32_t number = 0;
    size_t size = 0;
    while (wire_next(&r, &f)) {
        if (f.number == 1)
            number = (uint32_t)f.v;
        else if (f.number == 2)
            size = f.bytes.n;
    }
    if (size > o->limit)
        note(o, number);
    else
        buf_put(out, at, n);
}

void change_omit(struct buf *out, struct slice body, size_t limit)
{
    enum { BEFORE = 5, AFTER = 6, EXACT = 8, EXACT_BEFORE = 9, MESSAGE = 12, OMITTED = 13 };
    struct omission o = {.limit = limit};
    struct reader r = reader_of(body.p, body.n);
    struct wire_field f;
    for (const uint8_t *at = r.p; wire_next(&r, &f); at = r.p) {
        size_t n = (size_t)(r.p - at);
        switch (f.type == WIRE_LEN ? f.number : 0) { // only bytes can be large
        case BEFORE:
        case AFTER:
        case MESSAGE:
            put_row(out, f.number, f.bytes, &o);
            break;
        case EXACT:
        case EXACT_BEFORE:
            put_exact(out, f.bytes, at, n, &o);
            break;
        default:
            buf_put(out, at, n);
        }
    }
    if (o.numbers.n)
        wire_bytes(out, OMITTED, o.numbers.p, o.numbers.n);
    buf_free(&o.numbers);
}
