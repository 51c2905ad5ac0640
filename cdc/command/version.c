#include "command/command.h"

int command_version(const struct settings *s, int *ret_status, struct err *e)
{
    (void)s;
    AUTO_BUF struct buf out = {0};
    buf_puts(&out, "rowcast " ROWCAST_VERSION "\n");
    *ret_status = 0;
    return command_print(&out, NULL, e);
}
