// Sequences of pgoutput messages (each two bytes of length and its bytes; a length of 65535: the
// connection is lost and made again; of 65534: eight bytes of a keepalive's position follow)
// through the transaction: whole and streamed ones, spools in memory and in files, replays, what
// was cut and comes again, what the server says it is past. The journal only counts.
#include "base/log.h"
#include "base/reader.h"
#include "source/transaction.h"

#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LOST      65535
#define KEEPALIVE 65534

struct journal {
    struct catalog *catalog;
    struct position last, last_whole;
    lsn_t appended;
    struct journal_cut open, pending;
};

struct catalog *journal_catalog(struct journal *j)
{
    return j->catalog;
}
int journal_add_relation(struct journal *j, struct relation *r, struct err *e)
{
    (void)e;
    catalog_add(j->catalog, r);
    return 0;
}
const struct relation *journal_told(struct journal *j, uint32_t oid, const char *table)
{
    (void)oid;
    return catalog_latest(j->catalog, table);
}
void journal_tell(struct journal *j, uint32_t id, struct position at)
{
    (void)j, (void)id, (void)at;
}
void journal_untell(struct journal *j)
{
    (void)j;
}
void journal_append(struct journal *j, struct batch *b)
{
    CHECK(position_cmp(j->last, b->last) <= 0); // whatever the server says
    j->last = b->last;
    if (b->flags & BATCH_PARTIAL) {
        j->open = (struct journal_cut){b->txn_lsn, b->txn_changes, b->txn_hash, b->attempt};
    } else {
        j->appended = u64_max(j->appended, b->watermark);
        j->open = (struct journal_cut){0};
        j->last_whole = b->last;
    }
    batch_unref(b);
}
lsn_t journal_watermark(struct journal *j)
{
    return j->appended;
}
lsn_t journal_appended(struct journal *j)
{
    return j->appended;
}
struct position journal_last(struct journal *j)
{
    return j->last;
}
struct cursor journal_latest(struct journal *j)
{
    return (struct cursor){.at = j->last};
}
struct journal_cut journal_cut(struct journal *j)
{
    CHECK(j->open.lsn);
    j->pending = j->open;
    j->open = (struct journal_cut){0};
    j->last = j->last_whole;
    return j->pending;
}
struct journal_cut journal_pending_cut(struct journal *j)
{
    return j->pending;
}
void journal_cut_done(struct journal *j)
{
    j->pending = (struct journal_cut){0};
}
bool journal_has_room(struct journal *j, const char **ret_why)
{
    (void)j;
    *ret_why = NULL;
    return true;
}
void journal_hold(struct journal *j)
{
    (void)j;
}
void journal_release(struct journal *j)
{
    (void)j;
}
int journal_side_read(struct journal *j, const char *name, struct buf *ret, bool *ret_found,
                      struct err *e)
{
    (void)j, (void)name, (void)ret, (void)e;
    *ret_found = false;
    return 0;
}
int journal_side_replace(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)j, (void)name, (void)bytes, (void)e;
    return 0;
}
int journal_side_sync(struct journal *j, const char *name, struct err *e)
{
    (void)j, (void)name, (void)e;
    return 0;
}
int journal_side_append(struct journal *j, const char *name, struct slice bytes, struct err *e)
{
    (void)j, (void)name, (void)bytes, (void)e;
    return 0;
}

static int keep(void *arg, struct relation *r, struct err *e)
{
    return journal_add_relation(arg, r, e);
}

static int handle(struct transaction *t, const uint8_t *p, size_t n)
{
    struct err e;
    size_t bytes;
    // In memory of its own size, so that reading on is noticed.
    AUTO_FREE uint8_t *copy = xmalloc(n ? n : 1);
    memcpy(copy, p, n);
    int r = transaction_message(t, (struct slice){copy, n}, 0, NULL, &e);
    while (r == 0 && transaction_replaying(t))
        r = transaction_replay(t, 100, &bytes, &e);
    return r;
}

// As the loop of the stream does.
static int keepalive(struct transaction *t, struct ack *ack, const uint8_t *p, size_t n)
{
    static int64_t now;
    struct err e;
    struct reader r = reader_of(p, n);
    lsn_t lsn = reader_be64(&r);
    if (ack_check(ack, lsn, &e) != 0)
        return -1;
    now += PROGRESS_INTERVAL_US;
    ack_keepalive(ack, lsn, true, transaction_open(t), now);
    lsn_t progress = ack_progress(ack, transaction_open(t), now);
    if (progress)
        transaction_progress(t, progress);
    return 0;
}

static void reconnect(struct transaction *t, struct journal *j, struct ack *ack, bool lost)
{
    if (lost)
        transaction_lost(t);
    ack_init(ack, j->appended ? j->appended : 1, 1, 0, 0);
    transaction_start(t, ack);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    log_set_level(LOG_ERROR); // what it says of each would take half of the time
    struct source_options source = {.batch_bytes = 64,
                                    .row_bytes_max = 1 << 20,
                                    .streaming = true,
                                    .spool_base = "/tmp/rowcast-fuzz",
                                    .spool_memory = data[0] & 1 ? 600 : 0,
                                    .spool_bytes = 4000};
    if (data[0] & 1 && access(source.spool_base, F_OK) != 0)
        (void)mkdir(source.spool_base, 0700);
    struct journal j = {.catalog = catalog_new()};
    struct ack ack;
    struct relations *rs = relations_new(&(struct relations_options){
        .source = &source, .catalog = j.catalog, .add = keep, .arg = &j});
    struct transaction *t = transaction_new(
        &(struct transaction_options){.source = &source, .journal = &j, .relations = rs});
    reconnect(t, &j, &ack, false);
    data++, size--;
    while (size >= 2) {
        size_t said = (size_t)data[0] << 8 | data[1];
        size_t n = size_min(said == LOST ? 0 : said == KEEPALIVE ? 8 : said, size - 2);
        int r = said == LOST        ? -1
                : said == KEEPALIVE ? keepalive(t, &ack, data + 2, n)
                                    : handle(t, data + 2, n);
        if (r != 0)
            reconnect(t, &j, &ack, true);
        data += 2 + n;
        size -= 2 + n;
    }
    transaction_lost(t);
    transaction_free(t);
    relations_free(rs);
    catalog_free(j.catalog);
    return 0;
}
