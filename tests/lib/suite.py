"""Builds, runs the tests of one suite or of all, and sums up; started by tests/run."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ROWCAST_BUILD") or ROOT / "build")
PYTEST_MINUTES_MAX = 90  # a test that hangs must not hang the machine that runs it
# Most of an end-to-end test's time is waiting, so that more of them run at once than there are
# cores; those of one file after another, for they share a broker.
AT_ONCE = ["-n", str((os.cpu_count() or 2) + 1), "--dist", "loadfile"]

# The ways of building: compiler and meson options.
BUILDS = {
    "plain": ("gcc", []),
    "asan": ("clang-14", ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dfuzz=true"]),
    "tsan": ("clang-14", ["-Db_sanitize=thread", "-Db_lundef=false"]),
}

# What the sanitizers do in whatever runs; suppressions only for libraries that are not ours.
SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0",
    "TSAN_OPTIONS": f"second_deadlock_stack=1:suppressions={ROOT}/tests/tsan.supp",
    "ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-14",
    "TSAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-14",
    "CMOCKA_MESSAGE_OUTPUT": "TAP",
}


class Suite:
    """Runs tests and counts; `select` limits it to tests whose names match."""

    def __init__(self, select):
        self.select = select
        self.passed = 0
        self.failed = []  # names
        self.skipped = 0
        self.built = {}  # build -> whether it could be built

    def count(self, name, ok):
        if ok:
            self.passed += 1
        else:
            self.failed.append(name)

    def build(self, name):
        """Configures and compiles as much as can be; a build that fails counts as a failed test,
        once. Returns whether it succeeded."""
        if name not in self.built:
            title(f"build {name}")
            compiler, options = BUILDS[name]
            path = BUILD / name
            ok = True
            if not (path / "build.ninja").exists():
                shutil.rmtree(path, ignore_errors=True)
                ok = run(["meson", "setup", *options, path, ROOT], env={"CC": compiler})
            self.built[name] = ok and run(["ninja", "-C", path, "-k", "0", "--quiet"])
            if not self.built[name]:
                self.count(f"build {name}", False)
        return self.built[name]

    def unit(self, build):
        """The C unit tests that could be built, each test function counted."""
        path = BUILD / build
        self.build(build)
        title(f"unit tests, {build} build")
        tests = json.loads(subprocess.check_output(["meson", "introspect", "--tests", path]))
        names = [t["name"] for t in tests if "unit" in " ".join(t["suite"])
                 and (self.select or "") in t["name"] and pathlib.Path(t["cmd"][0]).exists()]
        if not names:
            return
        log = path / "meson-logs" / "testlog.json"
        log.unlink(missing_ok=True)
        run(["meson", "test", "-C", path, "--no-rebuild", "--print-errorlogs", *names])
        results = [json.loads(line) for line in open(log)] if log.exists() else []
        for result in results:
            self.count_unit(build, result)
        for name in set(names) - {r["name"].split(" / ")[-1] for r in results}:
            self.count(f"unit {build} {name}: no result", False)

    def count_unit(self, build, result):
        """A program's test functions by its TAP lines; one that fails without a line about it (a
        crash, a sanitizer's finding at the end) counts as one more."""
        name = f"unit {build} {result['name']}"
        lines = re.findall(r"^(not ok|ok) \d+ -? ?(.*)$", result.get("stdout", ""), re.M)
        for verdict, function in lines:
            self.count(f"{name} {function}", verdict == "ok")
        ok = result["result"] in ("OK", "EXPECTEDFAIL")
        if not lines or not ok and all(verdict == "ok" for verdict, _ in lines):
            self.count(name, ok and bool(lines))

    def pytest(self, title_text, *args, env=None):
        """Tests in Python, counted by pytest's own report."""
        title(title_text)
        report = BUILD / "pytest.xml"
        report.unlink(missing_ok=True)
        command = ["/usr/bin/python3", "-m", "pytest", "-c", ROOT / "tests" / "pytest.ini", "-v",
                   "-ra", "--durations=5", f"--junitxml={report}", *args]
        if self.select:
            command += ["-k", self.select]
        code = run_filtered(command, {**SANITIZERS, **(env or {})})
        if code == 5:  # no test matches
            return
        if not report.exists() or code not in (0, 1):
            self.count(f"{title_text}: pytest ended with {code}", False)
        if report.exists():
            for case in xml.etree.ElementTree.parse(report).iter("testcase"):
                kinds = {child.tag for child in case}
                if "skipped" in kinds:
                    self.skipped += 1
                else:
                    self.count(f"{case.get('classname')} {case.get('name')}",
                               not kinds & {"failure", "error"})

    def daemon(self, title_text, build, *args):
        """Python tests that run the daemon of a build."""
        if self.build(build):
            self.pytest(title_text, *args,
                        env={"ROWCAST_BIN": str(BUILD / build / "cdc" / "command" / "rowcast")})

    def fuzz(self):
        """Each fuzz target for FUZZ_SECONDS, two at a time, from its corpus in tests/fuzz."""
        self.build("asan")
        seconds = int(os.environ.get("FUZZ_SECONDS", "45"))
        programs = [p for p in sorted((BUILD / "asan" / "tests" / "fuzz").glob("fuzz_*"))
                    if p.is_file() and os.access(p, os.X_OK) and (self.select or "") in p.name]
        title(f"fuzz targets, {seconds} s each")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for name, ok, text in pool.map(lambda p: fuzz_one(p, seconds), programs):
                print(text, flush=True)
                self.count(name, ok)


