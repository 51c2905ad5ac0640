#include "source/figures.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <stdio.h>

// to_jsonb hides what an older server does not have. Only a transaction that may write holds a slot
// back: backend_xid, not backend_xmin.
static char *make_question(const char *slot)
{
    return xasprintf(
        "select l.lsn, s.restart_lsn, s.confirmed_flush_lsn, coalesce(to_jsonb(s)->>'safe_wal_size'"
        ", '-1'), coalesce(age(s.catalog_xmin), -1), coalesce(s.active_pid, 0), "
        "coalesce(to_jsonb(s)->>'wal_status', '') = 'lost', "
        "coalesce(w.wait_event_type, '') in ('Activity', 'Client'), "
        "coalesce(r.sync_state, '') in ('sync', 'quorum'), "
        "coalesce(t.age, 0), coalesce(t.seconds, -1), coalesce(t.pid, 0), t.name, t.usename, "
        "t.application_name, coalesce(pg_wal_lsn_diff(l.lsn, o.restart_lsn), 0), "
        "coalesce(o.active, false), o.slot_name, coalesce(extract(epoch from nullif("
        "current_setting('idle_replication_slot_timeout', true), '')::interval), 0)::bigint from "
        "pg_replication_slots s cross join lateral "
        "(select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else "
        "pg_current_wal_lsn() end as lsn) l "
        "left join pg_stat_activity w on w.pid = s.active_pid "
        "left join pg_stat_replication r on r.pid = s.active_pid "
        "left join lateral (select * from (select age(backend_xid) as age, "
        "extract(epoch from clock_timestamp() - xact_start)::bigint as seconds, pid, "
        "datname::text as name, usename::text, application_name from pg_stat_activity "
        "where backend_xid is not null union all select age(transaction), "
        "extract(epoch from clock_timestamp() - prepared)::bigint, 0, gid, owner::text, '' "
        "from pg_prepared_xacts) x order by 1 desc limit 1) t on true "
        "left join lateral (select slot_name, active, restart_lsn from pg_replication_slots x "
        "where x.slot_name <> s.slot_name and x.restart_lsn < s.restart_lsn "
        "order by restart_lsn limit 1) o on true where s.slot_name = '%s'",
        slot);
}

static int64_t number(const PGresult *r, int column)
{
    return result_i64(r, 0, column, INT64_MAX);
}

static struct slot_figures read_figures(const PGresult *r)
{
    struct slot_figures f = {
        .wal_lsn = result_lsn(r, 0, 0),
        .restart = result_lsn(r, 0, 1),
        .confirmed = result_lsn(r, 0, 2),
        .safe_wal_size = number(r, 3),
        .xmin_age = number(r, 4),
        .active_pid = (int)number(r, 5),
        .lost = result_bool(r, 0, 6),
        .waiting = result_bool(r, 0, 7),
        .synchronous = result_bool(r, 0, 8),
        .transaction = {.age = number(r, 9), .seconds = number(r, 10), .pid = (int)number(r, 11)},
        .idle_timeout_us = result_i64(r, 0, 18, INT32_MAX) * 1000000, // a GUC's most
        .other = {.bytes = number(r, 15), .active = result_bool(r, 0, 16)},
    };
    snprintf(f.transaction.name, sizeof f.transaction.name, "%s", result_text(r, 0, 12));
    snprintf(f.transaction.user, sizeof f.transaction.user, "%s", result_text(r, 0, 13));
    snprintf(f.transaction.application, sizeof f.transaction.application, "%s",
             result_text(r, 0, 14));
    snprintf(f.other.name, sizeof f.other.name, "%s", result_text(r, 0, 17));
    return f;
}

// ---- what is made of them ----

static void say(struct figures *f, enum watch_kind kind, const char *behind)
{
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf labels = {0};
    const char *name = watch_name(kind);
    bool passed = f->watch->passed[kind];
    metrics_label(&labels, "reason", name);
    metric_set(metric_new(METRIC_GAUGE, "rowcast_source_warning",
                          "1 while the server pays too much for our slot, by reason.",
                          buf_cstr(&labels), 1),
               passed);
    if (!passed) {
        log_info("the warning is over", "slot=%s warning=%s", f->slot, name);
        return;
    }
    watch_describe(kind, &f->last, behind, &text);
    log_warn("the server needs somebody to look after it", "slot=%s warning=%s cause=%s", f->slot,
             name, log_quote(buf_cstr(&text)));
}

static void set_health(struct figures *f, const char *behind)
{
    AUTO_BUF struct buf all = {0};
    for (enum watch_kind kind = 0; kind < WATCH_KINDS; kind++) {
        if (!f->watch->passed[kind])
            continue;
        if (all.n)
            buf_puts(&all, ". ");
        watch_describe(kind, &f->last, behind, &all);
    }
    health_warn(f->health, buf_cstr(&all));
}

