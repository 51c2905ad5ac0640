"""kill -9 of rowcast (started again, or taken over by a standby on the same journal), of PostgreSQL
(immediate stop) and of the broker at random moments under load: nothing is lost, a WebSocket client
that resumes by cursor sees nothing twice, and what Kafka has twice is little and has the same
positions. CRASH_ROUNDS (50) and CRASH_SEED choose the run."""

import collections
import json
import os
import random
import threading

import psycopg

from lib.model import SCHEMA, TABLES, Replay, Writer, place
from lib.oracle import Oracle
from lib.postgres import lsn_number
from lib.rowcast import command
from lib.stream import Closed
from lib.upserts import Upserts
from lib.wait import wait_for

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "50"))
SEED = int(os.environ.get("CRASH_SEED", "1"))


class Client(threading.Thread):
    """Reads everything from the start, resuming by cursor whenever the connection ends."""

    def __init__(self, rc, consumer=None):
        super().__init__(daemon=True)
        self.rc = rc
        self.replay = consumer or Replay()
        self.cursor = "earliest"
        self.passed = 0  # LSN up to which everything has come
        self.reconnects = 0
        self.failure = None
        self.ending = False

    def run(self):
        try:
            while not self.ending:
                self._read()
        except BaseException as e:  # told by the test's own thread
            self.failure = e

    def _read(self):
        try:
            with self.rc.stream(start=self.cursor, deadline=5) as s:
                while not self.ending:
                    try:
                        entry = s.entry(1)
                    except TimeoutError:
                        continue
                    self.replay.take(entry)
                    self.cursor = s.cursor
                    if entry.get("type") in ("end", "progress"):
                        self.passed = max(self.passed,
                                          lsn_number(entry.get("end_lsn", entry["lsn"])))
        except (OSError, Closed, TimeoutError, EOFError):
            self.reconnects += 1
        except Exception as e:
            if type(e).__module__.startswith("websockets"):  # refused while starting
                self.reconnects += 1
            else:
                raise

    def check(self):
        if self.failure:
            raise self.failure


class Crasher:
    """Kills one of the three while the writer works, and starts it again; or leaves it to a standby
    on the same journal to go on."""

    def __init__(self, pg, rc, spare, kafka, seed):
        self.pg, self.rc, self.spare, self.kafka = pg, rc, spare, kafka
        self.random = random.Random(seed)
        self.writer = Writer(pg, seed)
        self.killed = {"rowcast": 0, "takeover": 0, "postgres": 0, "broker": 0}

    def round(self, client):
        victim = self.random.choices(list(self.killed), [52, 18, 22, 8])[0]
        self.killed[victim] += 1
        if victim == "takeover":
            self.rc.wait_ready(60)  # else the spare may be the one that gets the journal
            since = self.spare.process.log_size()
            self.spare.start(ready=False)
            self.spare.wait_log("standing by until the journal is free", since=since)
        kill = {"postgres": lambda: self.pg.stop("immediate"),
                "broker": self.kafka.kill9}.get(victim, self.rc.kill9)
        timer = threading.Timer(self.random.uniform(0.01, 0.6), kill)
        timer.start()
        while timer.is_alive():
            try:
                self.writer.run(20)
            except psycopg.OperationalError:
                self.writer.close()
                timer.join()
        timer.join()
        if victim == "postgres":  # it may have gone between two statements
            self.writer.close()
        if victim == "takeover":
            self.rc, self.spare = self.spare, self.rc
            client.rc = self.rc
        else:
            {"rowcast": lambda: self.rc.start(ready=False), "postgres": self.pg.start,
             "broker": self.kafka.start}[victim]()
        if self.random.random() < 0.5:  # else the next blow may come before all is well again
            self.rc.wait_ready(60)
        self.writer.run(self.random.randrange(60))


def kafka_changes(kafka, prefix):
    """position -> how often, and every record that says one thing twice in two ways."""
    seen, ways = {}, {}
    for record in kafka.records(*[t for t in kafka.topics() if t.startswith(prefix + ".")]):
        if record.value is None or b'"op"' not in record.value:
            continue
        change = json.loads(record.value)
        if "seq" not in change:
            continue
        at = (place(change), change["op"])
        seen[at] = seen.get(at, 0) + 1
        ways.setdefault(at, set()).add((record.key, record.value))
    return seen, [at for at, texts in ways.items() if len(texts) > 1]


