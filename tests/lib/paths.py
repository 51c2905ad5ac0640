"""Where things lie."""

import atexit
import itertools
import os
import pathlib
import shutil
import tempfile

LIB = pathlib.Path(__file__).resolve().parent
ROOT = LIB.parent.parent


def _cache():  # as in common.sh
    if os.environ.get("ROWCAST_TEST_CACHE"):
        return pathlib.Path(os.environ["ROWCAST_TEST_CACHE"])
    if os.getuid() == 0:
        return pathlib.Path("/var/cache/rowcast-tests")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home, "rowcast-tests")


CACHE = _cache()

# The binary under test; tests/run names it, by hand the plain build is taken.
ROWCAST = pathlib.Path(
    os.environ.get("ROWCAST_BIN") or ROOT / "build" / "plain" / "cdc" / "command" / "rowcast"
)

# Logs of failed tests are kept here.
KEPT = pathlib.Path(os.environ.get("ROWCAST_TEST_LOGS") or ROOT / "build" / "test-logs")

_scratch = None
_numbers = itertools.count(1)


def scratch(name):
    """A new empty directory, removed at exit; others may pass through it (servers that do not run
    as root have a directory of their own inside)."""
    global _scratch
    if _scratch is None:
        _scratch = pathlib.Path(tempfile.mkdtemp(prefix="rowcast-tests-"))
        _scratch.chmod(0o711)
        atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
    path = _scratch / f"{name}-{next(_numbers)}"
    path.mkdir(mode=0o755)
    return path
