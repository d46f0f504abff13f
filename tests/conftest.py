"""
What all tests share: the choice of the long ones, and a watch over sockets.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.system.programs import complain_of, missing_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

# A timing is never a test, and these machines are shared.  What Hypothesis thinks of is the same
# in each run, so that a run that fails is one that something was changed for; the long ones look
# for what nobody has thought of.
settings.register_profile(
    "stickyd", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile("soak", settings.get_profile("stickyd"), derandomize=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    Add ``--soak``.
    """
    parser.addoption("--soak", action="store_true", help="run the long tests too")


def pytest_configure(config: pytest.Config) -> None:
    """
    Declare the mark of the long tests.
    """
    settings.load_profile("soak" if config.getoption("--soak") else "stickyd")
    # Nothing is garbage yet: all that is imported and collected stays to the end.
    gc.disable()
    config.addinivalue_line("markers", "soak: takes tens of seconds; runs with --soak only")
    # The control sockets of the servers that this process starts, where no others are: a server
    # that starts looks which of them are dead, and a test may have made another one busy.
    made = os.environ["RUNTIME_DIRECTORY"] = tempfile.mkdtemp(prefix="stickyd-tests-")
    config.add_cleanup(lambda: shutil.rmtree(made, ignore_errors=True))


def pytest_report_header() -> list[str]:
    """
    Say at once which tests will fail for want of a program, and what to install.
    """
    missing = missing_programs()
    return [f"tests of whole systems will fail: {complain_of(missing)}"] if missing else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Put the tests of whole systems first, which take longest, and deselect the long ones
    unless they are asked for.
    """
    items.sort(key=lambda item: not item.nodeid.startswith("tests/system/"))
    if config.getoption("--soak"):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_collection_finish() -> None:
    """
    Have no collection of garbage look at the modules and the tests.
    """
    gc.freeze()
    gc.enable()


@pytest.fixture
def nothing_leaks() -> Iterator[None]:
    """
    Every socket that a test opens is closed when the test is over.
    """
    # Imported here, as it imports what a test may have to configure before.
    from tests.channels import open_sockets

    before = open_sockets()
    yield
    assert open_sockets() == before
