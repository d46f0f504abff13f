"""
Imports run one way: the rules of ``docs/design.md``, held over every module there is.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tuple(
    f"settings.{name}"
    for name in (
        "table",
        "values",
        "consistency",
        "reading",
        "reload",
        "hints",
        "toml",
        "session_url",
        "bus_url",
        "admin_place",
        "access_format",
    )
)
PURE = (
    *SETTINGS,
    "settings",
    "affinity",
    "placement",
    "handoff.frame",
    "messaging.frame",
    "redis.url",
    "fleet.slot",
    "fleet.backoff",
    "figures",
    "sessions.interfaces",
    "sessions.record",
)
FOUNDATION = (*PURE, "interfaces", "fleet.interfaces", "errors", "confirmation", "settings.options")
CHANNELS = ("handoff", "control", "messaging")
PRIMARY = ("listen", "fleet", "system", "upgrade")
WORKER = ("worker", "serve", "sessions")
DESKS = ("claim_desk", "release_desk")

#: Who may know whom.  A module's own entry is the first one that it is in.
LAYERS = (
    (("control.signals", "control.systemd"), (*FOUNDATION, *CHANNELS, "net", "service")),
    (("plugin",), (*FOUNDATION, *PRIMARY, *CHANNELS, "operate", "service", "log", "admin")),
    (("admin",), (*FOUNDATION, *PRIMARY, "net", "messaging", "explain", "log", "admin")),
    (("settings.options", "explain", "selftest"), FOUNDATION),
    (("operate",), (*FOUNDATION, *CHANNELS, "net", "fleet", "system", "log", "explain", "operate")),
    (("ctl",), (*FOUNDATION, "net.peer_process", "operate", "explain", "ctl")),
    (("fleet.fleet_view",), (*FOUNDATION, *PRIMARY, "explain")),
    (("__main__",), (*FOUNDATION, *PRIMARY, "operate", "ctl", "explain", "selftest")),
    (("service",), (*FOUNDATION, *CHANNELS, "net", "log", *PRIMARY, "explain", "leadership")),
    (FOUNDATION, FOUNDATION),
    (("log",), (*FOUNDATION, "log")),
    (("net",), (*FOUNDATION, "handoff", "net")),
    (("redis",), (*FOUNDATION, "redis")),
    (("messaging",), (*FOUNDATION, "messaging", "net", "redis")),
    (CHANNELS, (*FOUNDATION, *CHANNELS, "net")),
    (("upgrade",), (*FOUNDATION, *CHANNELS, "net", *PRIMARY)),
    (("listen",), (*FOUNDATION, *CHANNELS, "net", "listen", "fleet")),
    (("fleet", "system"), (*FOUNDATION, *CHANNELS, "net", "log", "fleet", "system")),
    (
        WORKER,
        (*FOUNDATION, *CHANNELS, "net", "log", "redis", *WORKER, *DESKS, "identity", "leadership"),
    ),
    (DESKS, FOUNDATION),
    (("identity",), (*FOUNDATION, "identity")),
    (("leadership",), (*FOUNDATION, "leadership", "redis")),
    (("leader",), ("leadership",)),
    # What applications import: doors to what is inside.
    (("bus",), (*FOUNDATION, "messaging")),
    (("asgi", "wsgi", "flask", "django"), (*FOUNDATION, "sessions")),
    (("socketio", "channels", "mcp"), ("adapters",)),
    (("adapters",), (*FOUNDATION, "net", "adapters", "bus", "claim_desk")),
    (
        ("testing", "testing_worker"),
        ("testing_worker", *FOUNDATION, *CHANNELS, "net", *PRIMARY, *WORKER),
    ),
)

#: The three that build: no one else may touch the global reactor, nor import them.
ROOTS = ("service", "worker.__main__", "plugin")

#: A longer module is cut by collaborators.
MOST_LINES = 600

#: What a constructor takes more of belongs together in some way, and comes so.
MOST_PARAMETERS = 8

#: Folders of tests that are about no package of stickyd alone.
WITHOUT_A_PACKAGE = {"system", "fuzzing", "system_calls", "twisted_suites", "foreign_suites"}

UNCLEAN = ("twisted.internet", "socket", "os")

#: Where nobody sets an attribute of what it or somebody else has: that is told by a call.
#: Not in ``serve``, where Twisted's and uvicorn's connections are set up by their attributes.
CALLED = (
    *FOUNDATION,
    *CHANNELS,
    *PRIMARY,
    "net",
    "worker",
    *DESKS,
    "identity",
    "leadership",
    "explain",
    "plugin",
)


@dataclass
class Module:
    """
    A module and what it imports.

    :ivar name: its dotted name.
    :ivar lines: how long it is.
    :ivar known: all that it names, for the type checker alone too, by dotted name.
    :ivar imports: what of that it imports when it runs, in functions too.
    :ivar at_import: those of them that are imported as soon as the module is.
    :ivar most_parameters: how many the greediest of its constructors takes.
    :ivar stubs: whether it raises NotImplementedError.
    :ivar set_through: the attributes of its attributes that it sets.
    """

    name: str
    lines: int = 0
    known: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    at_import: set[str] = field(default_factory=set)
    most_parameters: int = 0
    stubs: bool = False
    set_through: list[str] = field(default_factory=list)


def read(name: str, source: str, package: str = "") -> Module:
    """
    Find the imports of a module, those below ``if TYPE_CHECKING`` included: who names the
    type of another knows it.

    :param package: what relative imports start from: the one that the module is in,
        unless it says otherwise.
    """
    module = Module(name, source.count("\n"))
    package = package or name.rpartition(".")[0]

    def visit(node: ast.AST, into: tuple[set[str], ...]) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                visit(statement, (module.known,))
            for statement in node.orelse:
                visit(statement, into)
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found = set(imported(node, package))
            for names in into:
                names |= found
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            into = tuple(names for names in into if names is not module.at_import)
        for child in ast.iter_child_nodes(node):
            visit(child, into)

    tree = ast.parse(source)
    visit(tree, (module.known, module.imports, module.at_import))
    for node in ast.walk(tree):
        look_at_construction(node, module)
    return module


def look_at_construction(node: ast.AST, module: Module) -> None:
    """
    Take note of how objects are made, and who changes them afterwards.
    """
    if isinstance(node, ast.FunctionDef) and node.name == "__init__":
        taken = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        module.most_parameters = max(module.most_parameters, len(taken) - 1)
    elif isinstance(node, ast.Raise) and node.exc is not None:
        module.stubs = module.stubs or "NotImplementedError" in ast.unparse(node.exc)
    elif (
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Attribute)
        and node.attr != "clock"  # of a LoopingCall, which can be given it in no other way
    ):
        module.set_through.append(ast.unparse(node))


def imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """
    The names that a statement may import as modules: of ``from a import b`` both ``a``
    and ``a.b``, since only the file system knows which of them is one.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    origin = node.module or ""
    if node.level:
        parents = package.split(".")
        above = ".".join(parents[: len(parents) - node.level + 1])
        origin = f"{above}.{origin}".rstrip(".")
    yield origin
    yield from (f"{origin}.{alias.name}" for alias in node.names)


