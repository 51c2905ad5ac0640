"""The daemon under test."""

import collections
import json
import re
import subprocess
import urllib.error
import urllib.request

from . import paths
from .process import Process
from .stream import Stream
from .wait import free_port, wait_for


class Rowcast:
    """`rowcast run` with a journal directory and a port of its own; not started by the constructor.

        rc = Rowcast("--table", "public.*", source=pg.conninfo()).start()
        with rc.stream(tables=["public.t"], start="earliest") as stream: ...
        assert rc.stop() == 0

    args: more arguments. source: conninfo or URL (None: give it in args or env). kafka: bootstrap
    servers. journal: an existing journal directory to go on with. binary: another build."""

    def __init__(self, *args, source=None, kafka=None, journal=None, env=None, binary=None):
        self.dir = paths.scratch("rowcast")
        self.journal = journal or self.dir / "journal"
        self.port = free_port()
        self.http = f"http://127.0.0.1:{self.port}"
        self.stdout = self.dir / "rowcast.out"
        self.binary = binary or paths.ROWCAST
        argv = [self.binary, "run", "--journal", self.journal, "--listen", f"127.0.0.1:{self.port}"]
        if source:
            argv += ["--source", source]
        if kafka:
            argv += ["--kafka", kafka]
        self.process = Process("rowcast", [*argv, *args], self.dir / "rowcast.log",
                               stdout=self.stdout, env=env)

    def start(self, ready=True, deadline=20):
        """Starts it and waits until it is ready (ready=False: returns at once)."""
        self.process.start()
        if ready:
            self.wait_ready(deadline)
        return self

    def wait_ready(self, deadline=20):
        """Waits until /readyz says that the source is live."""
        def ready():
            assert self.process.alive(), f"rowcast ended with {self.process.wait()}:\n" \
                                         + self.process.log_tail()
            return self.get("/readyz")[0] == 200
        wait_for(ready, deadline, lambda: f"/readyz of rowcast:\n{self.process.log_tail()}\n",
                 ignore=(OSError,), every=0.005)

    def stop(self, deadline=30):
        """SIGTERM; returns the exit code."""
        return self.process.stop(deadline=deadline)

    def wait_exit(self, deadline=30):
        """Waits until it ends by itself; returns the exit code."""
        return self.process.wait(deadline)

    def kill9(self):
        self.process.kill9()

    def restart(self, kill=False):
        """Stops it cleanly (or by SIGKILL), starts it again on the same journal and port."""
        if kill:
            self.kill9()
        else:
            code = self.stop()
            assert code == 0, f"rowcast ended with {code}:\n{self.process.log_tail()}"
        return self.start()

    def alive(self):
        return self.process.alive()

    def wait_log(self, pattern, deadline=15, since=0):
        """Waits for a regular expression in its log; returns the match."""
        return self.process.wait_log(pattern, deadline, since)

    def log_contains(self, pattern, since=0):
        """The match of a regular expression in its log, or None."""
        return self.process.log_contains(pattern, since)

    def output(self):
        """What it wrote to standard output (--stdout)."""
        return self.stdout.read_text()

    def get(self, path, headers=None, deadline=10):
        """HTTP GET: (status, text). OSError when there is no answer."""
        request = urllib.request.Request(self.http + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=deadline) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def status(self):
        """What /v1/status says."""
        return json.loads(self.get("/v1/status")[1])

    def metrics(self):
        """/metrics as a Metrics."""
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics answers {status}: {text}"
        return Metrics(text)

    def wait_metric(self, condition, deadline=15, what="a condition on the metrics"):
        """Waits until condition(Metrics) is true."""
        return wait_for(lambda: condition(self.metrics()), deadline, what)

    def wait_written(self):
        """Waits until all that it has delivered is in the journal's files."""
        self.wait_metric(lambda m: m.get("rowcast_journal_unwritten_bytes") == 0,
                         what="the journal to be written")

    def stream(self, **options):
        """A connected WebSocket client; see lib.stream.Stream."""
        return Stream(self.port, **options)


class Metrics:
    """A Prometheus text: values by name and labels."""

    def __init__(self, text):
        self.text = text
        self.samples = collections.defaultdict(dict)  # name -> {((label, value), ..): number}
        label = r'\w+="(?:[^"\\\n]|\\.)*"'
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            m = re.fullmatch(rf'(\w+)(?:\{{({label}(?:,{label})*)\}})? (\S+)', line)
            assert m, f"not a line of Prometheus' text format: {line}"
            labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or "")
            self.samples[m[1]][tuple(sorted(labels))] = float(m[3])

    def get(self, name, **labels):
        """The sum of the samples of `name` that have these labels; None when there is none."""
        found = [value for have, value in self.samples.get(name, {}).items()
                 if set(labels.items()) <= set(have)]
        return sum(found) if found else None

    def helped(self):
        """The names that have a HELP text."""
        return set(re.findall(r"^# HELP (\w+) \S", self.text, re.M))


def command(*args, env=None, deadline=60, binary=None):
    """Runs another command of rowcast (check, schema, journal ..) to its end; returns a
    subprocess.CompletedProcess with text in stdout and stderr."""
    return subprocess.run([str(binary or paths.ROWCAST), *map(str, args)], env=env, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline)
