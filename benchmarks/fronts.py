"""
The configurations of the proxies: sticky by address, upstream connections kept open.
"""

from __future__ import annotations

from pathlib import Path

IP_HASH = "ip_hash;"
"""
By the first three octets of an IPv4 address.
"""


def nginx_config(
    directory: Path,
    port: int,
    backends: list[int],
    balance: str = IP_HASH,
    client: str = "$remote_addr",
    keepalive: int = 64,
    processes: int = 0,
) -> str:
    """
    Configure nginx.

    :param directory: where its pid file and temporary files go.
    :param balance: the directive that chooses a backend; with none they take turns.
    :param client: whom ``X-Forwarded-For`` names.
    :param keepalive: how many idle connections to backends each process keeps.
    :param processes: 0 is as many as there are backends.
    """
    temporary = "\n".join(
        f"  {kind}_temp_path {directory}/nginx-{port}-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    servers = "\n".join(f"    server 127.0.0.1:{backend};" for backend in backends)
    return f"""\
worker_processes {processes or len(backends)};
pid {directory}/nginx-{port}.pid;
error_log {directory}/nginx-{port}.err warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
{temporary}
  upstream application {{
    {balance}
{servers}
    keepalive {keepalive};
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://application;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For {client};
    }}
  }}
}}
"""


def haproxy_config(port: int, backends: list[int]) -> str:
    """
    Configure HAProxy with ``balance source``.

    ``http-reuse always`` puts it on a par with nginx's ``keepalive``; its default would open
    more connections to the servers.
    """
    servers = "\n".join(f"  server s{i} 127.0.0.1:{backend}" for i, backend in enumerate(backends))
    return f"""\
global
  maxconn 8192
  nbthread {len(backends)}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend public
  bind 127.0.0.1:{port} backlog 4096
  default_backend application
backend application
  balance source
  hash-type consistent
{servers}
"""
