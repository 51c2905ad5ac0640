// The identity file: a small text with a check, replaced as a whole (file_ops.h). Format 1 knew one
// timeline before the present one, and no generation before it.
#include "journal/identity.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#define IDENTITY_FORMAT 2
#define LIST_BYTES_MAX  8192 // of a line with a list; either of them fits when it is full

uint64_t identity_stream_id(const struct lineage *l, const char *name, uint32_t generation)
{
    AUTO_BUF struct buf b = {0};
    buf_put(&b, &l->system_id, sizeof l->system_id);
    buf_put(&b, &l->database_oid, sizeof l->database_oid);
    buf_put(&b, &generation, sizeof generation);
    buf_puts(&b, name);
    return XXH3_64bits(b.p, b.n);
}

// ---- timelines ----

void timelines_add(struct timelines *t, uint32_t timeline, lsn_t end)
{
    if (t->n == TIMELINES_MAX)
        memmove(t->items, t->items + 1, --t->n * sizeof t->items[0]);
    t->items[t->n].timeline = timeline;
    t->items[t->n++].end = end;
}

void timelines_merge(struct timelines *old, const struct timelines *now)
{
    struct timelines all = {0};
    for (uint32_t i = 0; i < old->n; i++) {
        uint32_t k = 0;
        while (k < now->n && now->items[k].timeline != old->items[i].timeline)
            k++;
        if (k == now->n)
            timelines_add(&all, old->items[i].timeline, old->items[i].end);
    }
    for (uint32_t i = 0; i < now->n; i++)
        timelines_add(&all, now->items[i].timeline, now->items[i].end);
    *old = all;
}

static bool timelines_equal(const struct timelines *a, const struct timelines *b)
{
    for (uint32_t i = 0; i < a->n && a->n == b->n; i++) {
        if (a->items[i].timeline != b->items[i].timeline || a->items[i].end != b->items[i].end)
            return false;
    }
    return a->n == b->n;
}

// ---- the file ----

static void put_lists(struct buf *text, const struct journal_identity *id, const struct lineage *l)
{
    buf_puts(text, "timelines=");
    for (uint32_t i = 0; i < id->before.n; i++)
        buf_printf(text, "%" PRIx32 ":%" PRIx64 ",", id->before.items[i].timeline,
                   id->before.items[i].end);
    buf_puts(text, "\ngenerations=");
    for (uint32_t i = 0; i < l->n; i++)
        buf_printf(text, "%016" PRIx64 ":%" PRIx64 ":%" PRIx64 ":%d,", l->past[i].stream_id,
                   l->past[i].from, l->past[i].to, l->past[i].over);
    buf_printf(text, "\nreason=%s\ndropping=%d\n", l->reason, l->dropping);
}

static int identity_save(struct journal *j, const struct journal_identity *id,
                         const struct lineage *l, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    buf_printf(&text, "format=%d\nsystem_id=%" PRIu64 "\ndatabase_oid=%" PRIu32 "\nname=%s\n",
               IDENTITY_FORMAT, id->system_id, id->database_oid, id->name);
    buf_printf(&text,
               "database=%s\ngeneration=%" PRIu32 "\ntimeline=%" PRIu32 "\nstream_id=%016" PRIx64
               "\n",
               id->database, id->generation, id->timeline, id->stream_id);
    buf_printf(&text, "stream_system_id=%" PRIu64 "\nstream_database_oid=%" PRIu32 "\n",
               l->system_id, l->database_oid);
    put_lists(&text, id, l);
    return state_write(j->dirfd, j->dir, IDENTITY_FILE, &text, e);
}

static bool read_lists(const struct buf *text, struct journal_identity *id, struct lineage *l)
{
    AUTO_FREE char *list = xmalloc(LIST_BYTES_MAX);
    int n = 0, over = 0;
    if (!state_get(text, "timelines", list, LIST_BYTES_MAX))
        return false;
    for (const char *at = list; *at; at += n) {
        uint32_t timeline;
        lsn_t end;
        if (id->before.n == TIMELINES_MAX ||
            sscanf(at, "%" SCNx32 ":%" SCNx64 ",%n", &timeline, &end, &n) != 2)
            return false;
        timelines_add(&id->before, timeline, end);
    }
    if (!state_get(text, "generations", list, LIST_BYTES_MAX))
        return false;
    for (const char *at = list; *at; at += n) {
        struct generation *g = &l->past[l->n];
        if (l->n == GENERATIONS_MAX || sscanf(at, "%" SCNx64 ":%" SCNx64 ":%" SCNx64 ":%d,%n",
                                              &g->stream_id, &g->from, &g->to, &over, &n) != 4)
            return false;
        g->over = over != 0;
        l->n++;
    }
    return true;
}

