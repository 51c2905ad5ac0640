#include "source/connect/connection.h"

#include "base/clock.h"
#include "base/log.h"
#include "source/connect/refusal.h"
#include "source/connect/tls.h"

#include <ctype.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>

void pgresult_p(PGresult **r)
{
    PQclear(*r);
}

// ---- errors ----

// One line of a message that may have several.
static void put_line(struct buf *out, const char *text, size_t n)
{
    while (n && isspace((unsigned char)text[n - 1]))
        n--;
    for (size_t i = 0; i < n; i++) {
        bool space = isspace((unsigned char)text[i]);
        if (!space || (i > 0 && !isspace((unsigned char)text[i - 1])))
            buf_putc(out, space ? ' ' : text[i]);
    }
}

static int fail(struct connection *c, struct buf *text, struct err *e)
{
    struct refusal r = refusal_find(c->sqlstate, buf_cstr(text));
    struct tls_fault fault;
    // A stream that goes on beside this connection would have to wait.
    if (strstr(buf_cstr(text), "certificate verify failed") && !c->waiter->tick &&
        tls_explain(c->pg, &fault)) {
        buf_printf(text, ": %s", fault.text);
        r.remedy = fault.remedy;
    }
    return err_set(e, r.class, "%s%s%s", buf_cstr(text), r.remedy ? "; remedy: " : "",
                   r.remedy ? r.remedy : "");
}

// The last LSN in a text that may be translated; 0: there is none.
static lsn_t last_lsn(const char *text)
{
    lsn_t last = 0;
    for (const char *word = text; word && *word; word += strspn(word, " \n,.")) {
        size_t n = strcspn(word, " \n,.");
        char one[LSN_TEXT_MAX];
        lsn_t lsn;
        snprintf(one, sizeof one, "%.*s", (int)n, word);
        if (n < sizeof one && lsn_parse(one, &lsn))
            last = lsn;
        word += n;
    }
    return last;
}

static int result_error(struct connection *c, const PGresult *r, struct err *e)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    snprintf(c->sqlstate, sizeof c->sqlstate, "%s", state ? state : "");
    AUTO_BUF struct buf text = {0};
    const char *primary = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);
    const char *context = PQresultErrorField(r, PG_DIAG_CONTEXT);
    c->error_lsn = last_lsn(context);
    const char *whole = primary ? primary : PQresultErrorMessage(r);
    put_line(&text, whole, strlen(whole));
    if (state)
        buf_printf(&text, " (SQLSTATE %s)", state);
    const char *const more[] = {detail, hint, context};
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        if (more[i]) {
            buf_puts(&text, "; ");
            put_line(&text, more[i], strlen(more[i]));
        }
    }
    return fail(c, &text, e);
}

// libpq has no SQLSTATE for a refused connection; but asked to be verbose, it prints it:
// "FATAL:  28P01: password authentication failed for user "x"\nLOCATION:  ..".
static int connect_error(struct connection *c, struct err *e)
{
    static const char asks[] = "\tIs the server running"; // our remedy says the same
    const char *message = PQerrorMessage(c->pg);
    AUTO_BUF struct buf text = {0};
    c->sqlstate[0] = 0;
    for (const char *line = message; *line;) {
        size_t n = strcspn(line, "\n");
        const char *state = memmem(line, n, ":  ", 3);
        if (state && state + 10 <= line + n && state[8] == ':' && state[9] == ' ') {
            snprintf(c->sqlstate, sizeof c->sqlstate, "%.5s", state + 3);
            put_line(&text, line, (size_t)(state - line) + 1);
            buf_putc(&text, ' ');
            put_line(&text, state + 10, n - (size_t)(state + 10 - line));
            buf_printf(&text, " (SQLSTATE %s)", c->sqlstate);
        } else if (strncmp(line, "LOCATION:", 9) != 0 && strncmp(line, asks, strlen(asks)) != 0 &&
                   n) {
            if (text.n)
                buf_puts(&text, "; ");
            put_line(&text, line, n);
        }
        line += n + (line[n] == '\n');
    }
    fail(c, &text, e);
    if (strcmp(c->sqlstate, "42501") != 0)
        return -1;
    AUTO_BUF struct buf role = {0};
    sql_identifier(&role, PQuser(c->pg));
    return err_set(e, ERR_SOURCE, "%s; remedy: ALTER ROLE %s REPLICATION", buf_cstr(&text),
                   buf_cstr(&role));
}

int connection_error(struct connection *c, const PGresult *r, struct err *e)
{
    if (r && PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY))
        return result_error(c, r, e);
    c->sqlstate[0] = 0;
    AUTO_BUF struct buf text = {0};
    const char *message = PQerrorMessage(c->pg);
    put_line(&text, message, strlen(message));
    if (text.n == 0)
        buf_puts(&text, "server closed the connection");
    return err_set(e, ERR_RETRY, "server %s, port %s: %s", PQhost(c->pg), PQport(c->pg),
                   buf_cstr(&text));
}

