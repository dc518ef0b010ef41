export type * from "./contract.ts";
export { SAMPLE_RATE } from "./contract.ts";
export type { ConnectOptions, ConnectionState } from "./connection.ts";
export { Conversation, Exchange } from "./conversation.ts";
export type { ExchangeState } from "./conversation.ts";
export {
  Busy, DeadlineExceeded, Internal, InvalidRequest, NotFound, ParleyError, ProviderAuth, ProviderBroken,
  ProviderError, ProviderOverloaded, ProviderRateLimited, ProviderRefused, ProviderStalled,
  StorageUnavailable, TooLarge, Unauthorized, Unreachable,
} from "./errors.ts";
export type { ErrorCode } from "./errors.ts";
export { isVoice } from "./events.ts";
export type { Chunk, TextEvent, TurnEvent, VoiceEvent } from "./events.ts";
export { newId } from "./ids.ts";
export { LiveConversation } from "./live.ts";
export type { AskOptions, FollowOptions, HistoryOptions, ReadOptions, SayOptions } from "./parley.ts";
export type { Position } from "./position.ts";
export { Player } from "./player.ts";
export type { Caption, Heard, PlayerOptions } from "./player.ts";
export type { Sink, Sounding } from "./playback.ts";
export type { Limits } from "./reader.ts";
export { Turn } from "./turn.ts";
export { Voice, utf16 } from "./voice.ts";
export type { Spoken } from "./voice.ts";
export { wav } from "./wav.ts";
