"""
What a start says of the server: :mod:`stickyd.log.banner`.
"""

from __future__ import annotations

from stickyd import __version__
from stickyd.log.banner import banner
from stickyd.settings import Settings


def test_banner() -> None:
    """
    What, where, how many and why, who a client is, where to look.
    """
    settings = Settings.read({"asgi": "shop.main:app", "affinity": "cookie:shop,ip"})
    text = banner(settings, [("0.0.0.0", 3000), ("::1", 3001)], 4, 4240)
    assert text.split("\n") == [
        f"stickyd {__version__} serves shop.main:app (ASGI)",
        "  at       http://127.0.0.1:3000/, and on every other address",
        "  at       http://[::1]:3001/",
        "  workers  4, one for each CPU that this process may use",
        "  clients  told apart by cookie:shop, ip; placed by rendezvous",
        "  look     stickyctl status; kill -HUP 4240 reloads, kill 4240 stops",
    ]


def test_banner_of_other_kinds() -> None:
    """
    The demonstration, a protocol, TLS, a socket.
    """
    demonstration = banner(Settings.read({"workers": 2}), ["/run/app.sock"], 2, 1)
    assert "serves the demonstration\n  at       the socket /run/app.sock\n" in demonstration
    assert "  workers  2, as --workers 2 says\n" in demonstration
    protocol = banner(Settings.read({"protocol": "chat:Factory"}), [("192.0.2.1", 5000)], 1, 1)
    assert "serves chat:Factory (a protocol)\n  at       192.0.2.1:5000\n" in protocol
    secure = banner(Settings.read({"tls": "/c.pem"}), [("192.0.2.1", 443)], 1, 1)
    assert "  at       https://192.0.2.1:443/\n" in secure
