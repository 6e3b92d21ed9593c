"""The hardware catalog: its shape, its sources, and foreign truth about what it says."""

from __future__ import annotations

import copy
import csv
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from pdplan.catalog.accelerator import Accelerator, Price

ROOT = Path(__file__).parents[1]
SHARED = Path(__file__).parents[2] / "shared"
FILES = sorted((ROOT / "hardware_catalog").glob("*.yaml"))
ADAPTER = TypeAdapter(Accelerator)
GIB = 2**30


def mapping(name: str) -> dict:
    return yaml.load((ROOT / "hardware_catalog" / f"{name}.yaml").read_text(), yaml.CSafeLoader)


CATALOG = {path.stem: ADAPTER.validate_python(mapping(path.stem)) for path in FILES}

ROW_OF = {
    "a10": "A10",
    "a100-pcie-80gb": "A100 PCIe 80GB",
    "a100-sxm-40gb": "A100 SXM 40GB",
    "a100-sxm-80gb": "A100 SXM 80GB",
    "a30": "A30",
    "a800": "A800 SXM 80GB",
    "arc-pro-b60": "Arc Pro B60",
    "ascend-910b": "Ascend 910B",
    "ascend-910c": "Ascend 910C",
    "ascend-950dt": "Ascend 950DT",
    "b200": "B200 SXM",
    "b300": "B300 SXM",
    "gaudi2": "Gaudi2",
    "gaudi3": "Gaudi3",
    "gb200": "GB200",
    "gb300": "GB300",
    "gh200": "GH200",
    "groq-lpu-v1": "Groq LPU v1",
    "h100": "H100 SXM",
    "h100-nvl": "H100 NVL",
    "h100-pcie": "H100 PCIe",
    "h20": "H20 96GB",
    "h20-3e": "H20-3e 141GB",
    "h200": "H200 SXM",
    "h800": "H800 SXM",
    "l20": "L20",
    "l4": "L4",
    "l40s": "L40S",
    "mi250x": "MI250X",
    "mi300x": "MI300X",
    "mi325x": "MI325X",
    "mi350x": "MI350X",
    "mi355x": "MI355X",
    "mi455x": "MI455X (announced)",
    "rtx-4090": "RTX 4090",
    "rtx-5090": "RTX 5090",
    "rtx-pro-6000": "RTX PRO 6000 Blackwell Server",
    "rubin": "Rubin (announced)",
    "tpu-v5e": "TPU v5e",
    "tpu-v5p": "TPU v5p",
    "tpu-v6e": "TPU v6e",
    "tpu-v7x": "TPU7x Ironwood",
    "trainium2": "Trainium2",
    "trainium3": "Trainium3",
}

# Where the catalog leaves the fact collection, with the better source.
ADDED = {"h200-nvl", "l40"}
"""Entries that the fact collection does not have."""

DEVIATIONS = {
    # AWS Neuron documentation, Trn2: EFAv3 3200 Gb/s per instance of 16; the row is marked unverified.
    ("trainium2", "scaleout_Gbps_per_gpu"),
    # The row says that the direction is unclear; of Trainium2, in the same words, it has the half.
    ("trainium3", "scaleup_GBps_per_gpu_per_dir"),
    # The row counts a bridge pair, but gives PCIe bandwidth; aiconfigurator 0.12.0: 8 GPUs on PCIe.
    ("h100-pcie", "scaleup_domain"),
    # The row has a card alone; PCIe servers hold several.
    ("a10", "scaleup_domain"),
    # The rows count all 24 ports of the chip; three of them leave the server (docs.habana.ai).
    ("gaudi2", "scaleup_GBps_per_gpu_per_dir"),
    ("gaudi3", "scaleup_GBps_per_gpu_per_dir"),
}

# Column of hardware.csv, path in the catalog, factor to the catalog's unit.
COLUMNS = [
    ("bf16_tflops_dense", "peak_flop_per_s.bf16", 1e12),
    ("fp8_tflops_dense", "peak_flop_per_s.fp8", 1e12),
    ("int8_tops_dense", "peak_flop_per_s.int8", 1e12),
    ("fp4_tflops_dense", "peak_flop_per_s.fp4", 1e12),
    ("hbm_GB", "memory.capacity_bytes", 1e9),
    ("hbm_GBps", "memory.bandwidth_bytes_per_s", 1e9),
    ("scaleup_GBps_per_gpu_per_dir", "scale_up.bandwidth_bytes_per_s", 1e9),
    ("scaleup_domain", "scale_up.domain_size", 1),
    ("scaleout_Gbps_per_gpu", "scale_out.bandwidth_bytes_per_s", 1e9 / 8),
]


