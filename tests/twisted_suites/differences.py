"""
Which tests of Twisted's suites are run, and which of those are left out, with the reason.
"""

from __future__ import annotations

_COARSE = (
    "Times are kept by one timer with steps of a second, not to the instant.  "
    "tests/serve/http/test_deadlines.py holds ours."
)
_NEGOTIATION = (
    "It reads private attributes of the stock channel while replacing it by HTTP/2; our "
    "site offers http/1.1 only."
)
_PERSISTENCE = (
    "It calls a method of the stock channel's own; "
    "tests/serve/http/test_channel.py tests the outcome."
)
_FOLDING = "Obsolete line folding is refused, as RFC 9112 section 5.2 allows."
_DATE = "It replaces the clock inside twisted.web; ours is given to HTTPContext."

HTTP_CLASSES = (
    "HTTP1_0Tests",
    "HTTP1_1Tests",
    "HTTP1_1_close_Tests",
    "HTTP0_9Tests",
    "PipeliningBodyTests",
    "ShutdownTests",
    "SecurityTests",
    "GenericHTTPChannelTests",
    "HTTPLoopbackTests",
    "PersistenceTests",
    "ChunkingTests",
    "ParsingTests",
    "QueryArgumentsTests",
    "RequestTests",
    "MultilineHeadersTests",
    "Expect100ContinueServerTests",
    "DeprecatedRequestAttributesTests",
    "ChannelProductionTests",
    "HTTPChannelSanitizationTests",
)
"""
The classes of ``test_http`` about a server's channel or request.  The others are about
date functions, Twisted's transfer decoders and its HTTP client.
"""

HTTP_DIFFERENCES = {
    **{
        f"HTTP1_0Tests.{test}": _COARSE  # and so in the three classes derived from it
        for test in (
            "test_requestBodyDefaultTimeout",
            "test_transportForciblyClosed",
            "test_transportNotAbortedAfterConnectionLost",
            "test_transportNotAbortedWithZeroAbortTimeout",
            "test_connectionLostAfterForceClose",
        )
    },
    "ChannelProductionTests.test_HTTPChannelUnregistersSelfWhenTimingOut": _COARSE,
    "GenericHTTPChannelTests.test_genericHTTPChannelCallLaterUpgrade": _NEGOTIATION,
    "GenericHTTPChannelTests.test_h2CancelsH11Timeout": _NEGOTIATION,
    "GenericHTTPChannelTests.test_http2_present": _NEGOTIATION,
    "GenericHTTPChannelTests.test_unregistersProducer": _NEGOTIATION,
    "PersistenceTests.test_http09": _PERSISTENCE,
    "PersistenceTests.test_http10": _PERSISTENCE,
    "PersistenceTests.test_http11": _PERSISTENCE,
    "PersistenceTests.test_http11Close": _PERSISTENCE,
    "SecurityTests.test_notSecureAfterFinish": (
        "It puts a request into the stock channel's list; ours has one at a time."
    ),
    "ChunkingTests.test_multipartFormData": (
        "Transfer-Encoding in an HTTP/1.0 request is refused (RFC 9112 section 6.1)."
    ),
    "ParsingTests.test_multipartProcessingFailure": (
        "A form is read when the application asks for it, and this one does not."
    ),
    "ParsingTests.test_multipartEmptyHeaderProcessingFailure": (
        "A multipart form whose last delimiter is missing is refused (RFC 2046 section 5.1.1)."
    ),
    "ParsingTests.test_chunkedEncoding": (
        "Transfer-Encoding in an HTTP/1.0 request is refused (RFC 9112 section 6.1)."
    ),
    "ParsingTests.test_transferEncodingIdentity": (
        "Content-Length with Transfer-Encoding is refused, whatever the coding."
    ),
    "ParsingTests.test_headerStripWhitespace": (
        "Vertical tab and form feed in a value are refused (RFC 9110 section 5.5)."
    ),
    "ParsingTests.test_headersMultiline": _FOLDING,
    "ChannelProductionTests.test_HTTPChannelToleratesPullProducers": (
        "A pull producer is asked as soon as process() has returned, not a turn of the "
        "reactor later; the test looks at it in between."
    ),
}

WEB_CLASSES = (
    "SiteTest",
    "SessionTests",
    "ConditionalTests",
    "RequestTests",
    "GzipEncoderTests",
    "RememberURLTests",
    "NewRenderTests",
    "AllowedMethodsTests",
    "TestRFC9112Section932",
)
"""
The classes of ``test_web`` about a server's channel, request or site.  The others are
about Twisted's access log and its escaping, which we do not use, and about resources.
"""

WEB_DIFFERENCES: dict[str, str] = {}

WSGI_CLASSES = (
    "WSGIResourceTests",
    "EnvironTests",
    "InputStreamBytesIOTests",
    "InputStreamTemporaryFileTests",
    "StartResponseTests",
    "ApplicationTests",
)

WSGI_DIFFERENCES = {
    "StartResponseTests.test_applicationProvidedContentType": _DATE,
    "StartResponseTests.test_applicationProvidedServerAndDate": _DATE,
    "StartResponseTests.test_headers": _DATE,
}

WEBSOCKET_CLASSES = ("WebSocketTests", "FramingAndFragmentationTests")

XMLRPC_CLASSES = (
    "XMLRPCTests",
    "XMLRPCProxyWithoutSlashTests",
    "XMLRPCAuthenticatedTests",
    "XMLRPCIntrospectionTests",
    "XMLRPCClientErrorHandlingTests",
    "XMLRPCWithRequestTests",
)
"""
These go over real connections.
"""
