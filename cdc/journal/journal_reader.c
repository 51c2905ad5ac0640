// Readers: at the tail they share the batches in memory, behind it they read the files through the
// cache of decoded frames. A reader's next seq is under the journal's lock, so that a cut can send
// it back; what it read meanwhile is then thrown away.
#include "journal/inside.h"

#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

// ---- where a position stands ----

// The seq of the first batch above `at`, also one that is to come. Lets go of the lock while it
// looks into files; whoever asks must look at the epoch.
static enum find find_position(struct journal *j, struct position at, uint64_t *ret_seq,
                               struct err *e)
{
    // The oldest batch in memory may be the one only if nothing that is written is before it.
    struct batch *oldest = tail_get(&j->tail, j->tail.low);
    bool in_memory = position_cmp(at, j->last) >= 0 || segments_count(&j->segments) == 0 ||
                     (oldest && position_cmp(oldest->last, at) <= 0);
    if (in_memory) {
        *ret_seq = tail_find(&j->tail, at);
        return FIND_OK;
    }
    struct place place;
    pthread_mutex_unlock(&j->lock);
    enum find found = segments_find_position(&j->segments, at, &place, e);
    pthread_mutex_lock(&j->lock);
    if (found == FIND_OK)
        *ret_seq = place.seq;
    return found;
}

// Again until no cut came in between. Locked.
static enum find find_settled(struct journal *j, struct position at, uint64_t *ret_seq,
                              struct err *e)
{
    enum find found;
    uint64_t epoch;
    do {
        epoch = j->epoch;
        found = find_position(j, at, ret_seq, e);
    } while (epoch != j->epoch);
    // Retention raises the floor before it takes a file.
    return found == FIND_OK && position_cmp(at, j->floor) < 0 && j->last.lsn ? FIND_EXPIRED : found;
}

// ---- opening and closing ----

// Just before the oldest whole transaction. Locked.
static struct position earliest_at(struct journal *j)
{
    struct segment seg;
    struct position floor = j->floor;
    if (segments_get(&j->segments, 0, &seg) && seg.first.lsn == floor.lsn &&
        floor.ordinal < ORDINAL_END)
        floor.ordinal = ORDINAL_END; // what is kept begins inside a transaction
    return floor;
}

static struct cursor cursor_at(const struct journal *j, struct position at, uint32_t attempt)
{
    return (struct cursor){j->id.stream_id, j->id.timeline, at, attempt};
}

struct cursor journal_earliest(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct cursor c = cursor_at(j, earliest_at(j), 0);
    pthread_mutex_unlock(&j->lock);
    return c;
}

struct cursor journal_latest(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct cursor c = cursor_at(j, j->visible_last, j->visible_attempt);
    pthread_mutex_unlock(&j->lock);
    return c;
}

// Sets the reader's place. Locked.
static enum find settle(struct journal_reader *r, enum journal_from from, const struct cursor *c,
                        struct err *e)
{
    struct journal *j = r->j;
    bool whole = !j->open.cut.lsn || j->open.seq > j->visible_seq;
    switch (from) {
    case FROM_NOW: // never inside a transaction
        r->at = whole ? j->visible_last : j->open.before;
        break;
    case FROM_EARLIEST:
        r->at = earliest_at(j);
        break;
    case FROM_POSITION:
        r->at = c->at;
        r->attempt = r->start_attempt = c->attempt;
        break;
    }
    r->before_first = j->last.lsn == 0 && from == FROM_POSITION && r->at.lsn != 0;
    r->expired = j->last.lsn != 0 && position_cmp(r->at, j->floor) < 0;
    r->start = r->skip = r->acknowledged = r->at;
    if (from == FROM_NOW)
        r->seq = whole ? j->visible_seq + 1 : j->open.seq;
    return from == FROM_NOW || r->expired ? FIND_OK : find_settled(j, r->at, &r->seq, e);
}

