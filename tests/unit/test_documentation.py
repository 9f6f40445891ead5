"""Whatever a person can use has its place in the README; this finds what is missing there."""

from __future__ import annotations

from pathlib import Path

import pytest

from netwatch import cli, settings
from netwatch.api.rest import ROUTES
from netwatch.detect import DETECTORS

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_is_in_the_readme(verb: str) -> None:
    """`netwatch VERB`, or the verb in a list of them."""
    assert f"`netwatch {verb}" in README or f"`{verb}`" in README


@pytest.mark.parametrize("name", settings.NAMES)
def test_every_setting_is_in_the_readme(name: str) -> None:
    """A row of the table of settings."""
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_every_api_path_is_in_the_readme(path: str) -> None:
    """With its prefix."""
    assert f"`/api/v1{path}`" in README


@pytest.mark.parametrize("detector", [d.__name__.replace("_", "-") for d in DETECTORS])
def test_every_detector_is_in_the_readme(detector: str) -> None:
    """A row of the table of detectors."""
    assert f"| `{detector}` |" in README


def test_every_shipped_policy_says_what_it_is_for() -> None:
    """A file of the library opens with a comment that explains it."""
    library = Path(__file__).parents[2] / "policies"

    silent = [f.name for f in library.rglob("*.yaml") if not f.read_text().startswith("# ")]

    assert silent == []
