"""`enecg evaluate`: evaluate a run on other patients, without a Prefect server."""

from flows import parameters as p
from flows import pretraining_parameters as pp
from flows.output import log_to_stderr, print_text
from flows.progress import forward_logs


def evaluate(
    *,
    run: p.Run,
    dataset: p.Dataset,
    store: p.Store,
    labels: p.Labels = None,
    out: p.EvaluationOut = None,
    limit: p.Limit = None,
    records: p.Records = None,
    folds: p.EvaluatedFolds = None,
    fold_column: p.EvaluatedFoldColumn = "fold",
    test_folds: p.TestFolds = (),
    exclude_pretrained: pp.ExcludePretrained = False,
    pretraining_patients: pp.PretrainingPatients = (),
    device: p.Device = "auto",
) -> None:
    """Evaluate a run on patients that it was not trained on, from the same or another data set.

    The store must contain embeddings of the data set by the run's experts with the run's options.
    With --folds, only the records of the test folds are evaluated.
    """
    # Report a wrong folder before the slow import of torch.
    from pipeline.runs.results import check_run_folder

    check_run_folder(run.expanduser())

    # Imported here because `--help` should not wait for torch.
    from pipeline.evaluate import evaluate as evaluate_run
    from pipeline.labels.folds import fold_options

    with forward_logs("pipeline", log_to_stderr):
        evaluation = evaluate_run(
            *(run, dataset, store),
            labels=labels,
            out=out,
            limit=limit,
            records=records,
            folds=fold_options(folds, fold_column, test=p.split(test_folds)),
            device=device,
            exclude_pretrained=exclude_pretrained,
            pretraining_patients=tuple(map(str, pretraining_patients)),
        )
    print_text(evaluation.markdown, end="")
    if evaluation.folder is not None:
        print_text(f"Evaluation: {evaluation.folder}")
