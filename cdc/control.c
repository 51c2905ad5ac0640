// The thread polls: the listening socket, its wake-up, and a few clients, each with a deadline, so
// that one that says nothing, or takes nothing, only loses its own place. A handler runs between
// two polls. All are local and few: this is for people and scripts, not for load.
//
// Addresses: a Unix socket's path has room for 107 bytes, a journal's directory may be longer. Then
// it goes by /proc/self/fd of the opened directory.
#include "control.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct client {
    int fd; // -1: a free place
    int64_t deadline;
    struct buf in, out;
    size_t sent;
    bool answered; // out is complete
};

struct control {
    int dirfd, listen_fd, wake_fd;
    const struct control_handler *handlers;
    size_t n;
    struct client clients[CONTROL_CLIENTS_MAX];
    _Atomic bool done;
    pthread_t thread;
};

// ---- addresses ----

// dirfd must stay open as long as the address is used.
static int address(const char *dir, int dirfd, struct sockaddr_un *ret_a, struct err *e)
{
    *ret_a = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t size = sizeof ret_a->sun_path;
    int n = snprintf(ret_a->sun_path, size, "%s/" CONTROL_FILE, dir);
    if (n < 0 || (size_t)n >= size)
        n = snprintf(ret_a->sun_path, size, "/proc/self/fd/%d/" CONTROL_FILE, dirfd);
    if (n < 0 || (size_t)n >= size)
        return err_set(e, ERR_INTERNAL, "control socket: no address for %s", dir);
    return 0;
}

// -1 with errno kept.
static int open_dir(const char *dir, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), why = errno;
    if (fd < 0)
        err_errno(e, ERR_JOURNAL, "journal directory %s", dir);
    errno = why;
    return fd;
}

// ---- answering ----

static void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
    *c = (struct client){.fd = -1};
}

static void answer_error(struct client *c, const struct err *e)
{
    buf_clear(&c->out);
    buf_printf(&c->out, "error %s\n%s", err_class_name(e->class), e->text);
}

static int run(const struct control *c, char *line, struct buf *out, struct err *e)
{
    char *argument = strchr(line, ' ');
    if (argument)
        *argument++ = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->handlers[i].verb, line) == 0)
            return c->handlers[i].run(c->handlers[i].arg, argument ? argument : "", out, e);
    }
    return err_set(e, ERR_USAGE,
                   "the running rowcast (" ROWCAST_VERSION ") does not know the request \"%.100s\"",
                   line);
}

static void answer(const struct control *control, struct client *c, size_t line_bytes)
{
    struct err e;
    c->in.p[line_bytes] = 0;
    c->answered = true;
    if (memchr(c->in.p, 0, line_bytes)) {
        err_set(&e, ERR_USAGE, "the request has a NUL in it");
        answer_error(c, &e);
        return;
    }
    buf_puts(&c->out, "ok\n");
    if (run(control, (char *)c->in.p, &c->out, &e) != 0)
        answer_error(c, &e);
}

// False: it is done with.
static bool client_read(const struct control *control, struct client *c)
{
    uint8_t *room = buf_room(&c->in, CONTROL_REQUEST_MAX);
    ssize_t n = recv(c->fd, room, CONTROL_REQUEST_MAX - c->in.n, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    c->in.n += (size_t)n;
    const uint8_t *end = memchr(c->in.p, '\n', c->in.n);
    if (end) {
        answer(control, c, (size_t)(end - c->in.p));
    } else if (c->in.n == CONTROL_REQUEST_MAX) {
        struct err e;
        err_set(&e, ERR_USAGE, "the request is longer than %d bytes", CONTROL_REQUEST_MAX);
        c->answered = true;
        answer_error(c, &e);
    }
    return true;
}

static bool client_write(struct client *c)
{
    ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    c->sent += (size_t)n;
    return c->sent < c->out.n;
}

static void admit(struct control *control)
{
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct client *place = &control->clients[0];
    for (size_t i = 1; i < CONTROL_CLIENTS_MAX && place->fd >= 0; i++) {
        struct client *c = &control->clients[i];
        if (c->fd < 0 || c->deadline < place->deadline)
            place = c;
    }
    client_close(place); // the oldest where none is free
    *place = (struct client){.fd = fd, .deadline = clock_mono_us() + CONTROL_PATIENCE_US};
}

// The time until the first client's patience ends, in ms; -1: there is none.
static int patience_ms(const struct control *control)
{
    int64_t first = INT64_MAX, now = clock_mono_us();
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].fd >= 0 && control->clients[i].deadline < first)
            first = control->clients[i].deadline;
    }
    if (first == INT64_MAX)
        return -1;
    return first > now ? (int)((first - now) / 1000) + 1 : 0;
}

