"""Options and settings reject values of the wrong type and out of range in one sentence."""

from collections.abc import Callable

import pytest

from enecg.errors import UserError
from pipeline.explanation.options import ExplainOptions
from pipeline.extraction.options import ExtractOptions
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training.settings import FitSettings, TrainSettings
from pipeline.training.sweep import SweepSettings
from pipeline.waveforms.options import DecodeOptions


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: FitSettings(adaptation="mlp"),  # type: ignore[arg-type]
            "adaptation is 'mlp'; it should be 'linear-lora', 'lora', 'full', 'linear' or 'shared-",
        ),
        (lambda: FitSettings(rank=2048), "rank is 2048; it should be less than or equal to 1024."),
        (lambda: FitSettings(learning_rate=-1.0), "learning_rate is -1.0; it should be greater"),
        (lambda: TrainSettings(repeats=0), "repeats is 0; it should be greater than or equal to 1"),
        (lambda: TrainSettings(ecgs="two"), "ecgs is 'two'; it should be 'one' or 'all'"),  # type: ignore[arg-type]
        (lambda: TrainSettings(tasks="age"), "tasks is 'age'; it should be a valid tuple."),  # type: ignore[arg-type]
        (lambda: SweepSettings(TrainSettings(), trials=0), "trials is 0; it should be greater"),
        (lambda: ExtractOptions(batch_size=0), "batch_size is 0; it should be greater than or"),
        (lambda: ExtractOptions(dtype="int8"), "dtype is 'int8'; it should be 'float16' or"),  # type: ignore[arg-type]
        (lambda: PretrainSettings(epochs=0), "epochs is 0; it should be greater than or equal"),
        (lambda: ExplainOptions(steps=0), "steps is 0; it should be greater than or equal to 1."),
        (lambda: DecodeOptions("pad"), "short_records is 'pad'; it should be 'refuse' or 'mirror'"),  # type: ignore[arg-type]
    ],
)
def test_invalid_value_is_a_user_error_that_names_the_field(
    build: Callable[[], object], message: str
):
    with pytest.raises(UserError) as caught:
        build()
    assert message in str(caught.value)
