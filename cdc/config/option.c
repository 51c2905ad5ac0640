#include "config/option.h"

#include "base/position.h"

#include <stdio.h>

const struct command_info commands[] = {
    {
        .id = COMMAND_RUN,
        .name = "run",
        .usage = "--source CONNINFO|URL [--slot NAME] [--publication NAME[,NAME]]\n"
                 "[--table GLOB ...] [--journal DIR] [--listen ADDR:PORT]\n"
                 "[--kafka HOST:PORT[,..]] [--stdout] [--config FILE] ...",
        .summary = "stream the changes of a database",
        .text =
            "Reads one replication slot, keeps every committed change in a journal on disk, and "
            "serves it from there: to WebSocket clients, to Kafka, to stdout. Publication and "
            "slot are created when they are missing. SIGINT or SIGTERM ends it cleanly, a "
            "second one at once; started again it goes on where it stopped.",
        .words_are_tables = true,
    },
    {
        .id = COMMAND_TAIL,
        .name = "tail",
        .usage = "[ws://HOST:PORT] [--table GLOB ...] [--from now|earliest|CURSOR] [--json]",
        .summary = "print the changes of a running rowcast",
        .text = "A line a change, from ws://127.0.0.1:7654 unless another address is given. A lost "
                "connection is made again, from the last change printed. At its end the cursor to "
                "go on from stands on stderr.",
        .args_max = 1,
        .words_are_tables = true,
    },
    {
        .id = COMMAND_CHECK,
        .name = "check",
        .usage = "--source CONNINFO|URL [--kafka HOST:PORT[,..]] ...",
        .summary = "look whether run would work",
        .text = "Changes nothing. Prints each finding with its cause and the statement or setting "
                "that mends it, also settings that are merely weak, then `N problems`. Exit "
                "status 0 when there is none, 3 for the source, 8 for Kafka.",
        .words_are_tables = true,
    },
    {
        .id = COMMAND_SCHEMA,
        .name = "schema",
        .usage = "[ws://HOST:PORT | --journal DIR | --source CONNINFO|URL] [--table GLOB ...]",
        .summary = "print the .proto of the tables",
        .text =
            "The protobuf messages of the rows, with the field numbers that stand in the stream: "
            "of a running rowcast (ws://127.0.0.1:7654 unless said otherwise) or of a journal. "
            "From a database alone it is a preview, and says so: numbers are given once a "
            "journal exists.",
        .args_max = 1,
        .words_are_tables = true,
    },
    {
        .id = COMMAND_JOURNAL,
        .name = "journal",
        .usage = "list DIR\nverify DIR\ndump DIR [--table GLOB] [--from earliest|CURSOR]",
        .summary = "look into a journal, running or not",
        .text =
            "list: a line a segment. verify: reads all of it and checks every frame. dump: every "
            "entry as a line of JSON, as --stdout prints them.",
        .args_max = 2,
    },
    {
        .id = COMMAND_SLOT,
        .name = "slot",
        .usage = "drop --source CONNINFO|URL [--slot NAME]",
        .summary = "drop the replication slot, for good",
        .text =
            "For when rowcast is taken down: the server keeps no more WAL for it. Refuses while "
            "somebody reads the slot. What was not read before is lost; the publications and "
            "the journal stay as they are.",
        .args_max = 1,
    },
    {
        .id = COMMAND_ADOPT,
        .name = "adopt",
        .usage = "--source CONNINFO|URL --journal DIR [--slot NAME]",
        .summary = "state that another server continues a journal's history",
        .text =
            "For after pg_upgrade, or where a slot was moved by hand: the stream goes on under the "
            "same id, and cursors stay good. Compares the database's name, the slot, the end of "
            "WAL and the tables' attnums, and refuses what does not fit. That nothing was "
            "committed between the journal's end and the slot's place is your word. rowcast must "
            "not be running.",
    },
    {
        .id = COMMAND_ATTACH,
        .name = "attach",
        .usage = "[--journal DIR]",
        .summary = "have a running rowcast connect to its database again",
        .text = "For one that is detached (--idle-detach): it connects now and stays until nothing "
                "has come for that long.",
    },
    {
        .id = COMMAND_DETACH,
        .name = "detach",
        .usage = "[--journal DIR]",
        .summary = "have a running rowcast let go of its database",
        .text = "As soon as nothing is in work the connection is let go, until `rowcast attach` or "
                "until --idle-attach-every has passed. The slot stays, and keeps WAL.",
    },
    {
        .id = COMMAND_STATUS,
        .name = "status",
        .usage = "[--journal DIR]",
        .summary = "how a running rowcast is doing",
        .text = "Asks the rowcast that holds this journal, at the socket `control` in its "
                "directory, and prints a JSON object: state of the source, slot, positions, and "
                "what each sink has taken. Exit status 6 when none runs there.",
    },
    {
        .id = COMMAND_SNAPSHOT,
        .name = "snapshot",
        .usage = "TABLE|GLOB [--journal DIR]",
        .summary = "have the existing rows of a table read",
        .text = "Asks the rowcast that holds this journal to read the table's rows into the "
                "stream, in between its changes, and returns at once: the log and the metrics "
                "tell how it goes. A name without a dot is one of schema public. Exit status 2 "
                "when no such table is published and wanted, or it is being read already.",
        .args_max = 1,
    },
    {
        .id = COMMAND_VERSION,
        .name = "version",
        .usage = "",
        .summary = "print the version",
        .text = "",
    },
    {
        .id = COMMAND_HELP,
        .name = "help",
        .usage = "[COMMAND | config | options]",
        .summary = "print help",
        .text =
            "help COMMAND: its options. help config: a configuration file with every option and "
            "its default. help options: all options as a Markdown table.",
        .args_max = 1,
    },
};
const size_t command_count = ARRAY_LEN(commands);

