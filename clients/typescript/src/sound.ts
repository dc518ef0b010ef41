import { SAMPLE_RATE } from "./contract.ts";
import type { Sink, Sounding } from "./playback.ts";

/** The browser's sound: Web Audio for a voice that is being made, an element for a stored one. */
export class WebSound implements Sink {
  private context: AudioContext | null = null;

  constructor(private readonly onChange: () => void = () => undefined) {}

  /** To be called in a gesture of the user: before one, browsers play nothing. */
  unlock(): void {
    this.open();
    if (this.context?.state !== "running") void this.context?.resume().catch(() => undefined);
  }

  /** True while the browser waits for a gesture. */
  get blocked(): boolean {
    return this.context !== null && this.context.state !== "running";
  }

  now(): number {
    return Math.ceil((this.context?.currentTime ?? 0) * SAMPLE_RATE);
  }

  heard(): number {
    const context = this.context;
    if (context === null) return 0;
    const latency = context.outputLatency || context.baseLatency || 0;
    return Math.floor((context.currentTime - latency) * SAMPLE_RATE);
  }

  play(pcm: Int16Array, at: number): Sounding {
    const context = this.open();
    const buffer = context.createBuffer(1, pcm.length, SAMPLE_RATE);
    const channel = buffer.getChannelData(0);
    for (let i = 0; i < pcm.length; i += 1) channel[i] = (pcm[i] as number) / 32768;
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(context.destination);
    source.addEventListener("ended", this.onChange);
    source.start(at / SAMPLE_RATE);
    return {
      stop: () => {
        source.removeEventListener("ended", this.onChange);
        source.stop();
        source.disconnect();
      },
    };
  }

  private open(): AudioContext {
    if (this.context === null) {
      // At the voice's own rate nothing is resampled, so that chunks meet without a seam.
      this.context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "interactive" });
      this.context.addEventListener("statechange", this.onChange);
    }
    return this.context;
  }
}

/** Plays a stored object. */
export class Recording {
  private readonly element = new Audio();

  constructor(private readonly onChange: () => void) {
    this.element.preload = "none";
    for (const kind of ["ended", "pause", "playing", "timeupdate"]) {
      this.element.addEventListener(kind, onChange);
    }
  }

  /** Rejects when the link is not valid any more, or cannot be played. */
  async play(url: string): Promise<void> {
    this.element.src = url;
    await this.element.play();
  }

  get playing(): boolean {
    return this.element.src !== "" && !this.element.paused && !this.element.ended;
  }

  /** It has come to its end. */
  get over(): boolean {
    return this.element.ended || this.element.error !== null;
  }

  /** How much was heard. */
  get samples(): number {
    return Math.floor(this.element.currentTime * SAMPLE_RATE);
  }

  stop(): void {
    if (!this.element.src) return;
    this.element.pause();
    this.element.removeAttribute("src");
    this.onChange();
  }
}
