"""
The programs that stickyd is compared with.
"""
