"""
What an application of Django Channels may name in its settings.
"""

from __future__ import annotations

from stickyd.adapters.channel_layer import ChannelLayer as ChannelLayer
