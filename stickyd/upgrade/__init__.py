"""
Replacing the code of a primary that serves: the whole of it, so this stands above both
``listen`` and ``fleet``.
"""
