"""
What operators ask of a running primary: one table of commands, and the socket that takes them.
"""
