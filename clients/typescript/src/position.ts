import { isVoice } from "./events.ts";
import type { TurnEvent } from "./events.ts";

/** How far a reader has come: so many events of each attempt. It may be kept as JSON. */
export interface Position {
  readonly textAttempt: number;
  readonly textEvents: number;
  readonly voiceAttempt: number;
  readonly voiceEvents: number;
}

export const START: Position = { textAttempt: 0, textEvents: 0, voiceAttempt: 0, voiceEvents: 0 };

/** Where a reader is that was given this event next. */
export function following(position: Position, event: TurnEvent): Position {
  const { attempt } = event;
  if (isVoice(event)) {
    const voiceEvents = attempt === position.voiceAttempt ? position.voiceEvents + 1 : 1;
    return { ...position, voiceAttempt: attempt, voiceEvents };
  }
  const textEvents = attempt === position.textAttempt ? position.textEvents + 1 : 1;
  return { ...position, textAttempt: attempt, textEvents };
}

/** Whether a reader at `position` was given the event that leads to `reached`. */
export function covers(position: Position, event: TurnEvent, reached: Position): boolean {
  const [attempt, events] = isVoice(event)
    ? (["voiceAttempt", "voiceEvents"] as const)
    : (["textAttempt", "textEvents"] as const);
  if (reached[attempt] !== position[attempt]) return reached[attempt] < position[attempt];
  return reached[events] <= position[events];
}
