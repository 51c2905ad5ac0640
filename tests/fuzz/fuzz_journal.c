// A journal directory with one or two segment files of outside bytes: opened, read, verified,
// looked into and opened for writing. The first byte says how much is put right first, so that the
// checks do not hide what lies behind them.
#include "journal/inside.h"

#include <base/log.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64] = "/dev/shm/rowcast-fuzz-XXXXXX";
static int dir_fd;

enum { MEND_HEADER = 1, MEND_FRAMES = 2, TWO_FILES = 4 };

static void remove_files(void)
{
    DIR *d = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY));
    struct dirent *entry;
    while ((entry = readdir(d)))
        unlinkat(dir_fd, entry->d_name, 0);
    closedir(d);
}

static void remove_dir(void)
{
    remove_files();
    rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (!mkdtemp(dir)) {
        snprintf(dir, sizeof dir, "/tmp/rowcast-fuzz-XXXXXX");
        CHECK(mkdtemp(dir));
    }
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    CHECK(dir_fd >= 0);
    atexit(remove_dir);
    log_set_level(LOG_ERROR + 1);
    CHECK(freopen("/dev/null", "w", stdout)); // what verify prints
    return 0;
}

// Gives the frames valid checks and the seqs that belong there.
static uint64_t mend(uint8_t *p, size_t n, unsigned how, uint64_t seq)
{
    struct segment_header h;
    struct frame f;
    if (n < sizeof h)
        return seq;
    memcpy(&h, p, sizeof h);
    h.first_seq = seq;
    segment_header_seal(&h);
    if (how & MEND_HEADER)
        memcpy(p, &h, sizeof h);
    size_t at = sizeof h;
    while ((how & MEND_FRAMES) && n - at >= sizeof f) {
        memcpy(&f, p + at, sizeof f);
        f.seq = seq;
        f.durable_seq = f.durable_seq % (seq + 1);
        if (frame_size(&f) > n - at)
            f.stored = (uint32_t)((n - at - sizeof f) & ~(size_t)7);
        if (!(f.flags & FRAME_ZSTD))
            f.raw = f.stored;
        f.payload_check = XXH3_64bits(p + at + sizeof f, f.stored);
        frame_seal(&f);
        memcpy(p + at, &f, sizeof f);
        at += frame_size(&f);
        seq++;
    }
    return seq;
}

static void store(const uint8_t *p, size_t n, uint64_t seq)
{
    struct segment_header h = {.first_lsn = seq};
    char name[SEGMENT_NAME_MAX];
    if (n >= sizeof h)
        memcpy(&h, p, sizeof h);
    struct position first = {h.first_lsn, h.first_ordinal & ORDINAL_END};
    segment_name(first, seq, name);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, p, n) == (ssize_t)n);
    close(fd);
}

// Reads what there is; seqs must go up one by one.
static void read_all(struct journal *j, enum journal_from from, const struct cursor *c)
{
    struct err e = {0};
    struct journal_reader *r;
    struct batch *b;
    uint64_t seq = 0;
    if (journal_reader_open(j, "fuzz", from, c, false, NULL, NULL, &r, &e) != 0) {
        CHECK(e.class == ERR_JOURNAL);
        return;
    }
    enum read_result result;
    int restarts = 0;
    while ((result = journal_reader_next(r, &b, &e)) == READ_BATCH ||
           (result == READ_RESTART && restarts++ < 10)) {
        if (result == READ_RESTART) {
            seq = 0;
            continue;
        }
        CHECK(b->seq > seq);
        seq = b->seq;
        batch_unref(b);
    }
    CHECK(result != READ_ERROR || e.text[0]);
    journal_reader_close(r);
}

static void try_open(bool read_only, const struct cursor *c)
{
    const struct journal_options o = {.dir = dir, .read_only = read_only};
    struct journal *j;
    struct err e = {0};
    if (journal_open(&o, &j, &e) != 0) {
        CHECK(e.class == ERR_JOURNAL && e.text[0]);
        return;
    }
    read_all(j, FROM_EARLIEST, NULL);
    read_all(j, FROM_POSITION, c);
    journal_close(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    unsigned how = data[0];
    size_t n = size - 2, first = how & TWO_FILES ? size_min(n, (size_t)data[1] * 16) : n;
    AUTO_FREE uint8_t *p = xmalloc(n);
    memcpy(p, data + 2, n);
    struct cursor c = {0};
    if (n > sizeof(struct segment_header) + sizeof(struct frame)) {
        struct frame f;
        memcpy(&f, p + sizeof(struct segment_header), sizeof f);
        c.at = frame_first(&f);
    }
    uint64_t seq = mend(p, first, how, 1);
    store(p, first, 1);
    if (first < n && seq > 1) {
        mend(p + first, n - first, how, seq);
        store(p + first, n - first, seq);
    }
    struct err e = {0};
    CHECK(journal_verify(dir, &e) == 0 || e.class == ERR_JOURNAL);
    try_open(true, &c);
    try_open(false, &c);
    remove_files();
    return 0;
}
