// The small files beside the segments: damaged, gone, or never begun.
#include "journal_fixture.h"

static void store(const char *path, const uint8_t *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

static ssize_t load_small(const char *path, uint8_t bytes[4096])
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, bytes, 4096);
    close(fd);
    return n;
}

static void small_files_are_checked(void **state)
{
    struct fixture *f = *state;
    struct journal *j;
    struct err e;
    fixture_close(f);
    for (size_t i = 0; i < 2; i++) {
        static const char *const names[] = {"identity", "relations"};
        char path[256];
        uint8_t bytes[4096];
        snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
        ssize_t n = load_small(path, bytes);
        bytes[9] ^= 1;
        store(path, bytes, (size_t)n);
        assert_int_equal(journal_open(small_options(f), &j, &e), -1);
        assert_non_null(strstr(e.text, path));
        bytes[9] ^= 1;
        store(path, bytes, (size_t)n);
    }
    fixture_open(f, small_options(f));
}

// Without them what the segments hold is nobody's, or unreadable, and would be mixed with what
// comes.
static void small_files_that_are_gone_are_missed(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"identity", "relations"};
    struct journal *j;
    struct err e;
    journal_append(f->j, txn_batch(f, 1, 10));
    wait_written(f);
    fixture_close(f);
    for (size_t i = 0; i < 4; i++) {
        char path[256];
        uint8_t bytes[4096];
        snprintf(path, sizeof path, "%s/%s", f->dir, names[i / 2]);
        ssize_t n = load_small(path, bytes);
        assert_int_equal(i % 2 ? truncate(path, 0) : unlink(path), 0);
        for (int times = 0; times < 2; times++) { // nothing was made that hides it
            assert_int_equal(journal_open(small_options(f), &j, &e), -1);
            assert_int_equal(e.class, ERR_JOURNAL);
            assert_non_null(strstr(e.text, path));
            assert_non_null(strstr(e.text, "start"));
        }
        store(path, bytes, (size_t)n);
    }
    fixture_open(f, small_options(f));
}

// A power cut at the first start.
static void a_relations_file_that_was_never_begun(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zero[16];
    char path[256];
    snprintf(path, sizeof path, "%s/relations", f->dir);
    for (size_t n = 0; n <= sizeof zero; n += 4) {
        fixture_close(f);
        store(path, zero, n);
        fixture_open(f, small_options(f));
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(small_files_are_checked),
        TEST(small_files_that_are_gone_are_missed),
        TEST(a_relations_file_that_was_never_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
