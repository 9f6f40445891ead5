"""What this host can and cannot do, asked without changing anything: for `netwatch doctor`.

Set types are asked of the kernel by IPSET_CMD_TYPE, which creates nothing (but lets it load a
module that it has), so no set has to be made and thrown away.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from netwatch.enforce import kernel, netlink, nftables, writers
from netwatch.enforce.compile import KINDS
from netwatch.enforce.ruleset import FAMILIES
from netwatch.kernel import commands
from netwatch.model.errors import NetwatchError
from netwatch.settings import load

IPSET, TYPE = 6, 13  # linux/netfilter/ipset/ip_set.h
PROTOCOL_ATTRIBUTE, TYPE_NAME, FAMILY_ATTRIBUTE = 1, 3, 5
PROTOCOL = 7  # 6 and 7 are in use; the kernel answers both
CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21}
TCX_SINCE, CLSACT_SINCE = (6, 6), (4, 5)
SOCKET_DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One answer. `needed` False: netwatch works without it, less well."""

    name: str
    ok: bool
    found: str
    fix: str | None = None
    needed: bool = True


def survey(docker_socket: str) -> list[Check]:
    """Everything that `netwatch doctor` prints, in its order."""
    checks: list[Callable[[], Check]] = [
        _kernel,
        _root,
        _capabilities,
        _capture,
        _libbpf,
        _br_netfilter,
        _iptables,
        _backend,
        _writer,
        _ipset,
        _set_types,
        _nftables,
        _bridges,
        _conntrack,
        _accounting,
    ]
    found = [check() for check in checks]
    return [*found, _docker(docker_socket)]


def version_of(release: str) -> tuple[int, int]:
    """(6, 18) of `6.18.44-amd64`; (0, 0) of what is no release."""
    parts = re.match(r"(\d+)\.(\d+)", release)
    return (int(parts.group(1)), int(parts.group(2))) if parts else (0, 0)


def _kernel() -> Check:
    release = platform.release()
    ok = version_of(release) >= (5, 4)
    return Check("kernel", ok, release, None if ok else "boot Linux 5.4 or newer")


def _root() -> Check:
    ok = os.geteuid() == 0
    found = "root" if ok else f"user {os.geteuid()}"
    return Check("root", ok, found, None if ok else "run netwatch as root")


