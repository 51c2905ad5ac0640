#include "journal/relations.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define FILE_NAME    "relations"
#define FILE_MAGIC   "rowcastr"
#define FILE_VERSION 1
#define RECORD_MAGIC 0x31724352 // "RCr1"

struct file_header {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
};
_Static_assert(sizeof(struct file_header) == 16, "on disk");

struct record {
    uint32_t magic;
    uint32_t n; // bytes of the Relation message
    uint32_t id;
    uint32_t reserved;
    uint64_t check; // XXH3 over the message, seeded with the id
};
_Static_assert(sizeof(struct record) == 24, "on disk");

static uint64_t record_size(uint32_t n)
{
    return (sizeof(struct record) + (uint64_t)n + 7) & ~UINT64_C(7);
}

static bool record_valid(const uint8_t *p, size_t room, struct record *ret_h)
{
    struct record h;
    if (room < sizeof h)
        return false;
    memcpy(&h, p, sizeof h);
    if (h.magic != RECORD_MAGIC || record_size(h.n) > room ||
        h.check != XXH3_64bits_withSeed(p + sizeof h, h.n, h.id))
        return false;
    *ret_h = h;
    return true;
}

static int load_one(const uint8_t *p, const struct record *h, struct catalog *catalog,
                    struct err *e)
{
    struct relation *r;
    if (h->id != catalog_next_id(catalog))
        return err_set(e, ERR_JOURNAL, "relation version %u stands where %u belongs", h->id,
                       catalog_next_id(catalog));
    if (relation_decode((struct slice){p + sizeof *h, h->n}, &r, e) != 0)
        return -1;
    if (r->id != h->id) {
        relation_free(r);
        return err_set(e, ERR_JOURNAL, "relation version %u calls itself otherwise", h->id);
    }
    catalog_add(catalog, r);
    return 0;
}

static int load(struct relations_file *rf, const uint8_t *p, size_t n, struct catalog *catalog,
                struct err *e)
{
    size_t at = sizeof(struct file_header);
    struct record h;
    while (at < n && record_valid(p + at, n - at, &h)) {
        if (load_one(p + at, &h, catalog, e) != 0) {
            e->class = ERR_JOURNAL;
            return err_wrap(e, "%s/%s at offset %zu: ", rf->dir, FILE_NAME, at);
        }
        at += record_size(h.n);
    }
    rf->end = at;
    for (size_t next = at + 8; next < n; next += 8) {
        if (record_valid(p + next, n - next, &h))
            return err_set(e, ERR_JOURNAL,
                           "%s/%s: damaged record at offset %zu: restore the file from a backup, "
                           "or move the journal away and start a new one",
                           rf->dir, FILE_NAME, at);
    }
    return 0;
}

static int start_file(struct relations_file *rf, int dirfd, struct err *e)
{
    struct file_header h = {.version = FILE_VERSION};
    memcpy(h.magic, FILE_MAGIC, sizeof h.magic);
    if (ftruncate(rf->fd, 0) != 0 || file_write_all(rf->fd, &h, sizeof h, 0) != 0 ||
        file_ops.fdatasync(rf->fd) != 0 || fsync(dirfd) != 0)
        return err_errno(e, file_error_class(errno), "cannot write %s/%s", rf->dir, FILE_NAME);
    rf->end = sizeof h;
    return 0;
}

// A power cut may leave a new file with its size and nothing in it.
static bool unborn(const uint8_t *p, size_t n)
{
    static const uint8_t zero[sizeof(struct file_header)];
    return n < sizeof zero || (n == sizeof zero && memcmp(p, zero, sizeof zero) == 0);
}

static int lacking(const struct relations_file *rf, struct err *e)
{
    return err_set(e, ERR_JOURNAL,
                   "%s/%s is missing or empty, but the journal has segments that need it: restore "
                   "the file from a backup, or move the journal away and start a new one",
                   rf->dir, FILE_NAME);
}

