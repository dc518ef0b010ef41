"""The streams and consumers that are wanted, and how one that differs is told."""

from __future__ import annotations

import re
from pathlib import Path
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


def told(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [str(each) for each in differences(wanted, found)]


def works(found: dict[str, object], **wanted: object) -> bool:
    """Whether the services start with what is found."""
    differ = differences(wanted, found)
    assert differ
    return all(each.compatible for each in differ)


def as_the_server_tells_it(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is at its zero value is left out; what was not asked for is there."""
    said = {name: value for name, value in config.items() if value}
    return said | {"duplicate_window": 120_000_000_000, "compression": "none"}


# ---------------------------------------------------------------- differences


@pytest.mark.parametrize("stream", streams(3, Retention()), ids=lambda stream: stream.name)
def test_a_stream_as_it_was_made_does_not_differ(stream: Stream) -> None:
    assert differences(stream.config, as_the_server_tells_it(stream.config)) == []


@pytest.mark.parametrize("made", consumers(), ids=lambda made: made.name)
def test_a_consumer_as_it_was_made_does_not_differ(made: Consumer) -> None:
    assert differences(made.config, as_the_server_tells_it(made.config)) == []


def test_a_difference_names_both_settings() -> None:
    wanted = {"num_replicas": 3, "storage": "file"}

    assert told(wanted, {"num_replicas": 1, "storage": "file"}) == ["num_replicas is 1, must be 3"]


def test_every_difference_is_told() -> None:
    lines = told({"a": 1, "b": "x", "c": ["s"]}, {"a": 2, "b": "y", "c": []})

    assert lines == ["a is 2, must be 1", "b is 'y', must be 'x'", "c is [], must be ['s']"]


def test_what_the_server_leaves_out_is_at_its_zero_value() -> None:
    assert differences({"max_age": 0, "deny_delete": False, "name": ""}, {}) == []
    assert told({"max_age": 5, "deny_delete": True}, {}) == [
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


# ---------------------------------------------------------------- two versions side by side

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("name", "found", "wanted"),
    [
        ("max_age", 2 * DAY, DAY),
        ("max_age", 0, DAY),
        ("max_age", DAY, 2 * DAY),
        ("max_age", DAY, 0),
        ("max_bytes", 8_192 * MIB, 4_096 * MIB),
        ("max_bytes", -1, 4_096 * MIB),
        ("max_bytes", 2_048 * MIB, 4_096 * MIB),
        ("max_bytes", 2_048 * MIB, -1),
        ("subjects", ["a", "b"], ["a"]),
        ("subjects", ["chat.dead"], ["chat.dead", "chat.dead.*"]),
        ("num_replicas", 3, 1),
        ("max_ack_pending", 30_000, 20_000),
    ],
)
def test_a_setting_that_the_services_can_live_with_is_compatible(
    name: str, found: object, wanted: object
) -> None:
    assert works({name: found}, **{name: wanted})


@pytest.mark.parametrize(
    ("name", "found", "wanted"),
    [
        ("max_age", DAY // 48, DAY),
        ("max_bytes", MIB, 4_096 * MIB),
        ("subjects", ["a"], ["a", "b"]),
        ("num_replicas", 1, 3),
        ("storage", "memory", "file"),
        ("retention", "limits", "workqueue"),
        ("discard", "old", "new"),
        ("allow_direct", False, True),
        ("ack_wait", 1, 6),
        ("filter_subject", "a", "b"),
    ],
)
def test_a_setting_that_breaks_something_is_not(name: str, found: object, wanted: object) -> None:
    limit = {"max_bytes": 1_024 * MIB}
    assert not works({**limit, name: found}, **{name: wanted})


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (Retention(), Retention(deltas=2 * 86_400, audio_bytes=8_192 * MIB)),
        (Retention(), Retention(deltas=7_200, audio_bytes=1_024 * MIB)),
    ],
    ids=["more", "less"],
)
def test_whichever_of_two_versions_made_a_stream_both_start_with_it(
    older: Retention, newer: Retention
) -> None:
    for there, wanted in ((older, newer), (newer, older)):
        found = by_name(retention=there)
        for name, config in by_name(retention=wanted).items():
            differ = differences(config, as_the_server_tells_it(found[name]))
            assert all(each.compatible for each in differ), differ


def test_a_stream_is_never_made_so_small_that_nobody_would_start_with_it() -> None:
    made: Stream | None = next(s for s in streams(1, Retention()) if s.name == "TTS_AUDIO")
    sizes = []
    while made is not None:
        sizes.append(made.max_bytes // MIB)
        made = made.smaller()

    assert sizes == [4_096, 2_048, 1_024, 512, 256, 128, 64]
    assert works({"max_bytes": sizes[-1] * MIB}, max_bytes=4_096 * MIB)


def test_what_a_full_stream_does_matters_only_where_it_can_be_full() -> None:
    assert works({"discard": "old", "max_bytes": -1}, discard="new")


def test_a_stream_without_a_limit_is_told_in_two_ways() -> None:
    assert differences({"max_bytes": -1}, {}) == []


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


def test_a_full_stream_refuses_what_must_not_be_lost_and_forgets_the_rest() -> None:
    full = {name: (config["discard"], config["max_bytes"]) for name, config in by_name().items()}

    assert full == {
        "CHAT_REQUESTS": ("new", 512 * MIB),
        "TTS_REQUESTS": ("new", 512 * MIB),
        "KV_conversations": ("new", 1_024 * MIB),
        "KV_speech": ("new", 256 * MIB),
        "CHAT_DELTAS": ("old", 1_024 * MIB),
        "TTS_AUDIO": ("old", 4_096 * MIB),
        "DEAD_LETTERS": ("old", 256 * MIB),
    }


def test_all_limits_fit_into_the_server_that_is_deployed() -> None:
    settings = Path(__file__).parents[4] / "deploy" / "nats" / "nats.conf"
    room = re.search(r"max_file_store: (\d+)GB", settings.read_text())
    assert room is not None
    assert sum(c["max_bytes"] for c in by_name().values()) <= int(room[1]) * 1_024 * MIB


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


@pytest.mark.parametrize(
    "name", ["REQUESTS", "DELTAS", "AUDIO", "DEAD_LETTERS", "CONVERSATIONS", "SPEECH"]
)
@pytest.mark.parametrize("wrong", ["-1", "4 GiB", "1.5", "1000"])
def test_a_wrong_limit_of_bytes_is_named(name: str, wrong: str) -> None:
    with pytest.raises(BadSetting, match=f"RETENTION_{name}_BYTES: "):
        Retention.from_env(Env({f"RETENTION_{name}_BYTES": wrong}))


def test_a_limit_of_bytes_is_what_the_stream_keeps() -> None:
    retention = Retention.from_env(
        Env({"RETENTION_AUDIO_BYTES": "2097152", "RETENTION_DELTAS_BYTES": "0"})
    )

    found = by_name(retention=retention)
    assert found["TTS_AUDIO"]["max_bytes"] == 2_097_152
    assert found["CHAT_DELTAS"]["max_bytes"] == -1
