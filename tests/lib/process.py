"""A child process with a log file, which never outlives the tests."""

import atexit
import concurrent.futures
import os
import pwd
import re
import signal
import subprocess

from . import wait

# Children are to die with us, even if we are killed. The kernel ties that to the thread that
# started them, so all are started by one thread that lives as long as the process.
_starter = concurrent.futures.ThreadPoolExecutor(max_workers=1)

started = []  # every Process that was ever started, for clean-up and for the logs of failed tests


class Process:
    """name: for messages. argv: the command. log: file that gets standard error, and standard
    output too unless `stdout` names another file; appended to over restarts. user: run as this
    user if we are root. death_signal: what it gets when the tests die."""

    def __init__(self, name, argv, log, stdout=None, user=None, env=None, cwd=None,
                 death_signal="KILL"):
        self.name = name
        self.argv = [str(a) for a in argv]
        self.log = log
        self.stdout = stdout
        self.user = user if os.getuid() == 0 else None
        self.env = env or {}
        self.cwd = cwd
        self.death_signal = death_signal
        self._child = None

    def start(self):
        assert not self.alive(), f"{self.name} already runs"
        with open(self.log, "ab") as err, open(self.stdout or self.log, "ab") as out:
            self._child = _starter.submit(
                subprocess.Popen, as_user(self.user, self.argv, self.death_signal),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.cwd,
                env={**os.environ, **self.env}, start_new_session=True).result()
        if self not in started:
            started.append(self)
        return self

    @property
    def pid(self):
        return self._child.pid

    def alive(self):
        return self._child is not None and self._child.poll() is None

    def send(self, number):
        self._child.send_signal(number)

    def wait(self, deadline=30):
        """Waits for its end; returns the exit code (negative: the signal that ended it)."""
        try:
            return self._child.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) still runs after {deadline} s; "
                                 f"end of its log:\n{self.log_tail()}") from None

    def stop(self, number=signal.SIGTERM, deadline=30):
        """Signals it, waits, returns the exit code."""
        self.send(number)
        return self.wait(deadline)

    def kill9(self):
        """SIGKILL, without a chance to clean up; returns when it is gone."""
        if self.alive():
            self.stop(signal.SIGKILL)

    def pause(self):
        """SIGSTOP: it stands still, its connections stay open."""
        self.send(signal.SIGSTOP)

    def resume(self):
        self.send(signal.SIGCONT)

    def memory(self):
        """(now, peak) of its resident memory in bytes."""
        text = open(f"/proc/{self.pid}/status").read()
        return tuple(int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M)[1]) * 1024
                     for field in ("VmRSS", "VmHWM"))

    def cpu_seconds(self):
        """User and system time that it has used."""
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_text(self, since=0):
        """The log from byte `since` on."""
        if not os.path.exists(self.log):  # it was never started
            return ""
        with open(self.log, "rb") as f:
            f.seek(since)
            return f.read().decode(errors="replace")

    def log_size(self):
        """A place in the log, to be given as `since` later."""
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def log_tail(self, lines=30):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def log_contains(self, pattern, since=0):
        """The match of a regular expression in the log, or None."""
        return re.search(pattern, self.log_text(since), re.M)

    def wait_log(self, pattern, deadline=15, since=0):
        """Waits until a regular expression is found in the log; returns the match."""
        return wait.wait_for(lambda: self.log_contains(pattern, since), deadline,
                             lambda: f"/{pattern}/ in the log of {self.name}:\n"
                             + self.log_tail() + "\n")


def as_user(user, argv, death_signal="KILL"):
    """The command that runs argv as `user` (None: as we are) and dies when we do."""
    prefix = ["/usr/bin/setpriv"]
    if user:
        group = pwd.getpwnam(user).pw_gid
        prefix += [f"--reuid={user}", f"--regid={group}", "--init-groups"]
    return [*prefix, f"--pdeathsig={death_signal}", "--", *map(str, argv)]


def children(pid):
    """Process ids of the direct children of pid."""
    try:
        return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except FileNotFoundError:
        return []


def runs(pid):
    """Whether pid is alive; one that only waits for its parent to take note is not."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@atexit.register
def _end_all():
    for process in reversed(started):
        process.kill9()
