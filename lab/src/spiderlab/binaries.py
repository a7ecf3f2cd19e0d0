"""Programs that no distribution has: built once from pinned Go modules, or taken from KUBE_BIN_DIR.

Each set has a folder whose name holds the hash of all that went in, and which appears in one
rename: a set that is there is whole and right.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spiderlab import paths, toolchain
from spiderlab.cachelock import alone
from spiderlab.errors import LabError
from spiderlab.peers import Cni, Meta, Peers
from spiderlab.progress import Progress, Stage

SOURCES = Path(__file__).resolve().parents[2] / "go"
KUBERNETES = "v1.34.4"
HELM = "v3.19.0"
COREDNS = "v1.12.1"
MULTUS_VERSION = "v4.2.3"
KUBE_ROUTER_VERSION = "v2.1.0"
_KUBE_VERSION = "k8s.io/component-base/version"
_CNI_PLUGINS = "github.com/containernetworking/plugins/plugins"
_KUBE_ROUTER = "github.com/cloudnativelabs/kube-router/v2"
_MULTUS = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4"


@dataclass(frozen=True, slots=True)
class BinarySet:
    """Programs built from one Go module."""

    name: str
    title: str
    packages: tuple[str, ...]
    variables: tuple[str, ...] = ()
    """What the linker writes into string variables, such as the version."""

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the files."""
        return tuple(package.rpartition("/")[2] for package in self.packages)

    @property
    def module(self) -> Path:
        """The folder of go.mod."""
        return SOURCES / self.name


KUBE = BinarySet(
    "kube",
    f"Kubernetes {KUBERNETES}",
    tuple(
        f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubectl",
            "kubelet",
        )
    ),
    (
        f"{_KUBE_VERSION}.gitVersion={KUBERNETES}",
        f"{_KUBE_VERSION}.gitMajor={KUBERNETES.split('.', maxsplit=1)[0].removeprefix('v')}",
        f"{_KUBE_VERSION}.gitMinor={KUBERNETES.split('.')[1]}",
        f"{_KUBE_VERSION}.gitTreeState=clean",
    ),
)
CNI = BinarySet(
    "cni",
    "CNI plugins",
    (
        *(f"{_CNI_PLUGINS}/main/{name}" for name in ("macvlan", "ptp", "bridge", "loopback")),
        *(f"{_CNI_PLUGINS}/ipam/{name}" for name in ("host-local", "static")),
        *(f"{_CNI_PLUGINS}/meta/{name}" for name in ("portmap", "tuning")),
        "spiderpool.lab/cni/cmd/lab-calico",
    ),
)
HELM_SET = BinarySet(
    "helm",
    f"Helm {HELM}",
    ("helm.sh/helm/v3/cmd/helm",),
    (f"helm.sh/helm/v3/internal/version.version={HELM}",),
)
DNS = BinarySet("coredns", f"CoreDNS {COREDNS}", ("spiderpool.lab/coredns/cmd/coredns",))
MULTUS = BinarySet(
    "multus",
    f"Multus {MULTUS_VERSION}",
    tuple(f"{_MULTUS}/cmd/{name}" for name in ("multus", "install_multus", "passthru-cni")),
    (f"{_MULTUS}/pkg/multus.version={MULTUS_VERSION}",),
)
KUBE_ROUTER = BinarySet(
    "kube-router",
    f"kube-router {KUBE_ROUTER_VERSION}",
    (f"{_KUBE_ROUTER}/cmd/kube-router",),
    (f"{_KUBE_ROUTER}/pkg/version.Version={KUBE_ROUTER_VERSION}",),
)
BASE = (KUBE, CNI, HELM_SET, DNS)
"""What every lab runs."""
PEERS = (MULTUS, KUBE_ROUTER)
"""What a lab runs that was asked for it."""
ALL = (*BASE, *PEERS)


def sets_of(peers: Peers) -> tuple[BinarySet, ...]:
    """The sets that a lab with these peers runs."""
    chosen = ((MULTUS, peers.meta is Meta.MULTUS), (KUBE_ROUTER, peers.cni is Cni.KUBE_ROUTER))
    return (*BASE, *(binaries for binaries, wanted in chosen if wanted))


