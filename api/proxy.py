"""The X-Forwarded headers, taken from the reverse proxy alone."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


def trust_proxy(app: WsgiApp, proxy: IPv4Network | IPv6Network) -> WsgiApp:
    """Wrap a WSGI application: what a proxy of this network forwards replaces host, scheme and client of a request.

    Of several values the last one counts, which is the proxy's; the client may have sent those before it.
    """
    behind_proxy = ProxyFix(app, x_for=1, x_proto=1, x_host=1)

    def choose(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        peer = ip_address(environ["REMOTE_ADDR"])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:  # an IPv4 client of a server on ::
            peer = peer.ipv4_mapped
        return (behind_proxy if peer in proxy else app)(environ, start_response)

    return choose
