"""
What this worker is: ``stickyd.worker``, as an application sees it.
"""

from __future__ import annotations


class WorkerInfo:
    """
    What a process knows of itself as a worker.  To be read from any thread; each value is the
    one of the moment.

    Outside of a worker it says what such a process is: the only one, slot 0 of 1.

    :ivar slot: the slot that the worker occupies, from 0; -1 as long as it is a spare, or the
        application is only tried before a start or a reload.
    :ivar workers: how many slots there are.
    :ivar node: what ``--node`` calls this machine; empty if it has no name.
    :ivar managed: whether stickyd runs this process.
    :ivar relieved: whether a successor takes over, the slot goes, or the server stops: what
        this worker still has it may finish, and newcomers go elsewhere.
    :ivar generation: a number that grows with each reload: workers of one slot differ in it, but
        for one that took the place of one that had died.  0 for a spare.
    :ivar generation_name: what ``--generation-name`` calls it.
    :ivar run: names the run of the primary in ids that are minted here; empty where no worker
        keeps its clients, and ids name no generation.
    """

    def __init__(self) -> None:
        self.slot = 0
        self.workers = 1
        self.node = ""
        self.managed = False
        self.relieved = False
        self.generation = 0
        self.generation_name = ""
        self.run = ""

    def begin(
        self,
        slot: int,
        workers: int,
        node: str,
        generation: int = 0,
        generation_name: str = "",
        run: str = "",
    ) -> None:
        """
        Called in a process of stickyd's before it imports the application.

        :param workers: 0 if nobody knows yet.
        :param run: see :attr:`run`.
        """
        self.slot, self.workers, self.node = slot, workers or 1, node
        self.generation, self.generation_name = generation, generation_name
        self.run = run
        self.managed = True

    def occupy(self, slot: int, generation: int = 0) -> None:
        """
        Called when a spare gets its slot, and its generation there.
        """
        self.slot, self.generation = slot, generation

    def place(self, workers: int) -> None:
        """
        Called when the primary tells how many slots there are.
        """
        self.workers = workers

    def give_away(self, workers: int) -> None:
        """
        Called when the worker is to give away what belongs elsewhere, or to keep it while
        newcomers go elsewhere.

        :param workers: how many slots there are from now on; 0 if a successor takes over, and
            less than that if it goes on after all.
        """
        self.relieved = 0 <= workers <= self.slot
        if workers > 0:
            self.workers = workers

    def leave(self) -> None:
        """
        Called when the worker is to end.
        """
        self.relieved = True
