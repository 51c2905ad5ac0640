// Opening: the newest segment is walked by its headers; only what no frame vouches for is read.
#include "journal/inside.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define PENDING_FILE "cut"

// ---- the pending cut ----

int pending_save(struct journal *j, struct err *e)
{
    if (j->pending.lsn == 0)
        return state_remove(j->dirfd, j->dir, PENDING_FILE, e);
    AUTO_BUF struct buf text = {0};
    buf_printf(&text,
               "format=1\nlsn=%" PRIx64 "\nchanges=%" PRIu64 "\nhash=%016" PRIx64
               "\nattempt=%" PRIu32 "\nwatermark=%" PRIx64 "\n",
               j->pending.lsn, j->pending.changes, j->pending.hash, j->pending.attempt,
               j->watermark);
    return state_write(j->dirfd, j->dir, PENDING_FILE, &text, e);
}

int pending_load(struct journal *j, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    bool found;
    uint64_t format, lsn, changes, hash, attempt, watermark;
    if (state_read(j->dirfd, j->dir, PENDING_FILE, &text, &found, e) != 0)
        return -1;
    if (!found)
        return 0;
    if (!state_get_u64(&text, "format", 10, &format) || format != 1 ||
        !state_get_u64(&text, "lsn", 16, &lsn) || !state_get_u64(&text, "changes", 10, &changes) ||
        !state_get_u64(&text, "hash", 16, &hash) ||
        !state_get_u64(&text, "attempt", 10, &attempt) ||
        !state_get_u64(&text, "watermark", 16, &watermark))
        return err_set(e, ERR_JOURNAL, "%s/%s is of another version of rowcast", j->dir,
                       PENDING_FILE);
    j->pending = (struct journal_cut){lsn, changes, hash, (uint32_t)attempt};
    j->watermark = j->appended = watermark; // holds when no frame says more
    return 0;
}

void pending_take(struct journal *j, const struct journal_cut *cut)
{
    if (j->pending.lsn != cut->lsn || j->pending.attempt < cut->attempt)
        j->pending = *cut;
}

// ---- the newest segment ----

struct newest {
    struct segment seg;
    char path[SEGMENT_PATH_MAX];
    int fd;
    struct place start; // where the walk begins: all before is durable
    uint64_t end;       // of the whole frames
    uint64_t next;      // seq behind them
    bool any;           // there is a frame
    bool torn;          // something else follows
    struct frame f;     // the last frame
    uint64_t last_at;   // and where it stands
};

static int damaged(const struct newest *n, struct position behind, struct err *e)
{
    return err_set(e, ERR_JOURNAL,
                   "%s: damaged frame at offset %" PRIu64 ", behind position " LSN_FMT "/%" PRIu64
                   ", though it was synced once: restore the file from a backup, or move the "
                   "journal away and start a new one",
                   n->path, n->end, LSN_ARG(behind.lsn), behind.ordinal);
}

static void stop_before(struct newest *n, const struct frame *last, uint64_t last_at, uint64_t at)
{
    n->torn = true;
    n->end = at;
    n->any = last != NULL;
    if (last) {
        n->f = *last;
        n->last_at = last_at;
    }
}

// Reads the payloads behind what the last frame vouches for; the first bad one is the tail's end.
static void check_tail(struct newest *n)
{
    uint64_t durable = n->f.durable_seq;
    if (!n->any || durable >= n->next - 1)
        return;
    struct walk w;
    struct frame f, before;
    uint64_t at, before_at = 0;
    bool any = false;
    walk_begin(&w, n->fd, n->start.offset, n->end);
    while (walk_next(&w, &f, &at) == WALK_FRAME) {
        if (f.seq > durable && !frame_payload_valid(n->fd, at, &f)) {
            n->next = f.seq;
            stop_before(n, any ? &before : NULL, before_at, at);
            break;
        }
        before = f;
        before_at = at;
        any = true;
    }
    walk_end(&w);
}

// Finds the last whole frame of an open file.
static int scan_newest(struct newest *n, bool read_only, struct err *e)
{
    n->torn = false;
    struct walk w;
    struct frame f;
    uint64_t at;
    enum walk_step step;
    struct position before = {0, 0};
    n->next = n->start.seq;
    n->end = n->start.offset;
    walk_begin(&w, n->fd, n->end, n->seg.bytes);
    while ((step = walk_next(&w, &f, &at)) == WALK_FRAME && f.seq == n->next) {
        before = frame_last(&f);
        n->f = f;
        n->any = true;
        n->last_at = at;
        n->end = w.at;
        n->next++;
    }
    int r = 0;
    if (step != WALK_END) {
        n->torn = true;
        w.at = n->end;
        if (!read_only && walk_vouched(&w, n->next))
            r = damaged(n, before, e);
    }
    walk_end(&w);
    if (r == 0)
        check_tail(n);
    return r;
}

