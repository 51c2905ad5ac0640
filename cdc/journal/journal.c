#include "journal/inside.h"

#include "base/clock.h"
#include "base/log.h"
#include "journal/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define SEGMENT_BYTES_DEFAULT (UINT64_C(64) << 20)
#define MEMORY_BYTES_DEFAULT  (UINT64_C(16) << 20)

// ---- opening and closing ----

static void update_metrics(void *arg)
{
    struct journal *j = arg;
    struct segment oldest;
    int64_t age = 0, readers = 0;
    if (segments_get(&j->segments, 0, &oldest))
        age = clock_steady_us() - oldest.modified_us;
    metric_set(j->metrics.bytes, (int64_t)segments_bytes(&j->segments));
    metric_set(j->metrics.segments, (int64_t)segments_count(&j->segments));
    metric_set(j->metrics.oldest_age, age > 0 ? age : 0);
    pthread_mutex_lock(&j->lock);
    metric_set(j->metrics.unwritten, (int64_t)j->unwritten);
    for (const struct journal_reader *r = j->readers; r; r = r->next)
        readers++;
    pthread_mutex_unlock(&j->lock);
    metric_set(j->metrics.readers, readers);
}

static void make_metrics(struct journal_metrics *m)
{
    m->bytes = metric_new(METRIC_GAUGE, "rowcast_journal_bytes",
                          "Bytes of segment files in the journal.", "", 1);
    m->segments = metric_new(METRIC_GAUGE, "rowcast_journal_segments",
                             "Segment files in the journal.", "", 1);
    m->oldest_age = metric_new(METRIC_GAUGE, "rowcast_journal_oldest_age_seconds",
                               "Time since the oldest segment was last written.", "", 1000000);
    m->unwritten = metric_new(METRIC_GAUGE, "rowcast_journal_unwritten_bytes",
                              "Memory of batches that are not on disk yet.", "", 1);
    m->readers = metric_new(METRIC_GAUGE, "rowcast_journal_readers", "Open readers.", "", 1);
    m->frames = metric_new(METRIC_COUNTER, "rowcast_journal_frames_total",
                           "Frames (batches) written and synced.", "", 1);
    m->fsyncs = metric_new(METRIC_COUNTER, "rowcast_journal_fsyncs_total",
                           "Syncs of a segment file.", "", 1);
    m->restarts =
        metric_new(METRIC_COUNTER, "rowcast_journal_restarts_total",
                   "Readers told that their transaction came again with other content.", "", 1);
    m->cuts = metric_new(METRIC_COUNTER, "rowcast_journal_cuts_total",
                         "Unfinished transactions cut off while running.", "", 1);
    m->synced = metric_new(METRIC_GAUGE, "rowcast_lsn",
                           "WAL position, as a number, by how far it is taken care of.",
                           "kind=\"synced\"", 1);
    m->fsync_time = histogram_new("rowcast_journal_fsync_seconds", "Duration of a sync.", "");
}

static int start_thread(struct journal *j, struct err *e)
{
    make_metrics(&j->metrics);
    metric_set(j->metrics.synced, (int64_t)j->watermark);
    metrics_on_render(update_metrics, j);
    j->thread_runs = true;
    j->w.hint_fd = openat(j->dirfd, HINT_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    j->w.zstd = ZSTD_createCCtx();
    CHECK(j->w.zstd);
    size_t r = ZSTD_CCtx_setParameter(j->w.zstd, ZSTD_c_compressionLevel, j->o.compression);
    if (ZSTD_isError(r))
        return err_set(e, ERR_USAGE, "zstd has no level %d", j->o.compression);
    int error = pthread_create(&j->thread, NULL, writer_main, j);
    if (error != 0) {
        errno = error;
        return err_errno(e, ERR_JOURNAL, "cannot start the journal's thread");
    }
    return 0;
}

static void init(struct journal *j, const struct journal_options *o)
{
    j->o = *o;
    j->dir = xstrdup(o->dir);
    j->o.dir = j->dir;
    if (j->o.segment_bytes == 0)
        j->o.segment_bytes = SEGMENT_BYTES_DEFAULT;
    if (j->o.memory_bytes == 0)
        j->o.memory_bytes = MEMORY_BYTES_DEFAULT;
    if (j->o.compression == 0)
        j->o.compression = COMPRESSION_DEFAULT;
    j->dirfd = j->lock_fd = j->relations.fd = j->w.fd = j->w.hint_fd = -1;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->wake_lock, NULL);
    pthread_cond_init(&j->work, &monotonic);
    pthread_cond_init(&j->idle, NULL);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&j->large_lock, NULL);
    frame_cache_init(&j->cache);
    segments_init(&j->segments);
    j->catalog = catalog_new();
}

