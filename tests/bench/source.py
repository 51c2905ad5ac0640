"""What the source does besides draining whole transactions: transactions received while they are
open, existing rows, values in binary form."""

import statistics
import subprocess
import time

from lib.postgres import lsn_text
from lib.wait import wait_for

ROWS = """insert into bench select n, n % 1000, 'customer ' || n % 977, repeat(md5(n::text), 3),
  now(), (n % 100000) / 100.0 from generate_series(1, {n}) n"""
TYPED = """create table typed (id bigint primary key, a int, b bigint, at timestamptz, f float8,
  amount numeric, u uuid, name text, doc jsonb)"""
TYPED_ROWS = """insert into typed select n, n, n * 7, now(), n / 3.0, n / 100.0,
  md5(n::text)::uuid, 'customer ' || n % 977, jsonb_build_object('n', n, 'text', md5(n::text))
  from generate_series(1, {n}) n"""


class SourceBench:
    # ---- one large transaction ----

    def last_change(self, pg, slot, n, mode):
        """Seconds from the commit to its last change at a subscriber, and the peak of memory."""
        self.slot(pg, slot)
        process, _ = self.start(pg, slot, extra=("--streaming", mode))
        self.ready(process)
        child = self.subscribe(process, 1, n, query="from=now")
        with pg.connect(autocommit=False) as c:
            c.execute(ROWS.format(n=n))
            c.commit()
            committed = time.monotonic()
        self.result(child)
        seconds = time.monotonic() - committed
        peak = process.memory()[1] / 2**20
        process.stop()
        pg.sql("truncate bench")
        pg.wait_slot_active(slot, False)
        pg.sql("select pg_drop_replication_slot(%s)", slot)
        return seconds, peak

    def streaming(self):
        n = self.n(1_000_000)
        self.drain(f"{n:,} rows in one transaction, streamed", ROWS, n, 1.05, 0.65, 2,
                   streaming=True)
        pg = self.server()
        for mode in ("on", "off"):
            runs = [self.last_change(pg, f"last_{mode}_{i}", n, mode)
                    for i in range(self.args.runs)]
            seconds, peak = statistics.median(r[0] for r in runs), max(r[1] for r in runs)
            self.report(f"commit of {n:,} rows to the last change, --streaming {mode}",
                        f"{seconds:.2f} s; VmHWM {peak:.0f} MiB", "<= 64 MiB", peak <= 64)
        pg.destroy()

    # ---- existing rows ----

    def copy(self, pg):
        began = time.monotonic()
        with open("/dev/null", "wb") as nowhere:
            subprocess.run([pg.bin / "psql", "-X", "-d", pg.conninfo(), "-c",
                            "copy bench to stdout"], stdout=nowhere, check=True)
        return time.monotonic() - began

    def existing(self, pg, slot):
        """Seconds from the start until all existing rows are durable in the journal."""
        self.slot(pg, slot)
        process, began = self.start(pg, slot, extra=("--snapshot", "initial",
                                                     "--snapshot-connections", "4"))

        def done():
            assert process.alive(), process.log_tail()
            # Marks are shown when they are durable: this one waits for the last.
            return self.metric(process, "rowcast_snapshot_tables_done_total") == 1
        self.ready(process)
        wait_for(done, 900, lambda: "existing rows\n" + process.log_tail(), every=0.01,
                 ignore=(OSError,))
        seconds, peak = time.monotonic() - began, process.memory()[1] / 2**20
        process.stop()
        pg.wait_slot_active(slot, False)
        pg.sql("select pg_drop_replication_slot(%s)", slot)
        return seconds, peak

    def snapshot(self):
        n = self.n(2_000_000)
        pg = self.server()
        pg.sql(ROWS.format(n=n))
        pg.sql("vacuum analyze bench")
        self.copy(pg)  # warms the cache for both
        copies, mine = [], []
        for i in range(self.args.runs):
            copies.append(self.copy(pg))
            mine.append(self.existing(pg, f"existing_{i}"))
        a, b = statistics.median(r[0] for r in mine), statistics.median(copies)
        self.report(f"{n:,} existing rows into the journal, 4 connections",
                    f"{a:.2f} s; COPY {b:.2f} s; ratio {a / b:.2f}", "<= 1 / 0.8 x COPY",
                    a / b <= 1.25)
        self.report("the same: VmHWM", f"{max(r[1] for r in mine):.0f} MiB")
        pg.destroy()

    # ---- binary values ----

    def binary(self):
        n = self.n(500_000)
        pg = self.server()
        pg.sql(TYPED)
        pg.sql("alter publication bench add table typed")
        modes = ("off", "on")
        slots = {(mode, i): f"binary_{mode}_{i}" for i in range(self.args.runs) for mode in modes}
        for slot in slots.values():
            self.slot(pg, slot)
        pg.sql(TYPED_ROWS.format(n=n))
        lsn, found = pg.lsn(), {mode: [] for mode in modes}
        for (mode, _), slot in slots.items():
            process, began = self.start(pg, slot, extra=("--binary", mode))
            self.ready(process)
            end = self.confirmed(pg, slot, lsn, process)
            found[mode].append((end - began, process.cpu_seconds() / n * 1e6))
            process.stop()
            pg.sql("select pg_drop_replication_slot(%s)", slot)
        text, binary = ([statistics.median(column) for column in zip(*found[mode])]
                        for mode in modes)
        self.report(f"{n:,} rows of 9 types, text and binary",
                    f"{text[0]:.2f} s, {text[1]:.2f} us a change; --binary on {binary[0]:.2f} s, "
                    f"{binary[1]:.2f} us; ratio {binary[0] / text[0]:.2f}")
        pg.destroy()


def recvlogical(pg, slot, lsn, unix, streaming):
    """Seconds that pg_recvlogical takes up to `lsn`."""
    options = ["proto_version=2", "streaming=on"] if streaming else ["proto_version=1"]
    began = time.monotonic()
    subprocess.run([pg.bin / "pg_recvlogical", "-d", pg.conninfo(unix=unix), "-S", slot, "--start",
                    "-f", "/dev/null", "--no-loop", f"--endpos={lsn_text(lsn)}",
                    *(word for o in (*options, "publication_names=bench") for word in ("-o", o))],
                   check=True)
    return time.monotonic() - began
