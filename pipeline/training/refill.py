"""The extraction that a training or an evaluation lacks, as one would type it."""

from collections.abc import Sequence

from enecg.experts import ExpertOption


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

    def of_these(option: str, given: Sequence[str]) -> str:
        choice = ExpertOption.parse(option, given)
        single = (f"{expert}@{one}" for expert, one in choice.overrides if expert in experts)
        return ",".join((choice.default, *single))

    return (
        f"enecg extract --dataset {dataset} --store {store} --experts {','.join(experts)} "
        f"--weights {of_these('--weights', weights)} --pooling {of_these('--pooling', pooling)} "
        f"--dtype {dtype}" + (f" --limit {limit}" if limit else "")
    )
