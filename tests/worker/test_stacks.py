"""
What a worker's thread tells.
"""

from __future__ import annotations

import asyncio
from typing import Any

from stickyd.worker.stacks import StacksDoor


def told(door: StacksDoor) -> dict[str, Any]:
    """
    What it would answer.
    """
    return door._told()


def test_tasks_are_told_as_far_as_they_are() -> None:
    """
    One that has not begun is nowhere.
    """

    async def application() -> None:
        await asyncio.sleep(3600)

    async def look() -> dict[str, Any]:
        door = StacksDoor()
        door.know(asyncio.get_running_loop())
        tasks = [asyncio.create_task(application(), name="waits")]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(application(), name="has not begun"))
        answer = told(door)
        for task in tasks:
            task.cancel()
        return answer

    answer = asyncio.run(look())
    stacks = {task["name"]: task["stack"] for task in answer["tasks"]}
    assert answer["task_count"] == len(stacks) == 3
    assert "await asyncio.sleep(3600)" in stacks["waits"][0]
    assert stacks["has not begun"] == []


def test_requests_are_told_if_they_can_be() -> None:
    """
    They are looked at by another thread than theirs, which may fail.
    """

    def look(what: str) -> str:
        if what == "clients":
            raise RuntimeError("dictionary changed size during iteration")
        return '{"rows": [], "total": 0}'

    door = StacksDoor()
    assert told(door)["requests"] == {}
    door.know_requests(look)
    answer = told(door)
    assert answer["requests"] == {"rows": [], "total": 0}
    assert "clients" not in answer
