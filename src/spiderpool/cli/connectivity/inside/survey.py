"""
Print the network state of the node and of some pods, for `spiderpool.connectivity.survey`.

Runs in an agent's pod: `python3 -m spiderpool.cli.connectivity.inside.survey NODE [UID=NAME …]`. It
asks the system's own tools, in the network namespace of the node and of each pod.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from spiderpool.kernel.pod_namespaces import NETNS_FOLDER, PROC, find_namespaces

TIMEOUT_S: Final = 20.0
FILTERS: Final = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo $f $(cat $f); done"

JSON_TOOLS: Final = {
    "links": "ip -d -j address show",
    "rules4": "ip -4 -j rule show",
    "rules6": "ip -6 -j rule show",
    "routes4": "ip -4 -j route show table all",
    "routes6": "ip -6 -j route show table all",
    "neighbours": "ip -j neighbour show",
}
TEXT_TOOLS: Final = {
    "conntrack": "cat /proc/net/nf_conntrack",
    "filter4": "iptables-save -c -t filter",
    "filter6": "ip6tables-save -c -t filter",
    "filters": FILTERS,
}
DIVIDER: Final = "===="


def survey(node: str, pods: Mapping[str, str]) -> list[dict[str, Any]]:
    """
    Look at the node's namespace and at its pods'.

    Args:
        node: its name.
        pods: pod UID → name, of pods on this node.
    """
    found = {
        each.uid: each.path
        for each in find_namespaces({uid: uid for uid in pods}, NETNS_FOLDER, PROC)
    }
    places = [("", "")] + [(name, found[uid]) for uid, name in pods.items() if uid in found]
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda place: look(node, *place), places))


def look(node: str, pod: str, path: str) -> dict[str, Any]:
    """
    Run all tools in one namespace, in one shell.

    A tool that is missing or refused says nothing.
    """
    tools = {**JSON_TOOLS, **TEXT_TOOLS}
    script = f"\necho {DIVIDER}\n".join(tools.values())
    enter = ["nsenter", f"--net={path}", "--"] if path else []
    done = subprocess.run(  # noqa: S603
        [*enter, "sh", "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    texts = dict(zip(tools, done.stdout.split(f"{DIVIDER}\n"), strict=True))
    return {
        "node": node,
        "pod": pod,
        **{key: json.loads(texts[key] or "[]") for key in JSON_TOOLS},
        **{key: texts[key] for key in TEXT_TOOLS if key != "filters"},
        "rp_filter": dict(_filters(texts["filters"])),
    }


def _filters(text: str) -> Iterator[tuple[str, int]]:
    """Read the lines of `FILTERS`."""
    for line in text.splitlines():
        path, _, value = line.partition(" ")
        if value.isdigit():
            yield Path(path).parent.name, int(value)


def main(words: list[str]) -> None:
    """Print the surveys as one JSON list."""
    pods = dict(word.split("=", 1) for word in words[1:])
    json.dump(survey(words[0], pods), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
