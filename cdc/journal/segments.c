#include "journal/segments.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAYPOINT_BYTES (UINT64_C(256) << 10)
#define INDEXED_MAX    64 // segments with waypoints at one time: 10 KiB each

static int segment_cmp(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static struct segment *segments_push(struct segments *s)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->items = xrealloc(s->items, s->cap * sizeof *s->items);
    }
    struct segment *seg = &s->items[s->n++];
    *seg = (struct segment){0};
    return seg;
}

static int list_one(struct segments *s, const char *name, struct err *e)
{
    struct position first;
    uint64_t id;
    struct stat st;
    if (!segment_name_parse(name, &first, &id))
        return 0;
    if (fstatat(s->dirfd, name, &st, 0) != 0) {
        if (errno == ENOENT) // retention of a running journal
            return 0;
        return err_errno(e, ERR_JOURNAL, "cannot look at %s/%s", s->dir, name);
    }
    struct segment *seg = segments_push(s);
    seg->id = id;
    seg->first = first;
    seg->bytes = (uint64_t)st.st_size;
    seg->modified_us = st.st_mtim.tv_sec * INT64_C(1000000) + st.st_mtim.tv_nsec / 1000;
    s->bytes += seg->bytes;
    return 0;
}

void segments_init(struct segments *s)
{
    *s = (struct segments){.dirfd = -1};
    pthread_mutex_init(&s->lock, NULL);
}

int segments_load(struct segments *s, int dirfd, const char *dir, struct err *e)
{
    s->dir = dir;
    s->dirfd = dirfd;
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return err_errno(e, ERR_JOURNAL, "cannot list %s", dir);
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(d)))
        r = list_one(s, entry->d_name, e);
    closedir(d);
    if (s->n)
        qsort(s->items, s->n, sizeof *s->items, segment_cmp);
    return r;
}

static void forget_ways(struct segments *s, struct segment *seg)
{
    if (seg->ways)
        s->indexed--;
    free(seg->ways);
    seg->ways = NULL;
    seg->way_count = seg->way_cap = 0;
}

void segments_free(struct segments *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->items[i].ways);
    free(s->items);
    s->items = NULL;
    s->n = 0;
    pthread_mutex_destroy(&s->lock);
}

// ---- files ----

void segments_path(const struct segments *s, const struct segment *seg, char buf[SEGMENT_PATH_MAX])
{
    char name[SEGMENT_NAME_MAX];
    segment_name(seg->first, seg->id, name);
    snprintf(buf, SEGMENT_PATH_MAX, "%s/%s", s->dir, name);
}

bool segments_gone(struct segments *s, const struct segment *seg)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(seg->first, seg->id, name);
    return faccessat(s->dirfd, name, F_OK, 0) != 0 && errno == ENOENT;
}

int segments_open(struct segments *s, const struct segment *seg, int flags, int *ret_fd,
                  struct err *e)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(seg->first, seg->id, name);
    int fd = openat(s->dirfd, name, flags | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, ERR_JOURNAL, "cannot open %s/%s", s->dir, name);
    *ret_fd = fd;
    return 0;
}

int segments_create(struct segments *s, uint64_t stream_id, uint64_t seq, struct position first,
                    struct position floor, int *ret_fd, struct err *e)
{
    struct segment_header h = {
        .stream_id = stream_id,
        .first_seq = seq,
        .first_lsn = first.lsn,
        .first_ordinal = first.ordinal,
        .floor_lsn = floor.lsn,
        .floor_ordinal = floor.ordinal,
        .created_us = clock_wall_us(),
    };
    segment_header_seal(&h);
    char name[SEGMENT_NAME_MAX];
    segment_name(first, seq, name);
    int fd = openat(s->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, file_error_class(errno), "cannot create %s/%s", s->dir, name);
    if (file_write_all(fd, &h, sizeof h, 0) != 0 || fsync(s->dirfd) != 0) {
        int error = errno;
        unlinkat(s->dirfd, name, 0);
        close(fd);
        errno = error;
        return err_errno(e, file_error_class(error), "cannot write %s/%s", s->dir, name);
    }
    pthread_mutex_lock(&s->lock);
    struct segment *seg = segments_push(s);
    seg->id = seq;
    seg->first = first;
    seg->bytes = sizeof h;
    seg->modified_us = clock_steady_us();
    s->bytes += sizeof h;
    pthread_mutex_unlock(&s->lock);
    *ret_fd = fd;
    return 0;
}

void segments_grow(struct segments *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->lock);
    struct segment *seg = &s->items[s->n - 1];
    CHECK(bytes >= seg->bytes);
    s->bytes += bytes - seg->bytes;
    seg->bytes = bytes;
    seg->modified_us = clock_steady_us();
    pthread_mutex_unlock(&s->lock);
}

