"""
A shop, in every kind of application.
"""

from twisted.web.static import Data

root = Data(b"shop\n", "text/plain")
