"""What happens and how long it took, for the person at the terminal."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

PLAIN_EVERY_S = 15.0


class Stage:
    """One step on the way; `say` tells how far it is."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""

    def say(self, note: str) -> None:
        """Replace what is shown beside the title."""
        self.note = note

    def line(self, seconds: float) -> str:
        """The whole line while it runs."""
        return f"{self.title} … {self.note + ', ' if self.note else ''}{seconds:.0f} s"


class Progress:
    """Stages, each with its duration, on standard error; standard output stays for answers."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """One line that is no stage."""
        self._console.print(text, markup=False)

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Show a stage while it runs, and its duration when it is done."""
        stage, began = Stage(title), time.monotonic()
        done = threading.Event()
        showing = threading.Thread(target=self._show, args=(stage, began, done), daemon=True)
        showing.start()
        try:
            yield stage
        except BaseException:
            self._finish(done, showing, f"[red]✗[/] {title} ({time.monotonic() - began:.1f} s)")
            raise
        self._finish(done, showing, f"[green]✓[/] {title} ({time.monotonic() - began:.1f} s)")

    def _finish(self, done: threading.Event, showing: threading.Thread, line: str) -> None:
        done.set()
        showing.join()
        self._console.print(line)

    def _show(self, stage: Stage, began: float, done: threading.Event) -> None:
        if not self._console.is_terminal:
            while not done.wait(PLAIN_EVERY_S):
                self._console.print("  " + stage.line(time.monotonic() - began), markup=False)
            return
        with self._console.status(stage.title) as status:
            while not done.wait(0.2):
                status.update(stage.line(time.monotonic() - began))