// A file whose creation a crash cut short: no header yet.
static bool unborn(int fd, uint64_t bytes)
{
    uint8_t h[sizeof(struct segment_header)] = {0};
    static const uint8_t zero[sizeof h];
    if (bytes < sizeof h)
        return true;
    return file_read_at(fd, h, sizeof h, 0) == (ssize_t)sizeof h && memcmp(h, zero, sizeof h) == 0;
}

int hint_remove(struct journal *j, struct err *e)
{
    if (j->w.hint_fd >= 0) { // in use: emptied
        if (ftruncate(j->w.hint_fd, 0) == 0 && fdatasync(j->w.hint_fd) == 0)
            return 0;
        return err_errno(e, ERR_JOURNAL, "cannot empty %s/%s", j->dir, HINT_FILE);
    }
    return state_remove(j->dirfd, j->dir, HINT_FILE, e);
}

// Where a walk of the newest segment may begin: its last hinted frame, if one stands there.
static struct place walk_start(struct journal *j, const struct newest *n)
{
    const struct place first = {n->seg.id, sizeof(struct segment_header), n->seg.id};
    struct hint h;
    struct frame f;
    AUTO_CLOSE int fd = openat(j->dirfd, HINT_FILE, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || file_read_at(fd, &h, sizeof h, 0) != (ssize_t)sizeof h ||
        h.check != hint_check(&h) || h.segment != n->seg.id || h.offset >= n->seg.bytes ||
        file_read_at(n->fd, &f, sizeof f, h.offset) != (ssize_t)sizeof f ||
        !frame_valid(&f, n->seg.bytes - h.offset) || f.seq != h.seq)
        return first;
    return (struct place){h.segment, h.offset, h.seq};
}

static int open_newest(struct journal *j, struct newest *n, struct err *e)
{
    struct segment_header h;
    n->fd = -1;
    segments_path(&j->segments, &n->seg, n->path);
    int flags = j->o.read_only ? O_RDONLY : O_RDWR;
    if (segments_open(&j->segments, &n->seg, flags, &n->fd, e) != 0)
        return -1;
    if (unborn(n->fd, n->seg.bytes)) {
        n->next = n->seg.id;
        n->end = sizeof h;
        n->torn = n->seg.bytes > 0;
        return 0;
    }
    if (segment_header_read(n->fd, n->path, &h, e) != 0)
        return -1;
    if (h.first_seq != n->seg.id)
        return err_set(e, ERR_JOURNAL, "%s was renamed: it begins with seq %" PRIu64, n->path,
                       h.first_seq);
    n->start = walk_start(j, n);
    if (scan_newest(n, j->o.read_only, e) != 0)
        return -1;
    if (n->any || n->start.seq == n->seg.id)
        return 0;
    n->start = (struct place){n->seg.id, sizeof h, n->seg.id}; // the hint misled: from the start
    return scan_newest(n, j->o.read_only, e);
}

// Cuts at the frame that stands at `from`; keeps the files as they are when read_only.
static int cut_torn(struct journal *j, const struct newest *n, struct err *e)
{
    struct place from = {n->seg.id, n->end, n->next};
    if (n->torn)
        log_warn("cut a torn tail", "file=%s offset=%" PRIu64 " bytes=%" PRIu64, n->path, n->end,
                 n->seg.bytes > n->end ? n->seg.bytes - n->end : 0);
    return segments_cut(&j->segments, &from, e);
}

// Where the transaction begins that the last frame leaves open. Its first segment may be gone by
// retention: then all that is kept belongs to it.
static bool txn_place_valid(struct journal *j, const struct newest *n)
{
    const struct frame *f = &n->f;
    struct segment seg;
    if (f->txn_seq > f->seq || f->txn_seq < f->txn_segment || f->txn_segment == 0)
        return false;
    if (f->txn_segment == n->seg.id)
        return f->txn_offset >= sizeof(struct segment_header) && f->txn_offset <= n->last_at &&
               f->txn_offset % 8 == 0;
    for (size_t i = 0; segments_get(&j->segments, i, &seg); i++) {
        if (seg.id >= f->txn_segment)
            return (seg.id == f->txn_segment || i == 0) && seg.id < n->seg.id &&
                   f->txn_offset >= sizeof(struct segment_header) && f->txn_offset <= seg.bytes &&
                   f->txn_offset % 8 == 0;
    }
    return false;
}

