from contextlib import suppress

from flows.progress import Progress, at_most_every, shown


def test_parts_count_on_top_of_one_another():
    told: list[tuple[int, int]] = []
    progress = Progress(10, [lambda done, total: told.append((done, total))])
    for size in (4, 6):
        with progress.part() as report:
            report(size // 2, size)
            report(size, size)
    assert told == [(2, 10), (4, 10), (7, 10), (10, 10)]


def test_a_part_that_fails_and_is_begun_again_counts_once():
    told: list[int] = []
    progress = Progress(4, [lambda done, _: told.append(done)])
    with suppress(OSError), progress.part() as report:
        report(3, 4)
        raise OSError("the disk is away for a moment")
    with progress.part() as report:
        report(4, 4)
    assert told == [3, 4]


def test_the_last_report_is_always_let_through():
    told: list[int] = []
    report = at_most_every(3600, lambda done, _: told.append(done))
    for done in range(1, 101):
        report(done, 100)
    assert told == [1, 100]


def test_where_there_is_no_terminal_progress_is_lines():
    lines: list[str] = []
    with shown("extract", "records", lines.append, seconds=0) as report:
        report(1, 4)
        report(4, 4)
    assert lines[0].startswith("extract: 1 of 4 records, ")
    assert lines[0].endswith(" left")
    assert lines[1].startswith("extract: 4 of 4 records, ")
