"""`netwatch capture` on a lab host: exactly what one workload said, in a file that holds up."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import Said, assert_one_error, assert_one_sentence, run_in, run_netwatch
from tests.netns.small_shop import HOST, LAB

pytestmark = pytest.mark.netns

WEB, API, ROGUE = "198.18.1.10", "198.18.1.11", "198.18.1.12"
# 50 TCP and 30 UDP conversations with the first address, 20 TCP with the second, 7 with the third.
CALLS = """
import socket, sys
def call(address, kind, count, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(count):
        with socket.socket(family, kind) as link:
            link.settimeout(5)
            link.connect((address, port))
            link.send(b"0123456789")
            assert link.recv(99)
call("198.18.1.11", socket.SOCK_STREAM, 50, 80)
call("198.18.1.11", socket.SOCK_DGRAM, 30, 53)
call("2001:db8:1::11", socket.SOCK_STREAM, 20, 80)
call("198.18.1.12", socket.SOCK_STREAM, 7, 81)
"""
# Some megabytes, one way there and back.
FLOOD = """
import socket
with socket.create_connection(("198.18.1.11", 80), 5) as link:
    for _ in range(100):
        link.sendall(bytes(30_000))
        left = 30_000
        while left:
            left -= len(link.recv(65536))
"""
# One datagram in a frame with a VLAN tag, which the kernel takes off before anybody looks.
TAGGED = """
import socket, struct
udp = struct.pack(">HHHH", 4000, 53, 12, 0) + b"tags"
ends = socket.inet_aton("198.18.1.10") + socket.inet_aton("198.18.1.11")
ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + ends
names = [name for _, name in socket.if_nameindex() if name != "lo"]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
    link.bind((names[0], 0))
    ethernet = b"\\xff" * 6 + bytes([2, 0, 0, 0, 0, 1]) + struct.pack(">HHH", 0x8100, 7, 0x800)
    link.send(ethernet + ip + udp)
"""
EVERYTHING = {
    ("198.18.1.11", 80, "tcp"): 50,
    ("198.18.1.11", 53, "udp"): 30,
    ("2001:db8:1::11", 80, "tcp"): 20,
    ("198.18.1.12", 81, "tcp"): 7,
}
STARTS_WITHIN_S = 20


@pytest.fixture(scope="module", autouse=True)
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The small shop, once."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB)
    said = run_netwatch("lab", "up", str(file))
    assert said.code == 0, said.err
    yield
    assert run_netwatch("lab", "down").code == 0


@dataclass
class Capture:
    """A running `netwatch capture` on the lab host; `end` stops it by Ctrl-C."""

    state: Path
    process: subprocess.Popen[str]

    def end(self, *, interrupt: bool = True) -> Said:
        if interrupt:
            self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return Said(self.process.returncode, out, err)


def verb(state: Path, *arguments: str, **environment: str) -> Said:
    """`netwatch …` on the lab host, with this state folder."""
    return run_netwatch(
        *arguments, through=("ip", "netns", "exec", HOST), NETWATCH_STATE=str(state), **environment
    )


def capture(state: Path, *arguments: str) -> Capture:
    """Returns once packets are captured."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", HOST, sys.executable, "-m", "netwatch", "capture", *arguments],
        env=os.environ | {"NETWATCH_STATE": str(state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert select.select([process.stderr], [], [], STARTS_WITHIN_S)[0], "it does not begin"
    begin = process.stderr.readline()
    assert begin.startswith(("capturing ", "watching ")), begin + process.stderr.read()
    return Capture(state, process)


def in_web(program: str) -> None:
    said = run_in("web", sys.executable, "-c", program)
    assert said.code == 0, said.err


def flows(file: Path) -> list[dict[str, Any]]:
    """The TCP and UDP flows that `netwatch read` finds."""
    said = run_netwatch("read", str(file), "--json")
    assert said.code == 0, said.err
    assert said.err == ""  # nothing is damaged, nothing lost
    found = [json.loads(line) for line in said.out.splitlines()]
    return [flow for flow in found if flow["protocol"] in ("tcp", "udp")]


def counted(file: Path) -> dict[tuple[str, int, str], int]:
    """How many flows there are to each server."""
    return Counter(
        (flow["server"]["address"], flow["server"]["port"], flow["protocol"])
        for flow in flows(file)
    )


def test_a_file_holds_exactly_the_conversations_of_the_workload(tmp_path: Path) -> None:
    """Both directions of each, none of another's, and all of it is in the audit trail."""
    file = tmp_path / "web.pcap"
    running = capture(tmp_path, "web", "-w", str(file), "--json")
    in_web(CALLS)
    run_netwatch("lab", "connect", "rogue", "api", "80")  # not web's
    said = running.end()

    assert said.code == 0, said.err
    answer = said.json
    assert (answer["ok"], answer["ended"], answer["dropped"]) == (True, "interrupted", 0)
    assert answer["workload"] == "a/shop/web"
    assert counted(file) == EVERYTHING
    found = flows(file)
    assert all(f["client_packets"] and f["server_packets"] for f in found)
    assert {f["client_payload_bytes"] for f in found} == {10}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size == answer["bytes"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == answer["sha256"]
    trail = verb(tmp_path, "audit", "--json").json["entries"]
    assert [line["action"] for line in trail] == ["capture.started", "capture.ended"]
    assert {line["subject"] for line in trail} == {"a/shop/web"}
    assert {line["actor"]["uid"] for line in trail} == {0}
    assert trail[1]["details"]["sha256"] == answer["sha256"]
    assert trail[1]["number"] == answer["audit"] == 2


def test_a_filter_is_honoured_and_a_snap_length_too(tmp_path: Path) -> None:
    """Only what it describes is in the file; lengths are the wire's although bytes are cut."""
    file = tmp_path / "web.pcap"
    words = "tcp port 81 and host 198.18.1.12"
    running = capture(
        tmp_path, "web", "-w", str(file), "--filter", words, "--snap", "64", "--json"
    )
    in_web(CALLS)
    answer = running.end().json

    assert counted(file) == {("198.18.1.12", 81, "tcp"): 7}
    assert {flow["client_payload_bytes"] for flow in flows(file)} == {10}
    assert answer["filter"] == words
    assert answer["bytes"] <= 24 + answer["packets"] * (16 + 64)


def test_a_vlan_tag_is_in_the_file(tmp_path: Path) -> None:
    """The frame is as it was on the wire, its length too."""
    file = tmp_path / "web.pcap"
    running = capture(tmp_path, "web", "-w", str(file), "--json")
    in_web(TAGGED)
    running.end()

    (flow,) = flows(file)
    assert (flow["vlan"], flow["client_payload_bytes"]) == ([7], 4)
    assert flow["server"] == {"address": "198.18.1.11", "port": 53}


def test_a_file_ends_at_its_limit_of_bytes_and_can_be_read(tmp_path: Path) -> None:
    """Whole packets only; the capture ends by itself."""
    file = tmp_path / "web.pcap"
    running = capture(tmp_path, "web", "-w", str(file), "--bytes", "300000", "--json")
    in_web(FLOOD)
    answer = running.end(interrupt=False).json

    assert answer["ended"] == "bytes"
    assert 200_000 < file.stat().st_size <= 300_000
    assert counted(file) == {("198.18.1.11", 80, "tcp"): 1}


def test_a_full_disk_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    """An error, exit code 1, and the audit trail tells what there is."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], check=True)
    try:
        file = small / "web.pcap"
        running = capture(tmp_path, "web", "-w", str(file), "--json")
        in_web(FLOOD)
        said = running.end(interrupt=False)
        assert said.code == 1
        assert said.json["error"]["code"] == "disk-full"
        assert counted(file) == {("198.18.1.11", 80, "tcp"): 1}
        ended = verb(tmp_path, "audit", "--json").json["entries"][-1]
        assert ended["details"]["ended"] == "disk-full"
        assert ended["details"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_packets_go_to_a_pipe(tmp_path: Path) -> None:
    """`-w -` writes the same bytes to stdout, and nothing else."""
    command = [sys.executable, "-m", "netwatch", "capture", "web", "-w", "-", "--seconds", "0.3"]
    done = subprocess.run(
        ["ip", "netns", "exec", HOST, *command],
        env=os.environ | {"NETWATCH_STATE": str(tmp_path)},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stdout[:4] == b"\x4d\x3c\xb2\xa1"
    assert hashlib.sha256(done.stdout).hexdigest() in done.stderr.decode()


def test_an_old_file_stays_unless_forced(tmp_path: Path) -> None:
    """By force it is replaced; either ends with its time."""
    file = tmp_path / "web.pcap"
    file.write_text("old")
    asked = ("capture", "web", "-w", str(file), "--seconds", "0.3", "--json")
    assert_one_error(verb(tmp_path, *asked), 1, "is there already")
    assert file.read_text() == "old"
    said = verb(tmp_path, *asked, "--force")
    assert (said.code, said.json["ended"]) == (0, "time")
    assert 0.3 <= said.json["seconds"] < 0.9
    assert run_netwatch("read", str(file)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(("nobody", "-w", "F"), 1, ("nobody", "api"), id="no such workload"),
        pytest.param(("web",), 2, ("-w FILE", "--summary"), id="nothing to do with it"),
        pytest.param(("web", "-w", "F", "--summary"), 2, ("--summary",), id="both"),
        pytest.param(("web", "-w", "F", "--seconds", "99999999"), 2, ("86400",), id="too long"),
        pytest.param(
            ("web", "-w", "F", "--bytes", "99999999999999"), 2, ("bytes",), id="too much"
        ),
        pytest.param(("web", "-w", "F", "--filter", "prot 80"), 1, ("prot 80",), id="no filter"),
        pytest.param(("web", "-w", "/nowhere/F"), 1, ("/nowhere/F",), id="no such folder"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    """And no file and no line of the audit trail is left behind."""
    given = [str(tmp_path / "F") if word == "F" else word for word in arguments]
    assert_one_sentence(verb(tmp_path, "capture", *given), code, *words)
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_audited_is_not_captured(tmp_path: Path) -> None:
    """The trail is a folder here, so no line can be added."""
    (tmp_path / "audit.jsonl").mkdir()
    said = verb(tmp_path, "capture", "web", "-w", str(tmp_path / "F"), "--seconds", "0.1")
    assert_one_sentence(said, 1, "audit.jsonl can not be written")
    assert not (tmp_path / "F").exists()


def test_an_edited_trail_is_found_out(tmp_path: Path) -> None:
    """`audit verify` ends with 0 before and with 3 after, and names the line."""
    said = verb(tmp_path, "capture", "web", "-w", str(tmp_path / "F"), "--seconds=0.1")
    assert said.code == 0, said.err
    whole = verb(tmp_path, "audit", "verify", "--json")
    assert (whole.code, whole.json["entries"], whole.json["broken"]) == (0, 2, None)

    trail = tmp_path / "audit.jsonl"
    trail.write_text(trail.read_text().replace('"dropped":0', '"dropped":1', 1))

    broken = verb(tmp_path, "audit", "verify", "--json")
    assert (broken.code, broken.json["ok"], broken.json["broken"]["line"]) == (3, False, 2)
    assert_one_sentence(verb(tmp_path, "audit", "verify"), 3, "line 2", "was changed")


def test_a_summary_tells_each_conversation_with_its_peer(tmp_path: Path) -> None:
    """As JSON lines for a program: peers by name, directions, ports, exact counts, no losses."""
    running = capture(tmp_path, "web", "--summary", "--json")
    in_web(CALLS)
    run_netwatch("lab", "connect", "rogue", "web", "80")
    said = running.end()

    assert said.code == 0, said.err
    last = json.loads(said.out.splitlines()[-1])
    told = {
        (c["peer"], c["direction"], c["port"], c["protocol"]): c["connections"]
        for c in last["conversations"]
        if c["protocol"] in ("tcp", "udp")
    }
    assert told == {
        ("shop/api", "out", 80, "tcp"): 70,
        ("shop/api", "out", 53, "udp"): 30,
        ("lab/rogue", "out", 81, "tcp"): 7,
        ("lab/rogue", "in", 80, "tcp"): 1,
    }
    assert last["losses"] == {"dropped": 0, "forgotten": 0}
    trail = verb(tmp_path, "audit", "--json").json["entries"]
    assert [line["action"] for line in trail] == ["summary.started", "summary.ended"]