static void serve(const struct control *control, struct client *c, short revents)
{
    bool goes_on = clock_mono_us() < c->deadline;
    if (goes_on && (revents & (POLLIN | POLLHUP | POLLERR)) && !c->answered)
        goes_on = client_read(control, c);
    if (goes_on && c->answered)
        goes_on = client_write(c);
    if (!goes_on)
        client_close(c);
}

static void *serve_all(void *arg)
{
    struct control *control = arg;
    while (!atomic_load(&control->done)) {
        struct pollfd fds[CONTROL_CLIENTS_MAX + 2];
        for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
            const struct client *c = &control->clients[i];
            fds[i] = (struct pollfd){.fd = c->fd, .events = c->answered ? POLLOUT : POLLIN};
        }
        fds[CONTROL_CLIENTS_MAX] = (struct pollfd){.fd = control->listen_fd, .events = POLLIN};
        fds[CONTROL_CLIENTS_MAX + 1] = (struct pollfd){.fd = control->wake_fd, .events = POLLIN};
        if (poll(fds, ARRAY_LEN(fds), patience_ms(control)) < 0)
            continue;
        for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
            if (control->clients[i].fd >= 0)
                serve(control, &control->clients[i], fds[i].revents);
        }
        if (fds[CONTROL_CLIENTS_MAX].revents)
            admit(control);
    }
    return NULL;
}

// ---- life ----

