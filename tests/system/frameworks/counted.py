"""
An ASGI application that counts by ``prometheus_client``, as any does.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge, Histogram

hits = Counter("app_hits", "Hits of the application.", ["path"])
size = Histogram("app_size_bytes", "Sizes.", buckets=(10, 100))
workers = Gauge("app_workers", "Workers.", multiprocess_mode="livesum")
workers.set(1)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """
    Count, and answer.
    """
    if scope["type"] != "http":
        raise NotImplementedError
    hits.labels(scope["path"]).inc()
    size.observe(50)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"counted"})