void segments_shrink(struct segments *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->lock);
    struct segment *seg = &s->items[s->n - 1];
    CHECK(bytes <= seg->bytes);
    s->bytes -= seg->bytes - bytes;
    seg->bytes = bytes;
    if (bytes == 0) {
        forget_ways(s, seg);
        s->n--;
    }
    pthread_mutex_unlock(&s->lock);
}

static int remove_file(struct segments *s, const struct segment *seg, struct err *e)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(seg->first, seg->id, name);
    if (unlinkat(s->dirfd, name, 0) != 0 && errno != ENOENT)
        return err_errno(e, ERR_JOURNAL, "cannot remove %s/%s", s->dir, name);
    return 0;
}

static int cut_file(struct segments *s, struct segment *seg, uint64_t bytes, struct err *e)
{
    int fd = -1;
    if (segments_open(s, seg, O_RDWR, &fd, e) != 0)
        return -1;
    int r = ftruncate(fd, (off_t)bytes) != 0 || file_ops.fdatasync(fd) != 0 ? -1 : 0;
    if (r != 0) {
        char path[SEGMENT_PATH_MAX];
        segments_path(s, seg, path);
        err_errno(e, ERR_JOURNAL, "cannot cut %s at offset %" PRIu64, path, bytes);
    }
    close(fd);
    s->bytes -= seg->bytes - bytes;
    seg->bytes = bytes;
    while (seg->way_count && seg->ways[seg->way_count - 1].offset >= bytes)
        seg->way_count--;
    return r;
}

