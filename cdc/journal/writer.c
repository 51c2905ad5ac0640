// The journal's thread: takes all batches that have gathered, compresses and writes them, makes
// them durable with one fdatasync, and publishes the watermark.
#include "journal/inside.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>
#include <xxhash.h>

#define GROUP_MAX      256  // batches taken at a time
#define COMPRESS_LEAST 1024 // smaller ones gain little
#define TICK_US        INT64_C(1000000)
#define HINT_BYTES     (UINT64_C(1) << 20)
// When so much waits, frames are compressed in haste: with a hash table of 1,024 entries where zstd
// takes 4,096. Measured at level -1, CPU and size of 64 KiB batches: rows of columns of many kinds
// -6 to -27 %, and within 2 %; of long texts or JSON -8 to -21 %, and 10 to 16 % more.
#define HASTE_BYTES    (UINT64_C(4) << 20)
#define HASTE_HASH_LOG 10

enum write_result { WRITE_OK, WRITE_FULL, WRITE_FAILED };

void writer_free(struct writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    if (w->hint_fd >= 0)
        close(w->hint_fd);
    buf_free(&w->stage);
    ZSTD_freeCCtx(w->zstd);
}

void journal_fail(struct journal *j, const struct err *e)
{
    pthread_mutex_lock(&j->lock);
    bool first = !j->failed;
    if (first) {
        j->failed = true;
        j->failure = *e;
        j->failure.class = ERR_JOURNAL;
    }
    pthread_cond_broadcast(&j->work);
    pthread_mutex_unlock(&j->lock);
    if (first)
        log_error("the journal cannot go on", "dir=%s error=%s", j->dir, log_quote(e->text));
}

// What a failed write means; errno is fresh.
static enum write_result write_error(struct err *e, const char *dir)
{
    if (file_error_is_full(errno)) {
        err_errno(e, ERR_RETRY, "cannot write to %s", dir);
        return WRITE_FULL;
    }
    err_errno(e, ERR_JOURNAL, "cannot write to %s", dir);
    return WRITE_FAILED;
}

static void hint_write(struct writer *w)
{
    struct hint h = {.segment = w->segment, .offset = w->context.at, .seq = w->good_seq};
    h.check = hint_check(&h);
    if (pwrite(w->hint_fd, &h, sizeof h, 0) == (ssize_t)sizeof h)
        w->hinted = w->good;
}

static int sync_file(struct journal *j, struct err *e)
{
    struct writer *w = &j->w;
    if (w->durable_seq == w->good_seq || w->fd < 0)
        return 0;
    if (j->o.sync) {
        int64_t from = clock_mono_us();
        if (file_ops.fdatasync(w->fd) != 0)
            return err_errno(e, ERR_JOURNAL,
                             "fdatasync in %s failed: what is on the disk is not known any more; "
                             "look after the disk, then start again",
                             j->dir);
        histogram_observe(j->metrics.fsync_time, clock_mono_us() - from);
        metric_add(j->metrics.fsyncs, 1);
    }
    w->durable_seq = w->good_seq;
    w->synced_at = clock_mono_us();
    if (j->o.sync && w->good >= w->hinted + HINT_BYTES)
        hint_write(w);
    return 0;
}

// Writes the stage. `frame_end`: its end is the end of the frame `seq`.
static enum write_result flush(struct journal *j, bool frame_end, uint64_t seq, struct err *e)
{
    struct writer *w = &j->w;
    if (w->stage.n > 0 && file_write_all(w->fd, w->stage.p, w->stage.n, w->at) != 0)
        return write_error(e, j->dir);
    w->at += w->stage.n;
    buf_clear(&w->stage);
    if (frame_end && w->good != w->at) {
        w->good = w->at;
        w->good_seq = seq;
        segments_grow(&j->segments, w->good);
    }
    return WRITE_OK;
}

struct position batch_floor(const struct batch *b)
{
    if (b->entries[0].kind == ENTRY_GAP) // who reads from the earliest must meet it
        return position_before(b->first.lsn);
    return b->first.ordinal == ORDINAL_END ? b->first : position_before(b->first.lsn);
}

