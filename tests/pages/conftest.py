"""A browser for the tests of pages. No request may leave this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest

from tests.support.process import Site

LOCAL = ("127.0.0.1", "localhost", "", None)


def is_error(message):
    """Whether a message in the browser's console is an error of the page; a process may end before its page."""
    return message.type == "error" and "net::ERR_CONNECTION_" not in message.text and "ERR_EMPTY_" not in message.text


@pytest.fixture(scope="package")
def browser():
    from tests.support.browser import CHROMIUM, playwright  # noqa: PLC0415  the test modules skip without it

    with playwright.sync_playwright() as api:
        # Chromium's sandbox refuses to run as root, as in a container.
        chromium = api.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.getuid() != 0)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A tab that fails the test if the page requests anything of another machine, or has an error."""
    from tests.support.browser import TIMEOUT_MS  # noqa: PLC0415

    context = browser.new_context(timezone_id="America/New_York")
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    errors = []
    context.on("request", lambda r: errors.append(r.url) if urlsplit(r.url).hostname not in LOCAL else None)
    tab.on("pageerror", lambda error: errors.append(error.message))
    tab.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
    tab.errors = errors
    yield tab
    context.close()
    assert errors == []


@pytest.fixture
def site(tmp_path):
    """A running process that polls its own simulated machine and a file every second."""
    from tests.support.browser import put  # noqa: PLC0415

    site = Site(tmp_path)
    site.reading = tmp_path / "press.json"
    put(site, 20.5)
    simulated = {"name": "machine-1", "url": f"http://127.0.0.1:{site.port}/data"}
    site.save(interval="1s", sources=[simulated, {"name": "press", "file": "press.json"}], output={"stdout": []})
    with site.running():
        yield site


@pytest.fixture(scope="package")
def axe(tmp_path_factory):
    """The script of axe-core, installed with npm."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("npm is not installed, which installs axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", "axe-core@4"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot install axe-core")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()