static int stopped(struct err *e)
{
    return err_set(e, ERR_RETRY, "%s", "");
}

static int timed_out(struct connection *c, const char *what, struct err *e)
{
    snprintf(c->sqlstate, sizeof c->sqlstate, "wait");
    return err_set(e, ERR_RETRY, "no answer from the server in time (%s)", what);
}

static void on_notice(void *arg, const PGresult *r)
{
    struct connection *c = arg;
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    bool held = text && strstr(text, "synchronized_standby_slots");
    // The text may be translated; no other warning of a walsender has this code.
    if (state && strcmp(state, "55000") == 0 && text && !held &&
        (strstr(text, "skipped loading publication") || strchr(text, '"')))
        c->publication_skipped = true;
    if (held && !c->held_back) // again and again
        log_warn("the server holds the stream back until a standby has the same", "cause=%s",
                 log_quote(text));
    c->held_back |= held;
    c->ended |= state && strcmp(state, "57P01") == 0; // libpq takes it for a notice then
    log_debug("notice from the server", "sqlstate=%s text=%s", state ? state : "-",
              log_quote(text ? text : ""));
}

// ---- life ----

int connection_proceed(struct connection *c, struct err *e)
{
    PostgresPollingStatusType status = PQconnectPoll(c->pg);
    if (status == PGRES_POLLING_FAILED)
        return connect_error(c, e);
    c->opening = status == PGRES_POLLING_OK        ? 0
                 : status == PGRES_POLLING_READING ? POLLIN
                                                   : POLLOUT;
    if (c->opening)
        return 0;
    PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
    CHECK(PQsetnonblocking(c->pg, 1) == 0);
    c->version = PQserverVersion(c->pg);
    return 0;
}

static int wait_open(struct connection *c, int64_t deadline, struct err *e)
{
    while (c->opening) {
        switch (waiter_wait(c->waiter, PQsocket(c->pg), c->opening, deadline)) {
        case WAIT_STOPPED:
            return stopped(e);
        case WAIT_TIMEOUT:
            return timed_out(c, "connect", e);
        case WAIT_READY:
            if (connection_proceed(c, e) != 0)
                return -1;
        }
        // A server may also send and send, without ever coming to the point.
        if (c->opening && clock_mono_us() >= deadline)
            return timed_out(c, "connect", e);
    }
    return 0;
}

int connection_begin(const struct conninfo *ci, struct waiter *w, struct connection **ret_c,
                     struct err *e)
{
    struct connection *c = xcalloc(1, sizeof *c);
    c->waiter = w;
    c->opening = POLLOUT;
    c->pg = PQconnectStartParams((const char *const *)ci->keys, (const char *const *)ci->values, 0);
    CHECK(c->pg);
    if (PQstatus(c->pg) == CONNECTION_BAD) {
        connect_error(c, e);
        connection_close(c);
        return -1;
    }
    PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(c->pg, on_notice, c);
    *ret_c = c;
    return 0;
}

const char *connection_encoding(const struct connection *c)
{
    const char *encoding = PQparameterStatus(c->pg, "server_encoding");
    return encoding && strcmp(encoding, "SQL_ASCII") == 0 ? "set client_encoding = 'SQL_ASCII'"
                                                          : NULL;
}

static int match_encoding(struct connection *c, int64_t deadline, struct err *e)
{
    const char *set = connection_encoding(c);
    AUTO_RESULT PGresult *r = NULL;
    return set ? connection_query(c, deadline, &r, e, "%s", set) : 0;
}

int connection_open(const struct conninfo *ci, struct waiter *w, struct connection **ret_c,
                    struct err *e)
{
    struct connection *c;
    int64_t deadline = clock_mono_us() + ci->timeout_us;
    if (connection_begin(ci, w, &c, e) != 0)
        return -1;
    if (wait_open(c, deadline, e) != 0 || match_encoding(c, deadline, e) != 0) {
        connection_close(c);
        return -1;
    }
    *ret_c = c;
    return 0;
}

void connection_same_server(const struct connection *c, struct conninfo *ci)
{
    conninfo_set(ci, "host", PQhost(c->pg));
    conninfo_set(ci, "port", PQport(c->pg));
    conninfo_set(ci, "hostaddr", PQhostaddr(c->pg));
}

void connection_close(struct connection *c)
{
    if (!c)
        return;
    PQfinish(c->pg);
    free(c);
}

// ---- queries ----

