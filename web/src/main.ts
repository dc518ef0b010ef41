import { Bus } from "./bus.ts";
import type { Config } from "./bus.ts";
import { SAMPLE_RATE } from "./contract.ts";
import type { Speech } from "./contract.ts";
import type { Turn } from "./conversation.ts";
import { explain } from "./errors.ts";
import { Player } from "./player.ts";
import { Recording, WebSound } from "./sound.ts";
import { Talk } from "./talk.ts";
import { View } from "./view.ts";
import type { Settings, TurnView, Voices } from "./view.ts";
import { utf16, validUntil } from "./voice.ts";
import type { Voice } from "./voice.ts";

const VOICES: Voices[] = [
  { id: "af_heart", name: "Heart, American" },
  { id: "af_bella", name: "Bella, American" },
  { id: "af_nicole", name: "Nicole, American, whispering" },
  { id: "am_michael", name: "Michael, American" },
  { id: "am_fenrir", name: "Fenrir, American" },
  { id: "bf_emma", name: "Emma, British" },
  { id: "bm_george", name: "George, British" },
];
const SETTINGS = "parley.settings";
const PUMP_MS = 100;
const SLOW_MS = 8_000; // then it is said that nobody has begun to answer

/** What sounds: a voice by its chunks (`live`: it is still being made for us), or a stored object. */
interface Sounding {
  turnId: string;
  how: "live" | "chunks" | "object";
}

class App {
  private bus!: Bus;
  private readonly view: View;
  private readonly sound = new WebSound(() => this.onSound());
  private readonly recording = new Recording(() => this.onSound());
  private readonly player = new Player(this.sound);
  private settings: Settings;
  private talk: Talk;
  private sounding: Sounding | null = null;
  private notice = "";
  private drawing = false;
  private readonly sentAt = new Map<string, number>();
  private readonly missing = new Set<string>(); // turns of which there is no recording
  private readonly announced = new Set<string>();

  constructor(private readonly config: Config) {
    const voices = config.voices ?? VOICES;
    this.settings = readSettings(voices);
    this.view = new View(
      {
        send: (text) => this.send(text),
        stop: () => void this.interrupt(),
        sound: (turnId) => void this.toggle(turnId),
        again: (turnId) => this.send(this.talk.conversation.get(turnId)?.question ?? ""),
        fresh: () => this.fresh(),
        unlock: () => this.sound.unlock(),
        change: (settings) => this.change(settings),
      },
      voices,
    );
    this.talk = this.open();
    addEventListener("hashchange", () => this.reopen());
    addEventListener("online", () => this.bus.wake());
    document.addEventListener("visibilitychange", () => this.draw());
    setInterval(() => this.tick(), PUMP_MS);
    this.draw();
  }

  // ---------------------------------------------------------------- which conversation

