"""What is declared is what is imported: a host installs nothing for nothing."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = {
    "prometheus-client": "prometheus_client",
    "python-iptables": "iptc",
    "ruamel.yaml": "ruamel",
}
IMPORT = re.compile(r"^ *(?:import (\w+)[\w., ]*|from (\w+)[\w.]* import [\w, (]+)$", re.MULTILINE)
OPTIONAL = "python-iptables"  # the extra that a host may lack: one module imports it, in a child


def declared() -> set[str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    extra = config["options.extras_require"][OPTIONAL]
    lines = (config["options"]["install_requires"] + extra).split("\n")
    names = (line.split(">=")[0].strip() for line in lines if line.strip())
    return {NAMES.get(name, name) for name in names}


def imported() -> set[str]:
    found = {
        whole or part
        for file in (ROOT / "netwatch").rglob("*.py")
        for whole, part in IMPORT.findall(file.read_text())
    }
    # werkzeug is flask's own lower half, requests that of the docker SDK: they come with them.
    return found - set(sys.stdlib_module_names) - {"netwatch", "werkzeug", "requests", "urllib3"}


def test_one_module_imports_what_a_host_may_lack() -> None:
    """python-iptables is compiled where it is installed, so nothing else may need it."""
    found = {
        file.name
        for file in (ROOT / "netwatch").rglob("*.py")
        if "import iptc" in file.read_text()
    }
    assert found == {"iptc_restore.py"}


def test_declared_is_imported() -> None:
    """Both ways: nothing is missing from setup.cfg, and nothing is there that no code uses."""
    assert declared() == imported()