def folder(binaries: BinarySet) -> Path:
    """Where a set's programs are, or will be once built."""
    if binaries is KUBE and (given := os.environ.get("KUBE_BIN_DIR")):
        return Path(given)
    return paths.cache() / "bin" / f"{binaries.name}-{stamp(binaries)}"


def stamp(binaries: BinarySet) -> str:
    """A hash of all that decides what comes out of a build."""
    digest = hashlib.sha256("\n".join((*binaries.packages, *binaries.variables)).encode())
    for source in sorted(binaries.module.rglob("*")):
        if source.suffix in {".go", ".mod", ".sum"} and not source.name.endswith("_test.go"):
            digest.update(
                str(source.relative_to(binaries.module)).encode() + b"\0" + source.read_bytes()
            )
    return digest.hexdigest()[:12]


def program(name: str) -> Path:
    """The path of one of the lab's own programs, such as `kubectl` or `helm`."""
    for binaries in ALL:
        if name in binaries.programs:
            path = folder(binaries) / name
            if not path.exists():
                wanted = f"spiderlab binaries {binaries.name}"
                raise LabError(f"{name} is not built yet; build it with: {wanted}")
            return path
    raise LabError(
        f"{name} is none of the lab's programs: {', '.join(p for b in ALL for p in b.programs)}"
    )


def named(names: list[str]) -> list[BinarySet]:
    """Return the sets of these names; those of every lab when there are none."""
    known = {binaries.name: binaries for binaries in ALL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LabError(f"there is no set {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(BASE)


def ensure(binaries: BinarySet, progress: Progress) -> None:
    """Build a set unless it is there; a warm cache costs a few milliseconds."""
    target = folder(binaries)
    if binaries is KUBE and "KUBE_BIN_DIR" in os.environ:
        _check_given(target)
        return
    if target.is_dir():
        return
    with alone(binaries.name):
        if not target.is_dir():
            with progress.stage(f"build {binaries.title} from Go modules (once)") as stage:
                _build(binaries, target, stage)


def _check_given(target: Path) -> None:
    missing = [name for name in KUBE.programs if not os.access(target / name, os.X_OK)]
    if missing:
        raise LabError(
            f"KUBE_BIN_DIR={target} lacks {', '.join(missing)}; put all of "
            f"{', '.join(KUBE.programs)} there"
        )


def _build(binaries: BinarySet, target: Path, stage: Stage) -> None:
    go = toolchain.ensure([binaries.module], stage.say)
    environment = go_environment()
    stage.say("fetch modules")
    total = len(_go_run([go, "list", "-deps", *binaries.packages], binaries, environment).split())
    for cut_off in target.parent.glob(f".{binaries.name}-*"):
        shutil.rmtree(cut_off)
    with tempfile.TemporaryDirectory(prefix=f".{binaries.name}-", dir=target.parent) as scratch:
        out = Path(scratch) / "out"
        out.mkdir()
        flags = " ".join(["-s", "-w", *(f"-X {variable}" for variable in binaries.variables)])
        command = [
            go,
            "build",
            "-v",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            flags,
            "-o",
            f"{out}/",
            *binaries.packages,
        ]
        _follow(command, binaries, environment, total, stage)
        out.rename(target)


def go_environment() -> dict[str, str]:
    """The lab's own Go caches, so that a person's are neither used nor filled."""
    caches = paths.cache() / "go"
    return os.environ | {
        "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off",
        "GOFLAGS": "-modcacherw -mod=readonly",
        "GOMODCACHE": str(caches / "mod"), "GOCACHE": str(caches / "build"),
    }  # fmt: skip


def _go_run(command: list[str], binaries: BinarySet, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=binaries.module, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"{binaries.title}: {' '.join(command[:3])}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _follow(
    command: list[str], binaries: BinarySet, environment: dict[str, str], total: int, stage: Stage
) -> None:
    """Run a build and count the packages it names as it goes."""
    said: list[str] = []
    with subprocess.Popen(
        ["nice", *command],
        cwd=binaries.module,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as building:
        assert building.stderr is not None  # noqa: S101 (asked for above)
        for line in building.stderr:
            said.append(line)
            stage.say(f"{len(said)} of at most {total} packages")
    if building.returncode:
        raise LabError(
            f"{binaries.title}: go build: exit {building.returncode}: {''.join(said[-20:]).strip()}"
        )
