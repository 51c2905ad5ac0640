// rowcast COMMAND ..: finds the command, reads its settings, runs it, and says once what went
// wrong.
#include "base/log.h"
#include "command/command.h"
#include "config/help.h"

#include <signal.h>
#include <stdio.h>

static const struct {
    enum command id;
    int (*run)(const struct settings *s, int *ret_status, struct err *e);
} programs[] = {
    {COMMAND_RUN, command_run},           {COMMAND_TAIL, command_tail},
    {COMMAND_CHECK, command_check},       {COMMAND_SCHEMA, command_schema},
    {COMMAND_JOURNAL, command_journal},   {COMMAND_VERSION, command_version},
    {COMMAND_HELP, command_help},         {COMMAND_STATUS, command_status},
    {COMMAND_ADOPT, command_adopt},       {COMMAND_SLOT, command_slot},
    {COMMAND_SNAPSHOT, command_snapshot}, {COMMAND_ATTACH, command_attach},
    {COMMAND_DETACH, command_detach},
};

// The one place where an error is said. A daemon's goes to its log.
static int give_up(const struct command_info *c, const struct err *e)
{
    int status = err_exit_code(e->class);
    if (c && c->id == COMMAND_RUN)
        log_error("giving up", "class=%s exit=%d error=%s", err_class_name(e->class), status,
                  log_quote(e->text));
    else
        fprintf(stderr, "rowcast: %s\n", e->text);
    return status;
}

static const struct command_info *find(const char *word)
{
    if (!word || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return command_get(COMMAND_HELP);
    if (strcmp(word, "--version") == 0)
        return command_get(COMMAND_VERSION);
    return command_find(word);
}

static int run(const struct command_info *c, const struct settings *s, struct err *e,
               int *ret_status)
{
    if (s->help) {
        AUTO_BUF struct buf out = {0};
        help_command(&out, c);
        *ret_status = 0;
        return command_print(&out, NULL, e);
    }
    log_set_level((enum log_level)s->log_level);
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        if (programs[i].id == c->id)
            return programs[i].run(s, ret_status, e);
    }
    CHECK(!"a command without a program");
    return -1;
}

int main(int argc, char **argv)
{
    struct err e = {ERR_NONE, ""};
    struct settings s;
    int status = 0;
    const struct command_info *c = find(argc > 1 ? argv[1] : NULL);
    if (!c) {
        (void)err_set(&e, ERR_USAGE, "\"%.100s\" is no command; rowcast help lists them", argv[1]);
        return give_up(NULL, &e);
    }
    signal(SIGPIPE, SIG_IGN); // a write says so itself
    int skip = argc > 1;
    if (settings_load(&s, c->id, argc - skip, argv + skip, &e) != 0)
        return give_up(c, &e);
    if (run(c, &s, &e, &status) != 0)
        status = give_up(c, &e);
    settings_free(&s);
    return status;
}
