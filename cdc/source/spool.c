#include "source/spool.h"

#include "base/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#define WRITE_BYTES (256u << 10) // a spool that has a file is written in pieces of this size
#define READ_BYTES  (256u << 10) // .. and read; a buffer for a larger message is given back
#define FREE_BYTES  (16u << 20)  // the part of a file that was read is freed in such pieces
#define STACK_FIRST 16

struct header { // in front of each message
    uint32_t n; // of the message
    uint32_t arrival;
};

struct begun {       // a subtransaction that may still be aborted
    uint64_t offset; // of the first message of its subtree
    uint32_t xid;
    bool doubt; // the message before that might be of it too
};

struct spool {
    struct spools *all;
    uint32_t xid;
    int fd;              // -1: none yet
    uint64_t written;    // bytes in the file; the rest is
    struct buf tail;     // whole messages
    struct begun *stack; // xids (counted from the transaction's own) and offsets both rise
    size_t depth, stack_cap;
    uint32_t current;  // of the last message of which that is known
    bool last_unknown; // it is not known of the last message
    uint64_t
        unknown_at; // offset of the first message of which it is not; UINT64_MAX: there is none

    struct { // reading
        bool begun;
        uint64_t next;  // of the file, not read yet
        uint64_t freed; // of the file, given back to the disk
        struct buf buf; // of the file
        size_t at;      // in buf, later in tail
    } read;
    UT_hash_handle hh;
};

struct spools {
    struct spools_options o;
    struct spool *open;
    size_t memory;       // of all tails
    size_t stack_memory; // of all stacks
    uint64_t disk;
    struct metric *count, *bytes_memory, *bytes_disk;
};

// ---- all of them ----

struct spools *spools_new(const struct spools_options *o)
{
    static const char name[] = "rowcast_spool_bytes";
    static const char help[] =
        "Bytes of transactions that are still open on the server, by where they are kept.";
    struct spools *ss = xcalloc(1, sizeof *ss);
    ss->o = *o;
    ss->count =
        metric_new(METRIC_GAUGE, "rowcast_spools",
                   "Transactions that are still open on the server and were sent in parts.", "", 1);
    ss->bytes_memory = metric_new(METRIC_GAUGE, name, help, "place=\"memory\"", 1);
    ss->bytes_disk = metric_new(METRIC_GAUGE, name, help, "place=\"disk\"", 1);
    return ss;
}

static void show(const struct spools *ss)
{
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
    metric_set(ss->count, HASH_COUNT(ss->open));
    metric_set(ss->bytes_memory, (int64_t)(ss->memory + ss->stack_memory));
    metric_set(ss->bytes_disk, (int64_t)ss->disk);
}

void spools_clear(struct spools *ss)
{
    struct spool *s, *next;
    HASH_ITER (hh, ss->open, s, next)
        spools_close(ss, s);
}

void spools_free(struct spools *ss)
{
    if (!ss)
        return;
    spools_clear(ss);
    free(ss);
}

size_t spools_count(const struct spools *ss)
{
    return HASH_COUNT(ss->open);
}

struct spool *spools_find(struct spools *ss, uint32_t xid)
{
    struct spool *s;
    HASH_FIND(hh, ss->open, &xid, sizeof xid, s);
    return s;
}

struct spool *spools_open(struct spools *ss, uint32_t xid)
{
    struct spool *s = spools_find(ss, xid);
    if (s)
        return s;
    s = xcalloc(1, sizeof *s);
    s->all = ss;
    s->xid = xid;
    s->current = xid;
    s->unknown_at = UINT64_MAX;
    s->fd = -1;
    HASH_ADD(hh, ss->open, xid, sizeof s->xid, s);
    show(ss);
    return s;
}

static void free_tail(struct spool *s)
{
    s->all->memory -= s->tail.cap;
    buf_free(&s->tail);
}

