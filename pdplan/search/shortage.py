"""Where the inventory is what keeps a question from an answer: of what how many more would do.

Checked by searching again: with one accelerator's limit lifted at a time, the plan that takes
fewest of it says how many are needed; where no single one helps, all are lifted together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from pdplan.compose import World, evaluate_plan, plan_bill
from pdplan.market import Lot
from pdplan.question import Candidate, Infeasible, Question, Recommendation

Search = Callable[[Question, World], Recommendation]

BESIDE = 1e-6
"""What other accelerators count beside the one of which fewest are sought."""
TRICKLE_PER_S = 1e-3
"""A rate that anything serves which serves at all: for questions that ask for the most goodput."""


def limited_hardware(question: Question, world: World) -> tuple[str, ...]:
    """The accelerators of the question of which there are only so many."""
    used = {*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware}
    return tuple(sorted(used & set(world.market.limited)))


def unlimited(world: World, names: tuple[str, ...]) -> World:
    """The world with any number of these accelerators: the last of their lots has no end."""
    lots = {
        name: (*lots[:-1], replace(lots[-1], gpus=math.inf)) if name in names else lots
        for name, lots in world.market.inventory.items()
    }
    return replace(world, market=replace(world.market, inventory=lots))


def explain_shortage(question: Question, world: World, search: Search) -> Infeasible | None:
    """What is short, by how much, and the nearest plan; None where more accelerators would not help."""
    limited = limited_hardware(question, world)
    if not limited:
        return None
    asked = replace(question, objective="cost", alternatives=0, certify=False)
    if question.wants_goodput:
        asked = replace(asked, workload=question.workload.at_rate(TRICKLE_PER_S))
    alone = {
        name: found
        for name in limited
        if (found := _fewest((name,), limited, asked, world, search)) is not None
    }
    if alone:
        ways = [_needs(plan, world, (name,)) for name, plan in alone.items()]
        plans = list(alone.values())
    else:
        together = _fewest(limited, limited, asked, world, search)
        if together is None:
            return None
        ways, plans = [_needs(together, world, limited)], [together]
    ways_and_plans = list(zip(ways, plans, strict=True))
    needs, nearest = min(ways_and_plans, key=lambda w: sum(w[0].values()) - _there(w[0], world))
    # Few more of one accelerator may cost more than many of another: the user sees what either comes to.
    costs = [plan_bill(world, plan.plan).usd_per_h for plan in plans]
    by_cost = sorted(zip(costs, ways, strict=True), key=lambda w: (math.isnan(w[0]), w[0]))
    workload = asked.workload
    metrics = evaluate_plan(world, nearest.plan, workload, question.slo)
    return Infeasible(
        binding="; ".join(_words(name, count, world) for name, count in needs.items()),
        nearest=Candidate(plan=nearest.plan, metrics=metrics),
        misses={f"inventory_{name}": (float(count), _stock(world, name)) for name, count in needs.items()},
        relax=tuple(inventory_flags(way, world) for _, way in by_cost),
        relax_usd_per_h=tuple(cost for cost, _ in by_cost),
    )


def also_short(found: Infeasible, world: World) -> Infeasible:
    """Why there is no answer even with any number of accelerators, and whether those there are would do."""
    if found.nearest is None:
        return found
    missing = plan_bill(world, found.nearest.plan).missing
    if not missing:
        return found
    needs = {name: int(_stock(world, name)) + count for name, count in missing.items()}
    words = "; ".join(_words(name, count, world) for name, count in needs.items())
    return replace(
        found,
        binding=f"{found.binding}; and then the inventory is short: {words}",
        misses={
            **found.misses,
            **{f"inventory_{name}": (float(n), _stock(world, name)) for name, n in needs.items()},
        },
        relax=(" ".join((*found.relax, inventory_flags(needs, world))),),
    )


def inventory_flags(needs: Mapping[str, int], world: World) -> str:
    """The flags that say how many there would have to be."""
    flags = []
    for name, count in needs.items():
        lots = world.market.inventory[name]
        for lot in lots[:-1]:
            flags.append(f"--inventory {name}={lot.gpus:.0f}@{lot.usd_per_h:g}")
        last = count - sum(lot.gpus for lot in lots[:-1])
        price = f"@{lots[-1].usd_per_h:g}" if len(lots) > 1 else ""
        flags.append(f"--inventory {name}={last:.0f}{price}")
    return " ".join(flags)


# ------------------------------------------------------------------------ inside


def _fewest(
    names: tuple[str, ...], limited: tuple[str, ...], question: Question, world: World, search: Search
) -> Candidate | None:
    """The plan that takes fewest of `names`, of which there are any number here."""
    every = {*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware}
    lots = {
        hw: (
            Lot(
                usd_per_h=1.0 if hw in names else BESIDE,
                gpus=math.inf if hw in names or hw not in limited else _stock(world, hw),
            ),
        )
        for hw in every
    }
    return search(question, replace(world, market=replace(world.market, inventory=lots))).best


def _needs(candidate: Candidate, world: World, names: tuple[str, ...]) -> dict[str, int]:
    """How many of each of `names` the plan buys, where that is more than there are."""
    bill = plan_bill(world, candidate.plan)
    bought = {name: sum(line.gpus for line in bill.lines if line.hardware == name) for name in names}
    return {name: count for name, count in bought.items() if count > _stock(world, name)}


def _stock(world: World, name: str) -> float:
    return float(sum(lot.gpus for lot in world.market.inventory[name]))


def _there(needs: Mapping[str, int], world: World) -> float:
    return sum(_stock(world, name) for name in needs)


def _words(name: str, needed: int, world: World) -> str:
    there = _stock(world, name)
    return (
        f"inventory: {needed:,} {name} are needed within the objectives, there are {there:,.0f}: "
        f"{needed - there:,.0f} more"
    )
