"""Fixtures of the end-to-end tests, and the logs of those that fail."""

import os
import re
import shutil
import signal
import time

import pytest

from lib import paths, process
from lib.kafka import Kafka
from lib.postgres import DEBIAN, SERVERS, Postgres, server_name
from lib.rowcast import Rowcast
from lib.tls import Authority, give_to_server


if "PYTEST_XDIST_WORKER" in os.environ:  # workers ignore it, and what they start would too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def make_postgres():
    """make_postgres(version, conf=.., hba=..): a running server, destroyed after the test."""
    made = []

    def make(version=DEBIAN, **options):
        made.append(Postgres(version, **options))
        return made[-1].start()

    yield make
    for server in made:
        server.destroy()


@pytest.fixture
def pg(make_postgres):
    """A running server of Debian's version."""
    return make_postgres()


@pytest.fixture
def pg_with_tls(make_postgres):
    """A running server that speaks TLS, with a certificate for 127.0.0.1 and localhost by the
    intermediate CA of `authority` (a lib.tls.Authority, whose root is to be trusted). The role
    `by_certificate` must show a client certificate; everybody else may come as before."""
    authority = Authority()
    pair = authority.pair("localhost", ["127.0.0.1", "localhost"])
    give_to_server(*pair)
    server = make_postgres(conf={"ssl": "on", "ssl_cert_file": pair[0], "ssl_key_file": pair[1],
                                 "ssl_ca_file": authority.root},
                           hba=["hostssl all by_certificate all cert"])
    server.authority = authority
    server.certificate = authority.root
    server.pair = pair
    return server


@pytest.fixture(params=SERVERS, ids=server_name)
def each_pg(request, make_postgres):
    """A running server: the test runs once on each of the oldest, Debian's and the newest, or on
    those that ROWCAST_TEST_VERSIONS says."""
    version, conf = request.param
    return make_postgres(version, conf=conf)


@pytest.fixture(scope="session")
def kafka():
    """A running broker that all tests share: use topics (a topic prefix) of your own."""
    broker = Kafka().start()
    yield broker
    broker.destroy()


@pytest.fixture
def own_kafka():
    """A running broker for this test alone, to be stopped and killed."""
    broker = Kafka().start()
    yield broker
    broker.destroy()


@pytest.fixture
def make_rowcast():
    """make_rowcast(*args, source=.., kafka=.., ..): a Rowcast, not started; killed after the test
    if it still runs. What its sanitizers found fails the test."""
    made = []

    def make(*args, **options):
        made.append(Rowcast(*args, **options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.kill9()
    for daemon in made:
        found = daemon.log_contains(r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:)"
                                    r".*(\n.*){0,40}")
        assert not found, found[0]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        _keep_logs(report)


def _keep_logs(report):
    """Copies the logs of the servers that ran in this test to where they outlive it."""
    to = paths.KEPT / re.sub(r"[^\w.=-]+", "_", report.nodeid)
    for server in process.started:
        if server.log.exists() and server.log.stat().st_mtime >= _began:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(server.log, to / f"{server.log.parent.name}.log")
    if to.exists():
        report.sections.append(("logs", f"kept in {to}"))


_began = 0.0  # when the test in work began


def pytest_runtest_logstart(nodeid, location):
    global _began
    _began = time.time()
