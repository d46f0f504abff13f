"""
What is said on the control socket: one JSON object a line, in UTF-8, both ways.

A question is ``{"stickyd": 2, "command": "drain", "arguments": {"slot": 3}}``.  Lines follow,
each with one of these:

==========  ================================================================
key         value
==========  ================================================================
``step``    how far it is: ``text``, and the same for programs
``event``   something that has happened (``events --follow``)
``alive``   nothing new, but the server works on it
``answer``  the answer, which is the last line about that question
``error``   why it was not done, the last line too
==========  ================================================================

The next question may follow on the same connection.
"""

from __future__ import annotations

import json
from typing import Any

from stickyd.errors import OperatorError

#: Of what is asked and answered.  Version 1 was AMP, and knew one question.
VERSION = 2

#: The longest question, in bytes.
LONGEST_QUESTION_BYTES = 256 * 1024

#: The longest line of the server's, in bytes: 256 slots with all that is told of them.
LONGEST_ANSWER_BYTES = 16 * 1024 * 1024

#: Seconds between two lines of a server that is asked something which takes long.
ALIVE_SECONDS = 2.0


def encode(message: object) -> bytes:
    """
    One line.
    """
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode_question(line: bytes) -> tuple[object, object]:
    """
    Read a question.

    :return: the command and its arguments, neither of which was looked at.
    :raises ValueError: if it is none; the message says what it is.
    :raises OperatorError: if it is one of another version.
    """
    try:
        message: Any = json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    except ValueError:
        raise ValueError(f"no JSON: {line[:60].decode('latin-1')!a}") from None
    if not isinstance(message, dict):
        raise ValueError(f"no JSON object: {line[:60].decode('latin-1')!a}")
    version = message.get("stickyd")
    if version != VERSION:
        raise OperatorError(
            f"the server speaks version {VERSION} of the control protocol, and this is version"
            f" {str(version)[:20]}; ask with the stickyd that the server runs"
        )
    return message.get("command"), message.get("arguments", {})


def _refuse(constant: str) -> None:
    raise ValueError(constant)
