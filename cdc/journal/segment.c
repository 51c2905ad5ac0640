#include "journal/segment.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <xxhash.h>
#include <zstd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "headers are stored as they stand");

void segment_name(struct position first, uint64_t first_seq, char buf[SEGMENT_NAME_MAX])
{
    snprintf(buf, SEGMENT_NAME_MAX, "%016" PRIx64 "-%012" PRIx64 "-%016" PRIx64 ".seg", first.lsn,
             first.ordinal, first_seq);
}

bool segment_name_parse(const char *name, struct position *ret_first, uint64_t *ret_seq)
{
    struct position first;
    uint64_t seq;
    char again[SEGMENT_NAME_MAX];
    if (sscanf(name, "%16" SCNx64 "-%12" SCNx64 "-%16" SCNx64, &first.lsn, &first.ordinal, &seq) !=
        3)
        return false;
    segment_name(first, seq, again);
    if (strcmp(name, again) != 0 || seq == 0 || seq > INT64_MAX)
        return false;
    *ret_first = first;
    *ret_seq = seq;
    return true;
}

static uint32_t segment_header_check(const struct segment_header *h)
{
    size_t from = offsetof(struct segment_header, stream_id);
    return (uint32_t)XXH3_64bits((const uint8_t *)h + from, sizeof *h - from);
}

void segment_header_seal(struct segment_header *h)
{
    memcpy(h->magic, SEGMENT_MAGIC, sizeof h->magic);
    h->version = SEGMENT_VERSION;
    h->check = segment_header_check(h);
}

int segment_header_read(int fd, const char *path, struct segment_header *ret_h, struct err *e)
{
    struct segment_header h;
    ssize_t n = file_read_at(fd, &h, sizeof h, 0);
    if (n < 0)
        return err_errno(e, ERR_JOURNAL, "cannot read %s", path);
    if ((size_t)n < sizeof h || memcmp(h.magic, SEGMENT_MAGIC, sizeof h.magic) != 0)
        return err_set(e, ERR_JOURNAL, "%s is not a segment of a rowcast journal", path);
    if (h.version != SEGMENT_VERSION)
        return err_set(e, ERR_JOURNAL,
                       "%s has journal format %u, this rowcast reads format %d: run the version "
                       "that wrote it, or start a new journal in another directory",
                       path, h.version, SEGMENT_VERSION);
    if (h.check != segment_header_check(&h))
        return err_set(e, ERR_JOURNAL, "%s: the segment's header is damaged (offset 0)", path);
    *ret_h = h;
    return 0;
}

static uint32_t frame_check(const struct frame *f)
{
    size_t from = offsetof(struct frame, payload_check);
    return (uint32_t)XXH3_64bits((const uint8_t *)f + from, sizeof *f - from);
}

void frame_seal(struct frame *f)
{
    f->magic = FRAME_MAGIC;
    f->check = frame_check(f);
}

bool frame_valid(const struct frame *f, uint64_t room)
{
    if (f->magic != FRAME_MAGIC || f->check != frame_check(f))
        return false;
    return frame_size(f) <= room && f->raw <= FRAME_RAW_MAX &&
           ((f->flags & FRAME_ZSTD) || f->raw == f->stored);
}

struct frame frame_of_batch(const struct batch *b)
{
    return (struct frame){
        .flags = b->flags,
        .attempt = b->attempt,
        .seq = b->seq,
        .first_lsn = b->first.lsn,
        .first_ordinal = b->first.ordinal,
        .last_lsn = b->last.lsn,
        .last_ordinal = b->last.ordinal,
        .watermark = b->watermark,
        .commit_time_us = b->commit_time_us,
        .sealed_us = b->sealed_us,
        .change_count = b->change_count,
        .end_count = b->end_count,
        .xid_min = b->xid_min,
        .xid_max = b->xid_max,
        .txn_lsn = b->txn_lsn,
        .txn_hash = b->txn_hash,
        .txn_changes = b->txn_changes,
    };
}

// ---- reading one frame ----

