// Who may talk to us. A browser sends any page's requests to any address, and WebSockets know no
// CORS: without these two checks every page that a developer opens could read his database.
//   Host: a name that an attacker pointed at our address (DNS rebinding) is refused.
//   Origin: a page of another site is refused; no Origin: not a browser.
// Pure: no socket, no log.
#pragma once

#include "base/base.h"

struct guard {
    char *const *origins; // allowed besides the same origin; "*": all
    size_t origin_count;
    char *const *hosts; // allowed besides loopback names and our own address
    size_t host_count;
};

// `host`: the Host header (NULL: none). `local`: the address that the connection came in on, as
// text without port or brackets.
bool guard_host(const struct guard *g, const char *host, const char *local);
// `origin`: the Origin header, NULL when there is none.
bool guard_origin(const struct guard *g, const char *origin, const char *host);
