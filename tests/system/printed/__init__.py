"""
The applications that the documentation's commands name, under the names that they have there.
"""
