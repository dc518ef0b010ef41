import { SAMPLE_RATE, SAMPLE_WIDTH } from "./contract.ts";

const HEAD = 44;

/** A WAV file of these samples: mono, 16 bits, 24,000 a second. */
export function wav(chunks: readonly Int16Array[]): Uint8Array<ArrayBuffer> {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0) * SAMPLE_WIDTH;
  const file = new Uint8Array(HEAD + length);
  const view = new DataView(file.buffer);
  const name = (at: number, text: string): void => file.set(new TextEncoder().encode(text), at);
  name(0, "RIFF");
  view.setUint32(4, HEAD - 8 + length, true);
  name(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, SAMPLE_RATE, true);
  view.setUint32(28, SAMPLE_RATE * SAMPLE_WIDTH, true);
  view.setUint16(32, SAMPLE_WIDTH, true);
  view.setUint16(34, SAMPLE_WIDTH * 8, true);
  name(36, "data");
  view.setUint32(40, length, true);
  let at = HEAD;
  for (const chunk of chunks) {
    file.set(littleEndian(chunk), at);
    at += chunk.length * SAMPLE_WIDTH;
  }
  return file;
}

/** The bytes of samples as they go over the wire, whatever the machine is. */
export function littleEndian(samples: Int16Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(samples.length * SAMPLE_WIDTH);
  const view = new DataView(bytes.buffer);
  samples.forEach((sample, index) => view.setInt16(index * SAMPLE_WIDTH, sample, true));
  return bytes;
}
