"""How every run is bounded and repeated: examples, seeds, and the end of a test that hangs.

And what it starts is compiled once, as pip compiles what it installs, also where the environment
forbids Python to write: so netwatch starts in three quarters of the time, and so do the tests.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
PURE = ("unit", "property", "golden")  # folders whose tests wait for nothing but the processor
HUNG_S = 60
IN_CI = bool(os.environ.get("CI"))

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# In CI the examples are a function of the test alone, so that a change is judged and not luck.
# Everywhere else each run looks at others, and the seed that is printed repeats it. `proof` is
# the same laws at full size. A test that can afford fewer names its own number.
settings.register_profile(
    "run", max_examples=60, deadline=None, derandomize=IN_CI, print_blob=True, database=None
)
settings.register_profile("proof", settings.get_profile("run"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "run"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for the run: `SEED=…`, else a new one; before hypothesis reads its option."""
    if not IN_CI and config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = os.environ.get("SEED") or str(random.randrange(10**9))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where nothing is waited for, a minute means that the test hangs."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder in PURE and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HUNG_S))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How to see the same examples again."""
    seed = "fixed by CI" if IN_CI else terminalreporter.config.getoption("--hypothesis-seed")
    again = "" if IN_CI else f"; SEED={seed} repeats them"
    terminalreporter.write_line(f"examples of hypothesis: seed {seed}{again}")
