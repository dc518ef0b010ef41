"""Settings: every wrong value is named, no secret is ever shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.prices import Prices
from shared.process.settings import (
    BadSetting,
    Env,
    NatsSettings,
    ProcessSettings,
    prices_from_env,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "s3cr3t-0f-m1n3"


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(BadSetting) as caught:
        call()
    return str(caught.value)


# ---------------------------------------------------------------- text


def test_a_missing_value_without_default_is_named() -> None:
    assert reason(lambda: Env({}).text("API_KEY")) == "API_KEY: missing, and it has no default"


def test_an_empty_value_counts_as_absent() -> None:
    env = Env({"A": "", "B": ""})

    assert env.text("A", "default") == "default"
    assert env.optional("B") is None
    assert "missing" in reason(lambda: env.text("A"))


@pytest.mark.parametrize("end", ["\n", "\nmore", "\r", "\0"])
def test_a_secret_of_two_lines_is_refused_and_not_shown(end: str) -> None:
    text = reason(lambda: Env({"API_KEY": SECRET + end}).text("API_KEY"))

    assert text == "API_KEY: must be a single line"


def test_a_long_text_may_span_lines() -> None:
    assert Env({"PROMPT": "a\nb"}).long_text("PROMPT", "x") == "a\nb"
    assert Env({}).long_text("PROMPT", "x") == "x"


# ---------------------------------------------------------------- files


def test_a_secret_is_read_from_a_file_without_its_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")

    assert Env({"API_KEY_FILE": str(path)}).text("API_KEY") == SECRET


def test_every_kind_of_value_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text(" 7 \n")
    env = Env({"N_FILE": str(path)})

    assert env.integer("N", 1) == 7
    assert env.number("N", 1) == 7.0
    assert env.optional("N") == "7"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    env = Env({"API_KEY_FILE": str(tmp_path / "none")})

    assert reason(lambda: env.text("API_KEY")).startswith("API_KEY_FILE: cannot be read")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    env = Env({"API_KEY_FILE": str(tmp_path)})

    assert "API_KEY_FILE" in reason(lambda: env.text("API_KEY"))


def test_a_file_of_other_bytes_than_text_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(SECRET.encode() + b"\xff")
    text = reason(lambda: Env({"API_KEY_FILE": str(path)}).text("API_KEY"))

    assert text.startswith("API_KEY_FILE: cannot be read")
    assert SECRET not in text


def test_an_empty_file_counts_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("\n")

    assert "missing" in reason(lambda: Env({"API_KEY_FILE": str(path)}).text("API_KEY"))


def test_a_value_and_a_file_at_once_are_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET)
    env = Env({"API_KEY": SECRET, "API_KEY_FILE": str(path)})
    text = reason(lambda: env.text("API_KEY"))

    assert text == "API_KEY: set it or API_KEY_FILE, not both"


# ---------------------------------------------------------------- numbers, flags, choices


@pytest.mark.parametrize("wrong", ["five", "1.5", "1e3", "0x10", "", " ", "--1", "9" * 5000])
def test_what_is_no_whole_number_is_named(wrong: str) -> None:
    text = reason(lambda: Env({"N": wrong or " "}).integer("N", 1))

    assert text.startswith("N: ")


@pytest.mark.parametrize("outside", ["0", "11", "-5"])
def test_a_whole_number_outside_its_range_is_named(outside: str) -> None:
    text = reason(lambda: Env({"N": outside}).integer("N", 5, minimum=1, maximum=10))

    assert text == f"N: {outside} is not between 1 and 10"


@pytest.mark.parametrize("wrong", ["five", "1,5", "nan", "inf", "-inf", "1e999", "-0.1"])
def test_what_is_no_number_in_range_is_named(wrong: str) -> None:
    assert reason(lambda: Env({"N": wrong}).number("N", 1)).startswith("N: ")


@pytest.mark.parametrize("wrong", ["0", "0.01", "86401", "10s"])
def test_what_is_no_time_is_named(wrong: str) -> None:
    assert reason(lambda: Env({"T": wrong}).seconds("T", 1)).startswith("T: ")


def test_numbers_at_the_edge_of_their_range_are_taken() -> None:
    env = Env({"A": "1", "B": "10", "C": "0.05"})

    assert env.integer("A", 5, minimum=1, maximum=10) == 1
    assert env.integer("B", 5, minimum=1, maximum=10) == 10
    assert env.seconds("C", 1) == 0.05


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("true", True),
        ("1", True),
        ("YES", True),
        ("on", True),
        ("False", False),
        ("0", False),
        ("no", False),
        ("OFF", False),
    ],
)
def test_a_flag_knows_the_usual_words(word: str, *, meaning: bool) -> None:
    assert Env({"F": word}).flag("F", default=not meaning) is meaning


def test_a_flag_that_is_neither_is_named() -> None:
    assert (
        reason(lambda: Env({"F": "maybe"}).flag("F", default=True))
        == "F: 'maybe' is neither true nor false"
    )


def test_an_unknown_choice_is_named_with_those_there_are() -> None:
    env = Env({"LEVEL": "loud"})

    assert reason(lambda: env.choice("LEVEL", "a", ("a", "b"))) == (
        "LEVEL: 'loud' is not one of a, b"
    )


def test_a_choice_is_taken_in_any_case() -> None:
    assert Env({"LEVEL": "B"}).choice("LEVEL", "a", ("a", "b")) == "b"


# ---------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "wrong",
    [
        "example.com",
        "ftp://example.com",
        "https://",
        "https://host:99999",
        "https://host:port",
        "https://[::1",
        "://",
    ],
)
def test_what_is_no_url_is_named(wrong: str) -> None:
    text = reason(lambda: Env({"URL": wrong}).url("URL", "", ("https", "http")))

    assert text.startswith("URL: ")


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@example.com",
        f"https://{SECRET}@example.com",
        f"https://example.com/v1?api_key={SECRET}",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_shown(url: str) -> None:
    text = reason(lambda: Env({"URL": url}).url("URL", "", ("https",)))

    assert text == "URL: must not hold a user, a password or a key"


def test_a_good_url_is_taken_as_it_is() -> None:
    url = "https://example.com:8443/v1"

    assert Env({"URL": url}).url("URL", "", ("https",)) == url


# ---------------------------------------------------------------- NATS


def test_nats_has_defaults_for_a_laptop() -> None:
    settings = NatsSettings.from_env(Env({}))

    assert settings.servers == ("nats://127.0.0.1:4222",)
    assert settings.replicas == 1
    assert settings.user is None
    assert settings.password is None


def test_several_servers_are_separated_by_commas() -> None:
    env = Env({"NATS_URL": "nats://a:4222, tls://b:4222,wss://c"})

    assert NatsSettings.from_env(env).servers == ("nats://a:4222", "tls://b:4222", "wss://c")


@pytest.mark.parametrize(
    "wrong", ["127.0.0.1:4222", "nats://a,", "nats://a,http://b", ",", "nats://a:70000"]
)
def test_a_wrong_server_is_named(wrong: str) -> None:
    assert reason(lambda: NatsSettings.from_env(Env({"NATS_URL": wrong}))).startswith("NATS_URL: ")


@pytest.mark.parametrize("name", ["NATS_USER", "NATS_PASSWORD"])
def test_half_a_login_is_refused_and_not_shown(name: str) -> None:
    text = reason(lambda: NatsSettings.from_env(Env({name: SECRET})))

    assert text == "NATS_USER and NATS_PASSWORD: set both or neither"


@pytest.mark.parametrize("wrong", ["0", "2", "4", "6", "7", "three"])
def test_replicas_are_one_three_or_five(wrong: str) -> None:
    text = reason(lambda: NatsSettings.from_env(Env({"STREAM_REPLICAS": wrong})))

    assert text.startswith("STREAM_REPLICAS: ")


@pytest.mark.parametrize("name", ["NATS_CREDS", "NATS_CA"])
def test_a_file_that_nats_needs_must_be_there(name: str, tmp_path: Path) -> None:
    env = Env({name: str(tmp_path / "none")})

    assert reason(lambda: NatsSettings.from_env(env)) == f"{name}: there is no such file"


def test_no_secret_of_nats_is_in_its_repr() -> None:
    environ = {
        "NATS_URL": f"nats://me:{SECRET}@a:4222",
        "NATS_USER": "me",
        "NATS_PASSWORD": SECRET,
        "NATS_NKEY_SEED": SECRET,
    }
    settings = NatsSettings.from_env(Env(environ))

    assert settings.password == settings.nkey_seed == SECRET
    assert SECRET not in repr(settings)
    assert SECRET not in repr(Env(environ))


# ---------------------------------------------------------------- the process


def test_a_process_has_defaults() -> None:
    settings = ProcessSettings.from_env(Env({}))

    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert (settings.log_level, settings.log_format) == ("info", "json")
    assert settings.otlp_endpoint is None


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("HTTP_PORT", "65536"),
        ("HTTP_PORT", "-1"),
        ("HTTP_PORT", "http"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("SHUTDOWN_GRACE", "-1"),
        ("SHUTDOWN_GRACE", "soon"),
    ],
)
def test_a_wrong_setting_of_the_process_is_named(name: str, wrong: str) -> None:
    assert reason(lambda: ProcessSettings.from_env(Env({name: wrong}))).startswith(f"{name}: ")


# ---------------------------------------------------------------- prices


def test_prices_come_from_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"some/model": 2}')
    assert prices_from_env(Env({"X_PRICES": str(file)}), "X_PRICES").of("some/model", 1) == 2e-6


def test_without_a_file_prices_are_those_that_we_know() -> None:
    assert prices_from_env(Env({}), "X_PRICES") == Prices.default()


@pytest.mark.parametrize("table", ["", "[]", '{"m": -1}', None])
def test_a_file_of_prices_that_makes_no_sense_is_named(tmp_path: Path, table: str | None) -> None:
    file = tmp_path / "prices.json"
    if table is not None:
        file.write_text(table)
    assert reason(lambda: prices_from_env(Env({"X_PRICES": str(file)}), "X_PRICES")).startswith(
        "X_PRICES: "
    )
