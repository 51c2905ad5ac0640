"""examples/quickstart/run on a database of one's own: what it says, and that it leaves nothing."""

import pathlib
import signal
import urllib.request

import pytest

from lib import paths
from lib.process import Process
from lib.wait import free_port

NAME = "rowcast_quickstart"


@pytest.fixture
def quickstart(tmp_path):
    """quickstart(*args): started with the daemon under test, its output in a log."""
    made = []

    def start(*args):
        made.append(Process("quickstart", [paths.ROOT / "examples/quickstart/run", *args],
                            tmp_path / "quickstart.log", env={"ROWCAST_BIN": str(paths.ROWCAST)}))
        return made[-1].start()

    yield start
    for process in made:
        process.kill9()


def shop(make_postgres, superuser="superuser"):
    """A server with one table, and the URL of a role with a password that needs escapes."""
    pg = make_postgres(hba=["host all visitor 127.0.0.1/32 scram-sha-256"])
    pg.sql(f"create role visitor login replication {superuser} password 'se@c/r\\et%';"
           " create table orders (id int primary key); alter table orders owner to visitor;"
           " grant create on database postgres to visitor")
    return pg, f"postgresql://visitor:se%40c%2Fr%5Cet%25@127.0.0.1:{pg.port}/postgres"


def left(pg):
    return (pg.value(f"select count(*) from pg_replication_slots where slot_name = '{NAME}'"),
            pg.value(f"select count(*) from pg_publication where pubname = '{NAME}'"))


def command_lines():
    """Of every process."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:  # it has ended
            pass


def test_it_shows_what_it_makes_hides_the_password_and_leaves_nothing(make_postgres, quickstart):
    pg, url = shop(make_postgres)
    pg.sql("create table keyless (n int); alter table keyless owner to visitor")
    port = free_port()
    run = quickstart("--source", url, "--listen", f"0.0.0.0:{port}")
    page = run.wait_log(r"The live page: +(http://\S+)", 30)[1]
    assert page == f"http://127.0.0.1:{port}/"
    assert b"rowcast" in urllib.request.urlopen(page, timeout=10).read()
    log = run.log_text()
    for words in ("publication created", "slot created", "keyless", "ROWCAST_ALLOW_HOST"):
        assert words in log
    lines = list(command_lines())
    assert any(NAME.encode() in line for line in lines)
    assert not any(b"se%40c" in line or b"se@c" in line for line in lines)
    assert left(pg) == (1, 1)
    assert run.stop(signal.SIGINT) == 0
    assert left(pg) == (0, 0)
    assert "please do" not in run.log_text()


def test_what_cannot_be_dropped_is_said_and_the_rest_is_dropped(make_postgres, quickstart):
    pg, url = shop(make_postgres, superuser="")
    run = quickstart("--source", url, "--listen", f"127.0.0.1:{free_port()}")
    run.wait_log("The live page", 30)
    pg.sql(f"alter publication {NAME} owner to postgres")
    assert run.stop(signal.SIGINT) == 0
    assert left(pg) == (0, 1)
    assert run.log_contains("must be owner of publication")
    assert run.log_contains(rf"please do: drop publication if exists {NAME};")


def test_nothing_is_said_of_what_was_not_made(make_postgres, quickstart):
    pg, url = shop(make_postgres)
    run = quickstart("--source", url.replace("/postgres", "/nosuch"),
                     "--listen", f"127.0.0.1:{free_port()}")
    assert run.wait(30) == 1
    assert run.log_contains("nosuch.* does not exist")
    assert "please do" not in run.log_text()


def test_records_are_shown_from_topics_that_come_later(make_postgres, quickstart):
    pg, url = shop(make_postgres)
    run = quickstart("--kafka", "--source", url, "--listen", f"127.0.0.1:{free_port()}")
    run.wait_log("The live page", 90)
    pg.sql("insert into orders values (7)")
    run.wait_log(r'quickstart\.public\.orders .*"id":7', 60)
    assert run.stop(signal.SIGINT) == 0
