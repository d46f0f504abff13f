"""
The virtual environment with the servers from PyPI, apart from the project's own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "peers.txt"


def default_directory() -> Path:
    """
    Where the environment is kept between runs (XDG Base Directory Specification).
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "stickyd-benchmarks" / "peers"


def prepare(directory: Path) -> Path:
    """
    Make the environment, unless it is there and holds the versions we want.

    :return: ``directory``.
    :raises subprocess.CalledProcessError: if the packages cannot be installed.
    :raises FileExistsError: if there is something in ``directory`` that we did not make.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = directory / "stickyd-benchmarks.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return directory
    if not stamp.exists() and directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not an environment that this benchmark made")
    directory.mkdir(parents=True, exist_ok=True)
    stamp.write_text("unfinished")  # so that a broken-off attempt is known as ours
    print(f"making {directory} with the servers to compare with", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
    install: list[str | Path] = [directory / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run(
        [*install, "--disable-pip-version-check", "-r", REQUIREMENTS],
        check=True,
        stdout=sys.stderr,
    )
    stamp.write_text(wanted)
    return directory
