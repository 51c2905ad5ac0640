#include "proto/schema.h"

#include "base/log.h"
#include "command/command.h"
#include "sinks/websocket/websocket.h"

static int by_table(const void *a, const void *b)
{
    const struct relation *const *x = a, *const *y = b;
    return strcmp((*x)->table, (*y)->table);
}

static int from_journal(const struct settings *s, struct buf *out, struct err *e)
{
    struct journal_options o = {.dir = s->journal, .read_only = true};
    struct journal *j;
    if (journal_open(&o, &j, e) != 0)
        return -1;
    const struct catalog *catalog = journal_catalog(j);
    uint32_t count = catalog_count(catalog);
    const struct relation **newest = xcalloc(count, sizeof(const struct relation *));
    size_t n = 0;
    for (uint32_t id = 1; id <= count; id++) {
        const struct relation *r = catalog_get(catalog, id);
        if (r && catalog_latest(catalog, r->table) == r &&
            table_match_any(s->tables.items, s->tables.n, r->table))
            newest[n++] = r;
    }
    qsort(newest, n, sizeof(const struct relation *), by_table);
    schema_render(out, newest, n, false);
    free(newest);
    journal_close(j);
    return 0;
}

static int from_server(const struct settings *s, const char *url, struct buf *out, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    buf_puts(&path, "/v1/schema");
    for (size_t i = 0; i < s->tables.n; i++) {
        buf_printf(&path, "%ctable=", i ? '&' : '?');
        for (const char *at = s->tables.items[i]; *at; at++) {
            bool plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                         (*at >= '0' && *at <= '9') || strchr("-._*", *at);
            if (plain)
                buf_putc(&path, *at);
            else
                buf_printf(&path, "%%%02X", (unsigned char)*at);
        }
    }
    return websocket_get(url, buf_cstr(&path), out, e);
}

int command_schema(const struct settings *s, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    int r;
    if (s->args.n > 0) {
        r = from_server(s, s->args.items[0], &out, e);
    } else if (command_given(s, "journal")) {
        r = from_journal(s, &out, e);
    } else if (s->source) {
        struct source_options source = command_source_options(s);
        r = source_schema(&source, &out, e);
    } else {
        r = from_server(s, DEFAULT_ADDRESS, &out, e);
    }
    if (r != 0)
        return -1;
    if (!strstr(buf_cstr(&out), "\nmessage "))
        log_warn("no table is known that matches: the schema is empty", "remedy=%s",
                 log_quote("correct --table; a running rowcast knows the published tables"));
    *ret_status = 0;
    return command_print(&out, NULL, e);
}
