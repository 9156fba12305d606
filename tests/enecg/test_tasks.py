import pytest

from enecg.errors import UserError
from enecg.tasks import TASKS, parse_task, parse_tasks, select_tasks


def test_an_own_task_is_a_column_a_kind_and_perhaps_a_unit():
    task = parse_task("ejection_fraction:regression:%")
    assert (task.name, task.title, task.kind, task.unit) == (
        "ejection_fraction",
        "ejection fraction",
        "regression",
        "%",
    )
    assert parse_task("ablation: binary").metric is TASKS["sex"].metric
    assert parse_task("NYHA class:multiclass").metric is TASKS["arrhythmia"].metric
    assert parse_task("lactate:regression:mmol/L").unit == "mmol/L"


def test_an_own_task_has_a_column_of_its_own_beside_the_papers():
    assert parse_task("diagnosis:multiclass").column != TASKS["arrhythmia"].column


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lvef", "is no task: write NAME:KIND"),
        ("lvef:ordinal", "KIND one of regression, binary, multiclass"),
        ("ablation:binary:mV", "has a unit, which a binary task has not"),
        ("lvef:regression:a|b", "would end a cell"),
        ("age:regression", "cannot be called 'age'"),
        ("all:binary", "cannot be called 'all'"),
        ("lv.ef:regression", "cannot name a task"),
        (":regression", "cannot name a task"),
        ("type:binary", "torch or peft keeps for itself"),
        ("hidden:binary", "torch or peft keeps for itself"),
        ("lora_x:binary", "torch or peft keeps for itself"),
    ],
)
def test_what_cannot_be_a_task_is_told_in_a_sentence(spec: str, words: str):
    with pytest.raises(UserError, match=words.replace("|", r"\|")):
        parse_task(spec)


def test_tasks_are_chosen_by_name_among_the_papers_and_ones_own():
    own = parse_tasks(["lvef:regression", "ablation:binary"])
    assert select_tasks(["age", "ablation"], own) == (TASKS["age"], own[1])
    with pytest.raises(UserError, match=r"no task 'height'; there are rr_interval.*, ablation"):
        select_tasks(["height"], own)
    with pytest.raises(UserError, match="'lvef' is given twice"):
        parse_tasks(["lvef:regression", "lvef:binary"])
