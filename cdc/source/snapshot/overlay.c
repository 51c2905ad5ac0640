// A hash table over the keys is made with the first change: most chunks never meet one.
#include "source/snapshot/overlay.h"

struct overlay {
    const struct identity *id;
    struct held_row *rows;
    size_t n, cap;
    uint32_t *slots; // row number + 1; 0: free
    size_t slot_count;
    size_t own_bytes;
    struct buf key, exact_key, after, exact; // scratch
};

struct overlay *overlay_new(const struct identity *id, size_t rows)
{
    struct overlay *o = xcalloc(1, sizeof *o);
    o->id = id;
    o->cap = rows ? rows : 1;
    o->rows = xmalloc(o->cap * sizeof *o->rows);
    return o;
}

void overlay_free(struct overlay *o)
{
    if (!o)
        return;
    for (size_t i = 0; i < o->n; i++)
        free(o->rows[i].own);
    free(o->rows);
    free(o->slots);
    buf_free(&o->key);
    buf_free(&o->exact_key);
    buf_free(&o->after);
    buf_free(&o->exact);
    free(o);
}

size_t overlay_count(const struct overlay *o)
{
    return o->n;
}

const struct held_row *overlay_row(const struct overlay *o, size_t i)
{
    return &o->rows[i];
}

size_t overlay_bytes(const struct overlay *o)
{
    return o->cap * sizeof *o->rows + o->slot_count * sizeof *o->slots + o->own_bytes;
}

// ---- the table of keys ----

static void enter(struct overlay *o, size_t i)
{
    size_t mask = o->slot_count - 1, at = row_key_hash(o->rows[i].id) & mask;
    while (o->slots[at])
        at = (at + 1) & mask;
    o->slots[at] = (uint32_t)i + 1;
}

static void make_table(struct overlay *o, size_t rows)
{
    size_t want = 64;
    while (want < rows * 2)
        want *= 2;
    free(o->slots);
    o->slots = xcalloc(want, sizeof *o->slots);
    o->slot_count = want;
    for (size_t i = 0; i < o->n; i++) {
        if (!o->rows[i].gone)
            enter(o, i);
    }
}

static struct held_row *find(struct overlay *o, struct row_key key)
{
    if (!o->slots)
        make_table(o, o->n);
    size_t mask = o->slot_count - 1;
    for (size_t at = row_key_hash(key) & mask; o->slots[at]; at = (at + 1) & mask) {
        struct held_row *row = &o->rows[o->slots[at] - 1];
        if (!row->gone && row_key_same(row->id, key))
            return row;
    }
    return NULL;
}

bool overlay_has(struct overlay *o, struct row_key key)
{
    return find(o, key) != NULL;
}

void overlay_add(struct overlay *o, const struct held_row *row)
{
    CHECK(o->n < UINT32_MAX - 1);
    if (o->n == o->cap) {
        o->cap *= 2;
        o->rows = xrealloc(o->rows, o->cap * sizeof *o->rows);
    }
    o->rows[o->n++] = *row;
    if (!o->slots)
        return;
    if (o->n * 2 > o->slot_count)
        make_table(o, o->n * 2);
    else
        enter(o, o->n - 1);
}

// ---- changes ----

static void drop(struct overlay *o, struct held_row *row)
{
    if (row->own)
        o->own_bytes -= row->id.key.n + row->id.exact.n + row->after.n + row->exact.n;
    free(row->own);
    *row = (struct held_row){.gone = true};
}

static struct slice put_part(uint8_t **at, struct slice from)
{
    struct slice s = {*at, from.n};
    if (from.n)
        memcpy(*at, from.p, from.n);
    *at += from.n;
    return s;
}

// A row of the overlay's own, whose bytes are copied.
static struct held_row copy_row(struct overlay *o, struct row_key key, struct slice after,
                                struct slice exact)
{
    size_t n = key.key.n + key.exact.n + after.n + exact.n;
    struct held_row row = {.own = xmalloc(n + 1)};
    uint8_t *at = row.own;
    row.id.key = put_part(&at, key.key);
    row.id.exact = put_part(&at, key.exact);
    row.after = put_part(&at, after);
    row.exact = put_part(&at, exact);
    o->own_bytes += n;
    return row;
}

static int lay_over(struct overlay *o, struct held_row *row, const struct change *c)
{
    struct row_key key = change_key(c);
    struct slice after = c->after, exact = c->exact;
    if (c->op == OP_UPDATE) {
        if (!change_new_key(o->id, c, &o->key, &o->exact_key))
            return -1;
        key = (struct row_key){buf_slice(&o->key), buf_slice(&o->exact_key)};
    }
    if (c->unchanged.n) {
        if (!change_lay_over(c, row->after, row->exact, &o->after, &o->exact))
            return -1;
        after = buf_slice(&o->after);
        exact = buf_slice(&o->exact);
    }
    struct held_row made = copy_row(o, key, after, exact);
    if (row_key_same(key, row->id)) {
        struct held_row old = *row;
        *row = made; // its slot is that of the same key
        drop(o, &old);
        return 0;
    }
    drop(o, row);
    struct held_row *other = find(o, made.id);
    if (other)
        drop(o, other);
    overlay_add(o, &made);
    return 0;
}

int overlay_apply(struct overlay *o, const struct change *c)
{
    CHECK(c->op == OP_INSERT || c->op == OP_UPDATE || c->op == OP_DELETE);
    struct held_row *row = find(o, change_key(c));
    if (!row)
        return 0;
    if (c->op != OP_DELETE)
        return lay_over(o, row, c);
    drop(o, row);
    return 0;
}

void overlay_clear(struct overlay *o)
{
    for (size_t i = 0; i < o->n; i++)
        free(o->rows[i].own);
    o->n = o->own_bytes = 0;
    free(o->slots);
    o->slots = NULL;
    o->slot_count = 0;
}
