"""Asking for a way of capture that does not exist, or can not be had, ends in a sentence."""

from __future__ import annotations

import errno

import pytest

from netwatch.capture.libbpf import BpfFailed, checked
from netwatch.capture.open import open_sensor
from netwatch.model.errors import UsageError


def test_an_unknown_method_names_those_that_exist() -> None:
    with pytest.raises(UsageError, match="tcx, clsact, conntrack"):
        open_sensor(method="xdp")


def test_a_missing_right_says_which_one_is_needed() -> None:
    with pytest.raises(BpfFailed, match="CAP_BPF"):
        checked("the kernel does not load it", -errno.EPERM)
