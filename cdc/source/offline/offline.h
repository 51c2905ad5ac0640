// A waiter that nobody stops: for commands that ask the server something and end.
#pragma once

#include "source/connect/waiter.h"

struct offline {
    _Atomic bool stopped;
    struct waiter waiter;
};

void offline_init(struct offline *o);
void offline_fini(struct offline *o);