  private open(): Talk {
    let id = location.hash.slice(1);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
      id = newId();
      history.replaceState(null, "", `#${id}`);
    }
    // Each has a connection of its own: a token is for one conversation.
    this.bus = new Bus(this.config, id, (connection) => {
      if (connection === "connected") this.talk.connected();
      this.draw();
    });
    void this.bus.run();
    return new Talk(id, this.bus, () => this.draw(), (turnId, voice) => this.onVoice(turnId, voice));
  }

  private reopen(): void {
    if (location.hash.slice(1) === this.talk.conversation.id) return;
    this.silence();
    this.talk.close();
    this.bus.close();
    this.view.clear();
    this.notice = "";
    this.talk = this.open();
    this.draw();
  }

  private fresh(): void {
    void this.interrupt();
    location.hash = newId();
  }

  private change(settings: Settings): void {
    this.settings = settings;
    try {
      localStorage.setItem(SETTINGS, JSON.stringify(settings));
    } catch {
      // A browser that keeps nothing: they hold until the page is closed.
    }
    this.draw();
  }

  // ---------------------------------------------------------------- asking and stopping

  private send(text: string): void {
    if (!text) return;
    const { speak } = this.settings;
    if (speak) this.sound.unlock();
    const interrupted = this.interrupt();
    const id = newId();
    const turn = this.talk.conversation.ask(id, text, speak);
    this.sentAt.set(id, Date.now());
    this.notice = "";
    if (speak) {
      this.player.play(this.talk.hear(id));
      this.sounding = { turnId: id, how: "live" };
    }
    void this.talk.ask(turn, this.speech(), interrupted);
    this.draw();
  }

  private speech(): Speech | false {
    const { speak, voice, speed } = this.settings;
    if (!speak) return false;
    return { ...(voice ? { voice } : {}), ...(speed === 1 ? {} : { speed }) };
  }

  /** Ends what is under way: the sound here at once, the turn wherever it runs. */
  private async interrupt(): Promise<void> {
    const { sounding, talk } = this;
    const heardMs = this.heardMs();
    this.silence();
    const open = talk.conversation.open.find((turn) => turn.state !== "sending");
    const own = sounding?.how === "live" ? talk.conversation.get(sounding.turnId) : undefined;
    if (own?.own && own.state !== "sending" && own.state !== "failed") await talk.cancel(own.id, heardMs);
    else if (open) await talk.cancel(open.id, null);
  }

  /** How much of a live voice was heard; null where that says nothing about what was understood. */
  private heardMs(): number | null {
    const voice = this.sounding && this.talk.voice(this.sounding.turnId);
    if (!voice || voice.error || this.sound.blocked) return null;
    return Math.round((this.player.heard() * 1000) / SAMPLE_RATE);
  }

  private silence(): void {
    this.player.stop();
    this.recording.stop();
    this.sounding = null;
    this.draw();
  }

  // ---------------------------------------------------------------- hearing

  /** The button of a turn: listen to its voice, again or while it is being made. */
  private async toggle(turnId: string): Promise<void> {
    this.sound.unlock();
    const stops = this.sounding?.turnId === turnId;
    const { talk } = this;
    if (stops && this.sounding?.how === "live" && talk.conversation.get(turnId)?.own) return this.interrupt();
    this.silence();
    if (stops) return;
    let voice = talk.voice(turnId);
    if (!voice?.ended) voice = await talk.recall(turnId);
    if (talk !== this.talk || this.sounding !== null) return;
    const played = !this.isUnderWay(turnId, voice) && (await this.playObject(turnId, voice));
    if (!played && talk === this.talk && this.sounding === null) this.playChunks(turnId, voice);
    this.draw();
  }

  /** More of this voice may come: there is no object yet. */
  private isUnderWay(turnId: string, voice: Voice): boolean {
    if (voice.ended) return false;
    return voice.samples > 0 || !this.talk.conversation.get(turnId)?.ended;
  }

  /** The stored voice, which is kept for longer than its events and than the link in them. */
  private async playObject(turnId: string, voice: Voice): Promise<boolean> {
    if (voice.error || voice.stored?.key === null) return false;
    const known = voice.stored?.url ?? null;
    const fresh = known !== null && (validUntil(known) ?? Infinity) > Date.now();
    const { talk } = this;
    const url = fresh ? known : await talk.link(turnId);
    if (url === null || talk !== this.talk || this.sounding !== null) return false;
    const claimed: Sounding = { turnId, how: "object" };
    this.sounding = claimed;
    try {
      await this.recording.play(url);
      return true;
    } catch (error) {
      if (this.sounding !== claimed) return true; // stopped, or something else plays by now
      console.info("main.object_not_played", String(error));
      this.sounding = null;
      return false;
    }
  }

  private playChunks(turnId: string, voice: Voice): void {
    if (voice.ended && voice.samples === 0) {
      this.missing.add(turnId);
      this.notice = "There is no recording of this answer.";
      return;
    }
    if (voice.samples === 0 && this.talk.conversation.get(turnId)?.ended) {
      this.missing.add(turnId);
      this.notice = "The recording of this answer is not kept any more.";
      return;
    }
    this.player.play(voice);
    this.sounding = { turnId, how: voice.ended ? "chunks" : "live" };
  }

  /** A voice was read anew: what was missed is in it. */
  private onVoice(turnId: string, voice: Voice): void {
    if (this.sounding?.turnId === turnId && this.sounding.how !== "object") this.player.replace(voice);
  }

  private onSound(): void {
    this.tick();
    this.draw();
  }

  private tick(): void {
    const { sounding, talk } = this;
    this.player.pump();
    if (sounding?.how === "object" && !this.recording.playing && this.recording.over) this.silence();
    if (sounding && sounding.how !== "object" && this.player.finished) {
      talk.voice(sounding.turnId)?.release();
      this.silence();
    }
    const turn = sounding?.how === "live" ? talk.conversation.get(sounding.turnId) : undefined;
    // Nothing will come, or somebody else stopped it.
    if (turn?.voiced === false || turn?.state === "interrupted") this.silence();
    this.state = this.currentState();
    if (this.sounding || talk.conversation.open.length) this.draw();
  }

  // ---------------------------------------------------------------- showing

  private draw(): void {
    if (this.drawing) return;
    this.drawing = true;
    const now = (): void => {
      this.drawing = false;
      this.player.pump();
      this.show();
    };
    // In a hidden page frames do not come, and nobody looks.
    if (document.visibilityState === "visible") requestAnimationFrame(now);
    else setTimeout(now, PUMP_MS);
  }

  private show(): void {
    const { talk, bus, sounding } = this;
    const { conversation } = talk;
    const turns = conversation.turns.map((turn) => this.turnView(turn));
    this.view.show({
      connection: bus.connection,
      loading: talk.loading && !conversation.turns.length,
      turns,
      settings: this.settings,
      canStop: sounding !== null || conversation.open.some((turn) => turn.state !== "sending"),
      blocked: sounding !== null && sounding.how !== "object" && this.sound.blocked,
      notice: this.notice,
    });
    this.announce(conversation.turns);
    this.state = this.currentState();
  }

  private announce(turns: Turn[]): void {
    for (const turn of turns) {
      if (!turn.ended || this.announced.has(turn.id)) continue;
      this.announced.add(turn.id);
      // What is read aloud by the voice is not read out by a screen reader as well.
      if (turn.own && !turn.voiced && turn.state === "complete") this.view.announce(turn.text);
    }
  }

  private turnView(turn: Turn): TurnView {
    const { id, question, text, state } = turn;
    const sounding = this.sounding?.turnId === id && this.isAudible();
    return {
      id,
      question,
      text,
      marks: { heard: this.heardRange(turn), keptTo: state === "interrupted" ? turn.kept : null },
      state,
      note: this.note(turn, sounding),
      error: state === "failed" ? { ...explain(turn.error), code: turn.error?.code ?? "" } : null,
      sounding,
      sound: this.soundOf(turn),
    };
  }

  private isAudible(): boolean {
    if (this.sounding?.how === "object") return this.recording.playing;
    return this.player.hearing() !== null && !this.sound.blocked;
  }

  private heardRange(turn: Turn): [number, number] | null {
    if (this.sounding?.turnId !== turn.id) return null;
    const object = this.sounding.how === "object";
    const voice = this.talk.voice(turn.id);
    const piece = object ? voice?.pieceAt(this.recording.samples) : this.player.hearing();
    return piece ? [utf16(turn.text, piece.start), utf16(turn.text, piece.end)] : null;
  }

  private soundOf(turn: Turn): TurnView["sound"] {
    // What one's own question brought is stopped where one writes: that stops the turn as well.
    if (this.sounding?.turnId === turn.id) return turn.own && this.sounding.how === "live" ? "none" : "stop";
    const silent = turn.voiced === false || this.missing.has(turn.id) || !turn.text;
    if (silent || turn.state === "failed" || turn.state === "sending") return "none";
    return turn.ended ? "play" : "listen";
  }

  private note(turn: Turn, sounding: boolean): string {
    const connected = this.bus.connection === "connected";
    const slow = Date.now() - (this.sentAt.get(turn.id) ?? Date.now()) > SLOW_MS;
    switch (turn.state) {
      case "sending":
        return connected && !slow ? "Sending …" : "Will be sent as soon as the service can be reached.";
      case "waiting":
        return slow ? "Nobody has begun to answer yet. Your question is safe; it will be answered." : "";
      case "answering":
        return sounding ? "Speaking" : "";
      case "failed":
        return "";
      case "interrupted":
        if (turn.kept === null || turn.kept >= turn.text.trimEnd().length) return "Stopped";
        return turn.kept === 0 ? "Stopped before it was heard" : "Stopped; the grey part was not heard";
      case "complete":
        break;
    }
    if (sounding) return "Speaking";
    const error = this.talk.voice(turn.id)?.error;
    if (error) return `No voice: ${explain(error).what}`;
    return turn.cutShort ? "Cut off at the longest length that is allowed." : "";
  }

  // ---------------------------------------------------------------- for tests

  state: unknown = null;

  private currentState(): unknown {
    const { player, sounding, talk } = this;
    return {
      connection: this.bus.connection,
      conversation: talk.conversation.id,
      sounding: sounding && { ...sounding },
      scheduled: player.scheduled,
      heard: player.playing ? player.heard() : 0,
      gaps: player.gaps,
      turns: talk.conversation.turns.map(({ id, state, text, kept }) => ({ id, state, text, kept })),
    };
  }
}

