"""Names for what lies outside: groups of networks that an operator named."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from netwatch.model.errors import InvalidDocument

MAX_GROUPS = 1_000  # the lists of providers that people paste have a few hundred networks
MAX_NAME = 128
EXAMPLE = "write it like payments=203.0.113.0/24, office=2001:db8::/32"


@dataclass(frozen=True, slots=True)
class Groups:
    """`networks` by (version, prefix length), each by its number: one look per length in use."""

    networks: Mapping[tuple[int, int], Mapping[int, str]] = field(default_factory=dict)

    def name(self, address: str) -> str | None:
        """What the smallest network that holds this address is called, or None."""
        if not self.networks:
            return None
        try:
            known = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return None
        for version, length in sorted(self.networks, reverse=True):
            if version == known.version:
                shift = known.max_prefixlen - length
                found = self.networks[version, length].get(int(known) >> shift)
                if found is not None:
                    return found
        return None


def parse_groups(text: str) -> Groups:
    """The groups of the setting `external`: `NAME=NETWORK`, separated by commas or spaces.

    A name may stand several times, each time with another network. Raises InvalidDocument.
    """
    networks: dict[tuple[int, int], dict[int, str]] = {}
    entries = text.replace(",", " ").split()
    if len(entries) > MAX_GROUPS:
        raise InvalidDocument(f"external has {len(entries)} groups; at most {MAX_GROUPS}", None)
    for entry in entries:
        name, _, cidr = entry.partition("=")
        if not (name and name.isprintable() and len(name) <= MAX_NAME and cidr):
            raise InvalidDocument(f"external: {entry[:80]!r} is no group", EXAMPLE)
        try:
            network = ipaddress.ip_network(cidr)
        except ValueError as error:
            raise InvalidDocument(f"external: {str(error)[:120]}", EXAMPLE) from None
        key = (network.version, network.prefixlen)
        shift = network.max_prefixlen - network.prefixlen
        known = networks.setdefault(key, {}).setdefault(
            int(network.network_address) >> shift, name
        )
        if known != name:
            raise InvalidDocument(f"external: {cidr} is both {known!r} and {name!r}", EXAMPLE)
    return Groups(networks)
