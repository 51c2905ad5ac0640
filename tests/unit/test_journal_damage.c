// What goes wrong with files: a torn tail, a bad frame, a full disk, a short write, a failed sync,
// another version.
#include "journal_fixture.h"

#include <errno.h>

// ---- files ----

struct file {
    char path[SEGMENT_PATH_MAX];
    uint8_t *p;
    size_t n;
};

// A segment file's bytes; i counts from the oldest, SIZE_MAX is the newest.
static struct file load_segment(struct fixture *f, size_t i)
{
    struct file file = {0};
    struct segment seg;
    if (i == SIZE_MAX)
        assert_true(segments_newest(&f->j->segments, &seg));
    else
        assert_true(segments_get(&f->j->segments, i, &seg));
    segments_path(&f->j->segments, &seg, file.path);
    file.n = seg.bytes;
    file.p = xmalloc(file.n);
    int fd = open(file.path, O_RDONLY);
    assert_int_equal(file_read_at(fd, file.p, file.n, 0), file.n);
    close(fd);
    return file;
}

static void store(const char *path, const uint8_t *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

// Offsets of the frames in a file.
static size_t frames_in(const struct file *file, size_t at[], size_t max)
{
    struct frame f;
    size_t n = 0;
    for (size_t i = sizeof(struct segment_header); i < file->n; i += frame_size(&f)) {
        memcpy(&f, file->p + i, sizeof f);
        assert_true(n < max && frame_valid(&f, file->n - i));
        at[n++] = i;
    }
    return n;
}

static void expect_refusal(struct fixture *f, const char *path, size_t offset)
{
    struct journal *j;
    struct err e;
    char at[64];
    assert_int_equal(journal_open(small_options(f), &j, &e), -1);
    assert_int_equal(e.class, ERR_JOURNAL);
    assert_non_null(strstr(e.text, path));
    snprintf(at, sizeof at, "offset %zu,", offset);
    assert_non_null(strstr(e.text, at));
}

// ---- torn tails ----

static void torn_at_every_byte(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 4; i++) {
        journal_append(f->j, txn_batch(f, 2, 60));
        wait_written(f);
    }
    struct file file = load_segment(f, SIZE_MAX);
    size_t at[8], n = frames_in(&file, at, ARRAY_LEN(at));
    assert_int_equal(n, 4);
    fixture_close(f);
    for (size_t bytes = at[3]; bytes < file.n; bytes++) {
        for (int zeros = 0; zeros < 2; zeros++) { // shorter, or its end never reached the disk
            uint8_t *torn = xcalloc(1, file.n);
            memcpy(torn, file.p, bytes);
            bool whole = zeros && memcmp(torn, file.p, file.n) == 0;
            store(file.path, torn, zeros ? file.n : bytes);
            free(torn);
            fixture_open(f, small_options(f));
            // Only the padding may be missing without loss, and even then a whole frame has it.
            assert_int_equal(journal_latest(f->j).at.lsn, whole ? 0x1300 : 0x1200);
            assert_int_equal(f->j->tail.next, whole ? 5 : 4);
            fixture_close(f);
        }
    }
    // What was cut is written anew, and read.
    fixture_open(f, small_options(f));
    f->lsn = 0x1300;
    journal_append(f->j, txn_batch(f, 2, 60));
    struct seen all = {0};
    seen_all(&all, f);
    assert_int_equal(all.n, 8);
    seen_free(&all);
    free(file.p);
}

