"""
Room for signals that come all at once: :mod:`stickyd.worker.signal_stack`.
"""

from __future__ import annotations

import subprocess
import sys

from tests.system.server import ROOT

BURST = """\
import faulthandler, os, signal
from stickyd.worker.signal_stack import enlarge_signal_stack
faulthandler.register(signal.SIGUSR2)
enlarge_signal_stack()
heard = set()
burst = [*range(signal.SIGRTMIN, signal.SIGRTMAX + 1), signal.SIGALRM, signal.SIGHUP]
for signum in burst:
    signal.signal(signum, lambda signum, frame: heard.add(signum))
signal.pthread_sigmask(signal.SIG_BLOCK, burst)
for signum in burst:
    os.kill(os.getpid(), signum)
signal.pthread_sigmask(signal.SIG_UNBLOCK, burst)
assert heard == set(burst)
"""


def test_burst_of_signals_is_survived() -> None:
    """
    Signals that come at once are all heard, though faulthandler has a handler of its own; without
    a larger stack that is a segmentation fault.
    """
    done = subprocess.run([sys.executable, "-c", BURST], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
