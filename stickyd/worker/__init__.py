"""
The worker process: what it takes from the primary, has served, and gives away.

To an application this is ``stickyd.worker``, which tells what the worker is that runs it: see
:class:`stickyd.identity.worker_info.WorkerInfo`.  Ask it for an attribute when you need it: a name
imported from here keeps the value that it had then.
"""

from __future__ import annotations

# typing's is not imported: importing any part of the package must bring nothing along.
TYPE_CHECKING = False
if TYPE_CHECKING:
    slot: int
    workers: int
    node: str
    managed: bool
    relieved: bool
    generation: int
    generation_name: str
else:
    _ATTRIBUTES = (
        "slot",
        "workers",
        "node",
        "managed",
        "relieved",
        "generation",
        "generation_name",
    )

    def __getattr__(name: str) -> object:
        if name not in _ATTRIBUTES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from stickyd.identity.desk import this_worker

        return getattr(this_worker, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_ATTRIBUTES})
