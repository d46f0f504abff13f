"""
Whom the workers run as.
"""

from __future__ import annotations

import os
import pwd

import pytest

from stickyd.errors import SettingError
from stickyd.system.run_as import groups_of, identity

OWN = pwd.getpwuid(os.geteuid())


def test_nothing_said_changes_nothing() -> None:
    """
    Without options the workers are who the primary is.
    """
    assert identity("", "") == (None, None)


@pytest.mark.parametrize("user", [OWN.pw_name, str(OWN.pw_uid)])
def test_who_one_is_already_takes_no_rights(user: str) -> None:
    """
    To name one's own user, and no other group, is no change, whoever one is.
    """
    assert identity(user, str(os.getegid())) == (None, None)


@pytest.mark.parametrize("user", ["no-such-user", "4294900001"])
def test_unknown_user(user: str) -> None:
    """
    A user whom the machine does not know is refused by name and by number.
    """
    with pytest.raises(SettingError, match=f"--uid {user}: this machine has no such user"):
        identity(user, "")


def test_unknown_group() -> None:
    """
    So is a group, by name; by number it need not have one.
    """
    with pytest.raises(SettingError, match="--gid no-such-group: this machine has no such group"):
        identity("", "no-such-group")


def test_somebody_else_takes_root() -> None:
    """
    Root may become another user, with that user's group unless told otherwise; nobody
    else may.
    """
    other = next(entry for entry in pwd.getpwall() if entry.pw_uid != os.geteuid())
    if os.geteuid() == 0:
        assert identity(other.pw_name, "") == (other.pw_uid, other.pw_gid)
        assert identity(str(other.pw_uid), "4242") == (other.pw_uid, 4242)
        assert identity("", "4242") == (None, 4242)
    else:
        with pytest.raises(SettingError, match="only root can run workers as somebody else"):
            identity(other.pw_name, "")


def test_groups_of_a_user() -> None:
    """
    They are those of the machine's table, and the one that was asked for.
    """
    assert OWN.pw_gid in groups_of(OWN.pw_uid, None)
    assert 4242 in groups_of(OWN.pw_uid, 4242)
