"""Bad input ends in one clear sentence that says what to do, and nothing is half done."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netwatch.kernel.commands import check
from tests.netns.conftest import Said, assert_one_error, assert_one_sentence, run_netwatch

pytestmark = pytest.mark.netns

NO_DOCKER = {"NETWATCH_DOCKER_SOCKET": "/nowhere/docker.sock"}
LAB = "{hosts: [a], workloads: [{name: w, host: a, listen: [{port: 80, serve: echo}]}]}"
GOOD = """
apiVersion: netwatch/v1
kind: Segment
metadata: {name: w, namespace: default}
spec: {governs: {name: w}, rules: [{from: [host], ports: [80/tcp]}]}
"""
BROKEN = GOOD.replace("from:", "form:")
# The program runs as somebody else, who may still read the interpreter in root's home.
NOT_ROOT = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NOT_ROOT += tuple(f"--{of}=-all,+dac_read_search" for of in ("inh-caps", "bounding-set"))
NOT_ROOT += ("--ambient-caps=-all,+dac_read_search",)


@dataclass(frozen=True)
class Mistake:
    """A call, its exit code, the error's code, and words that its sentence must hold."""

    call: tuple[str, ...]
    exit: int
    code: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    through: tuple[str, ...] = ()


def mistake(
    call: str,
    exit: int,
    code: str,
    *words: str,
    id: str,
    through: tuple[str, ...] = (),
    **more: str,
) -> object:
    """A row of the table; `FOLDER` in the call is the test's own."""
    wrong = Mistake(tuple(call.split()), exit, code, words, tuple(more.items()), through)
    return pytest.param(wrong, id=id)


