"""
Stories end beside the next ones: names and addresses are their own, so what they leave may go away while others begin.

Tests that are marked `still` are the exception: they change the cluster, or look at all of it, and begin when all has ended.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from tests.lab.kube import Kube
from tests.lab.story import Story

AT_A_TIME = 3  # more of them take the processors from the story that runs


class Endings:
    """The ends of stories that are over."""

    def __init__(self) -> None:
        """Begin with none."""
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="ending")
        self._begun: list[Future[None]] = []

    def begin(self, story: Story) -> None:
        """Let a story end; what goes wrong is raised by the next call of this class."""
        self._raise(done_only=True)
        self._begun.append(self._threads.submit(_end, story))

    def join(self) -> None:
        """Wait until all have ended."""
        self._raise(done_only=False)

    def _raise(self, *, done_only: bool) -> None:
        """Take leave of stories, and raise the first failure of them."""
        ended = [future for future in self._begun if future.done() or not done_only]
        self._begun = [future for future in self._begun if future not in ended]
        errors = [error for future in ended if (error := future.exception())]
        if errors:
            raise errors[0]


def _end(story: Story) -> None:
    """Close a story over a connection of its own."""
    story.kube = Kube(story.kube.kubeconfig)
    try:
        story.close()
    except BaseException as error:
        story.sweep()
        raise AssertionError(f"{story.namespace}, an earlier story, did not end: {error}") from error
    finally:
        story.kube.close()
