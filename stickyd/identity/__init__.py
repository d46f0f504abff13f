"""
What an application may know of the worker that runs it, and what it shares with the others.
"""