MISTAKES = [
    mistake("nonsense", 2, "usage", "nonsense", "netwatch --help", id="an unknown verb"),
    mistake("edges --nope", 2, "usage", "--nope", "netwatch --help", id="an unknown option"),
    mistake("host apply", 2, "usage", "--policies PATH", id="an option that is missing"),
    mistake("up --capture x", 2, "usage", "'tcx', 'clsact'", id="a choice that is none"),
    mistake("up --listen x", 2, "usage", "127.0.0.1:8741", id="an address that is none"),
    mistake("read FOLDER/no.pcap", 1, "error", "no.pcap", "name a pcap", id="no such capture"),
    mistake("read FOLDER", 1, "error", "directory", "name a pcap", id="a folder as capture"),
    mistake("read FOLDER/good.yaml", 1, "error", "no capture", "pcapng", id="no capture"),
    mistake("read FOLDER/empty", 1, "error", "no capture", "pcapng", id="an empty capture"),
    mistake(
        "policy check FOLDER/broken.yaml",
        1,
        "invalid-document",
        "broken.yaml:5:",
        "did you mean from?",
        id="a broken policy is checked",
    ),
    mistake(
        "host apply --policies FOLDER/broken.yaml",
        1,
        "invalid-document",
        "broken.yaml:5:",
        "did you mean from?",
        id="a broken policy is applied",
    ),
    mistake(
        "host apply --policies FOLDER/no.yaml",
        1,
        "invalid-document",
        "no.yaml",
        "check the path",
        id="no such policy",
    ),
    mistake(
        "host apply --policies FOLDER/good.yaml",
        1,
        "error",
        "/nowhere/docker.sock",
        "nothing was changed",
        id="nothing to govern",
    ),
    mistake("lab up FOLDER/no.yaml", 1, "invalid-document", "check the path", id="no lab file"),
    mistake(
        "lab up FOLDER/good.yaml", 1, "invalid-document", "apiVersion", "known: hosts", id="no lab"
    ),
    mistake("lab connect a b 80", 1, "no-lab", "netwatch lab up FILE", id="a lab that is not up"),
    mistake(
        "edges",
        4,
        "unreachable",
        "127.0.0.1:9",
        "netwatch up",
        id="a controller that does not answer",
        NETWATCH_URL="http://127.0.0.1:9",
        NETWATCH_TOKEN="x",
    ),
    mistake(
        "hosts",
        4,
        "unreachable",
        "netwatch up",
        id="no controller at all",
        NETWATCH_STATE="/nowhere",
    ),
    mistake(
        "hosts",
        1,
        "invalid-document",
        "NETWATCH_INTERVAL",
        "'often'",
        id="a setting that is no number",
        NETWATCH_INTERVAL="often",
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "broken.yaml").write_text(BROKEN)
    (tmp_path / "empty").touch()
    tmp_path.chmod(0o755)
    return tmp_path


def kernel_holds() -> tuple[str, ...]:
    """Rules and sets of this namespace, and what netwatch remembers of them."""
    rules = "".join(
        line
        for program in ("iptables-save", "ip6tables-save")
        for line in check([program]).splitlines(keepends=True)
        if line.startswith(("-A", ":"))
    )
    remembered = [p.name for p in Path("/run/netwatch").glob("enforce.*") if p.suffix != ".lock"]
    return rules, check(["ipset", "list", "-n"]), *remembered


def call(wrong: Mistake, folder: Path, *more: str) -> Said:
    arguments = [word.replace("FOLDER", str(folder)) for word in wrong.call]
    environment = NO_DOCKER | dict(wrong.environment)
    return run_netwatch(*arguments, *more, through=wrong.through, **environment)


@pytest.mark.parametrize("wrong", MISTAKES)
def test_a_mistake_is_told_and_changes_nothing(wrong: Mistake, folder: Path) -> None:
    """On stderr for people and, with --json, as one error object for programs as well."""
    before = kernel_holds(), sorted(folder.iterdir())
    told = call(wrong, folder, "--json")
    assert_one_error(told, wrong.exit, *wrong.words)
    assert told.json["error"]["code"] == wrong.code
    assert (kernel_holds(), sorted(folder.iterdir())) == before


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may read; /run is this run's own."""
    with tempfile.TemporaryDirectory(dir="/run") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param("lab up FOLDER/lab.yaml", id="lab up"),
        pytest.param("lab down", id="lab down"),
        pytest.param("demo --once", id="demo"),
        pytest.param("up --listen 127.0.0.1:0 --state /var/lib/nobodys", id="up"),
        pytest.param("host plan --policies FOLDER/good.yaml", id="host plan"),
        pytest.param("host apply --policies FOLDER/good.yaml", id="host apply"),
        pytest.param("host verify", id="host verify"),
        pytest.param("host remove", id="host remove"),
        pytest.param("host confirm", id="host confirm"),
    ],
)
def test_who_is_not_root_is_told_so(arguments: str, public: Path) -> None:
    """Before anything else goes wrong for want of rights."""
    (public / "lab.yaml").write_text(LAB)
    (public / "good.yaml").write_text(GOOD)
    words = [word.replace("FOLDER", str(public)) for word in arguments.split()]
    said = run_netwatch(*words, "--json", through=NOT_ROOT, **NO_DOCKER)
    assert said.code == 1
    assert "root" in said.err.splitlines()[-1]
    assert said.json["error"]["hint"]
    assert "Traceback" not in said.err


def test_the_doctor_says_who_is_not_root() -> None:
    said = run_netwatch("doctor", "--json", through=NOT_ROOT, **NO_DOCKER)
    assert said.code == 3
    checks = {each["name"]: each for each in said.json["checks"]}
    assert (checks["root"]["ok"], checks["root"]["fix"]) == (False, "run netwatch as root")


