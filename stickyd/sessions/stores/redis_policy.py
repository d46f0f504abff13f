"""
How servers are waited for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinkPolicy:
    """
    What all links of a store have in common.
    """

    grace_seconds: float
    """How long a server that is away is waited for."""

    wait_replicas: int = 0
    """How many replicas must have a write before it is acknowledged."""

    wait_ms: int = 1_000
    """Milliseconds to wait for them."""

    of_cluster: bool = False
    """Whether the servers are nodes of a Cluster, who say themselves what is not theirs."""
