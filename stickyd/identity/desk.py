"""
The worker that this process is.  Global, as the reactor is: an application that is imported by
name has nothing of ours to hold on to.
"""

from __future__ import annotations

from stickyd.identity.fleet_keys import FleetKeys
from stickyd.identity.mint import Mint
from stickyd.identity.worker_info import WorkerInfo

#: What this process is.
this_worker = WorkerInfo()

#: What it shares with the others.
fleet_keys = FleetKeys()

#: What makes ids that lead here.
own_mint = Mint(this_worker, fleet_keys)
