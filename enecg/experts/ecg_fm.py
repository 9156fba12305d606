"""ECG-FM (McKeen et al., arXiv 2408.05178): wav2vec 2.0 on 5 s segments of 12 leads.

It was pretrained on MIMIC-IV-ECG and the PhysioNet/CinC Challenge 2021. The modules are those of
transformers' Wav2Vec2; `ecg_fm_checkpoint` reads the checkpoints of fairseq-signals.
"""

from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enecg.ecg_format import LEADS
from enecg.errors import UserError
from enecg.experts.base import FrozenExpert, build_seeded
from enecg.experts.checkpoints import load_strict
from enecg.experts.definition import ExpertDefinition
from enecg.experts.definitions.ecg_fm import SEGMENTS
from enecg.experts.ecg_fm_checkpoint import Architecture, published_name, read_ecg_fm_checkpoint
from enecg.experts.weights import Weights


class EcgFm(nn.Module):
    """The encoder of ECG-FM, without the modules that only pretraining uses.

    Args:
        architecture: Sizes of the model.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        from transformers import Wav2Vec2Config
        from transformers.models.wav2vec2 import modeling_wav2vec2 as wav2vec2

        channels, kernels, strides = zip(*architecture.conv_feature_layers, strict=True)
        config = Wav2Vec2Config(
            conv_dim=channels,
            conv_kernel=kernels,
            conv_stride=strides,
            conv_bias=False,
            feat_extract_norm="group",
            do_stable_layer_norm=False,
            hidden_size=architecture.encoder_embed_dim,
            num_hidden_layers=architecture.encoder_layers,
            num_attention_heads=architecture.encoder_attention_heads,
            intermediate_size=architecture.encoder_ffn_embed_dim,
            num_conv_pos_embeddings=architecture.conv_pos,
            num_conv_pos_embedding_groups=architecture.conv_pos_groups,
            attn_implementation="sdpa",
        )
        self.architecture = architecture
        self.feature_extractor: nn.ModuleList = wav2vec2.Wav2Vec2FeatureEncoder(config).conv_layers
        # transformers assumes one input channel. Only the first layer depends on this number.
        self.feature_extractor[0].conv = nn.Conv1d(
            len(LEADS), channels[0], kernels[0], strides[0], bias=False
        )
        self.feature_projection: nn.Module = wav2vec2.Wav2Vec2FeatureProjection(config)
        self.encoder: nn.Module = wav2vec2.Wav2Vec2Encoder(config)

    def forward(
        self, segments: Float[Tensor, "segment 12 time"]
    ) -> Float[Tensor, "segment token feature"]:
        """Compute the last layer's states: 156 tokens from 2,500 samples."""
        states = segments
        for layer in self.feature_extractor:
            states = layer(states)
        projected, _ = self.feature_projection(states.transpose(1, 2))
        tokens: Tensor = self.encoder(projected).last_hidden_state
        return tokens


def standardize_leads(ecg: Float[Tensor, "batch 12 time"]) -> Float[Tensor, "batch 12 time"]:
    """Standardize each lead over the whole record; a constant lead becomes 0.

    Equivalent to fairseq-signals, which standardizes before it cuts records into segments, with
    the population variance and without an epsilon.

    Args:
        ecg: ECGs in mV.

    Returns:
        Leads with mean 0 and variance 1.
    """
    constant = ecg.amax(-1, keepdim=True) == ecg.amin(-1, keepdim=True)
    # The variance of a constant lead is not exactly 0, because its mean is rounded.
    centered = torch.where(constant, 0.0, ecg - ecg.mean(-1, keepdim=True))
    variance = torch.where(constant, 1.0, centered.square().mean(-1, keepdim=True))
    return centered / variance.sqrt()


class EcgFmExpert(FrozenExpert):
    """The last layer's states of each 5 s segment, one token per 16 samples (32 ms).

    The mean over tokens equals the pooling of fairseq-signals, which averages over nonzero states:
    only those of padding are zero, and records are not padded here.
    """

    model: EcgFm

    def states(self, ecg: Float[Tensor, "batch 12 5000"]) -> Float[Tensor, "batch 2 156 feature"]:
        """Compute the states, with one series per segment; see `FrozenExpert.states`."""
        segments = standardize_leads(ecg).unflatten(-1, (SEGMENTS, -1)).transpose(1, 2)
        states: Tensor = self.model(segments.flatten(0, 1)).unflatten(0, (-1, SEGMENTS))
        return states


def build(definition: ExpertDefinition, weights: Weights, pooling: str) -> EcgFmExpert:
    """Build the expert; see `ExpertDefinition.build`."""
    if weights.path is None:
        assert weights.seed is not None
        model = build_seeded(lambda: EcgFm(Architecture()), weights.seed)
    else:
        architecture, tensors, unused = read_ecg_fm_checkpoint(weights.path)
        try:
            model = EcgFm(architecture)
        except ValueError as error:
            raise UserError(
                f"{weights.path}: the cfg does not describe a valid model: {error}; use the cfg "
                "that fairseq-signals saved."
            ) from error
        load_strict(model, tensors, weights.path, unused, published_name)
    spec = definition.spec(
        weights,
        model,
        architecture=asdict(model.architecture),
        pooling=pooling,
        series=SEGMENTS,
        size=model.architecture.encoder_embed_dim,
    )
    return EcgFmExpert(spec, model)
