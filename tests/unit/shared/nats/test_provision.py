"""The streams and consumers that are wanted, and how one that differs is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.nats.provision import (
    Consumer,
    Leases,
    Mismatch,
    Stream,
    consumers,
    differences,
    streams,
)
from shared.process.settings import BadSetting, Env, Retention

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = 86_400 * 10**9


def by_name(replicas: int = 1, retention: Retention | None = None) -> dict[str, Mapping[str, Any]]:
    found = streams(replicas, retention or Retention())
    return {stream.name: stream.config for stream in found}


def as_the_server_tells_it(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is at its zero value is left out; what was not asked for is there."""
    told = {name: value for name, value in config.items() if value}
    return told | {"duplicate_window": 120_000_000_000, "compression": "none"}


# ---------------------------------------------------------------- differences


@pytest.mark.parametrize("stream", streams(3, Retention()), ids=lambda stream: stream.name)
def test_a_stream_as_it_was_made_does_not_differ(stream: Stream) -> None:
    assert differences(stream.config, as_the_server_tells_it(stream.config)) == []


@pytest.mark.parametrize("made", consumers(), ids=lambda made: made.name)
def test_a_consumer_as_it_was_made_does_not_differ(made: Consumer) -> None:
    assert differences(made.config, as_the_server_tells_it(made.config)) == []


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
    found = {each.name: each for each in consumers(Leases(work=4.0, intake=1.5))}

    assert {name: each.config["ack_wait"] for name, each in found.items()} == {
        "chat-workers": 4_000_000_000,
        "tts-workers": 4_000_000_000,
        "chat-intake": 1_500_000_000,
    }
    assert {name: each.lease for name, each in found.items()} == {
        "chat-workers": 4.0,
        "tts-workers": 4.0,
        "chat-intake": 1.5,
    }


def test_no_message_is_given_up_for_being_handed_back() -> None:
    assert {each.config["max_deliver"] for each in consumers()} == {-1}


def test_messages_are_acked_one_by_one() -> None:
    assert {each.config["ack_policy"] for each in consumers()} == {"explicit"}


def test_one_replica_at_a_time_takes_in_requests() -> None:
    pinned = [each for each in consumers() if each.group]

    assert [each.name for each in pinned] == ["chat-intake"]
    assert pinned[0].config["priority_policy"] == "pinned_client"


def test_what_differs_is_told_with_the_command_that_changes_it() -> None:
    mismatch = Mismatch("stream X", ["max_age is 1, must be 2"])

    assert str(mismatch) == (
        "stream X exists with other settings: max_age is 1, must be 2 "
        "(`python -m shared.provision --apply` changes it)"
    )
    assert mismatch.what in str(mismatch)
    assert "python" not in mismatch.what


def test_what_is_changed_keeps_what_nobody_cares_about() -> None:
    _, body = Stream({"name": "X", "max_age": 2}).update({"max_age": 1, "compression": "s2"})

    assert body == {"name": "X", "max_age": 2, "compression": "s2"}


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