def below(name: str, places: Iterable[str]) -> bool:
    """
    Whether a name is one of some modules or packages, or inside of one.
    """
    return any(name == place or name.startswith(f"{place}.") for place in places)


def ours(names: Iterable[str]) -> tuple[str, ...]:
    """
    The same names, below ``stickyd``.
    """
    return tuple(f"stickyd.{name}" for name in names)


def within(module: Module, modules: Mapping[str, Module]) -> set[str]:
    """
    The modules of stickyd that a module knows.
    """
    return {name for name in module.known if name in modules and name != module.name}


def broken_rules(modules: Mapping[str, Module]) -> list[str]:
    """
    Everything that is not as it should be, one line each.
    """
    found = []
    for module in modules.values():
        for name in sorted(module.imports):
            if below(module.name, ours(PURE)) and below(name, UNCLEAN):
                found.append(f"{module.name} is pure and imports {name}")
            if name == "twisted.internet.reactor":
                if not below(module.name, ours(ROOTS)):
                    found.append(f"{module.name} imports the global reactor")
                elif name in module.at_import:
                    found.append(f"{module.name} imports the global reactor at module level")
        found += [
            f"{module.name} must not know {name}"
            for name in sorted(within(module, modules))
            if not may_know(module.name, name)
        ]
    found += broken_constructions(modules)
    found += [
        f"{module.name} has {module.lines} lines, more than {MOST_LINES}"
        for module in modules.values()
        if module.lines > MOST_LINES
    ]
    return found + [f"import cycle: {' -> '.join(cycle)}" for cycle in cycles(modules)]


