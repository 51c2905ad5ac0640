#include "source/connect/tls.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *remedy_of(int code)
{
    switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "have it renewed, and look at this machine's clock";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "look at this machine's clock, or wait";
    case X509_V_ERR_CERT_REVOKED:
        return "have the server use another: the list in sslcrl or sslcrldir names this one";
    case X509_V_ERR_UNABLE_TO_GET_CRL:
        return "sslcrl or sslcrldir must have the list of every CA in the chain, the root's too";
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return "fetch a new list of revoked certificates for sslcrl or sslcrldir";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return "put the certificate of the CA that signs the server's into sslrootcert; the "
               "server's ssl_cert_file must have the CAs in between too";
    default:
        return "see the server's ssl_cert_file, and sslrootcert here";
    }
}

static void put_time(char text[32], const ASN1_TIME *time)
{
    struct tm tm;
    if (!ASN1_TIME_to_tm(time, &tm) || strftime(text, 32, "%Y-%m-%d %H:%M:%SZ", &tm) == 0)
        snprintf(text, 32, "%s", "?");
}

// Called for each fault of each certificate in the chain (ok: for one without). The first counts.
static int listen_in(int ok, X509_STORE_CTX *x)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_fault *f = SSL_get_app_data(ssl);
    if (ok || *f->text)
        return ok;
    X509 *certificate = X509_STORE_CTX_get_current_cert(x);
    int code = X509_STORE_CTX_get_error(x);
    char subject[120] = "?", until[32] = "";
    if (certificate) {
        (void)X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
        if (code == X509_V_ERR_CERT_HAS_EXPIRED)
            put_time(until, X509_get0_notAfter(certificate));
    }
    snprintf(f->text, sizeof f->text, "%s (%s%s%s)", X509_verify_cert_error_string(code), subject,
             *until ? ", valid until " : "", until);
    f->remedy = remedy_of(code);
    return ok;
}

// ---- asking once more ----

// Until fd is ready or the deadline has come.
static bool wait_for(int fd, short events, int64_t deadline)
{
    int64_t left = deadline - clock_mono_us();
    struct pollfd p = {.fd = fd, .events = events};
    return left > 0 && poll(&p, 1, (int)(left / 1000) + 1) == 1;
}

// A socket that does not block, connected; -1: none.
static int dial(const char *host, const char *port, int64_t deadline)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &list) != 0)
        return -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int error = 0;
        socklen_t n = sizeof error;
        if (fd >= 0 && ((connect(fd, a->ai_addr, a->ai_addrlen) != 0 && errno != EINPROGRESS) ||
                        !wait_for(fd, POLLOUT, deadline) ||
                        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0 || error != 0)) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword; options++) {
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && *options->val ? options->val : NULL;
    }
    return NULL;
}

// What libpq takes when it is not told: a file in ~/.postgresql.
static const char *or_default(const char *given, const char *name, struct buf *room)
{
    const char *home = getenv("HOME");
    if (given || !home)
        return given;
    buf_printf(room, "%s/.postgresql/%s", home, name);
    return access(buf_cstr(room), R_OK) == 0 ? buf_cstr(room) : NULL;
}

static SSL_CTX *context(const PQconninfoOption *options)
{
    AUTO_BUF struct buf root_room = {0}, crl_room = {0};
    const char *root = or_default(option(options, "sslrootcert"), "root.crt", &root_room);
    const char *crl = or_default(option(options, "sslcrl"), "root.crl", &crl_room);
    const char *crls = option(options, "sslcrldir");
    SSL_CTX *x = SSL_CTX_new(TLS_client_method());
    if (!x)
        return NULL;
    if (root && strcmp(root, "system") == 0)
        (void)SSL_CTX_set_default_verify_paths(x);
    else if (root)
        (void)SSL_CTX_load_verify_locations(x, root, NULL);
    X509_STORE *store = SSL_CTX_get_cert_store(x);
    if ((crl || crls) && X509_STORE_load_locations(store, crl, crls) == 1)
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    SSL_CTX_set_verify(x, SSL_VERIFY_PEER, listen_in);
    return x;
}

// Its end is a failure: that is why we are here. Of interest is what listen_in hears.
static void shake_hands(int fd, SSL_CTX *x, int64_t deadline, struct tls_fault *f)
{
    static const uint8_t request[8] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}; // SSLRequest
    char answer = 0;
    if (send(fd, request, sizeof request, MSG_NOSIGNAL) != sizeof request ||
        !wait_for(fd, POLLIN, deadline) || recv(fd, &answer, 1, 0) != 1 || answer != 'S')
        return;
    SSL *ssl = SSL_new(x);
    bool going_on = ssl && SSL_set_fd(ssl, fd) == 1;
    if (going_on)
        SSL_set_app_data(ssl, f);
    while (going_on) {
        int error = SSL_get_error(ssl, SSL_connect(ssl));
        going_on = (error == SSL_ERROR_WANT_READ && wait_for(fd, POLLIN, deadline)) ||
                   (error == SSL_ERROR_WANT_WRITE && wait_for(fd, POLLOUT, deadline));
    }
    SSL_free(ssl);
}

bool tls_explain(PGconn *pg, struct tls_fault *ret_f)
{
    *ret_f = (struct tls_fault){0};
    const char *address = PQhostaddr(pg), *host = PQhost(pg);
    PQconninfoOption *options = PQconninfo(pg);
    SSL_CTX *x = options ? context(options) : NULL;
    int64_t deadline = clock_mono_us() + TLS_PATIENCE_US;
    AUTO_CLOSE int fd = x ? dial(address && *address ? address : host, PQport(pg), deadline) : -1;
    if (fd >= 0)
        shake_hands(fd, x, deadline, ret_f);
    SSL_CTX_free(x);
    ERR_clear_error(); // ours: libpq is on this thread too
    PQconninfoFree(options);
    return *ret_f->text;
}
