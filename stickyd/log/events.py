"""
The name of every event in the log, and what it means.

A name is stable: an event may be said better some day, and keeps it.  Where an event is logged,
its name stands beside its text (``event="worker.online"``); ``docs/events.md`` is made from both,
and ``tests/log/test_events.py`` finds a name that is not here.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The longest name.
LONGEST_NAME = 40

#: What each means to an operator, by name.
EVENTS: Mapping[str, str] = MappingProxyType(
    {
        # the primary
        "primary.running": "The primary has started, or goes on after an upgrade.",
        "primary.banner": "What is served, where, by how many workers and why, and where to look.",
        "primary.broken-protocol": "A worker ends, as what came from the primary is no message"
        " of ours; a program of the application writes to descriptors that are not its own.",
        "settings.warning": "The settings work, and probably do not do what was meant.",
        "settings.notice": "What follows from the settings.",
        "signal.received": "Somebody has sent the primary a signal.",
        "signal.meaningless": "Somebody has sent the primary a signal that it does not know.",
        "log.reopened": "SIGUSR1 has come: the log's file was opened again.",
        "log.not-reopened": "The log, or the access log, could not be opened again, and goes on in"
        " the former file.",
        "start.waits": "Not all workers have imported the application yet.",
        "stop.waits": "How much a stop waits for, and how long at most.",
        "stop.shuts-down": "Requests are over; the application's own shutdown is waited for.",
        "stop.cut-off": "Requests were not answered, or streams not ended, within --stop-timeout,"
        " or within --drain-timeout at a reload.",
        "stop.hint": "What a second and a third SIGINT do.",
        "stop.at-once": "A second SIGINT has come: requests under way are cut off.",
        "stop.kills": "A third SIGINT has come: the workers are killed.",
        "stop.lame-duck": "The primary is not ready any more, and goes on for as long as"
        " --lame-duck says.",
        "stop.begun": "The primary accepts no more; requests under way finish.",
        "systemd.away": "The service manager cannot be told how the server is.",
        "secret.readable": "Whoever can read the file can do what the line says.",
        "secret.stays": "The file of secrets cannot be used; the former ones stay in use.",
        "admin.open": "Metrics, health and the dashboard are to be had at this address.",
        "admin.agent-open": "HAProxy's agent-check is answered at this address.",
        "admin.token": "What the dashboard asks for, or the file that has it.",
        "admin.no-metrics": "A package is missing without which there are no metrics.",
        "admin.not-open": "After an upgrade the admin endpoint cannot be what it should be.",
        "metrics.failed": "A collector of the application's registry of metrics has raised.",
        "metrics.too-many": "The application has more metrics than are shown.",
        "admin.failed": "The admin endpoint has an error of its own; the server goes on.",
        # listening, accepting
        "listen.open": "Connections are accepted at this endpoint.",
        "listen.not-open": "After an upgrade an endpoint cannot be listened on; the others work.",
        "listen.not-steered": "An endpoint cannot be listened on any more.",
        "accept.paused": "The primary has no descriptor or memory left for one more connection;"
        " they wait in the kernel's queue.",
        "connection.not-placed": "A connection was closed before any worker had it.",
        "connection.refused": "A connection got the overflow answer: the queue of its slot is full,"
        " it waited too long, or the server stops.",
        "connection.too-much-unread": "A connection that should change its worker had more bytes"
        " unread than can go along.",
        "steering.handoff": "The kernel does not choose the worker; the primary hands over.",
        "steering.lost": "The kernel's table cannot be changed: clients may reach a wrong worker"
        " until a restart.",
        "clients.not-remembered": "More clients stay with relieved workers than the primary"
        " remembers; those longest silent are newcomers.",
        "proxy.not-trusted": "Requests say for whom they were forwarded, and --trust names nobody"
        " who may: a proxy's clients are taken for one. Any client may write such a field.",
        "clients.skewed": "One client, or a proxy that is not trusted, has most of the"
        " connections, or of the requests, so that one worker serves most.",
        # where workers come from
        "forks.ready": "Workers are forked from this process from now on.",
        "forks.refused": "Workers are started anew, one by one; the line says why they cannot"
        " be forked.",
        "forks.lost": "The process that workers are forked from has ended by itself; the next"
        " worker that is wanted has another one made.",
        "forks.given-up": "The process that workers are forked from does not do as it should;"
        " the line says what.",
        # workers, as the primary sees them
        "worker.started": "A worker's process exists, and imports the application.",
        "worker.online": "A worker takes connections.",
        "worker.spare-taken": "A worker that was kept ready takes the place of one that died.",
        "worker.spare-died": "A worker that was kept ready died; another one is started.",
        "worker.died": "A worker ended by itself; its clients wait for the next one. Why stands in"
        " the lines before.",
        "worker.left": "A worker has ended that was told to.",
        "worker.keeps-clients": "A worker is relieved, and goes on with the clients that it knows"
        " (`--reload-mode client`).",
        "worker.retired-early": "A relieved worker gives its clients away, as its slot has too many"
        " relieved workers; what it alone knows of them is lost.",
        "leader.begun": "A worker does what must be done once (stickyd.leader).",
        "leader.ended": "The leader has ended to do so, in good order.",
        "leader.failed": "What the application does when it begins or ends to lead has failed.",
        "leader.lease-away": "Redis cannot be asked who leads on all machines: a leader goes on"
        " until its lease has run out, and nobody begins.",
        "leader.lease-stays": "The leader of all machines has died and its machine has no other"
        " worker that could lead, but Redis cannot be told so: others begin when the lease has run"
        " out.",
        "leader.died": "The leader is dead; another one begins at once, if there is one.",
        "worker.told-to-end": "Somebody has sent a worker SIGTERM; a successor takes over.",
        "worker.ended-early": "A worker that was relieved is ended before it has finished, as its"
        " slot has too many of them.",
        "worker.killed": "A worker had not exited in time after it was told to.",
        "worker.hangs": "A worker does not come back to its event loop; the stacks that follow"
        " say where it is.",
        "worker.back": "A worker that hung has come back.",
        "worker.recycled": "A worker is replaced by --max-requests or --max-memory.",
        "worker.not-recycled": "A worker that should be replaced stays, as no fresh one starts.",
        "worker.broken-protocol": "A worker said what none may say, and was ended: its memory is"
        " damaged, or the application writes to descriptors that are not its own.",
        "worker.no-user": "The user of --uid is not there any more.",
        "worker.cannot-serve": "A worker ends, as it cannot have its store of sessions.",
        "worker.full": "A worker has as many connections as its descriptors allow.",
        "worker.output": "What the application has printed, or logged by itself.",
        "slot.failed": "Several workers of a slot have died before they were ready: its clients go"
        " to the others, and it is tried again, ever more slowly.",
        "fleet.no-slot": "No slot serves; each connection gets the overflow answer.",
        "fleet.never-ready": "No worker could start at all: the process ends with code 1.",
        # changes
        "reload.begun": "The application is tried, then each worker is replaced.",
        "reload.waits": "Another reload is under way; this one follows.",
        "reload.setting-stays": "A setting has changed that a reload does not change.",
        "reload.slot-keeps-worker": "The fresh worker of a slot did not start; the old one stays.",
        "reload.refused": "A reload was not done, or not everywhere; the line says why.",
        "reload.done": "Every slot has a fresh worker.",
        "trial.output": "What the application printed while it was tried.",
        "reload.old-finish": "What old workers do after a reload: they finish what cannot be handed"
        " over.",
        "reload.old-left": "Of all reloads no old worker is left.",
        "change.step": "How far a reload or a resize is.",
        "reload.generation": "What `--generation-name` calls the workers of this reload.",
        "reload.canary": "Some slots have fresh workers, for newcomers alone; an operator goes on"
        " or back.",
        "reload.back": "The workers that a canary had relieved have their slots again.",
        "reload.not-back": "A slot keeps the canary's worker; the line says why.",
        "upgrade.canary": "The primary has replaced its code while a canary is out: the workers"
        " stay until an operator goes on or back.",
        "upgrade.canary-over": "The canary could not be kept over an upgrade; every worker gets the"
        " new code.",
        "drain.all": "An operator has the load balancers send clients to other servers; whoever"
        " comes is served.",
        "undrain.all": "The load balancers may send clients again.",
        "drain.slot": "An operator keeps clients away from a slot.",
        "undrain.slot": "A drained slot gets clients again.",
        "kill.ordered": "An operator has a worker killed; its slot gets a successor.",
        "resize.done": "There are more slots, or fewer.",
        "change.refused": "A resize or a drain was not done; the line says why.",
        "upgrade.begun": "The new code is tried in a child.",
        "upgrade.tried": "The new code is sound.",
        "upgrade.execs": "The primary's process begins to run the new code.",
        "upgrade.busy": "An upgrade was asked for while one is under way.",
        "upgrade.refused": "The new code cannot go on; nothing has changed.",
        "upgrade.failed": "The upgrade met a fault of stickyd's; nothing has changed.",
        "upgrade.settings-stay": "After an upgrade the command line or the file cannot be used;"
        " the settings are those that were tried.",
        # the channels between them
        "handoff.no-descriptor": "The primary has no descriptor for a connection that a worker"
        " gives back.",
        "handoff.not-passed": "A connection was lost between primary and worker.",
        "handoff.not-taken": "A worker could not serve a connection that it was given.",
        "handoff.unreadable": "A channel between primary and worker has failed.",
        "control.open": "Operators may ask at this socket.",
        "control.not-open": "After an upgrade the socket for operators cannot be opened.",
        "control.nowhere": "There is no place for a socket for operators: stickyctl has nobody to"
        " ask.",
        "control.command-failed": "What stickyctl has asked for went wrong in a way that nobody has"
        " thought of.",
        "control.refused": "Somebody has asked who may not.",
        "control.broken-protocol": "Somebody speaks something else to the socket for operators.",
        # serving
        "application.not-imported": "The application raised while it was imported; the traceback"
        " begins with its own first line.",
        "application.failed": "The application raised while it served a request, which got 500"
        " or was cut off.",
        "application.producer-failed": "What the application registered as a producer raised.",
        "protocol.failed": "A protocol of the application's raised; its connection is closed.",
        "protocol.not-built": "The application's factory raised; the connection is closed.",
        "request.refused": "The application called for what a request may not do.",
        "request.body-not-kept": "The folder for temporary files is full or not writable; the"
        " request got 503 or 500.",
        "response.too-short": "The application sent less than it had announced.",
        "response.too-long": "The application sent more than it had announced.",
        "cookie.taken": "The application uses the cookie that should tell clients apart.",
        "http2.stays": "An HTTP/2 connection is served by the wrong worker.",
        "http2.flood": "A client asked without end, and read nothing.",
        "http2.mixed-clients": "A proxy mixes clients on one connection that cannot be split.",
        "http2.failed": "The library h2 failed; the connection is closed.",
        "http2.tunnel-broken": "What one worker decrypted for another was no HTTP/2.",
        "lifespan.none": "The ASGI application does not take part in start and stop.",
        "lifespan.startup-failed": "The ASGI application refused to start.",
        "lifespan.shutdown-failed": "The ASGI application failed as it was shut down.",
        "lifespan.ended": "The ASGI application's lifespan ended by itself.",
        "websocket.not-closed": "The end of a WebSocket met a fault.",
        "wsgi.errors": "What the application wrote to wsgi.errors.",
        "wsgi.queue-full": "All threads are busy and the queue is full; requests get 503.",
        "wsgi.websockets-full": "There are --wsgi-websockets; the next ones get 503.",
        "wsgi.threads-busy": "All threads have been busy for long; the line says with what.",
        "wsgi.threads-stuck": "More than half of the threads hang; the worker is replaced.",
        "wsgi.threads-left": "A worker ends though threads have not, whose clients have left.",
        "wsgi.slow-request": "A thread has not begun to answer for --request-timeout; the stack"
        " says where it is.",
        "wsgi.no-more-threads": "The system gives no more threads.",
        "claim.no-entry": "stickyd.claim() has no effect with this --affinity.",
        "claim.not-told": "An id that the application claimed is not known to the primary yet.",
        "internal.callback-failed": "A fault of stickyd's; one connection may be lost.",
        "internal.response-lost": "A fault of stickyd's; one response is lost.",
        # the bus
        "bus.lost": "A worker's loop is busy for too long: messages of the bus did not reach it,"
        " and reached all others.",
        "bus.ended": "What a worker has said on the bus is no message of ours; it is not on the bus"
        " any more, and serves on.",
        "bus.broken": "The worker is not on the bus any more, as what came from the primary is no"
        " message of ours.",
        "bus.redis-away": "The Redis of --bus does not answer: this machine's workers hear one"
        " another, and no other machine's.",
        "bus.redis-back": "The Redis of --bus answers again.",
        "bus.redis-lost": "What another machine's workers published did not come, as Redis was away"
        " or this worker too slow.",
        "bus.redis-garbage": "Another program uses our channel in Redis: give the applications a"
        " prefix= each.",
        "bus.listener-lost": "A loop over the messages of a channel is slower than they come.",
        "bus.subscriber-failed": "A function of the application's raised that the bus called.",
        # sessions
        "session.change-lost": "What a request changed in its session could not be kept.",
        "session.late-change-lost": "What a request changed after its response had begun could"
        " not be kept.",
        "session.last-changes-lost": "A session changed its worker without its last changes.",
        "session.not-saved-yet": "What a WebSocket changed is kept at its next change, or not.",
        "session.use-not-noted": "A session may expire too early.",
        "session.callback-failed": "A function of the application's raised that a session called.",
        "session.search-failed": "Sessions that are over are not removed for now.",
        "session.carried-lost": "Sessions were lost on their way to another worker.",
        "session.not-moved": "Sessions stay with a worker that should give them away.",
        "session.stays-here": "What is kept on a session object does not go along with it.",
        "session.in-this-process": "The application runs without a worker of stickyd's.",
        "sessions.giver-died": "A worker died while it gave its sessions away.",
        "store.away": "The store of sessions does not answer.",
        "store.back": "The store of sessions answers again.",
        "store.failed": "A fault met an operation of the store.",
        "store.damaged": "The file of sessions is damaged, or cannot be used; the line says more.",
        "store.unreadable": "One session in the store cannot be read, and is left as it is.",
        "store.kept-lost": "What was kept in memory while the store was away is lost.",
    }
)
