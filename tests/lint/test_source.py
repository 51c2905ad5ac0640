"""Rules of the source text: CONTRIBUTING.md says why."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

FILE_LINES_MAX = 620  # "about 600"
LINE_COLUMNS_MAX = 100


def tracked(*patterns):
    """Files of the checkout, also those not yet added; in a plain copy, all files."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *patterns],
                            cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        names = [n for n in listed.stdout.split("\0") if n]
    else:
        names = [str(p.relative_to(ROOT)) for pattern in patterns for p in ROOT.rglob(pattern)
                 if "build" not in p.relative_to(ROOT).parts]
    return sorted(n for n in set(names) if (ROOT / n).is_file())


def expect_none(findings):
    if findings:
        pytest.fail("\n".join(findings), pytrace=False)


SOURCES = tracked("*.c", "*.h")
DAEMON = [n for n in SOURCES if n.split("/")[0] in ("cdc", "proto", "sinks")]


def code(name):
    """The text with comments and the contents of string literals blanked, lines kept."""
    text = (ROOT / name).read_text()
    blank = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.S)

    def keep_lines(match):
        found = match[0]
        if found.startswith('"') and text[:match.start()].rsplit("\n", 1)[-1].strip() == "#include":
            return found
        return "\n" * found.count("\n") if found.startswith("/") else '""'
    return blank.sub(keep_lines, text)


def lines_matching(names, pattern):
    return [f"{name}:{number}: {line.strip()}" for name in names
            for number, line in enumerate(code(name).splitlines(), 1) if re.search(pattern, line)]


def test_there_are_sources():
    assert len(DAEMON) > 20


def test_no_banned_call():
    """They do not check sizes, hide errors, or share a static buffer among threads."""
    banned = r"\b(strcpy|strcat|sprintf|vsprintf|atoi|atol|atof|gets|strtok|gmtime|localtime|ctime"\
             r"|asctime|alloca)\s*\("
    expect_none(lines_matching(SOURCES, banned))


# What each part may include, besides itself. main and the pipeline wire everything.
MAY_INCLUDE = {
    "base": (),
    "proto": ("base",),
    "journal": ("base", "proto"),
    "source": ("base", "proto", "journal"),
    "config": ("base",),
    "sinks": ("base", "proto", "journal"),
}


def part_of(name):
    """base, journal, source ..; None for what wires them (cdc/main.c, cdc/pipeline.c, commands)."""
    folders = name.split("/")[:-1]
    if folders[:1] in (["proto"], ["sinks"]):
        return folders[0]
    if folders[:1] == ["cdc"] and len(folders) > 1 and folders[1] in MAY_INCLUDE:
        return folders[1]
    return None


def included(name):
    return re.findall(r'^\s*#include "([^"]+)"', (ROOT / name).read_text(), re.M)


def resolve(name, include):
    """The file that an include names, from the includer's folder, the root or cdc."""
    for folder in ((ROOT / name).parent, ROOT, ROOT / "cdc"):
        path = folder / include
        if path.is_file():
            return str(path.resolve().relative_to(ROOT))
    return include  # generated


def test_include_direction():
    """base <- proto <- journal, source <- pipeline <- main; sinks do not know each other."""
    wrong = []
    for name in DAEMON:
        part = part_of(name)
        for include in included(name) if part else ():
            target = resolve(name, include)
            other = part_of(target)
            if target.startswith("cdc/") and other is None:
                wrong.append(f"{name} includes {target}, which stands above it")
            elif other and other != part and other not in MAY_INCLUDE[part]:
                wrong.append(f"{name} includes {target}: {part} must not know {other}")
            elif part == other == "sinks" and len(pathlib.Path(target).parts) > 2 \
                    and pathlib.Path(target).parts[1] != pathlib.Path(name).parts[1]:
                wrong.append(f"{name} includes {target}: sinks must not know each other")
    expect_none(wrong)


# A foreign library is known to one folder.
FOREIGN = {
    "libpq-fe.h": "cdc/source/",
    "openssl/ssl.h": "cdc/source/connect/tls.c",
    "librdkafka/rdkafka.h": "sinks/kafka/",
    "libwebsockets.h": "sinks/websocket/",
    "zstd.h": "cdc/journal/",
    "confuse.h": "cdc/config/",
}


@pytest.mark.parametrize("header", FOREIGN)
def test_foreign_header_in_one_folder(header):
    pattern = rf'#include [<"](?:\w+/)*{re.escape(header.split("/")[-1])}[>"]'
    users = [n for n in DAEMON if re.search(pattern, (ROOT / n).read_text())]
    expect_none([n for n in users if not n.startswith(FOREIGN[header])])


def test_headers_guard_themselves():
    headers = [n for n in SOURCES if n.endswith(".h")]
    expect_none([n for n in headers if "#pragma once" not in (ROOT / n).read_text()])


def test_files_are_short():
    sizes = {n: len((ROOT / n).read_text().splitlines()) for n in SOURCES}
    expect_none([f"{n}: {lines} lines" for n, lines in sizes.items() if lines > FILE_LINES_MAX])


def test_lines_are_short():
    names = SOURCES + tracked("*.py", "*.sh", "*meson.build", "*.proto", "tests/run", "tests/lib/*")
    expect_none([f"{n}:{i}" for n in sorted(set(names))
                 for i, line in enumerate((ROOT / n).read_text().splitlines(), 1)
                 if len(line) > LINE_COLUMNS_MAX])


def test_every_test_program_is_listed():
    """A test that meson does not know never runs."""
    missing = []
    for kind, prefix in (("unit", "test_"), ("fuzz", "fuzz_")):
        listed = (ROOT / "tests" / kind / "meson.build").read_text()
        for path in sorted((ROOT / "tests" / kind).glob(f"{prefix}*.c")):
            if f"'{path.stem.removeprefix(prefix)}'" not in listed and path.name not in listed:
                missing.append(str(path.relative_to(ROOT)))
    expect_none(missing)


def test_every_source_file_is_built():
    """No .c file lies about unused."""
    commands = pathlib.Path(os.environ["ROWCAST_BUILD_DIR"], "compile_commands.json").read_text()
    expect_none([n for n in DAEMON if n.endswith(".c") and f"/{n}" not in commands])


def test_a_metric_has_one_help_text():
    """Prometheus shows one a name: that of whoever came first."""
    string = r'"(?:[^"\\\n]|\\.)*"'
    made = re.compile(rf"(?:metric|histogram)_new\((?:METRIC_\w+,)?\s*({string}),"
                      rf"\s*({string}(?:\s*{string})*)")
    texts = {}
    for name in DAEMON:
        for metric, text in made.findall((ROOT / name).read_text()):
            texts.setdefault(metric, set()).add(re.sub(r'"\s*"', "", text))
    assert len(texts) > 20
    expect_none([f"{metric}: {sorted(found)}" for metric, found in texts.items() if len(found) > 1])


def test_no_task_left_in_a_comment():
    """TODO needs a reason; XXX and FIXME say none."""
    pattern = r"\b(XXX|FIXME|TODO(?!\([^)]+\)))\b"
    expect_none([n for n in SOURCES if re.search(pattern, (ROOT / n).read_text())])


@pytest.mark.parametrize("name", tracked("tests/run", "tests/lib/install", "tests/lib/kafka",
                                         "tests/lib/*.sh", ".ci/run", "tests/bench/run",
                                         "examples/quickstart/run"))
def test_shell_script_parses(name):
    if b"bash" in (ROOT / name).read_bytes().splitlines()[0] or name.endswith(".sh"):
        subprocess.run(["bash", "-n", ROOT / name], check=True)
