"""Kind to the server: it never keeps WAL, never waits, and is never fuller for our sake than it
has to be; and what an operator can ask of a running rowcast."""

import json
import os
import stat

from lib.rowcast import command
from lib.wait import wait_for


def ask(rc):
    """What `rowcast status` says of a running rowcast."""
    done = command("status", "--journal", rc.journal)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_is_asked_at_the_control_socket(pg, make_rowcast):
    """Of the owner alone; it survives kill -9, and says so when nobody is there."""
    pg.sql("create table t (id int primary key)")
    rc = make_rowcast("--table", "public.t", source=pg.url())
    nobody = command("status", "--journal", rc.dir / "nothing")
    assert (nobody.returncode, "nothing" in nobody.stderr) == (6, True), nobody
    rc.start()
    assert stat.S_IMODE(os.stat(rc.journal / "control").st_mode) == 0o600
    said = ask(rc)
    assert (said["slot"], said["state"], said["pid"]) == ("rowcast", "live", rc.process.pid)
    assert said["sinks"] == {"websocket": {"gates": False}}
    before = said["watermark"]
    pg.sql("insert into t values (1)")
    wait_for(lambda: ask(rc)["watermark"] != before, 15, lambda: f"the watermark to move: {said}")
    rc.kill9()
    gone = command("status", "--journal", rc.journal)
    assert (gone.returncode, "no rowcast runs" in gone.stderr) == (6, True), gone
    rc.start()
    assert ask(rc)["state"] == "live"
    assert rc.stop() == 0
    assert not (rc.journal / "control").exists()
