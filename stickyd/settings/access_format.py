"""
The form of a line in the access log: ``--access-log-format``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Any

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

#: The words that are no format strings.
COMBINED, JSON = "combined", "json"

_unsafe = re.compile(r'[^\x20-\x7e]|["\\]')


@dataclass(frozen=True)
class AccessRecord:
    """
    One request that is over.

    :ivar client: its address, or nothing.
    :ivar sent_bytes: of the response's body.
    :ivar duration_seconds: how long it took; :obj:`None` if that is not known.
    :ivar slot: of the worker that served it; -1 for none.
    :ivar key: what placed the connection: ``key`` (its affinity key), ``named`` (a token, a claim
        or an earlier choice names the slot), ``none`` (the load of the moment).
    :ivar rehomed: whether another worker had the connection before.
    """

    time: str
    client: str
    method: bytes
    target: bytes
    version: bytes
    status: int
    sent_bytes: int
    referer: bytes | None
    agent: bytes | None
    duration_seconds: float | None
    worker: int
    slot: int
    key: str
    rehomed: bool


def safe(text: bytes | None) -> str:
    """
    What a client has sent, such that it cannot end a field or a line; ``-`` for nothing.
    """
    # Latin-1 so that each byte is one character.
    return "-" if not text else _unsafe.sub(_escape, text.decode("latin-1"))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return "\\" + character if character in '"\\' else f"\\x{ord(character):02x}"


#: What a format string may name, and what that gives.
FIELDS: dict[str, Callable[[AccessRecord], str]] = {
    "time": lambda record: record.time,
    "client": lambda record: record.client or "-",
    "method": lambda record: safe(record.method),
    "target": lambda record: safe(record.target),
    "version": lambda record: safe(record.version),
    "status": lambda record: str(record.status),
    "bytes": lambda record: str(record.sent_bytes),
    "referer": lambda record: safe(record.referer),
    "agent": lambda record: safe(record.agent),
    "duration": lambda record: _seconds(record.duration_seconds),
    "worker": lambda record: str(record.worker),
    "slot": lambda record: "-" if record.slot < 0 else str(record.slot),
    "key": lambda record: record.key,
    "rehomed": lambda record: "yes" if record.rehomed else "no",
}


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.6f}"


def parse_format(text: str) -> Callable[[AccessRecord], str]:
    """
    Make what writes a line, without its newline.

    :param text: ``combined``, ``json``, or a text with the names of :data:`FIELDS` in braces.
    :raises SettingError: if it names what there is not, or is no format.
    """
    if text == COMBINED:
        return _combined
    if text == JSON:
        return _json
    parts: list[Callable[[AccessRecord], str]] = []
    try:
        pieces = list(Formatter().parse(text))
    except ValueError as problem:
        raise SettingError(
            f"--access-log-format {text}: {problem}; write braces in pairs, as in {{status}}"
        ) from None
    if not any(name is not None for _, name, _, _ in pieces):
        raise SettingError(
            f"--access-log-format {text}: expected {COMBINED}, {JSON}, or fields in braces, as in"
            f" '{{client}} {{status}} {{duration}}'"
        )
    for literal, name, spec, conversion in pieces:
        if literal:
            parts.append(_literal(literal))
        if name is None:
            continue
        if name not in FIELDS or spec or conversion:
            raise SettingError(
                f"--access-log-format: there is no field {{{name}}}; write one of"
                f" {', '.join(FIELDS)}, without anything behind the name"
            )
        parts.append(FIELDS[name])
    return lambda record: "".join(part(record) for part in parts)


def _literal(text: str) -> Callable[[AccessRecord], str]:
    shown = text.encode("ascii", "backslashreplace").decode().replace("\n", "\\n")
    return lambda record: shown


def _combined(record: AccessRecord) -> str:
    return (
        f"{record.client or '-'} - - [{record.time}] "
        f'"{safe(record.method)} {safe(record.target)} {safe(record.version)}" '
        f"{record.status} {record.sent_bytes or '-'} "
        f'"{safe(record.referer)}" "{safe(record.agent)}"'
    )


def _json(record: AccessRecord) -> str:
    plain: dict[str, Any] = {
        name: value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in vars(record).items()
    }
    plain["bytes"] = plain.pop("sent_bytes")
    plain["duration"] = plain.pop("duration_seconds")
    if record.slot < 0:
        plain["slot"] = None
    return json.dumps(plain)
