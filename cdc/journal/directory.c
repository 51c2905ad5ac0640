// The journal's directory: made when missing, never shared with anything else, closed to other
// users, and locked against a second process.
//
// Without an identity in it, it may hold what a first start has made that was killed early, and
// what a new file system brings along; anything else is somebody's, and is not touched.
#include "journal/inside.h"

#include "base/log.h"
#include "journal/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool may_be_ours(const char *name)
{
    static const char *const names[] = {".",        "..",          "lost+found", "lock",
                                        "cut",      "cut.new",     "relations",  "identity.new",
                                        HINT_FILE,  "control",     "told",       "spool",
                                        "snapshot", "snapshot.new"};
    struct position first;
    uint64_t id;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return segment_name_parse(name, &first, &id);
}

static int refuse_foreign(struct journal *j, struct err *e)
{
    int fd = openat(j->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return err_errno(e, ERR_JOURNAL, "cannot list journal directory %s", j->dir);
    const struct dirent *entry;
    while ((entry = readdir(d)) && may_be_ours(entry->d_name))
        ;
    int r = 0;
    // Looked for last: it is there before the first segment of another process.
    if (entry && faccessat(j->dirfd, IDENTITY_FILE, F_OK, 0) != 0)
        r = err_set(e, ERR_JOURNAL,
                    "directory %s is not a journal, but has other files in it, such as %s: give "
                    "the journal a directory of its own",
                    j->dir, entry->d_name);
    closedir(d);
    return r;
}

static int take_lock(struct journal *j, struct err *e)
{
    j->lock_fd = openat(j->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->lock_fd < 0)
        return err_errno(e, file_error_class(errno), "cannot create %s/lock", j->dir);
    char pid[32] = "";
    if (flock(j->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = errno == EWOULDBLOCK ? file_read_at(j->lock_fd, pid, sizeof pid - 1, 0) : -1;
        if (n < 0)
            return err_errno(e, ERR_JOURNAL, "cannot lock %s", j->dir);
        pid[strcspn(pid, "\n")] = 0;
        return err_set(e, ERR_IN_USE,
                       "journal %s is in use by process %s: stop that one, or give this one "
                       "another directory",
                       j->dir, pid[0] ? pid : "(unknown)");
    }
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(j->lock_fd, 0) != 0 || file_write_all(j->lock_fd, pid, (size_t)n, 0) != 0)
        log_debug("the lock file does not name its holder", "dir=%s", j->dir); // a full disk
    return 0;
}

// Not fatal: on a mounted volume the directory may be another user's, and the files are private.
static void close_to_others(struct journal *j)
{
    struct stat st;
    if (fstat(j->dirfd, &st) != 0 || !(st.st_mode & 077))
        return;
    if (fchmod(j->dirfd, st.st_mode & 07700) == 0)
        log_info("closed the journal's directory to other users", "dir=%s mode_before=%04o", j->dir,
                 (unsigned)st.st_mode & 07777);
    else
        log_warn("other users can enter the journal's directory; chmod it to 0700", "dir=%s",
                 j->dir);
}

// Its name is as precious as what is in it, and is not synced with that on every file system. Not
// fatal: the directory above may be one that we cannot read.
static void sync_name(const struct journal *j)
{
    AUTO_CLOSE int fd = openat(j->dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        log_debug("the directory above the journal's is not synced", "dir=%s", j->dir);
}

int directory_open(struct journal *j, struct err *e)
{
    if (!j->o.read_only && mkdir(j->dir, 0700) != 0 && errno != EEXIST)
        return err_errno(e, file_error_class(errno), "cannot create journal directory %s", j->dir);
    j->dirfd = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dirfd < 0)
        return err_errno(e, ERR_JOURNAL, "cannot open journal directory %s", j->dir);
    if (j->o.read_only)
        return 0;
    if (faccessat(j->dirfd, IDENTITY_FILE, F_OK, 0) != 0) // it is new
        sync_name(j);
    if (refuse_foreign(j, e) != 0 || take_lock(j, e) != 0)
        return -1;
    close_to_others(j);
    return 0;
}
