#include "command/command.h"

int command_check(const struct settings *s, int *ret_status, struct err *e)
{
    if (command_need_source(s, "check", e) != 0)
        return -1;
    AUTO_BUF struct buf out = {0};
    struct source_options source = command_source_options(s);
    int source_bad = 0, kafka_bad = 0;
    struct err cause; // stands in the findings
    if (source_check(&source, &out, &source_bad, &cause) != 0 && source_bad == 0)
        source_bad = 1;
    if (s->kafka) {
        struct kafka_options kafka = command_kafka_options(s);
        if (kafka_check(&kafka, s->tables.items, s->tables.n, &out, &kafka_bad, &cause) != 0 &&
            kafka_bad == 0)
            kafka_bad = 1;
    }
    buf_printf(&out, "%d problems\n", source_bad + kafka_bad);
    *ret_status = source_bad ? err_exit_code(ERR_SOURCE) : kafka_bad ? err_exit_code(ERR_KAFKA) : 0;
    return command_print(&out, NULL, e);
}
