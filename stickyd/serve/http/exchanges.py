"""
What is done to the requests of one connection, and to their responses, for the sake of
stickiness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.net.addresses import tcp_address

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from stickyd.serve.http.head import FieldBlock
    from stickyd.serve.http.link import Link
    from stickyd.serve.stickiness import Exchange, Stickiness


class Exchanges:
    """
    The exchanges of a connection, one after the other.

    :ivar address: the address of the client that made the last request, if it is not the
        connection's own.
    :ivar secure: whether that client speaks TLS; :obj:`None` if the connection knows.
    :ivar names_our_slot: whether a verified token of the last request names this worker's slot.
    """

    names_our_slot = False
    address: IAddress | None = None
    secure: bool | None = None

    _unremarkable: FieldBlock | None = None  # fields for which nothing is to be done

    def begin(
        self, stickiness: Stickiness, link: Link, fields: FieldBlock
    ) -> tuple[FieldBlock, Exchange | None]:
        """
        Begin the exchange of a request and its response.

        :param link: knows the connection's peer, and whether the connection is secure.
        :return: the fields that the application shall see, and the exchange if there is
            anything to be done to the response.
        """
        self.address = self.secure = None
        if fields is self._unremarkable:
            return fields, None
        host = getattr(link.transport.getPeer(), "host", "")
        exchange = stickiness.begin(host, link.secure, fields.pairs)
        self.names_our_slot = exchange.names_our_slot
        if exchange.client is not None:
            self.address = tcp_address(exchange.client, 0)
        if exchange.unremarkable:
            self._unremarkable = fields
            return fields, None
        self.secure = exchange.secure
        if exchange.pairs is not fields.pairs:
            fields = fields.with_pairs(exchange.pairs)
        return fields, exchange


#: Those of a connection without stickiness; it is never changed.
NO_EXCHANGES = Exchanges()
