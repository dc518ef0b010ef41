import { SAMPLE_RATE } from "./contract.ts";
import type { Sink, Sounding } from "./playback.ts";
import { littleEndian } from "./wav.ts";

/** What takes raw PCM: the standard input of `aplay -t raw -f S16_LE -r 24000`, a file, a socket. */
export interface Pcm {
  write(bytes: Uint8Array): unknown;
}

const SLICE = SAMPLE_RATE / 20; // samples: so much sounds on when it is stopped

/** Plays into a stream of bytes, at the pace at which it is heard: what is stopped was not written. */
export class StreamSink implements Sink {
  private readonly begun = performance.now();

  /** `latency`: seconds from a write to the ear. */
  constructor(
    private readonly into: Pcm,
    private readonly latency = 0,
  ) {}

  now(): number {
    return Math.ceil(((performance.now() - this.begun) * SAMPLE_RATE) / 1_000);
  }

  heard(): number {
    return this.now() - Math.round(this.latency * SAMPLE_RATE);
  }

  play(pcm: Int16Array, at: number): Sounding {
    const bytes = littleEndian(pcm);
    let written = 0;
    const write = (): void => {
      this.into.write(bytes.subarray(written * 2, (written + SLICE) * 2));
      written += SLICE;
      if (written < pcm.length) wait();
    };
    const wait = (): void => {
      timer = setTimeout(write, Math.max(((at + written - this.now()) * 1_000) / SAMPLE_RATE, 0));
    };
    let timer: ReturnType<typeof setTimeout>;
    wait();
    return { stop: () => clearTimeout(timer) };
  }
}
