#include "source/snapshot/state.h"

#include "base/log.h"
#include "source/snapshot/state_line.h"

#include <fcntl.h>
#include <unistd.h>

#define REWRITE_BYTES (1u << 20) // added lines before the file is written anew, at least

struct recent { // a line whose position is not durable yet
    struct position at;
    size_t begin, n; // in the bytes
};

struct state {
    struct journal *journal;
    struct state_table *tables;
    bool exists; // the file
    bool ready;
    uint32_t generation;
    char boot[64];
    struct recent *recent;
    size_t recent_n, recent_cap;
    struct buf recent_bytes;
    struct buf unwritten; // lines that the disk did not take yet
    size_t added, rewritten;
    bool said;
};

// ---- tables ----

struct state_table *state_find(struct state *s, const char *table)
{
    struct state_table *t;
    HASH_FIND_STR(s->tables, table, t);
    return t;
}

struct state_table *state_each(struct state *s, struct state_table *after)
{
    return after ? after->hh.next : s->tables;
}

static void forget_parts(struct state_table *t)
{
    for (size_t i = 0; i < t->part_count; i++) {
        free(t->parts[i].ranges);
        buf_free(&t->parts[i].key_end);
    }
    free(t->parts);
    t->parts = NULL;
    t->part_count = 0;
    t->rows = 0;
    want_clear(t->wants);
}

static struct state_table *make(struct state *s, struct slice name)
{
    AUTO_FREE char *table = xstrndup((const char *)name.p, name.n);
    struct state_table *t = state_find(s, table);
    if (t)
        return t;
    t = xcalloc(1, sizeof *t);
    t->table = xstrdup(table);
    t->wants = want_new();
    HASH_ADD_KEYPTR(hh, s->tables, t->table, strlen(t->table), t);
    return t;
}

static void forget_all(struct state *s)
{
    struct state_table *t, *next;
    HASH_ITER (hh, s->tables, t, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
        HASH_DEL(s->tables, t);
        forget_parts(t);
        want_free(t->wants);
        free(t->table);
        free(t);
    }
    s->recent_n = 0;
    buf_clear(&s->recent_bytes);
    buf_clear(&s->unwritten);
}

// ---- ranges ----

// Adds one to ascending ranges that do not touch each other.
static void add_range(struct state_part *p, struct state_range r)
{
    size_t at = 0;
    while (at < p->n && p->ranges[at].to < r.from)
        at++;
    size_t end = at;
    for (; end < p->n && p->ranges[end].from <= r.to; end++) {
        r.from = p->ranges[end].from < r.from ? p->ranges[end].from : r.from;
        r.to = u64_max(p->ranges[end].to, r.to);
    }
    if (end == at)
        p->ranges = xrealloc(p->ranges, (p->n + 1) * sizeof *p->ranges);
    memmove(p->ranges + at + 1, p->ranges + end, (p->n - end) * sizeof *p->ranges);
    p->n = p->n - (end - at) + 1;
    p->ranges[at] = r;
}

static struct state_part *find_part(const struct state_table *t, uint32_t oid, uint64_t origin)
{
    for (size_t i = 0; i < t->part_count; i++) {
        if (t->parts[i].oid == oid && t->parts[i].origin == origin)
            return &t->parts[i];
    }
    return NULL;
}

const struct state_part *state_part_of(const struct state_table *t, uint32_t oid, uint64_t origin)
{
    return t->round == t->kept_round ? find_part(t, oid, origin) : NULL;
}

static struct state_part *part(struct state_table *t, uint32_t oid, uint64_t origin)
{
    struct state_part *p = find_part(t, oid, origin);
    if (p)
        return p;
    t->parts = xrealloc(t->parts, (t->part_count + 1) * sizeof *t->parts);
    p = &t->parts[t->part_count++];
    *p = (struct state_part){.oid = oid, .origin = origin};
    return p;
}

static uint64_t place(struct slice s)
{
    uint64_t v = 0;
    memcpy(&v, s.p, size_min(s.n, sizeof v));
    return v;
}

// ---- what lines say ----

static bool begun(struct state_table *t, uint32_t round)
{
    if (round < t->kept_round)
        return false; // of an earlier reading
    if (round > t->kept_round || t->kept != STATE_BEGUN)
        forget_parts(t);
    t->kept = STATE_BEGUN;
    t->kept_round = round;
    return true;
}

