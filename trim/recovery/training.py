"""The steps of a recovery: what each reads, at which rate, when the held-out windows are read, and the best so far."""

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

LOOKS = {"cpu": 6, "cuda": 10}  # at the held-out windows, evenly over the time; on a CPU each costs a step
PATIENCE = 4  # looks without a better one end the training
RATE_PER_NAT = 0.004  # of the held-out divergence before the training; times the size of the kept weights
MAX_DAMAGE = 0.5  # nats that count for it
WARM_UP = 0.05  # of the time, until the rate is at its highest
MAX_GRADIENT_NORM = 1.0
PACE_STEPS = 4  # are timed before the number of steps is known
UNKNOWN_STEPS = 10_000  # until then
MAX_RESTARTS = 3
WORSE = 1.25  # times the best held-out loss: the rate is too high


@dataclass(frozen=True)
class Settled:
    """The settings that are open until the pruned model is known."""

    corpus: str
    length: int
    batch: int
    sampled: float

    @classmethod
    def of(cls, request: RecoverSettings) -> "Settled":
        """Read them from the settings of a recovery that has begun.

        Raises:
            SettingsError: one is missing.
        """
        return read_fields(cls, dataclasses.asdict(request), "request")


@dataclass
class Course:
    """The state of a training, except for tensors.

    Attributes:
        done: steps that were made.
        planned: how many there will be; changes with the pace where minutes are given.
        position: from 0 to 1; decides the rate.
        looks: how often the held-out windows were read, apart from the first time.
        seconds: that it took.
        curve: the losses on the held-out windows.
        best: the place in `curve` of the weights that are the result.
        restarts: the steps at which it went back to the best weights, because the loss was not a number or far worse.
        ended: why it ended early; "" if it did not.
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
        """Return the rate of the next step, as a share of the highest."""
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
    """Return the highest rate as a share of the size of the kept weights.

    A model that lost little is made worse by steps that help one that lost much.

    Args:
        chosen: the user's share; None: it follows from the damage.
        divergence: nats on the held-out windows before the training.
    """
    return RATE_PER_NAT * min(divergence, MAX_DAMAGE) if chosen is None else chosen


class Training:
    """Trains the kept weights of a model until the time is over.

    Attributes:
        kept: the trained weights.
        text: the text of the training.
        course: the state of the training.
        best: (K,) float32 in host memory, the weights with the least held-out loss.
    """

    def __init__(
        self,
        dense: Model,
        student: Model,
        kept: KeptWeights,
        text: RecoveryText,
        course: Course,
        request: RecoverSettings,
        *,
        size: float,
        in_one_pass: int,
    ) -> None:
        """Prepare the training; `size`: of the kept weights, which the rate is a share of (see `highest_rate`)."""
        check_windows(dense, text.training)
        self.kept, self.text, self.course = kept, text, course
        self.best = kept.values.to("cpu", copy=True)
        self._dense, self._student = dense, student
        self._request, self._settled = request, Settled.of(request)
        self._size, self._in_one_pass = size, in_one_pass
        self._looks = LOOKS[dense.device.type]
        self._budget = 60 * request.minutes if request.steps is None else None
        self._resumed_at, self._before = time.monotonic(), course.seconds
        self._previous: Tensor | None = None  # the loss of the last step but one
        self._waiting: Tensor | None = None  # and of the last, not looked at yet
        self._look_seconds = 0.0
        self._timed_from: tuple[int, float] | None = None  # steps and seconds when timing began
        self.consistent = True  # whether weights and averages belong to the same step

    def spend(self) -> float:
        """Count the seconds so far, and return them."""
        self.course.seconds = self._before + time.monotonic() - self._resumed_at
        return self.course.seconds

    @property
    def seconds_left(self) -> float | None:
        """Estimate how long it will take from now; None: not known yet."""
        if self._budget is not None:
            return max(0.0, self._budget - self.spend())
        if self._timed_from is None or self.course.done <= self._timed_from[0]:
            return None
        return self._pace() * (self.course.planned - self.course.done) + self._looks_left()

    def run(
        self, tell: Callable[[], None], measured: Callable[[HeldOut, bool], None], note: Callable[[str], None]
    ) -> None:
        """Train to the end.

        Args:
            tell: called after each step; may raise to stop.
            measured: called with each measurement, and whether it is the best so far.
            note: called with notes for the user.

        Raises:
            NonFiniteError: the pruned model computes NaN before anything is trained.
        """
        course = self.course
        if not course.curve:
            self._look(measured)
        while course.position < 1 and not course.ended:
            self._one_step()
            if self._budget is not None and course.planned == UNKNOWN_STEPS and course.done > PACE_STEPS:
                self._replan(self._budget)
            due = course.position >= 1 or int(course.position * self._looks) > course.looks
            if due and self._is_finite():
                course.looks = int(course.position * self._looks)
                self._look(measured)
                if self._is_finite() and not self._worsened(note):
                    self._judge(note)
            if not self._is_finite():
                self._go_back("the loss was not a number", note)
            tell()

    def _one_step(self) -> None:
        course = self.course
        if self._timed_from is None and course.done >= 1:  # the first step of a process is slow
            self._timed_from = (course.done, self.spend())
        settled = self._settled
        windows = self.text.step(course.done, settled.batch, settled.sampled, self._request.seed)
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
        rate = highest_rate(self._request.learning_rate, course.curve[0]["divergence"]) * self._size
        self.kept.step(rate * course.rate(), MAX_GRADIENT_NORM)
        course.advance()
        self.spend()
        self._previous, self._waiting = self._waiting, total
        self.consistent = True

    def _is_finite(self) -> bool:
        """Return whether the last loss but one was a number: on a GPU looking at the last would wait for it."""
        return self._previous is None or bool(self._previous.isfinite())

    def _replan(self, budget: float) -> None:
        if self._waiting is not None:
            self._waiting.item()  # the GPU has done all its work
        self.course.replan(budget - self.spend() - self._looks_left(), self._pace())

    def _pace(self) -> float:
        steps, seconds = self._timed_from or (0, 0.0)
        return max((self.course.seconds - seconds) / max(1, self.course.done - steps), 1e-6)

    def _looks_left(self) -> float:
        return self._look_seconds * (self._looks - self.course.looks)

    @torch.no_grad()
    def _look(self, measured: Callable[[HeldOut, bool], None]) -> None:
        """Read the held-out windows; keep the weights if they are the best."""
        course, begin = self.course, self.spend()
        found, held_out = [], self.text.held_out
        for part in held_out.split(self._in_one_pass):
            tokens = part.to(self._dense.device)
            dense = self._dense.module(input_ids=tokens, use_cache=False).logits
            student = self._student.module(input_ids=tokens, use_cache=False).logits
            found.append(losses(student, dense, tokens))
        apart = sum(each[0] for each in found) / held_out.numel()
        surprise = sum(each[1] for each in found) / held_out[:, 1:].numel()
        if not math.isfinite(apart):
            if not course.curve:
                raise NonFiniteError(
                    "the pruned or the dense model computes NaN or infinity on the held-out windows; compute in a "
                    "wider type (--dtype float32), or check the checkpoints"
                )
            self._previous = torch.tensor(math.nan)
            return
        best = not course.curve or apart < course.curve[course.best]["divergence"]
        now = HeldOut(
            step=course.done, seconds=self.spend(), divergence=apart, perplexity=math.exp(min(surprise, 80.0))
        )
        course.curve.append(now)
        if best:
            course.best = len(course.curve) - 1
            self.best.copy_(self.kept.values)
        measured(now, best)
        self._look_seconds = self.spend() - begin
        if self._budget is not None and course.planned != UNKNOWN_STEPS and course.position < 1:
            if self._timed_from is not None and course.done > self._timed_from[0]:
                pace = (begin - self._timed_from[1]) / (course.done - self._timed_from[0])
                course.replan(self._budget - self.spend() - self._looks_left(), max(pace, 1e-6))
            self._timed_from = (course.done, self.spend())

    def _worsened(self, note: Callable[[str], None]) -> bool:
        """Go back to the best weights if the held-out loss is far above theirs, at half the rate."""
        course = self.course
        best = course.curve[course.best]["divergence"]
        if course.position >= 1 or course.curve[-1]["divergence"] <= WORSE * best:
            return False
        self._go_back(f"the held-out loss was more than {WORSE:g} times the best", note)
        return True

    def _go_back(self, why: str, note: Callable[[str], None]) -> None:
        course = self.course
        course.restarts.append(course.done)
        self.kept.restart(self.best.to(self.kept.values.device))
        self._previous = self._waiting = None
        if len(course.restarts) > MAX_RESTARTS:
            course.ended = f"{why} again and again"
        note(
            f"{why[0].upper()}{why[1:]} at step {course.done:,}: back to the best weights so far"
            + (f", which are the result: {course.ended}." if course.ended else ", at half the rate.")
        )

    def _judge(self, note: Callable[[str], None]) -> None:
        course = self.course
        restarted = course.restarts[-1] if course.restarts else 0
        since = sum(look["step"] > restarted for look in course.curve[course.best + 1 :])
        if since >= PATIENCE and course.position < 1:
            course.ended = f"the held-out loss has not fallen for {PATIENCE} looks"
            note(f"Ended early at step {course.done:,}: {course.ended}.")
