// The journal: what is appended is read again, from memory and from files, now and after opening
// it again; positions, retention, identity, damage.
#include "journal_fixture.h"

#include <sys/file.h>

// Appends `count` transactions of random shape, some of them in several batches, and remembers
// them.
static void append_random(struct fixture *f, size_t count, struct seen *model)
{
    static const struct position none = {0, 0};
    for (size_t i = 0; i < count; i++) {
        size_t rows = 1 + random_next(&f->random) % 20;
        size_t n = random_next(&f->random) % 300;
        if (random_next(&f->random) % 4 > 0) {
            struct batch *b = txn_batch(f, rows, n);
            seen_batch(model, b, none);
            journal_append(f->j, b);
            continue;
        }
        begin_txn(f, f->lsn, 0);
        for (size_t part = 0; part < 3; part++) {
            struct batch *b = partial_batch(f, rows, n, f->lsn + part * 100);
            seen_batch(model, b, none);
            journal_append(f->j, b);
        }
        batch_add_end(f->bb, f->lsn + 0x10);
        f->lsn += 0x100;
        struct batch *b = take(f, false);
        seen_batch(model, b, none);
        journal_append(f->j, b);
    }
}

static void round_trip(void **state)
{
    struct fixture *f = *state;
    struct seen model = {0}, got = {0};
    append_random(f, 300, &model);
    seen_all(&got, f);
    seen_equal(&model, &got);
    wait_written(f);
    assert_true(segments_count(&f->j->segments) > 5);
    seen_free(&got);
    seen_all(&got, f); // now mostly from files
    seen_equal(&model, &got);
    seen_free(&got);
    seen_free(&model);
}

static void reopen(void **state)
{
    struct fixture *f = *state;
    struct seen model = {0}, got = {0};
    for (int i = 0; i < 4; i++) {
        append_random(f, 50, &model);
        lsn_t appended = journal_appended(f->j);
        fixture_close(f);
        fixture_open(f, small_options(f));
        assert_int_equal(journal_watermark(f->j), appended);
        assert_int_equal(journal_appended(f->j), appended);
        fixture_claim(f);
        seen_free(&got);
        seen_all(&got, f);
        seen_equal(&model, &got);
    }
    seen_free(&got);
    seen_free(&model);
}

static void progress_moves_the_watermark(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 1, 10));
    batch_add_progress(f->bb, 0x5000);
    journal_append(f->j, take(f, false));
    assert_int_equal(journal_appended(f->j), 0x5000);
    assert_true(wait_until(watermark_is, f, 0x5000));
    fixture_close(f);
    fixture_open(f, small_options(f));
    assert_int_equal(journal_watermark(f->j), 0x5000);
    struct cursor latest = journal_latest(f->j);
    assert_int_equal(position_cmp(latest.at, position_before(0x5000)), 0);
}

static void now_starts_at_a_whole_transaction(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 1, 10));
    begin_txn(f, 0x9000, 0);
    journal_append(f->j, partial_batch(f, 2, 10, 1));
    struct journal_reader *r = reader_from(f, FROM_NOW, NULL);
    struct batch *b = next_batch(r);
    assert_int_equal(b->first.lsn, 0x9000);
    assert_int_equal(b->first.ordinal, 0);
    batch_unref(b);
    expect_tail(r);
    assert_true(journal_reader_at_tail(r));
    journal_reader_close(r);
}

// ---- positions ----

static void every_position_is_found(void **state)
{
    struct fixture *f = *state;
    struct seen model = {0};
    append_random(f, 120, &model);
    for (int pass = 0; pass < 2; pass++) { // from memory and files, then from files alone
        for (size_t i = 0; i < model.n; i += 1 + random_next(&f->random) % 7) {
            struct cursor c = {.at = model.at[i]};
            struct journal_reader *r = reader_from(f, FROM_POSITION, &c);
            struct batch *b = next_batch(r);
            struct position skip = journal_reader_skip(r);
            assert_int_equal(position_cmp(skip, model.at[i]), 0);
            struct seen got = {0};
            seen_batch(&got, b, skip);
            batch_unref(b);
            // A linear scan: the next one in the model is the first that is delivered.
            if (got.n > 0 && i + 1 < model.n) {
                assert_int_equal(position_cmp(got.at[0], model.at[i + 1]), 0);
                assert_true(got.hash[0] == model.hash[i + 1]);
            }
            seen_free(&got);
            journal_reader_close(r);
        }
        fixture_close(f);
        fixture_open(f, small_options(f));
    }
    seen_free(&model);
}

