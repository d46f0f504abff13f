"""
Kernel steering: one listening socket per slot (SO_REUSEPORT), and the program that chooses.
"""
