"""Spectra of short pieces of surface EMG, and the frequencies that describe them.

A piece ("tile") is long enough to resolve the spectrum to 5 Hz and short enough
to lie inside one burst of a walking muscle. Tiles overlap by half and are
Hann-windowed, so that averaging them is Welch's estimate (Welch 1967).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfreqz

from exo_emg.processing import BAND_HIGH_HZ, BAND_LOW_HZ, BAND_ORDER, signal_band

# Half a tile, s: bursts of walking muscles last 0.1-0.5 s; shorter tiles smear the spectrum, longer ones the burst.
# A hop is cut into bins of about 10 ms for the envelope.
HOP_S = 0.096
BINS_PER_HOP = 9
# Orders of the moments in Dimitrov's index (Dimitrov et al. 2006, Med Sci Sports Exerc 38:1971): FInsm5.
DIMITROV_ORDERS = (-1, 5)
QUANTILES = np.linspace(0.1, 0.9, 17)
# The band-pass attenuates at its edges and does not move with the spectrum. It is undone down to half the amplitude;
# beyond, and at the lower edge within 1.25 of it, there is too little left to read.
UNDONE_POWER_MIN = 0.25
LOW_EDGE_RATIO = 1.25
# The factor is its own argument; each step leaves about a sixth of the error.
COMPRESSION_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How a signal of one sampling rate is cut into tiles.

    Parameters
    ----------
    rate_hz : sampling rate, Hz.
    low_hz, high_hz : edges of the band-pass that the signal went through, Hz.
        Its attenuation is undone in the spectra; that of notches at the mains is not.

    Raises
    ------
    ExoError : if the rate is too low for EMG.
    """

    rate_hz: float
    low_hz: float = BAND_LOW_HZ
    high_hz: float = BAND_HIGH_HZ

    def __post_init__(self) -> None:
        signal_band(self.rate_hz, self.low_hz, self.high_hz)

    @property
    def bin_samples(self) -> int:
        """Samples per envelope bin."""
        return max(1, round(HOP_S * self.rate_hz / BINS_PER_HOP))

    @property
    def bin_s(self) -> float:
        """Length of an envelope bin, s."""
        return self.bin_samples / self.rate_hz

    @property
    def hop(self) -> int:
        """Samples from one tile to the next; a tile is two hops."""
        return BINS_PER_HOP * self.bin_samples

    @functools.cached_property
    def frequency_hz(self) -> NDArray[np.float64]:
        """(bins,) frequencies of the spectra, Hz: those inside the EMG band."""
        return self._frequencies[self._in_band]

    def spectra(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Power spectra of all whole tiles.

        Parameters
        ----------
        samples : (n, channels) V.

        Returns
        -------
        (tiles, channels, bins) one-sided power spectral density, V^2/Hz; tile k is samples k*hop to (k+2)*hop.
        """
        tiles = np.lib.stride_tricks.sliding_window_view(samples, 2 * self.hop, axis=0)[:: self.hop]
        transform = np.fft.rfft(tiles * self._window, axis=-1)[..., self._in_band]
        density: NDArray[np.float64] = self._scale * (transform.real**2 + transform.imag**2)
        return density

    @functools.cached_property
    def _window(self) -> NDArray[np.float64]:
        return np.hanning(2 * self.hop + 1)[:-1]

    @functools.cached_property
    def _scale(self) -> NDArray[np.float64]:
        """(bins,) from squared transform to density, with the band-pass undone."""
        scale: NDArray[np.float64] = 2.0 / (self.rate_hz * float(np.sum(self._window**2))) / self._passed[self._in_band]
        return scale

    @functools.cached_property
    def _frequencies(self) -> NDArray[np.float64]:
        return np.fft.rfftfreq(2 * self.hop, 1.0 / self.rate_hz).astype(np.float64)

    @functools.cached_property
    def _passed(self) -> NDArray[np.float64]:
        """Part of the power that the band-pass left, at every frequency of the transform."""
        band = signal_band(self.rate_hz, self.low_hz, self.high_hz)
        sos = butter(BAND_ORDER, band, "bandpass", fs=self.rate_hz, output="sos")
        passed: NDArray[np.float64] = np.abs(sosfreqz(sos, self._frequencies, fs=self.rate_hz)[1]) ** 2
        return passed

    @functools.cached_property
    def _in_band(self) -> NDArray[np.bool_]:
        low, _ = signal_band(self.rate_hz, self.low_hz, self.high_hz)
        return (self._frequencies >= LOW_EDGE_RATIO * low) & (self._passed >= UNDONE_POWER_MIN)


def median_frequency(frequency_hz: NDArray[np.float64], spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequency (Hz) that halves the power; NaN where the power is not positive.

    Parameters
    ----------
    frequency_hz : (bins,) equally spaced, Hz.
    spectra : (..., bins); bins may be negative after subtraction of a noise spectrum. Half the power may
        then be crossed more than once: the middle between first and last crossing counts.
    """
    step = frequency_hz[1] - frequency_hz[0]
    cumulative = np.cumsum(spectra, axis=-1)
    total = cumulative[..., -1]
    half = 0.5 * total[..., None]
    upper = np.stack(
        [
            np.argmax(cumulative >= half, axis=-1),
            # The first bin from which on the sum stays above half.
            spectra.shape[-1] - np.argmax(cumulative[..., ::-1] < half, axis=-1),
        ]
    )
    # Half is crossed in the very first bin where no sum lies below it.
    upper[1] = np.where(np.all(cumulative >= half, axis=-1), 0, upper[1]) % spectra.shape[-1]
    above = np.stack([np.take_along_axis(cumulative, k[..., None], axis=-1)[..., 0] for k in upper])
    power = np.stack([np.take_along_axis(spectra, k[..., None], axis=-1)[..., 0] for k in upper])
    with np.errstate(divide="ignore", invalid="ignore"):
        # A bin's power is spread evenly over its width.
        crossing = frequency_hz[upper] + step * (0.5 - (above - half[..., 0]) / power)
    return np.where(total > 0.0, crossing.mean(axis=0), np.nan)


def compression(
    frequency_hz: NDArray[np.float64], reference: NDArray[np.float64], spectrum: NDArray[np.float64]
) -> float:
    """Factor c by which a spectrum's frequency axis is compressed: spectrum(f) ~ reference(f / c); NaN if unknown.

    It is the ratio of the two median frequencies, freed of the bias and of some of
    the noise of a plain ratio. A compressed spectrum loses power below the lower
    edge of the band, so that its median falls less than it should (8 % less in a
    typical case); here each median is taken in the part of the band that the other
    spectrum saw too. And not the half of the power alone is compared but the
    :data:`QUANTILES` around it (as in the distribution technique of Rix & Malengé
    1980, IEEE Trans Biomed Eng 27:376), which vary less together than the median alone.

    Parameters
    ----------
    reference, spectrum : (bins,) power spectra, of any scale.
    """
    edges = np.append(frequency_hz, 2.0 * frequency_hz[-1] - frequency_hz[-2]) - 0.5 * (
        frequency_hz[1] - frequency_hz[0]
    )
    low, high = edges[0], edges[-1]
    cumulative = [np.append(0.0, np.cumsum(shape)) for shape in (reference, spectrum)]
    factor = 1.0
    for _ in range(COMPRESSION_STEPS):
        bands = (
            (max(low, low / factor), min(high, high / factor)),
            (max(low, low * factor), min(high, high * factor)),
        )
        before, now = (_quantiles(edges, c, *band) for c, band in zip(cumulative, bands, strict=True))
        if before is None or now is None:
            return float("nan")
        factor = float(np.exp(np.mean(np.log(now / before))))
    return factor


def _quantiles(
    edges: NDArray[np.float64], cumulative: NDArray[np.float64], low: float, high: float
) -> NDArray[np.float64] | None:
    """Frequencies below which lie the QUANTILES of the power between two frequencies; None if there is no power."""
    if not low < high:
        return None
    start, end = np.interp((low, high), edges, cumulative)
    if not end > start:
        return None
    # Noise subtraction leaves negative bins; the running maximum keeps the sum invertible.
    rising = np.maximum.accumulate(np.clip(cumulative, start, end))
    return np.interp(start + QUANTILES * (end - start), rising, edges)


def mean_frequency(frequency_hz: NDArray[np.float64], spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power-weighted mean frequency, Hz, of (..., bins) spectra; NaN where the power is not positive."""
    return _ratio(spectra @ frequency_hz, spectra.sum(axis=-1))


def dimitrov_index(frequency_hz: NDArray[np.float64], spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """FInsm5, the moment of order -1 over that of order 5, Hz^-6; NaN where either is not positive.

    Rises with fatigue, several times more than the median frequency falls: the
    fifth power looks at the highest frequencies, where there is most noise. Take
    it from averaged, noise-corrected spectra, and compare it only within a channel.
    """
    low, high = (spectra @ frequency_hz**order for order in DIMITROV_ORDERS)
    return np.where(low > 0.0, _ratio(low, high), np.nan)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0.0)
