"""The table and the JSON of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.figures import Figure, figure, percentile, table, write


def test_a_figure_has_the_aim_of_its_name() -> None:
    assert str(figure("api_writes_per_account", 3.0, "writes", 100).aim) == "<= 3"
    assert figure("native_envoy_cpu_us_per_request", 90.0, "us", 100).aim is None


@pytest.mark.parametrize(("accounts", "bound"), [(100, 2.4), (10_000, 240.0)])
def test_convergence_is_aimed_at_in_proportion(accounts: int, bound: float) -> None:
    aim = figure("converge_seconds", 1.0, "s", accounts).aim
    assert aim is not None
    assert aim.bound == bound


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("api_writes_per_account", 3.0, True),
        ("api_writes_per_account", 3.01, False),
        ("operator_rss_mb", 250.0, False),
        ("idle_writes_per_minute", 0.0, True),
        ("idle_writes_per_minute", 1.0, False),
    ],
)
def test_an_aim_is_kept_or_missed(name: str, value: float, kept: bool) -> None:
    aim = figure(name, value, "", 1).aim
    assert aim is not None
    assert aim.holds(value) is kept


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([7.0], 0.99, 7.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([float(n) for n in range(1, 101)], 0.99, 99.0)],
)
def test_percentiles_are_measured_values(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_table_is_aligned_and_judges() -> None:
    text = table(
        [
            figure("operator_rss_mb", 98.7, "MB", 10_000),
            figure("api_writes_per_account", 4.5, "writes", 100, "finalizer, statuses"),
            Figure("max_requests_per_second", 11_608.4, "1/s", 1),
        ]
    )
    assert text.splitlines() == [
        "figure                   value   unit    aim          N       note",
        "-----------------------  ------  ------  -----  ----  ------  -------------------",
        "operator_rss_mb          98.7    MB      < 250  ok    10,000",
        "api_writes_per_account   4.5     writes  <= 3   miss  100     finalizer, statuses",
        "max_requests_per_second  11,608  1/s                  1",
    ]


def test_the_results_hold_the_machine_and_every_figure(tmp_path: Path) -> None:
    path = tmp_path / "bench" / "results.json"
    write(path, [figure("restart_writes", 0, "writes", 100), Figure("x", 1.5, "s", 1)], {"cores": 2})
    found = json.loads(path.read_text())
    assert found["machine"] == {"cores": 2}
    assert found["results"] == [
        {
            "name": "restart_writes", "value": 0, "unit": "writes", "N": 100, "aim": "= 0", "ok": True,
            "note": "",
        },
        {"name": "x", "value": 1.5, "unit": "s", "N": 1, "aim": None, "ok": None, "note": ""},
    ]  # fmt: skip
