#include "journal/told.h"

#include "base/log.h"
#include "journal/file_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>
#include <xxhash.h>

#define FILE_NAME    "told"
#define RECORD_MAGIC 0x31744352 // "RCt1"
#define LIST_MAX     1000000 // announcements kept; at it those that newer ones replace are dropped

struct record {
    uint32_t magic;
    uint32_t id; // 0: what came before and stands above this position is void
    uint64_t lsn, ordinal;
    uint64_t check; // XXH3 of what is before it
};
_Static_assert(sizeof(struct record) == 32, "on disk");

struct told_table {
    const struct relation *relation;
    UT_hash_handle hh_oid, hh_name;
    bool named; // is in the map of names
};

// ---- in memory ----

static void forget_name(struct told *t, struct told_table *x)
{
    if (x->named)
        HASH_DELETE(hh_name, t->name, x);
    x->named = false;
}

static void take(struct told *t, uint32_t id)
{
    const struct relation *r = catalog_get(t->catalog, id);
    struct told_table *x, *other;
    HASH_FIND(hh_oid, t->oid, &r->oid, sizeof r->oid, x);
    if (x) {
        forget_name(t, x);
        HASH_DELETE(hh_oid, t->oid, x); // the key moves to the newer version
    } else {
        x = xcalloc(1, sizeof *x);
    }
    HASH_FIND(hh_name, t->name, r->table, strlen(r->table), other);
    if (other)
        forget_name(t, other);
    x->relation = r;
    HASH_ADD_KEYPTR(hh_oid, t->oid, &r->oid, sizeof r->oid, x);
    HASH_ADD_KEYPTR(hh_name, t->name, r->table, strlen(r->table), x);
    x->named = true;
}

static void clear_maps(struct told *t)
{
    struct told_table *x, *next;
    HASH_CLEAR(hh_name, t->name);
    HASH_ITER (hh_oid, t->oid, x, next) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): HASH_DELETE unlinked what was freed
        HASH_DELETE(hh_oid, t->oid, x);
        free(x);
    }
}

static void fill_maps(struct told *t)
{
    clear_maps(t);
    for (size_t i = 0; i < t->n; i++)
        take(t, t->list[i].id);
}

static bool is_newest(const struct told *t, const struct telling *x)
{
    return told_by_oid(t, catalog_get(t->catalog, x->id)->oid)->id == x->id;
}

static void push(struct told *t, uint32_t id, struct position at)
{
    if (t->n >= LIST_MAX) {
        size_t n = 0;
        for (size_t i = 0; i < t->n; i++) {
            if (is_newest(t, &t->list[i]))
                t->list[n++] = t->list[i];
        }
        t->n = n;
    }
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->list = xrealloc(t->list, t->cap * sizeof *t->list);
    }
    t->list[t->n++] = (struct telling){id, at};
}

// True if there was something.
static bool drop_above(struct told *t, struct position last)
{
    size_t n = t->n;
    while (t->n > 0 && position_cmp(t->list[t->n - 1].at, last) > 0)
        t->n--;
    return t->n < n;
}

const struct relation *told_by_oid(const struct told *t, uint32_t oid)
{
    struct told_table *x;
    HASH_FIND(hh_oid, t->oid, &oid, sizeof oid, x);
    return x ? x->relation : NULL;
}

const struct relation *told_by_name(const struct told *t, const char *table)
{
    struct told_table *x;
    HASH_FIND(hh_name, t->name, table, strlen(table), x);
    return x ? x->relation : NULL;
}

// ---- the file ----

static uint64_t check_of(const struct record *r)
{
    return XXH3_64bits(r, offsetof(struct record, check));
}

static bool valid(const struct record *r)
{
    return r->magic == RECORD_MAGIC && r->check == check_of(r);
}

static int write_out(struct told *t, bool sync, struct err *e)
{
    if (t->unwritten.n && file_write_all(t->fd, t->unwritten.p, t->unwritten.n, t->end) != 0)
        return err_errno(e, file_error_class(errno), "cannot write %s/%s", t->dir, FILE_NAME);
    t->end += t->unwritten.n;
    buf_clear(&t->unwritten);
    if (sync && file_ops.fdatasync(t->fd) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot sync %s/%s", t->dir, FILE_NAME);
    return 0;
}

static void put_record(struct told *t, uint32_t id, struct position at)
{
    struct record r = {.magic = RECORD_MAGIC, .id = id, .lsn = at.lsn, .ordinal = at.ordinal};
    r.check = check_of(&r);
    buf_put(&t->unwritten, &r, sizeof r);
}

static int damaged(struct told *t, struct err *e)
{
    log_warn("the file of what consumers were told is damaged: every table is announced again",
             "file=%s/%s", t->dir, FILE_NAME);
    t->n = 0;
    t->end = 0;
    if (t->fd >= 0 && ftruncate(t->fd, 0) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot cut %s/%s", t->dir, FILE_NAME);
    return 0;
}

static int load(struct told *t, int fd, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot look at %s/%s", t->dir, FILE_NAME);
    size_t n = (size_t)st.st_size / sizeof(struct record), i = 0;
    AUTO_FREE struct record *records = xcalloc(n + 1, sizeof *records);
    if (file_read_at(fd, records, n * sizeof *records, 0) != (ssize_t)(n * sizeof *records))
        return err_errno(e, ERR_JOURNAL, "cannot read %s/%s", t->dir, FILE_NAME);
    for (; i < n && valid(&records[i]); i++) {
        struct position at = {records[i].lsn, records[i].ordinal};
        if (records[i].id == 0)
            (void)drop_above(t, at);
        else if (catalog_get(t->catalog, records[i].id))
            push(t, records[i].id, at);
        else
            return damaged(t, e);
    }
    for (size_t k = i; k < n; k++) {
        if (valid(&records[k]))
            return damaged(t, e);
    }
    t->end = i * sizeof *records; // what a power cut left behind it is written over
    return 0;
}

int told_open(struct told *t, int dirfd, const char *dir, bool read_only,
              const struct catalog *catalog, struct err *e)
{
    *t = (struct told){.fd = -1, .dir = dir, .catalog = catalog};
    int fd = openat(dirfd, FILE_NAME, (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0600);
    if (fd < 0 && read_only && errno == ENOENT)
        return 0;
    if (fd < 0)
        return err_errno(e, ERR_JOURNAL, "cannot open %s/%s", dir, FILE_NAME);
    if (!read_only)
        t->fd = fd;
    int r = load(t, fd, e);
    if (read_only)
        close(fd);
    fill_maps(t);
    return r;
}

void told_close(struct told *t)
{
    if (!t->catalog)
        return;
    clear_maps(t);
    free(t->list);
    buf_free(&t->unwritten);
    if (t->fd >= 0)
        close(t->fd);
    *t = (struct told){.fd = -1};
}

int told_add(struct told *t, uint32_t id, struct position at, struct err *e)
{
    push(t, id, at);
    take(t, id);
    put_record(t, id, at);
    return write_out(t, false, e);
}

int told_void(struct told *t, struct position last, struct err *e)
{
    if (!drop_above(t, last))
        return 0;
    fill_maps(t);
    put_record(t, 0, last);
    return write_out(t, true, e);
}
