"""How good, how fast and how late the EMG chain is, for bench emg.

Truth is the excitation that synthetic EMG was made from: the ten envelopes of walking_3d, recorded from real muscles,
and walking patterns with varying strides. White noise in the band of EMG is added at 10 dB below each channel's RMS.
The peer is the usual chain written with SciPy: 20-450 Hz forwards and backwards, rectify, 6 Hz forwards and backwards.
It runs on one thread; ours runs its FFTs on two, so processor time is told beside the time that passes. Memory is the
peak of a process of its own, less what that held before it had a recording.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from scipy.signal import butter, sosfiltfilt

from exo_common.clock import to_stamp
from exo_common.opensim_files import read_storage
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg import offline
from exo_emg.offline import envelope_offline, process_recording
from exo_emg.processing import RINGING_S, ChainConfig, EnvelopeStream, group_delay_s, signal_band
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig
from exo_interfaces.msg import EmgEnvelope, EmgFrame

FloatArray = NDArray[np.float64]

RATE_HZ = 2000.0
CHANNELS = 16
SNR_DB = 10.0
# Hum on top, beside the rectified mean at full effort.
HUM_OF_MAXIMUM = 0.2
CONFIG = ChainConfig()
# The envelope's ends, where filters fill, are left out, s.
EDGE_S = 0.5
PATTERN_S = 30.0
HOUR_S = 3600.0
# The peer holds the whole recording and copies of it in memory: a tenth of an hour, counted ten times.
PEER_SHARE = 0.1
LIVE_S = 20.0
WARM_UP_S = 3.0
DOMAIN = 98
TIMEOUT_S = 20.0


def accuracy(data: Path, seeds: range) -> tuple[dict[str, float], dict[str, float]]:
    """Correlation of envelopes with true activation at 10 dB, and how far online is off offline; figures and peers."""
    truths = {"walking_3d": _walking_3d(data), "patterns": _patterns()}
    found: dict[str, list[FloatArray]] = {}
    rmse, relative = [], []
    delay = round(group_delay_s(CONFIG, RATE_HZ) * RATE_HZ)
    edge = round(EDGE_S * RATE_HZ)
    for name, truth in truths.items():
        inner = slice(edge, len(truth) - edge)
        late, early = slice(edge + delay, len(truth) - edge + delay), inner
        for seed in seeds:
            samples, maxima = _noisy_emg(truth, seed)
            # Silence behind, so that the late envelope has its end.
            padded = np.concatenate([samples, np.zeros((2 * delay, samples.shape[1]))])
            offline = envelope_offline(samples, RATE_HZ, maxima, CONFIG)
            online = EnvelopeStream(RATE_HZ, maxima, CONFIG).process(padded)[late]
            found.setdefault(name, []).append(_correlation(offline[inner], truth[inner]))
            found.setdefault(f"{name}_online", []).append(_correlation(online, truth[early]))
            found.setdefault(f"{name}_peer", []).append(_correlation(_scipy_chain(samples)[inner], truth[inner]))
            inside = slice(0, len(online) - 2 * delay)
            difference = online[inside] - offline[inner][inside]
            rmse.append(float(np.sqrt(np.mean(difference**2))))
            relative.append(100.0 * rmse[-1] / float(np.sqrt(np.mean(offline[inner] ** 2))))
    hum_rmse, hum_delay = _with_hum(truths["patterns"], seeds[0])
    mean = {name: np.mean(values, axis=0) for name, values in found.items()}
    figures = {
        "envelope_r_10db": float(np.mean(np.concatenate([mean["walking_3d"], mean["patterns"]]))),
        "envelope_r_10db_walking_3d": float(mean["walking_3d"].mean()),
        "envelope_r_10db_walking_3d_worst_muscle": float(mean["walking_3d"].min()),
        "envelope_r_10db_patterns": float(mean["patterns"].mean()),
        "envelope_r_10db_online": float(np.mean(np.concatenate([mean["walking_3d_online"], mean["patterns_online"]]))),
        "online_offline_rmse": float(np.mean(rmse)),
        "online_offline_rmse_pct_of_envelope": float(np.mean(relative)),
        "online_delay_ms": 1e3 * delay / RATE_HZ,
        "online_offline_rmse_with_notch": hum_rmse,
        "online_delay_with_notch_ms": 1e3 * hum_delay,
    }
    peers = {
        "scipy_chain_envelope_r_10db": float(np.mean(np.concatenate([mean["walking_3d_peer"], mean["patterns_peer"]]))),
        "scipy_chain_envelope_r_10db_walking_3d": float(mean["walking_3d_peer"].mean()),
        "scipy_chain_envelope_r_10db_walking_3d_worst_muscle": float(mean["walking_3d_peer"].min()),
    }
    return figures, peers


def _with_hum(truth: FloatArray, seed: int) -> tuple[float, float]:
    """How far online is off offline where notches take hum away, RMSE of fractions, and the stated delay, s."""
    config = ChainConfig(mains="50")
    samples, maxima = _noisy_emg(truth, seed)
    time_s = np.arange(len(samples))[:, None] / RATE_HZ
    samples = samples + HUM_OF_MAXIMUM * maxima * np.sin(2.0 * np.pi * 50.0 * time_s)
    delay_s = group_delay_s(config, RATE_HZ, 50.0)
    delay, edge = round(delay_s * RATE_HZ), round(RINGING_S * RATE_HZ)
    offline = envelope_offline(samples, RATE_HZ, maxima, config)[edge:-edge]
    online = EnvelopeStream(RATE_HZ, maxima, config).process(samples)[edge + delay : delay - edge]
    return float(np.sqrt(np.mean((online - offline) ** 2))), delay_s


def per_muscle(data: Path, seeds: range) -> dict[str, tuple[float, float]]:
    """Muscle of walking_3d -> mean correlation at 10 dB, ours and the peer's."""
    truth = _walking_3d(data)
    names = read_storage(data / "walking_3d" / "electromyography.sto").columns
    inner = slice(round(EDGE_S * RATE_HZ), -round(EDGE_S * RATE_HZ))
    ours, theirs = [], []
    for seed in seeds:
        samples, maxima = _noisy_emg(truth, seed)
        ours.append(_correlation(envelope_offline(samples, RATE_HZ, maxima, CONFIG)[inner], truth[inner]))
        theirs.append(_correlation(_scipy_chain(samples)[inner], truth[inner]))
    pairs = zip(np.mean(ours, axis=0).tolist(), np.mean(theirs, axis=0).tolist(), strict=True)
    return dict(zip(names, pairs, strict=True))


