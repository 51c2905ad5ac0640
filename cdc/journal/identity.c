#include "journal/identity.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#define IDENTITY_FORMAT 1

static uint64_t stream_id_of(const struct journal_identity *id)
{
    AUTO_BUF struct buf b = {0};
    buf_put(&b, &id->system_id, sizeof id->system_id);
    buf_put(&b, &id->database_oid, sizeof id->database_oid);
    buf_put(&b, &id->generation, sizeof id->generation);
    buf_puts(&b, id->name);
    return XXH3_64bits(b.p, b.n);
}

int identity_load(struct journal *j, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (state_read(j->dirfd, j->dir, IDENTITY_FILE, &text, &j->has_id, e) != 0)
        return -1;
    if (!j->has_id)
        return 0;
    uint64_t format, oid, generation, timeline, before, lsn, ordinal;
    struct journal_identity id = {0};
    if (!state_get_u64(&text, "format", 10, &format) || format != IDENTITY_FORMAT)
        return err_set(e, ERR_JOURNAL,
                       "%s/%s has another format than %d: run the version of rowcast that wrote "
                       "it, or start a new journal in another directory",
                       j->dir, IDENTITY_FILE, IDENTITY_FORMAT);
    if (!state_get_u64(&text, "system_id", 10, &id.system_id) ||
        !state_get_u64(&text, "database_oid", 10, &oid) ||
        !state_get(&text, "name", id.name, sizeof id.name) ||
        !state_get_u64(&text, "generation", 10, &generation) ||
        !state_get_u64(&text, "timeline", 10, &timeline) ||
        !state_get_u64(&text, "stream_id", 16, &id.stream_id) ||
        !state_get_u64(&text, "timeline_before", 10, &before) ||
        !state_get_u64(&text, "timeline_before_lsn", 16, &lsn) ||
        !state_get_u64(&text, "timeline_before_ordinal", 16, &ordinal))
        return err_set(e, ERR_JOURNAL, "%s/%s lacks a line", j->dir, IDENTITY_FILE);
    id.database_oid = (uint32_t)oid;
    id.generation = (uint32_t)generation;
    id.timeline = (uint32_t)timeline;
    j->id = id;
    j->timeline_before = (uint32_t)before;
    j->timeline_before_at = (struct position){lsn, ordinal};
    return 0;
}

static int identity_save(struct journal *j, const struct journal_identity *id, uint32_t before,
                         struct position before_at, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    buf_printf(&text, "format=%d\nsystem_id=%" PRIu64 "\ndatabase_oid=%" PRIu32 "\nname=%s\n",
               IDENTITY_FORMAT, id->system_id, id->database_oid, id->name);
    buf_printf(&text, "generation=%" PRIu32 "\ntimeline=%" PRIu32 "\nstream_id=%016" PRIx64 "\n",
               id->generation, id->timeline, id->stream_id);
    buf_printf(&text,
               "timeline_before=%" PRIu32 "\ntimeline_before_lsn=%" PRIx64
               "\ntimeline_before_ordinal=%" PRIx64 "\n",
               before, before_at.lsn, before_at.ordinal);
    return state_write(j->dirfd, j->dir, IDENTITY_FILE, &text, e);
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
    if (!id->name[0] || !memchr(id->name, 0, sizeof id->name) || strpbrk(id->name, "\r\n"))
        return err_set(e, ERR_USAGE, "a stream's name must have 1 to 63 characters on one line");
    uint32_t before = j->timeline_before;
    struct position before_at = j->timeline_before_at;
    if (j->has_id) {
        if (check_same(j, id, e) != 0)
            return -1;
        // The generation never falls: old cursors must not come to life again.
        if (next.generation < j->id.generation)
            next.generation = j->id.generation;
        if (next.timeline != j->id.timeline) {
            before = j->id.timeline;
            before_at = j->last;
            log_info("the source is on another timeline", "dir=%s timeline=%u before=%u", j->dir,
                     next.timeline, before);
        }
    }
    next.stream_id = stream_id_of(&next);
    bool same = j->has_id && next.generation == j->id.generation && next.timeline == j->id.timeline;
    if (!same && identity_save(j, &next, before, before_at, e) != 0)
        return -1;
    pthread_mutex_lock(&j->lock);
    j->id = next;
    j->has_id = true;
    j->timeline_before = before;
    j->timeline_before_at = before_at;
    pthread_mutex_unlock(&j->lock);
    return 0;
}

static enum cursor_check check_timeline(const struct journal *j, const struct cursor *c)
{
    if (c->timeline == j->id.timeline)
        return CURSOR_OK;
    if (c->timeline == j->timeline_before && position_cmp(c->at, j->timeline_before_at) <= 0)
        return CURSOR_OK;
    return CURSOR_OTHER_TIMELINE;
}

enum cursor_check journal_check_cursor(struct journal *j, const struct cursor *c)
{
    pthread_mutex_lock(&j->lock);
    enum cursor_check r = check_timeline(j, c);
    if (c->stream_id != j->id.stream_id)
        r = CURSOR_OTHER_STREAM;
    else if (r == CURSOR_OK && position_cmp(c->at, j->floor) < 0)
        r = CURSOR_EXPIRED;
    pthread_mutex_unlock(&j->lock);
    return r;
}
