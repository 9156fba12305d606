"""`enecg experts`: list the experts and download their published weights."""

from typing import Annotated

from cyclopts import App, Parameter

from flows.help_examples import example
from flows.output import print_text

app: App = App(name="experts", help_epilogue=example("experts"))


@app.default
def show() -> None:
    """List the experts: embedding size, parameters, license, source, input, pooling and weights.

    Also print whether the weights are downloaded, and the data that they were trained on.
    """
    # Imported here because `--help` should not wait for safetensors.
    from enecg.errors import UserError
    from enecg.experts import get_definition, list_experts
    from enecg.experts.weights import ManualFile

    for definition in map(get_definition, list_experts()):
        weights = "none published" if definition.has_weights else "none needed"
        if definition.published is not None:
            try:
                definition.find_weights("published", fetch=False)
                weights = f"{definition.published}, downloaded"
            except UserError:
                is_manual = isinstance(definition.published, ManualFile)
                state = "to be downloaded by hand" if is_manual else "not downloaded"
                weights = f"{definition.published}, {state}"
        print_text(
            f"{definition.name:22}{definition.embedding_size:>6,} features"
            f"{definition.parameters:>13,} parameters   {definition.license}, {definition.source}"
        )
        print_text(f"  input    {definition.preprocessing}")
        print_text(f"  pooling  {definition.pooling} (available: {', '.join(definition.poolings)})")
        print_text(f"  weights  {weights}")
        if definition.pretrained_on:
            names = ", ".join(data.name for data in definition.pretrained_on)
            print_text(f"  trained  on {names}")
        print_text("")


@app.command(help_epilogue=example("experts fetch"))
def fetch(
    *experts: Annotated[str, Parameter(help="Names of experts, as listed by enecg experts.")],
) -> None:
    """Download the published weights of experts from the Hugging Face hub, and print their paths.

    Raises:
        UserError: No expert is named, or one is unknown, has no weights, or has weights that cannot
            be downloaded.
    """
    from enecg.errors import UserError
    from enecg.experts import get_definition

    if not experts:
        raise UserError(
            "No expert is named; name one or more, as in: enecg experts fetch moment tempo ecg-fm."
        )
    for definition in [get_definition(name) for name in experts]:
        if not definition.has_weights:
            raise UserError(f"{definition.name} has no weights to download; omit it.")
        weights = definition.find_weights("published")
        print_text(f"{definition.name}: {weights.path}")
