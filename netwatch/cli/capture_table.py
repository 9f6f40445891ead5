"""The live table of `netwatch capture NAME --summary`: redrawn for a person, lines for a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence

from netwatch.capture.packets_live import Conversation, Live, conversation_as_json
from netwatch.cli.output import print_json, printable, table
from netwatch.model.snapshot import Snapshot
from netwatch.model.times import rfc3339

MOST_LINES = 40  # a second, where no terminal says how many a person sees
MOST_OBJECTS = 1000  # a second, for a program
_AROUND = 5  # lines of the screen that are not conversations
_HEADINGS = ("PEER", "DIRECTION", "PORT", "PROTOCOL", "ENCRYPTION", "BYTES/S", "CONNS", "STATE")
_AGAIN = "\x1b[H\x1b[J"  # cursor home, erase below


def names_of(snapshot: Snapshot) -> dict[str, str]:
    """Who has an address: `namespace/name` of workloads here, identities elsewhere, else `host`.

    An address that several workloads have names none of them.
    """
    here = [(address, w.key) for w in snapshot.workloads for address in w.addresses]
    there = [
        (a, w.identity) for n in snapshot.neighbours for w in n.workloads for a in w.addresses
    ]
    shared = Counter(address for address, _ in dict.fromkeys(here + there))
    names = dict.fromkeys(snapshot.addresses, "host")
    names |= {gateway: "host" for network in snapshot.networks for gateway in network.gateways}
    names |= {neighbour: n.name for n in snapshot.neighbours for neighbour in n.addresses}
    return names | {address: name for address, name in here + there if shared[address] == 1}


def show(live: Live, workload: str, lost: int, *, seconds: float, as_json: bool) -> None:
    """One look at the table, to stdout. `seconds` have passed since the one before."""
    found = live.conversations(max(seconds, 0.001))
    losses = {"dropped": lost, "forgotten": live.forgotten}
    now = str(rfc3339(time.time_ns()))
    if as_json:
        print_json(
            {
                "time": now,
                "conversations": [conversation_as_json(c) for c in found[:MOST_OBJECTS]],
                "more": max(0, len(found) - MOST_OBJECTS),
                "losses": losses,
            }
        )
    elif sys.stdout.isatty():
        size = shutil.get_terminal_size()
        screen = screenful(found, workload, lines=size.lines - _AROUND, losses=losses)
        cut = [line[: size.columns] for line in screen]
        sys.stdout.write(_AGAIN + "\n".join(cut) + "\n")
    else:
        sys.stdout.writelines(f"{now} {line}\n" for line in lines_of(found))
    sys.stdout.flush()


def screenful(
    found: Sequence[Conversation], workload: str, *, lines: int, losses: dict[str, int]
) -> list[str]:
    """The lines of a terminal: who, the busiest conversations, and what is not shown."""
    room = max(lines, 1)
    text = [f"{printable(workload)}: {len(found)} conversations; Ctrl-C ends it", ""]
    text += table(_HEADINGS, map(_cells, found[:room])).split("\n")
    if len(found) > room:
        text.append(f"and {len(found) - room} more")
    lost = ", ".join(f"{count} {reason}" for reason, count in losses.items() if count)
    return [*text, f"not everything was seen: {lost}"] if lost else text


def lines_of(found: Sequence[Conversation]) -> list[str]:
    """One line for each conversation that went on since the last look, to a limit that is told."""
    busy = [c for c in found if c.rate]
    lines = ["  ".join(_plain(cell) for cell in _cells(c)) for c in busy[:MOST_LINES]]
    if len(busy) > MOST_LINES:
        lines.append(f"and {len(busy) - MOST_LINES} more")
    return lines


def _cells(conversation: Conversation) -> tuple[object, ...]:
    return (
        conversation.peer,
        conversation.direction + ("?" if conversation.guessed else ""),
        "-" if conversation.port is None else conversation.port,
        conversation.protocol,
        conversation.encryption,
        round(conversation.rate),
        conversation.connections,
        conversation.state,
    )


def _plain(cell: object) -> str:
    return printable(str(cell)).replace("\n", " ")
