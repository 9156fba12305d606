"""The extraction that a training or an evaluation lacks, as one would type it."""

from collections.abc import Sequence


def refill_command(
    dataset: object,
    store: object,
    experts: Sequence[str],
    weights: Sequence[str],
    pooling: Sequence[str],
    dtype: str,
    limit: int | None,
) -> str:
    """`enecg extract` with these options; single choices of other experts are left out."""

    def of_these(given: Sequence[str]) -> str:
        # As `enecg.experts.Choices` tells a choice for one expert from one for all.
        return ",".join(
            one
            for one in given
            if one.partition("@")[0] in experts
            or "@" not in one
            or any(mark in one.partition("@")[0] for mark in "/:")
        )

    return (
        f"enecg extract --dataset {dataset} --store {store} --experts {','.join(experts)} "
        f"--weights {of_these(weights) or 'published'} --pooling {of_these(pooling) or 'default'} "
        f"--dtype {dtype}" + (f" --limit {limit}" if limit else "")
    )
