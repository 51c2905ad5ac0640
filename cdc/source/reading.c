#include "source/reading.h"

#include <sys/socket.h>

#define PAUSE_US    300
#define WINDOW_US   1000 // to notice a flood
#define FLOOD_UNITS 32   // messages (or KiB) a millisecond that make one
#define BUFFER      (4 << 20)
#define MARK        (64 << 10)

// In bulk the kernel wakes us for this many bytes, or the pause is over. (AF_UNIX ignores it.)
static void set_mark(const struct reading *r, int fd, int mark)
{
    if (r->tcp)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark); // only a hint
}

void reading_attach(struct reading *r, int fd, int64_t now)
{
    struct sockaddr_storage address;
    socklen_t n = sizeof address;
    *r = (struct reading){.window_at = now};
    r->tcp = getsockname(fd, (struct sockaddr *)&address, &n) == 0 && address.ss_family != AF_UNIX;
    int size = BUFFER;
    if (r->tcp)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); // cut to rmem_max
}

void reading_round(struct reading *r, int fd, int64_t now)
{
    int64_t elapsed = now - r->window_at;
    if (elapsed < (r->bulk ? PAUSE_US / 2 : WINDOW_US))
        return;
    uint64_t units = r->messages + r->bytes / 1024;
    bool flood = units * 1000 >= (uint64_t)elapsed * FLOOD_UNITS;
    if (flood != r->bulk) {
        r->bulk = flood;
        set_mark(r, fd, flood ? MARK : 1);
    }
    r->window_at = now;
    r->messages = r->bytes = 0;
}

int64_t reading_pause_us(const struct reading *r)
{
    return r->bulk ? PAUSE_US : 0;
}
