"""Signed as the Standard Webhooks specification says, and sent to nobody who was not asked for."""

from __future__ import annotations

import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from netwatch.controller import webhook
from netwatch.model.errors import InvalidDocument

BODY = json.dumps({"type": "alert.opened", "data": {"id": "al_1"}}).encode()


def test_the_reference_library_verifies_what_we_sign() -> None:
    secret = webhook.make_secret()
    headers = webhook.signed("msg_1", int(time.time_ns() // 10**9), BODY, secret=secret)
    assert Webhook(secret).verify(BODY, headers)["type"] == "alert.opened"
    for body, key in ((BODY + b" ", secret), (BODY, webhook.make_secret())):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)


def test_the_signature_is_the_example_of_the_specification() -> None:
    """The known answer of the reference implementations."""
    headers = webhook.signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "whsec_c2hvcnQ=", "ü"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(InvalidDocument):
        webhook.check("https://192.0.2.1/", allow_private=True, secret=secret)


NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_way_of_writing_a_private_address_passes(address: str) -> None:
    """Judged by what the name resolves to, so no spelling matters; saved or sent alike."""
    with pytest.raises(InvalidDocument):
        webhook.check("http://name/", allow_private=False, resolve=lambda host, port: [address])
    message = webhook.Message("http://name/", {}, BODY, allow_private=False)
    answer = webhook.post(message, resolve=lambda host, port: [address])
    assert answer.status is None and "not public" in (answer.problem or "")


@pytest.mark.parametrize(
    "host", ["2130706433", "0177.0.0.1", "0x7f.1", "127.1", "[::ffff:7f00:1]", "[::1]"]
)
def test_decimal_octal_and_short_forms_are_read_as_the_system_reads_them(host: str) -> None:
    with pytest.raises(InvalidDocument):
        webhook.check(f"http://{host}/", allow_private=False)


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(InvalidDocument):
        webhook.check(
            "http://name/", allow_private=False, resolve=lambda host, port: ["9.9.9.9", "10.0.0.1"]
        )


@pytest.mark.parametrize("address", ["9.9.9.9", "2620:fe::fe"])
def test_public_addresses_pass(address: str) -> None:
    webhook.check("https://name/x?y=1", allow_private=False, resolve=lambda host, port: [address])


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "fd00::1"])
def test_private_addresses_pass_where_the_operator_says_so(address: str) -> None:
    webhook.check("http://name/", allow_private=True, resolve=lambda host, port: [address])


@pytest.mark.parametrize(
    "address",
    ["224.0.0.1", "ff02::1", "0.0.0.0", "255.255.255.255", "::ffff:224.0.0.1", "::ffff:0.0.0.0"],
)
def test_what_is_no_single_host_never_passes(address: str) -> None:
    with pytest.raises(InvalidDocument):
        webhook.check("http://name/", allow_private=True, resolve=lambda host, port: [address])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "alerts.example.org",
        "ftp://192.0.2.1/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://user:word@192.0.2.1/",
        "http://192.0.2.1:99999/",
        "http://192.0.2.1/\r\nx: y",
        "http://[::1",
        "http://192.0.2.1/" + "x" * 3_000,
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidDocument):
        webhook.check(url, allow_private=True, resolve=lambda host, port: ["192.0.2.1"])
    answer = webhook.post(webhook.Message(url, {}, BODY, allow_private=True))
    assert answer.status is None and answer.problem
