"""Opens the HTTP client that the config names; each library is imported only where it is used."""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

from etl.config.sources.http import HttpSource
from etl.sources.contract import Context, Target, Transport
from etl.sources.intake import Intake

HTTP_CLIENTS = {
    "requests": ("etl.sources.http.requests_transport", "Requests"),
    "curl": ("etl.sources.http.curl_transport", "Curl"),  # needs pycurl, from the extra `fleet`
}
"""`transport` in the config: the module and class that implement it."""


def open_client(sources: Sequence[HttpSource], context: Context) -> Transport:
    """Open the HTTP client for these sources.

    Raises:
        ModuleNotFoundError: its library is not installed.

    """
    module, name = HTTP_CLIENTS[context.http_client]
    client: Callable[[Iterable[Target], Callable[[], float], Intake], Transport]
    client = getattr(import_module(module), name)
    return client([_target(source, context) for source in sources], context.clock, context.intake)


def _target(source: HttpSource, context: Context) -> Target:
    return Target(
        source.name,
        source.url,
        context.timeout(source),
        source.headers,
        str(context.folder / source.ca_file) if source.ca_file else None,
        digest=source.auth == "digest",
    )
