import type { ConnectionState, ExchangeState } from "@parley/client";

import type { Explained } from "./errors.ts";
import { el, icon, setAttribute, setText } from "./dom.ts";
import { Prose } from "./prose.ts";
import type { Marks } from "./prose.ts";

export interface Settings {
  speak: boolean;
  voice: string; // empty: the service's own
  speed: number;
}

export interface TurnView {
  id: string;
  question: string | null;
  text: string;
  marks: Marks;
  state: ExchangeState;
  note: string; // what there is to say about it, in a few words
  error: (Explained & { code: string }) | null;
  sounding: boolean;
  /** What the button for its voice does. */
  sound: "none" | "listen" | "play" | "stop";
}

export interface Page {
  connection: ConnectionState;
  loading: boolean;
  turns: TurnView[];
  settings: Settings;
  canStop: boolean;
  /** The browser plays nothing before a gesture. */
  blocked: boolean;
  notice: string;
}

export interface Handlers {
  send(text: string): void;
  stop(): void;
  sound(turnId: string): void;
  again(turnId: string): void;
  fresh(): void;
  unlock(): void;
  change(settings: Settings): void;
}

export interface Voices {
  id: string;
  name: string;
}

const MOST_CHARACTERS = 20_000;
const SPEEDS = [0.75, 1, 1.25, 1.5, 1.75, 2];
const IDEAS = [
  "Why is the sky blue?",
  "Tell me a very short story about a lighthouse.",
  "Explain NATS to a ten-year-old.",
];
const SEND = icon("M12 19V5", "M5.500 11.500 12 5l6.500 6.500");
const STOP = icon("M7.500 7.500h9v9h-9z");
const CONNECTION: Record<ConnectionState, string> = {
  connecting: "Connecting …",
  connected: "Connected",
  lost: "Connection lost, trying again …",
  refused: "The server cannot be reached, trying again …",
  closed: "Not connected",
};

/** Everything that is seen. */
export class View {
  private readonly turns = new Map<string, TurnNode>();
  private readonly list = el("ol", { class: "turns" });
  private readonly welcome: HTMLElement;
  private readonly connection = el("span", { class: "connection", role: "status" });
  private readonly banner = el("p", { class: "banner", role: "status", hidden: true });
  private readonly spoken = el("p", { class: "unseen", role: "status" });
  private readonly input = el("textarea", {
    id: "question", rows: "1", maxlength: String(MOST_CHARACTERS), autocomplete: "off",
    placeholder: "Ask something …", enterkeyhint: "send", "aria-label": "Your question",
  });
  private readonly sendButton = el("button", { type: "submit", class: "round send", "aria-label": "Send" }, SEND);
  private readonly stopButton: HTMLButtonElement;
  private readonly unlockButton: HTMLButtonElement;
  private readonly latest: HTMLButtonElement;
  private readonly summary = el("span");
  private readonly speak = el("input", { type: "checkbox", role: "switch", id: "speak" });
  private readonly voice: HTMLSelectElement;
  private readonly speed: HTMLSelectElement;
  private readonly voices: Voices[];
  private readonly details = el("details", { class: "settings" });
  private height = 0; // of all there is, when it was last shown
  private follows = true; // the newest words stay in sight

