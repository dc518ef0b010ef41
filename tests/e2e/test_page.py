"""The page in a real browser, against the running system: typed, read, heard, stopped.

What the page hands to Web Audio is recorded below the page's own code, at the browser's interface.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from local.nats_server import NatsServer
from local.page import PAGE, Page
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.page,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
]

STORY = (
    "Well, the weather is fine today, and it will stay like that. Dr. Smith paid 3.14 dollars "
    "at 5 p.m. for it! **Sunshine** 🌞 costs nothing, though. Is there anything else? No."
)
LONG = " ".join(f"This is sentence number {n} of a long answer." for n in range(1, 13))
PACE: dict[str, Any] = {
    "chat": {"first_token_ms": 20, "tokens_per_second": 200, "answers": {}},
    # Twice as fast as it is heard, so that a turn lasts long enough to be interrupted.
    "speech": {"realtime_factor": 4, "first_audio_ms": 20, "char_samples": 1200},
    "faults": [],
}
SECONDS = 45.0
# Before the page's own code: every start and stop of a piece of sound.
RECORDER = """
window.sounds = [];
addEventListener("securitypolicyviolation",
                 (e) => console.error(e.violatedDirective, e.blockedURI));
const rate = 24000, start = AudioBufferSourceNode.prototype.start,
      stop = AudioBufferSourceNode.prototype.stop;
AudioBufferSourceNode.prototype.start = function (when = 0) {
  const samples = Int16Array.from(this.buffer.getChannelData(0), (x) => Math.round(x * 32768));
  this.sound = { at: Math.round(when * rate), samples, rate: this.buffer.sampleRate,
                 length: samples.length, late: when < this.context.currentTime, stopped: null };
  window.sounds.push(this.sound);
  return start.call(this, when);
};
AudioBufferSourceNode.prototype.stop = function () {
  this.sound.stopped = Math.round(this.context.currentTime * rate);
  return stop.call(this);
};
"""
# From now on: every change of what is marked as being heard.
MARKS = """
window.marks = [];
const look = () => {
  const mark = Array.from(document.querySelectorAll('mark'), (m) => m.innerText).join('');
  if (mark && mark !== window.marks.at(-1)) window.marks.push(mark);
};
new MutationObserver(look).observe(document.body, {subtree: true, childList: true,
                                                   characterData: true, attributes: true});