void spools_close(struct spools *ss, struct spool *s)
{
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DEL unlinked what was freed
    HASH_DEL(ss->open, s);
    free_tail(s);
    ss->stack_memory -= s->stack_cap * sizeof *s->stack;
    ss->disk -= s->written - s->read.freed;
    if (s->fd >= 0)
        close(s->fd);
    buf_free(&s->read.buf);
    free(s->stack);
    free(s);
    show(ss);
}

uint32_t spool_xid(const struct spool *s)
{
    return s->xid;
}

uint64_t spool_bytes(const struct spool *s)
{
    return s->written + s->tail.n;
}

// ---- the file ----

static int refused(const char *path, struct err *e)
{
    const char *remedy =
        errno == ENOSPC || errno == EDQUOT ? "make room there" : "see to it that rowcast can write";
    err_errno(e, ERR_RETRY, "%s", path);
    struct err cause = *e;
    return err_set(e, ERR_RETRY, "%.500s; remedy: %s", cause.text, remedy);
}

static int open_file(struct spool *s, struct err *e)
{
    const char *dir = s->all->o.dir;
    CHECK(dir);
    AUTO_FREE char *path = xasprintf("%s/%u.spool", dir, s->xid);
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return refused(dir, e);
    (void)unlink(path); // of a process that was killed just behind the next line
    s->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (s->fd < 0)
        return refused(path, e);
    if (unlink(path) != 0)
        return refused(path, e);
    return 0;
}

