#include "command/command.h"
#include "control.h"

int command_status(const struct settings *s, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    if (control_ask(s->journal, "status", "", &out, e) != 0)
        return -1;
    *ret_status = 0;
    return command_print(&out, NULL, e);
}