static void apply_keys(struct state_table *t, const struct state_line *l)
{
    struct state_part *p = part(t, l->part, l->origin);
    struct slice end = buf_slice(&p->key_end);
    if (p->whole || l->from.n != end.n || (end.n && memcmp(end.p, l->from.p, end.n) != 0))
        return; // behind what is missing: it is read again
    p->whole = l->to.n == 0;
    buf_clear(&p->key_end);
    buf_put(&p->key_end, l->to.p, l->to.n);
    t->rows += l->rows;
}

static void apply(struct state *s, const struct state_line *l)
{
    struct state_table *t = make(s, l->table);
    if (l->kind == 'K') {
        t->kept = STATE_KNOWN;
        return;
    }
    // A round that is over stays so: what was late by a line says nothing new.
    if ((l->round == t->kept_round && t->kept == STATE_DONE) || !begun(t, l->round))
        return;
    switch (l->kind) {
    case 'B':
        t->shape = l->part;
        break;
    case 'P':
        add_range(part(t, l->part, l->origin), (struct state_range){place(l->from), place(l->to)});
        t->rows += l->rows;
        break;
    case 'Q':
        apply_keys(t, l);
        break;
    case 'W':
        want_add(t->wants, (struct row_key){l->from, l->to});
        break;
    case 'E':
        forget_parts(t);
        t->kept = STATE_DONE;
        t->rows = l->rows;
        break;
    default:
        break;
    }
}

// ---- the file ----

static void put_head(const struct state *s, struct buf *out, bool clean)
{
    state_line_put(out, &(struct state_line){.kind = 'I',
                                             .round = s->generation,
                                             .part = clean,
                                             .rows = s->ready,
                                             .to = slice_of(s->boot)});
}

struct want_line {
    struct buf *out;
    const struct state_table *t;
};

static void put_want(void *arg, struct row_key key)
{
    const struct want_line *w = arg;
    state_line_put(w->out, &(struct state_line){.kind = 'W',
                                                .round = w->t->kept_round,
                                                .from = key.key,
                                                .to = key.exact,
                                                .table = slice_of(w->t->table)});
}

static void put_part(const struct state_table *t, const struct state_part *p, uint64_t *rows,
                     struct buf *out)
{
    struct state_line l = {.kind = 'P',
                           .round = t->kept_round,
                           .part = p->oid,
                           .origin = p->origin,
                           .table = slice_of(t->table)};
    for (size_t i = 0; i < p->n; i++) {
        l.from = (struct slice){(const uint8_t *)&p->ranges[i].from, 8};
        l.to = (struct slice){(const uint8_t *)&p->ranges[i].to, 8};
        l.rows = *rows; // the table's, with its first line
        *rows = 0;
        state_line_put(out, &l);
    }
    if (!p->key_end.n && !p->whole)
        return;
    l.kind = 'Q';
    l.from = (struct slice){0};
    l.to = buf_slice(&p->key_end);
    l.rows = *rows;
    *rows = 0;
    state_line_put(out, &l);
}

static void put_table(const struct state_table *t, struct buf *out)
{
    uint64_t rows = t->rows;
    struct state_line l = {.round = t->kept_round, .table = slice_of(t->table)};
    l.kind = t->kept == STATE_KNOWN ? 'K' : t->kept == STATE_DONE ? 'E' : 'B';
    if (t->kept == STATE_DONE)
        l.rows = rows;
    if (t->kept == STATE_BEGUN)
        l.part = t->shape;
    if (t->kept != STATE_NONE)
        state_line_put(out, &l);
    if (t->kept != STATE_BEGUN)
        return;
    for (size_t i = 0; i < t->part_count; i++)
        put_part(t, &t->parts[i], &rows, out);
    want_each(t->wants, put_want, &(struct want_line){out, t});
}

static int write_anew(struct state *s, bool clean, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    put_head(s, &text, clean);
    for (const struct state_table *t = s->tables; t; t = t->hh.next)
        put_table(t, &text);
    buf_put(&text, s->recent_bytes.p, s->recent_bytes.n);
    if (journal_side_replace(s->journal, STATE_FILE, buf_slice(&text), e) != 0)
        return -1;
    buf_clear(&s->unwritten);
    s->exists = true;
    s->added = 0;
    s->rewritten = text.n;
    return 0;
}

