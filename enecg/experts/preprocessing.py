"""The signal processing between a decoded record and a model's input, as part of a spec."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from enecg.ecg_format import LEADS, SAMPLE_RATE_HZ, SAMPLES, SECONDS
from enecg.experts.filtering import Filtering

Normalization = Literal["none", "zscore", "zscore-record", "zscore-all-leads", "model"]
Resampling = Literal["none", "polyphase", "fourier"]
Padding = Literal["none", "edge", "periodic"]


@dataclass(frozen=True)
class Preprocessing:
    """The steps from a decoded record (12 leads, 10 s, 500 Hz, mV) to a model's input.

    A record is cut into windows, and each window is resampled independently of the others.
    `normalization` states whether a window or the whole record is normalized. The defaults describe
    the decoded record itself.

    Names and values of the fields are part of a store's identity. A field that is added later must
    be omitted by `as_json` at its default value, so that existing identities do not change.

    Attributes:
        sample_rate_hz: Sampling rate of the input in Hz.
        windows: Number of windows per record. The first starts at the first sample.
        window_steps: Samples per lead and window, at `sample_rate_hz`.
        window_stride_steps: Samples between the starts of consecutive windows, at `sample_rate_hz`.
        resampling: `polyphase` uses the filter of `signal.resample`, `fourier` truncates the
            spectrum (`signal.fourier_resample`), `none` keeps the samples.
        padding: Values beyond the ends of a window during resampling: `edge` repeats the first and
            last sample, `periodic` repeats the window, `none` is used without resampling.
        normalization: `none` keeps mV. `zscore` gives each lead of each window mean 0 and
            variance 1 (`signal.standardize`). `zscore-record` does so over the whole record before
            windows are cut, without an epsilon; constant leads become 0. `zscore-all-leads` gives
            all leads of the record together mean 0 and variance 1. `model` leaves it to the
            model's own first layer.
        leads: Leads of the input, in order.
        filtering: Filters that are applied to the decoded record first; None for no filters.

    Raises:
        ValueError: `resampling`, `padding` or `normalization` has an unknown value.
    """

    sample_rate_hz: float = float(SAMPLE_RATE_HZ)
    windows: int = 1
    window_steps: int = SAMPLES
    window_stride_steps: int = SAMPLES
    resampling: Resampling = "none"
    padding: Padding = "none"
    normalization: Normalization = "none"
    leads: tuple[str, ...] = LEADS
    filtering: Filtering | None = None

    def __post_init__(self) -> None:
        for value, allowed in (
            (self.resampling, get_args(Resampling)),
            (self.padding, get_args(Padding)),
            (self.normalization, get_args(Normalization)),
        ):
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}.")

    @classmethod
    def resampled(
        cls,
        steps: int,
        *,
        windows: int = 1,
        normalization: Normalization,
        leads: tuple[str, ...] = LEADS,
    ) -> "Preprocessing":
        """Describe equal windows without overlap, each resampled by `signal.resample`.

        Args:
            steps: Samples per window after resampling.
            windows: Number of windows that the 10 s are divided into.
            normalization: See `Preprocessing`.
            leads: Leads of the input, in order.

        Returns:
            The preprocessing, with the sampling rate that follows from `steps` and `windows`.
        """
        return cls(
            sample_rate_hz=steps * windows / SECONDS,
            windows=windows,
            window_steps=steps,
            window_stride_steps=steps,
            resampling="polyphase",
            padding="edge",
            normalization=normalization,
            leads=leads,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, as they are stored in a store's provenance."""
        values = {**asdict(self), "leads": list(self.leads)}
        if self.filtering is None:
            del values["filtering"]
        else:
            values["filtering"]["band_hz"] = list(self.filtering.band_hz)
        return values

    def __str__(self) -> str:
        leads = "12 leads" if self.leads == LEADS else f"leads {', '.join(self.leads)}"
        windows = f"{self.windows} windows of " if self.windows > 1 else ""
        filtering = f"{self.filtering}, " if self.filtering else ""
        return (
            f"{leads}, {filtering}{windows}{self.window_steps} samples at "
            f"{self.sample_rate_hz:g} Hz, normalization: {self.normalization}"
        )