def fuzz_one(program, seconds):
    """Runs a target: (name, whether all is well, text). Finds are kept in build/fuzz/NAME."""
    name = program.name
    found = BUILD / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    corpus = BUILD / "fuzz" / f"{name}-corpus"
    corpus.mkdir(exist_ok=True)
    seeds = ROOT / "tests" / "fuzz" / "corpus" / name.removeprefix("fuzz_")
    command = [program, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
               "-print_final_stats=1", f"-artifact_prefix={found}/", corpus]
    if seeds.is_dir():
        command.append(seeds)
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            errors="replace", env={**os.environ, **SANITIZERS})
    runs = re.search(r"number_of_executed_units: (\d+)", result.stderr)
    ok = result.returncode == 0 and runs is not None and int(runs[1]) > 0
    text = f"{name}: {runs[1] if runs else 'no'} runs, {'ok' if ok else 'FAILED'}"
    return name, ok, text if ok else f"{text}\n{result.stderr[-8000:]}"


def title(text):
    print(f"\n--- {text}", flush=True)


def run(command, env=None):
    """Runs a command with its output shown; whether it succeeded."""
    return subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL,
                          env={**os.environ, **SANITIZERS, **(env or {})}).returncode == 0


# pytest's last line, left out: there is one sum for everything.
PYTEST_SUM = re.compile(r"^=+ .*\bin \d[\d.]*s\b.* =+$")


def run_filtered(command, env):
    """Runs pytest, shows its output but for its own sum, returns its exit code."""
    child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
                             env={**os.environ, **env})
    timer = threading.Timer(PYTEST_MINUTES_MAX * 60, child.kill)
    timer.start()
    for line in child.stdout:
        if not PYTEST_SUM.match(line):
            print(line, end="", flush=True)
    timer.cancel()
    return child.wait()


def lint(suite):
    suite.build("plain")
    if (BUILD / "plain" / "compile_commands.json").exists():
        suite.pytest("lint", "tests/lint", env={"ROWCAST_BUILD_DIR": str(BUILD / "plain")})


def run_suite(suite, what):
    if what in ("quick", "lint", "all"):
        lint(suite)
    if what in ("quick", "unit", "all"):
        suite.unit("plain")
    if what in ("unit", "asan", "all"):
        suite.unit("asan")
    if what in ("unit", "tsan", "all"):
        suite.unit("tsan")
    if what in ("e2e", "all"):
        suite.daemon("end to end", "plain", *AT_ONCE, "tests/e2e")
    for build in ("asan", "tsan"):
        if what in (build, "all"):
            suite.daemon(f"end to end, {build} build", build, *AT_ONCE, "tests/e2e", "-m",
                         "sanitize")
    if what in ("crash", "all") and any((ROOT / "tests" / "crash").glob("test_*.py")):
        suite.daemon("crash", "plain", "tests/crash")
    if what in ("fuzz", "all"):
        suite.fuzz()


def main():
    parser = argparse.ArgumentParser(prog="tests/run")
    parser.add_argument("what", nargs="?", default="all", choices=[
        "quick", "lint", "unit", "e2e", "crash", "fuzz", "asan", "tsan", "all"])
    parser.add_argument("--all-versions", action="store_true",
                        help="tests that depend on the server run on PostgreSQL 10 to 18")
    parser.add_argument("-k", dest="select", metavar="EXPR",
                        help="only tests whose names match (C tests: that contain it)")
    options = parser.parse_args()
    if options.all_versions:
        os.environ["ROWCAST_TEST_VERSIONS"] = "all"
    os.chdir(ROOT)
    BUILD.mkdir(exist_ok=True)
    began = time.monotonic()
    suite = Suite(options.select)
    try:
        run_suite(suite, options.what)
    except KeyboardInterrupt:
        suite.failed.append("interrupted")
    title(f"{options.what}: {time.monotonic() - began:.0f} s")
    for name in suite.failed:
        print(f"failed: {name}")
    skipped = f", {suite.skipped} skipped" if suite.skipped else ""
    print(f"{suite.passed} passed, {len(suite.failed)} failed{skipped}", flush=True)
    sys.exit(1 if suite.failed or not suite.passed else 0)


main()
