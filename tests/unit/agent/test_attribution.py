"""What is put on the ends of a flow, and that nothing is guessed."""

from __future__ import annotations

from netwatch.agent.attribution import Attribution
from netwatch.agent.names import names_of
from netwatch.model.flow import Endpoint, Flow, Process
from netwatch.model.snapshot import Snapshot
from netwatch.model.workload import Workload

WEB = Workload("a", "shop", "web", "lab", addresses=("198.18.0.2",), pid=10)
DB = Workload("a", "shop", "db", "lab", addresses=("198.18.0.3",), pid=20)
HOST, OUTSIDE = "192.0.2.1", "203.0.113.7"
NAMES = names_of(Snapshot("a", (WEB, DB), addresses=(HOST,)))
CURL, POSTGRES, OWN = Process(11, "/c", 0), Process(21, "/p", 70), Process(1, "/n", 0)


class Sockets:
    """Processes as a test wants them: by namespace and by (protocol, local, remote port)."""

    unlooked = 0

    def __init__(self) -> None:
        self.connections = {(10, 40_000, 5432): CURL, (1, 40_000, 5432): OWN}
        self.asked = 0

    def begin(self, now: int) -> None:
        pass

    def of_connection(
        self, pid: int, protocol: str, ends: tuple[str, int, str, int]
    ) -> Process | None:
        self.asked += 1
        return self.connections.get((pid, ends[1], ends[3]))

    def of_port(self, pid: int, protocol: str, port: int) -> Process | None:
        return POSTGRES if (pid, port) == (20, 5432) else None


class Learned:
    """Knows one name, for web."""

    dropped = 0

    def name(self, address: str, *, workload: str | None, at: int) -> str | None:
        return "api.example.com" if (address, workload) == (OUTSIDE, WEB.identity) else None


def flow(
    client: str, server: str, *, port: int = 5432, sport: int | None = 40_000, **more: object
) -> Flow:
    by_address = NAMES.by_address
    ends = [
        Endpoint(a, p, by_address[a].identity if a in by_address else None)
        for a, p in ((client, sport), (server, port))
    ]
    values: dict[str, object] = {"state": "established", "connections": 1, **more}
    return Flow(ends[0], ends[1], "tcp", 1, 2, **values)  # type: ignore[arg-type]


def attribution(sockets: Sockets | None = None) -> Attribution:
    return Attribution(sockets or Sockets(), Learned(), own=1)  # type: ignore[arg-type]


def holders(told: Flow) -> tuple[Process | None, Process | None]:
    return told.client.process, told.server.process


def test_both_ends_on_this_host_have_their_process() -> None:
    """The server's is the listener's where nobody holds the accepted socket any more."""
    (told,) = attribution()([flow("198.18.0.2", "198.18.0.3")], NAMES, 1)
    assert holders(told) == (CURL, POSTGRES)


def test_the_host_itself_is_looked_up_in_the_agents_namespace() -> None:
    (told,) = attribution()([flow(HOST, "198.18.0.3")], NAMES, 1)
    assert holders(told) == (OWN, POSTGRES)


def test_a_client_that_aimed_at_a_door_is_found_by_where_it_aimed() -> None:
    """Its socket knows the address before DNAT, and no other."""
    aimed = Endpoint(HOST, 5432)
    (told,) = attribution()([flow("198.18.0.2", "198.18.0.3", port=99, original=aimed)], NAMES, 1)
    assert told.client.process == CURL


def test_nothing_is_guessed() -> None:
    """Several connections on one port, a refused one, an end elsewhere: no process."""
    several = flow("198.18.0.2", "198.18.0.3", connections=2)
    refused = flow("198.18.0.2", "198.18.0.3", sport=1, state="refused")
    outside = flow(OUTSIDE, "203.0.113.8")
    told = attribution()([several, refused, outside], NAMES, 1)
    assert [holders(each) for each in told] == [(None, POSTGRES), (None, None), (None, None)]


def test_a_sum_of_connections_has_the_process_that_listens() -> None:
    """Without its clients' ports it has no socket of a client, and no accepted one."""
    (told,) = attribution()(
        [flow("198.18.0.2", "198.18.0.3", sport=None, connections=9)], NAMES, 1
    )
    assert holders(told) == (None, POSTGRES)


def test_a_connection_is_looked_up_once_and_its_ports_anew_for_the_next() -> None:
    """What follows on a connection remembers; a new one on the same ports is another's."""
    sockets = Sockets()
    made = attribution(sockets)
    made([flow("198.18.0.2", "198.18.0.3")], NAMES, 1)
    sockets.connections.clear()
    before = sockets.asked
    (later,) = made([flow("198.18.0.2", "198.18.0.3", connections=0)], NAMES, 2)
    assert (holders(later), sockets.asked) == ((CURL, POSTGRES), before)
    (anew,) = made([flow("198.18.0.2", "198.18.0.3")], NAMES, 3)
    assert holders(anew) == (None, POSTGRES)


def test_an_address_outside_is_called_as_the_client_heard_it() -> None:
    """Unless the conversation itself said a name; inside, addresses need none."""
    said = flow("198.18.0.2", OUTSIDE)
    by_sni = Endpoint(OUTSIDE, 443, name="cdn.example", named_by="sni")
    told = attribution()(
        [said, flow("198.18.0.3", OUTSIDE), flow("198.18.0.2", OUTSIDE, sport=2, port=443)],
        NAMES,
        1,
    )
    assert [(f.server.name, f.server.named_by) for f in told] == [
        ("api.example.com", "dns"),
        (None, None),
        ("api.example.com", "dns"),
    ]
    kept = Flow(told[0].client, by_sni, "tcp", 1, 2)
    assert attribution()([kept], NAMES, 1)[0].server.name == "cdn.example"


def test_what_is_not_looked_for_is_counted() -> None:
    """Ten thousand new connections in a second cost what a few hundred do."""
    made = attribution()
    made([flow("198.18.0.2", "198.18.0.3", sport=n) for n in range(300)], NAMES, 1)
    assert made.unlooked == 44
    assert dict(made.losses()) == {"names not kept": 0}
