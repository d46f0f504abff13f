"""
The measurements behind every figure that the documentation gives; see ``README.md``.
"""
