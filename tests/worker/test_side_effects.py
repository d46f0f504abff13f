"""
What an application's world is like after our imports: as if we were not there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stickyd

ROOT = str(Path(stickyd.__file__).parents[1])

#: As a worker begins, up to the import of the application.
BEGIN = """
import gc; gc.disable()
from stickyd.worker.__main__ import install_reactor, prepare
install_reactor({reactor!r})
import stickyd.worker.server, stickyd.serve.asgi.host, stickyd.serve.wsgi.host
import stickyd.serve.protocol, stickyd.serve.tls.server, stickyd.serve.http2.connection
prepare()
"""


def run(program: str, reactor: str = "asyncio") -> str:
    """
    Run a program where an application would be imported.

    :return: what it printed.
    """
    ran = subprocess.run(
        [sys.executable, "-c", BEGIN.format(reactor=reactor) + program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


WALK = """
import abc, asyncio, collections.abc, enum, logging, socketserver, threading, typing
import unittest
from collections.abc import Container, Iterable, Mapping, MutableMapping, Sized
T = typing.TypeVar("T")
bases = [abc.ABC, asyncio.Protocol, asyncio.BaseProtocol, Container, Iterable, Mapping,
         MutableMapping, Sized, typing.Generic[T], typing.Protocol, Exception, dict,
         threading.Thread, logging.Handler, unittest.TestCase]
for base in bases:
    class Sub(base): pass
    class Below(Sub): pass
    for each in (Sub, Below, base):
        for name in dir(each):
            if name != "__abstractmethods__":
                getattr(each, name)
class Meta(abc.ABCMeta): pass
class Component(metaclass=Meta): pass
for each in (Meta, Component):
    for name in dir(each):
        if name != "__abstractmethods__":
            getattr(each, name)
"""


@pytest.mark.parametrize("reactor", ["uvloop", "asyncio", "epoll"])
def test_fault_30_attributes_of_a_class_can_be_walked(reactor: str) -> None:
    """
    Fault 30: what ``dir()`` lists of a class can be had, whatever its bases are, as Gradio
    does with its components, which are ``abc.ABC``.
    """
    run(WALK, reactor)


def test_fault_30_zope_still_knows_what_is_declared() -> None:
    """
    Fault 30: what classes and objects implement is as before, of those too whose bases were
    put right.
    """
    run(
        "import abc, asyncio\n"
        "from zope.interface import Interface, directlyProvides, implementedBy, implementer\n"
        "from zope.interface import provider\n"
        "from twisted.internet.interfaces import IProtocol, IReactorTime, IReactorProcess\n"
        "from twisted.internet.protocol import Protocol\n"
        "from twisted.internet import reactor\n"
        "class IOne(Interface): pass\n"
        "class ITwo(Interface): pass\n"
        "class Plain(abc.ABC): pass\n"
        "@implementer(IOne)\n"
        "class Able(abc.ABC): pass\n"
        "@provider(ITwo)\n"
        "class Itself(Able): pass\n"
        "assert not IOne.providedBy(Plain()) and not IOne.providedBy(Plain)\n"
        "assert IOne.providedBy(Able()) and IOne.implementedBy(Able)\n"
        "assert not IOne.providedBy(Able) and not ITwo.providedBy(Able)\n"
        "assert ITwo.providedBy(Itself) and IOne.providedBy(Itself())\n"
        "plain = Plain()\n"
        "directlyProvides(plain, ITwo)\n"
        "assert ITwo.providedBy(plain) and not ITwo.providedBy(Plain())\n"
        "class Both(Protocol, abc.ABC): pass\n"
        "assert IProtocol.providedBy(Both()) and IProtocol.providedBy(Protocol())\n"
        "assert IReactorTime.providedBy(reactor)\n"
        "assert not list(implementedBy(abc.ABC))\n" + WALK
    )


def test_fault_30_forked_processes_can_be_terminated() -> None:
    """
    Fault 30: a process that an application forks does not inherit what our signal handlers
    mean: SIGTERM ends it, and so a pool of multiprocessing.
    """
    out = run(
        "import multiprocessing, os, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "context = multiprocessing.get_context('fork')\n"
        "with context.Pool(1) as pool:\n"
        "    print(pool.apply(os.getpid) != os.getpid())\n"
        "    print(pool.apply(signal.getsignal, (signal.SIGTERM,)) == signal.SIG_DFL)\n"
        "pool.join()\n"
        "print('joined')\n"
    )
    assert out == "True\nTrue\njoined\n"


def test_fault_30_what_python_sets_stays() -> None:
    """
    Fault 30: warnings, locale, umask, the loop policy, the start method and the excepthook are
    those of a plain interpreter.
    """
    program = (
        "import asyncio, locale, multiprocessing, os, sys, warnings\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore')\n"
        "    policy = type(asyncio.get_event_loop_policy()).__name__\n"
        "umask = os.umask(0o22)\n"
        "print([f[:1] + f[2:3] for f in warnings.filters], locale.setlocale(locale.LC_ALL),\n"
        "      umask, policy, multiprocessing.get_start_method(allow_none=True),\n"
        "      sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__,\n"
        "      sys.getrecursionlimit(), sys.getswitchinterval())\n"
    )
    plain = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run(program) == plain.stdout


@pytest.mark.parametrize("reactor", ["uvloop", "asyncio", "epoll"])
def test_garbage_is_collected(reactor: str) -> None:
    """
    An application's garbage is collected, of which our own modules are no part.
    """
    said = run("print(gc.isenabled(), gc.get_freeze_count() > 10_000)", reactor)
    assert said == "True True\n"