// Ends the segment and begins the one whose first frame is b.
static enum write_result roll(struct journal *j, const struct batch *b, struct err *e)
{
    struct writer *w = &j->w;
    enum write_result r = flush(j, true, b->seq - 1, e);
    if (r != WRITE_OK)
        return r;
    if (sync_file(j, e) != 0)
        return WRITE_FAILED;
    int fd;
    struct position floor = w->context.last.lsn ? w->context.last : batch_floor(b);
    pthread_mutex_lock(&j->lock);
    uint64_t stream_id = j->id.stream_id;
    pthread_mutex_unlock(&j->lock);
    if (segments_create(&j->segments, stream_id, b->seq, b->first, floor, &fd, e) != 0)
        return e->class == ERR_RETRY ? WRITE_FULL : WRITE_FAILED;
    if (w->fd >= 0)
        close(w->fd);
    w->fd = fd;
    w->segment = b->seq;
    w->good = w->at = w->hinted = sizeof(struct segment_header);
    return WRITE_OK;
}

// Stages n raw bytes, compressed if `zstd`; returns how many were stored.
static size_t stage_chunk(struct writer *w, const uint8_t *p, size_t n, bool zstd)
{
    if (!zstd) {
        buf_put(&w->stage, p, n);
        return n;
    }
    size_t bound = ZSTD_compressBound(n);
    size_t stored = ZSTD_compress2(w->zstd, buf_room(&w->stage, bound), bound, p, n);
    CHECK(!ZSTD_isError(stored));
    w->stage.n += stored;
    return stored;
}

// The payload behind a header of zeros; fills f's lengths, flag and check.
static void put_payload(struct writer *w, const struct batch *b, struct frame *f)
{
    bool zstd = b->n >= COMPRESS_LEAST;
    size_t begin = w->stage.n, stored = stage_chunk(w, b->data, b->n, zstd);
    if (zstd && stored >= b->n) { // it does not shrink
        zstd = false;
        w->stage.n = begin;
        stored = stage_chunk(w, b->data, b->n, false);
    }
    f->stored = (uint32_t)stored;
    f->flags |= zstd ? FRAME_ZSTD : 0;
    f->payload_check = XXH3_64bits(w->stage.p + begin, stored);
}

// The same for a batch of several chunks, which leave the stage one by one.
static enum write_result put_large_payload(struct journal *j, const struct batch *b,
                                           struct frame *f, struct err *e)
{
    struct writer *w = &j->w;
    XXH3_state_t *check = XXH3_createState();
    CHECK(check && XXH3_64bits_reset(check) == XXH_OK);
    enum write_result r = WRITE_OK;
    uint64_t stored = 0;
    for (size_t at = 0; at < b->n && r == WRITE_OK; at += FRAME_CHUNK) {
        size_t begin = w->stage.n;
        size_t n = stage_chunk(w, b->data + at, size_min(FRAME_CHUNK, b->n - at), true);
        stored += n;
        XXH3_64bits_update(check, w->stage.p + begin, n);
        r = flush(j, false, 0, e);
    }
    f->stored = (uint32_t)stored;
    f->flags |= FRAME_ZSTD;
    f->payload_check = XXH3_64bits_digest(check);
    XXH3_freeState(check);
    return r;
}

// Stages one batch as a frame; a large one is written on the way, its header last.
static enum write_result put_frame(struct journal *j, const struct batch *b, struct err *e)
{
    struct writer *w = &j->w;
    enum write_result r = WRITE_OK;
    if (w->fd < 0 || w->at + w->stage.n >= j->o.segment_bytes)
        r = roll(j, b, e);
    else if (b->n > FRAME_CHUNK || w->stage.n >= STAGE_BYTES)
        r = flush(j, true, b->seq - 1, e);
    if (r != WRITE_OK)
        return r;
    uint64_t at = w->at + w->stage.n;
    struct frame f = frame_of_batch(b);
    bool partial = b->flags & BATCH_PARTIAL, continued = b->flags & BATCH_CONTINUED;
    struct frame_context next = w->context;
    next.at = at;
    if (!continued)
        next.txn = (struct place){w->segment, at, b->seq};
    if (partial || continued) {
        f.txn_segment = next.txn.segment;
        f.txn_offset = next.txn.offset;
        f.txn_seq = next.txn.seq;
    }
    if (position_cmp(b->last, next.last) > 0)
        next.last = b->last;
    if (!partial) // a cut would take a partial one's watermark with it
        next.watermark = u64_max(next.watermark, b->watermark);
    f.last_lsn = next.last.lsn;
    f.last_ordinal = next.last.ordinal;
    f.watermark = next.watermark;
    f.durable_seq = w->durable_seq;
    memset(buf_room(&w->stage, sizeof f), 0, sizeof f);
    w->stage.n += sizeof f;
    f.raw = (uint32_t)b->n;
    if (b->n <= FRAME_CHUNK)
        put_payload(w, b, &f);
    else
        r = put_large_payload(j, b, &f, e);
    if (r != WRITE_OK)
        return r;
    static const uint8_t zero[8];
    buf_put(&w->stage, zero, frame_size(&f) - sizeof f - f.stored);
    frame_seal(&f);
    if (at >= w->at) {
        memcpy(w->stage.p + (at - w->at), &f, sizeof f);
    } else {
        if (file_write_all(w->fd, &f, sizeof f, at) != 0)
            return write_error(e, j->dir);
        r = flush(j, true, b->seq, e);
    }
    if (r == WRITE_OK)
        w->context = next;
    return r;
}