static bool read_second(const struct buf *text, struct journal_identity *id, struct lineage *l)
{
    uint64_t oid, dropping;
    if (!state_get_u64(text, "stream_system_id", 10, &l->system_id) ||
        !state_get_u64(text, "stream_database_oid", 10, &oid) ||
        !state_get(text, "database", id->database, sizeof id->database) ||
        !state_get(text, "reason", l->reason, sizeof l->reason) ||
        !state_get_u64(text, "dropping", 10, &dropping))
        return false;
    l->database_oid = (uint32_t)oid;
    l->dropping = dropping != 0;
    return read_lists(text, id, l);
}

static bool read_first(const struct buf *text, struct journal_identity *id, struct lineage *l)
{
    uint64_t before, lsn;
    if (!state_get_u64(text, "timeline_before", 10, &before) ||
        !state_get_u64(text, "timeline_before_lsn", 16, &lsn))
        return false;
    if (before)
        timelines_add(&id->before, (uint32_t)before, lsn + 1);
    l->system_id = id->system_id;
    l->database_oid = id->database_oid;
    return true;
}

int identity_load(struct journal *j, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (state_read(j->dirfd, j->dir, IDENTITY_FILE, &text, &j->has_id, e) != 0)
        return -1;
    if (!j->has_id)
        return 0;
    uint64_t format, oid, generation, timeline;
    struct journal_identity id = {0};
    struct lineage l = {0};
    if (!state_get_u64(&text, "format", 10, &format) || format < 1 || format > IDENTITY_FORMAT)
        return err_set(e, ERR_JOURNAL,
                       "%s/%s has another format than %d: run the version of rowcast that wrote "
                       "it, or start a new journal in another directory",
                       j->dir, IDENTITY_FILE, IDENTITY_FORMAT);
    if (!state_get_u64(&text, "system_id", 10, &id.system_id) ||
        !state_get_u64(&text, "database_oid", 10, &oid) ||
        !state_get(&text, "name", id.name, sizeof id.name) ||
        !state_get_u64(&text, "generation", 10, &generation) ||
        !state_get_u64(&text, "timeline", 10, &timeline) ||
        !state_get_u64(&text, "stream_id", 16, &id.stream_id))
        return err_set(e, ERR_JOURNAL, "%s/%s lacks a line", j->dir, IDENTITY_FILE);
    id.database_oid = (uint32_t)oid;
    id.generation = (uint32_t)generation;
    id.timeline = (uint32_t)timeline;
    if (!(format == 1 ? read_first : read_second)(&text, &id, &l))
        return err_set(e, ERR_JOURNAL, "%s/%s lacks a line, or has a malformed one", j->dir,
                       IDENTITY_FILE);
    j->id = id;
    j->lineage = l;
    return 0;
}

int identity_set(struct journal *j, const struct journal_identity *id, const struct lineage *l,
                 struct err *e)
{
    if (identity_save(j, id, l, e) != 0)
        return -1;
    pthread_mutex_lock(&j->lock);
    j->id = *id;
    j->lineage = *l;
    j->has_id = true;
    j->id_version++;
    pthread_mutex_unlock(&j->lock);
    return 0;
}

uint32_t journal_identity_version(const struct journal *j)
{
    return j->id_version;
}

bool journal_identity(const struct journal *j, struct journal_identity *ret_id)
{
    struct journal *lockable = (struct journal *)j;
    pthread_mutex_lock(&lockable->lock);
    bool has = j->has_id;
    if (has)
        *ret_id = j->id;
    pthread_mutex_unlock(&lockable->lock);
    return has;
}

// ---- claiming ----

