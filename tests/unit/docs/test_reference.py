"""What the reference says in tables is what the programs do: variables, keys, layouts."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import pytest

from spiderpool.agent.node.installation import read_install_settings
from spiderpool.agent.settings import read_settings as read_agent
from spiderpool.api.crd import group, multusconfig
from spiderpool.api.crd.spiderip import IPState
from spiderpool.audit.comparison import Kind as Difference
from spiderpool.cli.commands.gc import Outcome
from spiderpool.configuration.config import AutoPoolLimits, Config
from spiderpool.connectivity.diagnosis import Reason
from spiderpool.controller.settings import read_settings as read_controller
from spiderpool.datapath.coordinator_settings import CoordinatorSettings
from spiderpool.datapath.invalid_packets import Fate
from spiderpool.installer.default_network import make_default_network, read_cni_dir
from spiderpool.installer.default_pools import read_defaults
from spiderpool.records.verdicts import Trigger
from tests.unit.datapath.simulation import HIJACK, NODE_ADDRESSES_6, Simulation
from tests.unit.datapath.test_layouts import SETTINGS, overlay, underlay_one, underlay_two
from tests.unit.docs.test_citations import PUBLISHED, ROOT, files, read

CONFIGURATION: Final = read(ROOT / "docs/reference/configuration.md")
COORDINATOR: Final = read(ROOT / "docs/reference/coordinator.md")
NAME: Final = re.compile(r"`([A-Z][A-Z0-9_]+)`")
CODE_SPAN: Final = re.compile(r"`([^`]+)`")
# What stands for a route, rule or neighbour, or for an address alone.
LINE: Final = re.compile(r"(default|\d+:|[0-9a-f]*[.:][0-9a-f.:/]+)( .*)?")
POD: Final = dict.fromkeys(("SPIDERPOOL_POD_NAMESPACE", "SPIDERPOOL_POD_NAME"), "x")
AGENT_POD: Final = {**POD, "SPIDERPOOL_NODE_NAME": "x"}


class Recorder(dict[str, str]):
    """An environment that notes what it was asked for."""

    def __init__(self, given: dict[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return a variable, and note its name."""
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    return page.partition(f"# {heading}\n")[2].partition("\n#")[0]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables of a text, their headings left out."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            yield cells


def documented(*headings: str) -> dict[str, str]:
    """Return each variable of the tables of these sections with its default."""
    found: dict[str, str] = {}
    for heading in headings:
        for names, default, *_ in rows(section(CONFIGURATION, heading)):
            several = NAME.findall(names)
            defaults = default.split(", ")
            found |= zip(
                several,
                defaults if len(defaults) == len(several) else [default] * len(several),
                strict=True,
            )
    return found


CONTROLLER_POD: Final = POD | {
    "SPIDERPOOL_TLS_SECRET_NAME": "certs",
    "SPIDERPOOL_WEBHOOK_CONFIGURATION_NAME": "hooks",
}
AGENT: Final = documented("Agent")
CONTROLLER: Final = documented("Controller", "Reclaim")


@pytest.mark.parametrize(
    ("reader", "given", "headings"),
    [
        (read_agent, AGENT_POD, ["Agent"]),
        (read_install_settings, {}, ["Agent: installation"]),
        (
            read_controller,
            {**CONTROLLER_POD, "SPIDERPOOL_COORDINATOR_ENABLED": "true"},
            ["Controller", "Reclaim"],
        ),
    ],
)
def test_variables(
    reader: Callable[[Recorder], object], given: dict[str, str], headings: list[str]
) -> None:
    """Each program reads exactly the variables that its tables list."""
    environ = Recorder(given)
    reader(environ)

    assert set(documented(*headings)) == environ.asked - {
        "SPIDERPOOL_POD_NAMESPACE" if reader is read_install_settings else ""
    }


@pytest.mark.parametrize(
    ("reader", "given", "name", "default"),
    [
        (reader, given, name, default.removesuffix(" s"))
        for reader, given, table in (
            (read_agent, AGENT_POD, AGENT),
            (read_controller, CONTROLLER_POD, CONTROLLER),
        )
        for name, default in table.items()
        if re.fullmatch(r"\d+( s)?|true|false", default)
    ],
)
def test_defaults_of_variables(
    reader: Callable[[dict[str, str]], object], given: dict[str, str], name: str, default: str
) -> None:
    """A variable with its documented default changes nothing; with another value it does."""
    other = {"true": "false", "false": "true"}.get(default) or str(int(default) + 1)

    assert reader(given) == reader({**given, name: default})
    assert reader(given) != reader({**given, name: other})


def test_variables_of_the_jobs() -> None:
    """The job reads exactly the variables of its table; those for IPv6 are named like IPv4's."""
    environ = Recorder(
        {
            "SPIDERPOOL_NAMESPACE": "x",
            "SPIDERPOOL_CONTROLLER_NAME": "x",
            "SPIDERPOOL_AGENT_NAME": "x",
            "SPIDERPOOL_INIT_ENABLE_MULTUS_CONFIG": "true",
            "SPIDERPOOL_INIT_DEFAULT_IPV4_IPPOOL_NAME": "x",
            "SPIDERPOOL_INIT_DEFAULT_IPV4_IPPOOL_SUBNET": "10.6.0.0/16",
            "SPIDERPOOL_INIT_DEFAULT_COORDINATOR_NAME": "default",
        }
    )
    read_defaults(environ)
    make_default_network(environ, "x")
    read_cni_dir(environ)
    asked = {name.replace("_IPV6_", "_IPV4_") for name in environ.asked}

    # The last one is read by the controller's `clean` alone.
    assert set(documented("Jobs")) == {*asked, "SPIDERPOOL_INIT_JOB_NAME"}


