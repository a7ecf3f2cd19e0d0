"""
One test's own corner of the cluster: a namespace, pools, networks, pods; and the promises that hold after every story.

The promises (`disagreements`) are about three views of the same addresses: what the kernel of each
pod has, what the SpiderIP records say, and what was derived from them (pool status,
SpiderEndpoints). They must meet, with nothing left over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address, ip_interface
from typing import Any

from spiderlab import Lab
from tests.lab import audit, manifests
from tests.lab.inside import Inside, processes_of
from tests.lab.kube import Kube, Refused, Thing
from tests.lab.networks import ENS192, IPAddress, Underlay
from tests.lab.retry import until, until_none

START_S = 60  # image is there; ADD, DAD of an IPv6 address and a busy machine take their time
OF_SUBNET = "ipam.spidernet.io/owner-spider-subnet"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True, slots=True)
class Record:
    """A SpiderIP, as far as a test looks at it."""

    ip: IPAddress
    pool: str
    state: str
    namespace: str
    pod: str
    uid: str
    nic: str
    node: str
    static: bool


class Pod:
    """A pod that a story made, or found by its name."""

    def __init__(self, kube: Kube, thing: Thing) -> None:
        """Keep what never changes of it."""
        self._kube = kube
        self.name: str = thing["metadata"]["name"]
        self.namespace: str = thing["metadata"]["namespace"]
        self.uid: str = thing["metadata"]["uid"]

    def __repr__(self) -> str:
        """Return its name."""
        return f"pod {self.namespace}/{self.name}"

    @property
    def thing(self) -> Thing | None:
        """The object now; None when it is gone or another one has its name."""
        thing = self._kube.get("Pod", self.name, self.namespace)
        return thing if thing and thing["metadata"]["uid"] == self.uid else None

    @property
    def node(self) -> str:
        """The node that it is bound to."""
        return (self.thing or {}).get("spec", {}).get("nodeName", "")

    @property
    def inside(self) -> Inside:
        """Its network namespace."""
        return Inside(self.uid)

    def address(self, nic: str, family: int = 4) -> IPAddress:
        """Return its only address of a family on a NIC, from its kernel."""
        found = [ip_interface(text).ip for text in self.inside.addresses().get(nic, [])]
        (address,) = [ip for ip in found if ip.version == family]
        return address

    def runs(self) -> bool:
        """Return whether all its containers run."""
        return self.thing is not None and is_running(self.thing)

    def events(self) -> list[Thing]:
        """Return the Events that speak of it, oldest first."""
        found = self._kube.list("Event", self.namespace, fields=f"involvedObject.uid={self.uid}")
        return sorted(found, key=lambda event: event["metadata"]["resourceVersion"].zfill(20))

    def network_status(self) -> list[Thing]:
        """Return what the meta plugin wrote about its networks."""
        annotations = (self.thing or {})["metadata"].get("annotations", {})
        return json.loads(annotations.get(manifests.NETWORK_STATUS, "[]"))


def is_running(thing: Thing) -> bool:
    """Return whether a pod object says that all its containers run, and nobody deletes it."""
    status = thing.get("status", {})
    ready = [container["ready"] for container in status.get("containerStatuses", [])]
    return (
        status.get("phase") == "Running"
        and bool(ready)
        and all(ready)
        and not thing["metadata"].get("deletionTimestamp")
    )


class Story:
    """
    What one test has of the cluster.

    `close` ends all of it and looks whether anything is left.
    """

    def __init__(self, kube: Kube, lab: Lab, name: str) -> None:
        """Make the namespace."""
        self.kube, self.lab, self.namespace = kube, lab, name
        self.pools: list[str] = []
        self.subnets: list[str] = []
        self._reserved: list[str] = []
        metadata = {"name": name, "labels": {manifests.TEST_LABEL: "true"}}
        kube.create({"kind": "Namespace", "metadata": metadata})
        # Pods are refused before that; it takes a while when the API server was away.
        until(
            lambda: kube.get("ServiceAccount", "default", name),
            f"namespace {name} has its service account",
            within_s=60,
        )

    # --- making things
    # ------------------------------------------------------------------------------------------------------

    def pool(
        self, name: str, underlay: Underlay = ENS192, family: int = 4, count: int = 4, **spec: Any
    ) -> str:
        """
        Make a pool of fresh addresses of an underlay; its name begins with the story's.

        The gateway is the underlay's.
        """
        ips = underlay.take(family, count)
        spec = {"gateway": str(underlay.gateway(family)), **spec}
        return self.pool_of(
            name, str(underlay.network(family)), [f"{ips[0]}-{ips[-1]}"] if count else [], **spec
        )

    def pool_of(self, name: str, subnet: str, ips: Sequence[str], **spec: Any) -> str:
        """Make a pool of given addresses; a key with None as value is left out."""
        full_name = f"{self.namespace}-{name}"
        given = {key: value for key, value in spec.items() if value is not None}
        self.kube.create(manifests.pool(full_name, subnet, ips, **given))
        self.pools.append(full_name)
        return full_name

    def subnet(
        self, name: str, underlay: Underlay = ENS192, family: int = 4, count: int = 10, **spec: Any
    ) -> str:
        """
        Make a subnet of fresh addresses of an underlay.

        No pool of that underlay may be there.
        """
        ips = underlay.take(family, count)
        spec = {"gateway": str(underlay.gateway(family)), "ips": [f"{ips[0]}-{ips[-1]}"], **spec}
        return self.subnet_of(
            f"{self.namespace}-{name}", subnet=str(underlay.network(family)), **spec
        )

    def subnet_of(self, full_name: str, **spec: Any) -> str:
        """
        Make a subnet of a given name and specification.

        One of that CIDR that a failed story left goes first.
        """
        until_none(
            lambda: self._subnets_of(spec["subnet"]),
            f"no other subnet has {spec['subnet']}",
            within_s=60,
        )
        metadata = {"name": full_name, "labels": {manifests.TEST_LABEL: "true"}}
        self.kube.create({"kind": "SpiderSubnet", "metadata": metadata, "spec": spec})
        self.subnets.append(full_name)
        return full_name

    def auto_pools(self, subnet: str = "") -> list[Thing]:
        """Return the pools that were made for applications from one of the story's subnets, or from all, by name."""
        mine = {subnet} if subnet else set(self.subnets)
        pools = [
            pool
            for pool in self.kube.list("SpiderIPPool")
            if pool["metadata"].get("labels", {}).get(OF_SUBNET) in mine
        ]
        return sorted(pools, key=lambda pool: pool["metadata"]["name"])

    def reserve(self, name: str, *ips: str) -> str:
        """Reserve addresses."""
        full_name = f"{self.namespace}-{name}"
        metadata = {"name": full_name, "labels": {manifests.TEST_LABEL: "true"}}
        self.kube.create(
            {"kind": "SpiderReservedIP", "metadata": metadata, "spec": {"ips": list(ips)}}
        )
        self._reserved.append(full_name)
        return full_name

    def macvlan(self, name: str, underlay: Underlay = ENS192, **ipam: Any) -> str:
        """Make a macvlan network in the story's namespace and give `namespace/name`."""
        self.kube.create(manifests.macvlan(name, self.namespace, underlay.master, ipam))
        return f"{self.namespace}/{name}"

    def coordinated(self, name: str, underlay: Underlay = ENS192) -> str:
        """Make a macvlan network with the coordinator behind it, and give `namespace/name`."""
        self.kube.create(manifests.coordinated(name, self.namespace, underlay.master))
        return f"{self.namespace}/{name}"

    def pod(
        self,
        name: str = "pod",
        annotations: Mapping[str, Any] | None = None,
        *,
        node: str = "node1",
        labels: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Pod:
        """Make a pod, by default one that is given time to run."""
        manifest = manifests.pod(
            name, self.namespace, annotations or {}, labels or {}, manifests.pod_spec(node)
        )
        pod = Pod(self.kube, self.kube.create(manifest))
        if wait:
            self.wait_running(pod)
        return pod

    def workload(
        self, kind: str, name: str, replicas: int, annotations: Mapping[str, Any], **more: Any
    ) -> None:
        """Make a Deployment or StatefulSet; `selector` is its pods' nodeSelector."""
        spec = manifests.pod_spec(selector=more.pop("selector", None))
        self.kube.create(
            manifests.workload(kind, name, self.namespace, replicas, annotations, spec, **more)
        )

    def annotate_template(self, kind: str, name: str, annotations: Mapping[str, Any]) -> None:
        """Change annotations of a workload's template; None takes one away."""
        given = {
            key: None if value is None else manifests.texts({key: value})[key]
            for key, value in annotations.items()
        }
        body = {"spec": {"template": {"metadata": {"annotations": given}}}}
        self.kube.patch(kind, name, body, self.namespace)

    # --- looking
    # ------------------------------------------------------------------------------------------------------------

    def wait_running(self, *pods: Pod, within_s: float = START_S) -> None:
        """Wait until pods run; a failure shows what their Events say."""
        until(
            lambda: all(pod.runs() for pod in pods),
            f"{', '.join(map(str, pods))} run",
            within_s=within_s,
            seen=lambda: [
                (pod.name, event["reason"], event["message"])
                for pod in pods
                for event in pod.events()[-4:]
            ],
        )

    def wait_gone(self, *pods: Pod, within_s: float = 30) -> None:
        """Wait until pod objects are gone."""
        until_none(
            lambda: [pod for pod in pods if pod.thing], "the pods are gone", within_s=within_s
        )

    def delete(self, *pods: Pod) -> None:
        """Delete pods and wait until they are gone."""
        for pod in pods:
            self.kube.delete("Pod", pod.name, self.namespace)
        self.wait_gone(*pods)

    def wait_replicas(self, app: str, count: int, within_s: float = 60) -> list[Pod]:
        """Wait until a workload has so many running pods and no other, and give them by name."""

        def settled() -> list[Thing]:
            things = self.kube.list("Pod", self.namespace, labels=f"app={app}")
            return things if len(things) == count and all(map(is_running, things)) else []

        if count == 0:
            until_none(
                lambda: self.kube.list("Pod", self.namespace, labels=f"app={app}"),
                f"{app} has no pods",
                within_s=within_s,
            )
            return []
        things = until(
            settled, f"{app} has {count} running pods", within_s=within_s, seen=self.words
        )
        return [
            Pod(self.kube, thing)
            for thing in sorted(things, key=lambda thing: thing["metadata"]["name"])
        ]

    def words(self, count: int = 8) -> list[tuple[str, str, str]]:
        """Return the story's last warnings, for a failure's text."""
        events = [
            event for event in self.kube.list("Event", self.namespace) if event["type"] == "Warning"
        ]
        return [
            (event["involvedObject"]["name"], event["reason"], event["message"])
            for event in events[-count:]
        ]

    def warning(self, pod: Pod, *parts: str, within_s: float = 30) -> str:
        """Wait for a warning of the agent on a pod that has all these parts, and give its text."""

        def told() -> list[str]:
            messages = [
                event["message"]
                for event in pod.events()
                if event["type"] == "Warning" and is_ours(event)
            ]
            return [message for message in messages if all(part in message for part in parts)]

        seen = lambda: [(event["reason"], event["message"]) for event in pod.events()]  # noqa: E731
        return until(
            told, f"an Event on {pod} says {' … '.join(parts)}", within_s=within_s, seen=seen
        )[0]

    def records(self, pool: str = "", *, states: Iterable[str] = ("Held",)) -> list[Record]:
        """Return the records of one of the story's pools or of all, and of its namespace, by address."""
        pools = {pool} if pool else set(self.pools)
        found = [record for record in all_records(self.kube) if record.state in set(states)]
        mine = [
            record
            for record in found
            if record.pool in pools or (not pool and record.namespace == self.namespace)
        ]
        return sorted(mine, key=lambda record: (record.ip.version, record.ip))

    def sips_of(self, pod: Pod) -> set[tuple[str, IPAddress]]:
        """Return the pairs of NIC and address that the records say a pod holds."""
        return {(record.nic, record.ip) for record in self.records() if record.uid == pod.uid}

    # --- the promises
    # -------------------------------------------------------------------------------------------------------

    def assert_clean(self, within_s: float = 20) -> None:
        """
        Wait until kernel, records, pool status and endpoints agree, with nothing left over, as spiderpoolctl sees it too.

        It sees the whole cluster, so what earlier stories leave while they end (`Endings`) is
        waited for.
        """
        until_none(
            lambda: list(self.disagreements()),
            "kernel, records and what is derived from them agree",
            within_s=within_s,
        )
        until_none(
            lambda: audit.complaints(self.lab),
            "spiderpoolctl check has nothing to complain about",
            within_s=60,
        )

    def disagreements(self) -> Iterator[str]:
        """Say where kernel, records, pool status and endpoints do not meet."""
        things = {
            thing["metadata"]["uid"]: thing for thing in self.kube.list("Pod", self.namespace)
        }
        records = self.records()
        yield from self._pods_without_agreement(things, records)
        yield from self._records_without_pod(things, records)
        yield from self._wrong_status(records)
        yield from self._wrong_endpoints(things, records)

    def _pods_without_agreement(
        self, things: Mapping[str, Thing], records: Sequence[Record]
    ) -> Iterator[str]:
        """Name running pods whose kernel and records differ."""
        for uid, thing in things.items():
            held = {(record.nic, record.ip) for record in records if record.uid == uid}
            if is_running(thing) and (uses := Inside(uid).underlay()) != held:
                yield f"pod {thing['metadata']['name']} has {_pairs(uses)} and holds {_pairs(held)}"

    def _records_without_pod(
        self, things: Mapping[str, Thing], records: Sequence[Record]
    ) -> Iterator[str]:
        """Name records whose holder is gone and not awaited."""
        for record in records:
            if record.uid not in things and not (record.static and self._is_awaited(record.pod)):
                yield f"{record.ip} of {record.pool} is held by {record.pod} ({record.uid}), which is gone"

    def _is_awaited(self, name: str) -> bool:
        """Return whether a StatefulSet will make a pod of this name again."""
        owner, _, ordinal = name.rpartition("-")
        stateful_set = self.kube.get("StatefulSet", owner, self.namespace)
        return stateful_set is not None and int(ordinal) < stateful_set["spec"]["replicas"]

    def _wrong_status(self, records: Sequence[Record]) -> Iterator[str]:
        """Name pools whose status is not what their records say."""
        for name in self.pools:
            status = (self.kube.get("SpiderIPPool", name) or {}).get("status", {})
            shown = {ip_address(text) for text in json.loads(status.get("allocatedIPs") or "{}")}
            count = status.get("allocatedIPCount", 0)
            held = {record.ip for record in records if record.pool == name}
            if shown != held or count != len(held):
                yield f"pool {name} shows {sorted(map(str, shown))}, count {count}, and has {sorted(map(str, held))}"

    def _wrong_endpoints(
        self, things: Mapping[str, Thing], records: Sequence[Record]
    ) -> Iterator[str]:
        """Name endpoints that are not what the records say, and those missing."""
        endpoints = {
            thing["metadata"]["name"]: thing
            for thing in self.kube.list("SpiderEndpoint", self.namespace)
        }
        for name, endpoint in endpoints.items():
            shown = {
                ip_interface(text).ip
                for item in endpoint["status"]["current"]["ips"]
                for text in _addresses(item)
            }
            held = {record.ip for record in records if record.pod == name}
            if shown != held:
                yield f"endpoint {name} shows {sorted(map(str, shown))}, held are {sorted(map(str, held))}"
        for uid, thing in things.items():
            name = thing["metadata"]["name"]
            if name not in endpoints and any(record.uid == uid for record in records):
                yield f"pod {name} holds addresses and has no endpoint"

    # --- the end
    # ------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """
        Delete everything.

        Whatever of it holds an address or an endpoint longer than it should is a failure.
        """
        for kind in WORKLOADS:
            self.kube.delete_all(kind, self.namespace, propagationPolicy="Background")
        until_none(self._remaining_pods, f"all pods of {self.namespace} are gone", within_s=60)
        until_none(self.records, "no address is held any more", within_s=30)
        until_none(
            lambda: self.kube.list("SpiderEndpoint", self.namespace),
            "no endpoint is left",
            within_s=20,
        )
        for name in self._reserved:
            self._delete("SpiderReservedIP", name)
        for name in self.pools:
            self._delete("SpiderIPPool", name)
        until_none(self._remaining_pools, "the pools are gone", within_s=20)
        if self.subnets:
            until_none(self._given_away, "the subnets have all their addresses back", within_s=20)
            for name in self.subnets:
                self._delete("SpiderSubnet", name)
            until_none(self._remaining_subnets, "the subnets are gone", within_s=20)
        self.kube.delete("Namespace", self.namespace)

    def _delete(self, kind: str, name: str) -> None:
        """Delete an object that webhooks judge; after an outage they may be away for a moment."""

        def done() -> bool:
            try:
                self.kube.delete(kind, name)
            except Refused as error:
                if error.code == HTTPStatus.INTERNAL_SERVER_ERROR:
                    return False
                raise
            return True

        until(done, f"the webhooks admit that {kind} {name} goes", within_s=60)

    def sweep(self) -> None:
        """
        Delete everything by force after a failure, so that the next story has a clean ground.

        Complain about nothing.
        """
        for kind in WORKLOADS:
            self.kube.delete_all(kind, self.namespace, propagationPolicy="Background")
        self.kube.delete_all("Pod", self.namespace)
        sweep_pools(self.kube)
        self.kube.delete("Namespace", self.namespace)

    def _remaining_pods(self) -> list[str]:
        """Return the pods that are left, after asking those that nobody asked yet to end."""
        things = self.kube.list("Pod", self.namespace)
        for thing in things:
            if not thing["metadata"].get("deletionTimestamp"):
                self.kube.delete("Pod", thing["metadata"]["name"], self.namespace)
        return [thing["metadata"]["name"] for thing in things]

    def _remaining_pools(self) -> list[str]:
        """Return the story's pools that still exist."""
        mine = set(self.pools)
        return [
            name
            for pool in self.kube.list("SpiderIPPool")
            if (name := pool["metadata"]["name"]) in mine
        ]

    def _subnets_of(self, cidr: str) -> list[str]:
        """Return the subnets that have a CIDR."""
        return [
            thing["metadata"]["name"]
            for thing in self.kube.list("SpiderSubnet")
            if thing["spec"]["subnet"] == cidr
        ]

    def _given_away(self) -> list[tuple[str, str]]:
        """Return what the story's subnets still say of pools."""
        subnets = [self.kube.need("SpiderSubnet", name) for name in self.subnets]
        shown = [
            (subnet["metadata"]["name"], subnet.get("status", {}).get("controlledIPPools", ""))
            for subnet in subnets
        ]
        return [(name, text) for name, text in shown if text]

    def _remaining_subnets(self) -> list[str]:
        """Return the story's subnets that still exist."""
        return [name for name in self.subnets if self.kube.get("SpiderSubnet", name)]

    def ended(self, pod: Pod) -> bool:
        """Return whether no process of a pod is left."""
        return not processes_of(pod.uid)


def all_records(kube: Kube) -> list[Record]:
    """Return every SpiderIP of the cluster."""
    return [_record(thing["spec"]) for thing in kube.list("SpiderIP")]


def _record(spec: Thing) -> Record:
    """Read a SpiderIP's spec."""
    holder = spec["holder"]
    return Record(
        ip=ip_address(spec["ip"]),
        pool=spec["pool"],
        state=spec["state"],
        namespace=holder.get("namespace", ""),
        pod=holder.get("name", ""),
        uid=holder.get("uid", ""),
        nic=holder.get("nic", ""),
        node=holder.get("node", ""),
        static=spec.get("static", False),
    )


def _addresses(item: Thing) -> list[str]:
    """Return the addresses of one NIC of an endpoint."""
    return [item[key] for key in ("ipv4", "ipv6") if item.get(key)]


def _pairs(pairs: Iterable[tuple[str, IPAddress]]) -> list[str]:
    """Show pairs of NIC and address."""
    return sorted(f"{nic} {ip}" for nic, ip in pairs)


def is_ours(event: Thing) -> bool:
    """Return whether an Event is one of Spiderpool's, not kubelet's or the scheduler's."""
    who = f"{event.get('source', {}).get('component', '')} {event.get('reportingComponent', '')}"
    return "spiderpool" in who or "multus" in who


def kubelet_says(pod: Pod, *parts: str) -> bool:
    """
    Return whether kubelet's own Event on a pod that does not start has all these parts.

    CNI's answer, as the user meets it.
    """
    messages = [
        event["message"] for event in pod.events() if event["reason"] == "FailedCreatePodSandBox"
    ]
    return any(all(part in message for part in parts) for message in messages)


def sweep_pools(kube: Kube) -> None:
    """
    Delete what stories that were cut off have left.

    Pools, subnets with theirs, and reserved addresses by their label.
    """
    for kind in ("SpiderSubnet", "SpiderIPPool", "SpiderReservedIP"):
        for thing in kube.list(kind, labels=manifests.TEST_LABEL):
            try:
                kube.delete(kind, thing["metadata"]["name"])
            except Refused:
                continue