static void a_position_ahead_waits(void **state)
{
    struct fixture *f = *state;
    journal_append(f->j, txn_batch(f, 1, 10)); // 0x1000
    struct cursor c = {.at = {0x1100, 1}};     // the reader has two changes of the next one
    struct journal_reader *r = reader_from(f, FROM_POSITION, &c);
    expect_tail(r);
    journal_append(f->j, txn_batch(f, 3, 10));
    struct batch *b = next_batch(r);
    struct seen got = {0};
    seen_batch(&got, b, journal_reader_skip(r));
    assert_int_equal(got.n, 1);
    assert_int_equal(got.at[0].ordinal, 2);
    batch_unref(b);
    seen_free(&got);
    journal_reader_close(r);
}

static void an_old_position_on_a_new_journal_is_expired(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct batch *b;
    struct cursor c = {.at = {0x200, ORDINAL_END}};
    struct journal_reader *r = reader_from(f, FROM_POSITION, &c);
    expect_tail(r);
    journal_append(f->j, txn_batch(f, 1, 10));
    assert_int_equal(journal_reader_next(r, &b, &e), READ_EXPIRED);
    assert_int_equal(journal_reader_next(r, &b, &e), READ_EXPIRED);
    journal_reader_close(r);
}

// ---- retention ----

static bool segments_at_most(struct fixture *f, uint64_t n)
{
    return segments_count(&f->j->segments) <= n;
}

static void retention_by_size(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct batch *b;
    struct journal_options o = *small_options(f);
    o.retain_bytes = 60000;
    fixture_close(f);
    fixture_open(f, &o);
    fixture_claim(f);
    struct cursor first = journal_earliest(f->j);
    journal_append(f->j, txn_batch(f, 1, 10));
    first = journal_earliest(f->j);
    struct journal_reader *behind = reader_from(f, FROM_EARLIEST, NULL);
    assert_int_equal(journal_check_cursor(f->j, &first), CURSOR_OK);
    for (int i = 0; i < 400; i++)
        journal_append(f->j, txn_batch(f, 5, 200));
    wait_written(f);
    assert_true(wait_until(bytes_at_most, f, o.retain_bytes));
    assert_int_equal(journal_check_cursor(f->j, &first), CURSOR_EXPIRED);
    assert_int_equal(journal_reader_next(behind, &b, &e), READ_EXPIRED);
    journal_reader_close(behind);
    struct cursor earliest = journal_earliest(f->j);
    assert_int_equal(journal_check_cursor(f->j, &earliest), CURSOR_OK);
    struct seen got = {0};
    seen_all(&got, f);
    assert_true(got.n > 100);
    struct seen again = {0};
    struct journal_reader *r = reader_from(f, FROM_POSITION, &earliest);
    seen_read(&again, r);
    seen_equal(&got, &again);
    journal_reader_close(r);
    seen_free(&got);
    seen_free(&again);
}

static bool has_room(struct fixture *f, uint64_t want)
{
    const char *why;
    bool room = journal_has_room(f->j, &why);
    assert_true(room == (why == NULL));
    return room == (want != 0);
}

static void retention_waits_for_a_gating_reader(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct journal_options o = *small_options(f);
    o.retain_bytes = 60000;
    fixture_close(f);
    fixture_open(f, &o);
    struct journal_reader *gate;
    assert_int_equal(
        journal_reader_open(f->j, "gate", FROM_EARLIEST, NULL, true, NULL, NULL, &gate, &e), 0);
    size_t sent = 0;
    while (has_room(f, 1)) {
        journal_append(f->j, txn_batch(f, 5, 200));
        sent += 5;
        wait_written(f);
        assert_true(sent < 100000);
    }
    const char *why;
    assert_false(journal_has_room(f->j, &why));
    assert_non_null(strstr(why, "size limit"));
    struct seen got = {0};
    seen_read(&got, gate);
    assert_int_equal(got.n, sent); // nothing of it is gone
    journal_reader_acknowledge(gate, got.at[got.n - 1]);
    assert_true(wait_until(has_room, f, 1));
    assert_true(wait_until(segments_at_most, f, 5));
    journal_reader_close(gate);
    seen_free(&got);
}

static bool age_works(struct fixture *f, uint64_t n)
{
    journal_append(f->j, txn_batch(f, 1, 10)); // retention runs when something is written
    return segments_count(&f->j->segments) <= n;
}

