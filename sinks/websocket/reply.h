// The server's messages other than entries, in both forms.
#pragma once

#include "base/health.h"
#include "journal/journal.h"

struct reply_hello {
    uint64_t stream_id;
    uint32_t timeline;
    size_t frame_bytes_max, request_bytes_max;
    unsigned ping_seconds;
    enum health_state state;
};

struct reply_subscribed {
    const char *id;
    struct cursor start;
    lsn_t lsn;
    bool resumed;              // the client gave a cursor: say that nothing is missing
    const char *const *tables; // that match now
    size_t table_count;
    const char *warning; // NULL: none
};

// text: JSON, else protobuf; all append to out.
void reply_hello(struct buf *out, bool text, const struct reply_hello *m);
void reply_subscribed(struct buf *out, bool text, const struct reply_subscribed *m);
void reply_unsubscribed(struct buf *out, bool text, const char *id);
// earliest: NULL where the journal has nothing.
void reply_reset(struct buf *out, bool text, const char *id, const char *code, const char *why,
                 const struct cursor *earliest);
// id: of the subscription that it is about; "": the nameless one, or the whole connection.
void reply_error(struct buf *out, bool text, const char *id, const char *code, const char *why,
                 bool retry);
void reply_health(struct buf *out, bool text, enum health_state state, int64_t since_us,
                  const char *why);
