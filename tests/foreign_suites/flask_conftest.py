"""
Puts our session interface in the place of Flask's, for its own tests.
"""
# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import _pytest.monkeypatch
from flask import Flask

from stickyd.flask import SessionInterface

# Flask's conftest asks for it by the name that it had before pytest 9.
_pytest.monkeypatch.notset = getattr(_pytest.monkeypatch, "NOTSET", None) or (
    _pytest.monkeypatch.notset
)
Flask.session_interface = SessionInterface()
