"""
The states of an HTTP/1.1 connection.

The pipeline goes through the first three, request by request; the connection sets the others.

=======  ========================  =====================  ============================
state    input                     deadline               goes on to
=======  ========================  =====================  ============================
HEAD     is read as a head;        idle; or head, once    BODY, BUSY, LEAVING, CLOSING
         waits if ``backlog``      it has begun
BODY     is read as a body; is     body; none while it    BUSY, CLOSING
         not, if ``body_held``     is held
BUSY     waits, some of it         none                   HEAD, PASSING, CLOSING
PASSING  goes to another protocol  none                   CLOSING
LEAVING  is not read               stall                  GONE
CLOSING  is dropped                stall or linger        GONE
GONE     there is none             none                   nothing
=======  ========================  =====================  ============================

While the output is full, in any state but PASSING, the deadline is stall, and no head is
read, as its answer would have nowhere to go.  Every state goes on to GONE when the
connection is lost.
"""

from __future__ import annotations

HEAD, BODY, BUSY, PASSING, LEAVING, CLOSING, GONE = range(7)