def a_capture(packets: int) -> bytes:
    """UDP from one port after the other, as pcap with microseconds."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    ends = socket.inet_aton("198.18.0.1") + socket.inet_aton("198.18.0.2")
    for number in range(packets):
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 32, number, 0, 64, 17, 0) + ends
        packet += struct.pack("!HHHH", 1000 + number, 53, 12, 0) + b"data"
        data += struct.pack("<IIII", 1_700_000_000 + number, 0, 32, 32) + packet
    return data


@pytest.mark.parametrize("cut", [pytest.param(1, id="in data"), pytest.param(40, id="in a head")])
def test_a_truncated_capture_is_read_up_to_the_damage(tmp_path: Path, cut: int) -> None:
    """Three whole packets are three flows; one line tells of the fourth; the exit code is 0."""
    file = tmp_path / "cut.pcap"
    file.write_bytes(a_capture(4)[:-cut])
    said = run_netwatch("read", str(file), "--json")
    assert_one_sentence(said, 0, "cut.pcap", "damaged")
    assert [json.loads(line)["client"]["port"] for line in said.out.splitlines()] == [
        1000,
        1001,
        1002,
    ]


def without(folder: Path, *programs: str) -> str:
    """A PATH that has everything of the real one but these."""
    place = folder / "bin"
    place.mkdir()
    for source in os.environ["PATH"].split(os.pathsep):
        for file in Path(source).iterdir() if Path(source).is_dir() else ():
            if not file.name.startswith(programs) and not (place / file.name).is_symlink():
                (place / file.name).symlink_to(file)
    return str(place)


@pytest.mark.parametrize(
    ("programs", "named", "package"),
    [
        pytest.param(("iptables", "ip6tables", "xtables"), "iptables", "iptables", id="iptables"),
        pytest.param(("ipset",), "ipset", "ipset", id="ipset"),
    ],
)
def test_a_missing_program_is_named_with_its_package(
    lab: Callable[[str], Said], folder: Path, programs: tuple[str, ...], named: str, package: str
) -> None:
    """`host` refuses before it touches anything, and the doctor says what to install."""
    lab(LAB)
    inside = ("ip", "netns", "exec", "nwh-a")
    lacking = without(folder, *programs)
    rules = [*inside, "iptables-save"], [*inside, "ipset", "list", "-n"]
    before = [check(each) for each in rules]
    for verb in ("plan", "apply"):
        said = run_netwatch(
            "host",
            verb,
            "--policies",
            str(folder / "good.yaml"),
            "--json",
            through=[str(shutil.which("ip")), *inside[1:]],
            PATH=lacking,
        )
        assert_one_error(said, 1, named, f"apt-get install {package}")
    assert [check(each) for each in rules] == before
    said = run_netwatch("doctor", "--json", PATH=lacking, **NO_DOCKER)
    lacks = {each["name"]: each["fix"] for each in said.json["checks"] if not each["ok"]}
    assert said.code == 3
    assert lacks[named] == f"apt-get install {package}"


def test_a_second_lab_is_refused_and_the_first_lives_on(
    lab: Callable[[str], Said], tmp_path: Path
) -> None:
    lab(LAB)
    other = tmp_path / "other.yaml"
    other.write_text("{hosts: [z], workloads: [{name: y, host: z}]}")
    said = run_netwatch("lab", "up", str(other), "--json")
    assert_one_error(said, 1, "already up", "netwatch lab down")
    assert {"nwh-a", "nw-w"} <= set(os.listdir("/run/netns"))
    assert not {"nwh-z", "nw-y"} & set(os.listdir("/run/netns"))
    assert run_netwatch("lab", "connect", "a", "w", "80").code == 0


def test_an_unknown_setting_is_named_with_file_line_and_what_was_meant(tmp_path: Path) -> None:
    """In /etc/netwatch, laid over the machine's own /etc in a mount namespace."""
    settings = tmp_path / "etc" / "netwatch" / "10-ours.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("capture: auto\nintervall: 2\n")
    lay = f'mount -t overlay overlay -o lowerdir={tmp_path}/etc:/etc /etc && exec "$@"'
    for verb in ("hosts", "doctor"):
        said = run_netwatch(verb, "--json", through=["unshare", "--mount", "sh", "-c", lay, "sh"])
        assert_one_error(
            said, 1, "/etc/netwatch/10-ours.yaml:2", "intervall", "did you mean interval?"
        )
