// The source: one replication slot, read, decoded and appended to the journal, and acknowledged as
// far as `safe` allows. Runs in its caller's thread.
#pragma once

#include "base/health.h"
#include "journal/journal.h"
#include "source/detach.h"

// Which existing rows are read unasked.
enum snapshot_mode {
    SNAPSHOT_MODE_NEVER,
    SNAPSHOT_MODE_INITIAL,     // of every wanted table, when the journal is new; of later ones too
    SNAPSHOT_MODE_WHEN_NEEDED, // and again when continuity was broken
};
enum on_gap { ON_GAP_STOP, ON_GAP_MARK };

struct source_options {
    const char *conninfo;      // a connection string or URL, as the user gave it
    const char *password_file; // or NULL; read again at each connect
    const char *config_file;   // that was read, or NULL; for `check`
    bool conninfo_on_command_line;
    const char *slot; // the stream's name too
    char *const *publications;
    size_t publication_count;
    char *const *tables; // globs: which tables a publication is created for, and which are kept
    size_t table_count;
    char *const *exclude_columns; // globs over schema.table.column: never stored
    size_t exclude_column_count;
    char *const *mask_columns; // globs: stored as "****"
    size_t mask_column_count;
    bool messages;          // logical messages (server 14+)
    bool streaming;         // large transactions are sent while they are open (server 14+)
    bool binary;            // ask for values in binary form (server 14+)
    bool origin_none;       // leave out what came to the server by replication (server 16+)
    const char *spool_base; // an existing folder; they are kept in its folder `spool`, once their
    size_t spool_memory;    // memory is full (0: unlimited)
    uint64_t spool_bytes;   // limit of that folder (0: unlimited)
    bool create;            // create publication and slot when missing
    enum snapshot_mode snapshot;
    enum on_gap on_gap;           // what is done where continuity is lost
    int64_t snapshot_connections; // that read existing rows
    int64_t snapshot_rate;        // bytes of existing rows a second, of all of them; 0: no limit
    size_t batch_bytes;
    lsn_t skip_to;      // what is not read yet and commits before it is given up, once; 0: nothing
    int64_t silence_us; // without a word after a question: give the connection up; 0: the server's
    int64_t warn_retained_bytes, warn_safe_bytes, warn_xmin_age; // 0: no such warning
    struct detach_options detach;
    int64_t row_bytes_max; // a larger row is an error of the data; at most 1 GiB, PostgreSQL's own
};

struct source;

struct source *source_new(const struct source_options *o, struct journal *j, struct health *h);
void source_free(struct source *s);
// The LSN up to which every gating sink is done (UINT64_MAX: none holds). The source acknowledges
// the lower of it and the journal's watermark. ret_who (or NULL) gets which one that is, a text
// that stays.
void source_set_gate(struct source *s, lsn_t (*durable)(void *arg, const char **ret_who),
                     void *arg);
// Returns 0 after source_stop, -1 with an error that does not pass by itself.
int source_run(struct source *s, struct err *e) MUST_CHECK;
// Async-signal-safe, any thread: source_run returns soon.
void source_stop(struct source *s);
// Any thread: asks for the existing rows of the tables that the glob matches; says in `out` what
// will be done with each. ERR_USAGE: none is known, or they are being read; ERR_RETRY: not now.
int source_request_snapshot(struct source *s, const char *glob, struct buf *out,
                            struct err *e) MUST_CHECK;
// Any thread: connects now where it was let go (else this does nothing, and is false).
bool source_attach(struct source *s);
// Any thread: lets the connection go as soon as nothing is in work, until the schedule connects
// again, or source_attach.
void source_detach(struct source *s);
// Any thread: something moved that acknowledgement or room depends on.
void source_wake(struct source *s);

// Preflight, `rowcast check`: prints every finding with cause and remedy to out; *ret_bad counts
// what would stop `run`. -1: not even a connection (e says why; printed too).
int source_check(const struct source_options *o, struct buf *out, int *ret_bad,
                 struct err *e) MUST_CHECK;
// `rowcast slot drop`: out says what was dropped. ERR_SOURCE: there is none, it is in use, or not
// ours.
int source_adopt(const struct source_options *o, struct journal *j, struct buf *out,
                 struct err *e) MUST_CHECK;
int source_drop_slot(const struct source_options *o, struct buf *out, struct err *e) MUST_CHECK;
// `rowcast schema --source`: a preview of the generated schema from the catalog of the server.
int source_schema(const struct source_options *o, struct buf *out, struct err *e) MUST_CHECK;
