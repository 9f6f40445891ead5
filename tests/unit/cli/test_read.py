"""`netwatch read` as people and programs call it."""

from __future__ import annotations

import csv
import io
import json
import struct

import duckdb
import pytest
from click.testing import CliRunner

from netwatch.cli.read import read
from netwatch.model.errors import InvalidDocument, NetwatchError, UsageError
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
        "hassh": None,
        "hassh_server": None,
        "ech": None,
    },
}


def call(*arguments: str):
    return CliRunner().invoke(read, arguments)


def hello(name: str) -> bytes:
    """A record with a ClientHello for a server of this name."""
    sni = struct.pack(">HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name.encode()
    body = b"\x03\x03" + bytes(33) + b"\x00\x02\x13\x01\x01\x00"
    body += struct.pack(">H", len(sni)) + sni
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


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


def test_one_file_that_can_not_be_read_does_not_stop_the_others(capture, tmp_path):
    bad = tmp_path / "bad.pcap"
    bad.write_bytes(b"no capture at all")
    result = call("--json", str(capture), str(bad), str(tmp_path / "absent"), str(capture))
    assert [json.loads(line) for line in result.stdout.splitlines()] == [LINE, LINE]
    assert result.exit_code == 1
    assert str(bad) in result.stderr and "absent" in result.stderr


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(
            {"identity": "h/shop/web", "addresses": ["198.18.0.2/24"]}, id="netwatch workloads"
        ),
        pytest.param(
            {"host": "h", "namespace": "shop", "name": "web", "addresses": ["198.18.0.2"]},
            id="a world",
        ),
    ],
)
def test_workloads_name_addresses(capture, tmp_path, listed):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"workloads": [listed]}))
    line = json.loads(call("--json", "--workloads", str(names), str(capture)).stdout)
    assert line["server"] == {"address": "198.18.0.2", "port": 80, "workload": "h/shop/web"}
    assert line["client"]["workload"] is None
    assert "h/shop/web:80" in call("--workloads", str(names), str(capture)).stdout


def test_an_address_of_several_workloads_names_none(capture, tmp_path):
    names = tmp_path / "names.json"
    rows = [{"namespace": "a", "name": name, "addresses": ["198.18.0.2"]} for name in "xy"]
    names.write_text(json.dumps({"workloads": rows}))
    line = json.loads(call("--json", "--workloads", str(names), str(capture)).stdout)
    assert line["server"]["workload"] is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workloads": [{}]}'])
def test_what_is_no_list_of_workloads_is_refused(capture, tmp_path, text):
    names = tmp_path / "names.json"
    names.write_text(text)
    assert isinstance(call("--workloads", str(names), str(capture)).exception, InvalidDocument)


def test_csv_has_every_key_of_the_json_in_columns(capture):
    (row,) = csv.DictReader(io.StringIO(call("--format", "csv", str(capture)).stdout))
    assert (row["client_address"], row["server_port"], row["tunnel"]) == ("198.18.0.1", "80", "")
    assert (row["encryption_status"], row["encryption_certificate_issuer"]) == ("plaintext", "")


def test_no_cell_of_csv_is_a_formula(tmp_path):
    """A name that somebody sends to be opened in a spreadsheet."""
    path = tmp_path / "a.pcap"
    client = hello("=cmd|'/c calc'!A0")
    path.write_bytes(pcap([ethernet(ip("198.18.0.1", "198.18.0.2", 6, tcp(1, 2, 24, client)))]))
    (row,) = csv.DictReader(io.StringIO(call("--format", "csv", str(path)).stdout))
    assert row["encryption_server_name"] == "'=cmd|'/c calc'!A0"


def test_parquet_has_the_columns_of_the_json(capture, tmp_path):
    target = tmp_path / "out.parquet"
    result = call("--format", "parquet", "--write", str(target), str(capture))
    assert (result.exit_code, result.stdout) == (0, "")
    columns = "client.address, server.port, client_bytes, encryption.status"
    found = duckdb.sql(f"SELECT {columns} FROM '{target}'").fetchall()
    assert found == [("198.18.0.1", 80, 98, "plaintext")]


@pytest.mark.parametrize(
    "arguments", [["--format", "parquet"], ["--json", "--format", "csv"], ["--write", "x"]]
)
def test_options_that_contradict_each_other_are_refused(capture, arguments):
    assert isinstance(call(*arguments, str(capture)).exception, UsageError)


def test_a_folder_is_no_capture(tmp_path):
    assert isinstance(call(str(tmp_path)).exception, NetwatchError)
