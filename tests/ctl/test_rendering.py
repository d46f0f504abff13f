"""
Answers that are no tables.
"""

from __future__ import annotations

from stickyd.ctl.rendering import stacks_shown


def test_tasks_that_are_alike_are_shown_once() -> None:
    """
    A stuck worker has many, of which most have not begun.
    """
    waits = {"coroutine": "app", "stack": ["shop.py:7 app: await here()"]}
    new = {"coroutine": "app", "stack": []}
    tasks = [
        {"name": f"Task-{number}", **kind} for number, kind in enumerate((waits, new, new, waits))
    ]
    told = {"pid": 7, "slot": 1, "by": "thread", "threads": [], "tasks": tasks, "task_count": 9}
    assert stacks_shown(told).splitlines() == [
        "worker 7 (slot 1)",
        "",
        "task Task-0 and 1 more: app",
        "  shop.py:7 app: await here()",
        "",
        "task Task-1 and 1 more: app, which has not begun",
        "",
        "4 of 9 tasks are shown",
    ]
