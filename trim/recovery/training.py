"""The training loop of a recovery: steps, learning rate, looks at the held-out windows, and the best weights so far."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trim.errors import NonFiniteError
from trim.evaluation.perplexity import check_windows
from trim.models.loaded import Model
from trim.recovery.divergence import divergence, losses
from trim.recovery.kept import KeptWeights
from trim.recovery.text import RecoveryText
from trim.runs.fields import read_fields
from trim.runs.recover_settings import RecoverSettings
from trim.runs.recovery import HeldOut

# A look measures the losses on the held-out windows; looks are evenly spaced. On a CPU each takes as long as a step.
LOOKS = {"cpu": 6, "cuda": 10}
PATIENCE = 4  # the training ends after this many looks in a row without a smaller loss
# The highest learning rate is this times the held-out divergence before the training times the size of the weights.
RATE_PER_NAT = 0.004
MAX_DAMAGE = 0.5  # a larger divergence, in nats, does not raise the rate further
WARM_UP = 0.05  # the share of the training in which the rate rises
MAX_GRADIENT_NORM = 1.0
PACE_STEPS = 4  # the steps that are timed before the number of steps is planned
UNKNOWN_STEPS = 10_000  # the planned number until then
MAX_RESTARTS = 3
MAX_LOSS_RATIO = 1.25  # a held-out loss above this times the best one shows that the rate is too high


@dataclass(frozen=True)
class ResolvedSettings:
    """The settings whose defaults depend on the pruned model, with their values."""

    corpus: str
    length: int
    batch: int
    sampled: float

    @classmethod
    def from_request(cls, request: RecoverSettings) -> "ResolvedSettings":
        """Read them from the recorded settings of a recovery.

        Raises:
            SettingsError: one is missing.
        """
        return read_fields(cls, dataclasses.asdict(request), "request")


@dataclass
class TrainingState:
    """The state of a training, except for tensors.

    Attributes:
        done: number of finished steps.
        planned: number of all steps; follows the pace where minutes are given.
        position: the share of the training that is done, from 0 to 1; sets the learning rate.
        looks: number of looks at the held-out windows after the first one.
        seconds: the duration so far.
        curve: the losses on the held-out windows, one entry a look.
        best: index in `curve` of the smallest divergence, whose weights are the result.
        restarts: the steps at which the best weights were restored, because the loss was NaN or far worse.
        ended: the reason for an early end; "" if there was none.
    """

    done: int = 0
    planned: int = UNKNOWN_STEPS
    position: float = 0.0
    looks: int = 0
    seconds: float = 0.0
    curve: list[HeldOut] = field(default_factory=list)
    best: int = 0
    restarts: list[int] = field(default_factory=list)
    ended: str = ""

    def rate(self) -> float:
        """Return the learning rate of the next step, as a share of the highest."""
        middle = self.position + self._step() / 2
        if middle < WARM_UP:
            return middle / WARM_UP * 0.5 ** len(self.restarts)
        through = min((middle - WARM_UP) / (1 - WARM_UP), 1.0)
        return 0.5 * (1 + math.cos(math.pi * through)) * 0.5 ** len(self.restarts)

    def advance(self) -> None:
        """Count a step."""
        self.position = 1.0 if self.done + 1 >= self.planned else self.position + self._step()
        self.done += 1

    def _step(self) -> float:
        return (1 - self.position) / max(1, self.planned - self.done)

    def replan(self, seconds_left: float, pace: float) -> None:
        """Plan as many further steps as the time that is left allows, at least one."""
        self.planned = self.done + max(1, int(seconds_left / pace))


def highest_rate(chosen: float | None, divergence: float) -> float:
    """Return the highest learning rate, as a share of the typical size of the kept weights.

    It grows with the divergence: rates that help a badly damaged model make a slightly damaged one worse.

    Args:
        chosen: the user's share; None: it is computed from the divergence.
        divergence: in nats per token, on the held-out windows before the training.
    """
    return RATE_PER_NAT * min(divergence, MAX_DAMAGE) if chosen is None else chosen


class Training:
    """Trains the kept weights of a model for the planned time or steps.

    Attributes:
        kept: the trained weights.
        text: the text of the training.
        state: the state of the training.
        best: (K,) float32 in host memory, the weights with the least held-out loss.
    """

    def __init__(
        self,
        dense: Model,
        student: Model,
        kept: KeptWeights,
        text: RecoveryText,
        state: TrainingState,
        request: RecoverSettings,
        *,
        size: float,
        in_one_pass: int,
    ) -> None:
        """Prepare the training.

        Args:
            dense: the dense model.
            student: the pruned model.
            kept: the trained weights of the student.
            text: the text of the training.
            state: from which to continue.
            request: the settings.
            size: the typical size of the kept weights before the training; the learning rate is a share of it.
            in_one_pass: number of windows in one forward and backward pass.
        """
        check_windows(dense, text.training)
        self.kept, self.text, self.state = kept, text, state
        self.best = kept.values.to("cpu", copy=True)
        self._dense, self._student = dense, student
        self._request, self._resolved = request, ResolvedSettings.from_request(request)
        self._size, self._in_one_pass = size, in_one_pass
        self._planned_looks = LOOKS[dense.device.type]
        self._planned_seconds = 60 * request.minutes if request.steps is None else None
        self._begin, self._seconds_before = time.monotonic(), state.seconds
        self._loss_before_last: Tensor | None = None
        self._last_loss: Tensor | None = None  # may still be computed on the GPU
        self._look_seconds = 0.0
        self._timed_from: tuple[int, float] | None = None  # steps and seconds when timing began
        self.consistent = True  # whether weights and averages belong to the same step

    def count_seconds(self) -> float:
        """Update the seconds of the training, and return them."""
        self.state.seconds = self._seconds_before + time.monotonic() - self._begin
        return self.state.seconds

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds until the end; None: not known yet."""
        if self._planned_seconds is not None:
            return max(0.0, self._planned_seconds - self.count_seconds())
        if self._timed_from is None or self.state.done <= self._timed_from[0]:
            return None
        return self._pace() * (self.state.planned - self.state.done) + self._seconds_of_looks()

    def run(
        self,
        after_step: Callable[[], None],
        measured: Callable[[HeldOut, bool], None],
        note: Callable[[str], None],
    ) -> None:
        """Train to the end.

        Args:
            after_step: called after each step; may raise to stop.
            measured: called with each measurement, and whether it is the best so far.
            note: called with notes for the user.

        Raises:
            NonFiniteError: the pruned model computes NaN before anything is trained.
        """
        state = self.state
        if not state.curve:
            self._look(measured)
        while state.position < 1 and not state.ended:
            self._one_step()
            if (
                self._planned_seconds is not None
                and state.planned == UNKNOWN_STEPS
                and state.done > PACE_STEPS
            ):
                self._replan(self._planned_seconds)
            due = state.position >= 1 or int(state.position * self._planned_looks) > state.looks
            if due and self._is_finite():
                state.looks = int(state.position * self._planned_looks)
                self._look(measured)
                if self._is_finite() and not self._restart_if_worse(note):
                    self._stop_if_stalled(note)
            if not self._is_finite():
                self._restart("the loss was not a number", note)
            after_step()

    def _one_step(self) -> None:
        """Read the windows of a step in one or several passes, and update the weights."""
        state = self.state
        if self._timed_from is None and state.done >= 1:  # the first step of a process is slow
            self._timed_from = (state.done, self.count_seconds())
        resolved = self._resolved
        windows = self.text.step(state.done, resolved.batch, resolved.sampled, self._request.seed)
        device = self._dense.device
        total = torch.zeros((), device=device)
        for part in windows.split(self._in_one_pass):
            tokens = part.to(device)
            with torch.no_grad():
                dense = self._dense.module(input_ids=tokens, use_cache=False).logits
            student = self._student.module(input_ids=tokens, use_cache=False).logits
            loss = divergence(student, dense, 1 / windows.numel())
            del dense, student
            loss.backward()
            total += loss.detach()
        self.consistent = False
        rate = highest_rate(self._request.learning_rate, state.curve[0]["divergence"]) * self._size
        self.kept.step(rate * state.rate(), MAX_GRADIENT_NORM)
        state.advance()
        self.count_seconds()
        self._loss_before_last, self._last_loss = self._last_loss, total
        self.consistent = True

    def _is_finite(self) -> bool:
        """Return whether the loss before the last is finite; reading the last one would wait for the GPU."""
        return self._loss_before_last is None or bool(self._loss_before_last.isfinite())

    def _replan(self, planned_seconds: float) -> None:
        """Plan the number of steps from the time of the first ones."""
        if self._last_loss is not None:
            self._last_loss.item()  # wait for the GPU, so that the time is right
        self.state.replan(planned_seconds - self.count_seconds() - self._seconds_of_looks(), self._pace())

    def _pace(self) -> float:
        """Return the seconds of a step."""
        steps, seconds = self._timed_from or (0, 0.0)
        return max((self.state.seconds - seconds) / max(1, self.state.done - steps), 1e-6)

    def _seconds_of_looks(self) -> float:
        """Return the seconds of the remaining looks."""
        return self._look_seconds * (self._planned_looks - self.state.looks)

    @torch.no_grad()
    def _look(self, measured: Callable[[HeldOut, bool], None]) -> None:
        """Measure the losses on the held-out windows, and copy the weights if they are the best so far."""
        state, begin = self.state, self.count_seconds()
        sums, held_out = [], self.text.held_out
        for part in held_out.split(self._in_one_pass):
            tokens = part.to(self._dense.device)
            dense = self._dense.module(input_ids=tokens, use_cache=False).logits
            student = self._student.module(input_ids=tokens, use_cache=False).logits
            sums.append(losses(student, dense, tokens))
        divergence = sum(each[0] for each in sums) / held_out.numel()
        negative_log_likelihood = sum(each[1] for each in sums) / held_out[:, 1:].numel()
        if not math.isfinite(divergence):
            if not state.curve:
                raise NonFiniteError(
                    "the pruned or the dense model computes NaN or infinity on the held-out windows; compute in a "
                    "wider type (--dtype float32), or check the checkpoints"
                )
            self._loss_before_last = torch.tensor(math.nan)
            return
        best = not state.curve or divergence < state.curve[state.best]["divergence"]
        now = HeldOut(
            step=state.done,
            seconds=self.count_seconds(),
            divergence=divergence,
            perplexity=math.exp(min(negative_log_likelihood, 80.0)),
        )
        state.curve.append(now)
        if best:
            state.best = len(state.curve) - 1
            self.best.copy_(self.kept.values)
        measured(now, best)
        self._look_seconds = self.count_seconds() - begin
        if self._planned_seconds is not None and state.planned != UNKNOWN_STEPS and state.position < 1:
            if self._timed_from is not None and state.done > self._timed_from[0]:
                pace = (begin - self._timed_from[1]) / (state.done - self._timed_from[0])
                state.replan(
                    self._planned_seconds - self.count_seconds() - self._seconds_of_looks(), max(pace, 1e-6)
                )
            self._timed_from = (state.done, self.count_seconds())

    def _restart_if_worse(self, note: Callable[[str], None]) -> bool:
        """Restore the best weights if the held-out loss is far above theirs; return whether it was."""
        state = self.state
        best = state.curve[state.best]["divergence"]
        if state.position >= 1 or state.curve[-1]["divergence"] <= MAX_LOSS_RATIO * best:
            return False
        self._restart(f"the held-out loss was more than {MAX_LOSS_RATIO:g} times the best", note)
        return True

    def _restart(self, why: str, note: Callable[[str], None]) -> None:
        """Restore the best weights, to continue at half the rate, or to end after too many restarts."""
        state = self.state
        state.restarts.append(state.done)
        self.kept.restart(self.best.to(self.kept.values.device))
        self._loss_before_last = self._last_loss = None
        if len(state.restarts) > MAX_RESTARTS:
            state.ended = f"{why} again and again"
        note(
            f"{why[0].upper()}{why[1:]} at step {state.done:,}: back to the best weights so far"
            + (f", which are the result: {state.ended}." if state.ended else ", at half the rate.")
        )

    def _stop_if_stalled(self, note: Callable[[str], None]) -> None:
        """End the training if the last `PATIENCE` looks since the best one or a restart were no better."""
        state = self.state
        restarted = state.restarts[-1] if state.restarts else 0
        since = sum(look["step"] > restarted for look in state.curve[state.best + 1 :])
        if since >= PATIENCE and state.position < 1:
            state.ended = f"the held-out loss has not fallen for {PATIENCE} looks"
            note(f"Ended early at step {state.done:,}: {state.ended}.")
