"""KV transfer: published transfers, hand arithmetic, and the law's own properties."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pdplan.calibration import kv_transfer as calibration
from pdplan.efficiency import network_constants
from pdplan.laws.kv_transfer import (
    Network,
    exposed_transfer_time_s,
    goodput_bytes_per_s,
    transfer_links,
    transfer_time_s,
)

# kvcache-ai/Mooncake docs/source/performance (in shared/facts/kv_transfer.csv): MB and ms.
# Two nodes of 8 x H800 with 8 x 200 Gb/s, Qwen3-8B (36 layers), vLLM.
H800 = [
    (20, 0.54),
    (38, 0.61),
    (74, 0.92),
    (146, 1.50),
    (290, 2.51),
    (578, 4.75),
    (1130, 8.84),
    (2250, 16.43),
    (4500, 31.65),
]
# Two nodes of 8 x H20-3e with 4 x 400 Gb/s, Qwen3-235B-A22B (94 layers), SGLang.
H20 = [
    (49, 2.07),
    (99, 2.58),
    (197, 2.98),
    (394, 3.96),
    (789, 6.43),
    (1580, 10.95),
    (3150, 20.31),
    (6310, 39.14),
    (12620, 76.78),
]


@pytest.mark.parametrize(
    ("links", "line", "layers", "published"),
    [(8, 25e9, 36, H800), (4, 50e9, 94, H20)],
    ids=["h800", "h20-3e"],
)
def test_published_mooncake_transfers(
    links: int, line: float, layers: int, published: list[tuple[float, float]]
) -> None:
    network = Network(bandwidth_bytes_per_s=line, **network_constants())
    megabytes, milliseconds = np.array(published).T
    predicted = transfer_time_s(megabytes * 1e6, links, network, layers) * 1e3
    error = np.abs(predicted / milliseconds - 1)
    assert np.median(error) < 0.12
    assert error.max() < 0.35


def test_time_by_hand() -> None:
    network = Network(bandwidth_bytes_per_s=50e9, efficiency=0.8, latency_s=1e-3, layer_latency_s=1e-5)
    assert float(transfer_time_s(3.2e9, 8, network, 60)) == pytest.approx(1e-3 + 60e-5 + 0.01)


def test_monotone_in_bytes_links_and_bandwidth() -> None:
    size = np.geomspace(1e6, 1e11, 60)
    network = Network(bandwidth_bytes_per_s=25e9, efficiency=0.8, latency_s=1e-3)
    times = transfer_time_s(size, 4, network)
    assert np.all(np.diff(times) > 0)
    assert np.all(transfer_time_s(size, 8, network) <= times)
    assert np.all(transfer_time_s(size, 4, dataclasses.replace(network, bandwidth_bytes_per_s=50e9)) <= times)


def test_loss_lowers_goodput_and_none_leaves_the_line() -> None:
    line = Network(bandwidth_bytes_per_s=50e9, efficiency=0.9, round_trip_s=1e-5)
    assert float(goodput_bytes_per_s(line)) == 45e9
    lossy = [float(goodput_bytes_per_s(dataclasses.replace(line, loss=p))) for p in (1e-6, 1e-4, 1e-2)]
    assert 45e9 > lossy[0] > lossy[1] > lossy[2] > 0


def test_go_back_n_by_hand() -> None:
    """Window of 50e9·1e-5/4096 = 122 packets: at 1 % loss, (1−p)/(1−p+pW) of the line."""
    network = Network(bandwidth_bytes_per_s=50e9, round_trip_s=1e-5, loss=0.01)
    window = 50e9 * 1e-5 / 4096
    assert float(goodput_bytes_per_s(network)) == pytest.approx(50e9 * 0.99 / (0.99 + 0.01 * window))


def test_tcp_by_mathis() -> None:
    """MSS/RTT·sqrt(3/2p): 1460 bytes, 1 ms, 0.01 % loss give 178.8 MB/s."""
    network = Network(
        bandwidth_bytes_per_s=50e9, round_trip_s=1e-3, loss=1e-4, transport="tcp", packet_bytes=1460
    )
    assert float(goodput_bytes_per_s(network)) == pytest.approx(178.8e6, rel=1e-3)


def test_the_narrower_side_is_the_neck() -> None:
    assert transfer_links(8, 1, np.array([2, 4, 16]), 1).tolist() == [2, 4, 8]


def test_streaming_hides_all_but_the_last_layer_at_best() -> None:
    assert float(exposed_transfer_time_s(0.03, 10.0, 30, 1.0)) == pytest.approx(0.001)
    assert float(exposed_transfer_time_s(0.03, 0.0, 30, 1.0)) == pytest.approx(0.03)
    overlap = np.linspace(0, 1, 11)
    assert np.all(np.diff(exposed_transfer_time_s(0.03, 0.02, 30, overlap)) <= 0)


def test_fit_recovers_the_network_it_was_given() -> None:
    size, layers = np.geomspace(2e7, 1e10, 18), np.repeat([36.0, 94.0], 9)
    seconds = calibration._predict(np.array([0.7, 2e-5]), size, layers)
    assert calibration._minimise(size, layers, seconds) == pytest.approx([0.7, 2e-5], rel=1e-3)
