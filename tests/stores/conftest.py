"""What tests of the controller over its real files share with those of its parts."""

from __future__ import annotations

from tests.unit.controller.conftest import clock, fleet, post, quiet

__all__ = ["clock", "fleet", "post", "quiet"]