static void retention_by_age(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 100; i++)
        journal_append(f->j, txn_batch(f, 5, 200));
    wait_written(f);
    assert_true(segments_count(&f->j->segments) > 3);
    fixture_close(f);
    DIR *d = opendir(f->dir);
    struct dirent *entry;
    while ((entry = readdir(d))) { // an hour goes by
        struct timespec old[2] = {{time(NULL) - 3600, 0}, {time(NULL) - 3600, 0}};
        if (strstr(entry->d_name, ".seg"))
            assert_int_equal(utimensat(dirfd(d), entry->d_name, old, 0), 0);
    }
    closedir(d);
    struct journal_options o = *small_options(f);
    o.retain_us = INT64_C(1800000000);
    fixture_open(f, &o);
    assert_true(segments_count(&f->j->segments) > 3); // not before something is appended
    assert_true(wait_until(age_works, f, 1));
}

// ---- identity, lock ----

static void identity_is_kept(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct journal_identity id, other;
    assert_true(journal_identity(f->j, &id));
    assert_int_equal(id.system_id, 7);
    assert_true(id.stream_id != 0);
    fixture_close(f);
    fixture_open(f, small_options(f));
    assert_true(journal_identity(f->j, &other));
    assert_true(id.stream_id == other.stream_id);
    other.system_id = 8;
    assert_int_equal(journal_claim(f->j, &other, &e), -1);
    assert_int_equal(e.class, ERR_JOURNAL);
    assert_non_null(strstr(e.text, "belongs to"));
}

static void cursors_are_checked(void **state)
{
    struct fixture *f = *state;
    struct err e;
    journal_append(f->j, txn_batch(f, 1, 10));
    struct cursor c = journal_latest(f->j), d = c;
    assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OK);
    c.stream_id++;
    assert_int_equal(journal_check_cursor(f->j, &c), CURSOR_OTHER_STREAM);
    struct journal_identity id;
    assert_true(journal_identity(f->j, &id));
    id.timeline = 2;
    id.before = (struct timelines){.n = 1, .items = {{1, d.at.lsn + 1}}};
    assert_int_equal(journal_claim(f->j, &id, &e), 0);
    assert_int_equal(journal_check_cursor(f->j, &d), CURSOR_OK); // the new one went on from here
    d.at.lsn += 1;
    assert_int_equal(journal_check_cursor(f->j, &d), CURSOR_OTHER_TIMELINE);
    d.timeline = 2;
    assert_int_equal(journal_check_cursor(f->j, &d), CURSOR_OK);
    d.timeline = 3;
    assert_int_equal(journal_check_cursor(f->j, &d), CURSOR_OTHER_TIMELINE);
}

static void a_second_open_is_refused(void **state)
{
    struct fixture *f = *state;
    struct journal *second;
    struct err e;
    char pid[32];
    assert_int_equal(journal_open(small_options(f), &second, &e), -1);
    assert_int_equal(e.class, ERR_IN_USE);
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    assert_non_null(strstr(e.text, pid));
}

static void make_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void a_directory_of_others_is_left_alone(void **state)
{
    struct fixture *f = *state;
    struct journal *j;
    struct err e;
    struct stat st;
    char path[256];
    fixture_close(f);
    remove_dir(f->dir);
    assert_int_equal(mkdir(f->dir, 0755), 0);
    make_file(f->dir, "lock", "somebody's");
    make_file(f->dir, "notes", "");
    assert_int_equal(journal_open(small_options(f), &j, &e), -1);
    assert_int_equal(e.class, ERR_JOURNAL);
    assert_non_null(strstr(e.text, f->dir));
    assert_non_null(strstr(e.text, "notes"));
    snprintf(path, sizeof path, "%s/lock", f->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, strlen("somebody's"));
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);
    // A journal may get other files later.
    remove_dir(f->dir);
    fixture_open(f, small_options(f));
    fixture_claim(f);
    fixture_close(f);
    make_file(f->dir, "notes", "");
    fixture_open(f, small_options(f));
}