# --- every file ---------------------------------------------------------------------------------


def test_the_catalog_holds_what_was_promised() -> None:
    assert len(CATALOG) >= 36
    assert set(CATALOG) - ADDED == set(ROW_OF)


@pytest.mark.parametrize("stem", CATALOG)
def test_name_is_the_file_stem(stem: str) -> None:
    assert CATALOG[stem].name == stem


@pytest.mark.parametrize("stem", CATALOG)
def test_numbers_are_numbers_for_every_yaml_parser(stem: str) -> None:
    """Plain PyYAML reads 989e12 as a string, which pydantic would quietly turn into a number."""
    data = mapping(stem)
    for path, _ in CATALOG[stem].numbers():
        node = data
        for key in path.split("."):
            node = node[key]
        assert isinstance(node["value"], int | float), path
    for price in data["prices"]:
        assert isinstance(price["usd_per_h"], int | float)


@pytest.mark.parametrize("stem", CATALOG)
def test_every_key_order_is_the_same(stem: str) -> None:
    order = list(Accelerator.__dataclass_fields__)
    keys = list(mapping(stem))
    assert keys == sorted(keys, key=order.index)


@pytest.mark.parametrize("stem", CATALOG)
def test_every_source_and_price_is_dated(stem: str) -> None:
    accelerator = CATALOG[stem]
    assert all(source.date for source in accelerator.sources.values())
    assert all(price.date for price in accelerator.prices)


