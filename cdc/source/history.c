#include "source/history.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define QUERY_US INT64_C(60000000)
// What can be done where continuity is lost for good.
#define GO_ON                                                                                      \
    "go on with a gap that is told in the stream (--on-gap mark), or start with a new journal "    \
    "directory"

// ---- what the server says ----

void history_parse(const char *text, struct timelines *t)
{
    t->n = 0;
    for (const char *line = text; *line;) {
        unsigned timeline, high, low;
        if (sscanf(line, "%u %X/%X", &timeline, &high, &low) == 3) {
            if (t->n == TIMELINES_MAX) // the oldest are of no use any more
                memmove(t->items, t->items + 1, --t->n * sizeof t->items[0]);
            t->items[t->n].timeline = timeline;
            t->items[t->n++].end = (lsn_t)high << 32 | low;
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
}

int history_read(struct connection *walsender, struct history *h, struct err *e)
{
    AUTO_RESULT PGresult *r = NULL;
    AUTO_RESULT PGresult *file = NULL;
    if (connection_query(walsender, clock_mono_us() + QUERY_US, &r, e, "IDENTIFY_SYSTEM") != 0)
        return -1;
    h->system_id = strtoull(result_text(r, 0, 0), NULL, 10);
    h->timeline = result_u32(r, 0, 1);
    h->end = result_lsn(r, 0, 2);
    h->before.n = 0;
    if (h->timeline <= 1) // the first one has no history file
        return 0;
    if (connection_query(walsender, clock_mono_us() + QUERY_US, &file, e, "TIMELINE_HISTORY %u",
                         h->timeline) != 0)
        return -1;
    history_parse(result_text(file, 0, 1), &h->before);
    return 0;
}

// ---- the verdict ----

static enum history_verdict judge_system(const struct history *h, const struct journal_identity *id,
                                         struct err *why)
{
    bool same_name = id->database[0] && strcmp(id->database, h->database) == 0;
    bool same = id->system_id == h->system_id && id->database_oid == h->database_oid;
    if (same)
        return HISTORY_GOES_ON;
    if (!same_name) {
        err_set(why, ERR_JOURNAL,
                "journal: it belongs to database %s (oid %u) on system %" PRIu64
                ", not to database %s (oid %u) on system %" PRIu64
                "; remedy: give this source a journal directory of its own",
                id->database[0] ? id->database : "?", id->database_oid, id->system_id, h->database,
                h->database_oid, h->system_id);
        return HISTORY_DIFFERS;
    }
    // Not to be marked as a gap: a wrong host would cost the journal.
    err_set(why, ERR_OTHER_SYSTEM,
            "server: database %s (oid %u) on system %" PRIu64
            " is another one than the journal's (oid %u on system %" PRIu64
            "); remedy: connect to the right server; or, if this one continues the journal's "
            "history, as after pg_upgrade, rowcast adopt; or start with a new journal directory "
            "(--on-gap mark does not give this one up)",
            h->database, h->database_oid, h->system_id, id->database_oid, id->system_id);
    return HISTORY_DIFFERS;
}

// Where the ancestor was left; 0: it is none.
static lsn_t left_at(const struct history *h, uint32_t timeline)
{
    for (uint32_t i = 0; i < h->before.n; i++) {
        if (h->before.items[i].timeline == timeline)
            return h->before.items[i].end;
    }
    return 0;
}

static enum history_verdict judge_timeline(const struct history *h,
                                           const struct journal_identity *id, lsn_t watermark,
                                           struct err *why)
{
    lsn_t left = left_at(h, id->timeline);
    if (id->timeline == h->timeline || id->timeline == 0) {
        if (watermark <= h->end)
            return HISTORY_GOES_ON;
        if (h->standby) {
            err_set(why, ERR_RETRY,
                    "server: this standby has replayed up to " LSN_FMT
                    ", the journal ends at " LSN_FMT "; waiting until it has caught up",
                    LSN_ARG(h->end), LSN_ARG(watermark));
            return HISTORY_WAITS;
        }
        err_set(why, ERR_RESTORED,
                "server: its WAL ends at " LSN_FMT ", the journal at " LSN_FMT
                ": it was restored from a backup, or is another copy; remedy: connect to the right "
                "server; or " GO_ON,
                LSN_ARG(h->end), LSN_ARG(watermark));
        return HISTORY_BROKEN;
    }
    if (id->timeline > h->timeline && h->standby) {
        err_set(why, ERR_RETRY,
                "server: this standby is on timeline %u, the journal on %u; waiting until it has "
                "caught up",
                h->timeline, id->timeline);
        return HISTORY_WAITS;
    }
    // Not to be marked as a gap: this is hardly ever a server that was restored (recovery counts
    // timelines up), but the old primary, and the journal is that of the one that is followed.
    if (id->timeline > h->timeline) {
        err_set(why, ERR_RESTORED,
                "server: it is on timeline %u, the journal on %u: the primary before a failover, "
                "or an older copy of the server; remedy: connect to the right server; or start "
                "with a new journal directory (--on-gap mark does not give this one up)",
                h->timeline, id->timeline);
        return HISTORY_DIFFERS;
    }
    if (left != 0 && watermark <= left)
        return HISTORY_GOES_ON;
    err_set(why, ERR_DIVERGED,
            "server: timeline %u left the journal's (%u) at " LSN_FMT
            ", but the journal goes up to " LSN_FMT
            ": transactions in it were lost in a failover or by a restore; remedy: " GO_ON
            "; and list the standby's slot in synchronized_standby_slots (PostgreSQL 17)",
            h->timeline, id->timeline, LSN_ARG(left), LSN_ARG(watermark));
    return HISTORY_BROKEN;
}

static enum history_verdict judge_slot(const struct history *h, const struct journal_identity *id,
                                       lsn_t watermark, struct err *why)
{
    const struct slot *slot = h->slot;
    bool promoted = id->timeline && id->timeline != h->timeline;
    if (!slot->exists && promoted)
        err_set(why, ERR_PROMOTED,
                "slot %s: the server was promoted to timeline %u without it; the journal ends "
                "at " LSN_FMT ", what came after is lost; remedy: " GO_ON
                "; from PostgreSQL 17 on sync_replication_slots carries slots over",
                h->slot_name, h->timeline, LSN_ARG(watermark));
    else if (!slot->exists)
        err_set(
            why, ERR_SLOT_LOST,
            "slot %s: it does not exist any more, but the journal has its changes up to " LSN_FMT
            "; what came after is lost; remedy: " GO_ON,
            h->slot_name, LSN_ARG(watermark));
    else if (slot->lost)
        slot_why_lost(slot, h->slot_name, why);
    else if (slot->confirmed > watermark)
        err_set(why, ERR_SLOT_CONSUMED,
                "slot %s: gap: it stands at " LSN_FMT ", the journal ends at " LSN_FMT
                ": somebody else consumed what lies between; remedy: give this slot no other "
                "reader; " GO_ON "; or, if nothing was committed in between, rowcast adopt",
                h->slot_name, LSN_ARG(slot->confirmed), LSN_ARG(watermark));
    else
        return HISTORY_GOES_ON;
    return HISTORY_GAP;
}

enum history_verdict history_judge(const struct history *h, const struct journal_identity *id,
                                   lsn_t watermark, struct err *ret_why)
{
    if (!id)
        return HISTORY_NEW;
    enum history_verdict v = judge_system(h, id, ret_why);
    if (v == HISTORY_GOES_ON && watermark == 0)
        return HISTORY_NEW;
    if (v == HISTORY_GOES_ON)
        v = judge_timeline(h, id, watermark, ret_why);
    if (v == HISTORY_GOES_ON)
        v = judge_slot(h, id, watermark, ret_why);
    return v;
}

int history_compare(const struct history *h, struct journal *j, enum history_verdict *ret_verdict,
                    struct err *ret_why, struct err *e)
{
    struct journal_identity id;
    char reason[GAP_REASON_MAX];
    bool blank = false, had = journal_identity(j, &id);
    enum history_verdict v = history_judge(h, had ? &id : NULL, journal_appended(j), ret_why);
    if (v != HISTORY_BROKEN && v != HISTORY_WAITS && v != HISTORY_DIFFERS &&
        journal_gap_missing(j, reason)) {
        err_set(ret_why, ERR_SLOT_LOST, "%s", reason);
        v = HISTORY_UNTOLD;
    } else if (v == HISTORY_GAP && ret_why->class == ERR_SLOT_CONSUMED) {
        // Two that share a slot: one had it for a moment in which nothing was committed.
        if (journal_blank(j, &blank, e) != 0)
            return -1;
        if (blank)
            v = HISTORY_FORGOTTEN;
    }
    *ret_verdict = v;
    return 0;
}

// ---- what follows from it ----

struct journal_identity history_identity(const struct history *h)
{
    struct journal_identity id = {.system_id = h->system_id,
                                  .database_oid = h->database_oid,
                                  .timeline = h->timeline,
                                  .before = h->before};
    snprintf(id.name, sizeof id.name, "%s", h->slot_name);
    snprintf(id.database, sizeof id.database, "%s", h->database);
    return id;
}

static int begin_anew(struct journal *j, const struct journal_identity *id, lsn_t start,
                      struct err *e)
{
    log_info("the journal holds no change; it begins anew where the slot stands", "lsn=" LSN_FMT,
             LSN_ARG(start));
    if (journal_forget(j, e) != 0 || journal_claim(j, id, e) != 0)
        return -1;
    struct batch_builder *bb = batch_builder_new(64);
    batch_add_progress(bb, start);
    journal_append(j, batch_builder_take(bb, false));
    batch_builder_free(bb);
    return 0;
}

int history_declare(const struct history *h, struct journal *j, enum history_verdict verdict,
                    const struct err *why, lsn_t start, struct err *e)
{
    struct journal_identity id = history_identity(h);
    // "slot_lost: slot x: it does not exist ..", without what the operator could do.
    AUTO_FREE char *reason = xasprintf("%s: %s", err_class_name(why->class), why->text);
    char *remedy = strstr(reason, "; remedy: ");
    if (remedy)
        *remedy = 0;
    switch (verdict) {
    case HISTORY_GAP:
        return journal_break(j, &id, start, reason, e);
    case HISTORY_BROKEN:
        return journal_start_over(j, &id, start, reason, e);
    case HISTORY_UNTOLD:
        if (journal_claim(j, &id, e) != 0)
            return -1;
        return journal_gap(j, u64_max(start, journal_appended(j) + 1), why->text, e);
    case HISTORY_FORGOTTEN:
        return begin_anew(j, &id, start, e);
    default:
        return 0;
    }
}
