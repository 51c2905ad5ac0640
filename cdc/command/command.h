// The commands: each takes its settings and returns 0 with the process's exit status, or -1 with an
// error, whose class gives it.
#pragma once

#include "base/buf.h"
#include "config/option.h"
#include "sinks/kafka/kafka.h"
#include "source/source.h"

int command_run(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_tail(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_check(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_schema(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_journal(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_adopt(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_slot(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_attach(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_detach(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_status(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_snapshot(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_version(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;
int command_help(const struct settings *s, int *ret_status, struct err *e) MUST_CHECK;

// What several of them need.

#define DEFAULT_ADDRESS "ws://127.0.0.1:7654"

// Borrowed from the settings.
struct source_options command_source_options(const struct settings *s);
struct kafka_options command_kafka_options(const struct settings *s);
// Whether this option was given anywhere (else it has its default).
bool command_given(const struct settings *s, const char *option);
int command_need_source(const struct settings *s, const char *command, struct err *e) MUST_CHECK;
// Writes to stdout. A reader that went away (head) is not an error: *ret_closed, or ignored when
// NULL.
int command_print(const struct buf *text, bool *ret_closed, struct err *e) MUST_CHECK;
