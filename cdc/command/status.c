// The commands that only pass a question on to the rowcast that runs.
#include "command/command.h"
#include "control.h"

static int ask(const struct settings *s, const char *verb, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    if (control_ask(s->journal, verb, "", &out, e) != 0)
        return -1;
    *ret_status = 0;
    return command_print(&out, NULL, e);
}

int command_status(const struct settings *s, int *ret_status, struct err *e)
{
    return ask(s, "status", ret_status, e);
}

int command_attach(const struct settings *s, int *ret_status, struct err *e)
{
    return ask(s, "attach", ret_status, e);
}

int command_detach(const struct settings *s, int *ret_status, struct err *e)
{
    return ask(s, "detach", ret_status, e);
}
