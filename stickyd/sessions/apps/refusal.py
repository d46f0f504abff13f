"""
What a client is told when its session cannot be had or saved, and nobody is to blame.
"""

from __future__ import annotations

from dataclasses import dataclass

from stickyd.errors import NoSuchSession, SessionConflict, SessionMoved, StoreAway


@dataclass(frozen=True)
class Refusal:
    """
    A short response.

    :ivar retry_after_seconds: when to try again; :obj:`None` if that is for the client to know.
    """

    status: int
    reason: str
    body: bytes
    retry_after_seconds: int | None = None

    def fields(self) -> list[tuple[str, str]]:
        """
        Give the fields of the response.
        """
        fields = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(self.body))),
            ("cache-control", "no-store"),
        ]
        if self.retry_after_seconds is not None:
            fields.append(("retry-after", str(self.retry_after_seconds)))
        return fields


def refusal_of(problem: Exception | None) -> Refusal | None:
    """
    Tell what to answer.

    :param problem: why a session could not be had or saved.
    :return: :obj:`None` if it is the application's fault, or none at all.
    """
    if isinstance(problem, (SessionConflict, NoSuchSession)):
        return Refusal(
            409,
            "Conflict",
            b"Another request has changed this session meanwhile. Please try again.\n",
        )
    if isinstance(problem, (SessionMoved, StoreAway)):
        return Refusal(
            503,
            "Service Unavailable",
            b"This session cannot be had right now. Please try again.\n",
            getattr(problem, "retry_after_seconds", 1),
        )
    return None
