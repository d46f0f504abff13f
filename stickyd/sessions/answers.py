"""
The answers of an immediate store, which have come when it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

_T = TypeVar("_T")


def result_of(deferred: Deferred[_T]) -> _T:
    """
    Take the result out of a Deferred that has fired.

    :raise Exception: the error that it has failed with.
    :raise RuntimeError: it has not fired.
    """
    answers: list[Any] = []
    deferred.addBoth(answers.append)
    if not answers:
        raise RuntimeError("a session store that says it is immediate has not answered at once")
    answer: _T | Failure = answers[0]
    if isinstance(answer, Failure):
        answer.raiseException()
    return answer