// A power cut may keep a later part of what was not synced and lose an earlier one.
static void torn_inside_one_group(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 2, 60));
    wait_written(f);
    pthread_mutex_lock(&f->j->lock); // the writer cannot take any before all are there
    pthread_mutex_unlock(&f->j->lock);
    struct file file = load_segment(f, SIZE_MAX);
    fixture_close(f);
    // Frames 2, 3, 4 as one group would have them: none vouches for another.
    AUTO_BUF struct buf out = {0};
    buf_put(&out, file.p, file.n);
    size_t second = out.n;
    for (uint64_t seq = 2; seq <= 4; seq++) {
        struct frame fr;
        memcpy(&fr, file.p + sizeof(struct segment_header), sizeof fr);
        fr.seq = seq;
        fr.durable_seq = 1;
        fr.first_lsn = fr.last_lsn = 0x1000 + seq * 0x100;
        frame_seal(&fr);
        buf_put(&out, &fr, sizeof fr);
        buf_put(&out, file.p + sizeof(struct segment_header) + sizeof fr,
                frame_size(&fr) - sizeof fr);
    }
    memset(out.p + second + sizeof(struct frame), 0, 16); // the second one's payload
    store(file.path, out.p, out.n);
    fixture_open(f, small_options(f));
    assert_int_equal(f->j->tail.next, 2);
    fixture_close(f);
    memset(out.p + second, 0, sizeof(struct frame)); // its header too
    store(file.path, out.p, out.n);
    fixture_open(f, small_options(f));
    assert_int_equal(f->j->tail.next, 2);
    free(file.p);
}

static void a_file_that_was_never_begun(void **state)
{
    struct fixture *f = *state;
    char name[SEGMENT_NAME_MAX], path[256];
    journal_append(f->j, txn_batch(f, 2, 60));
    wait_written(f);
    fixture_close(f);
    segment_name((struct position){0x1100, 0}, 2, name);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    static const uint8_t zero[sizeof(struct segment_header)];
    for (size_t n = 0; n <= sizeof zero; n += 8) {
        store(path, zero, n);
        fixture_open(f, small_options(f));
        assert_int_equal(f->j->tail.next, 2);
        assert_int_equal(access(path, F_OK), -1);
        fixture_close(f);
    }
    fixture_open(f, small_options(f));
}

// Opening begins its walk at the hint, and believes it only as far as the frames go.
static void a_hint_helps_and_never_harms(void **state)
{
    struct fixture *f = *state;
    struct journal_options o = *small_options(f);
    char path[256];
    struct hint good, h;
    o.segment_bytes = 8 << 20;
    fixture_close(f);
    fixture_open(f, &o);
    fixture_claim(f);
    for (int i = 0; i < 40; i++) {
        journal_append(f->j, txn_batch(f, 100, 1000));
        wait_written(f);
    }
    lsn_t last = f->lsn - 0x100;
    fixture_close(f);
    snprintf(path, sizeof path, "%s/%s", f->dir, HINT_FILE);
    int fd = open(path, O_RDONLY);
    assert_int_equal(file_read_at(fd, &good, sizeof good, 0), sizeof good);
    close(fd);
    assert_true(good.offset > 1 << 20);
    const struct hint bad[] = {
        good,
        {good.segment, good.offset + 8, good.seq},
        {good.segment, good.offset, good.seq + 1},
        {good.segment, UINT64_MAX, good.seq},
        {good.segment + 1, good.offset, good.seq},
    };
    for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
        h = bad[i % ARRAY_LEN(bad)];
        h.check = hint_check(&h) ^ (i == ARRAY_LEN(bad));
        store(path, (const uint8_t *)&h, sizeof h);
        fixture_open(f, &o);
        assert_int_equal(journal_latest(f->j).at.lsn, last);
        assert_int_equal(f->j->tail.next, 41);
        fixture_close(f);
    }
    // A cut forgets it.
    fixture_open(f, &o);
    begin_txn(f, f->lsn, 0);
    journal_append(f->j, partial_batch(f, 100, 1000, 1));
    wait_written(f);
    journal_cut(f->j);
    batch_builder_reset(f->bb);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
    fixture_close(f);
    fixture_open(f, &o);
    assert_int_equal(journal_latest(f->j).at.lsn, last);
}

// ---- damage ----