def speed() -> tuple[dict[str, float], dict[str, float]]:
    """An hour of 16 channels offline in a process of its own; figures and the peer's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        figures = pool.submit(_offline_hour).result()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        peers = pool.submit(_scipy_hour).result()
    return figures, peers


def live() -> dict[str, float]:
    """The node in its own process, fed 16 channels at 2 kHz over DDS: processor time and added latency."""
    samples = _pieces(round(10.0 * RATE_HZ))
    size = round(0.01 * RATE_HZ)
    muscles = [f"muscle_{k}_r" for k in range(CHANNELS)]
    frames = [samples[k : k + size].astype(np.float32).ravel() for k in range(0, len(samples), size)]
    sent: list[int] = []
    arrived: list[int] = []
    code = "from exo_emg.nodes.emg_processor import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN)))
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("source", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        publisher = node.create_publisher(EmgFrame, "/emg/raw", PUBLISH)
        node.create_subscription(
            EmgEnvelope, "/emg/envelope", lambda _: arrived.append(time.perf_counter_ns()), EVERY_SAMPLE
        )
        deadline = time.monotonic() + TIMEOUT_S
        while publisher.get_subscription_count() == 0 or node.count_publishers("/emg/envelope") == 0:
            executor.spin_once(timeout_sec=0.05)
            assert time.monotonic() < deadline, "the EMG processor did not appear"
        time.sleep(0.5)
        begun, begun_ns, used = time.perf_counter(), time.time_ns(), 0.0
        for k in range(round(LIVE_S * 100)):
            if k == round(WARM_UP_S * 100):
                used, measured_from = _cpu_s(process.pid), time.perf_counter()
            frame = EmgFrame(first_sample=k * size, sampling_rate_hz=RATE_HZ, muscles=muscles)
            frame.header.stamp = to_stamp(begun_ns + 10_000_000 * k)
            frame.samples = frames[k % len(frames)]
            sent.append(time.perf_counter_ns())
            publisher.publish(frame)
            while (left := begun + 0.01 * (k + 1) - time.perf_counter()) > 0.0:
                executor.spin_once(timeout_sec=left)
        used = _cpu_s(process.pid) - used
        seconds = time.perf_counter() - measured_from
        deadline = time.monotonic() + TIMEOUT_S
        while len(arrived) < len(sent) and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
    finally:
        process.terminate()
        process.wait()
        executor.shutdown()
        node.destroy_node()
        context.shutdown()
    assert len(arrived) == len(sent), f"{len(sent) - len(arrived)} frames were not answered"
    late = (np.array(arrived) - np.array(sent))[round(WARM_UP_S * 100) :] / 1e6
    return {
        "cpu_core_pct": 100.0 * used / seconds,
        "latency_p50_ms": float(np.percentile(late, 50)),
        "latency_p95_ms": float(np.percentile(late, 95)),
        "latency_max_ms": float(late.max()),
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _walking_3d(data: Path) -> FloatArray:
    """(n, 10) envelopes of real muscles at 2 kHz, each of its own maximum."""
    table = read_storage(data / "walking_3d" / "electromyography.sto")
    time_s = np.arange(table.time[0], table.time[-1], 1.0 / RATE_HZ)
    curves = np.column_stack([np.interp(time_s, table.time, column) for column in table.values.T])
    return np.clip(curves / curves.max(axis=0), 0.0, 1.0)


def _patterns() -> FloatArray:
    """(n, 8) activation over varying strides: one or two bursts of differing widths over a low tone."""
    rng = np.random.default_rng(7)
    lengths = 1.1 * (1.0 + 0.04 * rng.standard_normal(round(PATTERN_S / 1.0) + 4))
    strikes = np.concatenate([[0.0], np.cumsum(lengths)])
    phase = np.interp(np.arange(round(PATTERN_S * RATE_HZ)) / RATE_HZ, strikes, np.arange(len(strikes)))
    stride = phase.astype(int)
    columns = []
    for centre, width, second, tone in (
        (0.05, 0.06, 0.0, 0.02), (0.30, 0.10, 0.0, 0.03), (0.45, 0.05, 0.0, 0.02), (0.10, 0.08, 0.4, 0.05),
        (0.90, 0.07, 0.3, 0.02), (0.60, 0.05, 0.5, 0.04), (0.97, 0.12, 0.0, 0.08), (0.20, 0.15, 0.2, 0.10),
    ):  # fmt: skip
        height = 0.7 * (1.0 + 0.15 * rng.standard_normal(stride[-1] + 2))[stride]
        columns.append(tone + height * (_bump(phase, centre, width) + second * _bump(phase, centre + 0.4, width)))
    return np.clip(np.column_stack(columns), 0.0, 1.0)


def _bump(phase: FloatArray, centre: float, width: float) -> FloatArray:
    return np.exp(-0.5 * ((np.mod(phase - centre + 0.5, 1.0) - 0.5) / width) ** 2)


def _noisy_emg(truth: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """(n, channels) V at 10 dB, and (channels,) maxima that belong to it, V."""
    config = SynthesisConfig(sampling_rate_hz=RATE_HZ, noise_v=0.0)
    signal = EmgSynthesizer(truth.shape[1], seed, config).frame(truth)
    band = butter(2, signal_band(RATE_HZ), "bandpass", fs=RATE_HZ, output="sos")
    noise = sosfiltfilt(band, np.random.default_rng((seed, 1)).standard_normal(signal.shape), axis=0)
    level = np.sqrt(np.mean(signal**2, axis=0)) * 10.0 ** (-SNR_DB / 20.0)
    return signal + level * noise / noise.std(axis=0), np.full(truth.shape[1], config.maximum_v())


def _scipy_chain(samples: FloatArray) -> FloatArray:
    band = butter(2, signal_band(RATE_HZ), "bandpass", fs=RATE_HZ, output="sos")
    # Twice through: the cut-off is raised so that the pair is 3 dB down at 6 Hz (Winter 2009, 2.2.4).
    smooth = butter(2, CONFIG.envelope_hz / (np.sqrt(2.0) - 1.0) ** 0.25, fs=RATE_HZ, output="sos")
    return sosfiltfilt(smooth, np.abs(sosfiltfilt(band, samples, axis=0)), axis=0)


def _correlation(a: FloatArray, b: FloatArray) -> FloatArray:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return np.sum(a * b, axis=0) / np.sqrt(np.sum(a**2, axis=0) * np.sum(b**2, axis=0))


def _pieces(samples: int) -> FloatArray:
    """(n, 16) walking EMG with hum."""
    phase = np.arange(samples)[:, None] / RATE_HZ / 1.1 + np.arange(CHANNELS) / CHANNELS
    config = SynthesisConfig(sampling_rate_hz=RATE_HZ, mains_v=1e-4)
    drive = 0.02 + 0.6 * np.maximum(0.0, np.sin(2.0 * np.pi * phase)) ** 2
    return EmgSynthesizer(CHANNELS, 0, config).frame(drive)


def _offline_hour() -> dict[str, float]:
    piece = _pieces(round(60.0 * RATE_HZ))

    def pieces(seconds: float) -> Iterator[FloatArray]:
        for _ in range(round(seconds / 60.0)):
            yield piece

    # Buffers are as large after five minutes as they get; what grows on is the result, its copy and the allocator's.
    empty = _resident_mb()
    process_recording(pieces(300.0), RATE_HZ, CONFIG)
    before = _peak_mb()
    begun, used = time.perf_counter(), time.process_time()
    result = process_recording(pieces(HOUR_S), RATE_HZ, CONFIG)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    peak = _peak_mb()
    assert result.mains_hz == 50.0 and len(result.envelope) == HOUR_S * result.rate_hz
    twice = np.concatenate([piece, piece])
    parts = process_recording(np.array_split(twice, 50), RATE_HZ, CONFIG)
    offline.BLOCK_S = HOUR_S
    whole = process_recording([twice], RATE_HZ, CONFIG)
    return {
        "offline_hour_s": seconds,
        "offline_hour_cpu_s": used,
        "offline_threads": offline.WORKERS,
        "offline_hour_memory_mb": peak - empty,
        "offline_hour_memory_growth_mb": peak - before,
        "offline_hour_result_mb": (result.envelope.nbytes + result.valid.nbytes + result.codes.nbytes) / 1e6,
        "offline_blocks_relative_difference": float(
            np.abs(parts.envelope - whole.envelope).max() / whole.envelope.max()
        ),
    }


def _scipy_hour() -> dict[str, float]:
    piece = _pieces(round(60.0 * RATE_HZ))
    empty = _resident_mb()
    samples = np.tile(piece, (round(PEER_SHARE * HOUR_S / 60.0), 1))
    begun, used = time.perf_counter(), time.process_time()
    _scipy_chain(samples)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    return {
        "scipy_chain_hour_s": seconds / PEER_SHARE,
        "scipy_chain_hour_cpu_s": used / PEER_SHARE,
        "scipy_chain_threads": 1,
        "scipy_chain_hour_memory_mb": (_peak_mb() - empty) / PEER_SHARE,
    }


def _resident_mb() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 1e6


def _peak_mb() -> float:
    # Not ru_maxrss: a new process starts with that of the one that made it.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
