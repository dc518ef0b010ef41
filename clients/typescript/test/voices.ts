import type { VoiceEvent } from "../src/events.ts";

const ids = { conversation_id: "c", turn_id: "t" };

export const started = (attempt: number): VoiceEvent => ({ type: "audio_started", ...ids, attempt, model: "m", voice: "v" });
export const announced = (attempt: number, index: number, text = "x"): VoiceEvent => ({
  type: "piece", ...ids, attempt, index, text, chars: [0, 1],
});
export const sound = (attempt: number, seq: number, piece: number, length: number): VoiceEvent => ({
  type: "chunk", turn_id: "t", attempt, seq, piece, pcm: new Int16Array(length),
});
export const done = (attempt: number, index: number, samples: number): VoiceEvent => ({
  type: "piece_done", ...ids, attempt, index, samples,
});
export const stored = (attempt: number, pieces: number): VoiceEvent => ({
  type: "stored", ...ids, attempt, bucket: "b", key: "k", url: "http://127.0.0.1/k", content_type: "audio/wav",
  bytes: 1, sha256: "", duration_ms: 1, captions_key: null, pieces, characters: 1, finish: "complete",
});
export const broken = (attempt: number): VoiceEvent => ({
  type: "audio_failed", ...ids, attempt, error: { code: "internal", message: "broken", retryable: false },
});
