"""The certificate that agents pin: made once, kept private, damage told."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from netwatch.api.certificate import identity
from netwatch.model.errors import NetwatchError
from tests.fakes import NOW


def test_the_certificate_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first, second = identity(tmp_path, now=NOW), identity(tmp_path, now=NOW + 10**18)
    assert first == second
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.part"))


def test_a_certificate_that_was_damaged_is_told_with_what_to_do(tmp_path: Path) -> None:
    identity(tmp_path, now=NOW).certificate.write_text("no certificate")
    with pytest.raises(NetwatchError, match="remove it"):
        identity(tmp_path, now=NOW)
