from flows.tables import format_bytes, format_table, one_line


def test_columns_are_aligned():
    lines = format_table(["name", "rows"], [["a", 1_000_000], ["longer", 7]])
    assert lines == ["name         rows", "a       1,000,000", "longer          7"]


def test_line_breaks_are_escaped():
    assert one_line("a\r\nb\rc") == "a\\r\\nb\\rc"


def test_bytes_are_shown_in_the_largest_fitting_unit():
    sizes = [format_bytes(count) for count in (7, 1500, 2.5e6, 3e9)]
    assert sizes == ["7 B", "1.5 kB", "2.5 MB", "3.0 GB"]
