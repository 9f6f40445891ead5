"""Sensors come and go: what they attach, forget, step down to and leave behind."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time

import pytest

from netwatch.capture.ebpf import EbpfSensor
from netwatch.capture.libbpf import library
from netwatch.kernel.commands import check, run, start
from netwatch.kernel.namespaces import inside
from tests.netns.bridges import (
    HOST,
    METHODS,
    A,
    B,
    Net,
    answer_twice,
    connect,
    ip,
    lost,
    of,
    serving,
    settled,
    udp,
    until,
    wait_until,
    watching,
)

pytestmark = pytest.mark.netns


def attached(net: Net, interface: int, *, point: int) -> int:
    """How many tcx programs an interface has (BPF_PROG_QUERY)."""

    def query() -> int:
        count = ctypes.c_uint32(8)
        programs = (ctypes.c_uint32 * 8)()
        result = library().bpf_prog_query(interface, point, 0, None, programs, ctypes.byref(count))
        return count.value if result == 0 else 0

    return inside(net.path, query)


def filters(interface: str) -> str:
    return "".join(
        check(["tc", "-n", HOST, "filter", "show", "dev", interface, point])
        for point in ("ingress", "egress")
    )


def test_closing_leaves_nothing(net: Net) -> None:
    """No program, no filter and no qdisc; a qdisc that was there before stays."""
    check(["tc", "-n", HOST, "qdisc", "add", "dev", "hnwt-b", "clsact"])
    before = check(["tc", "-n", HOST, "qdisc", "show"])
    with watching(net, "clsact"):
        assert "netwatch_in" in filters("hnwt-a")
        assert "netwatch_out" in filters("hnwt-b")
    with watching(net, "tcx"):
        assert attached(net, net.interface["nwt-a"], point=46) == 1
    assert attached(net, net.interface["nwt-a"], point=46) == 0
    assert filters("hnwt-a") == filters("hnwt-b") == ""
    assert check(["tc", "-n", HOST, "qdisc", "show"]) == before
    check(["tc", "-n", HOST, "qdisc", "del", "dev", "hnwt-b", "clsact"])


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_sensor_leaves_nothing_after_the_next_start(net: Net, method: str) -> None:
    """tcx programs are gone at once; clsact filters when the next sensor starts."""
    interface = net.interface["nwt-a"]
    script = (
        "import sys, time; from pathlib import Path;"
        "from netwatch.capture.open import open_sensor;"
        "s = open_sensor(method=sys.argv[1], namespace=Path(sys.argv[2]));"
        "s.watch([int(sys.argv[3])], []); time.sleep(60)"
    )

    def there() -> bool:
        return bool(attached(net, interface, point=46) or filters("hnwt-a"))

    child = start([sys.executable, "-c", script, method, str(net.path), str(interface)])
    wait_until(there)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    if method == "clsact":
        assert "netwatch_in" in filters("hnwt-a")
        EbpfSensor("tcx", namespace=net.path).close()
        check(["tc", "-n", HOST, "qdisc", "del", "dev", "hnwt-a", "clsact"])
    wait_until(lambda: not there())


@pytest.mark.parametrize("method", METHODS)
def test_the_watched_interfaces_follow_the_call(net: Net, method: str) -> None:
    """What vanished, or never was, is no error; what is not named any longer is let go."""
    with watching(net, method) as sensor:
        ip("link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
        index = inside(net.path, lambda: socket.if_nametoindex("gone0"))
        sensor.watch([index, 999_999], net.uplinks)
        assert sensor.state().interfaces == ("gone0", "hnwt-out")
        ip("link", "del", "gone0")
        sensor.watch([index, net.interface["nwt-a"]], [])
        assert sensor.state().interfaces == ("hnwt-a",)
        sensor.watch([], [])
        assert sensor.state().interfaces == ()


def link_of(program: int, interface: int) -> int:
    """The descriptor of the tcx link of a program (by descriptor) on an interface."""
    wanted = id_of(program)
    number = ctypes.c_uint32()
    while library().bpf_link_get_next_id(number.value, ctypes.byref(number)) == 0:
        link = library().bpf_link_get_fd_by_id(number.value)
        raw = info(link) if link >= 0 else bytes(20)
        if (raw[8:12], raw[16:20]) == (wanted, interface.to_bytes(4, sys.byteorder)):
            return int(link)
        os.close(link)
    raise AssertionError("there is no such link")


def info(descriptor: int) -> bytes:
    found, size = ctypes.create_string_buffer(80), ctypes.c_uint32(80)
    assert library().bpf_obj_get_info_by_fd(descriptor, found, ctypes.byref(size)) == 0
    return found.raw


def id_of(program: int) -> bytes:
    return info(program)[4:8]  # struct bpf_prog_info.id


@pytest.mark.parametrize("method", METHODS)
def test_what_somebody_else_detached_is_noticed_counted_and_attached_again(
    net: Net, method: str
) -> None:
    """A link of the kernel is detached, a qdisc deleted with all that is in it: once each."""
    interface = net.interface["nwt-a"]
    sensor = EbpfSensor(method, namespace=net.path, entries=4096, ring_bytes=1 << 20, look_s=0)
    try:
        for _ in range(2):
            sensor.watch([interface, net.interface["nwt-b"]], [])
        assert "capture detached" not in lost(sensor.read())
        if method == "tcx":
            link = link_of(sensor._programs[0][1], interface)
            assert library().bpf_link_detach(link) == 0
            os.close(link)
        else:
            check(["tc", "-n", HOST, "qdisc", "del", "dev", "hnwt-a", "clsact"])
        for _ in range(2):
            sensor.watch([interface, net.interface["nwt-b"]], [])
        batch = sensor.read()
        assert lost(batch) == {"capture detached": 1}
        assert "another program detached capture from hnwt-a" in str(sensor.state().problem)
        assert sensor.state().interfaces == ("hnwt-a", "hnwt-b")
        with udp("nwt-a", A) as client, udp("nwt-b", B, 5016):
            client.sendto(b"x", (B, 5016))
            until(sensor, settled(5016))
    finally:
        sensor.close()


def test_a_namespace_without_conntrack_rules_is_no_problem(net: Net) -> None:
    with watching(net, "tcx") as sensor:
        assert sensor.state().problem is None
        assert "conntrack-overrun" not in lost(sensor.read())


def test_what_closed_or_fell_idle_is_forgotten_after_it_was_reported(net: Net) -> None:
    """Closed connections 5 s after their last packet, others 300 s: no loss, but an expiry."""
    second = 10**9
    with watching(net, "tcx") as sensor, serving("nwt-b", B, 8006, answer_twice):
        with connect("nwt-a", B, 8006) as client, udp("nwt-a", A) as other, udp("nwt-b", B, 5015):
            other.sendto(b"x", (B, 5015))
            client.sendall(b"question!!")
            assert client.recv(100)
            until(sensor, settled(8006))
        until(sensor, settled(8006))
        flows, now = sensor.flows, time.monotonic_ns()
        for wait, closed, idle in ((4, 1, 1), (6, 1, 1), (7, 0, 1), (301, 0, 1), (302, 0, 0)):
            entries = flows.read(now + wait * second, 0)
            assert (len(of(entries, 8006)), len(of(entries, 5015))) == (closed, idle), wait
        assert flows.expired >= 2
        assert flows.losses()["evicted"] == flows.losses()["cut-short"] == 0


CHILD = """
from netwatch.capture.open import open_sensor
sensor = open_sensor()
state = sensor.state()
sensor.close()
print(state.method, state.problem, sep="|")
"""


@pytest.mark.parametrize(
    ("capabilities", "method", "problem"),
    [
        pytest.param("+bpf,+net_admin", "tcx", "None", id="no more than is needed"),
        pytest.param("+net_admin", "conntrack", "CAP_BPF|not permitted", id="without CAP_BPF"),
    ],
)
def test_it_steps_down_to_what_the_rights_allow_and_says_why(
    capabilities: str, method: str, problem: str
) -> None:
    """Auto takes the best that works; CAP_BPF and CAP_NET_ADMIN are enough for the best."""
    outcome = run(["setpriv", f"--bounding-set=-all,{capabilities}", sys.executable, "-c", CHILD])
    assert outcome.code == 0, outcome.err
    said = outcome.out.strip().split("|")
    assert said[0] == method
    assert any(part in said[1] for part in problem.split("|")), said
