#include "source/snapshot/identity.h"

#include "proto/wire.h"

#include <xxhash.h>

#define TAG_EXACT     0x42 // Change.exact
#define TAG_EXACT_KEY 0x52 // Change.exact_key

void identity_init(struct identity *id, const struct relation *r)
{
    *id = (struct identity){.relation = r};
    id->n = (uint32_t)relation_key_numbers(r, id->numbers);
}

uint64_t row_key_hash(struct row_key k)
{
    return XXH3_64bits_withSeed(k.key.p, k.key.n,
                                k.exact.n ? XXH3_64bits(k.exact.p, k.exact.n) : 0);
}

static bool same(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool row_key_same(struct row_key a, struct row_key b)
{
    return same(a.key, b.key) && same(a.exact, b.exact);
}

// ---- walking fields ----

struct walk { // over the fields of a row message, or over Exact fields, in ascending number
    struct reader r;
    bool any;         // there is a field at hand
    uint32_t number;  // of the column
    struct slice raw; // the field, with its tag
};

static uint32_t exact_number(struct slice body)
{
    struct reader r = reader_of(body.p, body.n);
    struct wire_field f;
    while (wire_next(&r, &f)) {
        if (f.number == 1)
            return (uint32_t)f.v;
    }
    return 0;
}

static void walk_next(struct walk *w, bool exact)
{
    struct wire_field f;
    const uint8_t *from = w->r.p;
    w->any = wire_next(&w->r, &f);
    if (!w->any)
        return;
    w->raw = (struct slice){from, (size_t)(w->r.p - from)};
    w->number = exact ? exact_number(f.bytes) : f.number;
}

static struct walk walk_of(struct slice fields, bool exact)
{
    struct walk w = {.r = reader_of(fields.p, fields.n)};
    walk_next(&w, exact);
    return w;
}

// Goes on to the column `number`; false when it is not among the fields.
static bool walk_to(struct walk *w, uint32_t number, bool exact)
{
    while (w->any && w->number < number)
        walk_next(w, exact);
    return w->any && w->number == number;
}

static void put_exact(struct buf *out, struct slice raw, uint8_t tag)
{
    size_t at = out->n;
    buf_put(out, raw.p, raw.n);
    if (raw.n)
        out->p[at] = tag;
}

bool change_new_key(const struct identity *id, const struct change *c, struct buf *key,
                    struct buf *exact)
{
    struct walk after = walk_of(c->after, false), after_exact = walk_of(c->exact, true);
    struct walk old = walk_of(c->key, false), old_exact = walk_of(c->exact_key, true);
    buf_clear(key);
    buf_clear(exact);
    for (uint32_t i = 0; i < id->n; i++) {
        uint32_t number = id->numbers[i];
        bool kept = c->unchanged.n && change_unchanged(c, number);
        struct walk *row = kept ? &old : &after, *odd = kept ? &old_exact : &after_exact;
        if (walk_to(row, number, false))
            buf_put(key, row->raw.p, row->raw.n);
        else if (walk_to(odd, number, true))
            put_exact(exact, odd->raw, TAG_EXACT_KEY);
        else if (id->relation->replica_identity != 'f')
            return false; // columns of an identity index are NOT NULL
    }
    return !after.r.failed && !after_exact.r.failed && !old.r.failed && !old_exact.r.failed;
}

bool change_lay_over(const struct change *c, struct slice held, struct slice held_exact,
                     struct buf *after, struct buf *exact)
{
    struct walk now = walk_of(c->after, false), was = walk_of(held, false);
    buf_clear(after);
    buf_clear(exact);
    while (now.any || was.any) {
        if (now.any && (!was.any || now.number <= was.number)) {
            buf_put(after, now.raw.p, now.raw.n);
            walk_next(&now, false);
        } else {
            if (change_unchanged(c, was.number))
                buf_put(after, was.raw.p, was.raw.n);
            walk_next(&was, false);
        }
    }
    struct walk odd = walk_of(c->exact, true), odd_was = walk_of(held_exact, true);
    while (odd.any || odd_was.any) {
        if (odd.any && (!odd_was.any || odd.number <= odd_was.number)) {
            put_exact(exact, odd.raw, TAG_EXACT);
            walk_next(&odd, true);
        } else {
            if (change_unchanged(c, odd_was.number))
                put_exact(exact, odd_was.raw, TAG_EXACT);
            walk_next(&odd_was, true);
        }
    }
    return !now.r.failed && !was.r.failed && !odd.r.failed && !odd_was.r.failed;
}
