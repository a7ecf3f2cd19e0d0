"""What a lab changes on the machine outside of its own namespaces, and how that is taken back."""

from pathlib import Path

from spiderlab import namespaces, nodeconfig
from spiderlab.state import State

KUBELET_WRITES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Settings that every kubelet sets for itself; the kernel has one of each for all namespaces."""

_SYS = Path("/proc/sys")


def note(state: State) -> None:
    """Remember how things are before the first change."""
    state.kernel = {
        key: (_SYS / key).read_text().strip() for key in KUBELET_WRITES if (_SYS / key).exists()
    }
    state.folders = missing_folders(list(nodeconfig.MOUNTS))
    state.netns_mount = not namespaces.is_mount_point()


def missing_folders(targets: list[str]) -> list[str]:
    """Folders that must be made so that all targets exist, parents first."""
    missing = {
        str(path)
        for target in targets
        for path in (Path(target), *Path(target).parents)
        if not path.exists()
    }
    return sorted(missing, key=lambda path: path.count("/"))


def make_folders(state: State) -> None:
    """Make the mount points that the machine lacks."""
    for folder in state.folders:
        Path(folder).mkdir(exist_ok=True)


def restore(state: State) -> None:
    """Put back what `note` remembered."""
    for key, value in state.kernel.items():
        if (_SYS / key).read_text().strip() != value:
            (_SYS / key).write_text(value)
    for folder in reversed(state.folders):
        path = Path(folder)
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if state.netns_mount:
        namespaces.unmount_folder()
