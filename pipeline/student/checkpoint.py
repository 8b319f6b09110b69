"""A run's checkpoints: all that it needs to go on as if it had never stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.models.checkpoints import DESCRIPTION
from logitbank.pipeline.student.learner import Learner
from logitbank.pipeline.student.run_folder import AVERAGE, BEST, LAST, Metrics, RunFolder
from logitbank.stores.errors import LogitbankError

LearnedFrom = dict[str, str | None]


@dataclass(frozen=True)
class History:
    """A run after some whole epochs: their metrics, and the thread count they were trained at.

    `learned_from` are the digests of what was learned from, by what it is.
    """

    metrics: tuple[Metrics, ...]
    threads: int
    learned_from: LearnedFrom

    @property
    def best(self) -> Metrics:
        """The epoch of the highest top-1, the first of equals; the last one without any top-1."""
        scored = [epoch for epoch in self.metrics if epoch["top1"] is not None]
        return max(scored, key=lambda epoch: epoch["top1"]) if scored else self.metrics[-1]

    def and_then(self, metrics: Metrics) -> History:
        """Give the history one epoch later."""
        return History((*self.metrics, metrics), self.threads, self.learned_from)


def save(run: RunFolder, learner: Learner, history: History) -> None:
    """Write an epoch's end. `last.pt` decides: what is killed before it did not happen."""
    run.put_metrics(history.metrics)
    run.put_checkpoint(LAST, _last(learner, history))
    _save_best(run, learner.model, history)
    if learner.average is not None:
        run.put_checkpoint(AVERAGE, _weights(learner.average.model, history.metrics[-1]))


def load_history(run: RunFolder, learned_from: LearnedFrom) -> History | None:
    """Read how far a run has come, None if it has finished no epoch.

    Raises:
        LogitbankError: it learned from something else than this; or `last.pt` is damaged.
    """
    content = run.checkpoint(LAST)
    if content is None:
        return None
    training = content["training"]
    history = History(tuple(training["metrics"]), training["threads"], training["learned_from"])
    _require_same(run.path, history.learned_from, learned_from)
    return history


def remaining_epochs(run: RunFolder, epochs: int) -> range:
    """Give the epochs that a run of so many still has to train.

    Raises:
        LogitbankError: `last.pt` is damaged.
    """
    content = run.checkpoint(LAST)
    return range(0 if content is None else len(content["training"]["metrics"]), epochs)


def resume(run: RunFolder, learner: Learner) -> None:
    """Put learner and random generators to where `last.pt` left them."""
    content = run.checkpoint(LAST)
    assert content is not None, "its history was read"
    training = content["training"]
    learner.load_state(content["model"], training["state"])
    torch.set_rng_state(training["rng"]["cpu"])
    if learner.device.type == "cuda":
        torch.cuda.set_rng_state(training["rng"]["cuda"], learner.device)


def mend(run: RunFolder, history: History) -> None:
    """Bring the other files to what `last.pt` says, if the run was killed between them."""
    run.put_metrics(history.metrics)
    last = run.checkpoint(LAST)
    assert last is not None, "its history was read"
    if history.best == history.metrics[-1] and _is_stale(run, BEST, history):
        run.put_checkpoint(BEST, _checkpoint(last["model"], last[DESCRIPTION], history.best))
    average = last["training"]["state"].get("average")
    if average is not None and _is_stale(run, AVERAGE, history):
        content = _checkpoint(average, last[DESCRIPTION], history.metrics[-1])
        run.put_checkpoint(AVERAGE, content)


def _is_stale(run: RunFolder, name: str, history: History) -> bool:
    """Tell whether a file of weights is of another epoch than the last one, or not there."""
    found = run.checkpoint(name)
    return found is None or found["training"]["metrics"] != history.metrics[-1]


def _save_best(run: RunFolder, model: LoadedModel, history: History) -> None:
    if history.best == history.metrics[-1]:
        run.put_checkpoint(BEST, _weights(model, history.best))


def _weights(model: LoadedModel, metrics: Metrics) -> dict[str, Any]:
    return _checkpoint(model.module.state_dict(), model.description(), metrics)


def _checkpoint(network: Any, description: dict[str, Any], metrics: Metrics) -> dict[str, Any]:
    return {"model": network, DESCRIPTION: description, "training": {"metrics": metrics}}


def _last(learner: Learner, history: History) -> dict[str, Any]:
    rng = {"cpu": torch.get_rng_state()}
    if learner.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(learner.device)
    training = {
        "metrics": list(history.metrics),
        "threads": history.threads,
        "learned_from": history.learned_from,
        "state": learner.state(),
        "rng": rng,
    }
    model = learner.model
    return {
        "model": model.module.state_dict(),
        DESCRIPTION: model.description(),
        "training": training,
    }


def _require_same(run: Path, found: LearnedFrom, wanted: LearnedFrom) -> None:
    different = [
        f"{what} was {found.get(what)}, is now {wanted.get(what)}"
        for what in sorted(found.keys() | wanted.keys())
        if found.get(what) != wanted.get(what)
    ]
    if different:
        raise LogitbankError(
            f"{run} learned from something else so far ({'; '.join(different)}): give another "
            "--out, or remove it"
        )
