import type { Code, ErrorCode } from "@parley/client";

/** What went wrong, and what to do about it, in the words of someone who asks a question. */
const WORDS: Record<Code, [what: string, advice: string]> = {
  invalid_request: [
    "The question was not understood by the service.",
    "Try it without a special voice or speed. If that does not help, the page and the service are of different versions.",
  ],
  too_large: ["The question is too long.", "Shorten it, or ask in several steps."],
  busy: [
    "Too many questions are waiting in this conversation.",
    "Wait for an answer, then ask again.",
  ],
  not_found: ["What this refers to is not there any more.", "Start a new conversation."],
  provider_auth: [
    "The model's provider refuses this installation.",
    "Whoever runs it has to look at the key and the spending limit. Asking again will not help before that.",
  ],
  provider_rate_limited: [
    "The model's provider is getting too many questions from here.",
    "Wait half a minute, then ask again.",
  ],
  provider_overloaded: [
    "The model's provider is overloaded.",
    "Ask again in a moment.",
  ],
  provider_refused: [
    "The model's provider did not accept this question.",
    "Put it in other words, or choose another voice.",
  ],
  provider_stalled: ["The model stopped in mid-answer.", "Ask again."],
  provider_broken: ["The line to the model broke.", "Ask again."],
  storage_unavailable: [
    "The recording could not be kept.",
    "The answer itself is complete; play it again later.",
  ],
  deadline_exceeded: ["The answer took too long.", "Ask again, or ask for less at once."],
  internal: [
    "Something went wrong inside the service.",
    "Ask again. If it stays like this, whoever runs it finds the reason in the log.",
  ],
};

export interface Explained {
  what: string;
  advice: string;
}

export function explain(failure: { code: ErrorCode } | null): Explained {
  if (failure === null) {
    return { what: "This question was never answered.", advice: "Ask again." };
  }
  const known = WORDS[failure.code as Code] as [string, string] | undefined;
  const [what, advice] = known ?? WORDS.internal;
  return { what, advice };
}
