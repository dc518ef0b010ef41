"""The table of the bench."""

from __future__ import annotations

from bench import table

SAMPLES = {
    "direct": {"first_sound_1": [100.0, 200.0, 300.0]},
    "today": {
        "first_sound_1": [100.0, 100.0, 130.0],
        "cpu_chat_4": [8.0, 9.0, 10.0],
        "cpu_tts_4": [12.0],
        "accepted": [4_000.0],
    },
}


def test_a_figure_is_the_median_of_its_samples() -> None:
    found = table.figures(SAMPLES, "today")
    assert found["first_1"] == 100
    assert found["cpu_4"] == 21
    assert found["beside_direct"] == 0.5


def test_what_was_not_measured_is_no_figure_and_meets_no_goal() -> None:
    found = table.figures(SAMPLES, "today")
    assert found["token_1"] is None
    (line,) = [line for line in table.lines({"today": found}) if line[0].startswith("token to")][:1]
    assert line[2:] == ("-", "<= 1.00", "")


def test_each_goal_says_which_way_it_goes() -> None:
    met = {row.key: row.met(table.figures(SAMPLES, "today")[row.key]) for row in table.ROWS}
    assert met["cpu_4"] is False
    assert met["beside_direct"] is True
    assert met["accepted"] is False
    assert met["first_1"] is None


def test_a_second_of_audio_is_the_difference_of_two_voices() -> None:
    mine = {"cpu_tts_4": [10.0], "cpu_tts_20": [26.0]}
    assert table.second_of_audio(mine) == "tts 1.00 ms"


def test_the_highest_of_few_values_is_their_99th_percentile() -> None:
    assert table.percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert table.percentile([float(value) for value in range(1000)], 99) == 990.0


def test_markdown_has_a_column_for_each_revision() -> None:
    text = table.markdown(table.named(table.lines({"a": table.figures(SAMPLES, "today")})))
    heading, ruler, first, *_ = text.splitlines()
    assert heading == "| figure | a | goal | met |"
    assert ruler == "|---|---|---|---|"
    assert first.endswith(", ms | 21.0 | <= 20.0 | no |")
