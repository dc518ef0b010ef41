import { DeadlineExceeded, Parley, ParleyError, Player, Recording, SAMPLE_RATE, Voice, WebSound, newId, utf16 } from "@parley/client";
import type { ConnectionState, Exchange, LiveConversation, Speech, Turn } from "@parley/client";

import { readConfig, tokenOf } from "./config.ts";
import type { Config } from "./config.ts";
import { explain } from "./errors.ts";
import { View } from "./view.ts";
import type { Settings, TurnView, Voices } from "./view.ts";

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
const TICK_MS = 100;
const CANCEL_MS = 1_000; // a question does not wait longer for the end of what it interrupts
const NOT_KEPT_MS = 15_000; // a voice of which nothing came for so long is not there
const SLOW_MS = 8_000; // then it is said that nobody has begun to answer

/** What sounds: a voice by its chunks (`live`: it is still being made for us), or a stored object. */
interface Sounding {
  turnId: string;
  how: "live" | "chunks" | "object";
}

class App {
  private readonly view: View;
  private readonly sound = new WebSound(() => this.onSound());
  private readonly recording = new Recording(() => this.onSound());
  private readonly player = new Player(this.sound, { onCaption: () => this.draw() });
  private parley!: Parley;
  private talk: LiveConversation;
  private connection: ConnectionState = "connecting";
  private settings: Settings;
  private sounding: Sounding | null = null;
  private notice = "";
  private drawing = false;
  private readonly sentAt = new Map<string, number>();
  private readonly voices = new Map<string, Voice>(); // what was said where, of recordings that play
  private readonly voiceless = new Map<string, ParleyError>();
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
        again: (turnId) => this.send(this.talk.get(turnId)?.question ?? ""),
        fresh: () => this.fresh(),
        unlock: () => this.sound.unlock(),
        change: (settings) => this.change(settings),
      },
      voices,
    );
    this.talk = this.open();
    addEventListener("hashchange", () => this.reopen());
    addEventListener("online", () => this.parley.wake());
    document.addEventListener("visibilitychange", () => this.draw());
    setInterval(() => this.tick(), TICK_MS);
    this.draw();
  }

  // ---------------------------------------------------------------- which conversation

  private open(): LiveConversation {
    let id = location.hash.slice(1);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
      id = newId();
      history.replaceState(null, "", `#${id}`);
    }
    const { nats_url, token_url, nats_user, nats_password } = this.config;
    // Each has a connection of its own: a token is for one conversation.
    const parley = Parley.open(nats_url, {
      name: "parley-web",
      ...(token_url ? { token: () => tokenOf(token_url, id) } : { user: nats_user, password: nats_password }),
      onConnection: (state) => {
        if (parley !== this.parley) return;
        this.connection = state;
        this.draw();
      },
    });
    this.parley = parley;
    this.connection = parley.state;
    return parley.conversation(id, () => this.draw());
  }

  private reopen(): void {
    if (location.hash.slice(1) === this.talk.id) return;
    this.silence();
    this.talk.close();
    void this.parley.close();
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
    const after = this.interrupt();
    const turn = this.talk.ask(text, { onBusy: "interrupt", speech: this.speech(), after });
    this.sentAt.set(turn.turnId, Date.now());
    this.notice = "";
    if (speak) void this.play(turn, { turnId: turn.turnId, how: "live" });
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
    const heardMs = this.silence();
    const own = sounding?.how === "live" ? talk.get(sounding.turnId) : undefined;
    const open = talk.open.find((turn) => turn.state !== "sending");
    const stopped = own?.own && own.state !== "sending" && own.state !== "failed" ? own : open;
    if (!stopped) return;
    const cancelled = talk.cancel(stopped.id, stopped === own ? { heardMs } : {});
    const late = new Promise((resolve) => setTimeout(resolve, CANCEL_MS));
    await Promise.race([late, cancelled.catch((error: unknown) => console.info("main.cancel", String(error)))]);
  }

  /** How much of a live voice was heard; undefined where that says nothing about what was understood. */
  private silence(): number | undefined {
    const { sounding } = this;
    const told = sounding !== null && !this.voiceless.has(sounding.turnId) && !this.sound.blocked;
    this.sounding = null;
    const { heardMs } = this.player.stop();
    this.recording.stop();
    this.draw();
    return told ? heardMs : undefined;
  }

  // ---------------------------------------------------------------- hearing

  /** The button of a turn: listen to its voice, again or while it is being made. */
  private async toggle(turnId: string): Promise<void> {
    this.sound.unlock();
    const { talk } = this;
    const exchange = talk.get(turnId);
    const stops = this.sounding?.turnId === turnId;
    if (stops && this.sounding?.how === "live" && exchange?.own) return this.interrupt();
    this.silence();
    if (stops || !exchange) return;
    const claimed: Sounding = { turnId, how: exchange.ended ? "chunks" : "live" };
    this.sounding = claimed;
    const idle = exchange.ended ? { idleMs: NOT_KEPT_MS } : {};
    const turn = this.parley.follow(talk.id, turnId, idle);
    // The stored voice is kept for longer than its events; of one that is being made there is none.
    if (exchange.ended && (await this.playObject(turn, claimed))) return;
    if (this.sounding === claimed) await this.play(turn, claimed);
  }

  /** False where there is no object, or it cannot be played. */
  private async playObject(turn: Turn, claimed: Sounding): Promise<boolean> {
    try {
      const { url } = await turn.link();
      if (this.sounding !== claimed) return true; // stopped, or something else plays by now
      claimed.how = "object";
      void this.recall(turn);
      await this.recording.play(url);
      return true;
    } catch (error) {
      console.info("main.object_not_played", String(error));
      if (this.sounding !== claimed) return true;
      claimed.how = "chunks";
      return false;
    }
  }

  /** What was said where, for the marks. */
  private async recall(turn: Turn): Promise<void> {
    if (this.voices.has(turn.turnId)) return;
    const voice = new Voice();
    this.voices.set(turn.turnId, voice);
    try {
      await turn.collect(voice);
    } catch (error) {
      console.info("main.voice_not_read", String(error));
    }
    voice.release();
  }

  /** From its events, while it is being made or after that. */
  private async play(turn: Turn, claimed: Sounding): Promise<void> {
    this.sounding = claimed;
    try {
      const { heardMs, complete } = await turn.play(this.player);
      if (complete && heardMs === 0 && claimed.how === "chunks") this.lacks(turn.turnId, "There is no recording of this answer.");
    } catch (error) {
      console.info("main.not_played", String(error));
      if (claimed.how === "chunks" && error instanceof DeadlineExceeded) {
        this.lacks(turn.turnId, "The recording of this answer is not kept any more.");
      } else if (error instanceof ParleyError) this.voiceless.set(turn.turnId, error);
    }
    if (this.sounding === claimed) this.silence();
  }

  private lacks(turnId: string, notice: string): void {
    this.missing.add(turnId);
    this.notice = notice;
  }

  private onSound(): void {
    this.tick();
    this.draw();
  }

  private tick(): void {
    const { sounding, talk } = this;
    if (sounding?.how === "object" && !this.recording.playing && this.recording.over) this.silence();
    // Somebody else stopped it.
    if (sounding?.how === "live" && talk.get(sounding.turnId)?.state === "interrupted") this.silence();
    this.state = this.currentState();
    if (this.sounding || talk.open.length) this.draw();
  }

  // ---------------------------------------------------------------- showing

  private draw(): void {
    if (this.drawing) return;
    this.drawing = true;
    const now = (): void => {
      this.drawing = false;
      this.show();
    };
    // In a hidden page frames do not come, and nobody looks.
    if (document.visibilityState === "visible") requestAnimationFrame(now);
    else setTimeout(now, TICK_MS);
  }

  private show(): void {
    const { talk, sounding } = this;
    const turns = talk.turns.map((turn) => this.turnView(turn));
    this.view.show({
      connection: this.connection,
      loading: talk.loading && !turns.length,
      turns,
      settings: this.settings,
      canStop: sounding !== null || talk.open.some((turn) => turn.state !== "sending"),
      blocked: sounding !== null && sounding.how !== "object" && this.sound.blocked,
      notice: this.notice,
    });
    this.announce(talk.turns);
    this.state = this.currentState();
  }

  private announce(turns: readonly Exchange[]): void {
    for (const turn of turns) {
      if (!turn.ended || this.announced.has(turn.id)) continue;
      this.announced.add(turn.id);
      // What is read aloud by the voice is not read out by a screen reader as well.
      if (turn.own && !turn.voiced && turn.state === "complete") this.view.announce(turn.text);
    }
  }

  private turnView(turn: Exchange): TurnView {
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
    return this.player.caption !== null && !this.sound.blocked;
  }

  private heardRange(turn: Exchange): [number, number] | null {
    if (this.sounding?.turnId !== turn.id) return null;
    const object = this.sounding.how === "object";
    const voice = this.voices.get(turn.id);
    const piece = object ? voice?.pieceAt(this.recording.samples) : this.player.caption?.piece;
    return piece ? [utf16(turn.text, piece.start), utf16(turn.text, piece.end)] : null;
  }

  private soundOf(turn: Exchange): TurnView["sound"] {
    // What one's own question brought is stopped where one writes: that stops the turn as well.
    if (this.sounding?.turnId === turn.id) return turn.own && this.sounding.how === "live" ? "none" : "stop";
    const silent = turn.voiced === false || this.missing.has(turn.id) || !turn.text;
    if (silent || turn.state === "failed" || turn.state === "sending") return "none";
    return turn.ended ? "play" : "listen";
  }

  private note(turn: Exchange, sounding: boolean): string {
    const connected = this.connection === "connected";
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
    const error = this.voiceless.get(turn.id);
    if (error) return `No voice: ${explain(error).what}`;
    return turn.cutShort ? "Cut off at the longest length that is allowed." : "";
  }

  // ---------------------------------------------------------------- for tests

  state: unknown = null;

  private currentState(): unknown {
    const { player, sounding, talk } = this;
    return {
      connection: this.connection,
      conversation: talk.id,
      sounding: sounding && { ...sounding },
      ...player.counts,
      heard: player.playing ? Math.round((player.heardMs * SAMPLE_RATE) / 1_000) : 0,
      turns: talk.turns.map(({ id, state, text, kept }) => ({ id, state, text, kept })),
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