static void write_unwritten(struct state *s)
{
    struct err e;
    if (s->unwritten.n == 0)
        return;
    if ((s->exists || write_anew(s, false, &e) == 0) && s->unwritten.n == 0)
        return; // they are among the recent ones
    if (s->exists &&
        journal_side_append(s->journal, STATE_FILE, buf_slice(&s->unwritten), &e) == 0) {
        s->added += s->unwritten.n;
        buf_clear(&s->unwritten);
        s->said = false;
        return;
    }
    if (!s->said)
        log_warn("how far snapshots have come is not recorded: after a crash they begin earlier",
                 "cause=%s", log_quote(e.text));
    s->said = true;
}

static void add(struct state *s, const struct state_line *l)
{
    AUTO_BUF struct buf line = {0};
    state_line_put(&line, l);
    buf_put(&s->unwritten, line.p, line.n);
    if (s->recent_n == s->recent_cap) {
        s->recent_cap = s->recent_cap ? s->recent_cap * 2 : 64;
        s->recent = xrealloc(s->recent, s->recent_cap * sizeof *s->recent);
    }
    s->recent[s->recent_n++] = (struct recent){l->at, s->recent_bytes.n, line.n};
    buf_put(&s->recent_bytes, line.p, line.n);
    write_unwritten(s);
}

void state_settle(struct state *s)
{
    struct err e;
    write_unwritten(s);
    struct position durable = journal_latest(s->journal).at;
    AUTO_BUF struct buf scratch = {0};
    size_t done = 0;
    while (done < s->recent_n && position_cmp(s->recent[done].at, durable) <= 0) {
        const struct recent *r = &s->recent[done++];
        struct slice text = {s->recent_bytes.p + r->begin, r->n};
        struct state_line l;
        if (state_line_next(&text, &scratch, &l))
            apply(s, &l);
    }
    if (done == 0)
        return;
    size_t bytes = done < s->recent_n ? s->recent[done].begin : s->recent_bytes.n;
    s->recent_bytes.n -= bytes;
    memmove(s->recent_bytes.p, s->recent_bytes.p + bytes, s->recent_bytes.n);
    s->recent_n -= done;
    memmove(s->recent, s->recent + done, s->recent_n * sizeof *s->recent);
    for (size_t i = 0; i < s->recent_n; i++)
        s->recent[i].begin -= bytes;
    if (s->added > REWRITE_BYTES && s->added > 2 * s->rewritten && write_anew(s, false, &e) != 0)
        s->rewritten = s->added; // tried again when it has grown as much
}

// ---- opening ----

static void read_boot_id(char *out, size_t size)
{
    AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    out[n > 0 ? n : 0] = 0;
    out[strcspn(out, "\n")] = 0;
}

static bool same_boot(const struct state *s, const struct state_line *l)
{
    return l->part ||
           (s->boot[0] && l->to.n == strlen(s->boot) && memcmp(l->to.p, s->boot, l->to.n) == 0);
}

// It is replaced as a whole, and lines are only added to it: no crash takes the head.
static int check_head(struct slice text, struct err *e)
{
    AUTO_BUF struct buf scratch = {0};
    struct state_line l;
    if (state_line_next(&text, &scratch, &l) && l.kind == 'I')
        return 0;
    return err_set(e, ERR_JOURNAL,
                   "the file %s in the journal's directory is damaged: which existing rows were "
                   "read is not known; restore it from a backup; or remove it, and have those rows "
                   "read again with rowcast snapshot",
                   STATE_FILE);
}

static void load(struct state *s, struct slice text)
{
    struct position last = journal_last(s->journal);
    AUTO_BUF struct buf scratch = {0};
    struct state_line l;
    bool boot = true;
    size_t dropped = 0;
    while (state_line_next(&text, &scratch, &l)) {
        if (l.kind == 'I') {
            s->ready = l.rows != 0;
            s->generation = l.round;
            boot = same_boot(s, &l);
        } else if (l.kind && position_cmp(l.at, last) <= 0) {
            apply(s, &l);
        } else {
            dropped++;
        }
    }
    for (struct state_table *t = s->tables; t; t = t->hh.next) {
        t->step = t->kept;
        t->round = t->kept_round;
        t->lost = t->kept == STATE_BEGUN && !boot;
    }
    if (dropped)
        log_info(
            "of the snapshot's record some lines are ahead of the journal, or not whole: those "
            "rows are read again",
            "lines=%zu", dropped);
}

