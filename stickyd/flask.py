"""
What a Flask application may import.
"""

from __future__ import annotations

from stickyd.sessions.apps.flask_interface import SessionInterface as SessionInterface
from stickyd.sessions.apps.flask_session import FlaskSession as FlaskSession
