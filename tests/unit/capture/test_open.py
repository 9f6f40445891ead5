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


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        pytest.param({"entries": 0}, "capture_entries is 0", id="no room for any"),
        pytest.param({"entries": 1 << 40}, "capture_entries is", id="more than memory holds"),
        pytest.param({"rate": -1}, "judge_rate is -1", id="less than none"),
    ],
)
def test_a_number_that_the_kernel_can_not_hold_is_named(
    numbers: dict[str, int], told: str
) -> None:
    with pytest.raises(UsageError, match=told) as found:
        open_sensor(method="tcx", **numbers)  # type: ignore[arg-type]
    assert "10,000,000" in str(found.value.hint)


def test_a_missing_right_says_which_one_is_needed() -> None:
    with pytest.raises(BpfFailed, match="CAP_BPF"):
        checked("the kernel does not load it", -errno.EPERM)