look();
"""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--window-size=1100,800",
)


def chromium() -> str:
    """Skips where there is none, but not in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    why = "no Chromium on this machine: the page is not tested (apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class Browser:
    """Chromium over its DevTools protocol."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="parley-chromium-"))
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.tabs: dict[str, Tab] = {}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            *FLAGS,
            f"--user-data-dir={self._folder}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(30):
                address = await self._address()
            self._http = aiohttp.ClientSession()
            self._socket = await self._http.ws_connect(address, max_msg_size=0)
        except BaseException:
            self._process.kill()
            raise
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            await self.send("Browser.close")
        self._reader.cancel()
        await self._socket.close()
        await self._http.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _address(self) -> str:
        file = self._folder / "DevToolsActivePort"
        while True:
            assert self._process.returncode is None, "Chromium ended at once"
            with contextlib.suppress(OSError, ValueError):
                port, path = (await asyncio.to_thread(file.read_text)).split("\n")
                return f"ws://127.0.0.1:{port}{path}"
            await asyncio.sleep(0.05)

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            answer = self._answers.pop(event.get("id", 0), None)
            if answer is not None and not answer.done():
                answer.set_result(event)
            elif tab := self.tabs.get(event.get("sessionId", "")):
                tab.on_event(event["method"], event["params"])

    async def send(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        await self._socket.send_str(json.dumps(message))
        async with asyncio.timeout(SECONDS):
            found = await answer
        assert "error" not in found, (method, found)
        return dict(found["result"])

    async def tab(self, url: str) -> Tab:
        """A tab of its own that has loaded this page."""
        tab = await self.empty_tab()
        await tab.open(url)
        return tab

    async def empty_tab(self) -> Tab:
        target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.send("Target.attachToTarget", targetId=target, flatten=True)
        tab = Tab(self, target, attached["sessionId"])
        self.tabs[tab.session] = tab
        for domain in ("Page", "Runtime", "Network"):
            await tab.send(f"{domain}.enable")
        await tab.send("Page.addScriptToEvaluateOnNewDocument", source=RECORDER)
        await tab.send("Emulation.setFocusEmulationEnabled", enabled=True)
        return tab


class Tab:
    """One page, driven as a user would, by keys."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self.session = browser, target, session
        self.requests: list[str] = []
        self.complaints: list[str] = []  # errors of the page and breaches of its policy

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(params["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(str(details.get("exception", details).get("description")))
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(str(params["args"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.send(method, self.session, **params)

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.until("window.parley?.state?.connection === 'connected'")

    async def reload(self) -> None:
        await self.evaluate("window.parley = undefined")
        await self.send("Page.reload")
        await self.until("window.parley?.state?.connection === 'connected'")

    async def close(self) -> None:
        await self._browser.send("Target.closeTarget", targetId=self._target)

    async def evaluate(self, script: str) -> Any:
        found = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str, seconds: float = SECONDS) -> Any:
        """Waits until it is true in the page."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := await self.evaluate(script)):  # noqa: ASYNC110
                    await asyncio.sleep(0.03)
        except TimeoutError:
            state = await self.evaluate(
                "JSON.stringify([window.parley?.state, document.body.innerText])"
            )
            raise AssertionError(f"never true: {script}\n{state}\n{self.complaints}") from None
        return found

    async def press(self, key: str) -> None:
        code, text = {"Enter": (13, "\r"), "Escape": (27, ""), " ": (32, " ")}[key]
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    async def ask(self, question: str) -> str:
        """Types it and presses Enter; returns the turn's id."""
        known = len(await self.turns())
        await self.evaluate("document.querySelector('textarea').focus()")
        await self.send("Input.insertText", text=question)
        await self.press("Enter")
        await self.until(f"window.parley.state.turns.length > {known}")
        return str((await self.turns())[-1]["id"])

    async def use(self, selector: str) -> None:
        """Goes to a control by the keyboard and uses it: words that stream in move a button."""
        await self.until(f"document.querySelector({selector!r})?.checkVisibility()")
        await self.evaluate(f"document.querySelector({selector!r}).focus()")
        await self.press(" " if "#" in selector else "Enter")

    async def turns(self) -> list[dict[str, Any]]:
        return list(await self.evaluate("window.parley?.state?.turns ?? []"))

    async def turn(self, turn_id: str) -> dict[str, Any]:
        return next(t for t in await self.turns() if t["id"] == turn_id)

    async def until_state(self, turn_id: str, state: str, seconds: float = SECONDS) -> None:
        await self.until(
            f"window.parley.state.turns.some((t) => t.id === {turn_id!r} && t.state === {state!r})",
            seconds,
        )

    async def shown(self) -> str:
        return str(await self.evaluate("document.querySelector('main').innerText"))

    async def sounds(self) -> list[dict[str, Any]]:
        """What was handed to Web Audio, in the order of time, without what was taken back."""
        found = await self.evaluate(
            "window.sounds.map(({at, length, rate, late, stopped, samples}) => ({at, length, rate,"
            "late, stopped, bytes: btoa(Array.from(new Uint8Array(samples.buffer),"
            "(b) => String.fromCharCode(b)).join(''))}))"
        )
        return sorted(
            (
                {**sound, "pcm": base64.b64decode(sound["bytes"])}
                for sound in found
                if sound["stopped"] is None or sound["stopped"] > sound["at"]
            ),
            key=lambda sound: int(sound["at"]),
        )

    async def picture(self, path: Path) -> None:
        shot = await self.send("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


class WebSystem(System):
    """With the WebSocket that a browser needs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nats = NatsServer(self.folder / "nats", websocket=True)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[WebSystem, Browser, str]]:
    program = chromium()
    async with WebSystem(tmp_path_factory.mktemp("system")) as system, Browser(program) as browser:
        await system.up()
        page = Page(PAGE, system.nats.ws_url)
        await page.start()
        assert page.url, "web/dist is missing: npm run build"
        try:
            yield system, browser, page.url
        finally:
            await page.close()


@pytest_asyncio.fixture(loop_scope="module")
async def system(running: tuple[WebSystem, Browser, str]) -> WebSystem:
    running[0].emulator.reset()
    running[0].emulator.change(PACE)
    return running[0]


@pytest_asyncio.fixture(loop_scope="module")
async def tab(running: tuple[WebSystem, Browser, str], system: System) -> AsyncIterator[Tab]:
    """A new conversation; whatever it does, it asks nobody outside and breaks nothing."""
    _, browser, url = running
    tab = await browser.tab(url)
    yield tab
    assert tab.complaints == []
    outside = [url for url in tab.requests if "://127.0.0.1:" not in url and "data:" not in url]
    assert outside == []
    await tab.close()


async def heard_without_a_seam(tab: Tab) -> bytes:
    """Everything that sounded; each part begins where the one before it ends.

    Where the machine made the voice slower than it is heard the player ran dry, and counted it.
    """
    sounds = await tab.sounds()
    holes = [b["at"] - a["at"] - a["length"] for a, b in itertools.pairwise(sounds)]
    assert min(holes, default=0) >= 0, "an overlap"
    gaps = await tab.evaluate("window.parley.state.gaps")
    assert sum(hole > 0 for hole in holes) <= gaps, "a seam"
    assert {s["rate"] for s in sounds} == {24_000}
    # Between the clock and the start a busy machine may take the processor away.
    assert sum(s["late"] for s in sounds) <= 1 + gaps
    return b"".join(s["pcm"] for s in sounds)


async def test_a_typed_question_is_answered_in_words_voice_and_marks_and_survives_a_reload(
    system: WebSystem, tab: Tab
) -> None:
    system.emulator.change({"chat": {"replies": [STORY]}})
    await tab.evaluate(MARKS)
    turn_id = await tab.ask("How is the weather?")
    await tab.until("document.querySelector('.prose')?.innerText.includes('Well, the weather')")
    assert "How is the weather?" in await tab.shown()

    await tab.until("window.parley.state.sounding === null")
    marks = list(await tab.evaluate("window.marks"))
    await system.ears.whole(turn_id)
    turn = system.ears.turn(turn_id)
    pieces = [json.loads(d) for h, d in turn.audio if h["Parley-Type"] == "piece"]
    said = [STORY[slice(*piece["chars"])].replace("**", "").strip() for piece in pieces]
    # A page that is short of time may draw nothing while a short piece is heard.
    marked = [mark.strip() for mark in marks]
    assert marked == [piece for piece in said if piece in marked], "not what was heard was marked"
    assert {piece for piece in said if len(piece) > 12} <= set(marked)
    assert any("🌞" in mark for mark in marks)

    voice = turn.voice()
    assert await heard_without_a_seam(tab) == voice
    assert await tab.evaluate("window.parley.state.scheduled") == len(voice) // 2
    assert (await tab.turn(turn_id))["text"] == STORY

    before = await tab.shown()
    await tab.reload()
    await tab.until_state(turn_id, "complete")
    await tab.until("document.querySelectorAll('.turn').length === 1")
    assert await tab.shown() == before
    assert await tab.sounds() == []

    await tab.use("[data-does=play]")
    await tab.until("window.parley.state.sounding?.how === 'object'")
    await tab.until("document.querySelector('mark') !== null")
    assert any(turn_id in url and "X-Amz-Signature" in url for url in tab.requests)


async def test_a_second_window_sees_the_turn_live_and_can_listen_to_it(
    running: tuple[WebSystem, Browser, str], system: WebSystem, tab: Tab
) -> None:
    second = await running[1].tab(running[2])  # it comes to the conversation in mid-turn
    system.emulator.change({"chat": {"replies": [LONG], "tokens_per_second": 12}})
    turn_id = await tab.ask("Tell me something long.")
    await tab.until_state(turn_id, "answering")
    await tab.until("window.parley.state.turns[0].text.length > 20")
    await second.evaluate(f"location.href = {await tab.evaluate('location.href')!r}")
    await second.until("window.parley.state.turns[0]?.text.length > 0")
    assert (await second.turn(turn_id))["state"] == "answering"
    # The question is the history's, which may be told behind the first words.
    await second.until(
        "document.querySelector('main').innerText.includes('Tell me something long.')"
    )
    assert await second.sounds() == []

    await second.use("[data-does=listen]")
    await second.until("window.sounds.length > 0")
    await system.ears.whole(turn_id, seconds=60)
    for window in (tab, second):
        await window.until_state(turn_id, "complete")
        assert (await window.turn(turn_id))["text"] == LONG
    voice = system.ears.turn(turn_id).voice()
    heard = await heard_without_a_seam(second)
    assert heard == voice[: len(heard)], "not from its beginning"

    third = await second.ask("And now?")
    await tab.until("document.querySelector('main').innerText.includes('And now?')")
    await tab.until_state(third, "answering")
    assert second.complaints == []
    await second.close()


@pytest.mark.parametrize(
    ("tokens_per_second", "finish"), [(15, "cancelled"), (0, "stop")], ids=["text", "voice alone"]
)
async def test_stop_ends_what_is_under_way_at_once_and_keeps_what_was_heard(
    system: WebSystem, tab: Tab, tokens_per_second: int, finish: str
) -> None:
    system.emulator.change({"chat": {"replies": [LONG], "tokens_per_second": tokens_per_second}})
    system.emulator.change({"speech": {"realtime_factor": 2}})
    turn_id = await tab.ask("Tell me something long.")
    await tab.until("window.parley.state.heard > 24000 * 3")
    await tab.press("Escape")
    await tab.until_state(turn_id, "interrupted")
    assert await tab.evaluate("window.parley.state.sounding") is None
    await system.ears.whole(turn_id)
    turn = system.ears.turn(turn_id)
    assert turn.end is not None
    assert turn.end["finish_reason"] == finish
    assert turn.voice_end is not None
    assert turn.voice_end["finish"] == "cancelled"

    conversation = await tab.evaluate("window.parley.state.conversation")
    kept = (await system.history(conversation))["messages"][-1]
    assert kept["status"] == "interrupted"
    assert LONG.startswith(kept["content"])
    assert 10 < len(kept["content"]) < 150, "three seconds are about sixty characters"
    await tab.until(f"window.parley.state.turns[0].kept === {len(kept['content'])}")
    sounding = await tab.sounds()
    assert min(s["stopped"] or 1e9 for s in sounding) < 1e9, "the sound went on"


async def test_asking_while_it_speaks_interrupts_and_nothing_old_is_heard_after_it(
    system: WebSystem, tab: Tab
) -> None:
    system.emulator.change({"chat": {"answers": {"long": LONG, "short": "Sure!"}}})
    first = await tab.ask("Something long.")
    await tab.until("window.parley.state.heard > 24000")
    second = await tab.ask("Something short.")
    await tab.until_state(second, "complete")
    await tab.until("window.parley.state.sounding === null")
    await system.ears.whole(first, second)
    assert (await tab.turn(first))["state"] == "interrupted"
    assert (await tab.turn(second))["text"] == "Sure!"
    last = [s for s in await tab.sounds() if s["stopped"] is None]
    voice = system.ears.turn(second).voice()
    assert b"".join(s["pcm"] for s in last).endswith(voice)
    cut = max(s["stopped"] for s in await tab.sounds() if s["stopped"] is not None)
    assert b"".join(s["pcm"] for s in last if s["at"] >= cut) == voice


async def test_after_a_lost_connection_words_and_voice_go_on_without_gap_or_repeat(
    system: WebSystem, tab: Tab
) -> None:
    system.emulator.change(
        {"chat": {"replies": [LONG], "tokens_per_second": 60}, "speech": {"realtime_factor": 2}}
    )
    turn_id = await tab.ask("Tell me something long.")
    await tab.until("window.parley.state.heard > 24000")
    await tab.evaluate("window.states = []; window.watch = setInterval(() =>"
                       " window.states.push(window.parley.state.connection), 20)")  # fmt: skip
    await system.nats.restart()
    await tab.until("window.states.includes('lost')")
    await tab.until("window.parley.state.connection === 'connected'")
    await tab.until_state(turn_id, "complete", 60)
    await system.ears.until(lambda: not system.client.is_reconnecting)
    assert (await tab.turn(turn_id))["text"] == LONG

    # The tests' own ears missed something too: the stream knows all.
    await tab.until("window.parley.state.sounding === null", 100)
    conversation = await tab.evaluate("window.parley.state.conversation")
    done: dict[int, int] = {}
    chunks: dict[tuple[int, int], bytes] = {}
    for message in await system.stored("TTS_AUDIO"):
        headers = message.headers
        if message.subject != f"tts.audio.{conversation}":
            continue
        attempt = int(headers["Parley-Attempt"])
        if headers["Parley-Type"] == "chunk":
            key = int(headers["Parley-Piece"]), attempt
            chunks[key] = chunks.get(key, b"") + message.data
        elif headers["Parley-Type"] == "piece_done":
            done[json.loads(message.data)["index"]] = attempt
    voice = b"".join(chunks[index, done[index]] for index in sorted(done))
    heard = b"".join(s["pcm"] for s in await tab.sounds())
    assert len(heard) == len(voice)
    same = np.frombuffer(heard, "<i2") == np.frombuffer(voice, "<i2")
    assert same.all(), f"differs from sample {same.argmin()}"


async def test_when_the_speech_worker_dies_nothing_is_heard_twice_or_lost(
    system: WebSystem, tab: Tab
) -> None:
    system.emulator.change({"chat": {"replies": [LONG]}, "speech": {"realtime_factor": 2}})
    worker = next(s for s in system.services if s.name == "tts" and s.running)
    turn_id = await tab.ask("Tell me something long.")
    await tab.until("window.parley.state.heard > 24000")
    await worker.kill()
    await system.add("tts").ready()
    await system.ears.whole(turn_id, seconds=60)
    await tab.until("window.parley.state.sounding === null", 60)
    turn = system.ears.turn(turn_id)
    assert max(int(headers["Parley-Attempt"]) for headers, _ in turn.audio) > 1
    assert b"".join(s["pcm"] for s in await tab.sounds()) == turn.voice()


async def test_a_failure_is_told_in_plain_words_and_can_be_tried_again(
    system: WebSystem, tab: Tab
) -> None:
    fault = {"kind": "chat.status", "status": 401, "times": 1}
    system.emulator.change({"chat": {"replies": ["Sure!"]}, "faults": [fault]})
    turn_id = await tab.ask("Hello?")
    await tab.until_state(turn_id, "failed")
    shown = await tab.shown()
    assert "The model's provider refuses this installation." in shown
    assert "provider_auth" in shown
    await tab.reload()
    await tab.until_state(turn_id, "failed")
    await tab.use(".error button")
    await tab.until("window.parley.state.turns.at(-1).text === 'Sure!'")


async def test_text_only_asks_for_no_voice_and_hostile_text_stays_text(
    system: WebSystem, tab: Tab
) -> None:
    hostile = 'A <img src=x onerror="window.hit=1"> and [x](javascript:window.hit=2) <b>c</b>'
    system.emulator.change({"chat": {"replies": [hostile]}})
    await tab.use("summary")
    await tab.use("#speak")
    turn_id = await tab.ask("<script>window.hit=3</script>")
    await tab.until_state(turn_id, "complete")
    await system.ears.whole(turn_id, voice=False)
    assert system.ears.turn(turn_id).deltas[0]["speech"] is False
    assert system.ears.turn(turn_id).audio == []
    assert hostile in await tab.shown()
    assert "<script>window.hit=3</script>" in await tab.shown()
    assert await tab.evaluate("window.hit ?? null") is None
    assert await tab.evaluate("document.querySelectorAll('main img, main b').length") == 0
    await tab.use("summary")
    await tab.use("#speak")


async def test_it_fits_a_telephone_and_a_new_conversation_is_empty(
    system: WebSystem, tab: Tab
) -> None:
    wide = "word" * 60
    system.emulator.change({"chat": {"replies": [f"# Long\n\n{wide}\n\n```\n{wide}\n```"]}})
    await tab.send(
        "Emulation.setDeviceMetricsOverride", width=320, height=640, deviceScaleFactor=1,
        mobile=True,
    )  # fmt: skip
    turn_id = await tab.ask(wide)
    await tab.until_state(turn_id, "complete")
    assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    address = await tab.evaluate("location.href")
    await tab.use("header button")
    await tab.until("document.querySelector('.welcome').checkVisibility()")
    assert await tab.evaluate("location.href") != address
    await tab.evaluate("history.back()")
    await tab.until(f"window.parley.state.turns[0]?.id === {turn_id!r}")


async def test_a_conversation_of_1500_messages_is_shown_whole(
    running: tuple[WebSystem, Browser, str], system: WebSystem
) -> None:
    messages = [
        {
            "id": f"t{n // 2}.{'a' if n % 2 else '0'}",
            "role": "assistant" if n % 2 else "user",
            "content": f"Message {n}. ".ljust(1_000, "x"),
            "turn_id": f"t{n // 2}",
            "created_at": f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}.000Z",
        }
        for n in range(1_500)
    ]
    pages = [messages[at : at + 110] for at in range(0, 1_400, 110)]
    rest = messages[sum(map(len, pages)) :]
    document = {"messages": rest, "pages": len(pages), "ended": [m["turn_id"] for m in rest]}
    js = system.client.jetstream()
    for number, page in enumerate(pages, 1):
        await js.publish(f"$KV.conversations.long.{number}", json.dumps(page).encode())
    await js.publish("$KV.conversations.long", json.dumps(document).encode())

    _, browser, url = running
    tab = await browser.tab(f"{url}#long")
    await tab.until("window.parley?.state?.turns.length === 750")
    shown = await tab.shown()
    places = [shown.find(f"Message {n}. ") for n in range(1_500)]
    assert places == sorted(places)
    assert places[0] >= 0
    assert tab.complaints == []
    await tab.close()


async def test_a_voice_whose_events_are_gone_is_played_by_a_link_asked_for_then(
    system: WebSystem, tab: Tab
) -> None:
    system.emulator.change({"chat": {"replies": [STORY]}})
    turn_id = await tab.ask("How is the weather?")
    await tab.until("window.parley.state.sounding !== null")
    await system.ears.whole(turn_id)
    await tab.until("window.parley.state.sounding === null")
    conversation = str(await tab.evaluate("location.hash.slice(1)"))
    js = system.client.jetstream()
    await js.purge_stream("TTS_AUDIO", subject=f"tts.audio.{conversation}")
    await js.purge_stream("KV_speech", subject=f"$KV.speech.{conversation}.*")

    await tab.reload()
    await tab.until_state(turn_id, "complete")
    tab.requests.clear()
    await tab.use("[data-does=play]")
    await tab.until("window.parley.state.sounding?.how === 'object'")
    assert any(turn_id in url and "X-Amz-Signature" in url for url in tab.requests)