static void a_bad_frame_in_the_middle_of_the_newest(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 6; i++) {
        journal_append(f->j, txn_batch(f, 2, 60));
        wait_written(f);
    }
    struct file file = load_segment(f, SIZE_MAX);
    size_t at[8], n = frames_in(&file, at, ARRAY_LEN(at));
    assert_int_equal(n, 6);
    fixture_close(f);
    file.p[at[2] + 40] ^= 1; // a header
    store(file.path, file.p, file.n);
    expect_refusal(f, file.path, at[2]);
    file.p[at[2] + 40] ^= 1;
    file.p[at[2] + sizeof(struct frame) + 5] ^= 1; // a payload: found when it is read
    store(file.path, file.p, file.n);
    fixture_open(f, small_options(f));
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    struct err e;
    struct batch *b;
    batch_unref(next_batch(r));
    batch_unref(next_batch(r));
    assert_int_equal(journal_reader_next(r, &b, &e), READ_ERROR);
    assert_non_null(strstr(e.text, file.path));
    assert_non_null(strstr(e.text, "position 0/1200/0"));
    journal_reader_close(r);
    assert_int_equal(quietly(journal_verify, f->dir, &e), -1);
    assert_non_null(strstr(e.text, file.path));
    free(file.p);
}

static void a_bad_frame_in_an_older_segment(void **state)
{
    struct fixture *f = *state;
    struct err e;
    for (int i = 0; i < 60; i++)
        journal_append(f->j, txn_batch(f, 5, 200));
    wait_written(f);
    assert_true(segments_count(&f->j->segments) > 2);
    struct file file = load_segment(f, 1);
    size_t at[64];
    assert_true(frames_in(&file, at, ARRAY_LEN(at)) > 3);
    for (int payload = 0; payload < 2; payload++) {
        size_t bad = at[3] + (payload ? sizeof(struct frame) + 5 : 24);
        file.p[bad] ^= 1;
        store(file.path, file.p, file.n);
        file.p[bad] ^= 1;
        fixture_close(f);
        fixture_open(f, small_options(f)); // start-up does not read it
        struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
        struct batch *b;
        enum read_result result;
        while ((result = journal_reader_next(r, &b, &e)) == READ_BATCH)
            batch_unref(b);
        assert_int_equal(result, READ_ERROR);
        assert_non_null(strstr(e.text, file.path));
        assert_int_equal(quietly(journal_verify, f->dir, &e), -1);
        journal_reader_close(r);
    }
    free(file.p);
}

static void another_version_is_refused(void **state)
{
    struct fixture *f = *state;
    struct journal *j;
    struct err e;
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    struct file file = load_segment(f, 0);
    fixture_close(f);
    file.p[offsetof(struct segment_header, version)] = 99;
    store(file.path, file.p, file.n);
    assert_int_equal(journal_open(small_options(f), &j, &e), -1);
    assert_non_null(strstr(e.text, "journal format 99"));
    assert_non_null(strstr(e.text, file.path));
    free(file.p);
}

// ---- faults ----

static struct {
    pthread_mutex_t lock;
    int64_t room; // bytes that can still be written; < 0: any number
    int sync_error;
    size_t refused;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .room = -1};

static ssize_t faulty_pwrite(int fd, const void *p, size_t n, off_t at)
{
    pthread_mutex_lock(&disk.lock);
    bool full = disk.room == 0;
    if (disk.room >= 0) {
        n = size_min(n, (size_t)disk.room); // a short write, then none
        disk.room -= (int64_t)n;
        disk.refused += full;
    }
    pthread_mutex_unlock(&disk.lock);
    if (full) {
        errno = ENOSPC;
        return -1;
    }
    return pwrite(fd, p, n, at);
}

static int faulty_fdatasync(int fd)
{
    pthread_mutex_lock(&disk.lock);
    int error = disk.sync_error;
    pthread_mutex_unlock(&disk.lock);
    if (!error)
        return fdatasync(fd);
    errno = error;
    return -1;
}

static void set_room(int64_t room)
{
    pthread_mutex_lock(&disk.lock);
    disk.room = room;
    disk.refused = 0;
    pthread_mutex_unlock(&disk.lock);
}

static int disk_setup(void **state)
{
    file_ops = (struct file_ops){.pwrite = faulty_pwrite, .fdatasync = faulty_fdatasync};
    set_room(-1);
    disk.sync_error = 0;
    return fixture_setup(state);
}

