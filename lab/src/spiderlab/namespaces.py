"""Network namespaces of the lab: make, wire, remove."""

import json
import shlex
import subprocess
import time
from pathlib import Path

from spiderlab.errors import LabError
from spiderlab.processes import run
from spiderlab.topology import HOST_ADDRESS, HOST_LINK, ROUTER, Topology
from spiderlab.wiring import Wiring

FOLDER = Path("/run/netns")


def make(name: str) -> None:
    """Make an empty namespace, whatever a lab that was cut off left under its name."""
    remove(name)
    run(["ip", "netns", "add", name])


def remove(name: str) -> None:
    """Remove a namespace; its links go with it. No error where there is none."""
    path = FOLDER / name
    if not path.exists():
        return
    # A name whose mount is gone is a plain file; `ip` refuses it.
    if subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False).returncode:
        path.unlink(missing_ok=True)


def apply(wiring: Wiring) -> None:
    """Return a namespace its settings, links and rules."""
    if wiring.sysctls:
        _set(wiring.namespace, wiring.sysctls)
    if wiring.batch:
        run(["ip", "-netns", wiring.namespace, "-batch", "-"], text="\n".join(wiring.batch) + "\n")
    for program, rules in (("iptables", wiring.iptables), ("ip6tables", wiring.ip6tables)):
        for rule in rules:
            run(["ip", "netns", "exec", wiring.namespace, program, "-w", *shlex.split(rule)])


def routes(namespace: str) -> set[str]:
    """The destinations in a namespace's main tables, of both families, as `ip` writes them."""
    printed = (
        run(["ip", "-netns", namespace, "-json", family, "route", "show"])
        for family in ("-4", "-6")
    )
    return {route["dst"] for text in printed for route in json.loads(text or "[]")}


def _set(namespace: str, sysctls: dict[str, str]) -> None:
    """
    Write sysctls that the kernel has.

    Bridge ones are missing where bridges never call iptables.
    """
    lines = "; ".join(
        f"if [ -e {path} ]; then echo {value} > {path}; fi"
        for path, value in (
            (f"/proc/sys/{key.replace('.', '/')}", value) for key, value in sysctls.items()
        )
    )
    run(["ip", "netns", "exec", namespace, "sh", "-ec", lines])


def link_machine() -> None:
    """
    Return the machine its one link to the lab, with a route to the API server alone.

    What comes in by this link is never forwarded, whatever the machine does elsewhere; a namespace
    that no route of the machine leads to cannot be reached by it.
    """
    run(
        ["ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", HOST_LINK, "netns", ROUTER]
    )
    _set_here(f"net/ipv6/conf/{HOST_LINK}/disable_ipv6", "1")
    _set_here(f"net/ipv4/conf/{HOST_LINK}/forwarding", "0")
    run(
        ["ip", "-batch", "-"],
        text=f"addr add {HOST_ADDRESS} dev {HOST_LINK}\nlink set {HOST_LINK} up\n",
    )


def route_machine(topology: Topology) -> None:
    """Lead the machine to the API server."""
    gateway = HOST_ADDRESS.network[2]
    run(
        [
            "ip",
            "route",
            "replace",
            f"{topology.control_plane.ip}/32",
            "via",
            str(gateway),
            "dev",
            HOST_LINK,
        ]
    )


def _set_here(key: str, value: str) -> None:
    path = Path("/proc/sys") / key
    if path.exists():
        path.write_text(value)


def unlink_machine() -> None:
    """Remove the machine's link, if it is there, and wait until it is gone."""
    subprocess.run(["ip", "link", "delete", HOST_LINK], capture_output=True, check=False)
    deadline = time.monotonic() + 10
    while Path(f"/sys/class/net/{HOST_LINK}").exists():
        if time.monotonic() > deadline:
            raise LabError(
                f"the link {HOST_LINK} does not go away; try: ip link delete {HOST_LINK}"
            )
        time.sleep(0.05)


def is_mount_point() -> bool:
    """Return whether /run/netns is one: `ip netns add` makes it one, the first time."""
    return any(
        line.split()[4] == str(FOLDER)
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )


def unmount_folder() -> None:
    """Undo what the first `ip netns add` did to /run/netns, unless others' namespaces are there."""
    while is_mount_point() and not any(FOLDER.iterdir()):
        run(["umount", str(FOLDER)])
    if FOLDER.is_dir() and not any(FOLDER.iterdir()):
        FOLDER.rmdir()
