// An encoder of pgoutput's messages, for tests of what reads them.
#pragma once

#include "base/buf.h"

static inline void put_be(struct buf *b, uint64_t v, size_t n)
{
    while (n--)
        buf_putc(b, (char)(v >> 8 * n));
}

static inline void put_cstr(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s) + 1);
}

// values: NULL is SQL's NULL, "\x01" an unchanged large value.
static inline void put_tuple(struct buf *b, size_t n, const char *const *values)
{
    put_be(b, n, 2);
    for (size_t i = 0; i < n; i++) {
        if (!values[i]) {
            buf_putc(b, 'n');
        } else if (values[i][0] == 1) {
            buf_putc(b, 'u');
        } else {
            buf_putc(b, 't');
            put_be(b, strlen(values[i]), 4);
            buf_puts(b, values[i]);
        }
    }
}

static inline void put_begin(struct buf *b, uint64_t lsn, uint32_t xid)
{
    buf_putc(b, 'B');
    put_be(b, lsn, 8);
    put_be(b, 1000000, 8);
    put_be(b, xid, 4);
}

static inline void put_commit(struct buf *b, uint64_t lsn, uint64_t end_lsn)
{
    buf_puts(b, "C");
    buf_putc(b, 0);
    put_be(b, lsn, 8);
    put_be(b, end_lsn, 8);
    put_be(b, 1000000, 8);
}

struct wire_column {
    const char *name;
    uint32_t oid;
    bool key;
};

static inline void put_relation(struct buf *b, uint32_t relid, const char *schema, const char *name,
                                char identity, size_t n, const struct wire_column *columns)
{
    buf_putc(b, 'R');
    put_be(b, relid, 4);
    put_cstr(b, schema);
    put_cstr(b, name);
    buf_putc(b, identity);
    put_be(b, n, 2);
    for (size_t i = 0; i < n; i++) {
        buf_putc(b, columns[i].key);
        put_cstr(b, columns[i].name);
        put_be(b, columns[i].oid, 4);
        put_be(b, (uint32_t)-1, 4);
    }
}

static inline void put_insert(struct buf *b, uint32_t relid, size_t n, const char *const *values)
{
    buf_putc(b, 'I');
    put_be(b, relid, 4);
    buf_putc(b, 'N');
    put_tuple(b, n, values);
}
