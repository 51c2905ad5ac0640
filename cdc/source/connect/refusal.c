#include "source/connect/refusal.h"

struct cause {
    const char *sqlstate; // or the beginning of one
    enum err_class class;
    const char *remedy;
};

// What passes by itself, or has a remedy that is always the same. All others need somebody who does
// something; while streaming the caller counts how often they come.
static const struct cause CAUSES[] = {
    {"08", ERR_RETRY, NULL},
    {"40", ERR_RETRY, NULL},
    {"53", ERR_RETRY, NULL},
    {"55", ERR_RETRY, NULL},
    {"57", ERR_RETRY, NULL},
    {"58", ERR_RETRY, NULL},
    {"XX", ERR_RETRY, NULL},
    {"53300", ERR_RETRY, "raise max_wal_senders or max_connections, or end other sessions"},
    {"28", ERR_SOURCE, "create the role, or let it in with a line in pg_hba.conf"},
    {"28P01", ERR_SOURCE, "give the right password (--password-file, PGPASSWORD, ~/.pgpass)"},
    {"3D000", ERR_SOURCE, "name an existing database"},
    {"42501", ERR_SOURCE, "grant it to the role"},
    {"53400", ERR_SOURCE, "raise max_replication_slots, or drop a slot that nobody uses"},
    {"08P01", ERR_SOURCE,
     "if a pooler stands in between, give the address of the PostgreSQL server itself"},
};

static const struct cause *cause_of(const char *sqlstate)
{
    const struct cause *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(CAUSES); i++) {
        size_t n = strlen(CAUSES[i].sqlstate);
        if (strncmp(CAUSES[i].sqlstate, sqlstate, n) == 0 && (!best || n > strlen(best->sqlstate)))
            best = &CAUSES[i];
    }
    return best;
}

#define POOLER "a pooler stands in between: give the address of the PostgreSQL server itself"
#define KEY    "give with sslkey the private key of the certificate in sslcert"

// What libpq says by itself, without a SQLSTATE and, in the C locale, always in the same words;
// what poolers say, with codes of their own; and refusals with one code and many causes. The first
// counts.
static const struct {
    const char *said; // ^: at the beginning
    const char *remedy;
    enum err_class class;
    bool coded; // also with a SQLSTATE
} SAYINGS[] = {
    {"startup parameter", POOLER, ERR_SOURCE, true},
    {"replication=", POOLER, ERR_SOURCE, true},
    {"valid client certificate",
     "give sslcert and sslkey, made out to the role by a CA in the "
     "server's ssl_ca_file",
     ERR_SOURCE, true},
    {"certificate authentication failed",
     "give with sslcert a certificate that is made out to "
     "the role (its CN), or map its name in pg_ident.conf",
     ERR_SOURCE, true},
    {", no encryption",
     "let it in with a line in pg_hba.conf; if that has a hostssl line: "
     "sslmode=verify-full in --source",
     ERR_SOURCE, true},
    {", SSL off",
     "let it in with a line in pg_hba.conf; if that has a hostssl line: "
     "sslmode=verify-full in --source",
     ERR_SOURCE, true},
    {"^invalid ", "correct it in --source", ERR_USAGE, false},
    {"^could not match ", "correct it in --source", ERR_USAGE, false},
    {"no password supplied",
     "give a password: --password-file, PGPASSWORD or ~/.pgpass (which must "
     "not be readable by others)",
     ERR_SOURCE, false},
    {"does not support SSL", "turn ssl on at the server, or lower sslmode in --source", ERR_SOURCE,
     false},
    {"hannel binding",
     "it needs TLS and a SCRAM password: see sslmode, and password_encryption at "
     "the server; or lower channel_binding in --source",
     ERR_SOURCE, false},
    {"GSSAPI", "log in with Kerberos first (kinit), or lower gssencmode in --source", ERR_SOURCE,
     false},
    {"does not match host name",
     "give in --source the host name that the certificate is made out "
     "to (hostaddr may stand beside it), or have it made out to this one",
     ERR_SOURCE, false},
    {"root certificate file",
     "give with sslrootcert the certificate of the CA that signs the "
     "server's",
     ERR_SOURCE, false},
    {"certificate verify failed",
     "the server's certificate has expired, is revoked, or comes from "
     "a CA that is not in sslrootcert",
     ERR_SOURCE, false},
    {"private key file",
     KEY ", readable by nobody else (chmod 600); with sslpassword, where it is "
         "encrypted",
     ERR_SOURCE, false},
    {"does not match private key", KEY, ERR_SOURCE, false},
    {"alert unknown ca",
     "the server does not know the CA of sslcert: see its ssl_ca_file; sslcert "
     "must have the CAs in between too",
     ERR_SOURCE, false},
    {"alert certificate",
     "the server does not accept sslcert: have it renewed (expired, or "
     "revoked by the server's ssl_crl_file)",
     ERR_SOURCE, false},
    {"alert protocol version", "see ssl_min_protocol_version at the server and in --source",
     ERR_SOURCE, false},
    {"certificate", "see sslrootcert, sslcert, sslkey and sslmode in --source", ERR_SOURCE, false},
    {"session is read-only",
     "none of the hosts in --source is a primary now: see "
     "target_session_attrs",
     ERR_RETRY, false},
    {"server is in hot standby mode",
     "none of the hosts in --source is a primary now: see "
     "target_session_attrs",
     ERR_RETRY, false},
    {"could not translate host name",
     "correct the host in --source, or look after the name service", ERR_RETRY, false},
    {"Connection refused", "start the server, or correct host and port in --source", ERR_RETRY,
     false},
    {"No such file", "start the server, or correct host and port in --source", ERR_RETRY, false},
};

static bool says(const char *text, const char *said)
{
    const char *at = strstr(text, *said == '^' ? said + 1 : said);
    return *said == '^' ? at == text : at != NULL;
}

struct refusal refusal_find(const char *sqlstate, const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(SAYINGS); i++) {
        if ((SAYINGS[i].coded || !*sqlstate) && says(text, SAYINGS[i].said))
            return (struct refusal){SAYINGS[i].class, SAYINGS[i].remedy};
    }
    const struct cause *cause = cause_of(sqlstate);
    if (cause)
        return (struct refusal){cause->class, cause->remedy};
    return (struct refusal){*sqlstate ? ERR_SOURCE : ERR_RETRY, NULL};
}
