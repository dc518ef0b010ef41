"""The streams and consumers that are wanted, and how one that differs is told."""

from __future__ import annotations

from typing import Any

import pytest

from shared.nats.provision import (
    INTAKE_LEASE_SECONDS,
    LEASE_SECONDS,
    Retention,
    consumers,
    differences,
    streams,
)
from shared.process.settings import BadSetting, Env

DAY = 86_400 * 10**9


def by_name(replicas: int = 1, retention: Retention | None = None) -> dict[str, dict[str, Any]]:
    return {config["name"]: config for config in streams(replicas, retention or Retention())}


def as_the_server_tells_it(config: dict[str, Any]) -> dict[str, Any]:
    """What is at its zero value is left out; what was not asked for is there."""
    told = {name: value for name, value in config.items() if value}
    return told | {"duplicate_window": 120_000_000_000, "compression": "none"}


# ---------------------------------------------------------------- differences


@pytest.mark.parametrize("config", streams(3, Retention()), ids=lambda config: config["name"])
def test_a_stream_as_it_was_made_does_not_differ(config: dict[str, Any]) -> None:
    assert differences(config, as_the_server_tells_it(config)) == []


@pytest.mark.parametrize("config", [config for _, config in consumers()])
def test_a_consumer_as_it_was_made_does_not_differ(config: dict[str, Any]) -> None:
    assert differences(config, as_the_server_tells_it(config)) == []


def test_a_difference_names_both_settings() -> None:
    wanted = {"num_replicas": 3, "storage": "file"}

    assert differences(wanted, {"num_replicas": 1, "storage": "file"}) == [
        "num_replicas is 1, must be 3"
    ]


def test_every_difference_is_told() -> None:
    lines = differences({"a": 1, "b": "x", "c": ["s"]}, {"a": 2, "b": "y", "c": []})

    assert lines == ["a is 2, must be 1", "b is 'y', must be 'x'", "c is [], must be ['s']"]


def test_what_the_server_leaves_out_is_at_its_zero_value() -> None:
    assert differences({"max_age": 0, "deny_delete": False, "name": ""}, {}) == []
    assert differences({"max_age": 5, "deny_delete": True}, {}) == [
        "max_age is 0, must be 5",
        "deny_delete is False, must be True",
    ]


def test_republish_is_compared_by_what_is_wanted_of_it() -> None:
    wanted = {"republish": {"src": "a.*", "dest": "a"}}

    assert differences(wanted, {"republish": {"src": "a.*", "dest": "a", "headers_only": 1}}) == []
    assert len(differences(wanted, {"republish": {"src": "b.*", "dest": "a"}})) == 1
    assert len(differences(wanted, {})) == 1


def test_settings_that_nobody_cares_about_may_differ() -> None:
    assert differences({"a": 1}, {"a": 1, "b": 2}) == []


# ---------------------------------------------------------------- streams


def test_every_stream_is_kept_in_files_by_as_many_replicas_as_wanted() -> None:
    found = by_name(replicas=3).values()

    assert {config["num_replicas"] for config in found} == {3}
    assert {config["storage"] for config in found} == {"file"}


def test_requests_stand_in_work_queues_without_an_end_of_time() -> None:
    found = by_name()
    queues = {name for name, config in found.items() if config["retention"] == "workqueue"}

    assert queues == {"CHAT_REQUESTS", "TTS_REQUESTS"}
    assert {found[name]["max_age"] for name in queues} == {0}


def test_the_past_is_kept_as_long_as_retention_says() -> None:
    ages = {name: config["max_age"] for name, config in by_name().items()}

    assert ages["CHAT_DELTAS"] == DAY
    assert ages["TTS_AUDIO"] == DAY
    assert ages["DEAD_LETTERS"] == 14 * DAY
    assert ages["KV_conversations"] == 0
    assert ages["KV_speech"] == 7 * DAY


def test_a_bucket_keeps_one_value_a_key_and_refuses_to_forget() -> None:
    for name in ("KV_conversations", "KV_speech"):
        config = by_name()[name]

        assert config["max_msgs_per_subject"] == 1
        assert config["discard"] == "new"
        assert config["allow_rollup_hdrs"]
        assert config["deny_delete"]


def test_what_followers_read_back_may_be_got_directly() -> None:
    found = by_name()

    for name in ("CHAT_REQUESTS", "CHAT_DELTAS", "TTS_AUDIO"):
        assert found[name]["allow_direct"]


# ---------------------------------------------------------------- consumers


def test_a_worker_that_says_nothing_for_a_lease_loses_its_work() -> None:
    found = {config["durable_name"]: config for _, config in consumers()}

    assert found["chat-workers"]["ack_wait"] == LEASE_SECONDS * 1e9
    assert found["tts-workers"]["ack_wait"] == LEASE_SECONDS * 1e9
    assert found["chat-intake"]["ack_wait"] == INTAKE_LEASE_SECONDS * 1e9


def test_no_message_is_given_up_for_being_handed_back() -> None:
    assert {config["max_deliver"] for _, config in consumers()} == {-1}


def test_messages_are_acked_one_by_one() -> None:
    assert {config["ack_policy"] for _, config in consumers()} == {"explicit"}


def test_one_replica_at_a_time_takes_in_requests() -> None:
    pinned = [config for _, config in consumers() if "priority_policy" in config]

    assert [config["durable_name"] for config in pinned] == ["chat-intake"]
    assert pinned[0]["priority_policy"] == "pinned_client"


# ---------------------------------------------------------------- retention


def test_retention_is_read_in_seconds() -> None:
    env = Env({"RETENTION_DELTAS": "600", "RETENTION_CONVERSATIONS": "120.5"})
    retention = Retention.from_env(env)

    assert retention.deltas == 600
    assert retention.conversations == 120.5
    assert retention.audio == Retention().audio
    assert by_name(retention=retention)["CHAT_DELTAS"]["max_age"] == 600 * 10**9


@pytest.mark.parametrize("name", ["DELTAS", "AUDIO", "DEAD_LETTERS", "CONVERSATIONS", "SPEECH"])
@pytest.mark.parametrize("wrong", ["-1", "a day", "nan", "1e11", "60"])
def test_a_wrong_retention_is_named(name: str, wrong: str) -> None:
    with pytest.raises(BadSetting, match=f"RETENTION_{name}: "):
        Retention.from_env(Env({f"RETENTION_{name}": wrong}))


def test_the_longest_retention_is_one_that_the_server_can_count() -> None:
    retention = Retention.from_env(Env({"RETENTION_DELTAS": "9e9"}))

    assert by_name(retention=retention)["CHAT_DELTAS"]["max_age"] < 2**63
    with pytest.raises(BadSetting):
        Retention.from_env(Env({"RETENTION_DELTAS": "9.3e9"}))
