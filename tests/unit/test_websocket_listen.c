// The address to listen on, on machines with and without IPv6.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sinks/websocket/listen.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool without_ipv6;

// Stands before libc's: a machine's IPv6 can only be turned off when it starts.
int socket(int family, int type, int protocol)
{
    if (family == AF_INET6 && without_ipv6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return (int)syscall(SYS_socket, family, type, protocol);
}

static const char *listens(const char *where)
{
    static char text[ADDRESS_TEXT_MAX];
    int fd;
    struct err e;
    if (listen_open(where, &fd, text, &e) != 0)
        return NULL;
    close(fd);
    return text;
}

static void every_address(void **state)
{
    (void)state;
    without_ipv6 = true;
    const char *text = listens("*:0");
    assert_non_null(text);
    assert_memory_equal(text, "0.0.0.0:", 8);
    assert_null(listens("[::1]:0")); // asked for by name: not another instead
    without_ipv6 = false;
    text = listens("127.0.0.1:0");
    assert_non_null(text);
    assert_memory_equal(text, "127.0.0.1:", 10);
}

static void a_port_in_use_is_said(void **state)
{
    (void)state;
    int first, second;
    char text[ADDRESS_TEXT_MAX], again[ADDRESS_TEXT_MAX], where[ADDRESS_TEXT_MAX + 8];
    struct err e;
    without_ipv6 = true;
    assert_int_equal(listen_open("*:0", &first, text, &e), 0);
    snprintf(where, sizeof where, "*%s", strchr(text, ':'));
    assert_int_equal(listen_open(where, &second, again, &e), -1);
    assert_non_null(strstr(e.text, "another with --listen"));
    close(first);
}

static void what_is_no_address(void **state)
{
    (void)state;
    static const char *const cases[] = {"7654", "localhost", "127.0.0.1:", "[::1:7654", "[]:7654"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_null(listens(cases[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_address),
        cmocka_unit_test(a_port_in_use_is_said),
        cmocka_unit_test(what_is_no_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
