#include "sinks/websocket/guard.h"

#include <strings.h>

// The name in "name", "name:port", "[v6]" or "[v6]:port"; empty when it is anything else, such as
// the values of two Host headers put together.
static struct slice host_name(const char *host)
{
    const char *name = host, *rest;
    if (host[0] == '[') {
        name++;
        rest = name + strspn(name, "0123456789abcdefABCDEF:.");
        if (*rest++ != ']')
            return (struct slice){(const uint8_t *)host, 0};
    } else {
        rest = name + strcspn(name, ":, \t/@[]");
    }
    size_t n = (size_t)(rest - name) - (host[0] == '[');
    if (*rest == ':')
        rest += 1 + strspn(rest + 1, "0123456789");
    return (struct slice){(const uint8_t *)name, *rest ? 0 : n};
}

static bool name_is(struct slice name, const char *text)
{
    return strlen(text) == name.n && strncasecmp((const char *)name.p, text, name.n) == 0;
}

bool guard_host(const struct guard *g, const char *host, const char *local)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "::1"};
    if (!host)
        return false;
    struct slice name = host_name(host);
    if (name.n == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(loopback); i++) {
        if (name_is(name, loopback[i]))
            return true;
    }
    for (size_t i = 0; i < g->host_count; i++) {
        if (strcmp(g->hosts[i], "*") == 0 || name_is(name, g->hosts[i]) ||
            strcasecmp(g->hosts[i], host) == 0)
            return true;
    }
    return name_is(name, local);
}

// Takes "scheme://" off an origin; *ret_port is the port that goes without saying.
static const char *origin_authority(const char *origin, const char **ret_port)
{
    if (strncasecmp(origin, "http://", 7) == 0) {
        *ret_port = ":80";
        return origin + 7;
    }
    if (strncasecmp(origin, "https://", 8) == 0) {
        *ret_port = ":443";
        return origin + 8;
    }
    return NULL;
}

// a == b, or a == b with the default port behind it.
static bool same_authority(const char *a, const char *b, const char *port)
{
    size_t n = strlen(b);
    return strncasecmp(a, b, n) == 0 && (a[n] == 0 || strcmp(a + n, port) == 0);
}

bool guard_origin(const struct guard *g, const char *origin, const char *host)
{
    if (!origin)
        return true;
    for (size_t i = 0; i < g->origin_count; i++) {
        if (strcmp(g->origins[i], "*") == 0 || strcasecmp(g->origins[i], origin) == 0)
            return true;
    }
    const char *port, *authority = origin_authority(origin, &port);
    if (!authority || !host)
        return false;
    return same_authority(authority, host, port) || same_authority(host, authority, port);
}