static bool no_room(struct fixture *f, uint64_t arg)
{
    const char *why;
    (void)arg;
    return !journal_has_room(f->j, &why) && strstr(why, "disk is full");
}

static bool refused(struct fixture *f, uint64_t times)
{
    (void)f;
    pthread_mutex_lock(&disk.lock);
    bool done = disk.refused >= times;
    pthread_mutex_unlock(&disk.lock);
    return done;
}

static void a_full_disk(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 2, 60));
    wait_written(f);
    for (int64_t room = 0; room < 5000; room += 1850) { // the write is cut short there
        lsn_t had = journal_appended(f->j);
        set_room(room);
        for (int i = 0; i < 10; i++)
            journal_append(f->j, txn_batch(f, 5, 200));
        assert_true(wait_until(no_room, f, 0));
        assert_true(wait_until(refused, f, 2)); // it tries again
        assert_true(journal_watermark(f->j) < journal_appended(f->j));
        assert_true(journal_watermark(f->j) >= had);
        struct err e;
        assert_false(journal_failed(f->j, &e));
        set_room(-1); // somebody makes room
        assert_true(wait_until(watermark_is, f, journal_appended(f->j)));
        assert_true(journal_has_room(f->j, NULL));
    }
    struct seen all = {0}, again = {0};
    seen_all(&all, f);
    fixture_close(f);
    fixture_open(f, small_options(f));
    seen_all(&again, f);
    assert_int_equal(all.n, again.n);
    seen_equal(&all, &again);
    seen_free(&all);
    seen_free(&again);
}

static void a_first_start_on_a_full_disk(void **state)
{
    struct fixture *f = *state;
    struct journal *j;
    struct err e;
    fixture_close(f);
    remove_dir(f->dir);
    set_room(0);
    assert_int_equal(journal_open(small_options(f), &j, &e), -1);
    assert_int_equal(e.class, ERR_JOURNAL);
    assert_non_null(strstr(e.text, f->dir));
    assert_non_null(strstr(e.text, "make room"));
    set_room(-1);
    fixture_open(f, small_options(f)); // what it made is no hindrance
}

// The process is killed while the disk is full: what is in the files is whole.
static void killed_on_a_full_disk(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 2, 60));
    wait_written(f);
    lsn_t had = journal_watermark(f->j);
    set_room(100);
    journal_append(f->j, txn_batch(f, 5, 200));
    assert_true(wait_until(no_room, f, 0));
    fixture_close(f);
    set_room(-1);
    fixture_open(f, small_options(f));
    assert_int_equal(journal_watermark(f->j), had);
}

static void cut_on_a_full_disk(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 2, 60));
    begin_txn(f, 0x9000, 0);
    journal_append(f->j, partial_batch(f, 5, 200, 1));
    wait_written(f);
    set_room(50);
    journal_append(f->j, partial_batch(f, 5, 200, 7));
    assert_true(wait_until(no_room, f, 0));
    struct journal_cut cut = journal_cut(f->j);
    assert_int_equal(cut.lsn, 0x9000);
    assert_int_equal(cut.changes, 10);
    batch_builder_reset(f->bb);
    set_room(-1);
    begin_txn(f, 0x9000, 0);
    journal_append(f->j, partial_batch(f, 10, 200, 1));
    journal_cut_done(f->j);
    batch_add_end(f->bb, 0x9010);
    journal_append(f->j, take(f, false));
    assert_true(wait_until(watermark_is, f, 0x9010));
    struct seen all = {0};
    seen_all(&all, f);
    assert_int_equal(all.n, 12);
    seen_free(&all);
}

static bool has_room(struct fixture *f, uint64_t arg)
{
    (void)arg;
    return journal_has_room(f->j, NULL);
}

// Nothing is left to write, so that no write could find out about the room.
static void a_cut_of_all_that_did_not_fit_clears_a_full_disk(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 2, 60));
    wait_written(f);
    set_room(0);
    begin_txn(f, 0x9000, 0);
    journal_append(f->j, partial_batch(f, 5, 200, 1));
    assert_true(wait_until(no_room, f, 0));
    assert_int_equal(journal_cut(f->j).changes, 5);
    batch_builder_reset(f->bb);
    set_room(-1);
    assert_true(wait_until(has_room, f, 0));
}