static int cut_locked(struct segments *s, const struct place *from, struct err *e)
{
    bool removed = false;
    while (s->n > 0) {
        struct segment *seg = &s->items[s->n - 1];
        // A segment that would be left without a frame goes too: its name says where it begins.
        if (seg->id < from->segment ||
            (seg->id == from->segment && from->offset > sizeof(struct segment_header)))
            break;
        if (remove_file(s, seg, e) != 0)
            return -1;
        removed = true;
        forget_ways(s, seg);
        s->bytes -= seg->bytes;
        s->n--;
    }
    if (removed && fsync(s->dirfd) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot sync directory %s", s->dir);
    if (s->n == 0 || s->items[s->n - 1].id != from->segment)
        return 0;
    return cut_file(s, &s->items[s->n - 1], from->offset, e);
}

int segments_cut(struct segments *s, const struct place *from, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    int r = cut_locked(s, from, e);
    pthread_mutex_unlock(&s->lock);
    return r;
}

int segments_drop(struct segments *s, uint64_t id, struct err *e)
{
    int r = 0;
    pthread_mutex_lock(&s->lock);
    if (s->n > 1 && s->items[0].id == id) {
        r = remove_file(s, &s->items[0], e);
        if (r == 0) {
            forget_ways(s, &s->items[0]);
            s->bytes -= s->items[0].bytes;
            memmove(s->items, s->items + 1, --s->n * sizeof *s->items);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

// ---- looking ----

size_t segments_count(struct segments *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->n;
    pthread_mutex_unlock(&s->lock);
    return n;
}

uint64_t segments_bytes(struct segments *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t n = s->bytes;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void copy_out(const struct segment *seg, struct segment *ret_seg)
{
    *ret_seg = *seg;
    ret_seg->ways = NULL;
    ret_seg->way_count = ret_seg->way_cap = 0;
}

bool segments_get(struct segments *s, size_t i, struct segment *ret_seg)
{
    pthread_mutex_lock(&s->lock);
    bool there = i < s->n;
    if (there)
        copy_out(&s->items[i], ret_seg);
    pthread_mutex_unlock(&s->lock);
    return there;
}

bool segments_newest(struct segments *s, struct segment *ret_seg)
{
    pthread_mutex_lock(&s->lock);
    bool there = s->n > 0;
    if (there)
        copy_out(&s->items[s->n - 1], ret_seg);
    pthread_mutex_unlock(&s->lock);
    return there;
}

static void note(struct segments *s, struct segment *seg, const struct frame *f, uint64_t offset,
                 struct position before)
{
    uint64_t next =
        seg->way_count ? seg->ways[seg->way_count - 1].offset + WAYPOINT_BYTES : WAYPOINT_BYTES;
    if (offset < next)
        return;
    if (!seg->ways) {
        for (size_t i = 0; s->indexed >= INDEXED_MAX && i < s->n; i++) {
            if (&s->items[i] != seg)
                forget_ways(s, &s->items[i]);
        }
        s->indexed++;
    }
    if (seg->way_count == seg->way_cap) {
        seg->way_cap = seg->way_cap ? seg->way_cap * 2 : 16;
        seg->ways = xrealloc(seg->ways, seg->way_cap * sizeof *seg->ways);
    }
    seg->ways[seg->way_count++] = (struct waypoint){f->seq, offset, before};
}

// What is looked for: a seq, or (seq 0) the first frame above a position.
struct wanted {
    uint64_t seq;
    struct position above;
};

static bool way_is_before(const struct waypoint *way, const struct wanted *w)
{
    return w->seq ? way->seq <= w->seq : position_cmp(way->before, w->above) <= 0;
}

// The waypoint to begin at: the last one before what is wanted.
static struct waypoint way_in(const struct segment *seg, const struct wanted *w)
{
    size_t low = 0, high = seg->ways ? seg->way_count : 0;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (way_is_before(&seg->ways[mid], w))
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0)
        return (struct waypoint){seg->id, sizeof(struct segment_header), {0, 0}};
    return seg->ways[low - 1];
}

static int bad_frame(const struct segments *s, const struct segment *seg, uint64_t offset,
                     struct position before, struct err *e)
{
    char path[SEGMENT_PATH_MAX];
    segments_path(s, seg, path);
    return err_set(e, ERR_JOURNAL,
                   "%s: damaged frame at offset %" PRIu64 ", behind position " LSN_FMT "/%" PRIu64
                   ": restore the file from a backup, or move the journal away and start a new one",
                   path, offset, LSN_ARG(before.lsn), before.ordinal);
}

// Walks one segment. ret_at->seq is the frame found, or with ret_found false the seq behind the
// segment's last frame.
static int find_in(struct segments *s, struct segment *seg, const struct wanted *w,
                   struct place *ret_at, bool *ret_found, struct err *e)
{
    int fd = -1;
    if (segments_open(s, seg, O_RDONLY, &fd, e) != 0)
        return -1;
    struct waypoint way = way_in(seg, w);
    struct position before = way.before;
    struct place at = {seg->id, way.offset, way.seq};
    struct frame f;
    struct walk walk;
    enum walk_step step;
    bool found = false;
    walk_begin(&walk, fd, way.offset, seg->bytes);
    while ((step = walk_next(&walk, &f, &at.offset)) == WALK_FRAME && f.seq == at.seq) {
        note(s, seg, &f, at.offset, before);
        found = w->seq ? f.seq == w->seq : position_cmp(frame_last(&f), w->above) > 0;
        if (found)
            break;
        before = frame_last(&f);
        at.seq++;
        at.offset = walk.at;
    }
    walk_end(&walk);
    close(fd);
    if (!found && step != WALK_END)
        return bad_frame(s, seg, at.offset, before, e);
    *ret_at = at;
    *ret_found = found;
    return 0;
}

static enum find find_from(struct segments *s, size_t i, const struct wanted *w,
                           struct place *ret_at, struct segment *ret_seg, struct err *e)
{
    struct place at = {0, 0, 0};
    bool found = false;
    if (find_in(s, &s->items[i], w, &at, &found, e) != 0) // gone: another process's retention
        return segments_gone(s, &s->items[i]) ? FIND_EXPIRED : FIND_ERROR;
    if (!found && i + 1 < s->n) {
        struct segment *next = &s->items[i + 1];
        if (w->seq || at.seq != next->id) { // a part of it is gone: no cut leaves it like that
            struct position none = {0, 0};
            bad_frame(s, &s->items[i], at.offset, i ? s->items[i].first : none, e);
            return FIND_ERROR;
        }
        at = (struct place){next->id, sizeof(struct segment_header), next->id};
        i++;
    }
    *ret_at = at;
    copy_out(&s->items[i], ret_seg);
    return FIND_OK;
}

enum find segments_find_seq(struct segments *s, uint64_t seq, struct place *ret_at,
                            struct segment *ret_seg, struct err *e)
{
    enum find r = FIND_EXPIRED;
    const struct wanted w = {.seq = seq};
    pthread_mutex_lock(&s->lock);
    size_t low = 0, high = s->n; // the first segment that begins behind seq
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->items[mid].id <= seq)
            low = mid + 1;
        else
            high = mid;
    }
    if (low > 0)
        r = find_from(s, low - 1, &w, ret_at, ret_seg, e);
    pthread_mutex_unlock(&s->lock);
    return r;
}

enum find segments_find_position(struct segments *s, struct position at, struct place *ret_at,
                                 struct err *e)
{
    enum find r = FIND_EXPIRED;
    const struct wanted w = {.above = at};
    struct segment seg;
    pthread_mutex_lock(&s->lock);
    size_t low = 0, high = s->n; // the first segment that begins above `at`
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (position_cmp(s->items[mid].first, at) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (s->n > 0)
        r = find_from(s, low ? low - 1 : 0, &w, ret_at, &seg, e);
    pthread_mutex_unlock(&s->lock);
    return r;
}
