"""What a worker needs to know to begin, wherever it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mtpcli.batch.shapes import Shape
from mtpcli.batch.worker import Backend, Defaults, Preparer, Worker

if TYPE_CHECKING:
    from mtpcli.config import DraftConfig, RuntimeConfig
    from mtpcli.session import PairPaths, Session


@dataclass(frozen=True)
class Job:
    """A batch without its rows: plain data that can be sent to another machine.

    Attributes:
        paths: the models' files.
        draft, runtime: how to run them; with a keeper what all prompts begin with is decoded once.
        shape: of the rows.
        defaults: for rows that do not say otherwise.
    """

    paths: PairPaths
    draft: DraftConfig
    runtime: RuntimeConfig
    shape: Shape
    defaults: Defaults

    def abroad(self, threads: int) -> Job:
        """The same for another working folder, with so many threads."""
        drafter = self.paths.drafter and self.paths.drafter.absolute()
        paths = replace(self.paths, target=self.paths.target.absolute(), drafter=drafter)
        return replace(self, paths=paths, runtime=replace(self.runtime, threads=threads))

    def session(self) -> Session:
        """Load the models.

        Raises:
            ModelError: a file is missing or damaged, or the two do not fit each other.
        """
        from mtpcli.session import Session

        return Session(self.paths, self.draft, self.runtime)

    def preparer(self, backend: Backend) -> Preparer:
        """What makes requests of rows, checked.

        Raises:
            InputError, ModelError: see `Preparer.check`.
        """
        preparer = Preparer(backend, self.shape, self.defaults)
        preparer.check()
        return preparer

    def worker(self, backend: Backend) -> Worker:
        """What answers rows; the same errors."""
        preparer = self.preparer(backend)
        if self.runtime.keeper:
            backend.engine.share(preparer.beginning())
        return Worker(preparer, self.shape, backend.engine)
