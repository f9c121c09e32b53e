"""Serve the simulated machines alone: python -m api."""

from __future__ import annotations

import signal
import sys

import click

from api import Machines, create_app
from api.server import serve


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0: any."
)
@click.option(
    "--machines", default=1, show_default=True, type=click.IntRange(1, 10_000), help="How many machines to simulate."
)
def main(host: str, port: int, machines: int) -> None:
    """Serve simulated machines: GET /data, POST /status, GET /machines. Ctrl-C ends it."""
    ending = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        port = serve(create_app(Machines(machines)), host, port)
    except OSError as error:
        click.echo(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port.", err=True)
        sys.exit(74)
    click.echo(f"Serving {machines} machine(s) on http://{host}:{port}/data", err=True)
    signal.sigwait(ending)


if __name__ == "__main__":
    main()
