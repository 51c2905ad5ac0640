// The one bounded reader for outside bytes. A read past the end fails, and every later read too:
// read a whole message, then look once at `failed` (and at reader_left for trailing bytes).
// On failure the getters return zero, NULL or an empty slice. Big-endian: PostgreSQL's wire;
// little-endian: our journal.
#pragma once

#include "base/base.h"

struct reader {
    const uint8_t *p;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_of(const void *p, size_t n)
{
    // An empty slice may have no address, to which nothing may be added, not even 0.
    return (struct reader){p, n ? (const uint8_t *)p + n : p, false};
}

static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->p);
}

// Whole and nothing left over.
static inline bool reader_done(const struct reader *r)
{
    return !r->failed && r->p == r->end;
}

// n bytes, borrowed from what is read; NULL on failure.
static inline const uint8_t *reader_take(struct reader *r, size_t n)
{
    if (unlikely(r->failed || n > reader_left(r))) {
        r->failed = true;
        r->p = r->end;
        return NULL;
    }
    const uint8_t *at = r->p;
    r->p += n;
    return at;
}

static inline uint8_t reader_u8(struct reader *r)
{
    const uint8_t *at = reader_take(r, 1);
    return at ? at[0] : 0;
}

#define READER_INT(name, type, swap)                                                               \
    static inline type reader_##name(struct reader *r)                                             \
    {                                                                                              \
        const uint8_t *at = reader_take(r, sizeof(type));                                          \
        type v = 0;                                                                                \
        if (at)                                                                                    \
            memcpy(&v, at, sizeof v);                                                              \
        return (type)swap(v);                                                                      \
    }
READER_INT(be16, uint16_t, __builtin_bswap16)
READER_INT(be32, uint32_t, __builtin_bswap32)
READER_INT(be64, uint64_t, __builtin_bswap64)
READER_INT(le32, uint32_t, )
READER_INT(le64, uint64_t, )
#undef READER_INT

// A NUL-terminated string inside what is read; "" on failure.
static inline const char *reader_cstr(struct reader *r)
{
    const uint8_t *nul = r->failed ? NULL : memchr(r->p, 0, reader_left(r));
    if (!nul) {
        r->failed = true;
        r->p = r->end;
        return "";
    }
    const char *s = (const char *)r->p;
    r->p = nul + 1;
    return s;
}

// A base-128 varint (protobuf); more than 10 bytes fail.
static inline uint64_t reader_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const uint8_t *at = reader_take(r, 1);
        if (!at)
            return 0;
        v |= (uint64_t)(at[0] & 0x7f) << (shift > 63 ? 63 : shift);
        if (!(at[0] & 0x80))
            return v;
    }
    r->failed = true;
    r->p = r->end;
    return 0;
}

// A length-prefixed (varint) run of bytes.
static inline struct slice reader_bytes(struct reader *r)
{
    uint64_t n = reader_varint(r);
    const uint8_t *at = n <= reader_left(r) ? reader_take(r, (size_t)n) : NULL;
    if (!at) {
        r->failed = true;
        r->p = r->end;
        return (struct slice){NULL, 0};
    }
    return (struct slice){at, (size_t)n};
}
