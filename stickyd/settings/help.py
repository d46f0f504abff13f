"""
What an operator reads of each setting, in ``--help`` and in the documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: By the setting's name.
HELP: Mapping[str, str] = {
    "listen": (
        "Listen on this Twisted stream endpoint, e.g. tcp:80:interface=127.0.0.1,"
        " unix:/run/app.sock or systemd:domain=INET:index=0. Repeatable."
    ),
    "workers": "How many workers, 1 to 256; 'auto' is one for each CPU that this process may use.",
    "resource": (
        "Serve this twisted.web resource: an IResource, or a callable that returns one. Without an"
        " application, a demonstration is served that counts each client's hits."
    ),
    "asgi": "Serve this ASGI 3 application (Starlette, FastAPI, Django, Quart, python-socketio).",
    "asgi_factory": (
        "Serve the ASGI 3 application that this callable returns; it gets no arguments."
    ),
    "wsgi": "Serve this WSGI application (Flask, Django), in threads.",
    "wsgi_factory": "Serve the WSGI application that this callable returns; it gets no arguments.",
    "static": "Serve the files in this directory.",
    "static_dotfiles": (
        "Whether --static serves files and folders with a dot before their names, such as .env and"
        " .git: off (but for /.well-known/), or on."
    ),
    "protocol": "Serve any protocol: a Twisted IProtocolFactory, or a callable that returns one.",
    "root_path": (
        "The prefix that a proxy in front takes off the path, e.g. /shop: an ASGI application's"
        " root_path, a WSGI application's SCRIPT_NAME."
    ),
    "lifespan": (
        "Whether the ASGI application has a lifespan: on, off, or auto (one that raises has none)."
    ),
    "limit_concurrency": (
        "How many connections or running requests a worker's ASGI application may have; more get"
        " 503. 0 is no limit."
    ),
    "ws_max_size": "The longest WebSocket message that an ASGI application gets, in bytes.",
    "wsgi_threads": (
        "How many requests a worker's WSGI application handles at a time, each in a thread; there"
        " are only as many as are needed."
    ),
    "wsgi_queue": "How many more requests may wait for one of them; past it 503.",
    "request_timeout": (
        "How long a WSGI application may take to begin an answer until the log shows where its"
        " thread is; a worker more than half of whose threads are stuck so is replaced. 0 is never."
    ),
    "affinity": (
        "What tells clients apart: a list, the first entry that a client has decides, and who has"
        " none goes to the least loaded worker. Entries: ip (ip/24/56 for networks of that IPv4 and"
        " IPv6 prefix length), cookie:NAME, header:NAME, query:NAME, path:REGEX, sni, stamp:HEADER,"
        " learn:header:NAME, learn:cookie:NAME, learn:query:NAME."
    ),
    "secret_file": (
        "Sign the slots in cookies and stamps with the first line of this file, and accept those"
        " signed with any of its lines, of 16 bytes or more each. Without it a secret is made at"
        " each start, and no cookie outlives the primary."
    ),
    "cookie_path": "The Path of the cookie of cookie:NAME.",
    "cookie_domain": "Its Domain; without one, the host that set it.",
    "cookie_samesite": "Its SameSite: lax, strict or none.",
    "cookie_secure": (
        "Whether it is Secure: always, never, or auto (when the client speaks TLS, be it with a"
        " trusted proxy)."
    ),
    "cookie_max_age": "Its Max-Age; 0 is until the browser is closed.",
    "trust": (
        "Believe X-Forwarded-For, Forwarded and PROXY headers of peers in these networks, e.g."
        " 10.0.0.0/8,::1,unix. Repeatable."
    ),
    "proxy_protocol": (
        "Whether trusted peers begin each connection with a PROXY header, version 1 or 2: on or"
        " off."
    ),
    "head_bytes": "How long the head of a request may be, request line and fields; past it 431.",
    "sniff_timeout": (
        "How long the primary waits for the first bytes that it needs to place a connection."
    ),
    "sniff_limit": "How many connections may wait for theirs at a time.",
    "sniff_overflow": (
        "What becomes of a connection past these bounds: ip (it is placed by its address) or close."
    ),
    "placement": (
        "How keys are mapped to workers: rendezvous (a resize moves as few as can be), least (a"
        " newcomer goes to the least loaded worker, and is remembered), or modulo (as the Node.js"
        " program did: MD5 of the address)."
    ),
    "stick_limit": (
        "How many clients the least placement remembers; those longest unseen make room."
    ),
    "stick_timeout": "How long it remembers a client after the last connection.",
    "steering": (
        "Who accepts: handoff (the primary, which hands each connection over), kernel (the workers,"
        " among which the kernel chooses by address; Linux, tcp: endpoints, affinity ip and"
        " placement rendezvous only), or auto (kernel where that is possible)."
    ),
    "learn_limit": (
        "How many ids of learn: entries are remembered; the least recently used make room."
    ),
    "learn_timeout": "How long each of them is, after the last connection that began with it.",
    "worker_reactor": "The workers' event loop: uvloop, asyncio or epoll.",
    "window": "How many connections may be on their way to a worker, unacknowledged.",
    "queue_limit": (
        "How many connections may wait for one worker; the next ones get the overflow answer."
    ),
    "queue_timeout": "How long each of them may wait.",
    "overflow": (
        "What a connection gets that cannot be served: 503 (an HTTP answer), close or reset; auto"
        " is 503, but close with --tls or --protocol, whose clients could not read it."
    ),
    "tls": (
        "Serve over TLS with the certificate, its chain and its key in these PEM files; the key may"
        " stand in the first one too. Repeatable: a client gets the one for the host that it asks"
        " for, else the first."
    ),
    "http2": (
        "Whether TLS clients are offered HTTP/2: on, off, or auto (if it is installed: pip install"
        " 'stickyd[http2]'). ASGI applications are served over HTTP/1.1."
    ),
    "head_fields": "The most fields in a request head; past it 431.",
    "body_bytes": "The longest request body, in bytes; past it 413. 0 is no limit.",
    "form_bytes": (
        "The longest form of which a resource gets request.args, in bytes; past it 413. A resource"
        " reads longer ones from request.content. 0 is no limit."
    ),
    "idle_timeout": "How long a connection may stay open without a request.",
    "head_timeout": (
        "How long a request head may take from its first byte to its last; past it 408."
    ),
    "body_timeout": "How long a client may pause inside a request body; past it 408.",
    "access_log": (
        "Append a line for each request to this file, in the combined format; - is the log."
    ),
    "start_timeout": "How long a worker may take to get ready.",
    "stop_timeout": "How long requests under way may take to finish at a stop.",
    "drain_timeout": "How long a relieved worker may take for streams that cannot be handed over.",
    "max_leaving": (
        "How many relieved workers of one slot may be at that; with one more, the one that was"
        " relieved first is ended."
    ),
    "hang_timeout": "How long a worker may go without a heartbeat until it is killed and replaced.",
    "spares": "How many started workers to keep in reserve, to take a dead one's place at once.",
    "max_requests": "Replace a worker after about this many requests; 0 is never.",
    "max_memory": "Replace a worker that has more than this resident; 0 is never.",
    "session_idle": "How long a session lives without a request.",
    "session_lifetime": "How long a session lives at most.",
    "session_limit": "How many sessions one worker keeps; those of one request make room, then"
    " the least recently used.",
    "session_memory": "How much the data of one worker's sessions may take.",
    "control": "Answer operators on a UNIX socket at this path: python -m stickyd explain"
    " --control PATH. Only the user that the primary runs as, and root, may ask.",
    "uid": "Run the workers as this user, by name or number; the primary must be root.",
    "gid": "Run the workers as this group; by default the user's own.",
    "heartbeat": "How often a worker reports.",
    "backoff": "The delay after a worker's second quick death; it doubles with each further one.",
    "backoff_limit": "The longest such delay.",
    "crash_limit": (
        "How many workers in a row may die before they are ready until their slot is reported as"
        " failed, and its clients go elsewhere; it is tried again, ever more slowly."
    ),
}
