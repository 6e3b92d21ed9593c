"""Pipeline stages: what the slowest one takes of a step, and how long a micro-batch goes round them all."""

from __future__ import annotations

from dataclasses import dataclass

from pdplan.architecture.stages import Stage, stages_of, whole
from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.case import Case
from pdplan.explain.sources import PLAN
from pdplan.explain.writer import Known, Writer
from pdplan.ops import Block
from pdplan.step import StepTime, block_shares, engine_shares


@dataclass(frozen=True, kw_only=True)
class StepLines:
    """A written step: its sum, and where it has stages, the slowest of them before the last, and the last."""

    total: Quantity
    earlier: Quantity | None = None
    last: Quantity | None = None

    def slowest(self, b: Builder, what: str) -> Quantity:
        """What the slowest stage takes; all there is where there is one."""
        if self.earlier is None or self.last is None:
            return self.total
        used = {"t_e": self.earlier, "t_l": self.last}
        return b.line("t_s", f"{what}: the slowest stage", "max(t_e,t_l)", used, "s")


_NAMES = {
    "mixer": "attention or state",
    "feed_forward": "feed-forward blocks",
    "layers": "what all layers have",
    "last": "LM head",
    "hop": "hops",
}


def write_stages(
    writer: Writer, step: StepTime, written: list[Quantity | None], title: str
) -> StepLines | None:
    """Lines of the stages of a step; `written` are its terms in order, None where nothing was.

    None where the worker has one stage.
    """
    stages = int(number(step.stages))
    if step.earlier_s is None or stages < 2:
        return None
    sums: dict[Block, Quantity] = {}
    blocks = [term.place and term.place.block for term in step.terms]
    for block in filter(None, dict.fromkeys(blocks)):
        parts = [q for q, own in zip(written, blocks, strict=True) if own == block and q and q.value > 0]
        if parts:
            kind = _NAMES[block[0]]
            sums[block] = writer.builder.total(
                "T", f"{title}: {kind}, all stages", parts, "s", prefix="T", group=title, detail=True
            )
    found = {}
    setting = writer.sources.setting
    for last, value in ((False, step.earlier_s), (True, step.last_s)):
        stage = max(
            (s for s in stages_of(setting.stack.order, whole(setting.stack), stages) if s.last == last),
            key=lambda s: sum(
                share * sums[block].value
                for block, share in block_shares(whole(setting.stack), s, stages).items()
                if block in sums
            ),
        )
        found[last] = _stage_line(writer, stage, stages, sums, title, value)
    return StepLines(total=Quantity(0.0, "s", ""), earlier=found[False], last=found[True])


def _stage_line(
    writer: Writer, stage: Stage, stages: int, sums: dict[Block, Quantity], title: str, value: object
) -> Quantity:
    sources = writer.sources
    stack = sources.setting.stack
    used: dict[str, Quantity] = {}
    terms = []
    shares = block_shares(whole(stack), stage, stages)
    for at, (block, total) in enumerate(sums.items(), 1):
        kind, which = block
        if not shares[block]:
            continue
        used[f"T_{at}"] = total
        if kind == "last":
            terms.append(f"T_{at}")
            continue
        if kind == "hop":
            used["pp"] = sources.plan(stages, "stages")
            terms.append(f"T_{at}/(pp-1)")
            continue
        own, count = stage.layers, stack.layers
        if kind == "mixer":
            own, count = stage.mixers[which], stack.mixers[which][1]
        elif kind == "feed_forward":
            own, count = stage.feed_forwards[which], stack.feed_forwards[which][1]
        used[f"n_{at}"] = Quantity(float(own), "layers", f"{PLAN}: layers of the stage")
        used[f"L_{at}"] = sources.model(count, "layers")
        terms.append(f"n_{at}*T_{at}/L_{at}")
    fixed, sequence = engine_shares(sources.setting.constants.engine, stage, stages)
    if fixed:
        used["t_h"] = Quantity(fixed, "s", f"{sources.serving.engine}: the stage's part of a step's overhead")
        terms.append("t_h")
    if sequence:
        used |= {"t_q": sources.engine("sequence_overhead_s", "s"), "o": writer.known["o"]}
        terms.append("t_q*o")
    what = "the last stage" if stage.last else "the slowest stage before the last"
    return writer.builder.line(
        "t_l" if stage.last else "t_e",
        f"{title}: {what}, {stage.layers} of {stack.layers} layers" + (", LM head" if stage.last else ""),
        "+".join(terms),
        used,
        "s",
        value=value,
        group=title,
    )


def busy_stages(b: Builder, case: Case, name: str, running: Quantity) -> Quantity:
    """Micro-batches that go round the stages of a rank."""
    plan = case.plan.pools[name]
    used = {
        "N": running,
        "dp": Quantity(float(plan.dp), "ranks", PLAN),
        "pp": Quantity(float(plan.pp), "stages", PLAN),
    }
    return b.line("n_b", "micro-batches that go round the stages", "min(max(N/dp,1),pp)", used, "")


def round_line(
    b: Builder, step: StepLines, around: Quantity, drafts: tuple[str, Known], what: str
) -> Quantity:
    """From a step of a micro-batch to its next: through all stages, or as many times the slowest."""
    assert step.earlier is not None
    assert step.last is not None
    after, used = drafts
    used = used | {"t": step.total, "n_b": around, "t_e": step.earlier, "t_l": step.last}
    return b.line(
        "t_r",
        f"{what}: a round of a micro-batch through the stages",
        f"max(t{after},n_b*max(t_e,t_l{after}))",
        used,
        "s",
    )
