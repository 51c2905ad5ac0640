"""Writes the page's files as C: embed.py OUT FILE..."""

import pathlib
import sys

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8"}

out, *files = map(pathlib.Path, sys.argv[1:])
text = '#include "sinks/websocket/page.h"\n'
rows = ""
for i, file in enumerate(files):
    data = file.read_bytes()
    lines = [", ".join(map(str, data[at:at + 24])) for at in range(0, len(data), 24)]
    text += f"\nstatic const uint8_t file_{i}[] = {{\n    " + ",\n    ".join(lines) + "};\n"
    path = "/" if file.name == "index.html" else f"/{file.name}"
    rows += f'    {{"{path}", "{TYPES[file.suffix]}", file_{i}, sizeof file_{i}}},\n'
text += f"\nconst struct page_file page_files[] = {{\n{rows}}};\n"
text += f"const size_t page_file_count = {len(files)};\n"
out.write_text(text)
