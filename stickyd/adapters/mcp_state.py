"""
What the MCP Python SDK seals for its clients, with a key that all workers share.
"""

from __future__ import annotations

from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity

import stickyd


class FleetCodec:
    """
    The SDK's own codec, with the fleet's keys as they are at the moment.
    """

    def __init__(self, label: str) -> None:
        """
        :param label: of the keys, as :func:`stickyd.secret` takes it.
        """
        self._label = label
        self._keys: list[bytes] = []
        self._codec: AESGCMRequestStateCodec | None = None

    def seal(self, payload: bytes) -> str:
        """
        Write a token that only this fleet can read.
        """
        return self._current().seal(payload)

    def unseal(self, token: str) -> bytes:
        """
        Read a token.

        :raises mcp.server.request_state.InvalidRequestState: if none of ours has made it.
        """
        return self._current().unseal(token)

    def _current(self) -> AESGCMRequestStateCodec:
        keys = stickyd.secrets(self._label)
        if self._codec is None or keys != self._keys:
            self._keys, self._codec = keys, AESGCMRequestStateCodec(keys)
        return self._codec


def request_state_security(
    label: str = "mcp request state", ttl: float = 600.0, audience: str | None = None
) -> RequestStateSecurity:
    """
    Protect ``requestState`` such that every worker reads what another one has sealed.

    Give it to ``MCPServer`` as ``request_state_security``.  What is sealed is read after a reload
    and an upgrade, and with ``--secret-file`` after a restart and on other machines with that file.

    :param label: servers with the same read each other's.
    :param ttl: how many seconds a client has for its answer.
    :param audience: which service it is for; by default the server's name.
    """
    return RequestStateSecurity(codec=FleetCodec(label), ttl=ttl, audience=audience)
