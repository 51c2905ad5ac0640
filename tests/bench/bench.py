"""Measures rowcast on this machine and prints a table with the goals beside it.

    tests/bench/run [--runs 3] [--only drain,streaming,snapshot,binary,memory,start,latency,
                     fanout,kafka] [--small]

Every drain runs rowcast and pg_recvlogical in turn against the same server and the same WAL, each
from a slot made before the load; what counts is the ratio of the medians. rowcast's clock runs from
exec until everything is durable in its journal (the slot confirms it) and one WebSocket subscriber
has every change. The journal syncs to disk; PostgreSQL does not (its writes are not what is
measured)."""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import time
import urllib.error
import urllib.request

from lib import paths
from lib.kafka import Kafka
from lib.postgres import Postgres, lsn_text
from lib.process import Process
from lib.wait import free_port, wait_for
from source import ROWS, SourceBench, recvlogical

ONE_BY_ONE = """do $$ begin for n in 1..{n} loop
  insert into bench values (n, n % 1000, 'customer ' || n % 977, repeat(md5(n::text), 3), now(),
    (n % 100000) / 100.0); commit; end loop; end $$"""
TYPED_TABLE = """create table typed (id bigint primary key, a int, b bigint, c float8, d float8,
  e timestamptz, f timestamptz, g numeric, h uuid, i int[], k bool)"""
TYPED = """insert into typed select n, n % 1000, n::bigint * 1234567, n / 7.0, random(),
  '2026-01-01'::timestamptz + n * interval '1.000001 s', now(), n / 100.0, md5(n::text)::uuid,
  array[n, n + 1, n % 7], n % 2 = 0 from generate_series(1, {n}) n"""
TABLE = """create table bench (id bigint primary key, kind int, name text, note text,
  at timestamptz, amount numeric)"""