// A volume just made, and a first start that ended before the server said who it is.
static void a_directory_without_an_identity_is_taken(void **state)
{
    struct fixture *f = *state;
    char path[256];
    fixture_close(f);
    remove_dir(f->dir);
    assert_int_equal(mkdir(f->dir, 0700), 0);
    snprintf(path, sizeof path, "%s/lost+found", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    fixture_open(f, small_options(f));
    fixture_close(f);
    make_file(f->dir, "identity.new", "for");
    fixture_open(f, small_options(f));
    fixture_claim(f);
    assert_int_equal(rmdir(path), 0);
}

static void the_directory_is_closed_to_others(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    fixture_close(f);
    assert_int_equal(chmod(f->dir, 02775), 0);
    fixture_open(f, small_options(f));
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void files_are_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    DIR *d = opendir(f->dir);
    struct dirent *entry;
    while ((entry = readdir(d))) {
        assert_int_equal(fstatat(dirfd(d), entry->d_name, &st, 0), 0);
        if (S_ISREG(st.st_mode))
            assert_int_equal(st.st_mode & 0777, 0600);
    }
    closedir(d);
}

static void relations_are_kept(void **state)
{
    struct fixture *f = *state;
    for (uint32_t id = 1; id <= 3; id++)
        add_relation(f, id);
    for (int torn = 0; torn < 2; torn++) {
        fixture_close(f);
        if (torn) {
            char path[256];
            snprintf(path, sizeof path, "%s/relations", f->dir);
            struct stat st;
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(truncate(path, st.st_size - 3), 0);
        }
        fixture_open(f, small_options(f));
        assert_int_equal(catalog_count(journal_catalog(f->j)), torn ? 2 : 3);
        assert_string_equal(catalog_get(journal_catalog(f->j), 2)->table, "public.t2");
    }
}

// ---- looking in ----

static void read_only_beside_a_running_one(void **state)
{
    struct fixture *f = *state;
    struct seen model = {0}, got = {0};
    struct err e;
    append_random(f, 100, &model);
    wait_written(f);
    struct fixture look = *f;
    struct journal_options o = {.dir = f->dir, .read_only = true};
    fixture_open(&look, &o);
    seen_all(&got, &look);
    seen_equal(&model, &got);
    fixture_close(&look);
    assert_int_equal(quietly(journal_list, f->dir, &e), 0);
    assert_int_equal(quietly(journal_verify, f->dir, &e), 0);
    seen_free(&got);
    seen_free(&model);
}

static void a_look_at_no_journal_says_so(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *dir = xasprintf("%s/other", f->dir);
    struct journal_options o = {.dir = dir, .read_only = true};
    struct journal *j;
    struct err e = {0};
    assert_int_equal(mkdir(dir, 0700), 0);
    int opened = journal_open(&o, &j, &e), listed = quietly(journal_list, dir, &e),
        verified = quietly(journal_verify, dir, &e);
    assert_int_equal(rmdir(dir), 0); // and nothing was made in it
    assert_int_equal(opened, -1);
    assert_int_equal(listed, -1);
    assert_int_equal(verified, -1);
    assert_int_equal(e.class, ERR_JOURNAL);
    assert_non_null(strstr(e.text, "other holds no journal"));
    // A new one that has nothing yet is one.
    assert_int_equal(quietly(journal_verify, f->dir, &e), 0);
}

static void a_huge_row(void **state)
{
    struct fixture *f = *state;
    const size_t n = 100 << 20;
    uint8_t *row = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        row[i] = (uint8_t)(i * i >> 7);
    journal_append(f->j, txn_batch(f, 1, 10));
    begin_txn(f, f->lsn, 0);
    const struct change c = {.op = OP_INSERT, .after = {row, n}};
    batch_add_change(f->bb, &c);
    batch_add_end(f->bb, f->lsn + 0x10);
    f->lsn += 0x100;
    journal_append(f->j, take(f, false));
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    fixture_close(f);
    fixture_open(f, small_options(f));
    struct journal_reader *r = reader_from(f, FROM_EARLIEST, NULL);
    batch_unref(next_batch(r));
    struct batch *b = next_batch(r);
    struct slice after = {0};
    BATCH_FOREACH (b, entry) {
        if (entry->kind == ENTRY_CHANGE)
            after = batch_change(b, entry).after;
    }
    assert_int_equal(after.n, n);
    assert_memory_equal(after.p, row, n);
    batch_unref(b);
    batch_unref(next_batch(r));
    expect_tail(r);
    journal_reader_close(r);
    free(row);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(round_trip),
        TEST(reopen),
        TEST(progress_moves_the_watermark),
        TEST(now_starts_at_a_whole_transaction),
        TEST(every_position_is_found),
        TEST(a_position_ahead_waits),
        TEST(an_old_position_on_a_new_journal_is_expired),
        TEST(retention_by_size),
        TEST(retention_waits_for_a_gating_reader),
        TEST(retention_by_age),
        TEST(identity_is_kept),
        TEST(cursors_are_checked),
        TEST(a_second_open_is_refused),
        TEST(a_directory_of_others_is_left_alone),
        TEST(a_directory_without_an_identity_is_taken),
        TEST(the_directory_is_closed_to_others),
        TEST(files_are_private),
        TEST(relations_are_kept),
        TEST(read_only_beside_a_running_one),
        TEST(a_look_at_no_journal_says_so),
        TEST(a_huge_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
