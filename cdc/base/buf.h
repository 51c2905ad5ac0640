// A growable byte buffer. Appending cannot fail (memory that is not there ends the process), so the
// size of what is put into it must be bounded by whoever fills it.
#pragma once

#include "base/base.h"

struct buf {
    uint8_t *p;
    size_t n;   // used
    size_t cap; // allocated
};

void buf_free(struct buf *b); // frees the contents; the buf may be used again
void buf_grow(struct buf *b, size_t more);

static inline void buf_clear(struct buf *b)
{
    b->n = 0;
}

// Room for `more` bytes at the end; the caller writes there and then adds to b->n.
static inline uint8_t *buf_room(struct buf *b, size_t more)
{
    if (unlikely(b->cap - b->n < more))
        buf_grow(b, more);
    return b->p + b->n;
}

static inline void buf_put(struct buf *b, const void *p, size_t n)
{
    if (n) {
        memcpy(buf_room(b, n), p, n);
        b->n += n;
    }
}

static inline void buf_putc(struct buf *b, char c)
{
    *buf_room(b, 1) = (uint8_t)c;
    b->n++;
}

static inline void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
// Decimal, without the cost of printf.
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_i64(struct buf *b, int64_t v);
// NUL-terminated view (the NUL is not counted in n); valid until the next append.
char *buf_cstr(struct buf *b);
static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->p, b->n};
}
#define AUTO_BUF __attribute__((cleanup(buf_free)))
