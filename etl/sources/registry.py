"""Opens the transport that the config names; each HTTP library is imported only where it is used."""

from collections.abc import Callable, Iterable
from importlib import import_module

from etl.sources.contract import HttpSource, Transport
from etl.sources.intake import Intake

HTTP_TRANSPORTS = {
    "requests": ("etl.sources.http.requests_transport", "Requests"),
    "curl": ("etl.sources.http.curl_transport", "Curl"),  # needs pycurl, from the extra `fleet`
}
"""`transport` in the config: the module and class that implement it."""


def open_http(transport: str, sources: Iterable[HttpSource], clock: Callable[[], float], intake: Intake) -> Transport:
    """Open the HTTP transport of this name for these sources; `clock` returns seconds since the epoch.

    Raises:
        ModuleNotFoundError: the library of this transport is not installed.

    """
    module, name = HTTP_TRANSPORTS[transport]
    opened: Transport = getattr(import_module(module), name)(sources, clock, intake)
    return opened
