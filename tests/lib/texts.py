"""PostgreSQL's text of a value, to what the JSON form of a change says."""

import base64
import datetime
import json
import re
import struct

EPOCH = datetime.datetime(1970, 1, 1)


class Exact(Exception):
    """The type's field cannot hold this text."""


def instant(text):
    """Of a timestamptz in UTC, as microseconds since 1970."""
    if not text.endswith("+00") or len(text.split("-")[0]) != 4:
        raise Exact
    text = text[:-3] + ("" if "." in text else ".0")
    at = datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f")
    return (at - EPOCH) // datetime.timedelta(microseconds=1)


def single(v):
    """v as a single-precision number."""
    return struct.unpack("<f", struct.pack("<f", v))[0]


def as_protobuf(base, text):
    """What the field of a base type holds for PostgreSQL's text."""
    if base == "boolean":
        return text == "t"
    if base in ("smallint", "integer", "bigint", "oid"):
        return int(text)
    if base == "double precision":
        return repr(float(text))  # as text: NaN is not equal to itself, -0 is equal to 0
    if base == "real":
        return repr(single(float(text)))
    if base == "bytea":
        return bytes.fromhex(text[2:])
    if base == "timestamp with time zone":
        return instant(text)
    return text


def as_json(base, text):
    """The JSON form of PostgreSQL's text."""
    if base in ("real", "double precision"):
        if text in ("NaN", "Infinity", "-Infinity"):
            return text
        # -0 is there, but Python's json reads an integer from it
        return as_protobuf(base, text if text != "-0" else "0")
    if base == "bigint":
        return text
    if base == "bytea":
        return base64.b64encode(as_protobuf(base, text)).decode()
    if base in ("json", "jsonb"):
        return json.loads(text)
    if base == "timestamp with time zone":
        at = EPOCH + datetime.timedelta(microseconds=instant(text))
        return at.isoformat(timespec="microseconds") + "Z"
    return as_protobuf(base, text)


def leaves(convert, base, value):
    """convert() over the elements of nested lists; NULL is None."""
    if value is None:
        return None
    if isinstance(value, list):
        return [leaves(convert, base, v) for v in value]
    return convert(base, value)


def parse_array(text, delimiter=","):
    """Nested lists of texts and None from an array's text."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[{}%s]|[^{}"%s]+' % (delimiter, delimiter),
                        text[text.index("{"):], re.S)
    stack = [[]]
    for token in tokens:
        if token == "{":
            stack.append([])
        elif token == "}":
            inner = stack.pop()
            stack[-1].append(inner)
        elif token.startswith('"'):
            stack[-1].append(re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.S))
        elif token != delimiter:
            stack[-1].append(None if token == "NULL" else token)
    return stack[0][0]