def broken_constructions(modules: Mapping[str, Module]) -> Iterator[str]:
    """
    Objects that are not whole when they are made, or that somebody else has to change.
    """
    for name, module in modules.items():
        if module.most_parameters > MOST_PARAMETERS:
            yield f"{name} has a constructor of {module.most_parameters} parameters"
        if module.stubs:
            yield f"{name} raises NotImplementedError"
        if below(name, ours(CALLED)):
            yield from (f"{name} sets {each}, another's" for each in module.set_through)


def may_know(who: str, whom: str) -> bool:
    """
    Whether one module of stickyd may import another.
    """
    if whom == "stickyd":  # __version__, which imports nothing
        return True
    if who == "stickyd":  # claim() and its like, which import when they are called
        return whom in ours((*DESKS, "confirmation", "identity.desk", "worker", "leader"))
    allowed = next((known for layer, known in LAYERS if below(who, ours(layer))), ())
    if whom in ours(ROOTS):
        return whom in ours(allowed)
    return below(whom, ours(allowed))


def cycles(modules: Mapping[str, Module]) -> Iterator[list[str]]:
    """
    Rings of modules that import one another, imports inside of functions included.
    """
    finished: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[list[str]]:
        if name in path:
            yield [*path[path.index(name) :], name]
            return
        if name in finished:
            return
        for other in sorted(within(modules[name], modules)):
            yield from walk(other, [*path, name])
        finished.add(name)

    for name in sorted(modules):
        yield from walk(name, [])


