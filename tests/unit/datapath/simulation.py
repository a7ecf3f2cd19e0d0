"""
A pod and its node in memory, on which plans are carried out as the kernel would.

And their text as ip(8) shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

from spiderpool.addressing.sets import IPAddress
from spiderpool.datapath.coordinator_plan import plan_attachment
from spiderpool.datapath.coordinator_settings import CoordinatorSettings
from spiderpool.datapath.diff import Operation, applied, diff
from spiderpool.datapath.layout import VETH, host_end_name
from spiderpool.datapath.plan_types import (
    Item,
    Kind,
    Picture,
    Plan,
    Setting,
    VethPair,
    View,
    link_settings,
)
from spiderpool.datapath.removal import plan_removal
from spiderpool.model.netns_contents import (
    ANYWHERE,
    IPV6,
    LINK_SCOPE,
    MAIN_TABLE,
    Address,
    Link,
    Neighbour,
    Route,
    Rule,
)

CONTAINER = "db6cd3880ab1234567890"
CALI = "calicd43bf782ac"
NODE_ADDRESSES = (("ens192", "10.6.168.121/16"), ("ens224", "10.7.168.71/16"))
NODE_ADDRESSES_6 = (("ens192", "fd00:6::121/64"), ("ens224", "fd00:7::71/64"))
HIJACK = tuple(ip_network(text) for text in ("10.233.64.0/18", "10.233.0.0/18", "169.254.0.0/16"))


def builtin_rules() -> frozenset[Item]:
    """Return the rules that every namespace has."""
    found = {
        Rule(family, table, priority)
        for family in (4, 6)
        for table, priority in ((255, 0), (254, 32766))
    }
    return frozenset({*found, Rule(4, 253, 32767)})


@dataclass
class Simulation:
    """One pod on one node."""

    container: str = CONTAINER
    pod: frozenset[Item] = field(default_factory=builtin_rules)
    node: frozenset[Item] = field(default_factory=builtin_rules)
    pod_links: tuple[Link, ...] = (Link(1, "lo", shared=False),)
    node_links: tuple[Link, ...] = (
        Link(1, "lo", shared=False),
        Link(2, "ens192"),
        Link(3, "ens224"),
    )
    sources: dict[IPAddress, IPAddress] = field(default_factory=dict)
    mangle_rules: tuple[int, ...] = ()

    @classmethod
    def with_node(cls, *addresses: tuple[str, str]) -> Simulation:
        """Make an empty pod on a node with these addresses."""
        simulation = cls()
        simulation.node |= {_address(dev, text) for dev, text in addresses or NODE_ADDRESSES}
        return simulation

    def add_nic(self, name: str, *cidrs: str, gateways: tuple[str, ...] = ()) -> None:
        """Do what the main plugin does: a link, addresses, connected routes, default routes."""
        self._add_pod_link(
            Link(len(self.pod_links) + 1, name, mac=f"02:00:00:00:00:{len(self.pod_links):02x}")
        )
        for cidr in cidrs:
            interface = ip_interface(cidr)
            self.pod |= {_address(name, cidr)}
            if interface.version == IPV6:
                self.pod |= {Route(interface.network, name, metric=256)}
            elif interface.network.prefixlen < 32:
                self.pod |= {Route(interface.network, name, src=interface.ip, scope=LINK_SCOPE)}
        for text in gateways:
            gateway = ip_address(text)
            self.pod |= {
                Route(
                    ANYWHERE[gateway.version],
                    name,
                    gateway=gateway,
                    metric=1024 * (gateway.version == IPV6),
                )
            }

    def remove_nic(self, name: str) -> None:
        """Do what the main plugin does at the end: the link goes, and all that is on it."""
        self.pod_links = tuple(link for link in self.pod_links if link.name != name)
        self.pod = frozenset(item for item in self.pod if _dev(item) != name)

    def add_calico(self, cidr: str, *more: str) -> None:
        """
        Do what Calico does.

        One veth as eth0, its gateway 169.254.1.1, no address on the node's end.
        """
        self.add_nic("eth0", cidr, *more, gateways=("169.254.1.1",))
        self.pod |= {Route(ip_network("169.254.1.1/32"), "eth0", scope=LINK_SCOPE)}
        self.node_links = (
            *self.node_links,
            Link(len(self.node_links) + 1, CALI, mac="ee:ee:ee:ee:ee:ee"),
        )
        self.sources[ip_interface(cidr).ip] = ip_address("10.6.168.121")

    def view(self, ifname: str) -> View:
        """Look at everything."""
        pod, node = Picture(self.pod_links, self.pod), Picture(self.node_links, self.node)
        ends = (host_end_name(self.container),) if pod.link(VETH) else (CALI,)
        end = next((link for link in self.node_links if link.name in ends), None)
        return View(ifname, self.container, pod, node, end, self.sources)

    def add(self, ifname: str, settings: CoordinatorSettings) -> Plan:
        """Carry out an ADD; a second time nothing must happen."""
        plan = plan_attachment(self.view(ifname), settings)
        self._carry_out(plan)
        again = plan_attachment(self.view(ifname), settings)
        assert [] == self.operations(again)
        assert again.veth is None
        return plan

    def add_partly(self, ifname: str, settings: CoordinatorSettings, count: int) -> None:
        """
        Carry out an ADD until it is cut off.

        The pod's operations first, as the agent sends them.
        """
        plan = plan_attachment(self.view(ifname), settings)
        if plan.veth is not None:
            self._make_pair(plan.veth)
        pod, node = diff(self.pod, plan.pod), diff(self.node, plan.node)
        self.pod = applied(self.pod, pod[:count])
        self.node = applied(self.node, node[: max(count - len(pod), 0)])
        self._note_macs()

    def delete(self, ifname: str, settings: CoordinatorSettings) -> Plan:
        """Carry out a DEL."""
        plan = plan_removal(self.view(ifname), settings)
        self._carry_out(plan)
        if ifname == settings.default_nic:
            self.mangle_rules = ()
            self.drop_pair()
        return plan

    def drop_pair(self) -> None:
        """Remove the veth pair, and all that is on it."""
        self.pod_links = tuple(link for link in self.pod_links if link.name != VETH)
        host = host_end_name(self.container)
        self.node_links = tuple(link for link in self.node_links if link.name != host)
        self.pod = frozenset(item for item in self.pod if _dev(item) != VETH)
        self.node = frozenset(item for item in self.node if _dev(item) != host)

    def operations(self, plan: Plan) -> list[Operation]:
        """Return what a plan changes."""
        return [*diff(self.pod, plan.pod), *diff(self.node, plan.node)]

    def _carry_out(self, plan: Plan) -> None:
        if plan.veth is not None:
            self._make_pair(plan.veth)
        self.pod = applied(self.pod, diff(self.pod, plan.pod))
        self.node = applied(self.node, diff(self.node, plan.node))
        self.mangle_rules = tuple(sorted({*self.mangle_rules, *plan.mangle_rules}))
        self._note_macs()

    def _note_macs(self) -> None:
        macs = {
            item.name: item.value
            for item in self.pod
            if isinstance(item, Setting) and item.kind is Kind.MAC
        }
        self.pod_links = tuple(
            replace(link, mac=macs.get(link.name, link.mac)) for link in self.pod_links
        )

    def _make_pair(self, pair: VethPair) -> None:
        self._add_pod_link(Link(len(self.pod_links) + 1, pair.pod, mac=pair.pod_mac, mtu=pair.mtu))
        self.node_links = (
            *self.node_links,
            Link(len(self.node_links) + 1, pair.host, mac=pair.host_mac, mtu=pair.mtu),
        )

    def _add_pod_link(self, link: Link) -> None:
        self.pod_links = (*self.pod_links, link)
        self.pod |= link_settings([link])

    # --- text
    # -------------------------------------------------------------------------------------------------------------

    def pod_routes(self, table: int = MAIN_TABLE, family: int = 4) -> set[str]:
        """Show a table of the pod as `ip route` does."""
        return _shown_routes(self.pod, table, family)

    def node_routes(self, table: int, family: int = 4) -> set[str]:
        """Show a table of the node as `ip route` does."""
        return _shown_routes(self.node, table, family)

    def pod_rules(self, family: int = 4) -> set[str]:
        """Show the pod's rules as `ip rule` does."""
        return _shown_rules(self.pod, family)

    def node_rules(self, family: int = 4) -> set[str]:
        """Show the node's rules as `ip rule` does."""
        return _shown_rules(self.node, family)

    def neighbours(self, items: frozenset[Item]) -> set[str]:
        """Show permanent neighbours as `ip neigh` does."""
        found = [item for item in items if isinstance(item, Neighbour) and item.permanent]
        return {f"{item.ip} dev {item.dev} lladdr {item.mac} PERMANENT" for item in found}


