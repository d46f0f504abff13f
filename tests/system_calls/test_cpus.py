"""
Counting the CPUs that this process may use.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stickyd.system.cpus import usable_cpus


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A machine on which the scheduler allows 16 CPUs.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def machine(root: Path, membership: str, **files: str) -> Path:
    """
    A root directory with control groups.
    """
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/a/b\n", {"a__b__cpu_max": "max 100000\n"}, 16),
        ("0::/a/b\n", {"a__b__cpu_max": "400000 100000\n"}, 4),
        ("0::/a/b\n", {"a__b__cpu_max": "150000 100000\n"}, 2),
        ("0::/a/b\n", {"a__b__cpu_max": "10000 100000\n"}, 1),
        ("0::/a/b\n", {"a__cpu_max": "300000 100000\n", "a__b__cpu_max": "max 100000"}, 3),
        ("0::/host/path\n", {"cpu_max": "200000 100000\n"}, 2),
        (
            "4:cpu,cpuacct:/a\n2:memory:/a\n",
            {"cpu__a__cpu_cfs_quota_us": "500000", "cpu__a__cpu_cfs_period_us": "100000"},
            5,
        ),
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu__a__cpu_cfs_quota_us": "-1", "cpu__a__cpu_cfs_period_us": "100000"},
            16,
        ),
        ("0::/\n", {}, 16),
    ],
)
def test_quotas_bound_the_count(
    tmp_path: Path, membership: str, files: dict[str, str], cpus: int
) -> None:
    """
    The smallest quota on the way up counts, rounded up; without one the mask does.
    """
    root = machine(tmp_path, membership, **files)
    for path in (root / "sys").rglob("cpu.cfs_*_us"):
        assert path.read_text()
    assert usable_cpus(root) == cpus


@pytest.mark.usefixtures("sixteen")
def test_machine_without_control_groups(tmp_path: Path) -> None:
    """
    Where there are no control groups the affinity mask alone counts.
    """
    assert usable_cpus(tmp_path) == 16


def test_this_machine_has_at_least_one() -> None:
    """
    The real count is within what the machine has.
    """
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