static int check_same(const struct journal *j, const struct journal_identity *id, struct err *e)
{
    const struct journal_identity *mine = &j->id;
    if (mine->system_id == id->system_id && mine->database_oid == id->database_oid &&
        strcmp(mine->name, id->name) == 0)
        return 0;
    return err_set(e, ERR_JOURNAL,
                   "journal %s belongs to stream \"%s\" of database %u on system %" PRIu64
                   ", not to \"%s\" of database %u on system %" PRIu64
                   ": give this source a directory of its own",
                   j->dir, mine->name, mine->database_oid, mine->system_id, id->name,
                   id->database_oid, id->system_id);
}

int journal_claim(struct journal *j, const struct journal_identity *id, struct err *e)
{
    struct journal_identity next = *id;
    struct lineage l = j->lineage;
    if (!id->name[0] || !memchr(id->name, 0, sizeof id->name) || strpbrk(id->name, "\r\n"))
        return err_set(e, ERR_USAGE, "a stream's name must have 1 to 63 characters on one line");
    if (strpbrk(next.database, "\r\n"))
        next.database[0] = 0; // it is compared only where it is known
    if (j->has_id) {
        if (check_same(j, id, e) != 0)
            return -1;
        next.generation = j->id.generation;
        next.stream_id = j->id.stream_id;
        next.before = j->id.before;
        timelines_merge(&next.before, &id->before);
        if (next.timeline != j->id.timeline)
            log_info("the source is on another timeline", "dir=%s timeline=%u before=%u", j->dir,
                     next.timeline, j->id.timeline);
        if (next.timeline == j->id.timeline && strcmp(next.database, j->id.database) == 0 &&
            timelines_equal(&next.before, &j->id.before))
            return 0;
    } else {
        next.generation = 1;
        l.system_id = next.system_id;
        l.database_oid = next.database_oid;
        next.stream_id = identity_stream_id(&l, next.name, 1);
    }
    return identity_set(j, &next, &l, e);
}

// ---- cursors ----

static enum cursor_check check_timeline(const struct journal *j, const struct cursor *c)
{
    if (c->timeline == j->id.timeline)
        return CURSOR_OK;
    const struct timelines *t = &j->id.before;
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->items[i].timeline == c->timeline && c->at.lsn < t->items[i].end)
            return CURSOR_OK;
    }
    return CURSOR_OTHER_TIMELINE;
}

static bool find_past(const struct lineage *l, uint64_t stream_id, uint32_t *ret_i)
{
    for (uint32_t i = l->n; i-- > 0;) {
        if (l->past[i].stream_id != stream_id)
            continue;
        *ret_i = i;
        return true;
    }
    return false;
}

// Inside a gap: somebody else had it, but not this journal.
static bool inside_gap(const struct generation *g, struct position at)
{
    return at.lsn >= g->from && position_cmp(at, position_before(g->to)) < 0;
}

static enum cursor_check check_generation(const struct journal *j, const struct cursor *c)
{
    const struct lineage *l = &j->lineage;
    uint32_t i;
    if (c->stream_id == j->id.stream_id)
        return CURSOR_OK;
    if (!find_past(l, c->stream_id, &i))
        return CURSOR_OTHER_STREAM;
    enum cursor_check r = CURSOR_OK;
    for (; i < l->n; i++) {
        if (l->past[i].over)
            return CURSOR_OTHER_STREAM;
        if (inside_gap(&l->past[i], c->at))
            r = CURSOR_EXPIRED;
    }
    return r;
}

enum cursor_check journal_check_cursor(struct journal *j, const struct cursor *c)
{
    pthread_mutex_lock(&j->lock);
    enum cursor_check r = check_generation(j, c);
    if (r == CURSOR_OK)
        r = check_timeline(j, c);
    if (r == CURSOR_OK && position_cmp(c->at, j->floor) < 0)
        r = CURSOR_EXPIRED;
    pthread_mutex_unlock(&j->lock);
    return r;
}

bool journal_stream_ended(struct journal *j, uint64_t stream_id, char ret_reason[GAP_REASON_MAX])
{
    uint32_t i;
    pthread_mutex_lock(&j->lock);
    bool ended = find_past(&j->lineage, stream_id, &i);
    // The newest one's reason is kept, and stands for those before it.
    if (ended)
        memcpy(ret_reason, j->lineage.reason, GAP_REASON_MAX);
    pthread_mutex_unlock(&j->lock);
    return ended;
}
