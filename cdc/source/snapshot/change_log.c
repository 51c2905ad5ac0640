#include "source/snapshot/change_log.h"

struct logged { // one change; its parts lie behind each other in the bytes
    size_t at;
    uint32_t xid, relation;
    uint32_t key_n, exact_key_n, before_n, after_n, exact_n, unchanged_n;
    uint8_t op;
};

struct change_log {
    struct logged *changes;
    size_t n, cap;
    struct buf bytes;
    uint32_t *lost;
    size_t lost_n, lost_cap;
    bool lost_more; // beyond the limit: all up to lost_max
    uint32_t lost_max;
};

struct change_log *change_log_new(void)
{
    return xcalloc(1, sizeof(struct change_log));
}

void change_log_free(struct change_log *l)
{
    if (!l)
        return;
    free(l->changes);
    free(l->lost);
    buf_free(&l->bytes);
    free(l);
}

size_t change_log_bytes(const struct change_log *l)
{
    return l->bytes.n + l->n * sizeof *l->changes;
}

static void lose_more(struct change_log *l)
{
    for (size_t i = 0; i < l->lost_n; i++) {
        if (!l->lost_more || (int32_t)(l->lost[i] - l->lost_max) > 0)
            l->lost_max = l->lost[i];
        l->lost_more = true;
    }
    l->lost_n = 0;
}

void change_log_add_lost(struct change_log *l, uint32_t xid)
{
    if (l->lost_n && l->lost[l->lost_n - 1] == xid)
        return;
    if (l->lost_n == CHANGE_LOG_LOST_MAX)
        lose_more(l);
    if (l->lost_n == l->lost_cap) {
        l->lost_cap = l->lost_cap ? l->lost_cap * 2 : 64;
        l->lost = xrealloc(l->lost, l->lost_cap * sizeof *l->lost);
    }
    l->lost[l->lost_n++] = xid;
}

void change_log_lose(struct change_log *l)
{
    for (size_t i = 0; i < l->n; i++)
        change_log_add_lost(l, l->changes[i].xid);
    l->n = 0;
    buf_free(&l->bytes);
}

static void put(struct change_log *l, struct slice s)
{
    buf_put(&l->bytes, s.p, s.n);
}

void change_log_add(struct change_log *l, uint32_t xid, const struct change *c)
{
    // The rest of a transaction that was lost is lost too.
    bool lost = l->n == 0 && l->lost_n && l->lost[l->lost_n - 1] == xid;
    if (lost || change_log_bytes(l) > CHANGE_LOG_BYTES_MAX) {
        change_log_lose(l);
        change_log_add_lost(l, xid);
        return;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        l->changes = xrealloc(l->changes, l->cap * sizeof *l->changes);
    }
    l->changes[l->n++] = (struct logged){.at = l->bytes.n,
                                         .xid = xid,
                                         .relation = c->relation,
                                         .key_n = (uint32_t)c->key.n,
                                         .exact_key_n = (uint32_t)c->exact_key.n,
                                         .before_n = (uint32_t)c->before.n,
                                         .after_n = (uint32_t)c->after.n,
                                         .exact_n = (uint32_t)c->exact.n,
                                         .unchanged_n = (uint32_t)c->unchanged.n,
                                         .op = (uint8_t)c->op};
    put(l, c->key);
    put(l, c->exact_key);
    put(l, c->before);
    put(l, c->after);
    put(l, c->exact);
    put(l, c->unchanged);
}

static size_t size_of(const struct logged *c)
{
    return (size_t)c->key_n + c->exact_key_n + c->before_n + c->after_n + c->exact_n +
           c->unchanged_n;
}

static void trim_lost(struct change_log *l, const struct view *v)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->lost_n; i++) {
        if (!view_sees(v, l->lost[i]))
            l->lost[kept++] = l->lost[i];
    }
    l->lost_n = kept;
    if (l->lost_more && view_widen(v, l->lost_max) < v->xmin)
        l->lost_more = false;
}

void change_log_trim(struct change_log *l, const struct view *v)
{
    size_t kept = 0, to = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct logged c = l->changes[i];
        if (view_sees(v, c.xid))
            continue;
        if (to != c.at)
            memmove(l->bytes.p + to, l->bytes.p + c.at, size_of(&c));
        c.at = to;
        to += size_of(&c);
        l->changes[kept++] = c;
    }
    l->n = kept;
    l->bytes.n = to;
    trim_lost(l, v);
}

bool change_log_misses(const struct change_log *l, const struct view *v)
{
    if (l->lost_more && view_widen(v, l->lost_max) >= v->xmin)
        return true;
    for (size_t i = 0; i < l->lost_n; i++) {
        if (!view_sees(v, l->lost[i]))
            return true;
    }
    return false;
}

static struct slice part(const uint8_t **at, uint32_t n)
{
    struct slice s = {*at, n};
    *at += n;
    return s;
}

int change_log_replay(const struct change_log *l, const struct view *v,
                      int (*each)(void *arg, const struct change *c), void *arg)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct logged *from = &l->changes[i];
        if (view_sees(v, from->xid))
            continue;
        const uint8_t *at = l->bytes.p + from->at;
        struct change c = {.op = (enum op)from->op, .relation = from->relation};
        c.key = part(&at, from->key_n);
        c.exact_key = part(&at, from->exact_key_n);
        c.before = part(&at, from->before_n);
        c.after = part(&at, from->after_n);
        c.exact = part(&at, from->exact_n);
        c.unchanged = part(&at, from->unchanged_n);
        if (each(arg, &c) != 0)
            return -1;
    }
    return 0;
}