int journal_reader_open(struct journal *j, const char *name, enum journal_from from,
                        const struct cursor *c, bool gating, void (*wake)(void *arg), void *arg,
                        struct journal_reader **ret_r, struct err *e)
{
    CHECK(from != FROM_POSITION || c);
    struct journal_reader *r = xcalloc(1, sizeof *r);
    r->j = j;
    r->name = xstrdup(name);
    r->wake = wake;
    r->wake_arg = arg;
    r->gating = gating;
    r->fd = -1;
    if (from == FROM_POSITION)
        r->acknowledged = c->at;
    // In the list first: a gating reader then keeps what it will find.
    pthread_mutex_lock(&j->wake_lock);
    pthread_mutex_lock(&j->lock);
    r->next = j->readers;
    j->readers = r;
    pthread_mutex_unlock(&j->wake_lock);
    enum find found = settle(r, from, c, e);
    pthread_mutex_unlock(&j->lock);
    if (found == FIND_ERROR) {
        journal_reader_close(r);
        return -1;
    }
    if (found == FIND_EXPIRED)
        r->expired = true;
    *ret_r = r;
    return 0;
}

static void close_file(struct journal_reader *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

void journal_reader_close(struct journal_reader *r)
{
    if (!r)
        return;
    struct journal *j = r->j;
    pthread_mutex_lock(&j->wake_lock);
    pthread_mutex_lock(&j->lock);
    struct journal_reader **at = &j->readers;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (r->gating) { // what it held back may go
        j->retain_now = true;
        pthread_cond_signal(&j->work);
    }
    pthread_mutex_unlock(&j->lock);
    pthread_mutex_unlock(&j->wake_lock);
    close_file(r);
    free(r->name);
    free(r);
}

struct cursor journal_reader_start(const struct journal_reader *r)
{
    struct journal *j = r->j;
    pthread_mutex_lock(&j->lock);
    struct cursor c = cursor_at(j, r->start, r->start_attempt);
    pthread_mutex_unlock(&j->lock);
    return c;
}

struct position journal_reader_skip(const struct journal_reader *r)
{
    return r->skip;
}

bool journal_reader_at_tail(const struct journal_reader *r)
{
    struct journal *j = r->j;
    pthread_mutex_lock(&j->lock);
    bool tail = r->seq > j->visible_seq && r->ended == READ_BATCH;
    pthread_mutex_unlock(&j->lock);
    return tail;
}

void journal_reader_acknowledge(struct journal_reader *r, struct position upto)
{
    struct journal *j = r->j;
    pthread_mutex_lock(&j->lock);
    if (position_cmp(upto, r->acknowledged) > 0 && r->ended == READ_BATCH)
        r->acknowledged = upto;
    if (r->gating && j->size_full && !j->retain_now) {
        j->retain_now = true;
        pthread_cond_signal(&j->work);
    }
    pthread_mutex_unlock(&j->lock);
}

void readers_go_back(struct journal *j, uint64_t from)
{
    for (struct journal_reader *r = j->readers; r; r = r->next) {
        if (r->seq > from)
            r->seq = from;
    }
}

void readers_end(struct journal *j, enum read_result how)
{
    for (struct journal_reader *r = j->readers; r; r = r->next) {
        if (r->ended == READ_BATCH)
            r->ended = how;
        r->acknowledged = (struct position){0, 0}; // holds all that comes, until it is closed
    }
}

void readers_wake(struct journal *j)
{
    pthread_mutex_lock(&j->wake_lock);
    for (struct journal_reader *r = j->readers; r; r = r->next) {
        if (atomic_exchange(&r->wants_wake, false) && r->wake)
            r->wake(r->wake_arg);
    }
    pthread_mutex_unlock(&j->wake_lock);
}

// ---- reading files ----

// Makes r->place stand at the frame `seq`, its file open.
static enum find find_frame(struct journal_reader *r, uint64_t seq, uint64_t epoch, struct err *e)
{
    struct journal *j = r->j;
    if (r->place.seq == seq && r->place_epoch == epoch && r->fd >= 0 &&
        r->place.segment == r->segment.id && r->place.offset < r->segment.bytes)
        return FIND_OK;
    if (r->place_epoch != epoch) // after a cut another file may have the same name
        close_file(r);
    uint64_t had = r->fd >= 0 ? r->segment.id : 0;
    enum find found = segments_find_seq(&j->segments, seq, &r->place, &r->segment, e);
    if (found != FIND_OK)
        return found;
    if (r->place.seq != seq || r->place.offset >= r->segment.bytes) {
        err_set(e, ERR_JOURNAL, "journal %s has lost frame %" PRIu64, j->dir, seq);
        return FIND_ERROR;
    }
    r->place_epoch = epoch;
    if (had == r->segment.id)
        return FIND_OK;
    close_file(r);
    segments_path(&j->segments, &r->segment, r->path);
    if (segments_open(&j->segments, &r->segment, O_RDONLY, &r->fd, e) == 0)
        return FIND_OK;
    return segments_gone(&j->segments, &r->segment) ? FIND_EXPIRED : FIND_ERROR;
}

static int read_header(struct journal_reader *r, uint64_t seq, struct frame *ret_f, struct err *e)
{
    struct frame f;
    ssize_t n = file_read_at(r->fd, &f, sizeof f, r->place.offset);
    if (n == (ssize_t)sizeof f && frame_valid(&f, r->segment.bytes - r->place.offset) &&
        f.seq == seq) {
        *ret_f = f;
        return 0;
    }
    return err_set(e, ERR_JOURNAL,
                   "%s: damaged frame at offset %" PRIu64 ", behind position " LSN_FMT "/%" PRIu64
                   ": restore the file from a backup, or move the journal away and start a new one",
                   r->path, r->place.offset, LSN_ARG(r->at.lsn), r->at.ordinal);
}

// From the file into the cache.
static int load_frame(struct journal_reader *r, const struct frame *f, uint64_t epoch,
                      struct place *ret_next, struct batch **ret_b, struct err *e)
{
    struct journal *j = r->j;
    bool large = f->raw > FRAME_CACHE_BYTES;
    struct batch *b = NULL;
    struct place next = {r->place.segment, r->place.offset + frame_size(f), f->seq + 1};
    int result = 0;
    if (large) {
        pthread_mutex_lock(&j->large_lock);
        b = frame_cache_get(&j->cache, f->seq, &next); // another reader may have done it meanwhile
    }
    if (!b) {
        result = frame_read_payload(r->fd, r->path, r->place.offset, f, &b, e);
        if (result == 0)
            frame_cache_put(&j->cache, b, &next, epoch);
    }
    if (large)
        pthread_mutex_unlock(&j->large_lock);
    if (result == 0) {
        *ret_next = next;
        *ret_b = b;
    }
    return result;
}

static enum find read_frame(struct journal_reader *r, uint64_t seq, uint64_t epoch,
                            struct batch **ret_b, struct err *e)
{
    struct place next;
    struct batch *b = frame_cache_get(&r->j->cache, seq, &next);
    if (!b) {
        struct frame f = {0};
        enum find found = find_frame(r, seq, epoch, e);
        if (found != FIND_OK)
            return found;
        if (read_header(r, seq, &f, e) != 0 || load_frame(r, &f, epoch, &next, &b, e) != 0)
            return FIND_ERROR;
    }
    r->place = next;
    r->place_epoch = epoch;
    *ret_b = b;
    return FIND_OK;
}

// ---- the next batch ----

enum step { STEP_BATCH, STEP_TAIL, STEP_EXPIRED, STEP_ENDED, STEP_ERROR, STEP_AGAIN };

// The batch r->seq, from memory or files; moves the reader behind it.
static enum step fetch(struct journal_reader *r, struct batch **ret_b, struct err *e)
{
    struct journal *j = r->j;
    pthread_mutex_lock(&j->lock);
    uint64_t seq = r->seq, epoch = j->epoch;
    if (r->ended != READ_BATCH) {
        pthread_mutex_unlock(&j->lock);
        return STEP_ENDED;
    }
    if (seq > j->visible_seq) {
        atomic_store(&r->wants_wake, true);
        j->waiting = true;
        pthread_mutex_unlock(&j->lock);
        close_file(r); // of no use any more; thousands may wait here
        return STEP_TAIL;
    }
    struct batch *b = tail_get(&j->tail, seq);
    if (b) {
        *ret_b = batch_ref(b);
        r->seq = seq + 1;
        pthread_mutex_unlock(&j->lock);
        return STEP_BATCH;
    }
    pthread_mutex_unlock(&j->lock);
    enum find found = read_frame(r, seq, epoch, &b, e);
    pthread_mutex_lock(&j->lock);
    bool cut = j->epoch != epoch; // or all of it is gone
    if (!cut && found == FIND_OK)
        r->seq = seq + 1;
    pthread_mutex_unlock(&j->lock);
    if (cut) {
        if (found == FIND_OK)
            batch_unref(b);
        return STEP_AGAIN;
    }
    if (found == FIND_OK)
        *ret_b = b;
    return found == FIND_OK ? STEP_BATCH : found == FIND_EXPIRED ? STEP_EXPIRED : STEP_ERROR;
}

// The transaction that the reader stands in is in this batch with another attempt, or was passed
// over: decoded again, nothing of it was left.
static bool must_restart(const struct journal_reader *r, const struct batch *b)
{
    if (r->at.ordinal >= ORDINAL_END || r->at.lsn == 0 || b->last.lsn < r->at.lsn)
        return false;
    BATCH_FOREACH (b, entry) {
        if (entry->kind != ENTRY_BEGIN)
            continue;
        struct begin begin = batch_begin(b, entry);
        if (begin.lsn == r->at.lsn)
            return begin.attempt != r->attempt;
        if (begin.lsn > r->at.lsn)
            return true;
    }
    // A gap may end right behind it.
    return b->first.lsn > r->at.lsn || b->first.ordinal >= ORDINAL_END;
}

// Back to before the transaction.
static enum read_result restart(struct journal_reader *r, struct err *e)
{
    struct journal *j = r->j;
    r->at = r->skip = position_before(r->at.lsn);
    r->attempt = 0;
    log_info("a reader's transaction came again with other content", "reader=%s lsn=" LSN_FMT,
             r->name, LSN_ARG(r->at.lsn + 1));
    if (j->metrics.restarts)
        metric_add(j->metrics.restarts, 1);
    pthread_mutex_lock(&j->lock);
    enum find found = find_settled(j, r->at, &r->seq, e);
    pthread_mutex_unlock(&j->lock);
    return found == FIND_OK ? READ_RESTART : found == FIND_EXPIRED ? READ_EXPIRED : READ_ERROR;
}

enum read_result journal_reader_next(struct journal_reader *r, struct batch **ret_b, struct err *e)
{
    if (r->expired)
        return READ_EXPIRED;
    for (;;) {
        struct batch *b = NULL;
        switch (fetch(r, &b, e)) {
        case STEP_AGAIN:
            continue;
        case STEP_TAIL:
            return READ_TAIL;
        case STEP_EXPIRED:
            r->expired = true;
            return READ_EXPIRED;
        case STEP_ENDED:
            return r->ended;
        case STEP_ERROR:
            return READ_ERROR;
        case STEP_BATCH:
            break;
        }
        if (r->before_first && position_cmp(r->at, batch_floor(b)) < 0) {
            batch_unref(b);
            r->expired = true;
            return READ_EXPIRED;
        }
        r->before_first = false;
        if (must_restart(r, b)) {
            batch_unref(b);
            return restart(r, e);
        }
        r->skip = r->at;
        if (position_cmp(b->last, r->at) <= 0) { // had already
            batch_unref(b);
            continue;
        }
        r->at = b->last;
        r->attempt = b->attempt;
        *ret_b = b;
        return READ_BATCH;
    }
}
