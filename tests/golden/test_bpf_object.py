"""The committed object of the capture program is what its source says."""

from __future__ import annotations

import platform
import re
import struct
from pathlib import Path

import pytest

from netwatch.kernel.commands import available, check

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "netwatch/capture/flow.bpf.c"
COMMITTED = ROOT / "netwatch/capture/flow.bpf.o"
FLAGS = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"]
FLAGS += ["-fdebug-compilation-dir=."]


def sections(file: Path) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file by name; the last of a name counts."""
    data = file.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    table, size, count, names = (
        struct.unpack_from("<Q", data, 40)[0],
        *struct.unpack_from("<HHH", data, 58),
    )
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + n * size) for n in range(count)]
    strings = data[headers[names][4] :]
    return {
        strings[h[0] :].split(b"\0")[0].decode(): data[h[4] : h[4] + h[5]] for h in headers[1:]
    }


def test_the_committed_object_is_compiled_from_the_source(tmp_path: Path) -> None:
    """`make bpf` would give the same program, maps and relocations."""
    if not available("clang"):
        pytest.skip("clang is not installed: apt-get install clang libbpf-dev")
    version = re.search(r"version (\d+)", check(["clang", "--version"]))
    if version is None or version[1] != "14":
        pytest.skip("the object is compiled with Debian 12's clang 14; others differ in detail")
    made = tmp_path / "flow.bpf.o"
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    check(["clang", *FLAGS, include, "-c", str(SOURCE), "-o", str(made)])
    fresh, committed = sections(made), sections(COMMITTED)
    for name in ("tc", ".reltc", ".maps", "license"):
        assert fresh[name] == committed[name], f"run `make bpf`: section {name} differs"