// A part that could not be written stays behind `written`, where nobody looks.
static int write_bytes(struct spool *s, const void *bytes, size_t n, struct err *e)
{
    struct spools *ss = s->all;
    if (ss->o.disk_bytes && ss->disk + n > ss->o.disk_bytes)
        return err_set(e, ERR_RETRY,
                       "the spools reached %llu bytes on disk; remedy: raise spool-size",
                       (unsigned long long)ss->o.disk_bytes);
    if (s->fd < 0 && open_file(s, e) != 0)
        return -1;
    const uint8_t *p = bytes;
    for (size_t done = 0; done < n;) {
        ssize_t got = pwrite(s->fd, p + done, n - done, (off_t)(s->written + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return refused(ss->o.dir, e);
        done += (size_t)got;
    }
    s->written += n;
    ss->disk += n;
    return 0;
}

static int write_tail(struct spool *s, struct err *e)
{
    if (s->tail.n && write_bytes(s, s->tail.p, s->tail.n, e) != 0)
        return -1;
    buf_clear(&s->tail);
    show(s->all);
    return 0;
}

// ---- the budget ----

static struct spool *largest(struct spools *ss)
{
    struct spool *most = NULL, *s, *next;
    HASH_ITER (hh, ss->open, s, next) {
        if (!most || s->tail.cap > most->tail.cap)
            most = s;
    }
    return most;
}

static bool within_budget(const struct spools *ss, size_t more)
{
    return !ss->o.memory_bytes || ss->memory + ss->stack_memory + more <= ss->o.memory_bytes;
}

// `more` bytes will be allocated: others (or this one) give up their memory for it.
static int make_room(struct spools *ss, size_t more, struct err *e)
{
    while (!within_budget(ss, more)) {
        struct spool *s = largest(ss);
        if (!s || s->tail.cap == 0)
            return 0; // one message, or a stack: others look after those
        if (write_tail(s, e) != 0)
            return -1;
        free_tail(s);
    }
    return 0;
}

// Room for n bytes in the tail. *ret_fits false: too many, they go to the file, and the tail did.
static int tail_room(struct spool *s, size_t n, bool *ret_fits, struct err *e)
{
    struct spools *ss = s->all;
    if (s->fd >= 0 && s->tail.n + n > WRITE_BYTES && write_tail(s, e) != 0)
        return -1;
    *ret_fits = true;
    if (likely(s->tail.cap - s->tail.n >= n))
        return 0;
    size_t more = s->tail.cap > n ? s->tail.cap : n;
    if (make_room(ss, more, e) != 0)
        return -1;
    *ret_fits = n <= WRITE_BYTES || (s->fd < 0 && within_budget(ss, more));
    if (!*ret_fits)
        return write_tail(s, e);
    size_t cap = s->tail.cap;
    buf_room(&s->tail, n);
    ss->memory += s->tail.cap - cap;
    show(ss);
    return 0;
}

// ---- subtransactions ----

static int push(struct spool *s, struct begun entry, struct err *e)
{
    struct spools *ss = s->all;
    if (s->depth == s->stack_cap) {
        size_t cap = s->stack_cap ? 2 * s->stack_cap : STACK_FIRST;
        size_t more = (cap - s->stack_cap) * sizeof *s->stack;
        if (ss->o.memory_bytes && ss->stack_memory + more > ss->o.memory_bytes)
            return err_set(e, ERR_RETRY,
                           "it has too many subtransactions for a budget of %zu bytes; remedy: "
                           "raise spool-memory",
                           ss->o.memory_bytes);
        s->stack = xrealloc(s->stack, cap * sizeof *s->stack);
        s->stack_cap = cap;
        ss->stack_memory += more;
        if (make_room(ss, 0, e) != 0)
            return -1;
    }
    s->stack[s->depth++] = entry;
    return 0;
}

// The first entry whose xid is not below.
static size_t place(const struct spool *s, uint32_t xid)
{
    uint32_t key = xid - s->xid; // xids go round
    size_t low = 0, high = s->depth;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->stack[mid].xid - s->xid < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// A message of subxid comes at offset.
static int enter(struct spool *s, uint32_t subxid, uint64_t offset, struct err *e)
{
    s->current = subxid;
    size_t at = place(s, subxid);
    if (subxid == s->xid) { // what was in it is part of it now, and ends only with it
        s->depth = 0;
        return 0;
    }
    if (at < s->depth && s->stack[at].xid == subxid) {
        s->depth = at + 1;
        return 0;
    }
    struct begun entry = {offset, subxid, s->last_unknown};
    if (at < s->depth) { // its children spoke first
        entry.offset = s->stack[at].offset;
        entry.doubt = s->stack[at].doubt;
    }
    s->depth = at;
    return push(s, entry, e);
}

// ---- appending ----

int spool_append(struct spool *s, uint32_t subxid, uint32_t arrival, uint8_t kind,
                 struct slice body, struct err *e)
{
    CHECK(!s->read.begun);
    if (unlikely(subxid && subxid != s->current) && enter(s, subxid, spool_bytes(s), e) != 0)
        return -1;
    s->last_unknown = !subxid;
    if (unlikely(!subxid && s->unknown_at == UINT64_MAX))
        s->unknown_at = spool_bytes(s);
    struct header h = {(uint32_t)(body.n + 1), arrival};
    size_t n = sizeof h + 1 + body.n;
    bool fits;
    if (unlikely(tail_room(s, n, &fits, e) != 0))
        return -1;
    if (unlikely(!fits)) {
        uint8_t head[sizeof h + 1];
        memcpy(head, &h, sizeof h);
        head[sizeof h] = kind;
        return write_bytes(s, head, sizeof head, e) || write_bytes(s, body.p, body.n, e) ? -1 : 0;
    }
    uint8_t *p = s->tail.p + s->tail.n;
    memcpy(p, &h, sizeof h);
    p[sizeof h] = kind;
    if (body.n)
        memcpy(p + sizeof h + 1, body.p, body.n);
    s->tail.n += n;
    return 0;
}

static int truncate_to(struct spool *s, uint64_t offset, struct err *e)
{
    s->last_unknown = false; // or there would be doubt
    if (offset <= s->unknown_at)
        s->unknown_at = UINT64_MAX;
    if (offset >= s->written) {
        s->tail.n = (size_t)(offset - s->written);
        return 0;
    }
    buf_clear(&s->tail);
    if (ftruncate(s->fd, (off_t)offset) != 0)
        return err_errno(e, ERR_RETRY, "%s", s->all->o.dir);
    s->all->disk -= s->written - offset;
    s->written = offset;
    show(s->all);
    return 0;
}

int spool_abort(struct spool *s, uint32_t subxid, struct err *e)
{
    CHECK(!s->read.begun);
    size_t at = place(s, subxid);
    bool known = at < s->depth && s->stack[at].xid == subxid;
    if (known ? s->stack[at].doubt : s->unknown_at != UINT64_MAX)
        return err_set(
            e, ERR_RETRY,
            "a subtransaction was rolled back, and PostgreSQL does not say which logical "
            "messages were of it; remedy: switch off messages, or streaming");
    if (!known)
        return 0;
    s->depth = at;
    s->current = at ? s->stack[at - 1].xid : s->xid;
    return truncate_to(s, s->stack[at].offset, e);
}

// ---- reading ----

// What was read is needed no more: the journal has it, or the server sends it again.
static void free_read(struct spool *s)
{
    uint64_t n = s->read.next - s->read.freed;
    if (n < FREE_BYTES || fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    (off_t)s->read.freed, (off_t)n) != 0)
        return; // a file system that cannot frees it at the end
    s->read.freed += n;
    s->all->disk -= n;
    show(s->all);
}

// At least n bytes of the file in the buffer, behind `at`.
static int fill(struct spool *s, size_t n, struct err *e)
{
    struct buf *b = &s->read.buf;
    size_t left = b->n - s->read.at;
    if (left >= n)
        return 0;
    if (left)
        memmove(b->p, b->p + s->read.at, left);
    s->read.at = 0;
    b->n = left;
    if (b->cap > READ_BYTES * 2 && n <= READ_BYTES) { // a huge message is over
        struct buf small = {0};
        buf_put(&small, b->p, left);
        buf_free(b);
        *b = small;
    }
    uint64_t file = s->written - s->read.next;
    size_t want = size_min(n > READ_BYTES ? n - left : READ_BYTES - left, file);
    uint8_t *p = buf_room(b, want);
    while (b->n < left + want) {
        ssize_t got = pread(s->fd, p, left + want - b->n, (off_t)s->read.next);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, ERR_RETRY, "%s: reading a spool", s->all->o.dir);
        if (got == 0)
            return err_set(e, ERR_RETRY, "%s: a spool is shorter than it was", s->all->o.dir);
        p += got;
        b->n += (size_t)got;
        s->read.next += (uint64_t)got;
    }
    free_read(s);
    if (b->n < n)
        return err_set(e, ERR_RETRY, "%s: a spool is damaged", s->all->o.dir);
    return 0;
}

static size_t message_at(const struct buf *b, size_t at, struct spooled *ret_m)
{
    struct header h;
    memcpy(&h, b->p + at, sizeof h);
    *ret_m = (struct spooled){h.arrival, {b->p + at + sizeof h, h.n}};
    return sizeof h + h.n;
}

int spool_next(struct spool *s, struct spooled *ret_m, struct err *e)
{
    struct buf *b = &s->read.buf;
    s->read.begun = true;
    if (s->read.at < b->n || s->read.next < s->written) {
        if (fill(s, sizeof(struct header), e) != 0)
            return -1;
        struct header h;
        CHECK(b->p);
        memcpy(&h, b->p + s->read.at, sizeof h);
        if (unlikely(b->n - s->read.at < sizeof h + h.n) && fill(s, sizeof h + h.n, e) != 0)
            return -1;
        s->read.at += message_at(b, s->read.at, ret_m);
        return 1;
    }
    if (b->cap) { // the file is done, and what is left is in memory
        buf_free(b);
        s->read.at = 0;
    }
    if (s->read.at == s->tail.n)
        return 0;
    s->read.at += message_at(&s->tail, s->read.at, ret_m);
    return 1;
}
