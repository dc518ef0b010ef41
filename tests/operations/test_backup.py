"""deploy/operate: a backup of a system, put into an empty one, in which everything goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from deploy.operate.manifest import BadBackup, Manifest, ObjectFile, digest_of
from tests.e2e.whole import FAST, fetch
from tests.operations.systems import Operated

if TYPE_CHECKING:
    from pathlib import Path

BACKUP, RESTORE = "deploy.operate.backup", "deploy.operate.restore"
WAIT = 90.0  # seconds: on a machine with much else to do
LONG = "Tell me a long story."
SLOW: dict[str, Any] = {
    "chat": {"tokens_per_second": 12, "replies": ["So it went on. " * 60]},
    "speech": {"realtime_factor": 3},
}


@pytest.mark.timeout(300)
async def test_a_backup_in_an_empty_system_goes_on_where_it_was_made(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    async with Operated(tmp_path / "old") as old:
        old.emulator.change(FAST)
        old.settings["SHUTDOWN_GRACE"] = "0.3"
        await old.up()
        ended = await old.ask(conversation_id="c", content="Hello.")
        await old.ears.whole(ended, seconds=WAIT)
        refused = await old.run(BACKUP, folder)
        assert (refused.returncode, "scale chat and tts to 0" in refused.stderr) == (1, True)

        old.emulator.change(SLOW)
        torn = await old.ask(conversation_id="c", content=LONG)
        queued = await old.ask(conversation_id="c", content="And then?")
        await old.ears.until(lambda: old.ears.turn(torn).first_chunk is not None, WAIT)
        await old.down()
        made = await old.run(BACKUP, folder)
        assert made.returncode == 0, made.stderr
        assert "7 streams, 2 objects" in made.stdout
        before = old.ears.turns

    async with Operated(tmp_path / "new") as new:
        new.emulator.change(FAST)
        restored = await new.run(RESTORE, folder)
        assert restored.returncode == 0, restored.stderr
        verified = await new.run("shared.provision")
        assert verified.stdout == "everything is as it should be\n", verified.stderr
        again = await new.run(RESTORE, folder)
        assert (again.returncode, "has been used" in again.stderr) == (1, True)

        await new.up()
        await new.ears.whole(torn, queued, seconds=WAIT)
        # Nobody is told anything of what had ended; of the torn turn, what is told goes on.
        assert set(new.ears.turns) == {torn, queued}
        assert new.ears.turn(queued).deltas[0]["attempt"] == 1
        assert new.ears.turn(torn).deltas[0]["attempt"] == 2
        for turn_id in (torn, queued):
            heard = new.ears.turn(turn_id)
            if turn_id in before:
                heard.deltas[:0] = before[turn_id].deltas
                heard.audio[:0] = before[turn_id].audio
            await new.assert_whole("c", turn_id, heard)
        # What had ended is as it was: replayed, linked, and in the history.
        told = before[ended]
        kept = await new.replay("c", ended)
        assert (kept.deltas, kept.voice()) == (told.deltas, told.voice())
        await new.assert_whole("c", ended, kept)
        messages = (await new.history("c"))["messages"]
        assert [m["turn_id"] for m in messages] == [t for t in (ended, torn, queued) for _ in "ab"]
        fresh = await new.answered(WAIT, conversation_id="c", content="And now?")
        assert fresh.voice_end is not None
        assert fetch(fresh.voice_end["url"])


def made(folder: Path, *objects: ObjectFile) -> None:
    """A backup of one object, and of what else is named."""
    (folder / "objects").mkdir()
    (folder / "objects" / "a.wav").write_bytes(b"voice")
    size, digest = digest_of(folder / "objects" / "a.wav")
    a = ObjectFile("a.wav", size, digest, "audio/wav", {})
    Manifest("", "", "2.15.1", "parley-audio", [], [a, *objects]).save(folder)


def test_a_backup_is_read_as_it_was_made(tmp_path: Path) -> None:
    made(tmp_path)
    assert [file.key for file in Manifest.load(tmp_path).objects] == ["a.wav"]
    assert [each.name for each in tmp_path.glob("*.json*")] == ["manifest.json"]


@pytest.mark.parametrize("data", [b"Voice", b"voic", None])
def test_a_file_that_is_not_as_it_was_made_is_named(tmp_path: Path, data: bytes | None) -> None:
    made(tmp_path)
    file = tmp_path / "objects" / "a.wav"
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    with pytest.raises(BadBackup, match=r"objects/a\.wav"):
        Manifest.load(tmp_path)


def test_a_folder_without_its_manifest_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BadBackup, match=r"manifest\.json"):
        Manifest.load(tmp_path)


def test_no_key_leads_out_of_the_folder(tmp_path: Path) -> None:
    made(tmp_path, ObjectFile("../../etc/passwd", 1, "", "", {}))
    with pytest.raises(BadBackup, match="not in the backup"):
        Manifest.load(tmp_path)