int state_open(struct journal *j, struct state **ret_s, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    bool found = false;
    if (journal_side_read(j, STATE_FILE, &text, &found, e) != 0 ||
        (found && check_head(buf_slice(&text), e) != 0))
        return -1;
    struct state *s = xcalloc(1, sizeof *s);
    s->journal = j;
    read_boot_id(s->boot, sizeof s->boot);
    s->exists = found;
    if (found)
        load(s, buf_slice(&text));
    // What was not vouched for must not count when the journal has come further.
    if (found && write_anew(s, false, e) != 0) {
        state_close(s, false);
        return -1;
    }
    *ret_s = s;
    return 0;
}

void state_close(struct state *s, bool clean)
{
    struct err e;
    if (!s)
        return;
    if (clean && s->exists && write_anew(s, true, &e) != 0)
        log_warn("how far snapshots have come is not recorded", "cause=%s", log_quote(e.text));
    forget_all(s);
    free(s->recent);
    buf_free(&s->recent_bytes);
    buf_free(&s->unwritten);
    free(s);
}

bool state_ready(const struct state *s, uint32_t *ret_generation)
{
    *ret_generation = s->generation;
    return s->ready;
}

int state_break(struct state *s, uint32_t generation, bool forget, struct err *e)
{
    if (forget) {
        forget_all(s);
    } else {
        for (struct state_table *t = s->tables; t; t = t->hh.next)
            t->lost |= t->step == STATE_BEGUN;
    }
    s->generation = generation;
    return s->exists ? write_anew(s, false, e) : 0;
}

int state_switch_on(struct state *s, uint32_t generation, struct err *e)
{
    s->ready = true;
    s->generation = generation;
    return write_anew(s, false, e);
}

// ---- saying ----

void state_known(struct state *s, const char *table)
{
    struct state_table *t = make(s, slice_of(table));
    t->step = t->kept = STATE_KNOWN;
}

struct state_table *state_begin(struct state *s, const char *table, uint32_t shape,
                                struct position at)
{
    struct err e;
    struct state_table *t = make(s, slice_of(table));
    t->step = STATE_BEGUN;
    t->lost = false;
    t->begun_at = at;
    t->round++;
    add(s, &(struct state_line){
               .kind = 'B', .at = at, .round = t->round, .part = shape, .table = slice_of(table)});
    if (s->unwritten.n == 0 && journal_side_sync(s->journal, STATE_FILE, &e) != 0)
        log_warn("that a snapshot begins may be forgotten in a power cut", "cause=%s",
                 log_quote(e.text));
    return t;
}

void state_places(struct state *s, struct state_table *t, uint32_t oid, uint64_t origin,
                  struct state_range range, uint64_t rows, struct position at)
{
    add(s, &(struct state_line){.kind = 'P',
                                .at = at,
                                .round = t->round,
                                .part = oid,
                                .origin = origin,
                                .from = {(const uint8_t *)&range.from, 8},
                                .to = {(const uint8_t *)&range.to, 8},
                                .rows = rows,
                                .table = slice_of(t->table)});
}

void state_keys(struct state *s, struct state_table *t, uint32_t oid, uint64_t origin,
                struct slice from, struct slice to, uint64_t rows, struct position at)
{
    add(s, &(struct state_line){.kind = 'Q',
                                .at = at,
                                .round = t->round,
                                .part = oid,
                                .origin = origin,
                                .from = from,
                                .to = to,
                                .rows = rows,
                                .table = slice_of(t->table)});
}

void state_want(struct state *s, struct state_table *t, struct row_key key)
{
    add(s, &(struct state_line){.kind = 'W',
                                .at = t->begun_at, // worth nothing without the mark
                                .round = t->round,
                                .from = key.key,
                                .to = key.exact,
                                .table = slice_of(t->table)});
}

void state_end(struct state *s, struct state_table *t, uint64_t rows, struct position at)
{
    t->step = STATE_DONE;
    add(s,
        &(struct state_line){
            .kind = 'E', .at = at, .round = t->round, .rows = rows, .table = slice_of(t->table)});
}