def _capabilities() -> Check:
    status = Path("/proc/self/status").read_text()
    mask = re.search(r"CapEff:\s*([0-9a-f]+)", status)
    held = int(mask.group(1), 16) if mask else 0
    lacking = [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    fix = f"add the capabilities {', '.join(lacking)}" if lacking else None
    found = f"lacks {', '.join(lacking)}" if lacking else ", ".join(CAPABILITIES)
    return Check("capabilities", not lacking, found, fix)


def _capture() -> Check:
    version = version_of(platform.release())
    if version >= TCX_SINCE:
        return Check("capture", True, "tcx")
    if version >= CLSACT_SINCE:
        return Check("capture", True, "clsact (tcx needs Linux 6.6)")
    return Check("capture", False, "neither tcx nor clsact", "boot Linux 6.6 or newer", False)


def _libbpf() -> Check:
    name = ctypes.util.find_library("bpf")
    fix = None if name else "apt-get install libbpf1"
    return Check("libbpf", bool(name), name or "not installed", fix)


def _br_netfilter() -> Check:
    found = kernel.sysctls()
    if not found:
        return Check("br_netfilter", False, "not loaded", "modprobe br_netfilter")
    off = sorted(name for name, value in found.items() if value != "1")
    told = ", ".join(f"{name}={value}" for name, value in found.items())
    fix = "; ".join(f"sysctl net.bridge.{name}=1" for name in off) or None
    return Check("br_netfilter", not off, told, fix, needed=False)


def _iptables() -> Check:
    programs = [
        f"{program}-{backend}-restore"
        for backend in (kernel.NFT, kernel.LEGACY)
        for program in ("iptables", "ip6tables")
    ]
    there = [program for program in programs if commands.available(program)]
    ok = all(
        f"{p}-{b}-restore" in there for p in ("iptables", "ip6tables") for b in _usable(there)
    )
    ok = ok and bool(there)
    found = ", ".join(sorted({program.split("-")[1] for program in there})) or "not installed"
    return Check("iptables", ok, found, None if ok else "apt-get install iptables")


def _usable(there: list[str]) -> set[str]:
    return {program.split("-")[1] for program in there}


def _backend() -> Check:
    """Where rules live now; rules of both backends filter, but neither shows the other's."""
    try:
        holders = [
            backend
            for backend in (kernel.NFT, kernel.LEGACY)
            if any(
                line.startswith("-A ")
                for family in FAMILIES
                for line in kernel.saved(backend, family).splitlines()
            )
        ]
        chosen = kernel.find_backend(kernel.AUTO)
    except NetwatchError as error:
        return Check("iptables backend", False, error.message, error.hint)
    if len(holders) > 1:
        return Check(
            "iptables backend",
            False,
            f"rules in nft and in legacy; the runtime's are in {chosen}",
            "move all rules to one: update-alternatives --config iptables, then restart Docker",
            needed=False,
        )
    return Check("iptables backend", True, f"{chosen} (rules in: {', '.join(holders) or 'none'})")


def _writer() -> Check:
    """What writes rules, and whether it can write where they live."""
    try:
        name = load().writer
        backend = kernel.find_backend(kernel.AUTO)
        writers.writer_of(backend, name)
    except NetwatchError as error:
        return Check("writer of rules", False, error.message, error.hint)
    if name == writers.RESTORE:
        return Check("writer of rules", True, f"iptables-{backend}-restore")
    if backend != kernel.LEGACY:
        found = f"{name} writes legacy tables only: iptables-{backend}-restore is used"
        return Check("writer of rules", False, found, "set writer to restore", needed=False)
    there = writers.installed()
    found = name if there else f"{name} is not installed"
    return Check("writer of rules", there, found, None if there else writers.MISSING)


def _ipset() -> Check:
    ok = commands.available("ipset")
    fix = None if ok else "apt-get install ipset"
    return Check("ipset", ok, "installed" if ok else "not installed", fix)


def set_types() -> tuple[str, ...]:
    """The set types that the rules need."""
    used = {kind for kind, _ in KINDS.values()}
    return tuple(sorted(used | {"hash:ip", "hash:net", "hash:net,iface"}))


def _set_types() -> Check:
    lacking = [kind for kind in set_types() if not _knows_type(kind)]
    fix = "use a kernel with the modules ip_set and ip_set_hash_*" if lacking else None
    found = f"lacks {', '.join(lacking)}" if lacking else ", ".join(set_types())
    return Check("set types", not lacking, found, fix)


def _knows_type(kind: str) -> bool:
    body = (
        netlink.attribute(PROTOCOL_ATTRIBUTE, bytes([PROTOCOL]))
        + netlink.attribute(TYPE_NAME, kind.encode() + b"\0")
        + netlink.attribute(FAMILY_ATTRIBUTE, bytes([socket.AF_INET]))
    )
    request = netlink.message(IPSET << 8 | TYPE, 0, socket.AF_INET, body)
    try:
        return netlink.send(request) == 0
    except OSError:
        return False


def _nftables() -> Check:
    ok = commands.available("nft")
    fix = None if ok else "apt-get install nftables"
    return Check("nftables", ok, "installed" if ok else "not installed", fix, needed=False)


def _bridges() -> Check:
    """Whether ports of bridges can be held to their owners' addresses."""
    ok = nftables.able()
    fix = None if ok else "use a kernel with nf_tables_bridge, and run netwatch as root"
    found = "possible" if ok else "not possible: workloads can forge addresses"
    return Check("anti-spoofing", ok, found, fix, needed=False)


def _conntrack() -> Check:
    place = Path("/proc/sys/net/netfilter")
    try:
        used, most = (
            int((place / f"nf_conntrack_{name}").read_text()) for name in ("count", "max")
        )
    except (OSError, ValueError):
        return Check("conntrack", False, "not loaded", "modprobe nf_conntrack")
    told = f"{used} of {most} connections"
    if most and used >= most:  # 0: no limit
        fix = f"sysctl net.netfilter.nf_conntrack_max={4 * most}"
        return Check("conntrack", False, f"full: {told}; new ones are dropped", fix)
    return Check("conntrack", True, told)


def _accounting() -> Check:
    try:
        value = Path("/proc/sys/net/netfilter/nf_conntrack_acct").read_text().strip()
    except OSError:
        value = "unknown"
    ok = value == "1"
    fix = None if ok else "sysctl net.netfilter.nf_conntrack_acct=1 (only capture=conntrack)"
    return Check("conntrack accounting", ok, {"0": "off", "1": "on"}.get(value, value), fix, False)


def _docker(path: str) -> Check:
    """Whether the Engine API answers a ping within two seconds."""
    if not Path(path).exists():
        return Check("docker", False, f"no socket at {path}", "start Docker", needed=False)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(SOCKET_DEADLINE_S)
            link.connect(path)
            link.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = link.recv(64)
    except OSError as error:
        why = error.strerror or "no answer in time"
        return Check("docker", False, f"{path}: {why}", "systemctl restart docker", needed=False)
    ok = b" 200 " in answer.split(b"\r\n", 1)[0]
    fix = None if ok else "systemctl restart docker"
    return Check("docker", ok, "answers" if ok else "answers wrongly", fix, needed=False)
