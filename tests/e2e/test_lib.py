"""The servers that the other tests stand on do what those rely on."""

import os

import psycopg
import pytest

from lib import paths
from lib.postgres import Postgres
from lib.process import Process
from lib.wait import free_port, wait_for


def test_servers_of_all_versions_at_once(make_postgres):
    servers = {version: make_postgres(version) for version in (10, 15, 18)}
    for version, server in servers.items():
        assert server.value("show server_version_num").startswith(str(version))
        server.sql("select pg_create_logical_replication_slot('s', 'pgoutput')")
        assert server.slot("s")["confirmed_flush_lsn"] <= server.lsn()


@pytest.mark.parametrize("how", ["fast", "immediate", "kill9"])
def test_postgres_keeps_what_was_committed(each_pg, how):
    each_pg.sql("create table t (id int); insert into t select generate_series(1, 1000)")
    if how == "kill9":
        each_pg.kill9()
    else:
        each_pg.stop(how)
    with pytest.raises(psycopg.OperationalError):
        each_pg.sql("select 1")
    each_pg.start()
    assert each_pg.value("select count(*) from t") == 1000


def test_hba_lines_come_first(make_postgres):
    server = make_postgres(hba=["host all locked 127.0.0.1/32 scram-sha-256"])
    server.sql("create role locked login password 'right'")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.conninfo(user="locked") + " password=wrong")
    psycopg.connect(server.conninfo(user="locked") + " password=right").close()


def test_kafka_keeps_records_over_a_crash(own_kafka):
    own_kafka.create_topic("t", partitions=3)
    for i in range(10):
        own_kafka.produce("t", f"value {i}".encode(), key=f"key {i}".encode())
    own_kafka.produce("t", None, key=b"key 3")
    own_kafka.kill9()
    own_kafka.start()
    records = own_kafka.wait_records(11, "t")
    assert sorted(r.value for r in records if r.value) == [b"value %d" % i for i in range(10)]
    assert [r.key for r in records if r.value is None] == [b"key 3"]
    assert len({r.partition for r in records}) > 1


def test_a_port_is_given_once():
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20


def test_a_wait_that_fails_says_why():
    with pytest.raises(AssertionError, match=r"waited 0.05 s for rain; last seen: \[\]"):
        wait_for(list, 0.05, "rain")


def test_a_server_that_cannot_start_shows_its_log():
    server = Postgres(conf={"shared_buffers": "nonsense"})
    with pytest.raises(AssertionError, match="shared_buffers"):
        server.start()


def test_the_installer_asks_sudo_for_what_needs_root(tmp_path):
    """An ordinary user on a bare Debian, played: sudo only notes what it is asked for."""
    for name, text in {"id": "echo 1000", "dpkg-query": "exit 1",
                       "sudo": f"echo \"$*\" >>{tmp_path}/asked"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    install = Process("install", [paths.ROOT / "tests/lib/install", "build"], tmp_path / "log",
                      env={"PATH": f"{tmp_path}:{os.environ['PATH']}",
                           "ROWCAST_TEST_CACHE": str(tmp_path / "cache")}).start()
    assert install.wait(30) == 0, install.log_text()
    assert install.log_contains("installing Debian packages with sudo: gcc .*")
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("-v\n") and "apt-get -q update" in asked
    assert "install -y" in asked and "meson" in asked