function readSettings(voices: Voices[]): Settings {
  const settings: Settings = { speak: true, voice: "", speed: 1 };
  try {
    const kept = JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") as Partial<Settings>;
    if (typeof kept.speak === "boolean") settings.speak = kept.speak;
    if (voices.some(({ id }) => id === kept.voice)) settings.voice = kept.voice as string;
    if (typeof kept.speed === "number" && kept.speed >= 0.25 && kept.speed <= 4) settings.speed = kept.speed;
  } catch {
    // Nothing kept, or not by us.
  }
  return settings;
}

/** Nobody guesses it. Works without a secure context, unlike crypto.randomUUID. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Beside the page stands where NATS is; without it, behind the same address at /nats. */
async function readConfig(): Promise<Config> {
  let config: Config = { nats_url: "/nats" };
  try {
    const answer = await fetch("config.json", { cache: "no-store" });
    if (answer.ok) config = (await answer.json()) as Config;
  } catch (error) {
    console.info("main.no_config", String(error));
  }
  const url = new URL(config.nats_url, location.href);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  return { ...config, nats_url: url.href };
}

declare global {
  interface Window {
    /** What the page knows, for its tests. */
    parley?: { readonly state: unknown };
  }
}

const app = new App(await readConfig());
window.parley = {
  get state() {
    return app.state;
  },
};
