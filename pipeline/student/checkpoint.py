"""A run's checkpoints: everything it needs to resume as if it had never stopped."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.models.checkpoints import DESCRIPTION
from logitbank.pipeline.student.checkpoint_file import DamagedCheckpointError
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.run_contents import AVERAGE, BEST, CONFIG, LAST, METRICS
from logitbank.pipeline.student.run_folder import Metrics, RunFolder, is_whole, metrics_text
from logitbank.pipeline.student.trainer import Trainer
from logitbank.stores.errors import LogitbankError

_LOG = logging.getLogger(__name__)
LearnedFrom = dict[str, str | None]
_PARTS = {"model", DESCRIPTION, "training"}


@dataclass(frozen=True)
class History:
    """A run after some whole epochs: their metrics, and the thread count they were trained at.

    `learned_from` are the digests of what was learned from, by kind.
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
        """Return the history with one more epoch."""
        return History((*self.metrics, metrics), self.threads, self.learned_from)


@dataclass(frozen=True)
class LastEpoch:
    """A run as `last.pt` left it: its history, and the content of the file, read once."""

    history: History
    content: dict[str, Any]

    @property
    def metrics(self) -> Metrics:
        """The metrics of the epoch."""
        return self.history.metrics[-1]


def save(run: RunFolder, config: TrainConfig, trainer: Trainer, history: History) -> None:
    """Save a finished epoch. `last.pt` decides: what is killed before it did not happen."""
    run.put_metrics(history.metrics)
    run.put_checkpoint(LAST, _last(config, trainer, history))
    _save_best(run, trainer.model, history)
    if trainer.average is not None:
        run.put_checkpoint(AVERAGE, _weights(trainer.average.model, history.metrics[-1]))


def load_last(run: RunFolder, config: TrainConfig, learned_from: LearnedFrom) -> LastEpoch | None:
    """Return how far a run has come, None if it has finished no epoch, or starts again.

    A damaged `last.pt` is set aside with everything that belongs to it.

    Args:
        run: the owned folder.
        config: resolved; that of the run must be the same, by `config.yaml` and by `last.pt`.
        learned_from: the digests of what is to be learned from.

    Raises:
        LogitbankError: it learned from something else, or with another or an unknown configuration;
            or `last.pt` is not a run's.
    """
    found = run.config(config)
    if found is not None:
        run.require_same(found, config)
    try:
        content = run.checkpoint(LAST)
    except DamagedCheckpointError as error:
        if not run.has(CONFIG):
            raise LogitbankError(f"{error}, and there is no {CONFIG}: name another --out") from None
        _start_again(run, str(error))
        content = None
    if content is None:
        _set_torn_config_aside(run, found)
        if run.has(BEST) or run.has(AVERAGE):
            _start_again(run, f"{run.path} has no {LAST}")
        return None
    last = _parsed(run, content)
    _require_same(run.path, last.history.learned_from, learned_from)
    _require_proven(run, found, config, content["training"].get("config"))
    _set_torn_config_aside(run, found)
    return last


def remaining_epochs(run: RunFolder, epochs: int) -> range:
    """Return the epochs that a run still has to train; nothing is set aside."""
    try:
        content = run.checkpoint(LAST, mapped=True)
    except DamagedCheckpointError:
        content = None  # The run would start again.
    return range(0 if content is None else len(content["training"]["metrics"]), epochs)


