"""`netwatch read` as people and programs call it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from netwatch.cli.read import read
from netwatch.model.errors import NetwatchError
from tests.unit.capture.files.captures import ethernet, ip, pcap, tcp

FRAMES = [
    ethernet(ip("198.18.0.1", "198.18.0.2", 6, tcp(4000, 80, 2, seq=9))),
    ethernet(
        ip("198.18.0.1", "198.18.0.2", 6, tcp(4000, 80, 24, b"GET / HTTP/1.1\r\n\r\n", seq=10))
    ),
]
LINE = {
    "client": {"address": "198.18.0.1", "port": 4000},
    "server": {"address": "198.18.0.2", "port": 80},
    "protocol": "tcp",
    "vlan": [],
    "tunnel": [],
    "client_packets": 2,
    "server_packets": 0,
    "client_bytes": 98,
    "server_bytes": 0,
    "client_payload_bytes": 18,
    "server_payload_bytes": 0,
    "first_seen": "2023-11-14T22:13:20.000001Z",
    "last_seen": "2023-11-14T22:13:20.000002Z",
    "state": "unanswered",
    "application": "http",
    "direction": "seen",
    "encryption": {
        "status": "plaintext",
        "proof": "content",
        "protocol": None,
        "version": None,
        "cipher": None,
        "group": None,
        "server_name": None,
        "alpn_offered": [],
        "alpn": None,
        "ja3": None,
        "ja3s": None,
        "ja4": None,
        "certificate": None,
    },
}


def call(*arguments: str):
    return CliRunner().invoke(read, arguments)


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(FRAMES))
    return path


def test_json_is_one_flow_a_line_with_every_key(capture):
    result = call("--json", str(capture), str(capture))
    assert [json.loads(line) for line in result.stdout.splitlines()] == [LINE, LINE]
    assert (result.exit_code, result.stderr) == (0, "")


def test_people_get_a_table(capture):
    heading, line = call(str(capture)).stdout.splitlines()
    assert heading.split()[:3] == ["FIRST", "SEEN", "CLIENT"]
    assert "198.18.0.1:4000" in line and "plaintext" in line


def test_a_damaged_capture_is_read_up_to_the_damage(capture):
    capture.write_bytes(pcap(FRAMES)[:-3])
    result = call("--json", str(capture))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["client_packets"] == 1
    assert result.stderr.count("\n") == 1
    assert "damaged" in result.stderr


@pytest.mark.parametrize("content", [None, b"", b"no capture at all"])
def test_nothing_readable_is_an_error_of_one_sentence(tmp_path, content):
    path = tmp_path / "x.pcap"
    if content is not None:
        path.write_bytes(content)
    result = call(str(path))
    assert isinstance(result.exception, NetwatchError)
    assert result.exception.exit_code == 1
    assert str(path) in str(result.exception)


def test_a_folder_is_no_capture(tmp_path):
    assert isinstance(call(str(tmp_path)).exception, NetwatchError)