static int read_file(struct relations_file *rf, int dirfd, bool read_only, bool used,
                     struct catalog *catalog, struct err *e)
{
    struct stat st;
    if (fstat(rf->fd, &st) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot look at %s/%s", rf->dir, FILE_NAME);
    size_t n = (size_t)st.st_size;
    AUTO_FREE uint8_t *p = xmalloc(n + 1);
    if (file_read_at(rf->fd, p, n, 0) != (ssize_t)n)
        return err_errno(e, ERR_JOURNAL, "cannot read %s/%s", rf->dir, FILE_NAME);
    if (unborn(p, n) && used)
        return lacking(rf, e);
    if (unborn(p, n))
        return read_only ? 0 : start_file(rf, dirfd, e);
    struct file_header h;
    memcpy(&h, p, sizeof h);
    if (memcmp(h.magic, FILE_MAGIC, sizeof h.magic) != 0)
        return err_set(e, ERR_JOURNAL,
                       "%s/%s is not rowcast's: restore the file from a backup, or move the "
                       "journal away and start a new one",
                       rf->dir, FILE_NAME);
    if (h.version != FILE_VERSION)
        return err_set(e, ERR_JOURNAL,
                       "%s/%s has format %u, this rowcast reads format %d: run the version that "
                       "wrote it, or start a new journal in another directory",
                       rf->dir, FILE_NAME, h.version, FILE_VERSION);
    if (load(rf, p, n, catalog, e) != 0)
        return -1;
    if (rf->end == n || read_only)
        return 0;
    log_warn("cut a torn relation version that nothing uses",
             "file=%s/%s offset=%" PRIu64 " bytes=%" PRIu64, rf->dir, FILE_NAME, rf->end,
             n - rf->end);
    if (ftruncate(rf->fd, (off_t)rf->end) != 0 || file_ops.fdatasync(rf->fd) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot cut %s/%s", rf->dir, FILE_NAME);
    return 0;
}

int relations_open(struct relations_file *rf, int dirfd, const char *dir, bool read_only, bool used,
                   struct catalog *catalog, struct err *e)
{
    *rf = (struct relations_file){.dir = dir, .lock = PTHREAD_MUTEX_INITIALIZER};
    rf->fd = openat(dirfd, FILE_NAME, (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0600);
    if (rf->fd < 0 && read_only && errno == ENOENT)
        return used ? lacking(rf, e) : 0;
    if (rf->fd < 0)
        return err_errno(e, ERR_JOURNAL, "cannot open %s/%s", dir, FILE_NAME);
    int r = read_file(rf, dirfd, read_only, used, catalog, e);
    atomic_store(&rf->kept, catalog_count(catalog));
    if (r != 0)
        relations_close(rf);
    return r;
}

void relations_close(struct relations_file *rf)
{
    if (rf->fd >= 0)
        close(rf->fd);
    rf->fd = -1;
}

static int append(struct relations_file *rf, const struct relation *r, struct err *e)
{
    struct record h = {
        .magic = RECORD_MAGIC,
        .n = (uint32_t)r->stored.n,
        .id = r->id,
        .check = XXH3_64bits_withSeed(r->stored.p, r->stored.n, r->id),
    };
    AUTO_BUF struct buf b = {0};
    buf_put(&b, &h, sizeof h);
    buf_put(&b, r->stored.p, r->stored.n);
    static const uint8_t zero[8];
    buf_put(&b, zero, record_size(h.n) - b.n);
    if (file_write_all(rf->fd, b.p, b.n, rf->end) != 0) {
        err_errno(e, file_error_class(errno), "cannot write %s/%s", rf->dir, FILE_NAME);
        if (ftruncate(rf->fd, (off_t)rf->end) != 0)
            e->class = ERR_JOURNAL;
        return -1;
    }
    if (file_ops.fdatasync(rf->fd) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot sync %s/%s", rf->dir, FILE_NAME);
    rf->end += b.n;
    return 0;
}

int relations_sync(struct relations_file *rf, const struct catalog *catalog, struct err *e)
{
    int r = 0;
    pthread_mutex_lock(&rf->lock);
    while (r == 0 && relations_behind(rf, catalog)) {
        r = append(rf, catalog_get(catalog, rf->kept + 1), e);
        if (r == 0)
            rf->kept++;
    }
    pthread_mutex_unlock(&rf->lock);
    return r;
}

bool relations_behind(const struct relations_file *rf, const struct catalog *catalog)
{
    return rf->kept < catalog_count(catalog);
}
