#include "source/snapshot/chunk_key.h"

#include "proto/json_value.h"
#include "proto/scalar.h"
#include "proto/wire.h"

void chunk_key_put(struct buf *out, const void *text, size_t n)
{
    wire_varint(out, n);
    buf_put(out, text, n);
}

bool chunk_key_next(struct reader *in, struct slice *ret_text)
{
    if (reader_left(in) == 0)
        return false;
    struct slice text = reader_bytes(in);
    if (in->failed)
        return false;
    *ret_text = text;
    return true;
}

bool chunk_key_valid(struct slice bound, size_t columns)
{
    struct reader in = reader_of(bound.p, bound.n);
    struct slice text;
    size_t n = 0;
    for (; chunk_key_next(&in, &text); n++) {
        if (text.n && memchr(text.p, 0, text.n)) // the statement would end there
            return false;
    }
    return reader_done(&in) && n == columns && n <= COLUMNS_MAX;
}

// ---- from a change ----

static bool find_field(struct slice row, uint32_t number, struct wire_field *ret_f)
{
    struct reader in = reader_of(row.p, row.n);
    while (wire_next(&in, ret_f)) {
        if (ret_f->number == number)
            return true;
    }
    return false;
}

// What stands among the exact values, as the server wrote it.
static bool find_exact(struct slice exact, uint32_t number, struct slice *ret_text)
{
    enum { EXACT_NUMBER = 1, EXACT_TEXT = 2, EXACT_RAW = 3 };
    struct reader in = reader_of(exact.p, exact.n);
    struct wire_field f, g;
    while (wire_next(&in, &f)) {
        struct reader inner = reader_of(f.bytes.p, f.bytes.n);
        struct slice text = {0}, raw = {0};
        uint64_t n = 0;
        while (wire_next(&inner, &g)) {
            if (g.number == EXACT_NUMBER)
                n = g.v;
            else if (g.number == EXACT_TEXT)
                text = g.bytes;
            else if (g.number == EXACT_RAW)
                raw = g.bytes;
        }
        if (n == number) {
            *ret_text = raw.p ? raw : text;
            return text.p != NULL;
        }
    }
    return false;
}

static bool value_text(struct buf *out, const struct column *c, const struct wire_field *f)
{
    if (c->kind >= KIND_ARRAY)
        return array_text(out, c, f->bytes) == 0;
    struct scalar s = {.v = f->v, .bytes = f->bytes};
    return scalar_text(out, c->kind, &s) == 0;
}

bool chunk_list_add(struct chunk_order *o, const struct relation *relation, struct slice key,
                    struct slice exact_key)
{
    size_t before = o->keys.n;
    AUTO_BUF struct buf text = {0};
    for (size_t i = 0; i < relation->column_count; i++) {
        const struct column *c = &relation->columns[i];
        if (!c->key)
            continue;
        struct slice exact;
        struct wire_field f;
        buf_clear(&text);
        bool known;
        if (find_exact(exact_key, c->number, &exact)) {
            buf_put(&text, exact.p, exact.n);
            known = true;
        } else {
            known = find_field(key, c->number, &f) && value_text(&text, c, &f);
        }
        if (!known || memchr(buf_cstr(&text), 0, text.n)) {
            o->keys.n = before;
            return false;
        }
        chunk_key_put(&o->keys, text.p, text.n);
    }
    o->key_n++;
    return o->keys.n > before;
}
