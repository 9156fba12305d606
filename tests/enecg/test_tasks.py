import pytest

from enecg.errors import UserError
from enecg.tasks import TASKS, parse_task, parse_tasks, select_tasks


def test_task_spec_has_a_column_a_kind_and_an_optional_unit():
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


def test_third_part_of_a_binary_task_is_its_positive_class():
    assert parse_task("rhythm: binary : AF ").positive == "AF"
    assert parse_task("time:binary:12:30").positive == "12:30"
    assert parse_task("rhythm:binary").positive == ""


def test_custom_task_has_its_own_label_column():
    assert parse_task("diagnosis:multiclass").column != TASKS["arrhythmia"].column


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lvef", "is not a valid task; use NAME:KIND"),
        ("lvef:ordinal", "KIND is one of regression, binary, multiclass"),
        ("nyha:multiclass:mV", "which a multiclass task does not accept; use nyha:multiclass"),
        ("ablation:binary:", "does not name the positive class; use ablation:binary:POSITIVE"),
        ("ablation:binary:a|b", "positive class of .* use another positive class"),
        ("lvef:regression:a|b", "separates table cells; use another unit"),
        ("age:regression", "'age' is a built-in value"),
        ("all:binary", "'all' is a built-in value"),
        ("lv.ef:regression", "is not a valid task name"),
        (":regression", "is not a valid task name"),
        ("type:binary", "reserved by torch or peft"),
        ("copy:binary", "reserved by torch or peft"),
        ("hidden:binary", "reserved by torch or peft"),
        ("lora_x:binary", "reserved by torch or peft"),
    ],
)
def test_invalid_task_spec_is_an_error(spec: str, message: str):
    with pytest.raises(UserError, match=message):
        parse_task(spec)


def test_tasks_are_selected_by_name():
    own = parse_tasks(["lvef:regression", "ablation:binary"])
    assert select_tasks(["age", "ablation"], own) == (TASKS["age"], own[1])
    with pytest.raises(
        UserError, match=r"Unknown task 'height'; available: rr_interval.*, ablation"
    ):
        select_tasks(["height"], own)
    with pytest.raises(UserError, match="'lvef' is given twice"):
        parse_tasks(["lvef:regression", "lvef:binary"])
