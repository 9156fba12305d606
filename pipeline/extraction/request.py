"""The extraction request: records of a data set, experts, and the location of each store."""

import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from enecg.errors import UserError
from enecg.experts import Expert, ExpertOption, ExpertSpec, load_expert, parse_expert_settings
from enecg.leads import LeadsSample
from enecg.pretraining import METADATA_KEY
from pipeline.datasets.base import Dataset, decoding_of
from pipeline.datasets.registry import resolve_dataset
from pipeline.datasets.selection import select_records
from pipeline.extraction.devices import worker_devices
from pipeline.extraction.options import ExtractOptions
from pipeline.waveforms.decode import DECODE_VERSION
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from stores.layout import store_location
from stores.locate import locate
from stores.location import Location
from stores.record_ids import RecordIds


@dataclass(frozen=True)
class StoreTarget:
    """An expert and the location of its store.

    Attributes:
        expert: Expert with its weights loaded.
        location: Location of the expert's store, which may not exist yet.
    """

    expert: Expert
    location: Location


@dataclass(frozen=True)
class ExtractionRequest:
    """The records, experts and stores of an extraction.

    Attributes:
        dataset: Source of the ECGs.
        targets: One target per store. The gate's sampled leads are always included and come last.
        record_ids: Requested record ids, in index order.
        device: Torch device of this process or its first worker, such as ``cpu`` or ``cuda:0``.
            With a scheduler, the option ``device``, which each worker resolves itself.
        options: Options that the request was resolved with.
    """

    dataset: Dataset
    targets: tuple[StoreTarget, ...]
    record_ids: RecordIds
    device: str
    options: ExtractOptions


@dataclass(frozen=True)
class StoreSelection:
    """The stores of a data set to use, selected by options of ``enecg extract``.

    Attributes:
        experts: Names of the experts. Default: all that have a matching store.
        weights: ``VALUE`` for all experts or ``EXPERT@VALUE`` for one. Default: ``published``.
        pooling: ``VALUE`` for all experts or ``EXPERT@VALUE`` for one. Default: ``default``.
        dtype: ``float16`` or ``float32``. Default: ``float16``.
        expert_settings: ``EXPERT.NAME=VALUE``. Default: stores with any settings.
        decoding: Options with which the records were decoded.
        precision: ``VALUE`` for all experts or ``EXPERT@VALUE`` for one. Default: ``float32``.
    """

    experts: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("published",)
    pooling: tuple[str, ...] = ("default",)
    dtype: str = "float16"
    expert_settings: tuple[str, ...] = ()
    decoding: DecodeOptions = DEFAULT_OPTIONS
    precision: tuple[str, ...] = ("float32",)


def provenance(
    spec: ExpertSpec, namespace: str, dtype: str, decoding: DecodeOptions = DEFAULT_OPTIONS
) -> dict[str, Any]:
    """Return the provenance document of a store, whose digest is the store's identity.

    Args:
        spec: Spec of the expert.
        namespace: Namespace of the data set, such as ``ludb/1.0.1``.
        dtype: Data type of the embeddings, ``float16`` or ``float32``.
        decoding: Options with which the records are decoded.

    Returns:
        The document, which can be serialized as JSON.
    """
    return {
        "dataset": namespace,
        "expert": spec.name,
        "code_version": spec.code_version,
        "architecture": dict(spec.architecture),
        "preprocessing": spec.preprocessing.as_json(),
        "pooling": spec.pooling,
        # Omitted at its default, so that identities of earlier stores do not change.
        **({"precision": spec.precision} if spec.precision != "float32" else {}),
        "embedding_size": spec.embedding_size,
        "weights": spec.weights,
        "weights_sha256": spec.weights_sha256,
        **({METADATA_KEY: spec.pretraining.as_json()} if spec.pretraining else {}),
        "decode_version": DECODE_VERSION,
        **decoding.as_json(),
        "dtype": dtype,
    }


