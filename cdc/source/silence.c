#include "source/silence.h"

void silence_init(struct silence *s, int64_t limit_us, int64_t sender_timeout_us, int64_t now)
{
    if (limit_us == 0)
        limit_us = sender_timeout_us > 0 ? sender_timeout_us : SILENCE_DEFAULT_US;
    *s = (struct silence){.limit_us = limit_us, .heard_at = now};
}

void silence_heard(struct silence *s, int64_t now)
{
    s->heard_at = now;
    s->asked_at = 0;
}

void silence_asked(struct silence *s, int64_t now)
{
    if (!s->asked_at)
        s->asked_at = now;
}

// From here on a witness counts.
static int64_t look_at(const struct silence *s)
{
    return s->asked_at + s->limit_us / 2;
}

enum silence_verdict silence_judge(const struct silence *s, const struct silence_witness *w,
                                   int64_t now)
{
    if (!s->asked_at || now < look_at(s))
        return SILENCE_FINE;
    if (now < s->asked_at + s->limit_us)
        return w->asked_at < look_at(s) ? SILENCE_LOOK : SILENCE_FINE;
    if (w->answered_at < look_at(s))
        return SILENCE_GONE;
    // At work it may stay so for long: what was seen once is looked at again.
    if (w->ours && !w->waiting)
        return now >= w->answered_at + 2 * s->limit_us   ? SILENCE_GONE
               : now >= w->answered_at + s->limit_us / 2 ? SILENCE_LOOK
                                                         : SILENCE_BUSY;
    return w->ours ? SILENCE_DEAF : SILENCE_ENDED;
}

int64_t silence_deadline(const struct silence *s, const struct silence_witness *w, int64_t now)
{
    if (!s->asked_at)
        return INT64_MAX;
    const int64_t next[] = {look_at(s), s->asked_at + s->limit_us, w->answered_at + s->limit_us / 2,
                            w->answered_at + 2 * s->limit_us};
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(next); i++) {
        if (next[i] > now && next[i] < first)
            first = next[i];
    }
    return first;
}
