#include "source/snapshot/chunk.h"

static void part_fini(struct chunk_part *p)
{
    free(p->table);
    for (size_t i = 0; i < p->key_count; i++) {
        struct chunk_key *k = &p->keys[i];
        free(k->column);
        free(k->collation);
        for (size_t c = 0; c < COMPARE_COUNT; c++)
            free(k->operators[c]);
    }
    free(p->keys);
}

const struct chunk_key *chunk_part_key(const struct chunk_part *p, const char *column)
{
    for (size_t i = 0; i < p->key_count; i++) {
        if (strcmp(p->keys[i].column, column) == 0)
            return &p->keys[i];
    }
    return NULL;
}

void chunk_plan_free(struct chunk_plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++) {
        struct chunk_table *t = &p->tables[i];
        for (size_t k = 0; k < t->part_count; k++)
            part_fini(&t->parts[k]);
        free(t->parts);
        table_info_fini(&t->info);
        free(t->table);
        free(t->filter);
        free(t->terms);
    }
    free(p->tables);
    free(p);
}

void chunk_order_fini(struct chunk_order *o)
{
    buf_free(&o->key_from);
    buf_free(&o->key_to);
    buf_free(&o->keys);
    o->key_n = 0;
}

void chunk_free(struct chunk *c)
{
    if (!c)
        return;
    chunk_order_fini(&c->order);
    chunk_plan_free(c->plan);
    free(c->xip);
    free(c->rows);
    buf_free(&c->data);
    buf_free(&c->key_end);
    free(c);
}

size_t chunk_memory(const struct chunk *c)
{
    return sizeof *c + c->data.cap + c->cap * sizeof c->rows[0] + c->xip_n * sizeof c->xip[0];
}

static bool take_u64(const char **at, char stop, uint64_t *ret_v)
{
    char *end;
    if (**at < '0' || **at > '9')
        return false;
    *ret_v = strtoull(*at, &end, 10);
    if (*end != stop && *end != 0)
        return false;
    *at = *end ? end + 1 : end;
    return true;
}

int chunk_set_snapshot(struct chunk *c, const char *text)
{
    size_t most = 1;
    for (const char *p = text; *p; p++)
        most += *p == ',';
    free(c->xip);
    c->xip = xcalloc(most, sizeof *c->xip);
    c->xip_n = 0;
    if (!take_u64(&text, ':', &c->xmin) || !take_u64(&text, ':', &c->xmax) || c->xmax < c->xmin)
        return -1;
    while (*text) {
        uint64_t xid;
        if (!take_u64(&text, ',', &xid) || (c->xip_n && xid <= c->xip[c->xip_n - 1]))
            return -1;
        c->xip[c->xip_n++] = xid;
    }
    return 0;
}

// The nearest 64-bit one: a transaction that is in WAL now is less than 2^31 away from those that
// ran when the snapshot was taken.
static uint64_t widen(uint32_t xid, uint64_t near)
{
    return near + (uint64_t)(int64_t)(int32_t)(xid - (uint32_t)near);
}

bool chunk_sees(const struct chunk *c, uint32_t xid)
{
    uint64_t wide = widen(xid, c->xmax);
    if (wide < c->xmin)
        return true;
    if (wide >= c->xmax)
        return false;
    size_t low = 0, high = c->xip_n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c->xip[middle] < wide)
            low = middle + 1;
        else
            high = middle;
    }
    return low == c->xip_n || c->xip[low] != wide;
}

struct change chunk_row_change(const struct chunk *c, const struct chunk_row *r)
{
    const uint8_t *p = c->data.p + r->at;
    struct change out = {.op = OP_READ, .relation = c->order.relation->id};
    if (r->key_n || r->exact_key_n)
        out.key = (struct slice){p, r->key_n};
    p += r->key_n;
    out.exact_key = (struct slice){p, r->exact_key_n};
    p += r->exact_key_n;
    out.after = (struct slice){p, r->after_n};
    p += r->after_n;
    out.exact = (struct slice){p, r->exact_n};
    return out;
}
