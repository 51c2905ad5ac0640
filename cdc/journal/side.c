// Files that others keep beside the segments: what they contain, and how they notice damage, is
// their matter.
#include "journal/inside.h"

#include "journal/file_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int journal_side_read(struct journal *j, const char *name, struct buf *ret, bool *ret_found,
                      struct err *e)
{
    AUTO_CLOSE int fd = openat(j->dirfd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *ret_found = false;
        return 0;
    }
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot read %s/%s", j->dir, name);
    if ((uint64_t)st.st_size > JOURNAL_SIDE_MAX)
        return err_set(e, ERR_JOURNAL,
                       "%s/%s has %lld bytes, more than it can have; remedy: it is not rowcast's, "
                       "move it away",
                       j->dir, name, (long long)st.st_size);
    ssize_t n = file_read_at(fd, buf_room(ret, (size_t)st.st_size + 1), (size_t)st.st_size, 0);
    if (n < 0)
        return err_errno(e, ERR_JOURNAL, "cannot read %s/%s", j->dir, name);
    ret->n += (size_t)n;
    *ret_found = true;
    return 0;
}

int journal_side_replace(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    char temp[64];
    snprintf(temp, sizeof temp, "%s.new", name);
    AUTO_CLOSE int fd = openat(j->dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || file_write_all(fd, bytes.p, bytes.n, 0) != 0)
        return err_errno(e, file_error_class(errno), "cannot write %s/%s", j->dir, temp);
    if (file_ops.fdatasync(fd) != 0 || renameat(j->dirfd, temp, j->dirfd, name) != 0 ||
        fsync(j->dirfd) != 0)
        return err_errno(e, file_error_class(errno), "cannot make %s/%s durable", j->dir, name);
    return 0;
}

int journal_side_sync(struct journal *j, const char *name, struct err *e)
{
    if (!j->o.sync)
        return 0;
    AUTO_CLOSE int fd = openat(j->dirfd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || file_ops.fdatasync(fd) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot sync %s/%s", j->dir, name);
    return 0;
}

int journal_side_append(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    AUTO_CLOSE int fd = openat(j->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (end < 0 || file_write_all(fd, bytes.p, bytes.n, (uint64_t)end) != 0) {
        err_errno(e, file_error_class(errno), "cannot write %s/%s", j->dir, name);
        if (end >= 0 && ftruncate(fd, end) != 0) // half a line would spoil the next one
            e->class = ERR_JOURNAL;
        return -1;
    }
    return 0;
}
