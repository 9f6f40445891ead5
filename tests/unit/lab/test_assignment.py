"""What each process of a lab serves and calls."""

from __future__ import annotations

import json
import ssl
from dataclasses import asdict
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from netwatch.lab.assignment import assign
from netwatch.lab.document import load, read
from netwatch.lab.orders import Calling, Orders, decode
from netwatch.lab.plan import place
from netwatch.lab.servers import server_context
from netwatch.model.errors import InvalidDocument
from netwatch.model.times import nanoseconds

SHOP = Path(__file__).parents[3] / "netwatch" / "lab" / "shop.yaml"
NOW = nanoseconds("2026-11-22T02:20:00Z")

LAB = """\
hosts: [a]
internet: {listen: [{port: 443, serve: https}]}
workloads:
  - name: server
    host: a
    listen:
      - {port: 443, serve: https, tls: "1.2"}
      - {port: 80, serve: http}
      - {port: 7}
      - {port: 53, protocol: udp}
      - {port: 6379, serve: redis}
  - {name: client, host: a, calls: [CALL]}
"""


def orders(text: str) -> dict[str, Orders]:
    given = assign(place(read(text, file="lab.yaml")), now=NOW, file="lab.yaml")
    return {one.name: one for one in given}


def calling(call: str) -> Calling:
    (one,) = orders(LAB.replace("CALL", call))["client"].calling
    return one


@pytest.mark.parametrize(
    ("call", "speak", "tls", "server_name"),
    [
        pytest.param("{to: server, port: 443}", "https", "1.2", "server", id="https"),
        pytest.param("{to: server, port: 80}", "http", "1.3", "server", id="http"),
        pytest.param("{to: server, port: 7}", "tcp", "1.3", "server", id="echo"),
        pytest.param("{to: server, port: 53}", "udp", "1.3", "server", id="udp"),
        pytest.param("{to: server, port: 6379}", "redis", "1.3", "server", id="redis"),
        pytest.param("{to: server, port: 6379, with: tcp}", "redis", "1.3", "server", id="tcp"),
        pytest.param("{to: server, port: 443, with: tcp}", "tcp", "1.2", "server", id="no tls"),
        pytest.param("{to: server, port: 1}", "tcp", "1.3", "server", id="nobody listens"),
        pytest.param("{to: internet, port: 443}", "https", "1.3", "internet", id="internet"),
        pytest.param("{to: 198.18.1.10, port: 443}", "tcp", "1.3", None, id="an address"),
        pytest.param(
            "{to: server, port: 443, server_name: x.test}", "https", "1.2", "x.test", id="sni"
        ),
    ],
)
def test_a_call_speaks_what_the_listener_serves(
    call: str, speak: str, tls: str, server_name: str | None
) -> None:
    """`with` overrides; TLS is the version of the server; the name asked for is that of `to`."""
    one = calling(call)
    assert (one.speak, one.tls, one.server_name) == (speak, tls, server_name)


def test_a_call_aims_at_the_address_of_its_family() -> None:
    """IPv4 unless the file says 6."""
    assert calling("{to: server, port: 80}").address == "198.18.1.10"
    assert calling("{to: server, port: 80, family: 6}").address == "2001:db8:1::a"


def test_a_workload_with_ipv6_alone_calls_by_ipv6() -> None:
    """It could not use the other address."""
    text = LAB.replace("CALL", "{to: server, port: 80}").replace(
        "{name: client, host: a,", "{name: client, host: a, addresses: ['2001:db8:1::77'],"
    )
    assert orders(text)["client"].calling[0].address == "2001:db8:1::a"


def test_an_impossible_call_is_an_error_in_the_file() -> None:
    """The place is that of `to`."""
    text = LAB.replace("name: server\n", "name: server\n    addresses: [198.18.1.10]\n").replace(
        "CALL", "{to: server, port: 80, family: 6}"
    )
    with pytest.raises(InvalidDocument, match="client can not call server: .*no IPv6") as caught:
        orders(text)
    assert (caught.value.file, caught.value.line) == ("lab.yaml", 13)


def test_orders_survive_the_way_to_the_process() -> None:
    """JSON there, the same values here."""
    for one in assign(place(load(SHOP)), now=NOW):
        assert decode(json.loads(json.dumps(asdict(one)))) == one


def test_a_certificate_names_its_workload_and_loads() -> None:
    """Self-signed, valid now, with the name and the addresses as alternative names."""
    one = orders(LAB.replace("CALL", ""))["server"]
    pem = one.pem[one.pem.index("-----BEGIN CERTIFICATE") :]
    certificate = x509.load_pem_x509_certificate(pem.encode())
    extension = certificate.extensions.get_extension_for_oid(
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME
    ).value
    assert isinstance(extension, x509.SubjectAlternativeName)
    assert extension.get_values_for_type(x509.DNSName) == ["server"]
    addresses = extension.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["198.18.1.10", "2001:db8:1::a"]
    assert certificate.issuer == certificate.subject
    begins = int(certificate.not_valid_before_utc.timestamp())
    ends = int(certificate.not_valid_after_utc.timestamp())
    assert begins < NOW // 10**9 < ends
    context = server_context("1.2", one.pem)
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2
    assert orders(LAB.replace("CALL", ""))["client"].pem == ""
