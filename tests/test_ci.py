"""The test command, which README.md and .ci/run share."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_readme_has_the_test_command_of_ci():
    """README.md has the command that .ci/run runs as a line of its own, exactly once."""
    (command,) = re.findall(r'^test_command="(.*)"$', (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert (ROOT / "README.md").read_text().splitlines().count(command) == 1
