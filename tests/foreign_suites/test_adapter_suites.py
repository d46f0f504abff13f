"""
The tests that python-socketio, channels_redis and the MCP SDK have for what tells several
processes of each other, on ours.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.foreign_suites.running import passed_in, run
from tests.foreign_suites.sdists import unpacked

_HERE = Path(__file__).parent

#: Channels has its own tests in its repository alone; those of the layer in Redis say more.
CHANNELS_REDIS = "4.3.0"

#: What cannot be asked of ours: why, and the tests that ask it.
DIFFERENCES = {
    "they look into the layer, or at what it has in Redis": [
        *("key_format", "receive_buffer", "serialize", "random_reset__client_prefix"),
        *("loop_instance", "multi_event_loop", "auto_reconnect"),
    ],
    "the message is no dict": ["non_owned_general_channel"],
}

#: Those that wait for seconds; ``tests/adapters`` has the same in less.
SLOW = "message_expiry"


def pytest_in(directory: Path, *arguments: str) -> int:
    """
    Run some of a suite's tests.

    :return: how many have passed.
    """
    ours = ("-c", "none.ini", "--rootdir", ".", "-p", "no:cacheprovider", "-W", "ignore")
    (directory / "none.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    return passed_in(run("-m", "pytest", "-q", *ours, *arguments, directory=directory))


def test_socketio_managers(tmp_path: Path) -> None:
    """
    All that python-socketio asks of a manager over publish and subscribe.
    """
    directory = unpacked("python-socketio", tmp_path)
    shutil.copy(_HERE / "socketio_conftest.py", directory / "conftest.py")
    files = [f"tests/{kind}/test_pubsub_manager.py" for kind in ("common", "async")]
    assert pytest_in(directory, *files) >= 90


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_channel_layer(slow: bool, tmp_path: Path) -> None:
    """
    What channels_redis asks of its layers, but for what is listed.
    """
    directory = unpacked("channels_redis", tmp_path, CHANNELS_REDIS)
    shutil.copy(_HERE / "channels_conftest.py", directory / "conftest.py")
    without = " and ".join(f"not {test}" for tests in DIFFERENCES.values() for test in tests)
    chosen = f"{without} and {SLOW if slow else f'not {SLOW}'}"
    files = ["tests/test_core.py", "tests/test_pubsub.py"]
    assert pytest_in(directory, "-k", chosen, *files) >= (3 if slow else 28)


def test_mcp_subscriptions_and_state(tmp_path: Path) -> None:
    """
    What the SDK asks of its bus in memory, and of what it seals with a key of its own; but for
    one test, which wants that to be a process's own.
    """
    directory = unpacked("mcp", tmp_path)
    # Theirs needs more than we have installed.
    shutil.copy(_HERE / "mcp_conftest.py", directory / "tests/conftest.py")
    (directory / "tests/server/conftest.py").unlink()
    files = [
        "tests/server/test_subscriptions.py",
        "tests/client/test_subscriptions.py",
        "tests/interaction/lowlevel/test_subscriptions.py",
        "tests/server/test_request_state_boundary.py",
    ]
    assert pytest_in(directory, "-p", "anyio", "-k", "not per_instance", *files) >= 90
