// Protobuf's wire format, written by hand where it is hot: varints, tags, length-delimited fields.
// Source: https://protobuf.dev/programming-guides/encoding/
#pragma once

#include "base/buf.h"
#include "base/reader.h"

enum wire_type { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

static inline size_t varint_size(uint64_t v)
{
    return (size_t)(9 * (64 - __builtin_clzll(v | 1)) + 64) / 64;
}

static inline uint8_t *varint_write(uint8_t *at, uint64_t v)
{
    while (v >= 0x80) {
        *at++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *at++ = (uint8_t)v;
    return at;
}

static inline uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}
static inline int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static inline void wire_varint(struct buf *b, uint64_t v)
{
    uint8_t *at = buf_room(b, 10);
    b->n += (size_t)(varint_write(at, v) - at);
}

static inline void wire_tag(struct buf *b, uint32_t number, enum wire_type type)
{
    wire_varint(b, (uint64_t)number << 3 | type);
}

static inline void wire_uint(struct buf *b, uint32_t number, uint64_t v)
{
    wire_tag(b, number, WIRE_VARINT);
    wire_varint(b, v);
}

static inline void wire_fixed64(struct buf *b, uint32_t number, uint64_t v)
{
    wire_tag(b, number, WIRE_I64);
    buf_put(b, &v, 8); // little-endian, as every machine we run on
}

static inline void wire_fixed32(struct buf *b, uint32_t number, uint32_t v)
{
    wire_tag(b, number, WIRE_I32);
    buf_put(b, &v, 4);
}

static inline void wire_bytes(struct buf *b, uint32_t number, const void *p, size_t n)
{
    wire_tag(b, number, WIRE_LEN);
    wire_varint(b, n);
    buf_put(b, p, n);
}

static inline void wire_string(struct buf *b, uint32_t number, const char *s)
{
    wire_bytes(b, number, s, strlen(s));
}

// One field as read: a varint or fixed value in `v`, or borrowed bytes.
struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t v;
    struct slice bytes;
};

// The next field; false at the end or on failure (look at r->failed). Groups fail.
static inline bool wire_next(struct reader *r, struct wire_field *ret_f)
{
    if (r->failed || reader_left(r) == 0)
        return false;
    uint64_t tag = reader_varint(r);
    struct wire_field f = {.number = (uint32_t)(tag >> 3), .type = (enum wire_type)(tag & 7)};
    switch (f.type) {
    case WIRE_VARINT:
        f.v = reader_varint(r);
        break;
    case WIRE_I64:
        f.v = reader_le64(r);
        break;
    case WIRE_LEN:
        f.bytes = reader_bytes(r);
        break;
    case WIRE_I32:
        f.v = reader_le32(r);
        break;
    default:
        r->failed = true;
    }
    if (f.number == 0 || tag >> 32)
        r->failed = true;
    if (r->failed)
        return false;
    *ret_f = f;
    return true;
}
