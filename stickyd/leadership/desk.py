"""
The leadership of this process.  Global, as the reactor is: an application that is imported by name
has nothing of ours to hold on to.
"""

from __future__ import annotations

from stickyd.leadership.leadership import Leadership

#: Whether this process leads.
leadership = Leadership()
