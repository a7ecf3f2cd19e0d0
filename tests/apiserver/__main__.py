"""An API server of one's own: `python -m tests.apiserver` starts it, prints its kubeconfig and waits for Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from pathlib import Path

from tests.apiserver.control_plane import ControlPlane


def main() -> None:
    """Run etcd and an API server with our definitions until a signal comes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, ControlPlane(Path(folder)) as plane:
        print(plane.kubeconfig, flush=True)  # noqa: T201  the answer of this command
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
