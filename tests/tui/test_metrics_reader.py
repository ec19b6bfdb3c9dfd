"""What the metrics screen gets to draw, and what it takes out: expected values by hand."""

from __future__ import annotations

import csv
import io
import math
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from halos_backend.config.losses import FEEDBACK_OF_LOSS
from halos_backend.errors import CorruptFileError
from halos_backend.store.run_dir import RunDir

from halos_tui.metrics.export import as_csv, as_svg
from halos_tui.metrics.first_page import FIRST_PAGES, first_names
from halos_tui.metrics.reader import MetricsReader
from halos_tui.metrics.view import Chart, MetricsQuery, MetricsView
from halos_tui.search_term import read_term
from halos_tui.tracking.state_tail import NUM_WHOLE
from tests.support.hostile_texts import FORBIDDEN, HOSTILE
from tests.support.made_run import MadeRun
from tests.support.metrics_fixtures import log_step, trained_run

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return trained_run(tmp_path / "runs")


def view_of(*runs: RunDir, query: MetricsQuery | None = None) -> MetricsView:
    view = MetricsReader(runs, query or MetricsQuery()).read()
    assert view is not None
    return view


def chart(view: MetricsView, name: str) -> Chart:
    (found,) = [one for one in view.charts if one.name == name]
    return found


def names_of(view: MetricsView) -> list[str]:
    return [one.name for one in view.charts]


def by_step(**changes: object) -> MetricsQuery:
    return MetricsQuery(kind="step", **changes)  # type: ignore[arg-type]


ALL = MetricsQuery(is_whole=True)


@pytest.mark.parametrize(
    ("loss", "by_round", "by_step"),
    [
        ("dpo", "train.implicit_reward_margin", "implicit_reward_accuracy"),
        ("bradley_terry", "label.margin_mean", "implicit_reward_margin"),
        ("kto", "label.num_desirable", "kto_kl"),
        ("grpo", "label.num_equal_groups", "clip_frac"),
        ("sft", "train.grad_norm_mean", "grad_norm"),
    ],
)
def test_the_first_page_has_what_the_loss_is_judged_by(
    loss: str, by_round: str, by_step: str
) -> None:
    names = first_names([loss])

    of_all = ["label.reward_mean", "evaluation.label.reward_mean", "train.kl_initial"]
    assert list(names[:4]) == [*of_all, "sample.length_mean"]
    assert {by_round, "sample.tokens_per_s", "loss", by_step, "lr"} <= {*names}


def test_the_first_page_has_nothing_that_the_loss_does_not_have() -> None:
    assert not {"kto_kl", "clip_frac"} & {*first_names(["dpo"])}
    assert not [name for name in first_names(["grpo", "sft"]) if "implicit" in name]


def test_every_loss_has_a_first_page_and_an_unknown_one_that_of_all() -> None:
    assert set(FIRST_PAGES) == set(FEEDBACK_OF_LOSS)
    assert {"kto_kl", "clip_frac"} <= {*first_names(["of-tomorrow"])}
    assert {"kto_kl", "clip_frac"} <= {*first_names(["kto", "grpo"])}


def test_by_round_the_first_page_is_in_order_and_constant_charts_are_left_out(
    run: MadeRun,
) -> None:
    view = view_of(run.dir)

    assert names_of(view) == [
        *("label.reward_mean", "train.kl_initial", "sample.length_mean"),
        "train.implicit_reward_margin",
    ]
    assert view.num_constant == 3, "the loss, what was cut off, and tokens a second"
    assert view.num_charts > 15
    assert view.num_others == 1


def test_what_differs_between_runs_or_is_known_once_is_not_constant(run: MadeRun) -> None:
    other = MadeRun(run.dir.path.parent, "b-run")
    other.start_round(1)
    other.start_stage(1, "sample")
    other.finish_stage(1, "sample", truncated_frac=0.5, unique_frac=0.75)

    view = view_of(run.dir, other.dir)

    assert {"sample.truncated_frac", "sample.unique_frac"} <= {*names_of(view)}
    assert view.num_constant == 2


