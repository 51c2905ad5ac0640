// The connection string: what the user gave, and what has to be merged into it. Nothing here is
// ever printed: it holds the password.
#pragma once

#include "source/source.h"

enum conninfo_use {
    CONNINFO_SQL,    // an ordinary session: look-ups, checks
    CONNINFO_STREAM, // a walsender
};

#define CONNINFO_MAX 64

struct conninfo {
    char *keys[CONNINFO_MAX + 1]; // NULL-terminated, as libpq wants them
    char *values[CONNINFO_MAX + 1];
    size_t n;
    int64_t timeout_us; // for all hosts together
};

// Reads the password file anew. ERR_USAGE: not a connection string, no password file.
int conninfo_make(const struct source_options *o, enum conninfo_use use, struct conninfo *ret_ci,
                  struct err *e) MUST_CHECK;
void conninfo_fini(struct conninfo *ci); // passwords are wiped
// Sets or replaces one; an empty value is none.
void conninfo_set(struct conninfo *ci, const char *key, const char *value);
// What the server will know the session by.
const char *conninfo_application(const struct conninfo *ci);
const char *conninfo_get(const struct conninfo *ci, const char *key); // or NULL