def resume(run: RunFolder, trainer: Trainer, last: LastEpoch) -> None:
    """Restore trainer and random generators from `last.pt`.

    Raises:
        LogitbankError: it is of another network than the student's is now.
    """
    training = last.content["training"]
    try:
        trainer.load_state(last.content["model"], training["state"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise LogitbankError(
            f"{run.path / LAST} does not fit {trainer.model.spec} as it is built now ({reason}): "
            "name another --out"
        ) from error
    torch.set_rng_state(training["rng"]["cpu"])
    if trainer.device.type == "cuda":
        torch.cuda.set_rng_state(training["rng"]["cuda"], trainer.device)


def mend(run: RunFolder, config: TrainConfig, last: LastEpoch) -> None:
    """Bring the other files in line with `last.pt`, in case the run was killed between them.

    What is damaged is set aside and written again. The weights of a best epoch before the last one
    are in no other file: if they are lost, a warning says so, and `best.pt` is missing until an
    epoch is better.
    """
    history, content = last.history, last.content
    _mend_texts(run, config, history)
    best = _epoch_of(run, BEST)
    if history.best == history.metrics[-1]:
        if not _same(best, history.best):
            run.put_checkpoint(
                BEST, _checkpoint(content["model"], content[DESCRIPTION], history.best)
            )
    elif not _same(best, history.best):
        if best is not None:
            free = run.set_aside(BEST, "damaged")
            _LOG.warning("%s is of another epoch: set aside as %s", run.path / BEST, free)
        _LOG.warning(
            "%s: the weights of the best epoch, %d, are lost: there is no %s until a later epoch "
            "is better",
            run.path,
            history.best["epoch"] + 1,
            BEST,
        )
    average = content["training"]["state"].get("average")
    if average is not None and not _same(_epoch_of(run, AVERAGE), last.metrics):
        run.put_checkpoint(AVERAGE, _checkpoint(average, content[DESCRIPTION], last.metrics))


def _mend_texts(run: RunFolder, config: TrainConfig, history: History) -> None:
    if not run.has(CONFIG):
        run.put_text(CONFIG, config.to_yaml())
    text = run.text(METRICS)
    if run.has(METRICS) and not is_whole(text):
        free = run.set_aside(METRICS, "damaged")
        _LOG.warning(
            "%s is damaged: set aside as %s, and written again from %s",
            run.path / METRICS,
            free,
            LAST,
        )
    if text != metrics_text(history.metrics):
        run.put_metrics(history.metrics)


def _epoch_of(run: RunFolder, name: str) -> Metrics | None:
    """Return the metrics of the epoch that a file of weights is of; a damaged one is set aside."""
    try:
        # The tensors of the last epoch are in memory already: these stay on the disk.
        found = run.checkpoint(name, mapped=True)
    except DamagedCheckpointError as error:
        _LOG.warning("%s: set aside as %s", error, run.set_aside(name, "damaged"))
        return None
    return None if found is None else found["training"]["metrics"]


def _same(one: Metrics | None, other: Metrics) -> bool:
    # As text, since NaN does not equal itself.
    return one is not None and json.dumps(one) == json.dumps(other)


def _start_again(run: RunFolder, why: str) -> None:
    """Set aside everything that an earlier attempt wrote, with a warning."""
    aside = []
    for name in (LAST, METRICS, BEST, AVERAGE):
        if run.has(name):
            aside.append(run.set_aside(name, "damaged" if name == LAST else "earlier"))
    _LOG.warning("%s: the run starts again, earlier files are kept as %s", why, ", ".join(aside))


def _set_torn_config_aside(run: RunFolder, found: TrainConfig | None) -> None:
    if found is None and run.has(CONFIG):
        free = run.set_aside(CONFIG, "damaged")
        _LOG.warning("%s is damaged: set aside as %s, and written again", run.path / CONFIG, free)


def _require_proven(
    run: RunFolder, found: TrainConfig | None, config: TrainConfig, written: Any
) -> None:
    """Check that a run's epochs were trained with this configuration.

    Older runs hold it in `config.yaml` alone, newer ones in `last.pt` as well.
    """
    if isinstance(written, str):
        run.require_same(TrainConfig.from_yaml(written, str(run.path / LAST)), config)
    elif found is None:
        raise LogitbankError(
            f"{run.path} has no intact {CONFIG}, and its {LAST} does not say with which "
            "configuration it was trained: name another --out"
        )


def _parsed(run: RunFolder, content: dict[str, Any]) -> LastEpoch:
    training = content["training"]
    try:
        metrics = tuple(training["metrics"])
        history = History(metrics, training["threads"], dict(training["learned_from"]))
        is_all_there = training.keys() >= {"state", "rng"} and content.keys() >= _PARTS
        is_all_there &= history.best["epoch"] <= metrics[-1]["epoch"] == len(metrics) - 1
    except (KeyError, TypeError, ValueError, IndexError):
        is_all_there = False
    if not is_all_there:
        raise LogitbankError(
            f"{run.path / LAST} is not the last epoch of a run: name another --out"
        )
    return LastEpoch(history, content)


def _save_best(run: RunFolder, model: LoadedModel, history: History) -> None:
    if history.best == history.metrics[-1]:
        run.put_checkpoint(BEST, _weights(model, history.best))


def _weights(model: LoadedModel, metrics: Metrics) -> dict[str, Any]:
    return _checkpoint(model.module.state_dict(), model.description(), metrics)


def _checkpoint(network: Any, description: dict[str, Any], metrics: Metrics) -> dict[str, Any]:
    return {"model": network, DESCRIPTION: description, "training": {"metrics": metrics}}


def _last(config: TrainConfig, trainer: Trainer, history: History) -> dict[str, Any]:
    rng = {"cpu": torch.get_rng_state()}
    if trainer.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(trainer.device)
    training = {
        "config": config.to_yaml(),
        "metrics": list(history.metrics),
        "threads": history.threads,
        "learned_from": history.learned_from,
        "state": trainer.state(),
        "rng": rng,
    }
    model = trainer.model
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
            f"{run} has learned from something else so far ({'; '.join(different)}): name "
            "another --out"
        )
