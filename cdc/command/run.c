#include "base/log.h"
#include "command/command.h"
#include "pipeline.h"

#include <malloc.h>

#define LARGE_BYTES (256 * 1024) // has pages of its own

static struct journal_options journal_options(const struct settings *s)
{
    return (struct journal_options){
        .dir = s->journal,
        .segment_bytes = (uint64_t)s->segment_size,
        .retain_bytes = (uint64_t)s->journal_size,
        .retain_us = s->journal_age_us,
        .memory_bytes = (uint64_t)s->memory,
        .compression = (int)s->compression,
        .sync = s->journal_sync,
    };
}

static struct websocket_options websocket_options(const struct settings *s)
{
    return (struct websocket_options){
        .listen = s->listen,
        .origins = s->allow_origins.items,
        .origin_count = s->allow_origins.n,
        .hosts = s->allow_hosts.items,
        .host_count = s->allow_hosts.n,
        .connections_max = (uint32_t)s->connections_max,
        .subscriptions_max = (uint32_t)s->subscriptions_max,
        .request_bytes_max = (size_t)s->request_max,
        .frame_bytes_max = (size_t)s->frame_max,
        .contexts = (int)s->websocket_threads,
        .test_page = s->page,
    };
}

// What does not show in a single option.
static int settings_agree(const struct settings *s, struct err *e)
{
    if (s->journal_size < 2 * s->segment_size)
        return err_set(e, ERR_USAGE,
                       "journal-size must hold at least two segments (segment-size): the journal "
                       "shrinks by whole ones");
    if (s->batch_size > s->frame_max)
        return err_set(e, ERR_USAGE, "batch-size must not be larger than frame-max");
    return 0;
}

static void joined(struct buf *out, const struct strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        buf_printf(out, "%s%s", i ? "," : "", list->items[i]);
}

static void log_start(const struct settings *s)
{
    AUTO_BUF struct buf publications = {0};
    AUTO_BUF struct buf tables = {0};
    joined(&publications, &s->publications);
    joined(&tables, &s->tables);
    log_info("starting rowcast",
             "version=%s slot=%s publication=%s tables=%s journal=%s listen=%s "
             "kafka=%s stdout=%s",
             ROWCAST_VERSION, s->slot, log_quote(buf_cstr(&publications)),
             log_quote(s->tables.n ? buf_cstr(&tables) : "all of the publication"),
             log_quote(s->journal), s->listen, s->kafka ? s->kafka : "off",
             s->std_out ? "on" : "off");
    if (!s->journal_sync)
        log_warn("the journal is not synced to disk: a power cut loses changes",
                 "journal_sync=off");
}

// Chunks of existing rows and of large transactions are made by one thread and freed by another, in
// any order. Left to itself, the C library raises what it gives pages of its own to 32 MiB, and
// keeps what is freed below that in a heap a thread: a tenth of the process. Elsewhere than with
// glibc nothing is lost by not saying so.
static void tame_heaps(void)
{
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
    mallopt(M_TRIM_THRESHOLD, 4 * LARGE_BYTES);
#endif
}

int command_run(const struct settings *s, int *ret_status, struct err *e)
{
    if (command_need_source(s, "run", e) != 0 || settings_agree(s, e) != 0)
        return -1;
    tame_heaps();
    log_start(s);
    struct websocket_options websocket = websocket_options(s);
    struct kafka_options kafka = command_kafka_options(s);
    struct stdout_options std_out = {.fd = 1};
    struct pipeline_options o = {
        .source = command_source_options(s),
        .journal = journal_options(s),
        .websocket = strcmp(s->listen, "off") == 0 ? NULL : &websocket,
        .kafka = s->kafka ? &kafka : NULL,
        .std_out = s->std_out ? &std_out : NULL,
        .standby = s->standby,
        .stop_grace_us = s->stop_grace_us,
    };
    if (pipeline_run(&o, e) != 0)
        return -1;
    log_info("stopped", "slot=%s", s->slot);
    *ret_status = 0;
    return 0;
}
