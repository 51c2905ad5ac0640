#include "command/command.h"

#include <errno.h>
#include <unistd.h>

struct source_options command_source_options(const struct settings *s)
{
    lsn_t skip_to = 0;
    CHECK(!s->skip_to || lsn_parse(s->skip_to, &skip_to)); // valid by the option table
    return (struct source_options){
        .conninfo = s->source,
        .password_file = s->password_file,
        .config_file = s->config,
        .conninfo_on_command_line = s->source_on_command_line,
        .slot = s->slot,
        .publications = s->publications.items,
        .publication_count = s->publications.n,
        .tables = s->tables.items,
        .table_count = s->tables.n,
        .exclude_columns = s->exclude_columns.items,
        .exclude_column_count = s->exclude_columns.n,
        .mask_columns = s->mask_columns.items,
        .mask_column_count = s->mask_columns.n,
        .messages = s->messages,
        .streaming = s->streaming,
        .spool_base = s->journal,
        .spool_memory = (size_t)s->spool_memory,
        .spool_bytes = (uint64_t)s->spool_size,
        .binary = s->binary,
        .origin_none = s->origin == ORIGIN_NONE,
        .create = s->create,
        .snapshot = (enum snapshot_mode)s->snapshot,
        .on_gap = (enum on_gap)s->on_gap,
        .snapshot_connections = s->snapshot_connections,
        .snapshot_rate = s->snapshot_rate,
        .batch_bytes = (size_t)s->batch_size,
        .silence_us = s->source_timeout_us,
        .detach = {s->idle_detach_us, s->idle_attach_every_us, s->idle_wal_budget},
        .warn_retained_bytes = s->warn_retained_wal,
        .warn_safe_bytes = s->warn_safe_wal,
        .warn_xmin_age = s->warn_xmin_age,
        .row_bytes_max = s->row_max,
        .skip_to = skip_to,
    };
}

struct kafka_options command_kafka_options(const struct settings *s)
{
    return (struct kafka_options){
        .brokers = s->kafka,
        .topic_prefix = s->topic_prefix,
        .stream = s->slot,
        .json = s->kafka_format == KAFKA_JSON,
        .tombstones = s->kafka_tombstones,
        .create_topics = s->kafka_create_topics,
        .partitions = (int)s->kafka_partitions,
        .replication_factor = (int)s->kafka_replication,
        .gate = s->kafka_gate,
        .mark_gaps = s->on_gap == ON_GAP_MARK,
        .properties = s->kafka_properties.items,
        .property_count = s->kafka_properties.n,
    };
}

bool command_given(const struct settings *s, const char *option)
{
    const struct option_info *o = option_find(option);
    CHECK(o);
    return s->given[o - options];
}

int command_need_source(const struct settings *s, const char *command, struct err *e)
{
    if (s->source)
        return 0;
    return err_set(e, ERR_USAGE,
                   "%s needs a database: give --source, ROWCAST_SOURCE, or source = \"..\" "
                   "in the configuration file",
                   command);
}

int command_print(const struct buf *text, bool *ret_closed, struct err *e)
{
    for (size_t at = 0; at < text->n;) {
        ssize_t n = write(STDOUT_FILENO, text->p + at, text->n - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE) {
            if (ret_closed)
                *ret_closed = true;
            return 0;
        }
        if (n < 0)
            return err_errno(e, ERR_INTERNAL, "writing to stdout");
        at += (size_t)n;
    }
    return 0;
}
