#include "journal/file_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

#define STATE_BYTES_MAX 65536

struct file_ops file_ops = {.pwrite = pwrite, .fdatasync = fdatasync};

int file_write_all(int fd, const void *p, size_t n, uint64_t at)
{
    const uint8_t *from = p;
    while (n > 0) {
        ssize_t w = file_ops.pwrite(fd, from, n, (off_t)at);
        if (w < 0 && errno == EINTR)
            continue;
        if (w == 0)
            errno = ENOSPC;
        if (w <= 0)
            return -1;
        from += w;
        at += (uint64_t)w;
        n -= (size_t)w;
    }
    return 0;
}

ssize_t file_read_at(int fd, void *p, size_t n, uint64_t at)
{
    size_t had = 0;
    while (had < n) {
        ssize_t r = pread(fd, (uint8_t *)p + had, n - had, (off_t)(at + had));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        had += (size_t)r;
    }
    return (ssize_t)had;
}

bool file_error_is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

enum err_class file_error_class(int error)
{
    return file_error_is_full(error) ? ERR_RETRY : ERR_JOURNAL;
}

int state_write(int dirfd, const char *dir, const char *name, const struct buf *text, struct err *e)
{
    AUTO_BUF struct buf all = {0};
    char temp[64];
    snprintf(temp, sizeof temp, "%s.new", name);
    buf_put(&all, text->p, text->n);
    buf_printf(&all, "check=%016" PRIx64 "\n", (uint64_t)XXH3_64bits(text->p, text->n));
    AUTO_CLOSE int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || file_write_all(fd, all.p, all.n, 0) != 0)
        return err_errno(e, file_error_class(errno), "cannot write %s/%s", dir, temp);
    if (file_ops.fdatasync(fd) != 0 || renameat(dirfd, temp, dirfd, name) != 0 || fsync(dirfd) != 0)
        return err_errno(e, file_error_class(errno), "cannot make %s/%s durable", dir, name);
    return 0;
}

int state_read(int dirfd, const char *dir, const char *name, struct buf *ret_text, bool *ret_found,
               struct err *e)
{
    AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *ret_found = false;
        return 0;
    }
    uint8_t *room = buf_room(ret_text, STATE_BYTES_MAX);
    ssize_t n = fd < 0 ? -1 : file_read_at(fd, room, STATE_BYTES_MAX, 0);
    if (n < 0)
        return err_errno(e, ERR_JOURNAL, "cannot read %s/%s", dir, name);
    static const char key[] = "check=";
    const size_t line = sizeof key - 1 + 16 + 1;
    uint64_t check = 0;
    char hex[17] = "";
    if ((size_t)n >= line) {
        memcpy(hex, room + (size_t)n - 17, 16);
        check = strtoull(hex, NULL, 16);
    }
    if ((size_t)n < line || memcmp(room + (size_t)n - line, key, sizeof key - 1) != 0 ||
        check != XXH3_64bits(room, (size_t)n - line))
        return err_set(e, ERR_JOURNAL,
                       "%s/%s is damaged: its check does not match its contents; restore it from a "
                       "backup, or start a new journal in another directory",
                       dir, name);
    ret_text->n += (size_t)n - line;
    *ret_found = true;
    return 0;
}

int state_remove(int dirfd, const char *dir, const char *name, struct err *e)
{
    if ((unlinkat(dirfd, name, 0) != 0 && errno != ENOENT) || fsync(dirfd) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot remove %s/%s", dir, name);
    return 0;
}

bool state_get(const struct buf *text, const char *key, char *out, size_t size)
{
    size_t key_n = strlen(key);
    const char *at = (const char *)text->p, *end = at + text->n;
    while (at && at < end) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        if (!nl)
            return false;
        if ((size_t)(nl - at) > key_n && memcmp(at, key, key_n) == 0 && at[key_n] == '=') {
            const char *value = at + key_n + 1;
            size_t n = size_min((size_t)(nl - value), size - 1);
            memcpy(out, value, n);
            out[n] = 0;
            return true;
        }
        at = nl + 1;
    }
    return false;
}

bool state_get_u64(const struct buf *text, const char *key, int base, uint64_t *ret_v)
{
    char value[32], *end;
    if (!state_get(text, key, value, sizeof value) || !value[0])
        return false;
    errno = 0;
    uint64_t v = strtoull(value, &end, base);
    if (*end || errno)
        return false;
    *ret_v = v;
    return true;
}