static int make_way(const struct control *c, const char *dir, struct err *e)
{
    struct stat st;
    if (fstatat(c->dirfd, CONTROL_FILE, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_JOURNAL, "%s/" CONTROL_FILE " is no socket, and not ours", dir);
    // Of a process that was killed: the journal's lock is ours.
    if (unlinkat(c->dirfd, CONTROL_FILE, 0) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot remove %s/" CONTROL_FILE, dir);
    return 0;
}

static int listen_in(struct control *c, const char *dir, struct err *e)
{
    struct sockaddr_un a;
    if ((c->dirfd = open_dir(dir, e)) < 0 || make_way(c, dir, e) != 0 ||
        address(dir, c->dirfd, &a, e) != 0)
        return -1;
    c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // The socket's mode becomes the file's, from its first moment on.
    if (c->listen_fd < 0 || fchmod(c->listen_fd, 0600) != 0 ||
        bind(c->listen_fd, (const struct sockaddr *)&a, sizeof a) != 0 ||
        listen(c->listen_fd, CONTROL_CLIENTS_MAX) != 0)
        return err_errno(e, ERR_JOURNAL, "cannot listen at %s/" CONTROL_FILE, dir);
    return 0;
}

static void control_free(struct control *c)
{
    const int fds[] = {c->listen_fd, c->wake_fd, c->dirfd};
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        client_close(&c->clients[i]);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    free(c);
}

int control_open(const char *dir, const struct control_handler *handlers, size_t n,
                 struct control **ret_c, struct err *e)
{
    struct control *c = xcalloc(1, sizeof *c);
    *c = (struct control){.dirfd = -1, .listen_fd = -1, .handlers = handlers, .n = n};
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        c->clients[i].fd = -1;
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(c->wake_fd >= 0);
    if (listen_in(c, dir, e) != 0) {
        control_free(c);
        return -1;
    }
    CHECK(pthread_create(&c->thread, NULL, serve_all, c) == 0);
    *ret_c = c;
    return 0;
}

void control_close(struct control *c)
{
    if (!c)
        return;
    atomic_store(&c->done, true);
    uint64_t one = 1;
    CHECK(write(c->wake_fd, &one, sizeof one) == (ssize_t)sizeof one);
    pthread_join(c->thread, NULL);
    if (unlinkat(c->dirfd, CONTROL_FILE, 0) != 0)
        log_debug("the control socket was not there any more", "errno=%d", errno);
    control_free(c);
}

// ---- asking ----

static int silent(const char *dir, struct err *e)
{
    return err_set(e, ERR_JOURNAL,
                   "the rowcast that runs with journal %s does not answer at its control socket",
                   dir);
}

static int nobody(const char *dir, struct err *e)
{
    return err_set(e, ERR_JOURNAL,
                   "no rowcast runs with journal %s; remedy: start it, or name the journal of the "
                   "one that runs with --journal",
                   dir);
}

static int connect_to(const char *dir, int fd, struct err *e)
{
    struct timeval patience = {.tv_sec = CONTROL_ASK_US / 1000000};
    AUTO_CLOSE int dirfd = open_dir(dir, e);
    struct sockaddr_un a;
    if (dirfd < 0)
        return errno == ENOENT ? nobody(dir, e) : -1;
    if (address(dir, dirfd, &a, e) != 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
        return err_errno(e, ERR_INTERNAL, "control socket");
    if (connect(fd, (const struct sockaddr *)&a, sizeof a) == 0)
        return 0;
    if (errno == ENOENT || errno == ECONNREFUSED)
        return nobody(dir, e);
    return errno == EAGAIN ? silent(dir, e)
                           : err_errno(e, ERR_JOURNAL, "control socket of journal %s", dir);
}

// Everything up to the end, or -1 at the deadline, at too much, and at any failure.
static int receive(int fd, int64_t deadline, struct buf *in)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - clock_mono_us();
        if (left <= 0 || poll(&p, 1, (int)(left / 1000) + 1) < 1 || in->n > CONTROL_REPLY_MAX)
            return -1;
        ssize_t n = recv(fd, buf_room(in, 4096), 4096, 0);
        if (n <= 0)
            return n == 0 ? 0 : -1;
        in->n += (size_t)n;
    }
}

static enum err_class class_named(const char *name, size_t n)
{
    for (int class = ERR_NONE + 1; class <= ERR_INTERNAL; class ++) {
        const char *known = err_class_name((enum err_class) class);
        if (strlen(known) == n && strncmp(known, name, n) == 0)
            return (enum err_class) class;
    }
    return ERR_INTERNAL;
}

// What it said is text for a terminal or a script: an error's is cut to a line.
static int understand(const char *dir, struct buf *in, struct buf *reply, struct err *e)
{
    static const char ok[] = "ok\n", bad[] = "error ";
    char *text = buf_cstr(in), *end = strchr(text, '\n');
    if (strncmp(text, ok, sizeof ok - 1) == 0) {
        buf_put(reply, text + sizeof ok - 1, in->n - (sizeof ok - 1));
        return 0;
    }
    if (strncmp(text, bad, sizeof bad - 1) != 0 || !end)
        return silent(dir, e);
    text += sizeof bad - 1;
    return err_set(e, class_named(text, (size_t)(end - text)), "%.*s",
                   (int)size_min(strcspn(end + 1, "\n"), 1000), end + 1);
}

int control_ask(const char *dir, const char *verb, const char *argument, struct buf *reply,
                struct err *e)
{
    AUTO_BUF struct buf request = {0}, in = {0};
    int64_t deadline = clock_mono_us() + CONTROL_ASK_US;
    buf_printf(&request, "%s%s%s\n", verb, *argument ? " " : "", argument);
    if (request.n > CONTROL_REQUEST_MAX || strchr(argument, '\n'))
        return err_set(e, ERR_USAGE, "%s: an argument of more than a line, or too long a one",
                       verb);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, ERR_INTERNAL, "control socket");
    if (connect_to(dir, fd, e) != 0)
        return -1;
    // A request fits into any socket's buffer: it is sent whole or not at all.
    if (send(fd, request.p, request.n, MSG_NOSIGNAL) != (ssize_t)request.n ||
        receive(fd, deadline, &in) != 0)
        return silent(dir, e);
    return understand(dir, &in, reply, e);
}