  constructor(private readonly handlers: Handlers, voices: Voices[]) {
    this.voices = [{ id: "", name: "The usual voice" }, ...voices];
    const options = this.voices.map(({ id, name }) => el("option", { value: id }, name));
    this.voice = el("select", { id: "voice" }, ...options);
    const speeds = SPEEDS.map((speed) => el("option", { value: String(speed) }, `${speed} ×`));
    this.speed = el("select", { id: "speed" }, ...speeds);
    this.stopButton = el(
      "button",
      { type: "button", class: "round stop", "aria-label": "Stop", title: "Stop (Esc)", onclick: () => handlers.stop() },
      STOP,
    );
    this.unlockButton = el(
      "button",
      { type: "button", class: "pill unlock", hidden: true, onclick: () => handlers.unlock() },
      icon("M5 9.500v5h3.500L13 18V6L8.500 9.500z", "M16 9a4 4 0 0 1 0 6", "M18.500 6.500a8 8 0 0 1 0 11"),
      "Turn the sound on",
    );
    this.latest = el(
      "button",
      { type: "button", class: "pill latest", hidden: true, onclick: () => this.toEnd() },
      "To the newest words",
    );
    this.welcome = this.makeWelcome();
    document.body.replaceChildren(
      el("a", { class: "skip", href: "#question", onclick: (event: Event) => this.skip(event) }, "Skip to your question"),
      this.makeHeader(),
      el("main", {}, this.welcome, this.list, this.spoken),
      this.makeFooter(),
    );
    addEventListener("scroll", () => this.onScroll(), { passive: true });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.stopButton.hidden) handlers.stop();
    });
    // A telephone has no room for a keyboard that nobody asked for.
    if (matchMedia("(pointer: fine)").matches) this.input.focus();
  }

  // ---------------------------------------------------------------- made once

  private makeHeader(): HTMLElement {
    const fresh = el(
      "button",
      { type: "button", class: "pill", onclick: () => this.handlers.fresh() },
      icon("M12 5v14", "M5 12h14"),
      el("span", { class: "long" }, "New conversation"),
      el("span", { class: "short" }, "New"),
    );
    const logo = icon("M4 10v4", "M9.300 6v12", "M14.700 3v18", "M20 9v6");
    return el("header", {}, el("h1", {}, logo, "Parley"), this.connection, fresh);
  }

  private makeWelcome(): HTMLElement {
    const ideas = IDEAS.map((idea) =>
      el("button", { type: "button", class: "idea", onclick: () => this.handlers.send(idea) }, idea),
    );
    return el(
      "section",
      { class: "welcome", hidden: true },
      el("h2", {}, "What would you like to hear?"),
      el("p", {}, "Ask in writing. The answer comes as words and as a voice, while it is being made."),
      el("div", { class: "ideas" }, ...ideas),
    );
  }

  private makeFooter(): HTMLElement {
    const form = el(
      "form",
      { class: "composer", onsubmit: (event: Event) => this.submit(event) },
      this.input,
      el("div", { class: "bar" }, this.makeSettings(), this.stopButton, this.sendButton),
    );
    this.input.addEventListener("input", () => this.fit());
    this.input.addEventListener("keydown", (event) => {
      // While a word is being composed (Japanese, Chinese), Enter belongs to that.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.submit(event);
    });
    return el("footer", {}, el("div", { class: "floating" }, this.latest, this.unlockButton), this.banner, form);
  }

  private makeSettings(): HTMLElement {
    const change = (): void =>
      this.handlers.change({
        speak: this.speak.checked,
        voice: this.voice.value,
        speed: Number(this.speed.value),
      });
    for (const control of [this.speak, this.voice, this.speed]) control.addEventListener("change", change);
    const panel = el(
      "div",
      { class: "panel" },
      el("div", { class: "row" }, el("label", { for: "speak" }, "Read answers aloud"), this.speak),
      el("div", { class: "row" }, el("label", { for: "voice" }, "Voice"), this.voice),
      el("div", { class: "row" }, el("label", { for: "speed" }, "Speed"), this.speed),
      el("p", {}, "Holds from the next question on."),
    );
    const { details } = this;
    details.append(
      el("summary", { "aria-label": "Voice settings" }, icon("M5 10v4", "M9.700 7v10", "M14.300 4v16", "M19 9.500v5"), this.summary),
      panel,
    );
    addEventListener("click", (event) => {
      if (details.open && !details.contains(event.target as Node)) details.open = false;
    });
    details.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !details.open) return;
      details.open = false;
      details.querySelector("summary")?.focus();
      event.stopPropagation();
    });
    return details;
  }

  // ---------------------------------------------------------------- what the user does

  private submit(event: Event): void {
    event.preventDefault();
    const text = this.input.value.trim();
    if (!text) return;
    this.input.value = "";
    this.fit();
    this.details.open = false;
    this.follows = true;
    this.handlers.send(text);
  }

  private skip(event: Event): void {
    event.preventDefault(); // the address names the conversation
    this.input.focus();
  }

  private fit(): void {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, innerHeight * 0.35)}px`;
    this.sendButton.disabled = this.input.value.trim() === "";
  }

  private onScroll(): void {
    const left = document.documentElement.scrollHeight - innerHeight - scrollY;
    this.follows = left < 80;
    this.latest.hidden = this.follows || this.turns.size === 0;
  }

  private toEnd(): void {
    this.follows = true;
    this.latest.hidden = true;
    scrollTo({ top: document.documentElement.scrollHeight });
  }

  /** Another conversation: nothing of the old one stays. */
  clear(): void {
    this.turns.clear();
    this.list.replaceChildren();
    this.follows = true;
    this.input.focus();
  }

  /** For those who hear the page instead of seeing it. */
  announce(words: string): void {
    this.spoken.textContent = words;
  }

  // ---------------------------------------------------------------- what is shown

  show(page: Page): void {
    setText(this.connection, CONNECTION[page.connection]);
    setAttribute(this.connection, "data-state", page.connection);
    const notice = page.notice;
    setText(this.banner, notice);
    this.banner.hidden = notice === "";
    this.welcome.hidden = page.loading || page.turns.length > 0;
    this.stopButton.hidden = !page.canStop;
    this.unlockButton.hidden = !page.blocked;
    this.showSettings(page.settings);
    this.showTurns(page.turns);
    this.sendButton.disabled = this.input.value.trim() === "";
    const height = document.documentElement.scrollHeight;
    if (this.follows && height !== this.height) scrollTo({ top: height });
    this.height = height;
  }

  private showSettings({ speak, voice, speed }: Settings): void {
    this.speak.checked = speak;
    this.voice.value = voice;
    this.speed.value = String(speed);
    this.voice.disabled = this.speed.disabled = !speak;
    const name = this.voices.find(({ id }) => id === voice)?.name ?? voice;
    const words = voice === "" ? "Voice on" : (name.split(",")[0] as string);
    setText(this.summary, speak ? `${words}${speed === 1 ? "" : ` · ${speed} ×`}` : "Text only");
  }

  private showTurns(turns: TurnView[]): void {
    const known = new Set(turns.map((turn) => turn.id));
    for (const [id, node] of this.turns) {
      if (known.has(id)) continue;
      node.element.remove();
      this.turns.delete(id);
    }
    turns.forEach((turn, at) => {
      let node = this.turns.get(turn.id);
      if (!node) {
        node = new TurnNode(turn.id, this.handlers);
        this.turns.set(turn.id, node);
      }
      const place = this.list.children[at] ?? null;
      if (place !== node.element) this.list.insertBefore(node.element, place);
      node.show(turn);
    });
  }
}

const SOUND_WORDS = { none: "", listen: "Listen", play: "Play", stop: "Stop playing" };
const PLAY = "M8 5.500v13l10.500-6.500z";

class TurnNode {
  private readonly question = el("p", { class: "words", dir: "auto" });
  private readonly prose = new Prose();
  private readonly dots = el("span", { class: "dots", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
  private readonly waves = el("span", { class: "waves", "aria-hidden": "true" }, el("i"), el("i"), el("i"), el("i"));
  private readonly note = el("span", { class: "note" });
  private readonly soundLabel = el("span");
  private readonly sound: HTMLButtonElement;
  private readonly foot: HTMLElement;
  private readonly what = el("strong");
  private readonly advice = el("span");
  private readonly code = el("code");
  private readonly error: HTMLElement;
  private readonly asked: HTMLElement;
  readonly element: HTMLElement;

  constructor(id: string, handlers: Handlers) {
    const play = icon(PLAY);
    play.classList.add("play");
    const stop = icon("M7.500 7.500h9v9h-9z");
    stop.classList.add("halt");
    this.sound = el(
      "button",
      { type: "button", class: "quiet", onclick: () => handlers.sound(id) },
      play, stop, this.soundLabel,
    );
    this.error = el(
      "div",
      { class: "error", role: "alert", hidden: true },
      el("p", {}, this.what, " ", this.advice, " ", this.code),
      el("button", { type: "button", class: "pill", onclick: () => handlers.again(id) }, "Ask again"),
    );
    this.asked = el("div", { class: "asked" }, el("span", { class: "unseen" }, "You asked:"), this.question);
    this.foot = el("div", { class: "foot" }, this.dots, this.waves, this.note, this.sound);
    this.element = el(
      "li",
      { class: "turn", "data-turn": id },
      this.asked,
      el("div", { class: "answer" }, el("span", { class: "unseen" }, "Answer:"), this.prose.element, this.error, this.foot),
    );
  }

  show(turn: TurnView): void {
    this.asked.hidden = !turn.question;
    setText(this.question, turn.question ?? "");
    this.prose.show(turn.text, turn.marks);
    setAttribute(this.element, "data-state", turn.state);
    const working = turn.state === "sending" || turn.state === "waiting" || turn.state === "answering";
    this.dots.hidden = !working || turn.sounding;
    this.waves.hidden = !turn.sounding;
    setText(this.note, turn.note);
    this.sound.hidden = turn.sound === "none";
    setAttribute(this.sound, "data-does", turn.sound);
    setText(this.soundLabel, SOUND_WORDS[turn.sound]);
    this.foot.hidden = this.dots.hidden && this.waves.hidden && this.sound.hidden && turn.note === "";
    this.error.hidden = turn.error === null;
    if (turn.error) {
      setText(this.what, turn.error.what);
      setText(this.advice, turn.error.advice);
      setText(this.code, turn.error.code);
      this.code.hidden = turn.error.code === "";
    }
  }
}
