"""
Saying beforehand who serves a client.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stickyd.__main__ import main
from stickyd.affinity.address import parse_ip_key
from stickyd.affinity.minted_ids import MintedIds
from stickyd.affinity.token import Signer
from stickyd.errors import SettingError
from stickyd.explain import Client, Computed, Explanation, explain, explain_by
from stickyd.placement.modulo import Modulo
from stickyd.placement.rendezvous import Rendezvous
from stickyd.settings import Settings

SIGNER = Signer([b"0123456789abcdef"])


def ask(
    client: Client, slots: int = 5, signer: Signer | None = None, **given: object
) -> Explanation:
    """
    Explain a client by some settings.
    """
    return explain(Settings.read(given), slots, client, signer)


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", ""])
def test_address_is_placed_as_the_server_does(address: str) -> None:
    """
    The slot is that of the key's placement, whatever family the address is of.
    """
    explained = ask(Client(address))
    key = parse_ip_key("ip").key_of(address)
    assert explained.slot == Rendezvous(5).slot_of(key)
    assert (explained.entry, explained.key) == ("ip/32/64", key)


def test_modulo_places_by_the_text_of_the_address() -> None:
    """
    The Node program's placement hashes what it always did.
    """
    explained = ask(Client("192.0.2.7"), placement="modulo")
    assert explained.slot == Modulo(5).slot_of(b"192.0.2.7")
    assert "'192.0.2.7'" in str(explained)


def test_first_entry_that_the_client_has_decides() -> None:
    """
    Each entry before it is told with the reason why it does not.
    """
    affinity = "cookie:stickyd,query:room,header:X-User,ip"
    client = Client("192.0.2.7", [("X-User", " alice ")], "/chat?nothing=1")
    explained = ask(client, affinity=affinity)
    assert explained.slot == Rendezvous(5).slot_of(b"alice")
    assert str(explained).splitlines() == [
        f"slot {explained.slot}",
        "  cookie:stickyd: the request does not have it",
        "  query:room: the request does not have it",
        f"  header:X-User: the key is 'alice': rendezvous over 5 slots gives {explained.slot}",
    ]


def test_query_and_path_are_read_from_the_target() -> None:
    """
    What stands in the request's first line is found there.
    """
    client = Client("192.0.2.7", target="/room/7/?user=bob")
    assert ask(client, affinity="query:user,ip").key == b"bob"
    assert ask(client, affinity="path:/room/([^/]+),ip").key == b"7"


def test_server_name_is_compared_without_case() -> None:
    """
    The name of the TLS handshake decides as the server would see it.
    """
    client = Client("192.0.2.7", server_name="Example.ORG.")
    assert ask(client, affinity="sni,ip").key == b"example.org"
    assert "names no server" in str(ask(Client("192.0.2.7"), affinity="sni,ip"))


def test_signed_cookie_names_its_slot() -> None:
    """
    A cookie of ours decides; one that is forged, or for a slot that is gone, falls through.
    """
    cookie = [("Cookie", f"a=b; stickyd={SIGNER.mint(3)}")]
    client = Client("192.0.2.7", cookie)
    explained = ask(client, signer=SIGNER, affinity="cookie:stickyd,ip")
    assert (explained.entry, explained.slot) == ("cookie:stickyd", 3)
    gone = ask(client, 2, SIGNER, affinity="cookie:stickyd,ip")
    assert gone.entry == "ip/32/64"
    assert "not signed by us, or for a slot that is not available" in str(gone)
    unknown = ask(client, affinity="cookie:stickyd,ip")
    assert unknown.entry == "ip/32/64"
    assert "cannot be verified here without --secret-file" in str(unknown)


def test_minted_id_names_its_slot() -> None:
    """
    It is told like a cookie; one of another machine is none of ours.
    """
    affinity = "minted:path:/room/([^/]+),ip"
    client = Client("192.0.2.7", target=f"/room/{MintedIds(SIGNER.secrets).mint('r-', 3, 'web1')}")
    web1, web2 = (Signer(SIGNER.secrets, node=node) for node in ("web1", "web2"))
    explained = ask(client, signer=web1, affinity=affinity)
    assert (explained.entry, explained.slot) == ("minted:path:/room/([^/]+)", 3)
    assert "names slot 3, signed by us" in str(explained)
    assert "not signed by us" in str(ask(client, signer=web2, affinity=affinity))
    assert "without --secret-file" in str(ask(client, affinity=affinity))
    assert "does not have it" in str(ask(Client("192.0.2.7"), signer=web1, affinity=affinity))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"placement": "least"}, "where it was before, and else the least loaded slot"),
        ({"affinity": "cookie:stickyd"}, "no entry matches, so this is a newcomer"),
        ({"affinity": "learn:query:sid,ip"}, "an id that a worker may have claimed"),
    ],
)
def test_what_only_a_running_primary_knows_is_said_to_be_so(
    given: dict[str, object], reason: str
) -> None:
    """
    Loads and tables are no guess: there is no slot then, and the reason is told.
    """
    explained = explain(Settings.read(given), 5, Client("192.0.2.7", target="/?sid=1"))
    assert explained.slot is None
    assert str(explained).startswith("only the running primary knows the slot\n")
    assert reason in str(explained)


def test_forwarded_address_counts_from_a_trusted_proxy_only() -> None:
    """
    The same header places by the client behind the proxy, or by the proxy.
    """
    client = Client("192.0.2.7", [("X-Forwarded-For", "198.51.100.1")])
    key_of = parse_ip_key("ip").key_of
    assert ask(client, trust="192.0.2.0/24").key == key_of("198.51.100.1")
    assert ask(client).key == key_of("192.0.2.7")


def test_address_that_is_none_is_refused() -> None:
    """
    A name is no address.
    """
    with pytest.raises(SettingError, match="'localhost' is not an address"):
        ask(Client("localhost"))


@pytest.mark.parametrize(
    ("words", "client"),
    [
        ([], Client("")),
        (["192.0.2.7"], Client("192.0.2.7")),
        ([" 2001:db8::7 "], Client("2001:db8::7")),
        (["stickyd=1.a:b"], Client("", (("Cookie", "stickyd=1.a:b"),))),
        (["X-User: a=b"], Client("", (("X-User", "a=b"),))),
        (
            ["::1", "a=1", "b=2; c=3", "/room/7?x=1"],
            Client("::1", (("Cookie", "a=1"), ("Cookie", "b=2; c=3")), "/room/7?x=1"),
        ),
    ],
)
def test_client_as_people_write_it(words: list[str], client: Client) -> None:
    """
    What each word is, its form says.
    """
    assert Client.told_by(words) == client


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["192.0.2.7:5123"], "'192.0.2.7:5123' is not an address; write it without its port: 192"),
        (["[2001:db8::7]:443"], "write it without its port: 2001:db8::7$"),
        (["[::1]"], "write it without its port: ::1$"),
        (["shop.example"], "'shop.example' is not an address, no cookie as in"),
        (["shop.example:80"], "is not an address, no cookie as in"),
        (["2001:db8::zz"], "is not an address, no cookie as in"),
        (["=x"], "is not an address, no cookie as in"),
        ([""], "'' is not an address, no cookie as in"),
        (["::1", "::2"], "a client has one address: '::1' or '::2'\\?"),
        (["/a", "/b"], "a client has one path: '/a' or '/b'\\?"),
    ],
)
def test_word_that_tells_nothing(words: list[str], says: str) -> None:
    """
    One line says what to write.
    """
    with pytest.raises(SettingError, match=says):
        Client.told_by(words)


def test_options_and_words_tell_of_one_client() -> None:
    """
    They are put together, and may not contradict.
    """
    named = Client("", (("A", "b"),), "/x", "example.org")
    assert named.with_more(Client("::1", (("C", "d"),))) == Client(
        "::1", (("A", "b"), ("C", "d")), "/x", "example.org"
    )
    with pytest.raises(SettingError, match="a client has one address: '::1' or '::1'"):
        Client("::1").with_more(Client("::1"))
    with pytest.raises(SettingError, match="a client has one path: '/x' or '/y'"):
        named.with_more(Client("", target="/y"))


class Asked(Computed):
    """
    A primary that is asked.
    """

    runs = True


def test_running_server_takes_nobody_for_a_unix_peer() -> None:
    """
    Where the address decides, it must be given, unless a UNIX socket is listened on.
    """
    addresses: list[dict[str, object]] = [{}, {"listen": "tcp6:80"}, {"placement": "modulo"}]
    for given in addresses:
        settings = Settings.read(given)
        with pytest.raises(SettingError, match="the client's address decides here, and none is"):
            explain_by(Asked(settings, 5), settings, Client("", [("A", "b")]), None)
        assert explain_by(Asked(settings, 5), settings, Client("::1"), None).slot is not None
    others: list[dict[str, object]] = [
        {"listen": "unix:/run/a.sock"},
        {"listen": ["tcp:80", "systemd:domain=UNIX:index=0"]},
        {"affinity": "header:A,ip"},
    ]
    for given in others:
        settings = Settings.read(given)
        told = explain_by(Asked(settings, 5), settings, Client("", [("A", "b")]), None)
        assert told.slot is not None


@pytest.mark.parametrize(
    "client",
    [
        Client("192.0.2.7", [("X-User", "\ud800")]),
        Client("192.0.2.7", [("\ud800", "a")]),
        Client("192.0.2.7", target="/\ud800"),
        Client("192.0.2.7", server_name="\ud800"),
    ],
)
def test_half_a_character_is_refused(client: Client) -> None:
    """
    JSON can write what no client can send.
    """
    with pytest.raises(SettingError, match="half a character, which no client sends"):
        ask(client, affinity="header:X-User,sni,ip")


# the command


def test_command_takes_the_options_of_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Configuration file, secret and options are those of twistd stickyd.
    """
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef\n")
    secret.chmod(0o600)
    config = tmp_path / "stickyd.toml"
    config.write_text(f'workers = 4\naffinity = ["cookie:who", "ip"]\nsecret-file = "{secret}"\n')
    cookie = f"who={SIGNER.mint(2)}"
    asked = ["explain", "--config", str(config), "--address", "192.0.2.7"]
    assert main([*asked, "--cookie", cookie]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "slot 2"
    assert main([*asked, "--workers", "9"]) == 0
    expected = Rendezvous(9).slot_of(bytes([192, 0, 2, 7]))
    assert f"rendezvous over 9 slots gives {expected}" in capsys.readouterr().out


def test_command_takes_a_whole_request(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Path, query, headers and server name are options.
    """
    main(
        ["explain", "--workers=3", "--affinity=query:a,ip", "--path=/x", "--query=a=7", "--sni=h",
         "--header=X-User: alice"]
    )  # fmt: skip
    assert "query:a: the key is '7'" in capsys.readouterr().out


def test_command_asks_the_server_that_a_file_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Where the file of the server has a control socket, that server is asked, and without it
    computed; the settings of the file are no obstacle to either.
    """
    config = tmp_path / "stickyd.toml"
    config.write_text(f'workers = 4\ncontrol = "{tmp_path}/control"\n')
    asked = ["explain", "--config", str(config), "--address", "192.0.2.7"]
    assert main(asked) == 1
    assert f"--control {tmp_path}/control: nobody listens there" in capsys.readouterr().err
    assert main([*asked, "--control="]) == 0
    assert "rendezvous over 4 slots" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--workers=3", "--trust=10.0.0.0/8", "--port=80"])
def test_command_gives_a_running_server_no_settings(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    An option that would be ignored is refused.
    """
    assert main(["explain", "--control=/nowhere", option]) == 1
    name = option.partition("=")[0]
    assert f"{name} means nothing to a server that runs already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "nothing to do: write: python -m stickyd explain --address"),
        (["serve"], "serve: write: python -m stickyd explain --address"),
        (["explain", "--address", "x"], "--address: 'x' is not an address"),
        (["explain", "--header", "x"], "--header: 'x' is no header"),
        (["explain", "--cookie", "x"], "--cookie: 'x' is no cookie"),
        (["explain", "nobody"], "'nobody' is not an address, no cookie"),
        (["explain", "::1", "--path", "/x"], "--path: write options before what tells of the"),
        (["explain", "--address", "::2", "::1"], "a client has one address: '::2' or '::1'?"),
        (["explain", "--wrong"], "option --wrong not recognized (see: python -m stickyd explain"),
    ],
)
def test_mistake_gets_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Whatever is wrong is told in one line, with a failing exit code.
    """
    try:
        said, code = "", main(arguments)
    except SystemExit as end:  # how the options end the process
        said, code = f"{end.code}\n", 1
    said += capsys.readouterr().err
    assert code == 1
    assert said.startswith("stickyd: ")
    assert line in said
    assert said.count("\n") == 1
