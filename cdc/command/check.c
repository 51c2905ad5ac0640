#include "command/command.h"

// ADDR:PORT that nobody else reaches.
static bool is_local(const char *address)
{
    static const char *const local[] = {"127.", "[::1]", "localhost:"};
    for (size_t i = 0; i < ARRAY_LEN(local); i++) {
        if (strncmp(address, local[i], strlen(local[i])) == 0)
            return true;
    }
    return false;
}

// Who is reached without TLS and without a log-in, or reaches us so.
static void check_ports(const struct settings *s, struct buf *out)
{
    if (strcmp(s->listen, "off") != 0 && !is_local(s->listen))
        buf_printf(out,
                   "warn: listen %s: others reach it, without TLS and without a log-in; remedy: "
                   "listen on 127.0.0.1, behind a reverse proxy that has both\n",
                   s->listen);
    bool plain = s->kafka && !is_local(s->kafka);
    for (size_t i = 0; plain && i < s->kafka_properties.n; i++)
        plain = !strstr(s->kafka_properties.items[i], "SSL");
    if (plain)
        buf_printf(out,
                   "warn: kafka %s: records are sent without TLS; remedy: --kafka-property "
                   "security.protocol=SSL or SASL_SSL\n",
                   s->kafka);
}

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
    check_ports(s, &out);
    int bad = source_bad + kafka_bad;
    buf_printf(&out, "%d problem%s\n", bad, bad == 1 ? "" : "s");
    *ret_status = source_bad ? err_exit_code(ERR_SOURCE) : kafka_bad ? err_exit_code(ERR_KAFKA) : 0;
    return command_print(&out, NULL, e);
}
