"""
Starlette's, Flask's and Django's own tests of sessions, on ours.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.foreign_suites.running import passed_in, run
from tests.foreign_suites.sdists import unpacked

_HERE = Path(__file__).parent

#: What differs on purpose, as ``docs/sessions.md`` says: why, and the tests that see it.
STARLETTE = {
    "a max_age that is not positive is refused": ["test_session_expires", "zero_max_age"],
    "a key that was not there is read all the same": ["test_session_tracks_modification"],
    "there is no partitioned cookie": ["test_partitioned_session"],
}
FLASK = {
    "it needs no secret key": [
        *("test_missing_session", "secret_key_fallbacks", "no_null_sessions"),
    ],
    "it is plain data": ["test_session_special_types", "test_extended_flashing"],
    "a request that does not use it costs nothing": ["test_session_refresh_vary"],
    # These ask for a fixture's context in the test, where pytest 9.2 does not have it any more.
    "they fail on Flask's own sessions too": ["test_session_transactions_keep_context"],
}


@pytest.mark.parametrize(
    ("name", "files", "differences", "fewest"),
    [
        ("starlette", ["tests/middleware/test_session.py"], STARLETTE, 10),
        ("flask", ["tests/test_basic.py", "tests/test_testing.py"], FLASK, 12),
    ],
)
def test_suite(
    name: str, files: list[str], differences: dict[str, list[str]], fewest: int, tmp_path: Path
) -> None:
    """
    All pass but those that are listed.
    """
    directory = unpacked(name, tmp_path)
    shutil.copy(_HERE / f"{name}_conftest.py", directory / "conftest.py")
    without = " and ".join(f"not {test}" for tests in differences.values() for test in tests)
    told = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"session and {without}"),
        *files,
        directory=directory,
    )
    assert passed_in(told) >= fewest


def test_django(tmp_path: Path) -> None:
    """
    All of Django's tests of an engine pass, and those of its middleware on ours.
    """
    directory = unpacked("django", tmp_path)
    shutil.copy(_HERE / "django_program.py", directory / "tests")
    told = run("django_program.py", directory=directory / "tests")
    ran = re.search(r"^Ran (\d+) tests", told, re.MULTILINE)
    assert ran is not None, told
    assert int(ran[1]) >= 70