const struct command_info *command_find(const char *name)
{
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

const struct command_info *command_get(enum command id)
{
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].id == id)
            return &commands[i];
    }
    CHECK(!"a command without its info");
    return NULL;
}

// ---- what texts are valid ----

static bool slot_valid(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return n > 0 && n < 64 && text[n] == 0;
}

static bool property_valid(const char *text)
{
    const char *equals = strchr(text, '=');
    return equals && equals > text;
}

static bool port_valid(const char *text, long min)
{
    size_t n = strspn(text, "0123456789");
    return n > 0 && n <= 5 && text[n] == 0 && strtol(text, NULL, 10) <= 65535 &&
           strtol(text, NULL, 10) >= min;
}

static bool listen_valid(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (strcmp(text, "off") == 0)
        return true;
    if (!colon || colon == text || !port_valid(colon + 1, 0))
        return false;
    // An IPv6 address stands in brackets, or its last group would be taken for the port.
    return text[0] == '[' ? colon[-1] == ']' : memchr(text, ':', (size_t)(colon - text)) == NULL;
}

static bool brokers_valid(const char *text)
{
    for (const char *at = text; at;) {
        const char *comma = strchr(at, ',');
        size_t n = comma ? (size_t)(comma - at) : strlen(at);
        char one[300];
        if (n == 0 || n >= sizeof one)
            return false;
        memcpy(one, at, n);
        one[n] = 0;
        const char *colon = strrchr(one, ':');
        if (strpbrk(one, " \t/@") || (colon && (colon == one || !port_valid(colon + 1, 1))))
            return false;
        at = comma ? comma + 1 : NULL;
    }
    return true;
}

static bool prefix_valid(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n > 0 && n < 200 && text[n] == 0;
}

static bool lsn_valid(const char *text)
{
    lsn_t lsn;
    return lsn_parse(text, &lsn) && lsn > 0;
}

static bool from_valid(const char *text)
{
    struct cursor c;
    return strcmp(text, "now") == 0 || strcmp(text, "earliest") == 0 ||
           cursor_parse(text, strlen(text), &c);
}

// ---- the table ----

#define FIELD(f) .field = offsetof(struct settings, f)
#define KIB      INT64_C(1024)
#define MIB      (INT64_C(1) << 20)
#define GIB      (INT64_C(1) << 30)
#define TIB      (INT64_C(1) << 40)
#define SECOND   INT64_C(1000000)
#define DAY      (86400 * SECOND)

