"""
The one worker of the fleet that does what must be done once, from the application's side.
"""