// Back to the last whole frame in the file, after a write that did not do it all.
static int fall_back(struct journal *j, const struct frame_context *context, struct err *e)
{
    struct writer *w = &j->w;
    buf_clear(&w->stage);
    w->at = w->good;
    w->context = *context;
    if (w->fd >= 0 && ftruncate(w->fd, (off_t)w->good) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot cut a half-written frame in %s", j->dir);
    return 0;
}

struct group {
    struct batch *items[GROUP_MAX];
    struct frame_context after[GROUP_MAX]; // each of them, to fall back to
    size_t n;
    bool haste; // much waits
};

// 0: zstd's own. Who asked for a level that compresses well gets it.
static void set_haste(struct journal *j, bool haste)
{
    int hash_log = haste && j->o.compression < 0 ? HASTE_HASH_LOG : 0;
    size_t r = ZSTD_CCtx_setParameter(j->w.zstd, ZSTD_c_hashLog, hash_log);
    CHECK(!ZSTD_isError(r));
}

static enum write_result write_group(struct journal *j, struct group *g, struct err *e)
{
    struct writer *w = &j->w;
    struct frame_context before = w->context;
    uint64_t first = g->items[0]->seq;
    enum write_result r = WRITE_OK;
    set_haste(j, g->haste);
    for (size_t i = 0; i < g->n && r == WRITE_OK; i++) {
        r = put_frame(j, g->items[i], e);
        g->after[i] = w->context;
    }
    if (r == WRITE_OK)
        r = flush(j, true, first + g->n - 1, e);
    if (r == WRITE_FULL) {
        struct err cut;
        if (w->good_seq >= first)
            before = g->after[w->good_seq - first];
        if (fall_back(j, &before, &cut) != 0) {
            *e = cut;
            r = WRITE_FAILED;
        }
    }
    struct err failed;
    if (r != WRITE_FAILED && sync_file(j, &failed) != 0) {
        *e = failed;
        r = WRITE_FAILED;
    }
    return r;
}

// ---- the thread ----

void journal_set_full(struct journal *j, bool full, const struct err *e)
{
    if (j->disk_full == full)
        return;
    j->disk_full = full;
    if (full)
        log_error("the disk is full: reading stops until there is room; trying every second",
                  "dir=%s unwritten_bytes=%zu error=%s", j->dir, j->unwritten, log_quote(e->text));
    else
        log_info("the disk has room again: reading goes on", "dir=%s", j->dir);
}

// Relation versions first, then the batches that may use them.
static enum write_result write_all(struct journal *j, struct group *g, struct err *e)
{
    if (relations_sync(&j->relations, j->catalog, e) != 0)
        return e->class == ERR_RETRY ? WRITE_FULL : WRITE_FAILED;
    return g->n > 0 ? write_group(j, g, e) : WRITE_OK;
}

// Makes known what was written; true when readers are to be woken. Locked.
static bool publish(struct journal *j, struct group *g, enum write_result r, const struct err *e)
{
    struct writer *w = &j->w;
    for (size_t i = 0; i < g->n && g->items[i]->seq <= w->durable_seq; i++) {
        j->unwritten -= g->items[i]->memory;
        j->written_attempt = g->items[i]->attempt;
        metric_add(j->metrics.frames, 1);
    }
    if (r == WRITE_FAILED)
        return false;
    j->written_seq = u64_max(j->written_seq, w->durable_seq);
    j->written_last = w->context.last;
    j->watermark = u64_max(j->watermark, w->context.watermark);
    metric_set(j->metrics.synced, (int64_t)j->watermark);
    tail_trim(&j->tail, j->o.memory_bytes, j->written_seq);
    bool behind = j->versions_behind && relations_behind(&j->relations, j->catalog);
    bool caught_up = j->versions_behind && !behind;
    j->versions_behind = behind;
    // With nothing left to write, as after a cut, there is room too.
    journal_set_full(j, r == WRITE_FULL || behind, e);
    return (caught_up || j->aside_seq > j->visible_seq) && journal_show(j);
}

static void take_group(struct journal *j, struct group *g)
{
    size_t bytes = 0;
    g->n = 0;
    g->haste = j->unwritten >= HASTE_BYTES;
    for (uint64_t seq = j->written_seq + 1; seq < j->tail.next && g->n < GROUP_MAX; seq++) {
        struct batch *b = tail_get(&j->tail, seq);
        if (g->n > 0 && bytes + b->n > UNWRITTEN_BYTES_MAX / 2)
            break;
        bytes += b->n;
        g->items[g->n++] = batch_ref(b);
    }
}

static void drop_group(struct group *g)
{
    for (size_t i = 0; i < g->n; i++)
        batch_unref(g->items[i]);
    g->n = 0;
}

// Whether there is something to write, and room for it. Locked.
static bool can_write(const struct journal *j)
{
    return !j->disk_full && j->written_seq + 1 < j->tail.next;
}

// Whether that has gathered for long enough. Locked.
static bool must_write(const struct journal *j, int64_t now)
{
    return can_write(j) && (now >= j->w.synced_at + GATHER_US || j->unwritten >= GATHER_BYTES);
}

// Waits until there is a group to write, a second has passed, or the end has come. Locked.
static void wait_for_work(struct journal *j)
{
    int64_t now = clock_mono_us(), end = now + TICK_US;
    while (!j->stop && !j->failed && !j->retain_now && !must_write(j, now) && now < end) {
        int64_t until = can_write(j) ? j->w.synced_at + GATHER_US : end;
        struct timespec t = {.tv_sec = until / 1000000, .tv_nsec = until % 1000000 * 1000};
        (void)pthread_cond_timedwait(&j->work, &j->lock, &t);
        now = clock_mono_us();
    }
}

static void call_on_durable(struct journal *j)
{
    pthread_mutex_lock(&j->wake_lock);
    if (j->on_durable)
        j->on_durable(j->on_durable_arg);
    pthread_mutex_unlock(&j->wake_lock);
}

// Writes what has gathered; returns false when there is no use in going on. Locked, lets go inside.
static bool turn(struct journal *j, struct group *g, bool ending)
{
    struct err e = {0};
    take_group(j, g);
    j->retain_now = false;
    j->writer_busy = true;
    pthread_mutex_unlock(&j->lock);
    enum write_result r = write_all(j, g, &e);
    if (r == WRITE_FAILED)
        journal_fail(j, &e);
    pthread_mutex_lock(&j->lock);
    bool wake = publish(j, g, r, &e);
    pthread_mutex_unlock(&j->lock);
    drop_group(g);
    if (wake)
        readers_wake(j);
    if (r != WRITE_FAILED && !ending)
        retention_run(j);
    call_on_durable(j);
    pthread_mutex_lock(&j->lock);
    j->writer_busy = false;
    pthread_cond_broadcast(&j->idle);
    return r == WRITE_OK;
}

void *writer_main(void *arg)
{
    struct journal *j = arg;
    struct group *g = xcalloc(1, sizeof *g);
    pthread_mutex_lock(&j->lock);
    while (!j->stop && !j->failed) {
        wait_for_work(j);
        if (!j->failed && !j->stop)
            turn(j, g, false);
    }
    bool going = !j->failed;
    while (going && j->written_seq + 1 < j->tail.next)
        going = turn(j, g, true);
    pthread_mutex_unlock(&j->lock);
    free(g);
    return NULL;
}
