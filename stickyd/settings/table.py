"""
Every setting in one table: its kind, its default, its bounds, and what an operator reads of it.

The command line, the configuration file and an embedding application all arrive here;
what comes out is frozen and valid.  ``--help`` and ``docs/options.md`` are made from it, group
by group.  It is long because it is a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stickyd.affinity.address import parse_ip_key, parse_text_key
from stickyd.affinity.spec import parse_affinity, split_entries
from stickyd.affinity.trust import Networks
from stickyd.settings.values import choice, seconds, spelt, text, texts, whole

if TYPE_CHECKING:
    from stickyd.affinity.spec import Affinity

#: More slots than this do not fit into one classic BPF program (DESIGN: 4,096 instructions).
MOST_WORKERS = 256

#: The cookie of twisted.web's sessions.
TWISTED_SESSION = "TWISTED_SESSION"

# Groups of settings, in the order in which they are shown.
LISTENING = "Listening"
LOGGING = "The log"
APPLICATION = "Application"
CLIENTS = "Who a client is, and where it goes"
PROXIES = "Proxies in front"
ENCRYPTION = "TLS and HTTP/2"
REQUESTS = "Requests"
SESSIONS = "Sessions"
WAITING = "Waiting for a worker"
LIFETIME = "Life of a worker"
OPERATING = "Metrics, health and dashboard"

#: The settings that name an application.
KINDS = ("resource", "asgi", "asgi_factory", "wsgi", "wsgi_factory", "static", "protocol")


# What is generated for it would only be generated again for Settings: 4 ms of every start.
@dataclass(frozen=True, init=False, repr=False, eq=False)
class Table:
    """
    A value of each setting, and what follows from several.

    Times are in seconds.  Nothing is checked here: what is used is
    :class:`~stickyd.settings.settings.Settings`.
    """

    # fmt: off

    listen: tuple[str, ...] = texts(("tcp:3000",), "ENDPOINT", group=LISTENING, help=
        "Listen on this Twisted stream endpoint, e.g. tcp:80:interface=127.0.0.1,"
        " unix:/run/app.sock or systemd:domain=INET:index=0. Repeatable.")
    workers: int = whole(0, least=1, most=MOST_WORKERS, group=LISTENING, help=
        "How many workers, 1 to 256; 'auto' is one for each CPU that this process may use.")
    worker_reactor: str = choice("uvloop", "asyncio", "epoll", metavar="NAME",
        group=LISTENING, help=
        "The workers' event loop: uvloop, asyncio or epoll.")
    steering: str = choice("handoff", "kernel", "auto", group=LISTENING, help=
        "Who accepts: handoff (the primary, which hands each connection over), kernel (the"
        " workers, among which the kernel chooses by address; Linux, tcp: endpoints, affinity ip"
        " and placement rendezvous only), or auto (kernel where that is possible).")
    uid: str = text("", "USER", group=LISTENING, help=
        "Run the workers as this user, by name or number; the primary must be root.")
    gid: str = text("", "GROUP", group=LISTENING, help=
        "Run the workers as this group; by default the user's own.")
    control: str = text("auto", "PATH", group=LISTENING, help=
        "Answer operators (stickyctl) on a UNIX socket at this path; only the user that the primary"
        " runs as, and root, may ask. auto chooses a path by the process id in"
        " $RUNTIME_DIRECTORY, else in /run/stickyd for root and in $XDG_RUNTIME_DIR/stickyd for"
        " others, else in /tmp/stickyd-UID; off is no socket.")

    log_format: str = choice("text", "json", "twisted", group=LOGGING, help=
        "How the log is written: text (for people: with colours in a terminal, without times in"
        " systemd's journal), json (an object in each line), or twisted (as twistd does).")
    log_level: str = choice("info", "debug", "warning", "error", "critical", metavar="LEVEL",
        group=LOGGING, help=
        "The least that is logged, by the primary and the workers: debug, info, warning, error or"
        " critical. What the application prints is info. A reload changes it.")

    resource: str = text("", "MODULE:ATTRIBUTE", group=APPLICATION, help=
        "Serve this twisted.web resource: an IResource, or a callable that returns one. Without"
        " an application, a demonstration is served that counts each client's hits.")
    asgi: str = text("", "MODULE:ATTRIBUTE", group=APPLICATION, help=
        "Serve this ASGI 3 application (Starlette, FastAPI, Django, Quart, python-socketio).")
    asgi_factory: str = text("", "MODULE:ATTRIBUTE", group=APPLICATION, help=
        "Serve the ASGI 3 application that this callable returns; it gets no arguments.")
    wsgi: str = text("", "MODULE:ATTRIBUTE", group=APPLICATION, help=
        "Serve this WSGI application (Flask, Django), in threads.")
    wsgi_factory: str = text("", "MODULE:ATTRIBUTE", group=APPLICATION, help=
        "Serve the WSGI application that this callable returns; it gets no arguments.")
    static: str = text("", "DIRECTORY", group=APPLICATION, help=
        "Serve the files in this directory.")
    static_dotfiles: str = choice("off", "on", group=APPLICATION, help=
        "Whether --static serves files and folders with a dot before their names, such as .env"
        " and .git: off (but for /.well-known/), or on.")
    protocol: str = text("", "MODULE:ATTRIBUTE", group=APPLICATION, help=
        "Serve any protocol: a Twisted IProtocolFactory, or a callable that returns one.")
    root_path: str = text("", "PATH", group=APPLICATION, help=
        "The prefix that a proxy in front takes off the path, e.g. /shop: an ASGI application's"
        " root_path, a WSGI application's SCRIPT_NAME.")
    lifespan: str = choice("auto", "on", "off", group=APPLICATION, help=
        "Whether the ASGI application has a lifespan: on, off, or auto (one that raises has"
        " none).")
    limit_concurrency: int = whole(0, group=APPLICATION, help=
        "How many connections or running requests a worker's ASGI application may have; more"
        " get 503. 0 is no limit.")
    ws_max_size: int = whole(16 * 1024 * 1024, least=1, group=APPLICATION, help=
        "The longest WebSocket message that an ASGI application gets, in bytes.")
    wsgi_threads: int = whole(200, least=1, most=1000, group=APPLICATION, help=
        "How many requests a worker's WSGI application handles at a time, each in a thread;"
        " there are only as many as are needed.")
    wsgi_queue: int = whole(1024, group=APPLICATION, help=
        "How many more requests may wait for one of them; past it 503.")
    wsgi_websockets: int = whole(1000, group=APPLICATION, help=
        "How many WebSockets a worker's WSGI application may have, each in a thread of its own"
        " (simple-websocket, Flask-Sock, Flask-SocketIO); past it 503.")
    request_timeout: float = seconds(300.0, group=APPLICATION, help=
        "How long a WSGI application may take to begin an answer until the log shows where its"
        " thread is; a worker more than half of whose threads are stuck so is replaced. 0 is"
        " never.")

    bus: str = text("local", "URL", group=APPLICATION, help=
        "What carries stickyd.bus: local (the primary, between the workers of this machine), or"
        " redis://HOST:PORT and its kin (rediss, valkey, Sentinel, Cluster) for the workers of"
        " other machines too, all those that name the same one. A password in it is shown"
        " nowhere.")
    affinity: tuple[str, ...] = texts(("ip",), "KEY,...", split=split_entries, group=CLIENTS, help=
        "What tells clients apart: a list, the first entry that a client has decides, and who"
        " has none goes to the least loaded worker. Entries: ip (ip/24/56 for networks of that"
        " IPv4 and IPv6 prefix length), cookie:NAME, header:NAME, query:NAME, path:REGEX, sni,"
        " stamp:HEADER, learn:header:NAME, learn:cookie:NAME, learn:query:NAME, and for ids of"
        " stickyd.mint(): minted:header:NAME, minted:query:NAME, minted:cookie:NAME,"
        " minted:path:REGEX.")
    secret_file: str = text("", "PATH", group=CLIENTS, help=
        "Sign the slots in cookies, stamps and minted ids with the first line of this file, and"
        " accept those signed with any of its lines, of 16 bytes or more each. Without it a secret"
        " is made at each start, and no cookie outlives the primary. Keys that an application asks"
        " stickyd.secret() for are derived from it.")
    node: str = text("", "NAME", group=CLIENTS, help=
        "What this machine is called among those that share its secret, 1 to 12 of a-z and 0-9:"
        " what stickyd.worker.node says, and ids of stickyd.mint() name.")
    cookie_path: str = text("/", "PATH", group=CLIENTS, help=
        "The Path of the cookies of cookie:NAME and --asgi-sessions.")
    cookie_domain: str = text("", "DOMAIN", group=CLIENTS, help=
        "Their Domain; without one, the host that set it.")
    cookie_samesite: str = choice("lax", "strict", "none", group=CLIENTS, help=
        "Their SameSite: lax, strict or none.")
    cookie_secure: str = choice("auto", "always", "never", group=CLIENTS, help=
        "Whether they are Secure: always, never, or auto (when the client speaks TLS, be it with a"
        " trusted proxy).")
    cookie_max_age: int = whole(0, "SECONDS", group=CLIENTS, help=
        "Their Max-Age; 0 is until the browser is closed.")
    placement: str = choice("rendezvous", "least", "modulo", metavar="NAME", group=CLIENTS, help=
        "How keys are mapped to workers: rendezvous (a resize moves as few as can be), least (a"
        " newcomer goes to the least loaded worker, and is remembered), or modulo (as the"
        " Node.js program did: MD5 of the address).")
    stick_limit: int = whole(65_536, least=1, group=CLIENTS, help=
        "How many clients the least placement remembers; those longest unseen make room.")
    stick_timeout: float = seconds(3600.0, least=0.1, group=CLIENTS, help=
        "How long it remembers a client after the last connection.")
    learn_limit: int = whole(65_536, least=1, group=CLIENTS, help=
        "How many ids of learn: entries are remembered; the least recently used make room.")
    learn_timeout: float = seconds(86400.0, least=1, group=CLIENTS, help=
        "How long each of them is, after the last connection that began with it.")
    sniff_timeout: float = seconds(10.0, least=0.1, group=CLIENTS, help=
        "How long the primary waits for the first bytes that it needs to place a connection.")
    sniff_limit: int = whole(1024, group=CLIENTS, help=
        "How many connections may wait for theirs at a time.")
    sniff_overflow: str = choice("ip", "close", metavar="CHOICE", group=CLIENTS, help=
        "What becomes of a connection past these bounds: ip (it is placed by its address) or"
        " close.")

    trust: tuple[str, ...] = texts((), "NETWORKS", split=lambda text: text.split(","),
        group=PROXIES, help=
        "Believe X-Forwarded-For, Forwarded and PROXY headers of peers in these networks, e.g."
        " 10.0.0.0/8,::1,unix. Repeatable.")
    proxy_protocol: str = choice("off", "on", group=PROXIES, help=
        "Whether trusted peers begin each connection with a PROXY header, version 1 or 2: on or"
        " off.")

    tls: tuple[str, ...] = texts((), "CERTIFICATE[,KEY]", group=ENCRYPTION, help=
        "Serve over TLS with the certificate, its chain and its key in these PEM files; the key"
        " may stand in the first one too. Repeatable: a client gets the one for the host that it"
        " asks for, else the first.")
    http2: str = choice("auto", "on", "off", group=ENCRYPTION, help=
        "Whether TLS clients are offered HTTP/2: on, off, or auto (if it is installed: pip"
        " install 'stickyd[http2]'). ASGI applications are served over HTTP/1.1.")

    head_bytes: int = whole(32768, "BYTES", least=64, most=65536, group=REQUESTS, help=
        "How long the head of a request may be, request line and fields; past it 431.")
    head_fields: int = whole(128, least=1, group=REQUESTS, help=
        "The most fields in a request head; past it 431.")
    body_bytes: int = whole(1 << 30, group=REQUESTS, help=
        "The longest request body, in bytes; past it 413. 0 is no limit.")
    form_bytes: int = whole(32 << 20, group=REQUESTS, help=
        "The longest form of which a resource gets request.args, in bytes; past it 413. A"
        " resource reads longer ones from request.content. 0 is no limit.")
    idle_timeout: float = seconds(75.0, least=1, group=REQUESTS, help=
        "How long a connection may stay open without a request.")
    head_timeout: float = seconds(20.0, least=1, group=REQUESTS, help=
        "How long a request head may take from its first byte to its last; past it 408.")
    body_timeout: float = seconds(60.0, least=1, group=REQUESTS, help=
        "How long a client may pause inside a request body; past it 408.")
    access_log: str = text("", "PATH", group=REQUESTS, help=
        "Append a line for each request to this file; - is the log.")
    access_log_format: str = text("combined", "FORMAT", group=REQUESTS, help=
        "How it is written: combined, json, or a text with fields in braces: {time} {client}"
        " {method} {target} {version} {status} {bytes} {referer} {agent} {duration} (seconds)"
        " {worker} (pid) {slot} {key} (key, named or none: what placed the connection) {rehomed}.")

    asgi_sessions: str = choice("off", "on", group=SESSIONS, help=
        "Whether an ASGI application gets sessions of ours, as scope['session'], which is"
        " request.session in Starlette and FastAPI: on or off.")
    session_cookie: str = text(TWISTED_SESSION, "NAME", group=SESSIONS, help=
        "The cookie that carries the ids of a resource's sessions, and over TLS, with _SECURE"
        " behind this name, those of its secure ones (without this option"
        " TWISTED_SECURE_SESSION); of --asgi-sessions too (without it session). Servers under one"
        " host name, on whatever ports, need a name each.")
    sessions: str = text("memory", "URL", group=SESSIONS, help=
        "Where sessions are kept: memory, sqlite:DIRECTORY (with ?sync=full to outlive a power cut"
        " too), or redis://HOST:PORT/0 and its kin for Redis and Valkey, Sentinel and Cluster. A"
        " password in it is shown nowhere.")
    session_grace: float = seconds(10.0, group=SESSIONS, help=
        "How long a store that is away is asked again, until a request that needs it gets 503.")
    session_away: str = choice("fail", "memory", group=SESSIONS, help=
        "What becomes of a request that needs a store on a server that is away for longer: fail"
        " (it gets 503), or memory (the worker goes on with the sessions that it has copies of,"
        " and with new ones, and writes them when the store is there again; what it has not"
        " written when it ends is lost).")
    session_cache: str = choice("trust", "verify", "off", group=SESSIONS, help=
        "What a worker's own copies of sessions are used for, of a store outside of it: trust"
        " (as they are where nobody else can have changed them: in sqlite, and for clients whose"
        " token names the worker), verify (if the store says that nobody has), or off.")
    session_key_file: str = text("", "PATH", group=SESSIONS, help=
        "Encrypt the sessions in a store outside of the workers' memory with the first line of"
        " this file, and read those encrypted with any of its lines, of 16 bytes or more each.")
    session_idle: float = seconds(1800.0, least=1, group=SESSIONS, help=
        "How long a session lives without a request.")
    session_lifetime: float = seconds(86400.0 * 7, least=1, group=SESSIONS, help=
        "How long a session lives at most.")
    session_limit: int = whole(100_000, least=1, group=SESSIONS, help=
        "How many sessions one worker keeps, or a slot's file; those of one request make room, then"
        " the least recently used.")
    session_memory: int = whole(256, "MIB", least=1, group=SESSIONS, help=
        "How much the data of one worker's sessions may take.")

    window: int = whole(64, least=1, most=250, group=WAITING, help=
        "How many connections may be on their way to a worker, unacknowledged.")
    queue_limit: int = whole(1024, group=WAITING, help=
        "How many connections may wait for one worker; the next ones get the overflow answer.")
    queue_timeout: float = seconds(30.0, group=WAITING, help=
        "How long each of them may wait.")
    overflow: str = choice("auto", "503", "close", "reset", metavar="ANSWER", group=WAITING, help=
        "What a connection gets that cannot be served: 503 (an HTTP answer), close or reset;"
        " auto is 503, but close with --tls or --protocol, whose clients could not read it.")

    start_timeout: float = seconds(60.0, least=0.1, group=LIFETIME, help=
        "How long a worker may take to get ready.")
    stop_timeout: float = seconds(20.0, group=LIFETIME, help=
        "How long requests under way may take to finish at a stop.")
    stream_timeout: float = seconds(3.0, group=LIFETIME, help=
        "How long event streams and WebSockets may go on at a stop, of --stop-timeout, until they"
        " are ended and their application is told.")
    generation_name: str = text("", "NAME", group=LIFETIME, help=
        "What the workers that are started from now on are called in the log and to the"
        " application (stickyd.worker.generation_name): a version, a commit.")
    generation_header: str = text("", "HEADER", group=LIFETIME, help=
        "Say in this field of each response which generation has answered: its name, or its"
        " number if it has none.")
    reload_mode: str = choice("connection", "client", metavar="MODE", group=LIFETIME, help=
        "What a relieved worker gives to its successor: connection (every client, with the next"
        " request), or client (newcomers: who is known stays with the old one until silent for"
        " --client-idle, at most --drain-timeout).")
    client_idle: float = seconds(1800.0, least=0.5, group=LIFETIME, help=
        "With --reload-mode client, how long a client may have no connection and send nothing"
        " until it is known no longer.")
    known_limit: int = whole(100_000, least=1, group=LIFETIME, help=
        "With --reload-mode client, how many clients a worker knows, and how many without a token"
        " the primary remembers that relieved workers keep; those longest silent make room.")
    drain_timeout: float = seconds(300.0, group=LIFETIME, help=
        "How long a relieved worker may take for streams that cannot be handed over, and keep its"
        " clients with --reload-mode client.")
    max_leaving: int = whole(2, least=1, group=LIFETIME, help=
        "How many relieved workers of one slot may be at that; with one more, the one that was"
        " relieved first is ended, or gives its clients away.")
    max_leaving_memory: int = whole(0, "MIB", group=LIFETIME, help=
        "With --reload-mode client, how much all relieved workers may have resident together; past"
        " it the one that was relieved first gives its clients away. 0 is no limit.")
    hang_timeout: float = seconds(30.0, least=0.2, group=LIFETIME, help=
        "How long a worker may go without a heartbeat until it is killed and replaced.")
    heartbeat: float = seconds(1.0, least=0.05, group=LIFETIME, help=
        "How often a worker reports.")
    spares: int = whole(0, most=MOST_WORKERS, group=LIFETIME, help=
        "How many started workers to keep in reserve, to take a dead one's place at once.")
    max_requests: int = whole(0, group=LIFETIME, help=
        "Replace a worker after about this many requests; 0 is never.")
    max_memory: int = whole(0, "MIB", group=LIFETIME, help=
        "Replace a worker that has more than this resident; 0 is never.")
    backoff: float = seconds(0.25, least=0.01, group=LIFETIME, help=
        "The delay after a worker's second quick death; it doubles with each further one.")
    backoff_limit: float = seconds(30.0, least=0.01, group=LIFETIME, help=
        "The longest such delay.")
    crash_limit: int = whole(5, least=1, group=LIFETIME, help=
        "How many workers in a row may die before they are ready until their slot is reported"
        " as failed, and its clients go elsewhere; it is tried again, ever more slowly.")

    admin: str = text("", "ENDPOINT", group=OPERATING, help=
        "Show a dashboard (/), metrics for Prometheus (/metrics) and health (/livez, /readyz) at"
        " this endpoint: a port of 127.0.0.1, or a longer form such as"
        " tcp:9100:interface=10.0.0.5 or unix:/run/stickyd/admin.sock, which only its owner may"
        " use.")
    admin_public: str = choice("off", "on", group=OPERATING, help=
        "Whether --admin and --agent-check may be reached by other machines and users: off or on."
        " The dashboard asks for a token in any case, metrics and health do not.")
    admin_host: tuple[str, ...] = texts((), "NAME", group=OPERATING, help=
        "A host name by which --admin is reached, beside localhost and addresses; requests for"
        " another one are refused. Repeatable.")
    admin_token_file: str = text("", "PATH", group=OPERATING, help=
        "The token for the dashboard is the first line of this file, which is made if it is not"
        " there, readable for its owner alone. Without it each start makes a token, and the log"
        " says it.")
    agent_check: str = text("", "ENDPOINT", group=OPERATING, help=
        "Answer HAProxy's agent-check at this endpoint, written as --admin: up ready 75%, drain,"
        " or down. The percentage is of the weight in HAProxy: write weight 100 there, as of 1 it"
        " would be 0.")
    lame_duck: float = seconds(0.0, group=OPERATING, help=
        "How long to go on serving at a stop while /readyz and --agent-check say already that"
        " clients should go elsewhere.")
    ready_slots: int = whole(0, most=MOST_WORKERS, group=OPERATING, help=
        "How many slots must serve for the server to be ready; 0 is half of them.")
    ready_store: str = choice("off", "on", group=OPERATING, help=
        "Whether the server is ready only as long as its workers reach the store of sessions: off"
        " (as a store that is away must not take all servers away) or on.")

    # fmt: on

    @property
    def refusal(self) -> str:
        """
        What ``overflow`` comes down to: ``503``, ``close`` or ``reset``.
        """
        if self.overflow != "auto":
            return self.overflow
        return "close" if self.tls or self.protocol else "503"

    @property
    def session_cookie_name(self) -> str:
        """
        What ``session_cookie`` comes down to.
        """
        if self.asgi_sessions == "on" and self.session_cookie == TWISTED_SESSION:
            return "session"
        return self.session_cookie

    @property
    def keys(self) -> Affinity:
        """
        The list of ``--affinity``, parsed for the placement.
        """
        return parse_affinity(
            self.affinity, parse_text_key if self.placement == "modulo" else parse_ip_key
        )

    @property
    def networks(self) -> Networks:
        """
        The networks of ``--trust``.
        """
        return Networks.parse(self.trust)

    @property
    def applications(self) -> list[tuple[str, str]]:
        """
        The options that name an application, as in ``asgi-factory``, with their values.
        """
        return [(spelt(kind), value) for kind in KINDS if (value := getattr(self, kind))]

    @property
    def application_name(self) -> str:
        """
        What is served, for people.
        """
        return "the demonstration" if self.application is None else self.application[1]

    @property
    def application(self) -> tuple[str, str] | None:
        """
        What to serve: the name of its option, as in ``asgi``, and its value; or
        :obj:`None` for the demonstration.
        """
        return next(iter(self.applications), None)
