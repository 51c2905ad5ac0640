// A change's JSON as a line for people.
#pragma once

#include "sinks/websocket/scan.h"

// "15:44:00.123 update public.orders id="7" status: "new" -> "paid"\n" (UTC); nothing for what is
// no news to people (relation, end, progress). colours: ANSI escapes around operation and table.
void tail_line(struct buf *out, struct slice entry, bool colours);
