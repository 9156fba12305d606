"""Compare codec_v6 of the package openecg with the experts, and EnECG with and without it.

    pip install --no-deps openecg==0.11.0 opendsp
    python -m benchmarks openecg_codec ludb:LUDB --store stores-data/lab
        [--experts dlinear timesnet measurements] [--repeats 5] [--limit N] [--task NAME:KIND]

The store must contain embeddings of the other experts, with the weights random:0 where they have
weights. The benchmark adds the embeddings of codec_v6. Cohorts, tasks and the format of the tables
are those of `benchmarks/heads.py`.

codec_v6 reads one lead and labels each sample by wave, beat and rhythm. For each of `LEADS_READ`,
an embedding contains the mean and standard deviation over time of the model's last states, and the
mean probabilities of the classes.
"""

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import openecg
import openecg.layered
import torch
from openecg.dsp import rank_normalize
from torch import Tensor

import enecg
from benchmarks.heads import DEFAULT, Values, draw_cohorts, print_comparisons
from enecg.ecg_format import LEADS
from enecg.experts import ExpertSpec, Preprocessing
from pipeline.evaluation.predictions import CONSTANT, ENSEMBLE, WITHOUT
from pipeline.training.features import read_features
from pipeline.training.inputs import prepare_inputs
from pipeline.training.leave_one_out import add_leave_one_out
from pipeline.training.repeat import run_repeats
from pipeline.training.torch_state import single_thread

LEADS_READ = ("II", "V1", "V5")
STATES, PROBABILITIES = 128, 16
"""Number of features of a state, and of classes of waves (4), beats (6) and rhythms (6)."""


class OpenEcgCodec:
    """Expert with the model codec_v6."""

    def __init__(self) -> None:
        file = Path(openecg.layered.__file__).with_name("models") / "codec_v6.pt"
        self.model = openecg.load_codec(str(file))
        self.spec = ExpertSpec(
            name="openecg",
            code_version=1,
            architecture={"version": "0.11.0"},
            preprocessing=Preprocessing(leads=LEADS_READ),
            pooling="none",
            embedding_size=len(LEADS_READ) * (2 * STATES + PROBABILITIES),
            weights="checkpoint",
            weights_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        )

    def embed(self, ecg: Tensor) -> Tensor:
        """Compute the embeddings of a batch, one record and lead at a time."""
        rows = [LEADS.index(lead) for lead in LEADS_READ]
        embeddings = [
            torch.cat([self.embed_lead(record[row].numpy(), row) for row in rows])
            for record in ecg.float().cpu()
        ]
        return torch.stack(embeddings)

    def embed_lead(self, signal: np.ndarray, row: int) -> Tensor:
        states: list[Tensor] = []
        hook = self.model.head_sample.register_forward_pre_hook(
            lambda _, inputs: states.append(inputs[0][0])
        )
        normalized = torch.from_numpy(np.asarray(rank_normalize(signal), np.float32))
        with hook, torch.inference_mode():
            logits = self.model(normalized[None], torch.tensor([row]))
        probabilities = [output[0].softmax(-1).mean(0) for output in logits]
        return torch.cat([states[0].mean(0), states[0].std(0), *probabilities])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--store", required=True)
    parser.add_argument("--experts", nargs="+", default=["dlinear", "timesnet", "measurements"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=int, help="use only the first LIMIT records")
    parser.add_argument("--task", action="append", default=[], help="custom task as NAME:KIND")
    arguments = parser.parse_args()
    codec = OpenEcgCodec()
    options = enecg.ExtractOptions(limit=arguments.limit)
    enecg.extract(arguments.dataset, arguments.store, [codec], options=options)
    settings = enecg.TrainSettings(
        tasks=("all",),
        own_tasks=tuple(arguments.task),
        weights=("random:0",),
        limit=arguments.limit,
    )
    inputs = prepare_inputs(
        arguments.dataset, arguments.store, settings, experts=[*arguments.experts, codec]
    )
    inputs, cohorts = draw_cohorts(inputs, arguments.repeats)
    features = read_features(inputs.cache, inputs.record_id, "cpu")
    with single_thread():
        repeats = run_repeats(cohorts, inputs, features, settings.fit, lambda *_: None)
        repeats = add_leave_one_out(repeats, inputs, features, settings.fit, lambda *_: None)
    values: Values = defaultdict(list)
    for repeat in repeats:
        for prediction in repeat.predictions:
            values[prediction.task.name, DEFAULT, prediction.method].append(prediction)
    name = codec.spec.name
    others = [(DEFAULT, other) for other in (CONSTANT, *arguments.experts)]
    print_comparisons(inputs.tasks, name, others, values)
    print_comparisons(inputs.tasks, ENSEMBLE, [(DEFAULT, WITHOUT + name)], values)


if __name__ == "__main__":
    main()
