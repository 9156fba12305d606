"""`enecg evaluate`: how good a run is on other data. It takes seconds, and no Prefect server."""

from flows import parameters as p


def evaluate(
    *,
    run: p.Run,
    dataset: p.Dataset,
    store: p.Store,
    labels: p.Labels = None,
    out: p.EvaluationOut = None,
    limit: p.Limit = None,
    device: p.Device = "auto",
) -> None:
    """Judge a run on patients that it has not seen: others of its own data set, or another's.

    Needs the embeddings of that data set by the same experts with the same weights.
    """
    # Imported here, for it brings torch, and asking for help should not wait for it.
    from pipeline.evaluate import evaluate as evaluate_run

    evaluation = evaluate_run(
        run, dataset, store, labels=labels, out=out, limit=limit, device=device
    )
    print(evaluation.markdown, end="")
    if evaluation.folder is not None:
        print(f"Evaluation: {evaluation.folder}")