// It stands before the first segment: without it nobody knows whose history this is.
static int check_identified(const struct journal *j, struct err *e)
{
    if (j->has_id || j->o.read_only || j->segments.n == 0)
        return 0;
    return err_set(e, ERR_JOURNAL,
                   "%s/%s is missing, but the journal has segments: restore the file from a "
                   "backup, or move the journal away and start a new one",
                   j->dir, IDENTITY_FILE);
}

int journal_open_files(const struct journal_options *o, struct journal **ret_j, struct err *e)
{
    struct journal *j = xcalloc(1, sizeof *j);
    init(j, o);
    if (directory_open(j, e) != 0 || identity_load(j, e) != 0 || pending_load(j, e) != 0 ||
        segments_load(&j->segments, j->dirfd, j->dir, e) != 0 || check_identified(j, e) != 0 ||
        relations_open(&j->relations, j->dirfd, j->dir, o->read_only, j->segments.n > 0, j->catalog,
                       e) != 0 ||
        told_open(&j->told, j->dirfd, j->dir, o->read_only, j->catalog, e) != 0) {
        journal_close(j);
        return -1;
    }
    // Whoever opens to write makes what is missing; a look makes nothing, and must not call any
    // directory a good journal.
    if (o->read_only && !j->has_id && j->relations.fd < 0 && segments_count(&j->segments) == 0) {
        journal_close(j);
        return err_set(e, ERR_JOURNAL, "%s holds no journal: name the directory of --journal",
                       o->dir);
    }
    *ret_j = j;
    return 0;
}

int journal_open(const struct journal_options *o, struct journal **ret_j, struct err *e)
{
    struct journal *j = NULL;
    if (journal_open_files(o, &j, e) == 0 && (o->read_only || gap_finish(j, e) == 0) &&
        recover(j, e) == 0 &&
        (o->read_only || (told_void(&j->told, j->last, e) == 0 && start_thread(j, e) == 0))) {
        *ret_j = j;
        return 0;
    }
    journal_close(j);
    if (e->class != ERR_RETRY)
        return -1;
    struct err full = *e; // nobody waits for room before there is a journal
    return err_set(e, ERR_JOURNAL, "%.900s; make room on that disk, then start again", full.text);
}

static void stop_thread(struct journal *j)
{
    metrics_off_render(update_metrics, j);
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_broadcast(&j->work);
    pthread_mutex_unlock(&j->lock);
    if (j->thread)
        pthread_join(j->thread, NULL);
    if (j->unwritten > 0)
        log_warn("the journal ends with batches unwritten; the source will send them again",
                 "dir=%s bytes=%zu", j->dir, j->unwritten);
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    CHECK(!j->readers);
    if (j->thread_runs)
        stop_thread(j);
    writer_free(&j->w);
    tail_free(&j->tail);
    frame_cache_free(&j->cache);
    segments_free(&j->segments);
    relations_close(&j->relations);
    told_close(&j->told);
    catalog_free(j->catalog);
    if (j->dirfd >= 0)
        close(j->dirfd);
    if (j->lock_fd >= 0)
        close(j->lock_fd); // and with it the lock
    pthread_cond_destroy(&j->work);
    pthread_cond_destroy(&j->idle);
    pthread_mutex_destroy(&j->lock);
    pthread_mutex_destroy(&j->wake_lock);
    pthread_mutex_destroy(&j->large_lock);
    free(j->dir);
    free(j);
}

struct catalog *journal_catalog(struct journal *j)
{
    return j->catalog;
}

