"""
Stories end beside the next ones: names and addresses are their own, so what they leave may go away while others begin.

Tests that are marked `still` are the exception: they change the cluster, or look at all of it, and
begin when all has ended.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from tests.lab.kube import Kube
from tests.lab.story import Story

AT_A_TIME = 3  # more of them take the processors from the story that runs


@dataclass(frozen=True, slots=True)
class _Ending:
    """A story that ends; `kube` is the connection that it had before."""

    story: Story
    kube: Kube
    future: Future[None]

    def failure(self) -> Exception | None:
        """
        Wait for the end, and give what went wrong, with the story's name.

        What is left then is removed.
        """
        error = self.future.exception()
        if error is None:
            return None
        if not isinstance(error, Exception):
            raise error
        error.add_note(f"at the end of {self.story.namespace}")
        self.story.kube = self.kube
        try:
            self.story.sweep()
        except Exception as another:  # noqa: BLE001 - the first error is the one to tell
            error.add_note(f"and what it left could not be removed: {another}")
        return error


class Endings:
    """The ends of stories that are over."""

    def __init__(self) -> None:
        """Begin with none."""
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="ending")
        self._begun: list[_Ending] = []

    def begin(self, story: Story) -> None:
        """
        Let a story end.

        What goes wrong is raised here when a later one begins to end, or by `join`.
        """
        self._begun.append(_Ending(story, story.kube, self._threads.submit(_end, story)))
        self._take_leave([ending for ending in self._begun if ending.future.done()])

    def join(self) -> None:
        """Wait until all have ended."""
        self._take_leave(self._begun.copy())

    def _take_leave(self, endings: list[_Ending]) -> None:
        """Wait for these; after a failure nothing of them is left all the same."""
        self._begun = [ending for ending in self._begun if ending not in endings]
        errors = [error for ending in endings if (error := ending.failure())]
        if errors:
            raise ExceptionGroup("earlier stories did not end", errors)


def _end(story: Story) -> None:
    """Close a story over a connection of its own."""
    with closing(Kube(story.kube.kubeconfig)) as story.kube:
        story.close()