def shown(text: str) -> set[str]:
    """
    Read an output of the reference.

    The protocol is not compared (a copied route has another one, 2.7).
    """
    lines = (line.replace(" proto kernel", "").strip() for line in text.strip().splitlines())
    return {" ".join(line.split()) for line in lines}


def shown_rules(text: str) -> set[str]:
    """Read rules of the reference; `from all` may be left out."""
    return shown(text.replace("from all ", ""))


def show_route(route: Route) -> str:
    """Show a route as `ip route` does."""
    dst = "default" if route.is_default else str(route.dst)
    words = [dst.removesuffix(f"/{route.dst.max_prefixlen}")]
    words += ["via", str(route.gateway)] if route.gateway else []
    words += ["dev", route.dev]
    words += ["scope", "link"] if route.scope == LINK_SCOPE else []
    words += ["src", str(route.src)] if route.src else []
    words += ["metric", str(route.metric)] if route.metric else []
    return " ".join(words)


def show_rule(rule: Rule) -> str:
    """Show a rule as `ip rule` does, without `from all`."""
    source = (
        ""
        if rule.src is None
        else f"from {str(rule.src).removesuffix(f'/{rule.src.max_prefixlen}')} "
    )
    mark = "" if rule.mark is None else f"fwmark {rule.mark:#x} "
    table = {255: "local", 254: "main", 253: "default"}.get(rule.table, str(rule.table))
    return f"{rule.priority}: {source}{mark}lookup {table}"


def _shown_routes(items: frozenset[Item], table: int, family: int) -> set[str]:
    return {
        show_route(item)
        for item in items
        if isinstance(item, Route) and (item.table, item.dst.version) == (table, family)
    }


def _shown_rules(items: frozenset[Item], family: int) -> set[str]:
    return {show_rule(item) for item in items if isinstance(item, Rule) and item.family == family}


def _address(dev: str, text: str) -> Address:
    interface = ip_interface(text)
    return Address(dev, interface.ip, interface.network.prefixlen)


def _dev(item: Item) -> str:
    return item.name if isinstance(item, Setting) else getattr(item, "dev", "")
