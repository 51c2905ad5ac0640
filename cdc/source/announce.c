#include "source/announce.h"

#include "base/log.h"
#include "base/metrics.h"
#include "proto/schema_change.h"

static void say(const struct relation *before, const struct relation *after, struct position at)
{
    enum schema_step step = schema_change_step(before, after);
    AUTO_BUF struct buf labels = {0};
    metrics_label(&labels, "change", schema_step_name(step));
    metric_add(metric_new(METRIC_COUNTER, "rowcast_schema_changes_total",
                          "New shapes of tables that were told of in the stream.",
                          buf_cstr(&labels), 1),
               1);
    if (step == SCHEMA_CREATED) // each table's first
        log_debug("first change of a table", "table=%s version=%u", log_quote(after->table),
                  after->id);
    else
        log_info("a table has changed its shape",
                 "table=%s change=%s version=%u before=%u lsn=%X/%X", log_quote(after->table),
                 schema_step_name(step), after->id, before->id, LSN_ARG(at.lsn));
}

void announce(struct journal *j, struct batch_builder *bb, const struct relation *r)
{
    const struct relation *before = journal_told(j, r->oid, r->table);
    if (before != r && schema_change_step(before, r) != SCHEMA_NONE) {
        AUTO_BUF struct buf body = {0};
        struct position at = batch_builder_next(bb);
        schema_change_encode(&body, before, r);
        batch_add_schema_change(bb, r->id, buf_slice(&body));
        journal_tell(j, r->id, at);
        say(before, r, at);
    }
    batch_add_relation(bb, r);
}