def test_nothing_lost_nothing_twice(make_postgres, own_kafka, make_rowcast):
    # The smallest there is: transactions are received while they are open, too.
    pg = make_postgres(conf={"logical_decoding_work_mem": "64kB"})
    pg.sql(SCHEMA)
    oracle = Oracle(pg)
    arguments = ("--table", "public.*", "--topic-prefix", "crash", "--kafka-format", "json",
                 "--standby", "on")
    rc = make_rowcast(*arguments, source=pg.conninfo(), kafka=own_kafka.bootstrap).start()
    spare = make_rowcast(*arguments, source=pg.conninfo(), kafka=own_kafka.bootstrap,
                         journal=rc.journal)
    client = Client(rc)
    client.start()
    crasher = Crasher(pg, rc, spare, own_kafka, SEED)
    for _ in range(ROUNDS):
        crasher.round(client)
        client.check()
    crasher.writer.close()
    rc = crasher.rc
    rc.wait_ready(60)
    crasher.writer.touch()
    end = pg.lsn()
    print(f"rounds: {ROUNDS}, killed: {crasher.killed}, commits: {crasher.writer.commits}, "
          f"changes: {len(client.replay.changes)}, client reconnects: {client.reconnects}")

    wait_for(lambda: client.failure or client.passed >= end - 1, 120,
             lambda: f"the client to have everything: {client.passed:X} of {end:X}\n"
                     + rc.process.log_tail())
    client.check()
    client.ending = True
    client.join(30)
    replay = client.replay
    # Order and "nothing twice" were checked with every entry; here: nothing lost.
    replay.state.assert_equals_tables(pg, replay.numbers)
    oracle.check(replay.changes)

    out = command("journal", "dump", rc.journal)
    assert out.returncode == 0, out.stderr
    dump = Replay()
    for line in out.stdout.splitlines():
        dump.take(json.loads(line))
    assert dump.places() == replay.places()
    assert command("journal", "verify", rc.journal).returncode == 0

    pg.wait_confirmed("rowcast", end - 1, deadline=120)
    found, other = kafka_changes(own_kafka, "crash")
    assert not other, f"repeats that differ: {other[:3]}"
    assert {at for at, _ in found} == set(replay.places()), "Kafka lacks changes, or has others"
    repeated = sum(n - 1 for n in found.values())
    kills = sum(crasher.killed[v] for v in ("rowcast", "takeover", "broker"))
    print(f"Kafka: {len(found)} changes, {repeated} repeated")
    assert repeated <= max(1, kills) * 5000, f"{repeated} repeats after {kills} kills"


class Snapshots:
    """Reads existing rows all the time, while rowcast, the source and connections go."""

    def __init__(self, pg, rc, seed):
        self.pg, self.rc = pg, rc
        self.random = random.Random(seed)
        self.writer = Writer(pg, seed)
        self.killed = {"rowcast": 0, "postgres": 0, "stream": 0, "chunks": 0}

    def _kill(self, victim):
        if victim == "rowcast":
            self.rc.kill9()
        elif victim == "postgres":
            self.pg.stop("immediate")
        elif victim == "stream":
            self.pg.sql("select pg_terminate_backend(active_pid) from pg_replication_slots"
                        " where active")
        else:
            self.pg.sql("select count(pg_terminate_backend(pid)) from pg_stat_activity"
                        " where query like '%%COPY%%' and pid <> pg_backend_pid()")

    def round(self):
        for table in self.random.sample(list(TABLES), 2):
            command("snapshot", table, "--journal", self.rc.journal)  # may be under way
        victim = self.random.choices(list(self.killed), [50, 15, 15, 20])[0]
        self.killed[victim] += 1
        timer = threading.Timer(self.random.uniform(0.005, 0.4), self._kill, [victim])
        timer.start()
        while timer.is_alive():
            try:
                self.writer.run(20)
            except psycopg.OperationalError:
                self.writer.close()
                timer.join()
        timer.join()
        if victim == "postgres":
            self.pg.start()
        elif victim == "rowcast":
            self.rc.start(ready=False)
        self.rc.wait_ready(60)
        self.writer.run(self.random.randrange(60))


def test_existing_rows_survive(pg, make_rowcast):
    """Who upserts ends with the tables, and a resuming client sees nothing twice."""
    pg.sql(SCHEMA)
    pg.sql("insert into orders (id, note) select g, repeat(md5(g::text), g % 90)"
           " from generate_series(100, 3000) g;"
           "insert into events select g, 'e', g from generate_series(1, 3000) g;"
           "insert into items select g, 'c' || g, 'i' from generate_series(1, 3000) g")
    rc = make_rowcast("--table", "public.*", "--snapshot", "initial", "--snapshot-rate", "2MiB",
                      source=pg.conninfo()).start()
    client = Client(rc, Upserts())
    client.start()
    crasher = Snapshots(pg, rc, SEED)
    rounds = max(10, ROUNDS // 5)
    for _ in range(rounds):
        crasher.round()
        client.check()
    crasher.writer.close()
    wait_for(lambda: rc.metrics().get("rowcast_snapshot_tables") == 0, 120,
             lambda: f"the snapshots to end:\n{rc.process.log_tail()}")
    crasher.writer.touch()
    end = pg.lsn()
    wait_for(lambda: client.failure or client.passed >= end - 1, 120,
             lambda: f"the client to have everything:\n{rc.process.log_tail()}")
    client.check()
    client.ending = True
    client.join(30)
    steps = collections.Counter(step for step, _ in client.replay.marks)
    print(f"rounds: {rounds}, killed: {crasher.killed}, commits: {crasher.writer.commits}, "
          f"marks: {dict(steps)}, read: {sum(client.replay.reads.values())}")
    differences = client.replay.differences(pg)
    assert not differences, "\n".join(differences) + f"\n{client.replay.marks}"
    assert steps["end"] > rounds // 4, steps
    out = command("journal", "dump", rc.journal)
    assert out.returncode == 0, out.stderr
    dump = Upserts()
    for line in out.stdout.splitlines():
        dump.take(json.loads(line))
    assert dump.marks == client.replay.marks and not dump.differences(pg)
