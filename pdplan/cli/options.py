"""Flags that commands share, declared once; a command names the groups that it takes.

Values stay text here: pdplan.inputs reads them, so that a flag, a YAML value and a
Python argument are read alike and refused in the same words.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pdplan.cli.completion import completion_of
from pdplan.cli.output import report_error, say
from pdplan.errors import InputError, PdplanError, nearest, quoted_list

if TYPE_CHECKING:
    from pdplan.catalog.store import Catalog
    from pdplan.inputs import Given

FORMATS = ("text", "json", "markdown", "csv")


_COMPARED = ("model", "precision", "mode", "engine")
"""What `pdplan compare` takes several values of, one row each."""


@dataclass(frozen=True)
class Flag:
    """One option: `key` is its key in files, too."""

    key: str
    help: str
    metavar: str
    many: bool = False
    name: str = ""

    @property
    def option(self) -> str:
        return self.name or "--" + self.key.replace("_", "-")

    def parameter(self) -> inspect.Parameter:
        option = typer.Option(
            self.option,
            help=self.help,
            metavar=self.metavar,
            show_default=False,
            autocompletion=completion_of(self.key),
        )
        return inspect.Parameter(
            self.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[list[str] | None, option],
        )

    def value(self, given: list[str] | None) -> list[str] | str | None:
        """What was given; of a flag that takes one value the last, as is custom.

        Who names two models may expect both: that is not dropped without a word.
        """
        if self.many or not given:
            return given or None
        if self.key in _COMPARED and len(set(given)) > 1:
            told = f"{self.option} is given as {' and as '.join(given)}; the last counts"
            say([f"warning: {told}; `pdplan compare` takes several"])
        return given[-1]


MODEL = (
    Flag("model", "Model, by catalog name or Hugging Face id.", "NAME"),
    Flag(
        "precision",
        "Weights: bf16, fp8, fp4, int8, int4; a list, or any, to choose. [default: the publisher's own]",
        "NAME",
    ),
    Flag("kv_precision", "KV cache: auto, bf16, fp8; a list, or any, to choose. [default: auto]", "NAME"),
    Flag("engine", "vllm, sglang, trtllm, ... [default: vllm]", "NAME"),
)
HARDWARE = (
    Flag("hardware", "Accelerators to choose from; repeat it, or separate by commas.", "NAME", many=True),
    Flag("prefill_hardware", "Accelerators for prefill, where they differ.", "NAME", many=True),
    Flag("decode_hardware", "Accelerators for decode, where they differ.", "NAME", many=True),
)
LENGTHS = (
    Flag("isl", "Prompt length in tokens, on average (4k is 4096).", "TOKENS"),
    Flag("osl", "Answer length in tokens, on average.", "TOKENS"),
)
RATE = (Flag("rate", "Requests per second (20, 1200/min, 5M/day).", "RATE"),)
CONCURRENCY = (Flag("concurrency", "Requests always in flight, instead of a rate.", "N"),)
TRAFFIC = (
    Flag("prefix_reuse", "Share of the prompt that the prefix cache holds (0.3, 30%).", "SHARE"),
    Flag("isl_cv", "Spread of prompt lengths: standard deviation over mean. [default: 0]", "X"),
    Flag("osl_cv", "Spread of answer lengths. [default: 0]", "X"),
    Flag("arrival_cv", "Spread of the gaps between arrivals; 1 is Poisson. [default: 1]", "X"),
)
CONFIDENCE = Flag(
    "confidence",
    "Keep TTFT and TPOT limits also where predictions err as measured ones did, with this chance (90%).",
    "SHARE",
)
OBJECTIVES = (
    Flag("ttft", "Limit on the time to first token (2s, 500ms; a bare number is seconds).", "TIME"),
    Flag("tpot", "Limit on the time per output token (40ms; a bare number is seconds).", "TIME"),
    Flag("latency", "Limit on a whole request (a bare number is seconds).", "TIME"),
    Flag("percentile", "Share of requests that keep the limits (p90, 99%, 0.95). [default: p90]", "P"),
    CONFIDENCE,
)
SIZES = (
    Flag("max_gpus", "Most accelerators in all; without --rate: find the most goodput they give.", "N"),
    Flag("max_usd_per_h", "Most dollars per hour in all; a budget likewise.", "USD"),
    Flag("max_gpus_per_worker", "Most accelerators that one worker may span.", "N"),
)
MODE = (Flag("mode", "any, disaggregated or colocated. [default: any]", "MODE"),)
CALIBRATION = (
    Flag("calibration", "Engine constants fitted to your own runs by `pdplan calibrate`.", "FILE"),
)
PRICES = (
    Flag(
        "prices", "Dollars per accelerator and hour, e.g. h200=2.60; repeatable.", "NAME=USD", True, "--price"
    ),
)
WORLD = (
    *CALIBRATION,
    Flag(
        "network",
        "Between pools, per accelerator: 400Gbps, or bandwidth=400Gbps,latency=5us,loss=1e-5.",
        "NET",
    ),
    *PRICES,
)
MARKET = (
    Flag(
        "inventory",
        "How many there are: h100=16, at a price h100=16@2.10, of a kind h100=16:reserved; h100=any@3.90 "
        "for the rest; repeatable.",
        "NAME=N",
        many=True,
    ),
    Flag("price_kind", "Which catalog prices: on-demand, reserved, spot, market, ...", "KIND"),
    Flag("provider", "Whose catalog prices.", "NAME"),
    Flag("granularity", "What is bought at least: gpu, node or rack. [default: gpu]", "UNIT"),
)
SPECULATION = (
    Flag(
        "speculation",
        "none, mtp (the model's own draft layers), or auto: whichever is best. [default: none]",
        "NAME",
    ),
    Flag("drafted", "Tokens that speculative decoding drafts a step. [default: 0]", "N"),
    Flag("acceptance", "Share of drafted tokens accepted. [default: as measured]", "SHARE"),
)
CHUNK = (
    Flag(
        "chunk_tokens",
        "Tokens of one step at most (max_num_batched_tokens): 8k, a list, or auto. [default: the engine's]",
        "TOKENS",
    ),
)
EXPERTS = (
    Flag(
        "redundant_experts",
        "Copies of busy experts in all, which even expert-parallel ranks out (EPLB). [default: 0]",
        "N",
    ),
    Flag(
        "overlap",
        "none, or two-batch: exchanges with experts of half a batch beside the kernels of the other half, "
        "where that is faster. [default: none]",
        "NAME",
    ),
)
ALTERNATIVES = (Flag("alternatives", "How many of the next best plans to show. [default: 4]", "N"),)
ROBUST = (
    Flag("spare", "Workers of each pool that may be down while every limit holds (1, n+1).", "N"),
    Flag(
        "headroom",
        "Share of the capacity to leave free: 20% sizes for the rate / 0.8, every limit kept there.",
        "SHARE",
    ),
)
GOAL = (Flag("objective", "What to make least: cost, gpus or energy (rated power). [default: cost]", "GOAL"),)
CATALOG = (
    Flag("catalog", "Folder of your own catalog files; repeatable; also $PDPLAN_CATALOG.", "DIR", many=True),
)
OUTPUT = (Flag("format", "text, json, markdown or csv. [default: text]", "FORMAT"),)

QUESTION = (
    *MODEL, *HARDWARE, *LENGTHS, *RATE, *SIZES, *TRAFFIC, *OBJECTIVES, *MODE, *WORLD,
    *MARKET, *SPECULATION, *CHUNK, *EXPERTS
)  # fmt: skip
"""Everything that asks a question."""
COMMON = (*CATALOG, *OUTPUT)

MIX = Annotated[
    bool,
    typer.Option(
        "--mix",
        help="Also try pools of several kinds of workers (tried anyway where an inventory limits).",
        show_default=False,
    ),
]
"""Of every command that searches for one plan; its value goes where the others are: see `with_mix`."""


def with_mix(values: Mapping[str, Any], mix: bool) -> dict[str, Any]:
    """The values of the other flags, with --mix where it was given."""
    from pdplan.inputs import Given

    return {**values, "mix": Given(True, "--mix")} if mix else dict(values)


@dataclass(frozen=True)
class Flags:
    """The values of the shared flags of one call."""

    values: Mapping[str, Any]

    def given(self, *skip: str) -> "dict[str, Given]":
        """The question's values, each under its flag's name; what says where and how to print is left out."""
        from pdplan.inputs import given

        names = {"prices": "--price", "reserved_prices": "--reserved-price"}
        asked = {k: v for k, v in self.values.items() if k not in ("catalog", "format", *skip)}
        return given(asked, lambda key: names.get(key) or "--" + key.replace("_", "-"))

    @property
    def folders(self) -> list[Path]:
        return [Path(p) for p in self.values.get("catalog") or ()]

    def catalog(self) -> "Catalog":
        """The one catalog of this call."""
        return self._catalog

    @cached_property
    def _catalog(self) -> "Catalog":
        from pdplan.catalog.store import Catalog

        return Catalog(self.folders)

    def passed_over(self) -> tuple[str, ...]:
        """What is wrong with catalog files that were read and left aside so far."""
        made = self.__dict__.get("_catalog")  # not made by asking
        return made.problems if made else ()

    @property
    def format(self) -> str:
        """The output format; raises InputError if there is no such format."""
        return format_from(self.values.get("format") or "text", FORMATS)


def format_from(text: str, known: tuple[str, ...]) -> str:
    """The output format of a name; raises InputError if it is not one of those known."""
    name = {"md": "markdown"}.get(text.casefold(), text.casefold())
    if name not in known:
        close = nearest(name, known)
        hint = f"; did you mean {quoted_list(close)}?" if close else ""
        if name in ("yaml", "yml"):
            hint = "; JSON is YAML, too: what --format json prints can be given to other commands"
        raise InputError(f"--format: '{text}' is not known{hint} (one of {', '.join(known)})")
    return name


def takes(*flags: Flag) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Give a command the flags, as its first argument; what it returns is its exit code.

    The command's errors of the user's making are told on stderr and end in exit code 2.
    """
    shared = {flag.key: flag for flag in flags}

    def decorate(command: Callable[..., int | None]) -> Callable[..., None]:
        own = list(inspect.signature(command).parameters.values())[1:]

        def call(**kwargs: Any) -> None:
            chosen = Flags({key: flag.value(kwargs.pop(key)) for key, flag in shared.items()})
            try:
                if "format" in shared:
                    _ = chosen.format  # a mistyped format fails before any work
                code = command(chosen, **kwargs) or 0
            except PdplanError as problem:
                code = report_error(problem)
                told = getattr(problem, "messages", ())
                say(f"warning: passed over: {m}" for m in chosen.passed_over() if m not in told)
            if code:
                raise typer.Exit(code)

        positional = [p for p in own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        keyword = [p for p in own if p.kind is inspect.Parameter.KEYWORD_ONLY]
        parameters = [*positional, *(f.parameter() for f in flags), *keyword]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        call.__name__, call.__doc__, call.__module__ = command.__name__, command.__doc__, command.__module__
        return call

    return decorate
