// Logs: one line of key=value to stderr. Logged once, where the decision is taken; what is not
// fatal says what happens next ("retrying in 2 s", "ignoring").
#pragma once

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
bool log_level_parse(const char *name, enum log_level *ret_level);
bool log_enabled(enum log_level level);

// log_write(LOG_INFO, "connected", "slot=%s lsn=%s", ..): the message, then more key=value pairs.
// A value with a space must be quoted by the caller with log_quote.
void log_write(enum log_level level, const char *msg, const char *fmt, ...) PRINTF_LIKE(3, 4);
#define log_debug(...) (log_enabled(LOG_DEBUG) ? log_write(LOG_DEBUG, __VA_ARGS__) : (void)0)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

// text as a quoted value with \" \\ \n escaped, cut at 1000 bytes; in a ring of 8 buffers a thread.
const char *log_quote(const char *text);
