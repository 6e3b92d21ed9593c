"""How layers are dealt out to the stages of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pdplan.architecture.stack import Stack


@dataclass(frozen=True)
class Stage:
    """What one stage runs: how many layers with each of the stack's mixers and feed-forward blocks."""

    layers: int
    mixers: tuple[int, ...]
    feed_forwards: tuple[int, ...]
    first: bool
    """Holds the embedding table."""
    last: bool
    """Runs the LM head, samples, and drafts."""

    def covers(self, other: Stage) -> bool:
        """Whether nothing of the other stage is missing here."""
        return (
            all(a >= b for a, b in zip(self._counts, other._counts, strict=True))
            and self.first >= other.first
            and self.last >= other.last
        )

    @property
    def _counts(self) -> tuple[int, ...]:
        return (self.layers, *self.mixers, *self.feed_forwards)


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage: equal parts; what is left goes to the stages before the last, from the back.

    The last stage has the LM head, and the first the embedding; they get one more only if all others do.
    Source: vLLM, vllm/distributed/utils.py, get_pp_indices (SGLang took it over).

    >>> stage_layers(61, 8), stage_layers(61, 4), stage_layers(80, 4)
    ((7, 7, 8, 8, 8, 8, 8, 7), (15, 15, 16, 15), (20, 20, 20, 20))
    """
    each, left = divmod(layers, stages)
    return tuple(each + (stages - 1 - left <= stage < stages - 1) for stage in range(stages))


def whole(stack: Stack) -> Stage:
    """All layers on one stage, whatever the pipeline."""
    return Stage(
        layers=stack.layers,
        mixers=tuple(count for _, count in stack.mixers),
        feed_forwards=tuple(count for _, count in stack.feed_forwards),
        first=True,
        last=True,
    )


@lru_cache(maxsize=512)
def stages_of(order: tuple[tuple[int, int], ...], everything: Stage, stages: int) -> tuple[Stage, ...]:
    """The stages of a pipeline that no other covers: one of them is the slowest, one the fullest.

    `order` is the stack's, `everything` its `whole`.
    """
    found: list[Stage] = []
    start = 0
    for number, count in enumerate(stage_layers(len(order), stages)):
        part = order[start : start + count]
        start += count
        found.append(
            Stage(
                layers=count,
                mixers=tuple(sum(m == kind for m, _ in part) for kind in range(len(everything.mixers))),
                feed_forwards=tuple(
                    sum(f == kind for _, f in part) for kind in range(len(everything.feed_forwards))
                ),
                first=number == 0,
                last=number == stages - 1,
            )
        )
    distinct = list(dict.fromkeys(found))
    return tuple(s for s in distinct if not any(other is not s and other.covers(s) for other in distinct))
