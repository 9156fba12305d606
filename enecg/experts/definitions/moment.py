"""Definitions of MOMENT."""

from enecg.ecg_format import LEADS
from enecg.experts.definition import ExpertDefinition, deferred
from enecg.experts.preprocessing import Preprocessing
from enecg.experts.pretraining_data import TIME_SERIES_PILE
from enecg.experts.weights import HubFile

STEPS = 512
"""Samples per series in pretraining, here 10 s at 51.2 Hz or a window of 2.5 s at 204.8 Hz."""

WINDOWS = 4
"""Number of windows of 2.5 s in the `-windows` experts."""

# The flan-T5 encoders of MOMENT-1-small, -base and -large, from their published config.json.
T5_SIZES = {
    "small": {"d_model": 512, "d_ff": 1024, "num_heads": 6, "num_layers": 8},
    "base": {"d_model": 768, "d_ff": 2048, "num_heads": 12, "num_layers": 12},
    "large": {"d_model": 1024, "d_ff": 2816, "num_heads": 16, "num_layers": 24},
}


def _define(name: str, size: str, parameters: int, windows: int = 1) -> ExpertDefinition:
    return ExpertDefinition(
        name=name,
        code_version=2,
        preprocessing=Preprocessing.resampled(STEPS, windows=windows, normalization="model"),
        pooling="mean-std",
        license="MIT",
        source="arXiv 2402.03885",
        published=HubFile(
            f"AutonLab/MOMENT-1-{size}", "model.safetensors", companions=("config.json",)
        ),
        embedding_size=2 * T5_SIZES[size]["d_model"] + 2 * len(LEADS),
        parameters=parameters,
        build=deferred("enecg.experts.moment:build", size),
        pretrained_on=(TIME_SERIES_PILE,),
    )


_PARAMETERS = {"small": 35_337_408, "base": 109_635_456, "large": 341_240_320}

MOMENT_SMALL = _define("moment", "small", _PARAMETERS["small"])
MOMENT_BASE = _define("moment-base", "base", _PARAMETERS["base"])
MOMENT_LARGE = _define("moment-large", "large", _PARAMETERS["large"])
MOMENT_SMALL_WINDOWS = _define("moment-windows", "small", _PARAMETERS["small"], WINDOWS)
MOMENT_BASE_WINDOWS = _define("moment-base-windows", "base", _PARAMETERS["base"], WINDOWS)
MOMENT_LARGE_WINDOWS = _define("moment-large-windows", "large", _PARAMETERS["large"], WINDOWS)
