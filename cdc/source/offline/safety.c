#include "source/offline/safety.h"

#include "base/clock.h"

#include <stdio.h>
#include <sys/stat.h>

#define QUERY_US INT64_C(30000000)

static void warn(struct preflight *p, const char *object, const char *cause, const char *remedy)
{
    p->report(p->arg, FINDING_WARN, ERR_NONE, object, cause, remedy);
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++) {
        if (strcmp(options->keyword, keyword) == 0)
            return options->val ? options->val : "";
    }
    return "";
}

// An address (a literal, no name), or the path of a Unix socket, that stays on this machine.
static bool is_local(const char *address)
{
    return *address == '/' || *address == '@' || strncmp(address, "127.", 4) == 0 ||
           strcmp(address, "::1") == 0;
}

static bool over_network(const PGconn *pg)
{
    const char *address = PQhostaddr(pg);
    return !is_local(PQhost(pg)) && !is_local(address ? address : "");
}

// ---- the way to the server ----

static void check_encryption(struct preflight *p, const PQconninfoOption *options)
{
    PGconn *pg = p->sql->pg;
    const char *mode = option(options, "sslmode");
    if (PQgssEncInUse(pg)) {
        p->report(p->arg, FINDING_OK, ERR_NONE, "encryption", "by GSSAPI", "");
        return;
    }
    if (!PQsslInUse(pg)) {
        if (over_network(pg))
            warn(p, "encryption", "there is none: whoever is on the way reads the rows",
                 "turn ssl on at the server; sslmode=verify-full and sslrootcert in --source");
        return;
    }
    AUTO_FREE char *cause = xasprintf("%s, sslmode=%s", PQsslAttribute(pg, "protocol"), mode);
    p->report(p->arg, FINDING_OK, ERR_NONE, "encryption", cause, "");
    if (!over_network(pg))
        return;
    if (strcmp(mode, "verify-ca") == 0)
        warn(p, "sslmode",
             "is verify-ca: any server with a certificate of this CA may pretend to be this one",
             "sslmode=verify-full in --source");
    else if (strcmp(mode, "verify-full") != 0)
        warn(p, "sslmode",
             "lets anybody on the way pretend to be the server: its certificate is not verified",
             "sslmode=verify-full and sslrootcert in --source");
    if (PQconnectionUsedPassword(pg) && strcmp(option(options, "channel_binding"), "require") != 0)
        warn(p, "channel_binding", "is not required: a server in between could pass the log-in on",
             "channel_binding=require in --source (needs a SCRAM password)");
    const char *min = option(options, "ssl_min_protocol_version");
    if (strcmp(min, "TLSv1") == 0 || strcmp(min, "TLSv1.1") == 0)
        warn(p, "ssl_min_protocol_version", "admits protocols that are broken",
             "leave it out of --source, or say TLSv1.2");
}

// ---- the log-in ----

// method: what system_user says (16 and newer), "": it is not known.
static void check_method(struct preflight *p, const PQconninfoOption *options, const char *method,
                         bool trusted, bool md5)
{
    PGconn *pg = p->sql->pg;
    bool tcp = *PQhost(pg) != '/' && *PQhost(pg) != '@';
    if (p->sql->version < 160000)
        trusted = tcp && !PQconnectionUsedPassword(pg) && !PQgssEncInUse(pg) &&
                  !*option(options, "sslcert");
    if (trusted)
        warn(p, "log-in", "the server asks for no password or certificate (trust)",
             "a line with scram-sha-256 or cert for the role in pg_hba.conf");
    else if (strcmp(method, "ident") == 0)
        warn(p, "log-in", "by ident, which believes the other machine",
             "a line with scram-sha-256 or cert for the role in pg_hba.conf");
    else if (strcmp(method, "password") == 0)
        warn(p, "log-in", "the password is sent in clear text (method password)",
             "scram-sha-256 in pg_hba.conf; require_auth=scram-sha-256 in --source (libpq 16)");
    else if (strcmp(method, "md5") == 0 || md5)
        warn(p, "log-in", "the password is kept and sent as md5, which can be guessed fast",
             "SET password_encryption = 'scram-sha-256'; ALTER ROLE .. PASSWORD ..; then "
             "scram-sha-256 in pg_hba.conf");
}

static int check_role(struct preflight *p, const PQconninfoOption *options, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    // pg_authid is for superusers; system_user came with 16.
    if (connection_query(p->sql, clock_mono_us() + QUERY_US, &r, e,
                         "select rolsuper, has_table_privilege('pg_catalog.pg_authid', 'select'), "
                         "%s, current_setting('password_encryption') in ('md5', 'on') "
                         "from pg_roles where rolname = current_user",
                         p->sql->version >= 160000
                             ? "coalesce(split_part(system_user, ':', 1), 'trust')"
                             : "''") != 0)
        return -1;
    if (PQntuples(r) == 0)
        return 0;
    if (result_bool(r, 0, 0))
        warn(p, "role", "is a superuser: more than rowcast needs",
             "CREATE ROLE .. LOGIN REPLICATION PASSWORD ..; with CREATE on the database and as "
             "owner "
             "of the tables, if it is to make the publication");
    const char *method = result_text(r, 0, 2);
    bool md5 = false;
    if (result_bool(r, 0, 1) && PQconnectionUsedPassword(p->sql->pg)) {
        AUTO_RESULT PGresult *hash = NULL;
        if (connection_query(p->sql, clock_mono_us() + QUERY_US, &hash, e,
                             "select rolpassword like 'md5%%' from pg_catalog.pg_authid where "
                             "rolname = current_user") != 0)
            return -1;
        md5 = PQntuples(hash) == 1 && result_bool(hash, 0, 0);
    }
    check_method(p, options, method, strcmp(method, "trust") == 0, md5);
    if (result_bool(r, 0, 3))
        warn(p, "password_encryption", "is md5: the next password will be kept as md5",
             "ALTER SYSTEM SET password_encryption = 'scram-sha-256'; SELECT pg_reload_conf()");
    return 0;
}

// ---- secrets that lie about ----

static void check_file(struct preflight *p, const char *what, const char *path)
{
    struct stat st;
    if (!path || !*path || stat(path, &st) != 0 || !(st.st_mode & (S_IRWXO)))
        return;
    AUTO_FREE char *object = xasprintf("%s %s", what, path);
    AUTO_FREE char *cause = xasprintf("others may read it (mode %04o)", st.st_mode & 07777u);
    AUTO_FREE char *remedy = xasprintf("chmod 600 %s (Kubernetes: defaultMode: 0400)", path);
    warn(p, object, cause, remedy);
}

static void check_secrets(struct preflight *p)
{
    char *message = NULL;
    PQconninfoOption *given = PQconninfoParse(p->o->conninfo, &message);
    PQfreemem(message); // it was parsed before
    bool password = *option(given, "password") || *option(given, "sslpassword");
    if (password && p->o->conninfo_on_command_line)
        warn(p, "password",
             "stands on the command line: in the shell's history, and for an "
             "instant in ps",
             "--password-file, or ROWCAST_SOURCE in the environment");
    if (password)
        check_file(p, "configuration file", p->o->config_file);
    check_file(p, "password file", p->o->password_file);
    PQconninfoFree(given);
}

int safety_check(struct preflight *p, struct err *e)
{
    PQconninfoOption *options = PQconninfo(p->sql->pg);
    check_encryption(p, options);
    check_secrets(p);
    int r = check_role(p, options, e);
    PQconninfoFree(options);
    return r;
}
