"""Existing rows, read while the tables are written: a consumer that upserts ends with the tables."""

import json
import threading

from lib.model import SCHEMA, TABLES, Writer
from lib.postgres import lsn_number
from lib.rowcast import command
from lib.upserts import Upserts
from lib.wait import wait_for

FILL = """
insert into orders (id, customer, total, note)
    select g, g, g, case when g % 7 = 0 then repeat(md5(g::text), 100) else 'n' || g end
    from generate_series(0, {n}) g where g < 60 or g > 1000;
insert into "Odd.Name" select 'k' || g, g % 60, repeat('v', g % 3000) from generate_series(0, {n}) g;
insert into events select g % 60, repeat('e', g % 50), g from generate_series(0, {n}) g;
insert into items select g % 60, 'c' || g, 'i' from generate_series(0, {n}) g;
"""


class Hammer(threading.Thread):
    """Writes until it is told to stop."""

    def __init__(self, pg, seed, **what):
        super().__init__(daemon=True)
        self.writer = Writer(pg, seed, **what)
        self.ending = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.ending.is_set():
                self.writer.run(20)
        except BaseException as e:  # told by the test's own thread
            self.failure = e

    def stop(self):
        self.ending.set()
        self.join(30)
        self.writer.close()
        if self.failure:
            raise self.failure


def idle(rc):
    """Nothing is being read, and nothing waits for it."""
    return rc.metrics().get("rowcast_snapshot_tables") == 0


def dumped(rc):
    out = command("journal", "dump", rc.journal)
    assert out.returncode == 0, out.stderr
    consumer = Upserts()
    for line in out.stdout.splitlines():
        consumer.take(json.loads(line))
    return consumer


def wait_same(pg, rc, consumer, tables=tuple(TABLES)):
    """The journal's consumer ends with the tables once all is read."""
    wait_for(lambda: idle(rc), 60, lambda: f"the snapshots to end:\n{rc.process.log_tail()}")
    end = pg.lsn()
    wait_for(lambda: lsn_number(rc.status()["latest"].split(".")[2][-16:] and
                                "%X/%X" % divmod(int(rc.status()["latest"].split(".")[2], 16),
                                                 1 << 32)) >= end - 1,
             30, "the stream to pass the end")
    found = consumer(rc)
    differences = found.differences(pg, tables)
    assert not differences, "\n".join(differences) + f"\nmarks: {found.marks}"
    return found


def test_initial_while_written(each_pg, make_rowcast):
    """Rows, keys, large values, truncates and columns change while all tables are read."""
    each_pg.sql(SCHEMA)
    each_pg.sql(FILL.format(n=8000))
    hammer = Hammer(each_pg, 1, ddl=True)
    hammer.start()
    rc = make_rowcast("--table", "public.*", "--snapshot", "initial",
                      source=each_pg.conninfo()).start()
    for _ in range(3):
        wait_for(lambda: idle(rc), 60, lambda: f"the end:\n{rc.process.log_tail()}")
        for table in TABLES:
            answer = command("snapshot", table, "--journal", rc.journal)
            assert answer.returncode == 0, answer.stderr
    wait_for(lambda: idle(rc), 60, lambda: f"the end:\n{rc.process.log_tail()}")
    hammer.stop()
    hammer.writer.touch()
    found = wait_same(each_pg, rc, dumped)
    for table in TABLES:
        assert found.marks.count(("end", table)) >= 4, found.marks