int journal_add_relation(struct journal *j, struct relation *r, struct err *e)
{
    catalog_add(j->catalog, r);
    if (relations_sync(&j->relations, j->catalog, e) == 0)
        return 0;
    if (e->class != ERR_RETRY)
        return -1;
    pthread_mutex_lock(&j->lock);
    j->versions_behind = relations_behind(&j->relations, j->catalog);
    if (j->versions_behind) // else the journal's thread was here in between
        journal_set_full(j, true, e);
    pthread_mutex_unlock(&j->lock);
    return 0;
}

const struct relation *journal_told(struct journal *j, uint32_t oid, const char *table)
{
    const struct relation *r = told_by_oid(&j->told, oid);
    return r ? r : told_by_name(&j->told, table);
}

void journal_tell(struct journal *j, uint32_t id, struct position at)
{
    struct err e;
    if (told_add(&j->told, id, at, &e) != 0 && e.class != ERR_RETRY)
        journal_fail(j, &e);
}

void journal_untell(struct journal *j)
{
    struct err e;
    if (told_void(&j->told, journal_last(j), &e) != 0 && e.class != ERR_RETRY)
        journal_fail(j, &e);
}

// ---- appending ----

bool journal_has_room(struct journal *j, const char **ret_why)
{
    pthread_mutex_lock(&j->lock);
    const char *why = NULL;
    if (j->failed)
        why = "the journal has failed";
    else if (j->disk_full)
        why = "the journal's disk is full";
    else if (j->size_full)
        why = "the journal is at its size limit and a sink is behind";
    else if (j->unwritten >= UNWRITTEN_BYTES_MAX)
        why = "the journal's disk is slower than the source";
    pthread_mutex_unlock(&j->lock);
    if (ret_why)
        *ret_why = why;
    return !why;
}

// Keeps what a cut would need. Locked.
static void follow_txn(struct journal *j, const struct batch *b)
{
    if (!(b->flags & BATCH_PARTIAL)) {
        j->open = (struct open_txn){0};
        return;
    }
    if (j->open.cut.lsn != b->txn_lsn || !(b->flags & BATCH_CONTINUED)) {
        j->open.seq = b->seq;
        j->open.before = j->last;
        j->open.before_attempt = j->last_attempt;
    }
    j->open.cut = (struct journal_cut){b->txn_lsn, b->txn_changes, b->txn_hash, b->attempt};
}

bool journal_show(struct journal *j)
{
    bool all = j->aside_seq <= j->written_seq;
    if (j->held || j->versions_behind || (!all && j->written_seq <= j->visible_seq))
        return false;
    j->visible_seq = all ? j->tail.next - 1 : j->written_seq;
    j->visible_last = all ? j->last : j->written_last;
    j->visible_attempt = all ? j->last_attempt : j->written_attempt;
    bool wake = j->waiting;
    j->waiting = false;
    return wake;
}

void journal_append(struct journal *j, struct batch *b)
{
    pthread_mutex_lock(&j->lock);
    b->seq = j->tail.next;
    if (j->last.lsn == 0)
        j->floor = batch_floor(b);
    follow_txn(j, b);
    if (position_cmp(b->last, j->last) > 0) {
        j->last = b->last;
        j->last_attempt = b->attempt;
    }
    if (!(b->flags & BATCH_PARTIAL))
        j->appended = u64_max(j->appended, b->watermark);
    j->appended_count++;
    j->unwritten += b->memory;
    tail_push(&j->tail, b);
    if (b->flags & BATCH_ASIDE)
        j->aside_seq = b->seq;
    bool wake = journal_show(j);
    // The writer waits for a first batch, then for time or for many bytes.
    if (b->seq == j->written_seq + 1 || j->unwritten >= GATHER_BYTES)
        pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->lock);
    if (wake)
        readers_wake(j);
}

struct position journal_last(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct position last = j->last;
    pthread_mutex_unlock(&j->lock);
    return last;
}

lsn_t journal_watermark(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    lsn_t lsn = j->watermark;
    pthread_mutex_unlock(&j->lock);
    return lsn;
}

lsn_t journal_appended(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    lsn_t lsn = j->appended;
    pthread_mutex_unlock(&j->lock);
    return lsn;
}

void journal_on_durable(struct journal *j, void (*wake)(void *arg), void *arg)
{
    pthread_mutex_lock(&j->wake_lock);
    j->on_durable = wake;
    j->on_durable_arg = arg;
    pthread_mutex_unlock(&j->wake_lock);
}