def whole_package() -> dict[str, Module]:
    """
    Every module of stickyd, by name.
    """
    modules = {}
    for path in sorted((ROOT / "stickyd").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = ".".join(parts[:-1])
        name = package if parts[-1] == "__init__" else ".".join(parts)
        modules[name] = read(name, path.read_text(), package)
    return modules


def is_package(name: str) -> bool:
    """
    Whether a module of stickyd is a package.
    """
    return ROOT.joinpath(*name.split(".")).is_dir()


def test_imports_run_one_way() -> None:
    """
    No module of stickyd imports what its layer must not know.
    """
    assert broken_rules(whole_package()) == []


def crowded(source: str) -> list[str]:
    """
    The classes of a module whose constructors take too many parameters.
    """
    found = []
    for each in ast.walk(ast.parse(source)):
        methods = each.body if isinstance(each, ast.ClassDef) else []
        for method in methods:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                takes = method.args
                parameters = [*takes.posonlyargs, *takes.args, *takes.kwonlyargs]
                if len(parameters) > MOST_PARAMETERS + 1:  # self
                    found.append(each.name)  # type: ignore[attr-defined]  # it is a class
    return found


def test_constructors_take_few_parameters() -> None:
    """
    Nobody has to remember the order of nine things.
    """
    nine = ", ".join("abcdefghi")
    assert crowded(f"class A:\n    def __init__(self, {nine}):\n        pass") == ["A"]
    assert crowded(f"class A:\n    def __init__(self, {nine[3:]}):\n        pass") == []
    found = {path: crowded(path.read_text()) for path in (ROOT / "stickyd").rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def test_every_module_has_a_layer() -> None:
    """
    A module in a place that the rules do not know cannot slip past them.
    """
    known = ours(place for layer, _ in LAYERS for place in layer)
    assert {name for name in whole_package() if not below(name, known)} == {"stickyd"}


def test_layers_are_there() -> None:
    """
    No rule holds for want of anyone to break it: what the rules name exists.
    """
    named = ours((*FOUNDATION, *CHANNELS, *PRIMARY, *WORKER, *ROOTS))
    assert set(named) <= set(whole_package())


def test_test_files_are_short_enough() -> None:
    """
    A test file above the ceiling is cut too, by what its tests are about.
    """
    lengths = {path: path.read_text().count("\n") for path in (ROOT / "tests").rglob("*.py")}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_tests_stand_where_the_package_does() -> None:
    """
    Who has found the module knows where its tests are, but for those of whole systems.
    """
    folders = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/**/test_*.py")}
    apart = {folder for folder in folders if not (ROOT / "stickyd" / folder).is_dir()}
    assert {folder.parts[0] for folder in apart} <= WITHOUT_A_PACKAGE


def test_packages_of_pure_modules_import_nothing() -> None:
    """
    Importing a pure module brings nothing along by way of the packages that it is in.
    """
    modules = whole_package()
    places = {*ours(PURE), *(name.rpartition(".")[0] for name in ours(PURE))}
    beyond = {
        name: modules[name].at_import - {"__future__", "__future__.annotations"}
        for name in places
        if is_package(name) and name != "stickyd.settings"  # a door to pure modules alone
    }
    assert not any(beyond.values()), beyond
    assert {"stickyd", "stickyd.affinity", "stickyd.fleet"} <= set(beyond)


def test_worker_root_leaves_the_reactor_to_choose() -> None:
    """
    Importing the worker's root, and all that it imports, installs no reactor: it could
    not install uvloop's any more.
    """
    program = (
        "import sys, stickyd.worker.__main__; print('twisted.internet.reactor' in sys.modules)"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "False\n"


#: A small stickyd in which everything is as it should be.
SOUND = {
    "stickyd.errors": "",
    "stickyd.interfaces": "from zope.interface import Interface",
    "stickyd.placement.rendezvous": "from stickyd.interfaces import IPlacement",
    "stickyd.handoff.channel": "import os, socket\nfrom stickyd.errors import FrameError",
    "stickyd.listen.port": "from stickyd.handoff.channel import HandoffChannel",
    "stickyd.fleet.process.spawner": "from stickyd.handoff import channel",
    "stickyd.serve.resource": "from twisted.web.resource import Resource",
    "stickyd.worker.handoffs": "from stickyd.serve.resource import ResourceHost",
    "stickyd.worker.__main__": "from stickyd.worker.handoffs import Adoption",
    "stickyd.service": (
        "from stickyd.listen import port\n"
        "from stickyd.fleet.process import spawner\n"
        "def go():\n    from twisted.internet import reactor\n"
    ),
    "stickyd.plugin": "from stickyd.service import StickyService",
}


def problems_with(name: str, source: str) -> list[str]:
    """
    What is wrong once a module of the sound package has another source.
    """
    sources = {**SOUND, name: f"{SOUND.get(name, '')}\n{source}"}
    return broken_rules({name: read(name, source) for name, source in sources.items()})


def test_sound_package_passes() -> None:
    """
    The checker finds nothing where there is nothing.
    """
    assert problems_with("stickyd.errors", "") == []


def test_imports_for_types_count() -> None:
    """
    Who names the type of another knows it; but to name a type makes no pure module unclean.
    """
    ours = "if TYPE_CHECKING:\n    from stickyd.worker.handoffs import Adoption\n"
    complaint = "stickyd.fleet.process.spawner must not know stickyd.worker.handoffs"
    assert problems_with("stickyd.fleet.process.spawner", ours) == [complaint]
    theirs = "if TYPE_CHECKING:\n    from twisted.internet.defer import Deferred\n"
    assert problems_with("stickyd.fleet.slot", theirs) == []
    assert problems_with("stickyd.fleet.slot", f"{theirs}else:\n    import socket") != []


def test_circle_of_types_is_caught() -> None:
    """
    Two modules that only name each other's types are a circle all the same.
    """
    back = "if TYPE_CHECKING:\n    from stickyd.worker.__main__ import Worker\n"
    circle = "import cycle: stickyd.worker.__main__ -> stickyd.worker.handoffs"
    found = problems_with("stickyd.worker.handoffs", back)
    assert any(problem.startswith(circle) for problem in found), found


def test_construction_is_held() -> None:
    """
    A constructor that takes too much, a stub, and an attribute that is set through another one
    are one complaint each.
    """
    few = ", ".join(f"p{number}" for number in range(MOST_PARAMETERS))
    whole = f"class Part:\n    def __init__(self, {few}): self.part = p1\n"
    assert problems_with("stickyd.fleet.process.spawner", whole) == []
    (complaint,) = problems_with("stickyd.fleet.fleet", whole.replace("7)", "7, *, more)"))
    assert "constructor of 9" in complaint
    (complaint,) = problems_with("stickyd.serve.resource", "raise NotImplementedError('later')")
    assert "NotImplementedError" in complaint
    late = "class Late:\n    def go(self): self.fleet.resolver, self.x = 1, 2"
    (complaint,) = problems_with("stickyd.listen.port", late)
    assert complaint == "stickyd.listen.port sets self.fleet.resolver, another's"
    assert problems_with("stickyd.serve.resource", late) == []


def test_long_module_is_caught() -> None:
    """
    A module above the ceiling is one complaint.
    """
    (complaint,) = problems_with("stickyd.handoff.channel", "\n" * MOST_LINES)
    assert "more than 600" in complaint


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("stickyd.placement.rendezvous", "import os.path", "is pure and imports os.path"),
        ("stickyd.settings.table", "def f():\n    import socket", "is pure and imports socket"),
        (
            "stickyd.affinity.address",
            "from twisted import internet",
            "is pure and imports twisted.internet",
        ),
        (
            "stickyd.fleet.slot",
            "from twisted.internet.defer import Deferred",
            "is pure and imports twisted.internet.defer",
        ),
        (
            "stickyd.handoff.frame",
            "from stickyd.handoff.channel import HandoffChannel",
            "stickyd.handoff.frame must not know stickyd.handoff.channel",
        ),
        (
            "stickyd.interfaces",
            "from .listen import port",
            "stickyd.interfaces must not know stickyd.listen.port",
        ),
        (
            "stickyd.listen.port",
            "from stickyd.worker import handoffs",
            "stickyd.listen.port must not know stickyd.worker.handoffs",
        ),
        (
            "stickyd.fleet.process.spawner",
            "from stickyd.listen import port",
            "stickyd.fleet.process.spawner must not know stickyd.listen.port",
        ),
        (
            "stickyd.serve.resource",
            "def f():\n    import stickyd.fleet.process.spawner",
            "stickyd.serve.resource must not know stickyd.fleet.process.spawner",
        ),
        (
            "stickyd.handoff.channel",
            "from ..fleet.process.spawner import Spawner",
            "stickyd.handoff.channel must not know stickyd.fleet.process.spawner",
        ),
        (
            "stickyd.fleet.process.spawner",
            "from stickyd.service import StickyService",
            "stickyd.fleet.process.spawner must not know stickyd.service",
        ),
        (
            "stickyd.worker.handoffs",
            "from stickyd.worker.__main__ import Worker",
            "stickyd.worker.handoffs must not know stickyd.worker.__main__",
        ),
        (
            "stickyd.service",
            "from stickyd.serve.resource import ResourceHost",
            "stickyd.service must not know stickyd.serve.resource",
        ),
        (
            "stickyd.elsewhere",
            "from stickyd.errors import FrameError",
            "stickyd.elsewhere must not know stickyd.errors",
        ),
        (
            "stickyd.service",
            "from twisted.internet import reactor",
            "imports the global reactor at module level",
        ),
        (
            "stickyd.fleet.process.spawner",
            "def f():\n    from twisted.internet import reactor",
            "stickyd.fleet.process.spawner imports the global reactor",
        ),
        (
            "stickyd.serve.resource",
            "def f():\n    from stickyd.worker.handoffs import Adoption",
            "cycle: stickyd.serve.resource -> stickyd.worker.handoffs -> stickyd.serve.resource",
        ),
    ],
)
def test_violation_is_caught(name: str, source: str, complaint: str) -> None:
    """
    Each rule has a module that breaks it, and the checker says so.
    """
    assert any(complaint in problem for problem in problems_with(name, source))
