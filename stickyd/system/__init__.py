"""
What the operating system is asked: users, CPUs, secrets in files.
"""
