// The listening socket, ours and not libwebsockets': one port for any number of its contexts.
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <sys/socket.h>

#define ADDRESS_TEXT_MAX 80

// Listens on "ADDR:PORT", "[ADDR6]:PORT" or "*:PORT"; port 0: any. The address as it came out is
// written to ret_text ("127.0.0.1:7654").
int listen_open(const char *where, int *ret_fd, char ret_text[ADDRESS_TEXT_MAX],
                struct err *e) MUST_CHECK;
// The next connection, non-blocking and tuned for frames; -1 with errno.
int listen_accept(int fd);
// The address that a connection came in on, without port and brackets.
void listen_local(int fd, char ret_text[ADDRESS_TEXT_MAX]);