def test_names_and_aliases_are_unique() -> None:
    counts = Counter(n for a in CATALOG.values() for n in (a.name, *a.aliases))
    assert [n for n, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("stem", CATALOG)
def test_usable_memory_is_near_the_data_sheet(stem: str) -> None:
    """Between 5 % under and 10 % over: over, because vendors print GB for GiB."""
    memory = CATALOG[stem].memory
    assert 0.95 <= memory.usable_bytes.value / memory.capacity_bytes.value <= 1.10


@pytest.mark.parametrize("stem", CATALOG)
def test_derived_numbers_say_so_and_carry_less_confidence(stem: str) -> None:
    for path, number in CATALOG[stem].numbers():
        if number.source == "derived":
            assert number.note, path
            assert number.confidence in ("medium", "low"), path


def test_announced_parts_are_marked() -> None:
    # Ascend 950DT: Huawei's roadmap of 2025-09 gives the fourth quarter of 2026.
    assert {a.name for a in CATALOG.values() if not a.released} == {"rubin", "mi455x", "ascend-950dt"}
    assert not any(a.prices for a in CATALOG.values() if not a.released)


# --- foreign truth ------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ROW_OF)
def test_agrees_with_the_fact_collection(stem: str) -> None:
    table = SHARED / "facts" / "hardware.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    with table.open(newline="") as lines:
        row = {r["name"]: r for r in csv.DictReader(lines)}[ROW_OF[stem]]
    numbers = dict(CATALOG[stem].numbers())
    assert CATALOG[stem].vendor == row["vendor"]
    for column, path, factor in COLUMNS:
        if row[column] and (stem, column) not in DEVIATIONS:
            assert math.isclose(numbers[path].value, float(row[column]) * factor, rel_tol=1e-9), column


def test_covers_the_fact_collection_and_the_measurements() -> None:
    facts, train = SHARED / "facts" / "hardware.csv", SHARED / "measured" / "train.csv"
    if not facts.exists() or not train.exists():
        pytest.skip("../shared is not here")
    with facts.open(newline="") as lines:
        assert {r["name"] for r in csv.DictReader(lines)} == set(ROW_OF.values())
    with train.open(newline="") as lines:
        assert {r["hardware"] for r in csv.DictReader(lines)} <= set(CATALOG)


def test_h100_sxm_is_what_nvidia_sells() -> None:
    """NVIDIA H100 data sheet: 1,979 TFLOPS BF16 and 3,958 FP8 with sparsity, half of it dense;
    80 GB at 3.35 TB/s; NVLink 900 GB/s both ways; 700 W."""
    h100 = CATALOG["h100"]
    assert h100.peak("bf16") == 989e12
    assert h100.peak("fp8") == 1979e12
    assert h100.peak("fp4") is None
    assert h100.memory.bandwidth_bytes_per_s.value == 3.35e12
    assert h100.scale_up.bandwidth_bytes_per_s.value == 900e9 / 2
    assert h100.scale_out.bandwidth_bytes_per_s.value == 400e9 / 8
    assert h100.power_w.value == 700


@pytest.mark.parametrize(
    ("stem", "smi_mib"),
    [
        # modal-labs/modal-client pull request 2797, totals that nvidia-smi prints
        ("h100", 81559),
        ("a100-sxm-80gb", 81920),
        ("a100-sxm-40gb", 40960),
        ("a10", 23028),
        ("l40s", 46068),
        ("l4", 23034),
        # aiconfigurator-core 0.12.0, systems/*.yaml, "reported by nvidia-smi"
        ("b300", 275040),
        ("gb200", 189471),
        ("gb300", 284208),
        ("rtx-pro-6000", 97887),
        # NVIDIA/TensorRT-LLM issue 10278
        ("b200", 183359),
    ],
)
def test_usable_memory_is_a_little_less_than_nvidia_smi_prints(stem: str, smi_mib: int) -> None:
    share = CATALOG[stem].memory.usable_bytes.value / (smi_mib * 2**20)
    assert 0.96 < share < 1


@pytest.mark.parametrize(
    ("stem", "gib"),
    [
        ("h100", 79.18),  # vLLM and PyTorch out-of-memory messages
        ("mi300x", 191.98),
        ("ascend-910b", 60.97),  # vllm-project/vllm-ascend issue 1987
        ("tpu-v5e", 15.75),  # GoogleCloudPlatform/kubernetes-engine-samples pull request 1467
        ("gaudi2", 94.62),  # vLLM Gaudi plug-in documentation, warm-up
    ],
)
def test_usable_memory_is_what_the_driver_reports(stem: str, gib: float) -> None:
    assert CATALOG[stem].memory.usable_bytes.value == pytest.approx(gib * GIB, rel=1e-6)


def test_tpu_generations_against_google_documentation() -> None:
    """docs.cloud.google.com/tpu/docs/tpu7x: ICI 1200, 800, 1200 GB/s both ways; DCN 50, 100, 100 Gb/s."""
    ici = [CATALOG[n].scale_up.bandwidth_bytes_per_s.value for n in ("tpu-v5p", "tpu-v6e", "tpu-v7x")]
    dcn = [CATALOG[n].scale_out.bandwidth_bytes_per_s.value for n in ("tpu-v5p", "tpu-v6e", "tpu-v7x")]
    assert ici == [600e9, 400e9, 600e9]
    assert dcn == [50e9 / 8, 100e9 / 8, 100e9 / 8]


def test_mesh_bandwidth_is_the_sum_of_links() -> None:
    # AMD: 7 links of 64 GB/s each way on MI300X and MI325X, 76.5 on MI350X and MI355X
    assert CATALOG["mi300x"].scale_up.bandwidth_bytes_per_s.value == 7 * 64e9
    assert CATALOG["mi355x"].scale_up.bandwidth_bytes_per_s.value == 7 * 76.5e9


# --- rules --------------------------------------------------------------------------------------


def price(usd_per_h: float, kind: str) -> Price:
    return Price(usd_per_h=usd_per_h, kind=kind, provider="p", date="2026", source="s")


def priced(*prices: Price) -> Accelerator:
    data = mapping("h100") | {"prices": []}
    for key in {p["source"] for p in mapping("h100")["prices"]} - {"ml-engineering", "driver-reports"}:
        del data["sources"][key]
    data["sources"]["s"] = {"title": "t", "reference": "r", "date": "2026"}
    data["prices"] = [vars(p) for p in prices] or []
    if not prices:
        del data["sources"]["s"]
    return ADAPTER.validate_python(data)


def test_default_price_is_the_lower_median_of_the_first_kind() -> None:
    assert priced().default_price() is None
    assert priced(price(9, "spot")).default_price().usd_per_h == 9
    assert priced(price(1, "spot"), price(2, "tco")).default_price().kind == "tco"
    # on-demand 2, 3, 5, 12: the lower of the two in the middle is 3
    four = [price(p, "on-demand") for p in (12, 3, 5, 2)]
    assert priced(*four, price(1, "reserved")).default_price().usd_per_h == 3


def test_default_price_of_h100_by_hand() -> None:
    # on-demand 2.69 2.95 2.99 [3.49] 3.90 10.08 12.29
    assert CATALOG["h100"].default_price().usd_per_h == 3.49


def test_both_aws_prices_of_h100_stand_with_their_conflict() -> None:
    aws = {p.usd_per_h: p.note for p in CATALOG["h100"].prices if p.provider == "AWS"}
    assert set(aws) == {12.29, 10.08}
    assert all("conflicts" in note for note in aws.values())


def test_fp16_stands_in_for_a_missing_bf16() -> None:
    groq = CATALOG["groq-lpu-v1"]
    assert groq.peak("bf16") == groq.peak("fp16") == 188e12
    assert CATALOG["h100"].peak("fp16") is None


def test_unknown_links_make_a_domain_of_one() -> None:
    assert CATALOG["groq-lpu-v1"].scale_up is None
    assert CATALOG["groq-lpu-v1"].scale_up_domain_size == 1
    assert CATALOG["gb200"].scale_up_domain_size == 72


def broken(path: str, value: object) -> dict:
    data = copy.deepcopy(mapping("h200"))
    *parents, last = path.split(".")
    node = data
    for key in parents:
        node = node[key]
    node[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("power_w.source", "hearsay", "power_w: source 'hearsay' is not in sources"),
        ("power_w.value", 0, "greater than 0"),
        ("power_w.value", math.nan, "value"),
        ("memory.bandwidth_bytes_per_s.value", 4.8, "between 1e6 and 1e15"),
        ("memory.bandwidth_bytes_per_s.value", 4.8e15, "between 1e6 and 1e15"),
        ("memory.usable_bytes.value", 200e9, "more than 1.1 x capacity_bytes"),
        ("peak_flop_per_s.bf16.value", 989, "at least 1e12"),
        ("peak_flop_per_s.bf61", {"value": 1e15, "source": "ml-engineering"}, "bf61"),
        ("scale_up.domain_size.value", 8.5, "whole number"),
        ("scale_up.topology", "ring", "'switch', 'mesh'"),
        ("sources.ml-engineering.date", "yesterday", "date must be"),
        (
            "sources.spare",
            {"title": "t", "reference": "r", "date": "2026"},
            "sources.spare is cited by no number",
        ),
        ("name", "H200", "lower-case"),
        ("aliases", ["h200"], "repeats"),
        ("hbm", 141, "hbm"),
        ("accelerators_per_node", 0, "greater than 0"),
    ],
)
def test_a_broken_file_does_not_load(path: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(broken(path, value))


def test_a_number_without_source_or_a_source_without_date_does_not_load() -> None:
    data = mapping("h200")
    del data["power_w"]["source"]
    with pytest.raises(ValidationError, match="source"):
        ADAPTER.validate_python(data)
    data = mapping("h200")
    del data["sources"]["ml-engineering"]["date"]
    with pytest.raises(ValidationError, match="date"):
        ADAPTER.validate_python(data)


@pytest.mark.parametrize("name", [n for n, a in CATALOG.items() if a.released])
def test_what_is_missing_is_said(name):
    entry = CATALOG[name]
    notes = " ".join(entry.notes)
    assert entry.prices or "No public price per hour was found" in notes
    assert entry.power_w or "No public figure of its power was found" in notes


ASSUMED_IN_PRINT = {"DeepSeek", "LMSYS", "llm-d", "llm-d-planner"}
"""Who published the price that they reckoned with."""


@pytest.mark.parametrize("name", CATALOG)
def test_an_assumed_price_has_a_name_or_low_confidence(name):
    for price in CATALOG[name].prices:
        if price.kind == "assumed" and price.provider not in ASSUMED_IN_PRINT:
            assert "low confidence" in (price.note or "")