static void take(struct figures *f, const PGresult *r, const struct figures_ours *ours, int64_t now)
{
    f->last = read_figures(r);
    f->witness.answered_at = now;
    f->witness.ours = f->last.active_pid == f->pid;
    f->witness.waiting = f->last.waiting;
    lsn_t wal = f->last.wal_lsn;
    metric_set(f->lag_bytes, wal > ours->received ? (int64_t)(wal - ours->received) : 0);
    metric_set(f->retained,
               f->last.restart && wal > f->last.restart ? (int64_t)(wal - f->last.restart) : 0);
    metric_set(f->safe, f->last.safe_wal_size);
    metric_set(f->xmin_age, f->last.xmin_age);
    unsigned changed = watch_look(f->watch, &f->last);
    for (enum watch_kind kind = 0; kind < WATCH_KINDS; kind++) {
        if (changed & 1u << kind)
            say(f, kind, ours->behind);
    }
    set_health(f, ours->behind);
    for (enum watch_kind kind = 0; kind < WATCH_KINDS; kind++) {
        if (f->watch->passed[kind] && f->due_at > now + FIGURES_WARNED_US)
            f->due_at = now + FIGURES_WARNED_US;
    }
}

// ---- asking ----

void figures_init(struct figures *f, struct lookup *l, const char *slot, struct watch *watch,
                  struct health *h, int pid, int64_t now)
{
    *f = (struct figures){.lookup = l,
                          .slot = slot,
                          .watch = watch,
                          .health = h,
                          .question = make_question(slot),
                          .pid = pid,
                          .due_at = now + FIGURES_FIRST_US};
    f->lag_bytes = metric_new(METRIC_GAUGE, "rowcast_source_lag_bytes",
                              "WAL that the server has written and we have not received.", "", 1);
    f->retained = metric_new(METRIC_GAUGE, "rowcast_slot_retained_wal_bytes",
                             "WAL that the server keeps for the slot.", "", 1);
    f->safe = metric_new(METRIC_GAUGE, "rowcast_slot_safe_wal_size_bytes",
                         "WAL that can be written before the slot is lost; -1: no limit.", "", 1);
    f->xmin_age = metric_new(METRIC_GAUGE, "rowcast_slot_xmin_age",
                             "Transactions since the slot's catalog_xmin; -1: it has none.", "", 1);
}

void figures_fini(struct figures *f)
{
    free(f->question);
    f->question = NULL;
}

void figures_hurry(struct figures *f)
{
    f->due_at = 0;
}

// Its end was said; whether the server stops is said by a new connection.
static void look_for_the_end(struct figures *f, int64_t now)
{
    switch (lookup_end(f->lookup)) {
    case LOOKUP_GOES_ON:
        return;
    case LOOKUP_ENDED:
        if (!f->ended_at)
            f->ended_at = now;
        f->due_at = 0;
        return;
    case LOOKUP_REFUSED:
        if (!f->ended_at)
            f->ended_at = now;
        f->refused = true;
        return;
    case LOOKUP_FAILED:
        f->refused |= f->ended_at != 0;
        return;
    }
}

void figures_step(struct figures *f, bool ready, const struct figures_ours *ours, int64_t now)
{
    if (now >= f->due_at) {
        f->due_at = now + FIGURES_INTERVAL_US;
        f->witness.asked_at = now;
        lookup_ask(f->lookup, f->question);
    } else if (!ready && now < f->look_at) {
        return;
    }
    f->look_at = now + FIGURES_LOOK_US;
    AUTO_RESULT PGresult *r = NULL;
    if (lookup_answer(f->lookup, &r) && PQntuples(r) == 1) {
        f->ended_at = 0; // it was only that session's end
        f->refused = false;
        take(f, r, ours, now);
    }
    look_for_the_end(f, now);
}

static int64_t stopping_at(const struct figures *f)
{
    return f->ended_at ? f->ended_at + (f->refused ? STOPPING_US : UNSURE_US) : INT64_MAX;
}

int64_t figures_deadline(const struct figures *f)
{
    int64_t stopping = stopping_at(f);
    return stopping < f->due_at ? stopping : f->due_at;
}

bool figures_stopping(const struct figures *f, int64_t now)
{
    return now >= stopping_at(f);
}

int figures_once(struct connection *sql, const char *slot, struct slot_figures *ret_f,
                 bool *ret_found, struct err *e)
{
    AUTO_FREE char *question = make_question(slot);
    AUTO_RESULT PGresult *r = NULL;
    if (connection_query(sql, clock_mono_us() + LOOKUP_PATIENCE_US, &r, e, "%s", question) != 0)
        return -1;
    *ret_found = PQntuples(r) == 1;
    if (*ret_found)
        *ret_f = read_figures(r);
    return 0;
}