static int damaged(const char *path, uint64_t offset, const struct frame *f, const char *how,
                   struct err *e)
{
    return err_set(e, ERR_JOURNAL,
                   "%s: damaged frame at offset %" PRIu64 ", position " LSN_FMT "/%" PRIu64
                   " (seq %" PRIu64 "): %s",
                   path, offset, LSN_ARG(f->first_lsn), f->first_ordinal, f->seq, how);
}

// The sum of the zstd frames' raw sizes is what the header says, each within FRAME_CHUNK.
static bool zstd_size_is(const uint8_t *p, size_t n, uint64_t raw)
{
    uint64_t sum = 0;
    while (n > 0) {
        unsigned long long size = ZSTD_getFrameContentSize(p, n);
        size_t used = ZSTD_findFrameCompressedSize(p, n);
        if (size > FRAME_CHUNK || ZSTD_isError(used) || used == 0)
            return false;
        sum += size;
        p += used;
        n -= used;
    }
    return sum == raw;
}

// A thread's own context: making one for each frame costs more than the frame.
static pthread_key_t inflater_key;
static pthread_once_t inflater_once = PTHREAD_ONCE_INIT;

static void inflater_free(void *context)
{
    ZSTD_freeDCtx(context);
}

static void inflater_init(void)
{
    CHECK(pthread_key_create(&inflater_key, inflater_free) == 0);
}

static ZSTD_DCtx *inflater(void)
{
    CHECK(pthread_once(&inflater_once, inflater_init) == 0);
    ZSTD_DCtx *context = pthread_getspecific(inflater_key);
    if (!context) {
        context = ZSTD_createDCtx();
        CHECK(context && pthread_setspecific(inflater_key, context) == 0);
    }
    return context;
}

static int payload_inflate(int fd, const char *path, uint64_t offset, const struct frame *f,
                           uint8_t **ret_data, struct err *e)
{
    AUTO_FREE uint8_t *stored = xmalloc(f->stored);
    ssize_t n = file_read_at(fd, stored, f->stored, offset + sizeof *f);
    if (n < 0)
        return err_errno(e, ERR_JOURNAL, "cannot read %s at offset %" PRIu64, path, offset);
    if ((size_t)n != f->stored || XXH3_64bits(stored, f->stored) != f->payload_check)
        return damaged(path, offset, f, "its check does not match", e);
    if (!zstd_size_is(stored, f->stored, f->raw))
        return damaged(path, offset, f, "its compressed size is wrong", e);
    uint8_t *data = xmalloc(BATCH_HEADROOM + f->raw);
    size_t raw = ZSTD_decompressDCtx(inflater(), data + BATCH_HEADROOM, f->raw, stored, f->stored);
    if (ZSTD_isError(raw) || raw != f->raw) {
        free(data);
        return damaged(path, offset, f, "it cannot be decompressed", e);
    }
    *ret_data = data;
    return 0;
}

static int payload_plain(int fd, const char *path, uint64_t offset, const struct frame *f,
                         uint8_t **ret_data, struct err *e)
{
    uint8_t *data = xmalloc(BATCH_HEADROOM + f->raw);
    ssize_t n = file_read_at(fd, data + BATCH_HEADROOM, f->stored, offset + sizeof *f);
    if (n < 0) {
        free(data);
        return err_errno(e, ERR_JOURNAL, "cannot read %s at offset %" PRIu64, path, offset);
    }
    if ((size_t)n != f->stored ||
        XXH3_64bits(data + BATCH_HEADROOM, f->stored) != f->payload_check) {
        free(data);
        return damaged(path, offset, f, "its check does not match", e);
    }
    *ret_data = data;
    return 0;
}

