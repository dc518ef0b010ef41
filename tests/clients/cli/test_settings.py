"""Where the command line connects, and as whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from parley import InvalidRequest
from parley.cli.settings import Given, Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_options_come_before_the_environment() -> None:
    environ = {"NATS_URL": "nats://there:4222", "NATS_USER": "ada", "NATS_PASSWORD": "x"}
    assert Settings.of(Given(), environ).url == "nats://there:4222"
    assert Settings.of(Given(url="nats://here:4222"), environ).url == "nats://here:4222"
    assert Settings.of(Given(), {}).url == "nats://127.0.0.1:4222"


def test_a_login_by_option_puts_that_of_the_environment_aside() -> None:
    environ = {"NATS_USER": "ada", "NATS_PASSWORD": "x"}
    found = Settings.of(Given(token="a.b.c"), environ)
    assert (found.kind, found.given.user, found.given.password) == ("token", None, None)


def test_a_password_of_the_environment_is_for_a_user_by_option_too() -> None:
    found = Settings.of(Given(user="operator"), {"NATS_PASSWORD": "x", "PARLEY_TOKEN": "a.b.c"})
    assert (found.kind, found.given.password) == ("user", "x")


def test_each_user_has_inboxes_of_its_own() -> None:
    def inbox(user: str) -> str | None:
        return Settings.of(Given(user=user), {}).inbox_prefix

    assert inbox("operator") == "_INBOX.parley-operator"
    assert inbox("client") is None
    assert inbox("shop") == "_INBOX_shop"
    by_url = Settings.of(Given(url="nats://operator:x@there:4222"), {})
    assert (by_url.inbox_prefix, by_url.who) == ("_INBOX.parley-operator", "user operator")
    assert Settings.of(Given(user="shop", inbox_prefix="_MY"), {}).inbox_prefix == "_MY"


def test_a_variable_may_name_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    found = Settings.of(Given(user="ada"), {"NATS_PASSWORD_FILE": str(file)})
    assert found.given.password == "secret"
    with pytest.raises(InvalidRequest, match="NATS_PASSWORD_FILE"):
        Settings.of(Given(), {"NATS_PASSWORD_FILE": str(tmp_path / "none")})


def test_no_secret_is_printed() -> None:
    given = Given(password="hush-1", token="hush-2", nkey="hush-3")
    assert "hush" not in repr(Settings(given=given))
