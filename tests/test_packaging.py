"""
What people install: the wheel, and the checkout in editable form.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from stickyd.settings.options import Options

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """
    Run a command that must succeed, and that finds no module by our environment.

    :return: its standard output.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    outcome = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def new_environment(directory: Path, *packages: str | Path) -> Path:
    """
    Make a virtual environment that holds some packages and what they depend on.

    :return: its ``bin``.
    """
    run(sys.executable, "-m", "venv", directory, cwd=directory.parent)
    python = directory / "bin" / "python"
    options = ("--quiet", "--disable-pip-version-check", "--no-input")
    run(python, "-m", "pip", "install", *options, *packages, cwd=directory.parent)
    return directory / "bin"


def twistd_commands(bin_directory: Path) -> list[str]:
    """
    The commands that ``twistd --help`` lists, asked from a directory that is not the checkout.
    """
    text = run(bin_directory / "twistd", "--help", cwd=bin_directory)
    _, found, listed = text.partition("\nCommands:\n")
    assert found, text
    return re.findall(r"^    (\S+)", listed, re.MULTILINE)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A copy of what is built from, so that building leaves nothing in the checkout.
    """
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("stickyd", "twisted"):
        ignore = shutil.ignore_patterns("__pycache__", "dropin.cache")
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The wheel, built from the sdist as for a release: what the sdist lacks, it lacks too.
    """
    output = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", output, sources, cwd=output)
    (built,) = output.glob("*.whl")
    return built


def test_wheel_holds_the_package_and_the_plugin(wheel: Path) -> None:
    """
    The wheel has every file of stickyd, the plugin's, and nothing else; above all no
    ``__init__.py`` that would shadow Twisted's own packages.
    """
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "stickyd").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert packed == {*files, "twisted/plugins/stickyd_plugin.py"}


def test_installed_wheel_is_a_twistd_command(wheel: Path, tmp_path: Path) -> None:
    """
    In an environment that has nothing but the wheel and its dependencies, away from the
    checkout, ``twistd`` knows the command, and the command knows its options.
    """
    bin_directory = new_environment(tmp_path / "environment", wheel)
    assert "stickyd" in twistd_commands(bin_directory)
    checked = run(bin_directory / "twistd", "stickyd", "--check", cwd=tmp_path)
    assert checked.startswith("stickyd: the settings are sound")
    located = run(bin_directory / "python", "-c", "import stickyd; print(stickyd.__file__)",
                  cwd=tmp_path)  # fmt: skip
    assert Path(located).is_relative_to(tmp_path)


def test_editable_install_is_a_twistd_command(sources: Path, tmp_path: Path) -> None:
    """
    After ``pip install -e .`` twistd knows the command wherever it is started: Twisted
    looks for plugins along ``sys.path`` and would not see them through an import hook.
    """
    bin_directory = new_environment(tmp_path / "environment", "--editable", sources)
    assert "stickyd" in twistd_commands(bin_directory)


def test_readme_names_options_that_exist() -> None:
    """
    Every option that the README's table describes is one of the command line.
    """
    described = re.findall(r"^\| `--([a-z-]+)`", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert described
    known: list[str] = Options().longOpt  # getopt's: with "=" if a value follows
    assert set(described) <= {name.rstrip("=") for name in known}
