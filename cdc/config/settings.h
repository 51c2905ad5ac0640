// What the command line, the environment and the configuration file together say. One field an
// option (cdc/config/option.c has the table); strings belong to the settings.
#pragma once

#include "base/err.h"

struct strings {
    char **items;
    size_t n;
};

enum origin { ORIGIN_ANY, ORIGIN_NONE };
enum kafka_format { KAFKA_PROTOBUF, KAFKA_JSON };

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): there is one, in the table's order
struct settings {
    // general
    char *config;
    int log_level; // enum log_level
    bool help;
    // source
    char *source;
    bool source_on_command_line;
    char *password_file;
    char *slot;
    struct strings publications;
    struct strings tables;
    struct strings exclude_columns;
    struct strings mask_columns;
    bool messages;
    bool streaming;
    int64_t spool_memory;
    int64_t spool_size;
    bool binary;
    int origin; // enum origin
    bool create;
    int on_gap; // enum on_gap
    bool standby;
    int64_t row_max;
    int64_t idle_detach_us, idle_attach_every_us;            // the first 0: only when asked
    int64_t idle_wal_budget;                                 // 0: no limit
    int64_t source_timeout_us;                               // 0: the server's
    int64_t warn_retained_wal, warn_safe_wal, warn_xmin_age; // 0: no such warning
    char *skip_to;                                           // an LSN, or NULL
    int snapshot;                                            // enum snapshot_mode
    int64_t snapshot_connections;
    int64_t snapshot_rate;
    int64_t batch_size;
    // journal
    char *journal;
    int64_t journal_size;
    int64_t journal_age_us;
    int64_t segment_size;
    int64_t memory;
    int64_t compression;
    bool journal_sync;
    // WebSocket
    char *listen; // "off": none
    struct strings allow_origins;
    struct strings allow_hosts;
    int64_t connections_max;
    int64_t subscriptions_max;
    int64_t request_max;
    int64_t frame_max;
    int64_t websocket_threads;
    bool page;
    // Kafka
    char *kafka;
    char *topic_prefix;
    int kafka_format; // enum kafka_format
    int64_t kafka_partitions;
    int64_t kafka_replication;
    bool kafka_create_topics;
    bool kafka_tombstones;
    bool kafka_gate;
    struct strings kafka_properties;
    // stdout
    bool std_out;
    int64_t stop_grace_us;
    // tail, journal dump
    char *from;
    bool json;

    struct strings args; // what stands on the command line without an option's name
    bool given[64];      // by index in the option table: said somewhere, not a default
};

enum command;

// Reads argv (argv[0] is not looked at; argc counts it), then the environment, then the file that
// --config names, the earlier winning. Values of secret options are overwritten in argv and in the
// environment, so that `ps` does not show them. ERR_USAGE: option, where it stands, its value
// (never a secret's), what is accepted. With --help among the words nothing else is looked at.
int settings_load(struct settings *s, enum command command, int argc, char **argv,
                  struct err *e) MUST_CHECK;
void settings_free(struct settings *s);