// The order of an option's choices is that of its enum.
static const char *const origins[] = {"any", "none", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const snapshot_modes[] = {"never", "initial", "when_needed", NULL};
static const char *const kafka_formats[] = {"protobuf", "json", NULL};
static const char *const on_gaps[] = {"stop", "mark", NULL};

#define SOURCE_COMMANDS  (COMMAND_RUN | COMMAND_CHECK | COMMAND_SCHEMA)
#define CONTROL_COMMANDS (COMMAND_STATUS | COMMAND_ATTACH | COMMAND_DETACH | COMMAND_SNAPSHOT)
#define SLOT_COMMANDS    (COMMAND_SLOT | COMMAND_ADOPT)
#define KAFKA_COMMANDS   (COMMAND_RUN | COMMAND_CHECK)

const struct option_info options[] = {
    {"Source", "source", "CONNINFO|URL", OPTION_STRING, SOURCE_COMMANDS | SLOT_COMMANDS,
     FIELD(source), .secret = true, .accepts = "a connection string or URL of libpq",
     .example = "postgresql://rowcast@db.example/shop",
     .help = "The database: what libpq takes, host=.. dbname=.. or postgresql://.. Its user needs "
             "the REPLICATION attribute."},
    {"Source", "password-file", "FILE", OPTION_FILE, SOURCE_COMMANDS | SLOT_COMMANDS,
     FIELD(password_file), .example = "/run/secrets/rowcast",
     .help = "The password is the first line of this file, read again at each connect. It goes "
             "before one in --source."},
    {"Source", "slot", "NAME", OPTION_STRING, SOURCE_COMMANDS | SLOT_COMMANDS, FIELD(slot),
     .fallback = "rowcast", .valid = slot_valid, .accepts = "1 to 63 of a-z, 0-9 and _",
     .help = "The replication slot. It is the stream's name too: another slot is another stream."},
    {"Source", "publication", "NAME[,NAME]", OPTION_LIST, SOURCE_COMMANDS, FIELD(publications),
     .fallback = "rowcast", .separator = ',', .split = true, .accepts = "the names of publications",
     .help = "The publications to read. A missing one is created for the tables named by --table, "
             "never FOR ALL TABLES; without --table it is an error."},
    {"Source", "table", "GLOB", OPTION_LIST, SOURCE_COMMANDS | COMMAND_TAIL | COMMAND_JOURNAL,
     FIELD(tables), .separator = ',', .accepts = "globs over table names, such as shop.*",
     .example = "public.*",
     .help = "Only these tables; several may be given. A glob stands for the name as SQL quotes "
             "it, schema.table; without a dot for one in schema public. A table that is renamed "
             "stays wanted by the name that it had when it was first seen. Default: all that the "
             "publications have."},
    {"Source", "exclude-column", "GLOB", OPTION_LIST, SOURCE_COMMANDS, FIELD(exclude_columns),
     .separator = ',', .accepts = "globs over schema.table.column",
     .example = "public.users.password*",
     .help =
         "Columns that are never stored nor sent: globs over schema.table.column. For a "
         "partition the name of its table at the top counts too, and a column or table that is "
         "renamed stays excluded. Where partitions are published by themselves, one that is "
         "attached after its parent's column was renamed was never seen with the old name: name "
         "both. One that matches no column is refused."},
    {"Source", "mask-column", "GLOB", OPTION_LIST, SOURCE_COMMANDS, FIELD(mask_columns),
     .separator = ',', .accepts = "globs over schema.table.column", .example = "public.users.email",
     .help = "Columns whose values are replaced by **** before anything is stored; globs and "
             "renamed columns as above."},
    {"Source", "messages", "on|off", OPTION_BOOLEAN, KAFKA_COMMANDS, FIELD(messages),
     .fallback = "off",
     .help = "Also logical messages (pg_logical_emit_message); PostgreSQL 14 and newer."},
    {"Source", "streaming", "on|off", OPTION_BOOLEAN, COMMAND_RUN, FIELD(streaming),
     .fallback = "on",
     .help = "Receive large transactions while they are still open (PostgreSQL 14 and newer), so "
             "that they are there soon after their commit. Nothing is passed on before that."},
    {"Source", "spool-memory", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(spool_memory),
     .fallback = "8MiB", .min = 64 * KIB, .max = 64 * GIB,
     .help = "Open transactions are kept in memory up to this size together, then in files in the "
             "folder spool of the journal's directory."},
    {"Source", "spool-size", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(spool_size),
     .fallback = "10GiB", .min = 64 * KIB, .max = 1024 * TIB,
     .help = "When these files are larger, or their disk is full, reading goes on without "
             "--streaming for an hour."},
    {"Source", "binary", "on|off", OPTION_BOOLEAN, KAFKA_COMMANDS, FIELD(binary), .fallback = "off",
     .help = "Have the server send values in binary form, which costs it less; PostgreSQL 14 and "
             "newer. Events are the same. A column whose type can only be read as text (regclass "
             "and its like, money, many types of extensions) makes all values be sent as text, "
             "with a warning that names it."},
    {"Source", "origin", "any|none", OPTION_ENUM, KAFKA_COMMANDS, FIELD(origin), .fallback = "any",
     .choices = origins,
     .help = "none: leave out transactions that came to the server by replication themselves; "
             "PostgreSQL 16 and newer."},
    {"Source", "create", "on|off", OPTION_BOOLEAN, KAFKA_COMMANDS, FIELD(create), .fallback = "on",
     .help = "Create the publication and the slot when they are missing."},
    {"Source", "on-gap", "stop|mark", OPTION_ENUM, KAFKA_COMMANDS, FIELD(on_gap),
     .fallback = "stop", .choices = on_gaps,
     .help = "Where continuity is lost (slot lost, invalidated, consumed by somebody else; server "
             "restored, or promoted without the slot): stop ends the process with a status of its "
             "own; mark tells the gap in the stream and goes on, with a new slot where it must. "
             "Another server, or a database made anew, is always refused."},
    {"Source", "standby", "on|off", OPTION_BOOLEAN, COMMAND_RUN, FIELD(standby), .fallback = "off",
     .help = "Wait for a journal that another rowcast has (a shared volume), and take over when it "
             "ends, instead of refusing. A slot that another one reads is waited for in any "
             "case."},
    {"Source", "source-timeout", "DURATION", OPTION_DURATION, COMMAND_RUN, FIELD(source_timeout_us),
     .fallback = "auto", .min = SECOND, .max = DAY, .none = "auto",
     .help = "A server that was asked for a word and says none for this long is given up, and "
             "connected to again. auto: its wal_sender_timeout, or 60s where that is off."},
    {"Source", "idle-detach", "DURATION", OPTION_DURATION, COMMAND_RUN, FIELD(idle_detach_us),
     .fallback = "none", .min = SECOND, .max = DAY, .none = "none",
     .help = "When nothing has come for this long, let the connection go, so that a database that "
             "sleeps when nobody is connected can sleep. Consumers keep what they have."},
    {"Source", "idle-attach-every", "DURATION", OPTION_DURATION, COMMAND_RUN,
     FIELD(idle_attach_every_us), .fallback = "1h", .min = SECOND, .max = 30 * DAY,
     .help = "Connect again after this long, for a look, or before that by `rowcast attach`."},
    {"Source", "idle-wal-budget", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(idle_wal_budget),
     .fallback = "1GiB", .min = MIB, .max = 1024 * TIB, .none = "none",
     .help = "When more WAL than this is found to have gathered at a look, the next ones come "
             "sooner. Nobody sees it in between: leave room for it on the server's disk."},
    {"Source", "warn-retained-wal", "SIZE", OPTION_BYTES, KAFKA_COMMANDS, FIELD(warn_retained_wal),
     .fallback = "5GiB", .min = MIB, .max = 1024 * TIB, .none = "none",
     .help = "Warn when the server keeps this much WAL for the slot, or for another one, with what "
             "holds it back."},
    {"Source", "warn-safe-wal", "SIZE", OPTION_BYTES, KAFKA_COMMANDS, FIELD(warn_safe_wal),
     .fallback = "1GiB", .min = MIB, .max = 1024 * TIB, .none = "none",
     .help = "Warn when the slot is lost after less than this much further WAL "
             "(max_slot_wal_keep_size)."},
    {"Source", "warn-xmin-age", "N", OPTION_INTEGER, KAFKA_COMMANDS, FIELD(warn_xmin_age),
     .fallback = "100000000", .min = 1, .max = 2000000000, .none = "none",
     .help = "Warn when the slot keeps the server from cleaning up its catalogs for this many "
             "transactions."},
    {"Source", "row-max", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(row_max), .fallback = "1GiB",
     .min = MIB, .max = GIB, .help = "A larger row ends the process with an error that names it."},
    {"Source", "skip-to", "LSN", OPTION_STRING, COMMAND_RUN, FIELD(skip_to), .no_file = true,
     .valid = lsn_valid, .accepts = "a WAL position such as 0/16B3748",
     .help = "Give up, once, every transaction that is not in the journal yet and whose commit "
             "begins before this position: for one that cannot be decoded. Consumers get a gap "
             "marker. Once the journal is past it, it does nothing."},
    {"Source", "snapshot", "MODE", OPTION_ENUM, COMMAND_RUN, FIELD(snapshot), .fallback = "never",
     .choices = snapshot_modes,
     .help =
         "Existing rows: never unasked; initial: of every table, once, when the journal is new, "
         "and of tables that are published later; when_needed: and again after a gap. rowcast "
         "snapshot TABLE asks for those of one table."},
    {"Source", "snapshot-connections", "N", OPTION_INTEGER, COMMAND_RUN,
     FIELD(snapshot_connections), .fallback = "4", .min = 1, .max = 32,
     .help = "Connections that read existing rows, beside the stream's two; open only meanwhile."},
    {"Source", "snapshot-rate", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(snapshot_rate),
     .fallback = "off", .min = 64 * KIB, .max = 1024 * GIB, .none = "off",
     .help = "Read at most so many bytes of existing rows a second, over all connections."},
    {"Source", "batch-size", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(batch_size),
     .fallback = "64KiB", .min = 4 * KIB, .max = 8 * MIB,
     .help = "Under load changes are passed on in batches of about this size; otherwise at once."},

    {"Journal", "journal", "DIR", OPTION_FILE,
     COMMAND_RUN | COMMAND_SCHEMA | CONTROL_COMMANDS | COMMAND_ADOPT, FIELD(journal),
     .fallback = "rowcast-journal",
     .help = "The journal's own directory, made when missing. Relative to where rowcast is "
             "started."},
    {"Journal", "journal-size", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(journal_size),
     .fallback = "10GiB", .min = MIB, .max = 1024 * TIB,
     .help = "At this size the oldest segments go. Where Kafka still needs them, reading stops "
             "instead, and PostgreSQL keeps its WAL."},
    {"Journal", "journal-age", "DURATION", OPTION_DURATION, COMMAND_RUN, FIELD(journal_age_us),
     .fallback = "none", .min = SECOND, .max = 36500 * DAY, .none = "none",
     .help = "Segments older than this go too; a clock that jumps while rowcast runs does not age "
             "them."},
    {"Journal", "segment-size", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(segment_size),
     .fallback = "64MiB", .min = 64 * KIB, .max = 4 * GIB,
     .help = "Size of a journal file. The journal shrinks by whole files."},
    {"Journal", "memory", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(memory), .fallback = "16MiB",
     .min = MIB, .max = 64 * GIB,
     .help = "The newest changes kept in memory, for readers at the tail."},
    {"Journal", "compression", "LEVEL", OPTION_INTEGER, COMMAND_RUN, FIELD(compression),
     .fallback = "-1", .min = -7, .max = 19,
     .help = "zstd level of the journal's frames; a negative one is faster and larger."},
    {"Journal", "journal-sync", "on|off", OPTION_BOOLEAN, COMMAND_RUN, FIELD(journal_sync),
     .fallback = "on",
     .help = "Sync the journal to disk before the slot is acknowledged. off is for experiments: a "
             "power cut then loses changes."},

    {"WebSocket and HTTP", "listen", "ADDR:PORT|off", OPTION_STRING, KAFKA_COMMANDS, FIELD(listen),
     .fallback = "127.0.0.1:7654", .valid = listen_valid,
     .accepts = "ADDR:PORT, [IPV6]:PORT or off",
     .help = "Where the stream, the live page, /metrics, /healthz and /readyz are served. There is "
             "no authentication: an address that others can reach shows them the data."},
    {"WebSocket and HTTP", "allow-origin", "ORIGIN", OPTION_LIST, COMMAND_RUN, FIELD(allow_origins),
     .separator = ',', .split = true, .accepts = "origins such as https://app.example, or *",
     .example = "https://app.example",
     .help = "Web pages of this origin may connect, besides rowcast's own page; * for any."},
    {"WebSocket and HTTP", "allow-host", "HOST", OPTION_LIST, COMMAND_RUN, FIELD(allow_hosts),
     .separator = ',', .split = true, .accepts = "host names", .example = "rowcast.example",
     .help = "A name that clients may call this server by, besides localhost and the address it "
             "listens on."},
    {"WebSocket and HTTP", "connections-max", "N", OPTION_INTEGER, COMMAND_RUN,
     FIELD(connections_max), .fallback = "10000", .min = 1, .max = 1000000,
     .help = "Further connections get status 503."},
    {"WebSocket and HTTP", "subscriptions-max", "N", OPTION_INTEGER, COMMAND_RUN,
     FIELD(subscriptions_max), .fallback = "16", .min = 1, .max = 1000,
     .help = "Subscriptions on one connection."},
    {"WebSocket and HTTP", "request-max", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(request_max),
     .fallback = "64KiB", .min = KIB, .max = 16 * MIB,
     .help = "A larger message of a client closes its connection."},
    {"WebSocket and HTTP", "frame-max", "SIZE", OPTION_BYTES, COMMAND_RUN, FIELD(frame_max),
     .fallback = "16MiB", .min = 64 * KIB, .max = GIB,
     .help = "A row that does not fit is sent without its large columns, listed in `omitted`."},
    {"WebSocket and HTTP", "websocket-threads", "N", OPTION_INTEGER, COMMAND_RUN,
     FIELD(websocket_threads), .fallback = "1", .min = 1, .max = 64,
     .help = "Threads that serve connections."},
    {"WebSocket and HTTP", "page", "on|off", OPTION_BOOLEAN, COMMAND_RUN, FIELD(page),
     .fallback = "on", .help = "Serve the live page at /."},

    {"Kafka", "kafka", "HOST:PORT[,..]", OPTION_STRING, KAFKA_COMMANDS, FIELD(kafka),
     .valid = brokers_valid, .accepts = "HOST:PORT, several with commas",
     .example = "kafka-1.example:9092,kafka-2.example:9092",
     .help = "Brokers to begin with. Without it nothing goes to Kafka."},
    {"Kafka", "topic-prefix", "PREFIX", OPTION_STRING, KAFKA_COMMANDS, FIELD(topic_prefix),
     .fallback = "rowcast", .valid = prefix_valid,
     .accepts = "1 to 199 of a-z, A-Z, 0-9, ., _ and -",
     .help = "A table's topic is PREFIX.schema.table."},
    {"Kafka", "kafka-format", "FORMAT", OPTION_ENUM, KAFKA_COMMANDS, FIELD(kafka_format),
     .fallback = "protobuf", .choices = kafka_formats,
     .help = "Of the records' values: protobuf (a Change) or json."},
    {"Kafka", "kafka-tombstones", "on|off", OPTION_BOOLEAN, KAFKA_COMMANDS, FIELD(kafka_tombstones),
     .fallback = "on",
     .help = "A record without a value behind each delete, for compacted topics."},
    {"Kafka", "kafka-create-topics", "on|off", OPTION_BOOLEAN, KAFKA_COMMANDS,
     FIELD(kafka_create_topics), .fallback = "on", .help = "Create missing topics."},
    {"Kafka", "kafka-partitions", "N", OPTION_INTEGER, KAFKA_COMMANDS, FIELD(kafka_partitions),
     .fallback = "-1", .min = -1, .max = 10000,
     .help = "Partitions of a created topic; -1: the broker's default."},
    {"Kafka", "kafka-replication", "N", OPTION_INTEGER, KAFKA_COMMANDS, FIELD(kafka_replication),
     .fallback = "-1", .min = -1, .max = 100,
     .help = "Replicas of a created topic; -1: the broker's default."},
    {"Kafka", "kafka-gate", "on|off", OPTION_BOOLEAN, KAFKA_COMMANDS, FIELD(kafka_gate),
     .fallback = "on",
     .help = "The slot waits for Kafka: losing this disk then loses nothing. With off the journal "
             "alone vouches, and a Kafka outage never holds WAL."},
    {"Kafka", "kafka-property", "NAME=VALUE", OPTION_LIST, KAFKA_COMMANDS, FIELD(kafka_properties),
     .separator = '\n', .secret = true, .valid = property_valid,
     .accepts = "NAME=VALUE, a property of librdkafka", .example = "security.protocol=SASL_SSL",
     .help = "A property of librdkafka; several may be given (in the environment: a line each). "
             "What would break a promise is refused."},

    {"Output", "stdout", NULL, OPTION_SWITCH, COMMAND_RUN, FIELD(std_out), .fallback = "off",
     .help = "Print every entry as a line of JSON, from the moment of the start on; nothing else "
             "goes to stdout. Its place is not kept over restarts. Room on a full disk is waited "
             "for; a reader that goes away ends this output, not the process."},
    {"Output", "from", "now|earliest|CURSOR", OPTION_STRING, COMMAND_TAIL | COMMAND_JOURNAL,
     FIELD(from), .no_file = true, .valid = from_valid, .accepts = "now, earliest or a cursor",
     .help = "Where to begin: at the next change (tail's default), at the oldest that is kept "
             "(dump's), or behind the change whose cursor this is."},
    {"Output", "json", NULL, OPTION_SWITCH, COMMAND_TAIL, FIELD(json), .fallback = "off",
     .no_file = true, .help = "Print each entry's JSON on a line, as it was received."},
    {"General", "stop-grace", "DURATION", OPTION_DURATION, COMMAND_RUN, FIELD(stop_grace_us),
     .fallback = "5s", .max = 3600 * SECOND,
     .help = "At the end sinks have this long to deliver what they hold."},
    {"General", "log-level", "LEVEL", OPTION_ENUM, SOURCE_COMMANDS | SLOT_COMMANDS | COMMAND_TAIL,
     FIELD(log_level), .fallback = "info", .choices = log_levels,
     .help = "debug, info, warn or error. Logs go to stderr, a line of key=value each."},
    {"General", "config", "FILE", OPTION_FILE, SOURCE_COMMANDS | CONTROL_COMMANDS | SLOT_COMMANDS,
     FIELD(config), .no_file = true,
     .help = "The configuration file; `rowcast help config` prints one with every option."},
    {"General", "help", NULL, OPTION_SWITCH, COMMAND_ALL, FIELD(help), .fallback = "off",
     .no_file = true, .help = "Print this."},
};
const size_t option_count = ARRAY_LEN(options);
_Static_assert(ARRAY_LEN(options) < ARRAY_LEN(((struct settings *)0)->given),
               "given[] is too short");

const struct option_info *option_find(const char *name)
{
    for (size_t i = 0; i < option_count; i++) {
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    }
    return NULL;
}

const char *option_env(const struct option_info *o, char buf[OPTION_ENV_MAX])
{
    int n = snprintf(buf, OPTION_ENV_MAX, "ROWCAST_%s", o->name);
    CHECK(n > 0 && n < OPTION_ENV_MAX);
    for (char *at = buf; *at; at++)
        *at = *at == '-' ? '_' : *at >= 'a' && *at <= 'z' ? (char)(*at - 32) : *at;
    return buf;
}
