// The few calls that make bytes durable, reachable through a table so that tests can make a disk
// full, a write short or a sync fail.
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

struct file_ops {
    ssize_t (*pwrite)(int fd, const void *p, size_t n, off_t at);
    int (*fdatasync)(int fd);
};

// Replaced only by tests, before any journal is open.
extern struct file_ops file_ops;

// Writes all n bytes; -1 with errno (a short write is gone on with until it is an error).
int file_write_all(int fd, const void *p, size_t n, uint64_t at) MUST_CHECK;
// Reads up to n bytes at `at`; the count, or -1 with errno.
ssize_t file_read_at(int fd, void *p, size_t n, uint64_t at);
// True for what freeing space mends.
bool file_error_is_full(int error);
// ERR_RETRY for that, else ERR_JOURNAL.
enum err_class file_error_class(int error);

// ---- small checksummed text files (identity, pending cut) ----
// "key=value" lines and a last line "check=<XXH3 of those before>"; replaced as a whole.

// `dir` is for messages. The new contents are durable when it returns.
int state_write(int dirfd, const char *dir, const char *name, const struct buf *text,
                struct err *e) MUST_CHECK;
// ret_found false: there is no such file. The text comes back without its check.
int state_read(int dirfd, const char *dir, const char *name, struct buf *ret_text, bool *ret_found,
               struct err *e) MUST_CHECK;
int state_remove(int dirfd, const char *dir, const char *name, struct err *e) MUST_CHECK;
// The value of a key in such a text, as text (cut at size) or as a number of this base; false when
// it is missing or malformed.
bool state_get(const struct buf *text, const char *key, char *out, size_t size);
bool state_get_u64(const struct buf *text, const char *key, int base, uint64_t *ret_v);
