// Why a server's certificate is not accepted: libpq says only that it is not. The server is asked
// for it once more, and OpenSSL for what is wrong with it.
#pragma once

#include "base/base.h"

#include <libpq-fe.h>

struct tls_fault {
    char text[256];     // which certificate, and what is wrong with it
    const char *remedy; // "..."
};

// pg: a connection that failed because of it. False: nothing was found. Waits up to
// TLS_PATIENCE_US for the server.
#define TLS_PATIENCE_US INT64_C(2000000)
bool tls_explain(PGconn *pg, struct tls_fault *ret_f);