def test_keys_of_the_configuration_file() -> None:
    """Each key of conf.yml is in the table, with what holds when it is absent."""
    table = {
        key: cells
        for names, *cells in rows(section(CONFIGURATION, "conf.yml"))
        for key in CODE_SPAN.findall(names)
    }
    fields = {field.encode_name: field.default for field in msgspec.structs.fields(Config)}
    unread = {key for key, cells in table.items() if cells[2].startswith("nobody")}

    assert set(fields) - unread == set(table) - unread
    absent = {
        (): "empty",
        fields["podResourceInject"]: "off",
        fields["autoPoolLimits"]: f"`{msgspec.json.encode(AutoPoolLimits()).decode()}`",
        fields["multus"]: "nothing is restricted",
    }
    for key, default in fields.items():
        words = absent.get(default) or (
            f"`{default}`" if isinstance(default, str) else json.dumps(default)
        )
        assert (key, words) == (key, table[key][0])


def test_names_of_variables_in_all_pages() -> None:
    """No page names a variable that is in no table of the reference and in no manifest."""
    known = CONFIGURATION + "\n".join(read(path) for path in files("deploy/**/*", "lab/**/*"))

    assert [] == [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files("*.md", "docs/**/*.md")
        for name in re.findall(r"\bSPIDERPOOL_[A-Z0-9_]+", read(path))
        if name not in known
    ]


@pytest.mark.parametrize(
    "key",
    [
        value
        for module in (group, multusconfig)
        for name, value in vars(module).items()
        if name.startswith(("ANNO_", "LABEL_"))
    ],
)
def test_keys_of_annotations_and_labels(key: str) -> None:
    """Each annotation and label that the product reads or writes is in the reference."""
    pages = "\n".join(read(path) for path in files("docs/reference/*.md"))
    short = key.removeprefix(group.PREFIX)

    assert re.search(rf"`({re.escape(key)}|{re.escape(short)})[`:]", pages)


@pytest.mark.parametrize("kind", [Difference, Fate, IPState, Outcome, Reason, Trigger])
def test_published_words(kind: type[enum.StrEnum]) -> None:
    """Each word of these closed sets, which outputs and objects show, is in the glossary."""
    words = set(PUBLISHED.findall(read(ROOT / "docs/glossary.md")))

    assert [] == sorted(set(kind) - words)


def lines_of(simulation: Simulation, place: str) -> set[str]:
    """Return what one row of a layout's table speaks of, both families."""
    pod = place.removeprefix("pod ")
    if place == "node":
        return {
            line
            for family in (4, 6)
            for line in (
                *simulation.node_rules(family),
                *simulation.node_routes(500, family),
                *simulation.neighbours(simulation.node),
            )
        }
    if pod == "rules":
        return {line for family in (4, 6) for line in simulation.pod_rules(family)}
    if pod == "neighbours":
        return simulation.neighbours(simulation.pod)
    table = 254 if pod == "main" else int(pod.removeprefix("table "))
    return {line for family in (4, 6) for line in simulation.pod_routes(table, family)}


def pair_end(simulation: Simulation) -> str:
    """Return the name of the pair's end on the node."""
    return next(
        (link.name for link in simulation.node_links if link.name.startswith("veth")), "HOST"
    )


LAYOUTS: Final[dict[str, Callable[[], Simulation]]] = {
    "A": underlay_one,
    "B": underlay_two,
    "C": lambda: underlay_two(
        settings=CoordinatorSettings(hijack=HIJACK, default_route_nic="net1")
    ),
    "D": lambda: overlay(settings=SETTINGS),
    "E": lambda: overlay(settings=CoordinatorSettings(hijack=HIJACK, default_route_nic="net1")),
    "F": lambda: underlay_two(*NODE_ADDRESSES_6),
    "G": lambda: underlay_two(settings=CoordinatorSettings(hijack=HIJACK, tune_pod_routes=False)),
}


@pytest.mark.parametrize("letter", LAYOUTS)
def test_layouts(letter: str) -> None:
    """Each route, rule and neighbour that a layout's table shows is there after the ADDs."""
    simulation = LAYOUTS[letter]()
    text = COORDINATOR.partition(f"**{letter}. ")[2].partition("**")[2].partition("\n**")[0]
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    shown = {
        (place.strip(), item.replace("HOST", pair_end(simulation)))
        for place, content in table
        for item in CODE_SPAN.findall(content)
        if LINE.fullmatch(item)
    }

    assert shown
    assert [] == [
        (place, item)
        for place, item in sorted(shown)
        if not any(
            f"{line} ".startswith(item.removesuffix("…") if item.endswith("…") else f"{item} ")
            for line in lines_of(simulation, place)
        )
    ]
