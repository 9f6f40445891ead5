"""The vendored libraries are the ones that their list names, each with its licence."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from netwatch.resources import resource

VENDOR = Path(str(resource("web"))) / "vendor"
ROW = re.compile(r"^\| (\S+\.js) \| .* \(([\w.-]+\.LICENSE)\) \| ([0-9a-f]{64}) \|$", re.MULTILINE)


def test_each_library_has_the_digest_and_the_licence_that_the_list_names() -> None:
    listed = {
        name: (licence, digest)
        for name, licence, digest in ROW.findall((VENDOR / "README.md").read_text())
    }
    assert set(listed) == {file.name for file in VENDOR.glob("*.js")}
    for name, (licence, digest) in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert (VENDOR / licence).stat().st_size > 500