static int flush(struct connection *c, int64_t deadline, struct err *e)
{
    for (;;) {
        int r = PQflush(c->pg);
        if (r == 0)
            return 0;
        if (r < 0)
            return connection_error(c, NULL, e);
        switch (waiter_wait(c->waiter, PQsocket(c->pg), POLLIN | POLLOUT, deadline)) {
        case WAIT_STOPPED:
            return stopped(e);
        case WAIT_TIMEOUT:
            return timed_out(c, "query", e);
        case WAIT_READY:
            if (!PQconsumeInput(c->pg))
                return connection_error(c, NULL, e);
        }
    }
}

int connection_send(struct connection *c, const char *sql, struct err *e)
{
    c->sqlstate[0] = 0;
    if (!PQsendQuery(c->pg, sql))
        return connection_error(c, NULL, e);
    return 0;
}

static int next_result(struct connection *c, int64_t deadline, PGresult **ret_r, struct err *e)
{
    while (PQisBusy(c->pg)) {
        switch (waiter_wait(c->waiter, PQsocket(c->pg), POLLIN, deadline)) {
        case WAIT_STOPPED:
            return stopped(e);
        case WAIT_TIMEOUT:
            return timed_out(c, "query", e);
        case WAIT_READY:
            if (!PQconsumeInput(c->pg))
                return connection_error(c, NULL, e);
        }
        if (PQisBusy(c->pg) && clock_mono_us() >= deadline)
            return timed_out(c, "query", e);
    }
    *ret_r = PQgetResult(c->pg);
    return 0;
}

int connection_result(struct connection *c, int64_t deadline, PGresult **ret_r, struct err *e)
{
    if (flush(c, deadline, e) != 0)
        return -1;
    PGresult *last = NULL;
    int r = 0;
    for (;;) {
        PGresult *next = NULL;
        if (next_result(c, deadline, &next, e) != 0) {
            PQclear(last);
            return -1;
        }
        if (!next)
            break;
        PQclear(last);
        last = next;
        ExecStatusType status = PQresultStatus(next);
        if (status == PGRES_COPY_BOTH)
            break;
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT) { // PQgetResult would never end
            PQclear(last);
            return err_set(e, ERR_RETRY, "the server answers with a copy that nobody asked for");
        }
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && r == 0)
            r = connection_error(c, next, e);
    }
    if (r == 0 && !last)
        r = connection_error(c, NULL, e);
    if (r != 0)
        PQclear(last);
    else
        *ret_r = last;
    return r;
}

int connection_next_result(struct connection *c, int64_t deadline, PGresult **ret_r, struct err *e)
{
    return flush(c, deadline, e) != 0 ? -1 : next_result(c, deadline, ret_r, e);
}

int connection_copy_row(struct connection *c, char **ret_row, struct err *e)
{
    for (;;) {
        int n = PQgetCopyData(c->pg, ret_row, 1);
        if (likely(n > 0))
            return n;
        if (n == -1)
            return 0;
        if (n < 0)
            return connection_error(c, NULL, e);
        if (waiter_wait(c->waiter, PQsocket(c->pg), POLLIN, INT64_MAX) != WAIT_READY)
            return stopped(e);
        if (!PQconsumeInput(c->pg))
            return connection_error(c, NULL, e);
    }
}

int connection_query(struct connection *c, int64_t deadline, PGresult **ret_r, struct err *e,
                     const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    AUTO_FREE char *sql = NULL;
    int n = vasprintf(&sql, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    if (connection_send(c, sql, e) != 0)
        return -1;
    return connection_result(c, deadline, ret_r, e);
}

// ---- text ----

static void quoted(struct buf *out, const char *text, char quote)
{
    buf_putc(out, quote);
    for (; *text; text++) {
        if (*text == quote)
            buf_putc(out, quote);
        buf_putc(out, *text);
    }
    buf_putc(out, quote);
}

void sql_literal(struct buf *out, const char *text)
{
    quoted(out, text, '\''); // standard_conforming_strings is on since 9.1
}

void sql_identifier(struct buf *out, const char *text)
{
    quoted(out, text, '"');
}

const char *result_text(const PGresult *r, int row, int column)
{
    // NULL: there is no such row or column, whatever the server was asked.
    const char *text = PQgetvalue(r, row, column);
    return text ? text : "";
}

bool result_bool(const PGresult *r, int row, int column)
{
    return result_text(r, row, column)[0] == 't';
}

lsn_t result_lsn(const PGresult *r, int row, int column)
{
    lsn_t lsn = 0;
    return lsn_parse(result_text(r, row, column), &lsn) ? lsn : 0;
}

uint32_t result_u32(const PGresult *r, int row, int column)
{
    return (uint32_t)strtoul(result_text(r, row, column), NULL, 10);
}

int64_t result_i64(const PGresult *r, int row, int column, int64_t most)
{
    int64_t v = strtoll(result_text(r, row, column), NULL, 10);
    return v > most ? most : v < -most ? -most : v;
}
