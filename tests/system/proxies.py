"""
HAProxy and nginx in front of a server, as operators put them there.
"""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

_HAPROXY = """
global
    maxconn 1000
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 20s
{defaults}
frontend public
    bind fd@{listener}
    default_backend sticky
backend sticky
    server sticky {target} {options}
"""

_NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1000; }}
http {{
    access_log off;
    client_max_body_size 20m;
    # What comes in chunks is passed on in chunks.
    proxy_request_buffering off;
    # Its child may be somebody who may not write there.
    proxy_max_temp_file_size 0;
    client_body_temp_path {directory}/a;
    proxy_temp_path {directory}/b;
    fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d;
    scgi_temp_path {directory}/e;
    map $http_upgrade $upgrading {{ default upgrade; "" ""; }}
    upstream sticky {{ server {target}; keepalive {keepalive}; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://sticky;
            proxy_http_version 1.1;
            proxy_set_header Connection $upgrading;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""

#: What an operator's configuration has around the block that is copied.
_NGINX_AROUND = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/a;
    proxy_temp_path {directory}/b;
    fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d;
    scgi_temp_path {directory}/e;
{block}
}}
"""

_HAPROXY_AROUND = """
global
    maxconn 1000
defaults
    timeout connect 5s
    timeout client 20s
    timeout server 20s
"""


class Proxy:
    """
    A proxy that runs until the ``with`` ends.

    :ivar target: where its clients connect.
    """

    def __init__(self, command: list[str], listener: socket.socket, log: Path) -> None:
        """
        :param listener: the socket that it is handed, so that there is no race for its port.
        """
        self.target: tuple[str, int] = listener.getsockname()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(listener.fileno(),),
                # To nginx these are the sockets that a former nginx has left open.
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        # By SIGTERM, or a child of nginx would be left.
        self._process.terminate()
        self._process.wait()


def haproxy(
    directory: Path, target: tuple[str, int], mode: str, options: str = "", defaults: str = ""
) -> Proxy:
    """
    Start HAProxy.

    :param mode: ``tcp`` or ``http``.
    :param options: of the server line, such as ``send-proxy``.
    :param defaults: more lines of the defaults.
    """
    config = directory / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config.write_text(
            _HAPROXY.format(
                mode=mode,
                defaults=defaults,
                listener=listener.fileno(),
                target=f"{target[0]}:{target[1]}",
                options=options,
            )
        )
        command = ["/usr/sbin/haproxy", "-db", "-f", str(config)]
        return Proxy(command, listener, directory / "haproxy.log")


def nginx(directory: Path, target: tuple[str, int], keepalive: int = 4) -> Proxy:
    """
    Start nginx, which says who its clients are in ``X-Forwarded-For``.

    :param keepalive: how many of its connections it keeps while nobody needs them.
    """
    config = directory / "nginx.conf"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config.write_text(
            _NGINX.format(
                directory=directory,
                target=f"{target[0]}:{target[1]}",
                port=listener.getsockname()[1],
                keepalive=keepalive,
            )
        )
        command = ["/usr/sbin/nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
        return Proxy(command, listener, directory / "nginx.log")


def nginx_printed(directory: Path, block: str, target: tuple[str, int]) -> Proxy:
    """
    Start nginx with a block of the documentation, which is what stands within its ``http``.

    :param block: for ``listen 443`` and an upstream at 127.0.0.1:3000.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        block = block.replace("listen 443", f"listen {host}:{port}")
        block = block.replace("127.0.0.1:3000", f"{target[0]}:{target[1]}")
        config = directory / "nginx.conf"
        config.write_text(_NGINX_AROUND.format(directory=directory, block=block))
        command = ["/usr/sbin/nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
        return Proxy(command, listener, directory / "nginx.log")


def haproxy_printed(directory: Path, block: str, target: tuple[str, int]) -> Proxy:
    """
    Start HAProxy with a block of the documentation: its frontend and its backend.

    :param block: for ``bind :443`` and a server at 127.0.0.1:3000.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        block = block.replace("bind :443", f"bind fd@{listener.fileno()}")
        block = block.replace("127.0.0.1:3000", f"{target[0]}:{target[1]}")
        config = directory / "haproxy.cfg"
        config.write_text(_HAPROXY_AROUND + block)
        command = ["/usr/sbin/haproxy", "-db", "-f", str(config)]
        return Proxy(command, listener, directory / "haproxy.log")