// Nothing that may use it is written or seen before; whether room comes or the process ends.
static void a_relation_version_waits_for_room(struct fixture *f, bool room)
{
    struct seen had = {0}, all = {0};
    journal_append(f->j, txn_batch(f, 2, 60));
    wait_written(f);
    lsn_t before = journal_watermark(f->j);
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    seen_read(&had, r);
    set_room(10); // the write is cut short
    add_relation(f, 1);
    assert_true(no_room(f, 0));
    journal_append(f->j, txn_batch(f, 2, 60)); // what had been read already
    add_relation(f, 2);
    journal_append(f->j, txn_batch(f, 2, 60));
    expect_tail(r);
    if (room) {
        assert_true(wait_until(refused, f, 3)); // it tries again
        assert_true(no_room(f, 0));
        assert_int_equal(journal_watermark(f->j), before);
        set_room(-1);
        assert_true(wait_until(watermark_is, f, journal_appended(f->j)));
        assert_true(wait_until(has_room, f, 0));
        seen_read(&had, r);
        assert_int_equal(had.n, 6);
    }
    journal_reader_close(r);
    fixture_close(f);
    set_room(-1);
    fixture_open(f, small_options(f));
    assert_int_equal(catalog_count(journal_catalog(f->j)), room ? 2 : 0);
    seen_all(&all, f);
    seen_equal(&all, &had);
    seen_free(&all);
    seen_free(&had);
}

static void a_relation_version_on_a_full_disk(void **state)
{
    a_relation_version_waits_for_room(*state, true);
}

static void ended_before_a_relation_version_fits(void **state)
{
    a_relation_version_waits_for_room(*state, false);
}

static bool has_failed(struct fixture *f, uint64_t arg)
{
    struct err e;
    (void)arg;
    return journal_failed(f->j, &e) && e.class == ERR_JOURNAL && strstr(e.text, "fdatasync");
}

static void a_failed_sync_is_fatal(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 2, 60));
    wait_written(f);
    lsn_t had = journal_watermark(f->j);
    pthread_mutex_lock(&disk.lock);
    disk.sync_error = EIO;
    pthread_mutex_unlock(&disk.lock);
    journal_append(f->j, txn_batch(f, 2, 60));
    assert_true(wait_until(has_failed, f, 0));
    assert_int_equal(journal_watermark(f->j), had);
    assert_false(journal_has_room(f->j, NULL));
    disk.sync_error = 0;
}

static void a_slow_disk_stops_the_source(void **state)
{
    struct fixture *f = *state;
    set_room(0);
    size_t n = 0;
    while (journal_has_room(f->j, NULL)) {
        journal_append(f->j, txn_batch(f, 50, 1000));
        assert_true(++n < 1000);
    }
    assert_true(f->j->unwritten < UNWRITTEN_BYTES_MAX + 200000);
    set_room(-1);
    assert_true(wait_until(watermark_is, f, journal_appended(f->j)));
}

int main(void)
{
    log_set_level(LOG_ERROR + 1); // the faults are ours
#define TEST(f)  cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
#define FAULT(f) cmocka_unit_test_setup_teardown(f, disk_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(torn_at_every_byte),
        TEST(torn_inside_one_group),
        TEST(a_file_that_was_never_begun),
        TEST(a_hint_helps_and_never_harms),
        TEST(a_bad_frame_in_the_middle_of_the_newest),
        TEST(a_bad_frame_in_an_older_segment),
        TEST(another_version_is_refused),
        FAULT(a_full_disk),
        FAULT(a_first_start_on_a_full_disk),
        FAULT(killed_on_a_full_disk),
        FAULT(cut_on_a_full_disk),
        FAULT(a_cut_of_all_that_did_not_fit_clears_a_full_disk),
        FAULT(a_relation_version_on_a_full_disk),
        FAULT(ended_before_a_relation_version_fits),
        FAULT(a_failed_sync_is_fatal),
        FAULT(a_slow_disk_stops_the_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
