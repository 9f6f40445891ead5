"""How every run is bounded and repeated: its seed, and the end of a test that hangs.

And what it starts is compiled once, as pip compiles what it installs, also where the environment
forbids Python to write: so netwatch starts in three quarters of the time, and so do the tests.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAWS = HERE / "property"
PURE = ("unit", "property", "golden")  # folders whose tests wait for nothing but the processor
HUNG_S = 60
IN_CI = bool(os.environ.get("CI"))

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for the run: `SEED=…`, else a new one; before hypothesis reads its option.

    Where no law is asked for, hypothesis is not even imported.
    """
    seeded = IN_CI or config.getoption("--hypothesis-seed", None) is not None
    if _draws(config) and not seeded:
        config.option.hypothesis_seed = os.environ.get("SEED") or str(random.randrange(10**9))


def _draws(config: pytest.Config) -> bool:
    """Whether examples are drawn in this run."""
    asked = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return any(LAWS.is_relative_to(path) or path.is_relative_to(LAWS) for path in asked)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests are made and modules read, which all stay: no garbage to look for."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def pytest_sessionfinish() -> None:
    """What is still there may go, and what can not (leaks of DuckDB's binding) is told."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where nothing is waited for, a minute means that the test hangs."""
    pure = tuple(f"{HERE / folder}{os.sep}" for folder in PURE)
    hung = pytest.mark.timeout(HUNG_S)
    for item in items:
        if str(item.path).startswith(pure) and item.get_closest_marker("timeout") is None:
            item.add_marker(hung)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How to see the same examples again."""
    if not _draws(terminalreporter.config):
        return
    seed = "fixed by CI" if IN_CI else terminalreporter.config.getoption("--hypothesis-seed")
    again = "" if IN_CI else f"; SEED={seed} repeats them"
    terminalreporter.write_line(f"examples of hypothesis: seed {seed}{again}")
