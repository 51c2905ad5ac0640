// Rows and changes of a table (id int primary key, note text) for the tests of snapshots.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/registry.h"
#include "proto/wire.h"
#include "source/snapshot/identity.h"

// keyless: no column is a key, and the replica identity is full.
static inline struct relation *make_relation(uint32_t id, bool keyless, bool third)
{
    struct seen_column columns[] = {
        {"id", "integer", "integer", 23, -1, 1, KIND_INT32, JSON_CLASS_TEXT, !keyless, false},
        {"note", "text", "text", 25, -1, 2, KIND_STRING, JSON_CLASS_TEXT, false, false},
        {"more", "text", "text", 25, -1, 3, KIND_STRING, JSON_CLASS_TEXT, false, false},
    };
    struct seen_relation seen = {.oid = 16384,
                                 .schema = "public",
                                 .name = "t",
                                 .replica_identity = keyless ? 'f' : 'd',
                                 .n = third ? 3 : 2,
                                 .columns = columns};
    struct relation *r = registry_number(NULL, &seen, id);
    assert_non_null(r);
    return r;
}

struct row_bytes {
    struct buf key, after;
};

// note NULL: a NULL.
static inline struct row_bytes row_bytes(uint32_t id, const char *note)
{
    struct row_bytes r = {0};
    wire_uint(&r.key, 1, id);
    wire_uint(&r.after, 1, id);
    if (note)
        wire_string(&r.after, 2, note);
    return r;
}

static inline void row_bytes_fini(struct row_bytes *r)
{
    buf_free(&r->key);
    buf_free(&r->after);
}
