"""
The user and the group that workers run as.
"""

from __future__ import annotations

import grp
import os
import pwd

from stickyd.errors import SettingError


def identity(user: str, group: str) -> tuple[int | None, int | None]:
    """
    Look up ``--uid`` and ``--gid``.

    :param user: a name or a number; empty for our own.
    :param group: the same; empty for the primary group of the user.
    :return: user and group id, or :obj:`None` for each that stays as it is.
    :raises SettingError: if one is unknown, or we may not become it.  A user must be known
        by number too, as without a name nobody can tell which groups they are in.
    """
    uid: int | None = None
    gid: int | None = None
    if user:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            raise SettingError(f"--uid {user}: this machine has no such user") from None
        uid, gid = entry.pw_uid, entry.pw_gid
    if group:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise SettingError(f"--gid {group}: this machine has no such group") from None
    changes = (uid is not None and uid != os.geteuid()) or (gid is not None and gid != os.getegid())
    if not changes:
        # To become even the user that one is takes rights.
        return None, None
    if os.geteuid() != 0:
        raise SettingError(
            "--uid, --gid: only root can run workers as somebody else; start the primary as"
            " root, or leave them out"
        )
    return uid, gid


def groups_of(uid: int, gid: int | None) -> list[int]:
    """
    All groups that a user is in, as initgroups(3) would have them.

    :param gid: one more, which is the user's first.
    """
    entry = pwd.getpwuid(uid)
    return os.getgrouplist(entry.pw_name, entry.pw_gid if gid is None else gid)
