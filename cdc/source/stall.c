#include "source/stall.h"

bool stall_set(struct stall *s, const char *why, int64_t now)
{
    const char *said = s->said;
    if (!why)
        *s = (struct stall){0};
    else if (!s->since)
        s->since = now;
    else if (now >= s->since + STALL_US)
        s->said = why;
    return s->said != said;
}

int64_t stall_deadline(const struct stall *s)
{
    return s->since && !s->said ? s->since + STALL_US : INT64_MAX;
}