int frame_read_payload(int fd, const char *path, uint64_t offset, const struct frame *f,
                       struct batch **ret_b, struct err *e)
{
    uint8_t *data = NULL;
    int r = f->flags & FRAME_ZSTD ? payload_inflate(fd, path, offset, f, &data, e)
                                  : payload_plain(fd, path, offset, f, &data, e);
    if (r != 0)
        return -1;
    struct batch *b;
    CHECK(data);
    memset(data, 0, BATCH_HEADROOM);
    if (batch_parse(data, f->raw, &b, e) != 0)
        return damaged(path, offset, f, "its entries are malformed", e);
    b->seq = f->seq;
    b->flags = f->flags & 0xffff;
    b->first = frame_first(f);
    b->last = frame_last(f);
    b->watermark = f->watermark;
    b->txn_lsn = f->txn_lsn;
    b->txn_hash = f->txn_hash;
    b->txn_changes = f->txn_changes;
    b->attempt = f->attempt;
    b->commit_time_us = f->commit_time_us;
    *ret_b = b;
    return 0;
}

bool frame_payload_valid(int fd, uint64_t offset, const struct frame *f)
{
    enum { PIECE = 65536 };
    AUTO_FREE uint8_t *piece = xmalloc(PIECE);
    XXH3_state_t *state = XXH3_createState();
    CHECK(state && XXH3_64bits_reset(state) == XXH_OK);
    uint64_t at = offset + sizeof *f, left = f->stored;
    bool whole = true;
    while (whole && left > 0) {
        size_t want = size_min(left, PIECE);
        ssize_t n = file_read_at(fd, piece, want, at);
        whole = n == (ssize_t)want && XXH3_64bits_update(state, piece, want) == XXH_OK;
        at += want;
        left -= want;
    }
    whole = whole && XXH3_64bits_digest(state) == f->payload_check;
    XXH3_freeState(state);
    return whole;
}

// ---- walking by headers ----

#define WINDOW_SMALL 4096  // behind a large frame: its neighbour's header is all we want
#define WINDOW_LARGE 65536 // small frames: many headers a read
#define FRAME_LARGE  16384

void walk_begin(struct walk *w, int fd, uint64_t from, uint64_t end)
{
    *w = (struct walk){.fd = fd, .at = from, .end = end, .window_cap = WINDOW_SMALL};
    w->window = xmalloc(WINDOW_LARGE);
}

void walk_end(struct walk *w)
{
    free(w->window);
    w->window = NULL;
}

// n bytes at `at`, in the window; NULL when they are not in the file.
static const uint8_t *walk_look(struct walk *w, uint64_t at, size_t n)
{
    if (at > w->end || w->end - at < n)
        return NULL;
    if (at < w->window_at || at + n > w->window_at + w->window_n) {
        size_t want = size_min(w->window_cap, w->end - at);
        ssize_t had = file_read_at(w->fd, w->window, want, at);
        w->window_at = at;
        w->window_n = had > 0 ? (size_t)had : 0;
        if (w->window_n < n)
            return NULL;
    }
    return w->window + (at - w->window_at);
}

enum walk_step walk_next(struct walk *w, struct frame *ret_f, uint64_t *ret_at)
{
    if (w->at == w->end)
        return WALK_END;
    struct frame f;
    const uint8_t *p = walk_look(w, w->at, sizeof f);
    if (!p)
        return WALK_BAD;
    memcpy(&f, p, sizeof f);
    if (!frame_valid(&f, w->end - w->at))
        return WALK_BAD;
    *ret_f = f;
    *ret_at = w->at;
    w->at += frame_size(&f);
    w->window_cap = frame_size(&f) >= FRAME_LARGE ? WINDOW_SMALL : WINDOW_LARGE;
    return WALK_FRAME;
}

bool walk_vouched(struct walk *w, uint64_t bad_seq)
{
    struct frame f;
    w->window_cap = WINDOW_LARGE;
    for (uint64_t at = w->at + 8; at < w->end; at += 8) {
        const uint8_t *p = walk_look(w, at, sizeof f);
        if (!p)
            return false;
        memcpy(&f, p, sizeof f);
        if (f.magic == FRAME_MAGIC && frame_valid(&f, w->end - at) && f.seq > bad_seq &&
            f.durable_seq >= bad_seq && frame_payload_valid(w->fd, at, &f))
            return true;
    }
    return false;
}
