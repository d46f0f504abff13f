"""
Runs Django's tests of session engines on ours; from a directory that has them.
"""
# mypy: disable-error-code="import-untyped,import-not-found,no-any-unimported,misc"
# (Django has no annotations of its own, and its tests are not installed.)

from __future__ import annotations

import sys
from unittest import TestLoader, TestSuite

import django
from django.conf import settings
from django.test import SimpleTestCase
from django.test.runner import DiscoverRunner

#: Asks Django's own table of sessions for what was saved.
ELSEWHERE = {"test_empty_session_saved"}

settings.configure(
    SECRET_KEY="of the tests",
    USE_TZ=False,
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "sessions_tests",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SESSION_ENGINE="stickyd.django",
)
django.setup()


def main() -> bool:
    """
    Run them.

    :return: whether all have passed.
    """
    from sessions_tests import tests as theirs

    from stickyd.django import SessionStore

    class EngineTests(theirs.SessionTestsMixin, SimpleTestCase):
        """
        Django's tests of an engine.
        """

        backend = SessionStore

    chosen = TestSuite()
    for case in (EngineTests, theirs.SessionMiddlewareTests):
        for name in TestLoader().getTestCaseNames(case):
            if name not in ELSEWHERE:
                chosen.addTest(case(name))
    runner = DiscoverRunner(verbosity=1, interactive=False)
    runner.setup_test_environment()
    runner.setup_databases()
    return bool(runner.run_suite(chosen).wasSuccessful())


if __name__ == "__main__":
    sys.exit(not main())
