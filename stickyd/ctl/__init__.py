"""
``stickyctl``: the operator's end of the control socket.
"""
