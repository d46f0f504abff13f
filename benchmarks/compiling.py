"""
Compiles the C programs of the benchmark with the machine's own compiler.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra")


def compile_c(
    sources: list[Path], program: Path, compiler: str = "cc", flags: Sequence[str] = ()
) -> Path:
    """
    Compile and link some C files.

    :param program: where the executable goes.
    :param flags: more of them for the compiler.
    :return: ``program``.
    :raises subprocess.CalledProcessError: if the compiler refuses; it has then written its
        reasons to our standard error.
    """
    subprocess.run([compiler, *FLAGS, *flags, "-o", program, *sources], check=True)
    return program


@dataclass(frozen=True)
class Programs:
    """
    The executables, in a directory that the caller made and removes.
    """

    load: Path
    floor: Path


def compile_load(directory: Path) -> Path:
    """
    Compile the load generator into ``directory``.
    """
    return compile_c(sorted((HERE / "load").glob("*.c")), directory / "load")


def compile_programs(directory: Path) -> Programs:
    """
    Compile all of them into ``directory``.
    """
    floor = compile_c([HERE / "systems" / "floor.c"], directory / "floor")
    return Programs(load=compile_load(directory), floor=floor)
