#include "config/help.h"

#include "config/value.h"

#include <stdio.h>

#define WIDTH       96
#define TEXT_COLUMN 32

// Words of text, wrapped at WIDTH; the first line goes on at `column`, further ones begin with
// `indent` (its first character may be '#').
static void wrap(struct buf *out, const char *text, size_t column, const char *indent)
{
    bool first = true;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, " ");
        if (!first && column + 1 + n > WIDTH) {
            buf_printf(out, "\n%s", indent);
            column = strlen(indent);
        } else if (!first) {
            buf_putc(out, ' ');
            column++;
        }
        buf_put(out, at, n);
        column += n;
        first = false;
        at += n + strspn(at + n, " ");
    }
    buf_putc(out, '\n');
}

static void put_usage(struct buf *out, const struct command_info *c)
{
    const char *lead = "Usage: ";
    bool several = c->id == COMMAND_JOURNAL; // each line is a usage of its own
    size_t indent = strlen("Usage: rowcast  ") + strlen(c->name);
    const char *line = c->usage;
    buf_printf(out, "%srowcast %s", lead, c->name);
    while (*line) {
        size_t n = strcspn(line, "\n");
        buf_printf(out, " %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
        if (*line && several)
            buf_printf(out, "       rowcast %s", c->name);
        else if (*line)
            buf_printf(out, "%*s", (int)indent - 1, "");
    }
    if (out->p[out->n - 1] != '\n')
        buf_putc(out, '\n');
}

// "  --slot NAME                   text .. Default: rowcast."
static void put_option(struct buf *out, const struct option_info *o)
{
    size_t start = out->n;
    buf_printf(out, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    size_t column = out->n - start;
    if (column + 2 > TEXT_COLUMN) {
        buf_putc(out, '\n');
        column = 0;
    }
    buf_printf(out, "%*s", (int)(TEXT_COLUMN - column), "");
    AUTO_BUF struct buf text = {0};
    buf_puts(&text, o->help);
    if (o->fallback && o->value)
        buf_printf(&text, " Default: %s.", o->fallback);
    wrap(out, buf_cstr(&text), TEXT_COLUMN, "                                ");
}

static const char exit_codes[] =
    "Exit status:\n"
    "  0  done, or stopped by a signal        5  data: the same input fails again and again\n"
    "  1  internal error                      6  journal: unwritable, corrupt, foreign or in use\n"
    "  2  usage: command line or file         7  address or port to listen on\n"
    "  3  source: not reachable, or refuses   8  Kafka refuses\n"
    "  4, 9 to 14  continuity is broken     130, 143  a second SIGINT, SIGTERM\n";

void help_overview(struct buf *out)
{
    buf_puts(out, "rowcast " ROWCAST_VERSION
                  ": PostgreSQL's row changes, live, to browsers, Kafka and terminals\n\n"
                  "Usage: rowcast COMMAND [OPTION ...]\n\n");
    for (size_t i = 0; i < command_count; i++)
        buf_printf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    buf_puts(
        out,
        "\nA first try, with the page at http://127.0.0.1:7654/ and the changes in a terminal:\n\n"
        "  rowcast run --source postgresql://user@host/database --table 'public.*'\n"
        "  rowcast tail\n\n"
        "rowcast help COMMAND lists a command's options. Each may also stand in the environment "
        "(--slot\nas ROWCAST_SLOT) or in a file (--config FILE); rowcast help config prints such a "
        "file.\n\n");
    buf_puts(out, exit_codes);
}

void help_command(struct buf *out, const struct command_info *c)
{
    put_usage(out, c);
    if (c->text[0]) {
        buf_putc(out, '\n');
        wrap(out, c->text, 0, "");
    }
    const char *group = "";
    bool any = false;
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        if (!(o->commands & c->id))
            continue;
        if (strcmp(group, o->group) != 0)
            buf_printf(out, "\n%s:\n", o->group);
        group = o->group;
        put_option(out, o);
        any |= strcmp(o->name, "help") != 0;
    }
    if (any) {
        buf_puts(out, "\nSizes: 4096, 64KiB, 10GB ..; durations: 500ms, 30s, 5min, 24h, 7d.\n"
                      "An option of the command line goes before the environment (--slot: "
                      "ROWCAST_SLOT)");
        buf_puts(out, c->id & (COMMAND_TAIL | COMMAND_JOURNAL)
                          ? ".\n"
                          : ",\nthat before the configuration file (slot = \"..\").\n");
    }
    if (c->id == COMMAND_RUN)
        buf_printf(out, "\n%s", exit_codes);
}

static void put_quoted(struct buf *out, const char *text)
{
    buf_putc(out, '"');
    for (const char *at = text; *at; at++) {
        if (*at == '"' || *at == '\\')
            buf_putc(out, '\\');
        buf_putc(out, *at);
    }
    buf_putc(out, '"');
}

void help_example_file(struct buf *out)
{
    buf_puts(out,
             "# A configuration file of rowcast: rowcast run --config FILE\n"
             "#\n"
             "# Every option there is, with its default, or an example where it has none. What\n"
             "# stands on the command line or in the environment goes before this file. An\n"
             "# unknown or repeated name is an error. \"${NAME}\" is replaced from the\n"
             "# environment. Printed by: rowcast help config\n");
    const char *group = "";
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        if (o->no_file)
            continue;
        if (strcmp(group, o->group) != 0)
            buf_printf(out, "\n# ---- %s ----\n", o->group);
        group = o->group;
        buf_puts(out, "\n# ");
        wrap(out, o->help, 2, "# ");
        if (o->type != OPTION_STRING && o->type != OPTION_FILE && o->type != OPTION_LIST) {
            AUTO_BUF struct buf accepts = {0};
            value_accepts(&accepts, o);
            buf_puts(out, "# Takes ");
            wrap(out, buf_cstr(&accepts), 8, "# ");
        }
        bool list = o->type == OPTION_LIST;
        buf_printf(out, "#%s = %s", o->name, list ? "{" : "");
        put_quoted(out, o->fallback ? o->fallback : o->example ? o->example : "");
        buf_puts(out, list ? "}\n" : "\n");
    }
}

void help_markdown(struct buf *out)
{
    const char *group = "";
    for (size_t i = 0; i < option_count; i++) {
        const struct option_info *o = &options[i];
        if (strcmp(o->name, "help") == 0)
            continue;
        if (strcmp(group, o->group) != 0)
            buf_printf(
                out,
                "%s**%s**\n\n| option | default | commands | what it does |\n|---|---|---|---|\n",
                *group ? "\n" : "", o->group);
        group = o->group;
        buf_printf(out, "| `--%s%s", o->name, o->value ? " " : "");
        for (const char *at = o->value ? o->value : ""; *at; at++)
            buf_printf(out, "%s%c", *at == '|' ? "\\" : "", *at);
        buf_puts(out, "` | ");
        if (o->fallback)
            buf_printf(out, "`%s`", o->fallback);
        buf_puts(out, " |");
        const char *comma = " ";
        for (size_t c = 0; c < command_count; c++) {
            if (o->commands & commands[c].id) {
                buf_printf(out, "%s%s", comma, commands[c].name);
                comma = ", ";
            }
        }
        buf_puts(out, " | ");
        for (const char *at = o->help; *at; at++) // * and _ of globs are no emphasis
            buf_printf(out, "%s%c", *at == '*' || *at == '|' ? "\\" : "", *at);
        buf_puts(out, " |\n");
    }
}
