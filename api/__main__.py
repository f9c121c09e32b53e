"""Serve the simulated machines alone: python -m api."""

import os
import signal
import sys
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NoReturn

import click

from api.app import create_app
from api.guard import NAME, TOKEN, Guard
from api.machines import Machines
from api.server import is_about_port, is_loopback, serve

VARIABLE = "API_TOKEN"
"""The environment variable with the token that writes need."""
BAD_CONFIG, IO_ERROR = 78, 74
"""Exit codes, from sysexits.h."""


def parse_names(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if all of them are valid."""
    for name in names:
        if not NAME.fullmatch(name):
            raise click.BadParameter(f"{name!r} is not a host name such as telemetry.example.org, without http://")
    return names


def parse_network(
    _context: click.Context, _option: click.Parameter, network: str | None
) -> IPv4Network | IPv6Network | None:
    """The network of an address, or of a network such as 10.42.0.0/16."""
    try:
        parsed = None if network is None else ip_network(network)
    except ValueError as error:
        raise click.BadParameter(f"{error}; use an address or a network such as 10.42.0.0/16") from None
    if parsed and parsed.prefixlen == 0:
        raise click.BadParameter(f"{parsed} is every address; use that of the proxy, such as 10.42.0.0/16")
    return parsed


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 for any."
)
@click.option(
    "--machines", default=1, show_default=True, type=click.IntRange(1, 10_000), help="Number of machines to simulate."
)
@click.option("--insecure", is_flag=True, help="Allow writes without a token from every machine that reaches --host.")
@click.option(
    "--name", "names", multiple=True, callback=parse_names, help="Name of this server at a reverse proxy; repeatable."
)
@click.option("--proxy", callback=parse_network, help="Address or network whose X-Forwarded headers are trusted.")
def main(
    host: str,
    port: int,
    machines: int,
    insecure: bool,
    names: tuple[str, ...],
    proxy: IPv4Network | IPv6Network | None,
) -> None:
    """Serve simulated machines: GET /data, POST /status, GET /machines. Stop it with Ctrl-C.

    If the environment variable API_TOKEN is set, writes need this token. An address that other machines can reach needs
    it, or --insecure.
    """
    token = os.environ.get(VARIABLE)
    if token is not None and not TOKEN.fullmatch(token):
        _fail(f"{VARIABLE} is empty or contains a space; set it to a long random word, or unset it.", BAD_CONFIG)
    stop_signals = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    try:
        exposed = not is_loopback(host)
        if exposed and token is None and not insecure:
            _fail(
                f"Other machines can reach {host}: set {VARIABLE} to a token that writes then need, "
                "or pass --insecure.",
                BAD_CONFIG,
            )
        guard = Guard(token or "", host, exposed, names, proxy)
        port = serve(create_app(Machines(machines), guard=guard), host, port)
    except OSError as error:
        choice = "port with --port" if is_about_port(error) else "address with --host"
        _fail(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another {choice}.", IO_ERROR)
    host = f"[{host}]" if ":" in host else host
    click.echo(f"Serving {machines} machine{'s' * (machines > 1)} on http://{host}:{port}/data", err=True)
    signal.sigwait(stop_signals)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