def test_where_all_is_constant_nothing_is_left_out(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    for round in (1, 2):
        run.whole_round(round, reward_stderr=None, reward_change_stderrs=[])

    view = view_of(run.dir)

    assert view.num_constant == 0
    assert names_of(view)[0] == "label.reward_mean"


def test_rounding_is_no_change(run: MadeRun) -> None:
    log_step(run, 3, 4, {"grad_norm": 0.3, "tokens_per_s": 1.0})
    log_step(run, 3, 5, {"grad_norm": 0.1 + 0.2, "tokens_per_s": 1.0001})

    assert names_of(view_of(run.dir, query=by_step())) == ["loss", "tokens_per_s"]


def test_figures_of_held_out_prompts_are_charts_of_their_own(run: MadeRun) -> None:
    run.score_result(round=4, reward_mean=0.75)

    view = view_of(run.dir)

    assert names_of(view)[:2] == ["label.reward_mean", "evaluation.label.reward_mean"]
    (line,) = chart(view, "label.reward_mean").lines
    assert list(line.ys)[:3] == [0.5, 0.25, 1.0] and math.isnan(line.ys[3])
    (line,) = chart(view, "evaluation.label.reward_mean").lines
    assert [*map(math.isnan, line.ys)] == [True, True, True, False]
    assert (line.ys[3], (line.highs or ())[3]) == (0.75, 0.77)


def test_values_are_drawn_in_units_that_people_read(run: MadeRun) -> None:
    run.start_round(4)
    run.start_stage(4, "sample")
    run.finish_stage(4, "sample", held_bytes=3 * 2**30, waited_s=300.0)

    view = view_of(run.dir, query=ALL)

    drawn = {
        name: (chart(view, f"sample.{name}").series[0].ys[3], chart(view, f"sample.{name}").unit)
        for name in ("truncated_frac", "held_bytes", "waited_s", "length_mean")
    }
    assert drawn == {
        "truncated_frac": (25.0, "%"),
        "held_bytes": (3.0, " GiB"),
        "waited_s": (5.0, "m"),
        "length_mean": (5.0, ""),
    }
    rows = csv.DictReader(io.StringIO(as_csv(view)))
    held = [row["value"] for row in rows if row["metric"] == "sample.held_bytes"]
    assert held == ["3221225472.0"], "a file has values as they were measured"


def test_rewards_of_nothing_but_0_and_1_are_drawn_as_shares(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    yes_or_no = {"reward_min": 0.0, "reward_max": 1.0, "reward_stderr": 0.125}
    run.whole_round(1, reward_mean=0.5, reward_std=0.5, **yes_or_no)
    run.whole_round(2, reward_mean=0.8, reward_std=0.4, **yes_or_no)
    (series,) = chart(view_of(run.dir), "label.reward_mean").series
    assert (list(series.ys), list(series.low or ())) == ([50, 80], pytest.approx([37.5, 67.5]))

    run.whole_round(3, reward_mean=0.8, reward_std=0.3, **yes_or_no)
    (series,) = chart(view_of(run.dir), "label.reward_mean").series
    assert list(series.ys) == [0.5, 0.8, 0.8]


def test_every_number_of_a_summary_is_a_chart_by_round(run: MadeRun) -> None:
    view = view_of(run.dir, query=ALL)

    assert view.kind == "round"
    names = names_of(view)
    assert names[:2] == ["label.reward_mean", "train.kl_initial"]
    assert {"sample.elapsed_s", "sample.tokens_per_s", "label.num_pairs_kept"} <= {*names}
    assert "label.reward_stderr" not in names, "it is drawn around another chart's line"
    (line,) = chart(view, "label.reward_mean").lines
    assert (line.run, line.round) == ("a-run", None)
    assert list(line.xs) == [1, 2, 3]
    assert list(line.ys) == [0.5, 0.25, 1.0]
    assert list(line.lows or ()) == [0.375, 0.125, 0.875]
    assert list(line.highs or ()) == [0.625, 0.375, 1.125]


def test_a_round_without_the_figure_is_a_gap(run: MadeRun) -> None:
    run.start_round(4)
    run.start_stage(4, "sample")
    run.finish_stage(4, "sample", extra=7)

    view = view_of(run.dir, query=ALL)

    (reward,) = chart(view, "label.reward_mean").lines
    assert list(reward.ys)[:3] == [0.5, 0.25, 1.0]
    assert math.isnan(reward.ys[3])
    (extra,) = chart(view, "sample.extra").lines
    assert [math.isnan(y) for y in extra.ys] == [True, True, True, False]


def test_what_an_external_command_says_may_be_anything(run: MadeRun) -> None:
    run.start_round(4)
    run.start_stage(4, "sample")
    odd = {"text": "x", "flag": True, "list": [1], "huge": 10**400, "table": {"inner": 3}}
    run.finish_stage(4, "sample", **odd)

    names = {*names_of(view_of(run.dir, query=ALL))}

    assert "sample.table.inner" in names
    assert not names & {"sample.text", "sample.flag", "sample.list", "sample.huge"}


def test_by_step_the_newest_round_is_shown_and_others_under_it(run: MadeRun) -> None:
    view = view_of(run.dir, query=by_step())
    assert (view.rounds, view.last) == ((3,), 3)
    assert (names_of(view), view.num_constant) == (["loss"], 1)
    (line,) = chart(view, "loss").lines
    assert (list(line.xs), list(line.ys)) == ([1, 2, 3], [3, 1.5, 0.75])

    view = view_of(run.dir, query=by_step(newest=2, num_overlaid=5))
    assert view.rounds == (1, 2)
    assert [list(line.ys) for line in chart(view, "loss").lines] == [[1, 0.5, 0.25], [2, 1, 0.5]]
    assert [series.name for series in chart(view, "loss").series] == ["r1", "r2"]


def test_several_runs_are_laid_over_each_other(run: MadeRun) -> None:
    other = trained_run(run.dir.path.parent, "b-run", rewards=(0.0, 2.0))

    view = view_of(run.dir, other.dir)
    lines = chart(view, "label.reward_mean").lines
    assert [list(line.ys) for line in lines] == [[0.5, 0.25, 1.0], [0.0, 2.0]]
    assert [one.name for one in chart(view, "label.reward_mean").series] == ["a-run", "b-run"]

    view = view_of(run.dir, other.dir, query=by_step(newest=2, num_overlaid=2))
    names = [series.name for series in chart(view, "loss").series]
    assert names == ["a-run r1", "a-run r2", "b-run r1", "b-run r2"]


def test_only_attempts_that_are_shown_are_read(
    run: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for round in (1, 2):
        events = run.dir.attempt(round, "train", 1).events
        events.unlink()
        events.mkdir()  # reading it would fail
    assert names_of(view_of(run.dir, query=by_step())) == ["loss"]


def test_a_term_chooses_charts_and_counts_the_others(run: MadeRun) -> None:
    view = view_of(run.dir, query=MetricsQuery(term=read_term("/^l(oss|r)$|reward_mean")))
    assert names_of(view) == ["label.reward_mean"]
    assert view.num_others == 2, "constant ones too"
    assert view.num_charts > 10


def test_a_run_in_its_first_round_is_shown_by_step(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.start_round(1)
    run.start_stage(1, "train")
    log_step(run, 1, 1, {"loss": 0.5})
    view = view_of(run.dir)
    assert (view.kind, names_of(view)) == ("step", ["loss"])


def test_smoothed_lines_have_the_raw_one_behind_them(run: MadeRun) -> None:
    series = chart(view_of(run.dir, query=by_step(weight=0.6)), "loss").series

    raw, smooth = series
    assert (raw.style_index, list(raw.ys)) == (0, [3, 1.5, 0.75])
    # 0.4 * 3 / 0.4, (0.6 * 1.2 + 0.4 * 1.5) / 0.64, (0.6 * 1.32 + 0.4 * 0.75) / 0.784
    assert smooth.ys == pytest.approx([3, 1.32 / 0.64, 1.092 / 0.784])


def test_a_live_run_grows_and_one_that_keeps_still_is_not_told_again(run: MadeRun) -> None:
    reader = MetricsReader([run.dir], by_step())
    assert reader.read() is not None
    assert reader.read() is None

    log_step(run, 3, 4, {"loss": 9.0})
    view = reader.read()
    assert view is not None
    assert list(chart(view, "loss").lines[0].ys) == [3, 1.5, 0.75, 9]

    reader.ask(MetricsQuery(kind="round"))
    run.whole_round(4, reward_mean=4.0)
    view = reader.read()
    assert view is not None
    assert list(chart(view, "label.reward_mean").lines[0].ys) == [0.5, 0.25, 1.0, 4.0]


def test_old_rounds_stay_when_their_summaries_are_forgotten(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    num_rounds = NUM_WHOLE + 3
    for round in range(1, num_rounds):
        run.whole_round(round, reward_mean=float(round))
    reader = MetricsReader([run.dir], MetricsQuery())
    reader.read()
    run.whole_round(num_rounds, reward_mean=float(num_rounds))

    view = reader.read()

    assert view is not None
    ys = list(chart(view, "label.reward_mean").lines[0].ys)
    assert ys == list(range(1, num_rounds + 1))


def test_runs_come_and_go(run: MadeRun) -> None:
    other = trained_run(run.dir.path.parent, "b-run", rewards=(0.0, 2.0))
    reader = MetricsReader([run.dir], MetricsQuery())
    reader.read()
    reader.pin([run.dir, other.dir])
    view = reader.read()
    assert view is not None
    assert view.keys == (("a-run", None), ("b-run", None))
    reader.pin([other.dir])
    view = reader.read()
    assert view is not None
    assert view.keys == (("b-run", None),)


def test_a_line_has_the_same_style_in_every_chart(run: MadeRun) -> None:
    other = trained_run(run.dir.path.parent, "b-run", rewards=(0.0, 2.0))
    log_step(other, 2, 4, {"grad_norm": 1.0})

    view = view_of(run.dir, other.dir, query=by_step(newest=2, num_overlaid=2))

    assert view.keys == (("a-run", 1), ("a-run", 2), ("b-run", 1), ("b-run", 2))
    (series,) = chart(view, "grad_norm").series
    assert (series.name, series.style_index) == ("b-run r2", 4)


def test_a_run_that_is_gone_is_told(run: MadeRun) -> None:
    reader = MetricsReader([run.dir], MetricsQuery())
    reader.read()
    shutil.rmtree(run.dir.path)
    with pytest.raises(CorruptFileError, match="no longer there"):
        reader.read()


def test_the_csv_has_every_value(run: MadeRun) -> None:
    view = view_of(run.dir, query=by_step(num_overlaid=2, weight=0.9, term=read_term("/loss")))
    rows = list(csv.reader(io.StringIO(as_csv(view))))
    assert rows == [
        ["run", "round", "step", "metric", "value"],
        ["a-run", "2", "1", "loss", "2.0"],
        ["a-run", "2", "2", "loss", "1.0"],
        ["a-run", "2", "3", "loss", "0.5"],
        ["a-run", "3", "1", "loss", "3.0"],
        ["a-run", "3", "2", "loss", "1.5"],
        ["a-run", "3", "3", "loss", "0.75"],
    ]
    view = view_of(run.dir, query=MetricsQuery(term=read_term("/reward_mean")))
    rows = list(csv.reader(io.StringIO(as_csv(view))))
    assert rows[1:] == [
        ["a-run", str(round), "", "label.reward_mean", value]
        for round, value in ((1, "0.5"), (2, "0.25"), (3, "1.0"))
    ]


def test_the_csv_of_a_long_round_has_what_was_logged_and_no_means(tmp_path: Path) -> None:
    run = trained_run(tmp_path, rewards=(1.0,))
    for step in range(4, 3001):
        log_step(run, 1, step, {"loss": float(step % 2), "other": 9.0})
    view = view_of(run.dir, query=by_step(term=read_term("/loss")))
    assert len(chart(view, "loss").lines[0].ys) < 3000, "drawn are means of several steps"

    rows = list(csv.DictReader(io.StringIO(as_csv(view))))

    assert [float(row["step"]) for row in rows] == list(range(1, 3001))
    assert [float(row["value"]) for row in rows[:3]] == [1, 0.5, 0.25]
    assert [float(row["value"]) for row in rows[3:]] == [step % 2 for step in range(4, 3001)]


def test_the_csv_has_every_digit_of_a_step(run: MadeRun) -> None:
    log_step(run, 3, 1_234_567, {"loss": 2.0})
    rows = csv.DictReader(io.StringIO(as_csv(view_of(run.dir, query=by_step()))))
    assert [row["step"] for row in rows][-1] == "1234567"


def test_the_svg_shows_the_spread_around_a_line(run: MadeRun) -> None:
    view = view_of(run.dir, query=MetricsQuery(term=read_term("/reward_mean")))
    root = ET.fromstring(as_svg(view, is_log=False))
    (band,) = [path for path in root.iter(f"{SVG}path") if path.get("fill-opacity")]
    places = [part.split() for part in (band.get("d") or "").strip("MZ").split("L")]
    assert [float(x) for x, _ in places] == [64, 256, 448, 448, 256, 64], "there and back"
    ys = [float(y) for _, y in places]
    # 0.375 to 0.625, 0.125 to 0.375, 0.875 to 1.125: always a quarter high, and 0.375 twice
    heights = [ys[5] - ys[0], ys[4] - ys[1], ys[3] - ys[2]]
    assert heights == pytest.approx([heights[0]] * 3, abs=0.11)
    assert ys[5] == pytest.approx(ys[1], abs=0.11)


def test_the_legend_of_an_svg_stays_in_its_chart(run: MadeRun) -> None:
    others = [trained_run(run.dir.path.parent, f"{'long-name-' * 9}{n}") for n in range(2)]
    runs = [run.dir, *(other.dir for other in others)]
    view = view_of(*runs, query=by_step(num_overlaid=2, is_whole=True))
    root = ET.fromstring(as_svg(view, is_log=False))
    (first, _) = root.findall(f"{SVG}g")
    names = [text for text in first.iter(f"{SVG}text") if "r2" in (text.text or "")]
    assert names
    for text in first.iter(f"{SVG}text"):
        assert float(text.get("x") or 0) + 6 * len(text.text or "") <= 460 + 6
    assert len({text.get("y") for text in first.iter(f"{SVG}text")}) > 4, "on several rows"


def test_the_svg_has_every_chart_with_its_lines_at_their_places(run: MadeRun) -> None:
    view = view_of(run.dir, query=by_step(num_overlaid=2, is_whole=True))
    root = ET.fromstring(as_svg(view, is_log=False))
    groups = root.findall(f"{SVG}g")
    assert len(groups) == 2
    texts = [text.text for text in groups[0].iter(f"{SVG}text")]
    assert texts[:3] == ["loss, by step", "r2", "r3"]
    lines = [path.get("d") for path in groups[0].iter(f"{SVG}path") if "L" in (path.get("d") or "")]
    assert len(lines) == 2
    first = [tuple(map(float, place.split())) for place in (lines[1] or "").lstrip("M").split("L")]
    # steps 1, 2, 3 from the left edge at 64 to the right one at 448
    assert [x for x, _ in first] == [64, 256, 448]
    # 3, 1.5, 0.75: the second step lies two thirds of the way down that the third does
    (_, top), (_, middle), (_, bottom) = first
    assert (middle - top) / (bottom - top) == pytest.approx(2 / 3, abs=0.01)


def test_the_svg_keeps_to_the_window_and_the_scale(run: MadeRun) -> None:
    view = view_of(run.dir, query=by_step(term=read_term("/loss")))
    root = ET.fromstring(as_svg(view, window=(2, 3), is_log=True))
    (line,) = [p.get("d") for p in root.iter(f"{SVG}path") if "L" in (p.get("d") or "")]
    assert (line or "").count("L") == 1, "two steps are in the window"


def test_hostile_names_are_escaped_in_the_svg(run: MadeRun) -> None:
    log_step(run, 3, 4, {f"<b>&{HOSTILE}": 1.0})
    view = view_of(run.dir, query=by_step(is_whole=True))
    svg = as_svg(view, is_log=False)
    ET.fromstring(svg)
    assert not [bad for bad in FORBIDDEN if bad in svg.encode()]


def test_nothing_to_draw_is_still_a_picture(tmp_path: Path) -> None:
    view = view_of(MadeRun(tmp_path).dir)
    assert view.charts == ()
    ET.fromstring(as_svg(view, is_log=False))