def resolve_request(
    dataset: str | Dataset,
    store: str | Path,
    experts: Sequence[str | Expert],
    options: ExtractOptions | None = None,
) -> ExtractionRequest:
    """Open the data set, load the experts and select the records, without creating a store.

    Args:
        dataset: A data set, or its spec such as ``ludb:/data/ludb``.
        store: Root folder or URL of the stores.
        experts: Names from the registry, or expert objects.
        options: Options of the extraction. Default: ``ExtractOptions()``.

    Returns:
        The request. Experts that share a store are included once.

    Raises:
        UserError: An option is invalid, or the data set, an expert, its weights, a record or,
            without a scheduler, the device is unavailable.
        StoreError: `store` or the name of an expert is invalid, or the bucket is unreachable.
    """
    options = options or ExtractOptions()
    source = resolve_dataset(dataset, options.decoding)
    device = worker_devices(options)[0]
    if options.scheduler is None:
        device = resolve_device(device)
    root = locate(store)
    requested = list(dict.fromkeys(experts))
    names = [expert for expert in requested if isinstance(expert, str)]
    weights = _parse_option("--weights", options.weights, names)
    pooling = _parse_option("--pooling", options.pooling, names)
    precision = _parse_option("--precision", options.precision, names)
    settings = parse_expert_settings(options.expert_settings, names)
    # Select the records before weights are downloaded, because the selection may be invalid.
    record_ids = select_records(
        source.index().record_id, limit=options.limit, records=options.records
    )
    loaded = [
        load_expert(
            expert,
            weights.get(expert),
            pooling.get(expert),
            settings.get(expert),
            precision.get(expert),
        )
        if isinstance(expert, str)
        else expert
        for expert in requested
    ]
    targets: dict[Location, StoreTarget] = {}
    for expert in (*loaded, LeadsSample()):
        document = provenance(expert.spec, source.namespace, options.dtype, decoding_of(source))
        location = store_location(root, document)
        # Move an expert that is given twice to the end, because the leads must come last.
        targets[location] = targets.pop(location, StoreTarget(expert, location))
    return ExtractionRequest(
        dataset=source,
        targets=tuple(targets.values()),
        record_ids=record_ids,
        device=device,
        options=options,
    )


def select_rows(index: RecordIds, requested: RecordIds) -> Int[np.ndarray, " requested"]:
    """Find the positions of record ids in a data set's index.

    Args:
        index: Ids of all records.
        requested: Some or all of them, in the same order.

    Returns:
        The positions.
    """
    if len(requested) == len(index):
        return np.arange(len(index))
    return np.flatnonzero(np.isin(index, requested))


def _parse_option(name: str, values: Sequence[str], experts: Sequence[str]) -> ExpertOption:
    option = ExpertOption.parse(name, values)
    option.check_experts(experts)
    return option


def extract_command(
    dataset: object,
    store: object,
    selection: StoreSelection,
    limit: int | None = None,
    records: object = None,
) -> str:
    """Return the ``enecg extract`` command that computes the missing rows of the selected stores.

    Args:
        dataset: Spec of the data set.
        store: Root folder or URL of the stores.
        selection: The stores; values for other experts are omitted.
        limit: Value of the option ``--limit``; None omits the option.
        records: Value of the option ``--records``; None omits the option.

    Returns:
        The command, quoted for a shell.
    """

    def join(option: str, values: Sequence[str]) -> str:
        parsed = ExpertOption.parse(option, values)
        overrides = (
            f"{name}@{value}" for name, value in parsed.overrides if name in selection.experts
        )
        return ",".join((parsed.default, *overrides))

    settings = [
        text for text in selection.expert_settings if text.split(".")[0] in selection.experts
    ]
    arguments = [
        *("enecg", "extract", "--dataset", str(dataset), "--store", str(store)),
        *("--experts", ",".join(selection.experts)),
        *("--weights", join("--weights", selection.weights)),
        *("--pooling", join("--pooling", selection.pooling), "--dtype", selection.dtype),
        *(("--expert-setting", ",".join(settings)) if settings else ()),
        *(
            ("--precision", join("--precision", selection.precision))
            if selection.precision != ("float32",)
            else ()
        ),
        *(("--records", str(records)) if records is not None else ()),
        *(("--limit", str(limit)) if limit is not None else ()),
    ]
    return " ".join((shlex.join(arguments), *selection.decoding.as_arguments()))


def resolve_device(device: str) -> str:
    """Replace the device ``auto`` with ``cuda`` if available and with ``cpu`` otherwise.

    Args:
        device: Torch device or ``auto``.

    Returns:
        The device.

    Raises:
        UserError: The device is not available on this machine.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"Device {device!r} is not available on {socket.gethostname()} "
            f"({str(error).splitlines()[0]}); use --device auto, cpu or an available device."
        ) from error
    return device
