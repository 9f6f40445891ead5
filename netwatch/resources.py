"""Finds what ships beside the code: the policy library, the front end, the demo's files."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def resource(name: str) -> Traversable:
    """The folder `policies` or `web`: inside an installed wheel, or beside a checkout."""
    inside = files("netwatch").joinpath(name)
    return inside if inside.is_dir() else files("netwatch").joinpath("..", name)