// The last frame leaves a transaction open: remember it, then cut to its first frame.
static int cut_open_txn(struct journal *j, const struct newest *n, struct err *e)
{
    const struct frame *f = &n->f;
    if (!txn_place_valid(j, n))
        return err_set(e, ERR_JOURNAL,
                       "%s: the frame at offset %" PRIu64 " names no place where its transaction "
                       "begins: restore the file from a backup, or move the journal away and start "
                       "a new one",
                       n->path, n->last_at);
    struct journal_cut cut = {f->txn_lsn, f->txn_changes, f->txn_hash, f->attempt};
    struct place from = {f->txn_segment, f->txn_offset, f->txn_seq};
    pending_take(j, &cut);
    j->watermark = j->appended = f->watermark;
    log_info("cut an unfinished transaction; it will come again",
             "lsn=" LSN_FMT " changes=%" PRIu64, LSN_ARG(cut.lsn), cut.changes);
    struct err first;
    if (pending_save(j, &first) == 0)
        return segments_cut(&j->segments, &from, e);
    // A full disk: what is cut makes the room for the record.
    if (first.class != ERR_RETRY) {
        *e = first;
        return -1;
    }
    if (segments_cut(&j->segments, &from, e) != 0)
        return -1;
    return pending_save(j, e);
}

static void adopt(struct journal *j, const struct newest *n)
{
    const struct frame *f = &n->f;
    j->last = j->visible_last = frame_last(f);
    j->last_attempt = j->visible_attempt = f->attempt;
    j->watermark = j->appended = f->watermark;
}

// One look at the newest segment. ret_again: it was cut, look again at what is newest now.
static int recover_step(struct journal *j, struct newest *n, bool *ret_again, struct err *e)
{
    *ret_again = false;
    if (open_newest(j, n, e) != 0)
        return -1;
    if (j->o.read_only) {
        // A segment without a whole frame yet: the one before it is the newest.
        if (n->any)
            adopt(j, n);
        else if (n->seg.id > 1 && segments_count(&j->segments) > 1)
            *ret_again = true;
        if (!n->any || n->torn)
            segments_shrink(&j->segments, n->any ? n->end : 0);
        return 0;
    }
    bool torn = !n->any || n->torn;
    if (torn || (n->f.flags & BATCH_PARTIAL)) {
        *ret_again = true;
        if (hint_remove(j, e) != 0)
            return -1;
        return torn ? cut_torn(j, n, e) : cut_open_txn(j, n, e);
    }
    if (file_ops.fdatasync(n->fd) != 0) // what survived a kill need not be durable yet
        return err_errno(e, ERR_JOURNAL, "cannot sync %s", n->path);
    adopt(j, n);
    j->w.fd = n->fd;
    j->w.good = j->w.at = n->end;
    j->w.segment = n->seg.id;
    n->fd = -1;
    return 0;
}

int recover(struct journal *j, struct err *e)
{
    struct newest n;
    uint64_t next = 1;
    bool again = true;
    while (again) {
        n = (struct newest){.fd = -1};
        if (!segments_newest(&j->segments, &n.seg))
            break;
        int r = recover_step(j, &n, &again, e);
        if (n.fd >= 0)
            close(n.fd);
        if (r != 0)
            return -1;
        next = n.next;
        // Nothing left of a transaction that began this file: its seqs are given again.
        if (again && (n.f.flags & BATCH_PARTIAL) && n.any && !n.torn && !j->o.read_only)
            next = n.f.txn_seq;
    }
    tail_init(&j->tail, next);
    j->visible_seq = j->written_seq = j->w.good_seq = j->w.durable_seq = next - 1;
    if (j->last.lsn == 0 && j->pending.lsn) // the transaction was all that was kept
        j->last = j->visible_last = position_before(j->pending.lsn);
    j->w.context.last = j->last;
    j->w.context.watermark = j->watermark;
    if (floor_load(j, 0, e) != 0)
        return -1;
    // It came again and is whole: nobody is left to ask.
    if (j->pending.lsn && !j->o.read_only &&
        position_cmp(j->last, (struct position){j->pending.lsn, ORDINAL_END}) >= 0) {
        j->pending = (struct journal_cut){0};
        return pending_save(j, e);
    }
    return 0;
}
