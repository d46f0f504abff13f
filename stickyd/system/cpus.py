"""
How many CPUs this process may use.
"""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """
    Count the CPUs that the scheduler and the control groups leave us.

    The affinity mask (sched_getaffinity(2)) bounds it, and so does every CPU quota of
    our control group and the groups above it: ``cpu.max`` in version 2,
    ``cpu.cfs_quota_us`` in version 1.  A quota of one and a half CPUs counts as 2, since
    one process could not use it up.

    :param root: where ``proc`` and ``sys`` are.
    :return: at least 1.
    """
    try:
        mask = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity masks
        mask = os.cpu_count() or 1
    return max(1, min([mask, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for line in memberships:
        # cgroups(7): hierarchy-ID:controller-list:cgroup-path, "0::/path" in version 2
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            mount = root / "sys/fs/cgroup/cpu"
        else:
            continue
        group = mount / path.lstrip("/")
        # In a container the path may be the host's, which is not there: its top is.
        for place in (group, *group.parents):
            quota = _quota(place)
            if quota is not None:
                quotas.append(quota)
            if place == mount:
                break
    return quotas


def _quota(group: Path) -> float | None:
    """
    CPUs that a group allows, or :obj:`None` if it sets no limit.
    """
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
