// One libpq connection, never blocking: every wait goes through the waiter.
#pragma once

#include "source/connect/conninfo.h"
#include "source/connect/waiter.h"

#include <libpq-fe.h>

struct connection {
    PGconn *pg;
    struct waiter *waiter;
    short opening;            // being opened: the socket's events to wait for; 0: open
    int version;              // PQserverVersion: 180004
    char sqlstate[6];         // of the last error; "": none was given
    lsn_t error_lsn;          // that its context names ("associated LSN 0/16B3748"); 0: none
    bool ended;               // idle, it was told that an administrator ended it (57P01)
    bool publication_skipped; // 18 noted "skipped loading publication"
    bool held_back;           // 17 warned of synchronized_standby_slots
};

void pgresult_p(PGresult **r);
#define AUTO_RESULT __attribute__((cleanup(pgresult_p)))

// Errors: ERR_RETRY where it may pass by itself, ERR_SOURCE where somebody has to do something.
// ERR_RETRY with an empty text: source_stop was called.
int connection_open(const struct conninfo *ci, struct waiter *w, struct connection **ret_c,
                    struct err *e) MUST_CHECK;
// The same without waiting: connection_proceed is to be called when the socket is ready for
// `opening`, until that is 0. Looking up a host's name would wait: give hostaddr.
int connection_begin(const struct conninfo *ci, struct waiter *w, struct connection **ret_c,
                     struct err *e) MUST_CHECK;
int connection_proceed(struct connection *c, struct err *e) MUST_CHECK;
// Text of an SQL_ASCII database, names too, is in no known encoding: what makes the server give its
// bytes as they are, or NULL. connection_open has done it.
const char *connection_encoding(const struct connection *c);
// The server that c is connected to, whatever a list of hosts or a name server says now.
void connection_same_server(const struct connection *c, struct conninfo *ci);
void connection_close(struct connection *c); // NULL is fine

// Simple query (the only kind that a walsender knows); sets c->sqlstate. deadline_us as in waiter.
// The result is one with rows, COMMAND_OK or COPY_BOTH; the last one of several statements.
int connection_query(struct connection *c, int64_t deadline_us, PGresult **ret_r, struct err *e,
                     const char *fmt, ...) PRINTF_LIKE(5, 6) MUST_CHECK;
// The two halves of it, for those who do something else in between.
int connection_send(struct connection *c, const char *sql, struct err *e) MUST_CHECK;
int connection_result(struct connection *c, int64_t deadline_us, PGresult **ret_r,
                      struct err *e) MUST_CHECK; // past the deadline: -1, sqlstate "wait"
// One by one, for a string of several statements, errors among them; NULL: it was the last.
int connection_next_result(struct connection *c, int64_t deadline_us, PGresult **ret_r,
                           struct err *e) MUST_CHECK;
// The next row of a COPY TO STDOUT, to be freed with PQfreemem; its length, 0 at the end, or -1.
int connection_copy_row(struct connection *c, char **ret_row, struct err *e) MUST_CHECK;
// Fills e from what the connection or a result says; returns -1.
int connection_error(struct connection *c, const PGresult *r, struct err *e);
// text as an SQL literal or identifier.
void sql_literal(struct buf *out, const char *text);
void sql_identifier(struct buf *out, const char *text);

// A field of a result as a string ("" for NULL), a flag ('t'), an LSN (0).
const char *result_text(const PGresult *r, int row, int column);
bool result_bool(const PGresult *r, int row, int column);
lsn_t result_lsn(const PGresult *r, int row, int column);
uint32_t result_u32(const PGresult *r, int row, int column);
// A number, at most `most` on either side of 0: what follows may be reckoned without an overflow,
// whatever the server says.
int64_t result_i64(const PGresult *r, int row, int column, int64_t most);
