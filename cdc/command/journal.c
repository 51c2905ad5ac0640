#include "command/command.h"
#include "sinks/stdout/lines.h"

#define DUMP_CHUNK_BYTES (256 * 1024)

// Opens the reader where --from says.
static int dump_reader(const struct settings *s, struct journal *j, struct journal_reader **ret_r,
                       struct err *e)
{
    struct cursor c;
    if (!s->from || strcmp(s->from, "earliest") == 0)
        return journal_reader_open(j, "dump", FROM_EARLIEST, NULL, false, NULL, NULL, ret_r, e);
    if (!cursor_parse(s->from, strlen(s->from), &c))
        return err_set(e, ERR_USAGE, "--from: dump takes earliest or a cursor");
    switch (journal_check_cursor(j, &c)) {
    case CURSOR_OK:
        return journal_reader_open(j, "dump", FROM_POSITION, &c, false, NULL, NULL, ret_r, e);
    case CURSOR_EXPIRED:
        return err_set(e, ERR_USAGE, "--from: older than what the journal keeps: take earliest");
    case CURSOR_OTHER_TIMELINE:
        return err_set(e, ERR_USAGE, "--from: the cursor's timeline is not in this history");
    case CURSOR_OTHER_STREAM:
        break;
    }
    return err_set(e, ERR_USAGE, "--from: a cursor of another stream than this journal's");
}

// From where the reader stands to the tail of this moment.
static int dump(struct journal *j, struct journal_reader *r, struct lines *lines, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    bool closed = false;
    while (!closed) {
        struct batch *b = NULL;
        enum read_result result = journal_reader_next(r, &b, e);
        int bad = 0;
        if (result == READ_TAIL)
            return command_print(&out, NULL, e);
        if (result == READ_ERROR)
            return -1;
        if (result == READ_EXPIRED || result == READ_OTHER_STREAM)
            return err_set(e, ERR_JOURNAL,
                           "retention removed segments while they were dumped: start again");
        if (result == READ_RESTART) {
            lines_restart(lines, &out);
        } else {
            bad = lines_batch(lines, journal_latest(j), b, journal_reader_skip(r), &out, e);
            b = batch_unref(b);
        }
        if (bad || (out.n >= DUMP_CHUNK_BYTES && command_print(&out, &closed, e) != 0))
            return -1;
        if (out.n >= DUMP_CHUNK_BYTES)
            buf_clear(&out);
    }
    return 0;
}

static int journal_dump(const struct settings *s, const char *dir, struct err *e)
{
    struct journal_options o = {.dir = dir, .read_only = true};
    struct journal *j = NULL;
    struct journal_reader *r = NULL;
    if (journal_open(&o, &j, e) != 0)
        return -1;
    struct lines *lines = lines_new(journal_catalog(j), s->tables.items, s->tables.n);
    int bad = dump_reader(s, j, &r, e) != 0 || dump(j, r, lines, e) != 0;
    lines_free(lines);
    if (r)
        journal_reader_close(r);
    journal_close(j);
    return bad ? -1 : 0;
}

int command_journal(const struct settings *s, int *ret_status, struct err *e)
{
    const char *what = s->args.n > 0 ? s->args.items[0] : "";
    *ret_status = 0;
    if (strcmp(what, "list") != 0 && strcmp(what, "verify") != 0 && strcmp(what, "dump") != 0)
        return err_set(e, ERR_USAGE, "journal: say list, verify or dump, then the directory");
    if (s->args.n < 2)
        return err_set(e, ERR_USAGE, "journal %s: say which directory", what);
    const char *dir = s->args.items[1];
    if (strcmp(what, "dump") == 0)
        return journal_dump(s, dir, e);
    if (s->tables.n || s->from)
        return err_set(e, ERR_USAGE, "journal %s: --table and --from are for dump", what);
    return strcmp(what, "list") == 0 ? journal_list(dir, e) : journal_verify(dir, e);
}
