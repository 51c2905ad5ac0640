// The configuration file, in libConfuse's syntax: `name = value`, lists as {"a", "b"}, # comments.
#pragma once

#include "config/option.h"

#define CONFIG_FILE_BYTES_MAX (1 << 20) // larger: refused

// Sets every option of the file that given[] does not have yet. ERR_USAGE with file and line:
// unreadable, unknown or repeated key, bad value. Not for two threads at once (libConfuse's scanner
// is global).
int config_file_load(struct settings *s, const char *path, struct err *e) MUST_CHECK;
// The same from a text; `path` is its name in errors.
int config_text_load(struct settings *s, const char *path, const char *text,
                     struct err *e) MUST_CHECK;
