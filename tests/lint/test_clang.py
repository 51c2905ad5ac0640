"""clang-format and clang-tidy, as Debian 12 has them (version 14)."""

import concurrent.futures
import functools
import json
import os
import pathlib
import subprocess

import pytest

from test_source import ROOT, SOURCES

BUILD = pathlib.Path(os.environ["ROWCAST_BUILD_DIR"])


@pytest.mark.parametrize("name", SOURCES)
def test_format(name):
    """`clang-format-14 -i FILE` mends it."""
    check = subprocess.run(["clang-format-14", "--dry-run", "--Werror", ROOT / name],
                           capture_output=True, text=True)
    if check.returncode != 0:
        pytest.fail(check.stderr[:2000], pytrace=False)


def compiled():
    """Our files that the build compiles, not what it generates."""
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    paths = {pathlib.Path(c["directory"], c["file"]).resolve() for c in commands}
    return sorted(str(p.relative_to(ROOT)) for p in paths
                  if p.is_relative_to(ROOT) and not p.is_relative_to(BUILD.resolve()))


@functools.cache
def tidy_all():
    """What clang-tidy says of each file; all at once, for one takes seconds."""
    def tidy(name):
        return subprocess.run(["clang-tidy-14", "--quiet", "-p", BUILD, ROOT / name],
                              capture_output=True, text=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(compiled(), pool.map(tidy, compiled())))


@pytest.mark.parametrize("name", compiled())
def test_tidy(name):
    result = tidy_all()[name]
    if result.returncode != 0:
        pytest.fail(result.stdout[:4000] + result.stderr[-1000:], pytrace=False)
