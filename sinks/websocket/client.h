// The client's side: the address of a running rowcast. websocket_get and websocket_tail stand in
// websocket.h.
#pragma once

#include "base/err.h"

#define ADDRESS_PORT_DEFAULT 7654

// An error's text: authority, cause.
#define NO_ANSWER                                                                                  \
    "no rowcast answers at %s (%s): is `rowcast run` up, and is this what its --listen says?"

struct address {
    char host[256]; // without the brackets of an IPv6 address
    int port;
    char authority[272]; // HOST:PORT, as the Host header says it
};

// ws://HOST[:PORT][/], also http://.. or no scheme; ERR_USAGE otherwise.
int address_parse(const char *url, struct address *ret_a, struct err *e) MUST_CHECK;