bool journal_failed(struct journal *j, struct err *ret_e)
{
    pthread_mutex_lock(&j->lock);
    bool failed = j->failed;
    if (failed)
        *ret_e = j->failure;
    pthread_mutex_unlock(&j->lock);
    return failed;
}

// ---- cut, hold, release ----

struct journal_cut journal_pending_cut(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct journal_cut cut = j->pending;
    pthread_mutex_unlock(&j->lock);
    return cut;
}

void journal_cut_done(struct journal *j)
{
    struct err e;
    pthread_mutex_lock(&j->lock);
    bool any = j->pending.lsn != 0;
    j->pending = (struct journal_cut){0};
    pthread_mutex_unlock(&j->lock);
    if (any && pending_save(j, &e) != 0)
        journal_fail(j, &e);
}

void journal_hold(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    j->held = true;
    pthread_mutex_unlock(&j->lock);
}

void journal_release(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    j->held = false;
    bool wake = journal_show(j);
    pthread_mutex_unlock(&j->lock);
    if (wake)
        readers_wake(j);
}

// The files end before the open transaction. Locked, the writer stands still.
static int cut_files(struct journal *j, struct err *e)
{
    struct writer *w = &j->w;
    struct segment seg;
    if (hint_remove(j, e) != 0)
        return -1;
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
    w->good = w->at = w->hinted = 0;
    if (segments_cut(&j->segments, &w->context.txn, e) != 0)
        return -1;
    w->good_seq = w->durable_seq = j->written_seq = j->open.seq - 1;
    w->context.last = j->open.before;
    if (segments_newest(&j->segments, &seg)) {
        if (segments_open(&j->segments, &seg, O_RDWR, &w->fd, e) != 0)
            return -1;
        w->good = w->at = seg.bytes;
        w->segment = seg.id;
    } else {
        j->floor = j->open.before; // retention had left the transaction alone
    }
    return 0;
}

// Records the cut, then makes it. On a full disk the other way round, since the cut makes room;
// where even that does not help, only a crash before there is room would lose the record.
static int cut_on_disk(struct journal *j, bool in_files, struct err *e)
{
    struct err unsaved;
    int saved = pending_save(j, &unsaved);
    if (saved != 0 && unsaved.class != ERR_RETRY) {
        *e = unsaved;
        return -1;
    }
    if (in_files && cut_files(j, e) != 0)
        return -1;
    if (saved != 0 && pending_save(j, &unsaved) != 0)
        log_warn("the cut is not recorded, the disk is full", "dir=%s", j->dir);
    return 0;
}

static void cut_memory(struct journal *j, uint64_t written_seq)
{
    uint64_t from = j->open.seq;
    for (uint64_t seq = u64_max(from, written_seq + 1); seq < j->tail.next; seq++)
        j->unwritten -= tail_get(&j->tail, seq)->memory;
    tail_cut(&j->tail, from);
    j->last = j->open.before;
    j->last_attempt = j->open.before_attempt;
    if (j->visible_seq >= from) {
        j->visible_seq = from - 1;
        j->visible_last = j->last;
        j->visible_attempt = j->last_attempt;
    }
    readers_go_back(j, from);
    j->open = (struct open_txn){0};
}

struct journal_cut journal_cut(struct journal *j)
{
    struct err e = {0};
    int r = 0;
    pthread_mutex_lock(&j->lock);
    while (j->writer_busy)
        pthread_cond_wait(&j->idle, &j->lock);
    if (j->open.cut.lsn) {
        log_info("cut an unfinished transaction; it will come again",
                 "lsn=" LSN_FMT " changes=%" PRIu64, LSN_ARG(j->open.cut.lsn), j->open.cut.changes);
        pending_take(j, &j->open.cut);
        frame_cache_cut(&j->cache, ++j->epoch);
        uint64_t written_seq = j->written_seq;
        bool in_files = j->open.seq <= written_seq && !j->failed;
        r = cut_on_disk(j, in_files, &e);
        cut_memory(j, written_seq);
        metric_add(j->metrics.cuts, 1);
    }
    struct journal_cut cut = j->pending;
    pthread_mutex_unlock(&j->lock);
    if (r != 0)
        journal_fail(j, &e);
    return cut;
}