class Bench(SourceBench):
    def __init__(self, args):
        self.args = args
        self.rowcast = args.build / "cdc/command/rowcast"
        self.subscribers = args.build / "tests/bench/subscribers"
        self.rows = []  # (work, measured, goal, met)
        self.scale = 0.05 if args.small else 1.0

    def n(self, full):
        return max(1000, int(full * self.scale))

    def report(self, work, measured, goal="", met=None):
        self.rows.append((work, measured, goal, {True: "yes", False: "NO", None: ""}[met]))
        print(f"  {work}: {measured}", flush=True)

    def server(self, **conf):
        pg = Postgres(conf={"shared_buffers": "512MB", "max_wal_size": "16GB",
                            "checkpoint_timeout": "1h", "max_replication_slots": "40",
                            "max_wal_senders": "20", "synchronous_commit": "off", **conf}).start()
        pg.sql(TABLE)
        pg.sql("create publication bench for table bench")
        return pg

    def slot(self, pg, name):
        pg.sql("select pg_create_logical_replication_slot(%s, 'pgoutput')", name)

    def start(self, pg, slot, unix=False, journal=None, extra=()):
        port = free_port()
        directory = journal or paths.scratch("journal") / "j"
        process = Process("rowcast", [
            self.rowcast, "run", "--source", pg.conninfo(unix=unix), "--slot", slot,
            "--publication", "bench", "--journal", directory, "--listen", f"127.0.0.1:{port}",
            "--journal-size", "64GiB", *extra], paths.scratch("rowcast") / "log")
        began = time.monotonic()
        process.start()
        process.port = port
        return process, began

    def ready(self, process, every=0.002):
        def answers():
            assert process.alive(), process.log_tail()
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{process.port}/readyz",
                                              timeout=5).status == 200
            except (urllib.error.URLError, OSError):
                return False
        wait_for(answers, 60, lambda: "readyz\n" + process.log_tail(), every=every)
        return time.monotonic()

    def subscribe(self, process, count, until, seconds=600, steady=0, query="from=earliest"):
        child = subprocess.Popen(
            [self.subscribers, "127.0.0.1", str(process.port), f"/v1/stream?{query}", str(count),
             str(until), str(seconds), str(steady)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = child.stdout.readline()
        assert line == "ready\n", line + process.log_tail()
        return child

    def metric(self, process, name):
        """The sum of its values; None: there is none yet."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics",
                                      timeout=5).read().decode()
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M)
        return sum(map(float, found)) if found else None

    def result(self, child):
        out, _ = child.communicate(timeout=900)
        assert child.returncode == 0, f"subscribers ended with {child.returncode}: {out}"
        return json.loads(out)

    def confirmed(self, pg, slot, lsn, process, connection=None):
        def passed():
            assert process.alive(), process.log_tail()
            row = c.execute("select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots"
                            " where slot_name = %s", [lsn_text(lsn), slot]).fetchone()
            return row[0]
        with connection or pg.connect() as c:
            wait_for(passed, 900, f"slot {slot} to be confirmed", every=0.005)
        return time.monotonic()

    # ---- drains ----

    def drain_once(self, pg, slot, changes, lsn, unix, streaming=False, extra=()):
        connection = pg.connect()
        process, began = self.start(pg, slot, unix, extra=(
            "--streaming", "on" if streaming else "off", *extra))
        self.ready(process)
        child = self.subscribe(process, 1, changes)
        self.result(child)
        got = time.monotonic()
        end = max(got, self.confirmed(pg, slot, lsn, process, connection))
        cpu, peak = process.cpu_seconds(), process.memory()[1]
        process.stop()
        return end - began, cpu / changes * 1e6, peak / 2**20

    def drain(self, name, load, changes, unix_goal, tcp_goal, cpu_goal, streaming=False):
        pg = self.server()
        pairs = [(f"{kind}_{unix:d}_{i}", kind, unix) for unix in (False, True)
                 for i in range(self.args.runs) for kind in ("recv", "rowcast")]
        for slot, _, _ in pairs:
            self.slot(pg, slot)
        pg.sql(load.format(n=changes))
        pg.sql("checkpoint")
        lsn = pg.lsn()
        for unix in (False, True):
            recv, mine, cpu, peak = [], [], [], []
            for slot, kind, over_unix in pairs:
                if over_unix != unix:
                    continue
                if kind == "recv":
                    recv.append(recvlogical(pg, slot, lsn, unix, streaming))
                else:
                    seconds, us, mib = self.drain_once(pg, slot, changes, lsn, unix,
                                                        streaming)
                    mine.append(seconds), cpu.append(us), peak.append(mib)
                pg.sql("select pg_drop_replication_slot(%s)", slot)
            a, b = statistics.median(mine), statistics.median(recv)
            goal = unix_goal if unix else tcp_goal
            where = "Unix socket" if unix else "TCP"
            self.report(f"{name}, {where}",
                        f"{a:.2f} s; pg_recvlogical {b:.2f} s; ratio {a / b:.2f}",
                        f"<= {goal} x pg_recvlogical", a / b <= goal)
            us, mib = statistics.median(cpu), max(peak)
            self.report(f"{name}, {where}: CPU a change", f"{us:.2f} us", f"<= {cpu_goal} us",
                        us <= cpu_goal)
            self.report(f"{name}, {where}: VmHWM", f"{mib:.0f} MiB", "<= 64 MiB", mib <= 64)
        pg.destroy()

    def drains(self):
        n = self.n(1_000_000)
        self.drain(f"{n:,} rows in one transaction", ROWS, n, 1.05, 0.75, 2)
        n = self.n(200_000)
        self.drain(f"{n:,} one-row transactions", ONE_BY_ONE, n, 1.05, 0.45, 4)

    # ---- binary values ----

    def binary(self):
        """Values in binary form against text, of the table of the drains and of one with many
        numbers and times; the runs of both take turns."""
        for what, load in (("", ROWS), (" of numbers and times", TYPED)):
            pg = self.server()
            pg.sql(TYPED_TABLE + "; alter publication bench add table typed")
            n = self.n(1_000_000)
            pairs = [(f"{how}_{i}", how) for i in range(self.args.runs) for how in ("off", "on")]
            for slot, _ in pairs:
                self.slot(pg, slot)
            pg.sql(load.format(n=n))
            pg.sql("checkpoint")
            lsn = pg.lsn()
            took = {"off": [], "on": []}
            for slot, how in pairs:
                took[how].append(self.drain_once(pg, slot, n, lsn, False,
                                                 extra=("--binary", how)))
                pg.sql("select pg_drop_replication_slot(%s)", slot)
            text, binary = ([statistics.median(x) for x in zip(*took[how])] for how in took)
            self.report(f"{n:,} rows{what}, binary values",
                        f"{n / binary[0]:,.0f} rows/s; as text {n / text[0]:,.0f}; "
                        f"x {text[0] / binary[0]:.2f}")
            self.report(f"{n:,} rows{what}, binary values: CPU a change",
                        f"{binary[1]:.2f} us; as text {text[1]:.2f} us")
            pg.destroy()

    # ---- memory ----

    def memory(self):
        n = self.n(5_000_000)
        pg = self.server()
        self.slot(pg, "big")
        pg.sql(ROWS.format(n=n))
        lsn = pg.lsn()
        seconds, _, mib = self.drain_once(pg, "big", n, lsn, False)
        self.report(f"VmHWM, one transaction of {n:,} rows", f"{mib:.0f} MiB ({seconds:.0f} s)",
                    "<= 64 MiB", mib <= 64)
        pg.sql("alter table bench alter note set storage external")
        self.slot(pg, "huge")
        pg.sql("insert into bench (id, note) values (0, repeat('x', 100000000))")
        _, _, mib = self.drain_once(pg, "huge", 1, pg.lsn(), False)
        self.report("VmHWM, one row of 100 MB", f"{mib:.0f} MiB", "<= 64 + 4 x 100 MB",
                    mib <= 64 + 400e6 / 2**20)
        pg.destroy()

    # ---- start ----

    def start_once(self, pg, slot, journal, runs):
        times = []
        for _ in range(runs):
            process, began = self.start(pg, slot, journal=journal)
            times.append((self.ready(process, every=0.001) - began) * 1000)
            process.stop()
            pg.wait_slot_active(slot, False)
        return statistics.median(times)

    def starts(self):
        pg = self.server()
        self.slot(pg, "s")
        journal = paths.scratch("journal") / "j"
        ms = self.start_once(pg, "s", journal, 1)
        ms = self.start_once(pg, "s", journal, max(5, self.args.runs))
        self.report("start to ready, empty journal", f"{ms:.0f} ms", "<= 50 ms", ms <= 50)
        rows = self.n(500_000)
        process, _ = self.start(pg, "s", journal=journal)
        pg.sql("create extension if not exists pgcrypto")
        pg.sql("create table noise (id int primary key, b bytea)")
        pg.sql("alter table noise alter b set storage external")
        pg.sql("alter publication bench add table noise")
        for first in range(0, rows, 10000):
            # ten kilobytes of what no compression makes smaller
            pg.sql("insert into noise select n, (select string_agg(gen_random_bytes(1024), '')"
                   f" from generate_series(1, 10) where n > 0) from generate_series({first},"
                   f" {min(first + 10000, rows) - 1}) n")
        self.confirmed(pg, "s", pg.lsn(), process)
        process.stop()
        size = sum(f.stat().st_size for f in pathlib.Path(journal).rglob("*") if f.is_file())
        ms = self.start_once(pg, "s", journal, max(5, self.args.runs))
        self.report(f"start to ready, journal of {size / 1e9:.1f} GB", f"{ms:.0f} ms", "<= 50 ms",
                    ms <= 50)
        pg.destroy()

    # ---- latency ----

    def pace(self, pg, rate, rows, seconds):
        script = paths.scratch("pgbench") / "insert.sql"
        script.write_text("insert into bench select nextval('ids'), 1, 'c', repeat('x', 90), now(),"
                          f" 1.5 from generate_series(1, {rows});\n")
        return subprocess.Popen(
            [pg.bin / "pgbench", "-n", "-h", str(pg.socket_dir), "-p", str(pg.port), "-U",
             "postgres", "-M", "prepared", "-c", "2", "-R", str(rate // rows), "-T", str(seconds),
             "-f", script, "postgres"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def latency_once(self, rate, rows, goal50, goal99, others=0):
        """`others`: further subscribers, each to tables that do not change."""
        seconds = 5 if self.args.small else 15
        # A walsender sends what is flushed; left to the WAL writer that takes up to 200 ms.
        pg = self.server(synchronous_commit="on")
        pg.sql("create sequence ids")
        self.slot(pg, "s")
        process, _ = self.start(pg, "s")
        self.ready(process)
        results = []
        if others:
            idle = self.subscribe(process, others, 0, 3600, 0, "from=now&table=public.idle")
        for _ in range(self.args.runs):
            child = self.subscribe(process, 1, 0, 300, 2, "from=now")
            bench = self.pace(pg, rate, rows, seconds)
            out, _ = bench.communicate()
            assert bench.returncode == 0, out
            results.append(self.result(child))
        p50, p99, high = (statistics.median(r[k] for r in results)
                          for k in ("p50_ms", "p99_ms", "max_ms"))
        got = statistics.median(r["changes"] for r in results) / seconds
        beside = f", beside {others:,} with another filter" if others else ""
        self.report(f"commit to WebSocket, {rate:,} changes/s in commits of {rows}{beside}",
                    f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {high:.1f} ms ({got:,.0f}/s seen)",
                    f"p50 <= {goal50} ms, p99 <= {goal99} ms", p50 <= goal50 and p99 <= goal99)
        if others:
            self.result(idle)
        process.stop()
        pg.destroy()

    def latency(self):
        self.latency_once(2000, 1, 1, 5)
        self.latency_once(10000, 5, 2, 20)
        self.latency_once(10000, 5, 2, 20, others=1000)

    # ---- fan-out ----

    def fanout(self):
        pg = self.server()
        self.slot(pg, "s")
        process, _ = self.start(pg, "s")
        self.ready(process)
        for count in (1, 100, 1000):
            n = self.n(200_000 if count < 1000 else 50_000)
            rates, frames, per_cpu = [], [], []
            for _ in range(self.args.runs):
                pg.sql("truncate bench")
                child = self.subscribe(process, count, n + 1, 300, 0, "from=now")
                cpu = process.cpu_seconds()
                pg.sql(ROWS.format(n=n))
                pg.sql("truncate bench")
                r = self.result(child)
                cpu = process.cpu_seconds() - cpu
                rates.append(r["changes"] / r["seconds"])
                frames.append(r["frames"] / r["seconds"])
                per_cpu.append(r["changes"] / cpu)
            self.report(f"fan-out to {count} subscribers, all take all",
                        f"{statistics.median(rates):,.0f} changes/s, "
                        f"{statistics.median(frames):,.0f} frames/s, "
                        f"{statistics.median(per_cpu):,.0f} changes a CPU second",
                        ">= 2,500,000 a CPU second" if count == 100 else "",
                        statistics.median(per_cpu) >= 2.5e6 if count == 100 else None)
        process.stop()
        pg.destroy()

    # ---- Kafka ----

    def kafka(self):
        broker = Kafka().start()
        pg = self.server()
        for name, load, n in (("one transaction", ROWS, self.n(1_000_000)),
                              ("one-row transactions", ONE_BY_ONE, self.n(200_000))):
            slots = [f"k{n}_{i}" for i in range(self.args.runs)]
            for slot in slots:
                self.slot(pg, slot)
            pg.sql("truncate bench")
            pg.sql(load.format(n=n))
            lsn = pg.lsn()
            times, cpus = [], []
            for slot in slots:
                process, began = self.start(pg, slot, extra=(
                    "--kafka", broker.bootstrap, "--topic-prefix", slot))
                times.append(self.confirmed(pg, slot, lsn, process) - began)
                cpus.append(process.cpu_seconds() / n * 1e6)
                process.stop()
                pg.sql("select pg_drop_replication_slot(%s)", slot)
            self.report(f"into Kafka, {n:,} rows, {name}",
                        f"{statistics.median(times):.2f} s, {statistics.median(cpus):.2f} us CPU "
                        "a change")
        pg.destroy()
        broker.destroy()

    def table(self):
        cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                    if line.startswith("model name")), platform.machine())
        print(f"\n{cpu}, {os.cpu_count()} cores, Linux {platform.release()}; medians of "
              f"{self.args.runs}\n")
        print("| work | measured | goal | met |\n|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a twentieth of the work: a try-out")
    parser.add_argument("--only", default="drain,streaming,snapshot,binary,memory,start,latency,"
                                          "fanout,kafka")
    args = parser.parse_args()
    bench = Bench(args)
    parts = {"drain": bench.drains, "streaming": bench.streaming, "snapshot": bench.snapshot,
             "binary": bench.binary, "memory": bench.memory, "start": bench.starts,
             "latency": bench.latency, "fanout": bench.fanout, "kafka": bench.kafka}
    for part in args.only.split(","):
        parts[part]()
    bench.table()


if __name__ == "__main__":
    main()
