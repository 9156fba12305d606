"""`enecg experts`: which there are, and whether their weights are on this machine."""

from cyclopts import App

app: App = App(name="experts", help="List the experts, or fetch their published weights.")


@app.default
def show() -> None:
    """List the experts: embedding size, parameters, input, pooling, licence, source, weights."""
    # Imported here, for it brings torch, and asking for help should not wait for it.
    from enecg.errors import UserError
    from enecg.experts import get_definition, list_experts
    from enecg.experts.weights import find_weights

    for definition in map(get_definition, list_experts()):
        published = "none published"
        if definition.published is not None:
            try:
                find_weights(definition.name, "published", definition.published, fetch=False)
                published = f"{definition.published}, on this machine"
            except UserError:
                published = f"{definition.published}, not on this machine"
        print(
            f"{definition.name:22}{definition.embedding_size:>6,} features"
            f"{definition.parameters:>13,} parameters   {definition.license}, {definition.source}"
        )
        print(f"  input    {definition.preprocessing}")
        print(f"  pooling  {definition.pooling} (of {', '.join(definition.poolings)})")
        print(f"  weights  {published}\n")


@app.command
def fetch(*experts: str) -> None:
    """Fetch the published weights of experts from the hub, or say where they are.

    Args:
        experts: Names, as `enecg experts` lists them.
    """
    from enecg.errors import UserError
    from enecg.experts import get_definition
    from enecg.experts.weights import find_weights

    if not experts:
        raise UserError("Name the experts to fetch: enecg experts fetch moment tempo ecg-fm.")
    for definition in [get_definition(name) for name in experts]:
        weights = find_weights(definition.name, "published", definition.published)
        print(f"{definition.name}: {weights.path}")
