"""
What a reload can change of the settings, and what it leaves as it is.
"""

from __future__ import annotations

from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING

from stickyd.settings.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a reload cannot change, as it is the primary's own and in use, and what can.
FIXED: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        ("listen", "workers", "affinity", "placement", "queue_limit", "queue_timeout", "backoff",
         "backoff_limit", "max_requests", "max_memory", "trust", "proxy_protocol", "head_bytes",
         "sniff_timeout", "sniff_limit", "sniff_overflow", "learn_limit", "learn_timeout",
         "stick_limit", "stick_timeout", "control", "node", "log_format",
         "admin", "admin_public", "admin_host", "admin_token_file", "agent_check"),
        "upgrade",
    )
    | {"steering": "restart", "sessions": "restart"}
)  # fmt: skip


#: What cannot change between some and none while clients are served: they cannot speak both
#: on one port.
_ALL_OR_NONE: Mapping[str, str] = MappingProxyType({"tls": "restart", "http2": "restart"})


def fixed(former: Settings, wanted: Settings) -> Mapping[str, str]:
    """
    The settings that a reload must leave as they are: their names, and what changes them.
    """
    if bool(former.tls) == bool(wanted.tls):
        return FIXED
    return {**FIXED, **_ALL_OR_NONE}


def changed(former: Settings, wanted: Settings) -> set[str]:
    """
    The names of the settings that differ.
    """
    return {f.name for f in fields(Settings) if getattr(former, f.name) != getattr(wanted, f.name)}
