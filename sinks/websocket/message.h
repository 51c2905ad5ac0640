// What a session tells its client besides entries. Messages wait in the session, in their order,
// until session_writeable sends them.
#pragma once

#include "sinks/websocket/session.h"

void message_hello(struct session *s);
void message_health(struct session *s);
void message_subscribed(struct session *s, const struct subscription *sub, bool resumed);
void message_unsubscribed(struct session *s, const char *id);
// The subscription is ended, or not made: its position cannot be continued.
void message_reset(struct session *s, const char *id, const char *code, const char *why);
// id: of the subscription that it is about; "": the nameless one, or the whole connection.
void message_error(struct session *s, const char *id, const char *code, const char *why,
                   bool retry);

size_t message_count(const struct session *s);
// The first that waits (there is one); it begins behind SCRATCH_HEADROOM bytes.
struct buf *message_first(struct session *s);
void message_drop(struct session *s);
