#include "source/connect/conninfo.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <strings.h>
#include <unistd.h>

#define SECRET_MAX        4096
#define TIMEOUT_DEFAULT_S 10

// Text values are made in our session: whatever the role or the database says, they look the same;
// and 18 says only by a warning that it leaves changes out.
static const char PINNED[] =
    "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c timezone=UTC "
    "-c bytea_output=hex -c lc_monetary=C -c search_path=pg_catalog "
    "-c standard_conforming_strings=on -c statement_timeout=0 -c client_min_messages=warning "
    "-c default_transaction_read_only=off";

const char *conninfo_get(const struct conninfo *ci, const char *key)
{
    for (size_t i = 0; i < ci->n; i++) {
        if (strcmp(ci->keys[i], key) == 0)
            return ci->values[i];
    }
    return NULL;
}

static void wipe(char *secret)
{
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): its caller has read one
    explicit_bzero(secret, strlen(secret));
    free(secret);
}

void conninfo_set(struct conninfo *ci, const char *key, const char *value)
{
    for (size_t i = 0; i < ci->n; i++) {
        if (strcmp(ci->keys[i], key) == 0) {
            wipe(ci->values[i]);
            ci->values[i] = xstrdup(value);
            return;
        }
    }
    CHECK(ci->n < CONNINFO_MAX);
    ci->keys[ci->n] = xstrdup(key);
    ci->values[ci->n] = xstrdup(value);
    ci->n++;
    ci->keys[ci->n] = ci->values[ci->n] = NULL;
}

static void set_default(struct conninfo *ci, const char *key, const char *value)
{
    if (!conninfo_get(ci, key))
        conninfo_set(ci, key, value);
}

void conninfo_fini(struct conninfo *ci)
{
    for (size_t i = 0; i < ci->n; i++) {
        free(ci->keys[i]);
        wipe(ci->values[i]);
    }
    *ci = (struct conninfo){0};
}

// libpq quotes the part that it did not understand: that may be (a part of) the password, quotes in
// it and all.
static int refuse(struct err *e, char *message)
{
    const char *all = message ? message : "out of memory";
    const char *first = strchr(all, '"'), *last = strrchr(all, '"');
    AUTO_BUF struct buf text = {0};
    buf_put(&text, all, first ? (size_t)(first - all) : strcspn(all, "\n"));
    if (first)
        buf_printf(&text, "\"...%.*s", (int)strcspn(last, "\n"), last);
    PQfreemem(message);
    return err_set(e, ERR_USAGE,
                   "source: not a connection string: %s; give one such as "
                   "\"host=db.example port=5432 dbname=shop user=rowcast\" or "
                   "postgresql://rowcast@db.example/shop",
                   buf_cstr(&text));
}

// A password with @ or / as it is ends early for libpq: the rest becomes the host, the port or the
// database, and shows in every message that names them.
static int check_url(const char *text, const struct conninfo *ci, struct err *e)
{
    if (strncmp(text, "postgres://", 11) != 0 && strncmp(text, "postgresql://", 13) != 0)
        return 0;
    const char *host = strchr(text, '/') + 2, *port = conninfo_get(ci, "port");
    host += strcspn(host, "@/");
    host += *host == '@';
    if (!memchr(host, '@', strcspn(host, "?")) && (!port || !port[strspn(port, "0123456789,")]))
        return 0;
    return err_set(e, ERR_USAGE,
                   "source: the URL has an @ too many, or a port that is no number; in a password "
                   "write %%40 for @, %%2F for /, %%3A for : and %%25 for %%, or use "
                   "--password-file");
}

static int parse(const char *text, struct conninfo *ci, struct err *e)
{
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(text, &message);
    if (!options)
        return refuse(e, message);
    for (const PQconninfoOption *o = options; o->keyword; o++) {
        if (o->val)
            conninfo_set(ci, o->keyword, o->val);
    }
    PQconninfoFree(options);
    return check_url(text, ci, e);
}

static int read_password(const char *path, struct conninfo *ci, struct err *e)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, ERR_USAGE, "password file %s", path);
    char secret[SECRET_MAX + 1];
    ssize_t n = read(fd, secret, SECRET_MAX);
    if (n < 0)
        return err_errno(e, ERR_USAGE, "password file %s", path);
    secret[n] = 0;
    secret[strcspn(secret, "\r\n")] = 0;
    conninfo_set(ci, "password", secret);
    explicit_bzero(secret, sizeof secret);
    return 0;
}

static void pin_options(struct conninfo *ci)
{
    // PGOPTIONS would be ignored once we say anything ourselves.
    const char *given = conninfo_get(ci, "options");
    if (!given)
        given = getenv("PGOPTIONS");
    AUTO_FREE char *options = xasprintf("%s%s%s", given ? given : "", given ? " " : "", PINNED);
    conninfo_set(ci, "options", options);
}

const char *conninfo_application(const struct conninfo *ci)
{
    const char *given = conninfo_get(ci, "application_name");
    if (!given || !*given)
        given = getenv("PGAPPNAME");
    return given && *given ? given : conninfo_get(ci, "fallback_application_name");
}

static void find_timeout(struct conninfo *ci)
{
    const char *given = conninfo_get(ci, "connect_timeout");
    long seconds = given ? strtol(given, NULL, 10) : 0;
    if (seconds <= 0 || seconds > 3600)
        seconds = TIMEOUT_DEFAULT_S;
    long hosts = 1;
    const char *host = conninfo_get(ci, "host");
    for (; host && *host; host++)
        hosts += *host == ',';
    // Several hosts: one that swallows packets is given up by tcp_user_timeout, then the next.
    ci->timeout_us = (seconds + (hosts > 1 ? 30 * hosts : 0)) * INT64_C(1000000);
    if (hosts > 1)
        set_default(ci, "target_session_attrs",
                    PQlibVersion() >= 140000 ? "primary" : "read-write");
}

int conninfo_make(const struct source_options *o, enum conninfo_use use, struct conninfo *ret_ci,
                  struct err *e)
{
    struct conninfo ci = {0};
    if (parse(o->conninfo, &ci, e) != 0 ||
        (o->password_file && read_password(o->password_file, &ci, e) != 0)) {
        conninfo_fini(&ci);
        return -1;
    }
    pin_options(&ci);
    AUTO_FREE char *name = xasprintf("rowcast_%s", o->slot ? o->slot : "check");
    set_default(&ci, "fallback_application_name", name);
    set_default(&ci, "keepalives_idle", "10");
    set_default(&ci, "keepalives_interval", "5");
    set_default(&ci, "keepalives_count", "3");
    set_default(&ci, "tcp_user_timeout", "30000");
    find_timeout(&ci);
    conninfo_set(&ci, "client_encoding", "UTF8");
    if (use != CONNINFO_SQL)
        conninfo_set(&ci, "replication", "database");
    *ret_ci = ci;
    return 0;
}
