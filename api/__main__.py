"""Serve the simulated machines alone: python -m api."""

import os
import signal
import sys
from typing import NoReturn

import click

from api.app import create_app
from api.guard import TOKEN, Guard
from api.machines import Machines
from api.server import is_loopback, serve

VARIABLE = "API_TOKEN"
"""The environment variable with the token that writes need."""
BAD_CONFIG, IO_ERROR = 78, 74
"""Exit codes, from sysexits.h."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 for any."
)
@click.option(
    "--machines", default=1, show_default=True, type=click.IntRange(1, 10_000), help="Number of machines to simulate."
)
@click.option("--insecure", is_flag=True, help="Allow writes without a token from every machine that reaches --host.")
def main(host: str, port: int, machines: int, insecure: bool) -> None:
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
        port = serve(create_app(Machines(machines), guard=Guard(token or "", host, exposed)), host, port)
    except OSError as error:
        _fail(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port with --port.", IO_ERROR)
    click.echo(f"Serving {machines} machine{'s' * (machines > 1)} on http://{host}:{port}/data", err=True)
    signal.sigwait(stop_signals)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
