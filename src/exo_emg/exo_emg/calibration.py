"""The wearer's EMG calibration: what each channel reads at full effort, and where that number comes from.

`emg_calibration.yaml` in the session folder:

    kind: emg_calibration
    schema_version: 1
    wearer: w01
    unit: V                      # of the band-passed, rectified and smoothed signal
    chain: {band_low_hz: 20.0, band_high_hz: 450.0, mains: auto, envelope_hz: 6.0, full_scale_v: 0.006}
    muscles:
      soleus_r: {maximum_v: 1.2e-4, method: mvc, sampling_rate_hz: 1000.0, source: emg_calibration/mvc, sha256: ...}

`method` is `mvc` (held contraction of full effort) or `dynamic_peak` (robust peak over strides).
A maximum belongs to the chain that it was read behind: another band or cut-off reads another number.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.parameters import from_mapping
from exo_emg.processing import ChainConfig

FILE = "emg_calibration.yaml"
KIND, SCHEMA_VERSION = "emg_calibration", 2
MVC, DYNAMIC_PEAK = "mvc", "dynamic_peak"
METHODS = (MVC, DYNAMIC_PEAK)
# Surface EMG at full effort, rectified and smoothed, lies between 10 uV and 2 mV; outside this the unit is wrong.
MAXIMUM_V = (1e-6, 1e-2)
# What maxima depend on: the filters' numbers, and the range, at whose edge samples were left out.
CHAIN = ("band_low_hz", "band_high_hz", "mains", "envelope_hz", "full_scale_v")


@dataclasses.dataclass(frozen=True)
class Maximum:
    """Full effort of one muscle.

    Attributes
    ----------
    maximum_v : envelope at full effort, V.
    method : `mvc` or `dynamic_peak`.
    sampling_rate_hz : of the signal behind it; another rate passes another band.
    source, sha256 : recording it was taken from (relative to the session) and its hash.
    """

    maximum_v: float
    method: str
    sampling_rate_hz: float
    source: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        low, high = MAXIMUM_V
        if not (math.isfinite(self.maximum_v) and low <= self.maximum_v <= high):
            raise ExoError(
                f"maximum_v = {self.maximum_v} V is no EMG ({low:g} to {high:g} V); give volts or calibrate again"
            )
        if self.method not in METHODS:
            raise ExoError(f"method '{self.method}' is unknown; choose one of {', '.join(METHODS)}")
        if not (math.isfinite(self.sampling_rate_hz) and self.sampling_rate_hz > 0.0):
            raise ExoError(f"sampling_rate_hz = {self.sampling_rate_hz} is no rate; calibrate again")


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Full effort of each of a wearer's muscles, by name, and the chain behind it."""

    wearer: str
    muscles: Mapping[str, Maximum]
    chain: ChainConfig = dataclasses.field(default_factory=ChainConfig)

    def check_chain(self, config: ChainConfig) -> None:
        """Compare with the chain that the maxima are to be used with.

        A notch that switches itself on (`mains: auto`) goes with any.

        Raises
        ------
        ExoError : naming what differs.
        """
        for name in CHAIN:
            own, other = getattr(self.chain, name), getattr(config, name)
            if own != other and not (name == "mains" and "auto" in (own, other)):
                raise ExoError(
                    f"the EMG of {self.wearer} was calibrated with {name} = {own}, but is processed with {other}; "
                    "use the same number, or calibrate again with the other"
                )

    def maxima_v(self, muscles: Sequence[str]) -> NDArray[np.float64]:
        """(channels,) maxima in V, in the order of `muscles`.

        Raises
        ------
        ExoError : if a muscle was not calibrated.
        """
        missing = [name for name in muscles if name not in self.muscles]
        if missing:
            raise ExoError(
                f"the EMG calibration of {self.wearer} lacks {', '.join(missing)}; it holds "
                f"{', '.join(self.muscles) or 'no muscle'}; calibrate again with these channels"
            )
        return np.array([self.muscles[name].maximum_v for name in muscles])

    def with_muscles(self, muscles: Mapping[str, Maximum]) -> Calibration:
        """These maxima in place of earlier ones of the same muscles; the others are kept."""
        return dataclasses.replace(self, muscles={**self.muscles, **muscles})


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file, whole or not at all.

    Raises
    ------
    ExoError : if the disk is full or the place cannot be written.
    """
    content = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "wearer": calibration.wearer,
        "unit": "V",
        "chain": {name: getattr(calibration.chain, name) for name in CHAIN},
        "muscles": {name: _plain(maximum) for name, maximum in calibration.muscles.items()},
    }
    text = yaml.safe_dump(content, sort_keys=False)
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as scratch:
            scratch.write(text)
        Path(scratch.name).chmod(0o644)
        Path(scratch.name).replace(path)
    except OSError as error:
        raise ExoError(f"{path} could not be written ({error.strerror}); free disk space or mend its rights") from None


def read_calibration(path: Path, wearer: str | None = None, config: ChainConfig | None = None) -> Calibration:
    """Read and check the file.

    Parameters
    ----------
    wearer : whose it must be; None takes anybody's.
    config : the chain that it must have been made with; None takes any.

    Raises
    ------
    ExoError : if it is missing, no calibration, of another wearer, chain or unit, or a number is impossible.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ExoError(f"{path} is missing; make it with python -m exo_emg calibrate <session>") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExoError(f"{path} is not valid YAML ({str(error).splitlines()[0]}); calibrate again") from None
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise ExoError(f"{path} is no EMG calibration; make one with python -m exo_emg calibrate <session>")
    if raw.get("schema_version") != SCHEMA_VERSION:
        raise ExoError(
            f"{path} has schema version {raw.get('schema_version')}, {SCHEMA_VERSION} is understood; make it again"
        )
    if raw.get("unit") != "V":
        raise ExoError(f"{path} is in '{raw.get('unit')}', maxima are in V; convert them and correct 'unit'")
    if wearer is not None and raw.get("wearer") != wearer:
        raise ExoError(f"{path} belongs to wearer '{raw.get('wearer')}', not '{wearer}'; calibrate this wearer")
    muscles = raw.get("muscles")
    if not isinstance(muscles, dict) or not muscles:
        raise ExoError(f"{path} holds no muscle; calibrate again")
    maxima = {str(name): _maximum(path, name, own) for name, own in muscles.items()}
    found = Calibration(str(raw.get("wearer")), maxima, _chain(path, raw.get("chain")))
    if config is not None:
        found.check_chain(config)
    return found


def _chain(path: Path, raw: Any) -> ChainConfig:
    if not isinstance(raw, dict) or set(raw) != set(CHAIN):
        raise ExoError(f"{path}: 'chain' must hold {', '.join(CHAIN)}, not {raw!r}; calibrate again")
    return from_mapping(ChainConfig, raw, f"{path}, chain")


def _maximum(path: Path, name: Any, raw: Any) -> Maximum:
    try:
        own = dict(raw)
        return Maximum(
            float(own.pop("maximum_v")), str(own.pop("method")), float(own.pop("sampling_rate_hz")),
            str(own.pop("source", "")), str(own.pop("sha256", "")),
        )  # fmt: skip
    except ExoError as error:
        raise ExoError(f"{path}, {name}: {error}") from None
    except (KeyError, TypeError, ValueError):
        raise ExoError(
            f"{path}, {name}: it must hold maximum_v (V), method and sampling_rate_hz, not {raw!r}; calibrate again"
        ) from None


def _plain(maximum: Maximum) -> dict[str, Any]:
    # Six digits are more than any electrode repeats, and read better.
    return dataclasses.asdict(maximum) | {"maximum_v": float(f"{maximum.maximum_v:.6g}")}
