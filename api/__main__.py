"""Serve the simulated machines alone: python -m api."""

from __future__ import annotations

import os
import signal
import sys

import click

from api import Guard, Machines, create_app
from api.guard import TOKEN
from api.server import is_loopback, serve

VARIABLE = "API_TOKEN"
"""The environment variable with the token that writes need."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0: any."
)
@click.option(
    "--machines", default=1, show_default=True, type=click.IntRange(1, 10_000), help="How many machines to simulate."
)
@click.option("--insecure", is_flag=True, help="Let everybody write who reaches --host, without a token.")
def main(host: str, port: int, machines: int, insecure: bool) -> None:
    """Serve simulated machines: GET /data, POST /status, GET /machines. Ctrl-C ends it.

    A token in the environment variable API_TOKEN is needed to write. Beyond this machine, nothing is served without it.
    """
    token = os.environ.get(VARIABLE)
    if token is not None and not TOKEN.fullmatch(token):
        click.echo(f"{VARIABLE} cannot be empty or hold a space; set it to a long random word, or unset it.", err=True)
        sys.exit(78)
    ending = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        exposed = not is_loopback(host)
        if exposed and token is None and not insecure:
            click.echo(f"Others reach {host}: set {VARIABLE} to a token for writes, or say --insecure.", err=True)
            sys.exit(78)
        port = serve(create_app(Machines(machines), guard=Guard(token or "", host, exposed)), host, port)
    except OSError as error:
        click.echo(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port.", err=True)
        sys.exit(74)
    click.echo(f"Serving {machines} machine(s) on http://{host}:{port}/data", err=True)
    signal.sigwait(ending)


if __name__ == "__main__":
    main()
