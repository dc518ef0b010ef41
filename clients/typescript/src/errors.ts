/**
 * What can go wrong, by whose fault it is. `code` is stable: programs branch on the class or on it.
 *
 *     ParleyError
 *      ├── InvalidRequest            invalid_request          the request was not understood
 *      │    └── TooLarge             too_large                over a limit
 *      ├── Busy                      busy                     a turn is under way, or too many wait
 *      ├── NotFound                  not_found                there is no such thing, or no more
 *      ├── ProviderError
 *      │    ├── ProviderAuth         provider_auth            its key, or a spending limit
 *      │    ├── ProviderRefused      provider_refused         the request itself
 *      │    ├── ProviderRateLimited  provider_rate_limited    too many requests
 *      │    ├── ProviderOverloaded   provider_overloaded      its capacity
 *      │    ├── ProviderStalled      provider_stalled         nothing came in time
 *      │    └── ProviderBroken       provider_broken          cut, or out of protocol
 *      ├── StorageUnavailable        storage_unavailable      a store or a stream took nothing
 *      ├── DeadlineExceeded          deadline_exceeded        it took too long
 *      ├── Internal                  internal                 a bug, or given up
 *      ├── Unreachable               unreachable              NATS is away, or nobody answers there
 *      └── Unauthorized              unauthorized             the login or token may not do this
 *
 * The last two are the client's own; all others are the codes of the services.
 */
import type { Code, Error as Told } from "./contract.ts";

export type ErrorCode = Code | "unreachable" | "unauthorized";

interface Facts extends ErrorOptions {
  code: ErrorCode;
  retryable: boolean;
}

/** Base of all; `retryable` says whether the same request may succeed later. */
export class ParleyError extends Error {
  override readonly name: string = "ParleyError";
  readonly code: ErrorCode;
  readonly retryable: boolean;

  constructor(message: string, { code, retryable, ...options }: Facts) {
    super(message || code, options);
    this.code = code;
    this.retryable = retryable;
  }
}

export class InvalidRequest extends ParleyError {
  override readonly name: string = "InvalidRequest";
}
export class TooLarge extends InvalidRequest {
  override readonly name = "TooLarge";
}
export class Busy extends ParleyError {
  override readonly name = "Busy";
}
export class NotFound extends ParleyError {
  override readonly name = "NotFound";
}
/** The provider of the models. */
export class ProviderError extends ParleyError {
  override readonly name: string = "ProviderError";
}
export class ProviderAuth extends ProviderError {
  override readonly name = "ProviderAuth";
}
export class ProviderRefused extends ProviderError {
  override readonly name = "ProviderRefused";
}
export class ProviderRateLimited extends ProviderError {
  override readonly name = "ProviderRateLimited";
}
export class ProviderOverloaded extends ProviderError {
  override readonly name = "ProviderOverloaded";
}
export class ProviderStalled extends ProviderError {
  override readonly name = "ProviderStalled";
}
export class ProviderBroken extends ProviderError {
  override readonly name = "ProviderBroken";
}
export class StorageUnavailable extends ParleyError {
  override readonly name = "StorageUnavailable";
}
/** A service, or a wait of this package, ran into its deadline. */
export class DeadlineExceeded extends ParleyError {
  override readonly name = "DeadlineExceeded";
}
export class Internal extends ParleyError {
  override readonly name = "Internal";
}
export class Unreachable extends ParleyError {
  override readonly name = "Unreachable";
}
export class Unauthorized extends ParleyError {
  override readonly name = "Unauthorized";
}

const CLASSES: Record<Code, new (message: string, facts: Facts) => ParleyError> = {
  invalid_request: InvalidRequest,
  too_large: TooLarge,
  busy: Busy,
  not_found: NotFound,
  provider_auth: ProviderAuth,
  provider_rate_limited: ProviderRateLimited,
  provider_overloaded: ProviderOverloaded,
  provider_refused: ProviderRefused,
  provider_stalled: ProviderStalled,
  provider_broken: ProviderBroken,
  storage_unavailable: StorageUnavailable,
  deadline_exceeded: DeadlineExceeded,
  internal: Internal,
};

/** What the wire says, to be thrown; a code of a newer service is `Internal`, and says so. */
export function fromError({ code, message, retryable }: Told): ParleyError {
  const kind = CLASSES[code] as (typeof CLASSES)[Code] | undefined;
  if (!kind) return new Internal(`${message} (${code})`, { code: "internal", retryable });
  return new kind(message, { code, retryable });
}

export function deadlineExceeded(message: string, cause?: unknown): DeadlineExceeded {
  return new DeadlineExceeded(message, { code: "deadline_exceeded", retryable: true, cause });
}

export function notFound(message: string): NotFound {
  return new NotFound(message, { code: "not_found", retryable: false });
}

export function invalidRequest(message: string): InvalidRequest {
  return new InvalidRequest(message, { code: "invalid_request", retryable: false });
}

export function internal(message: string): Internal {
  return new Internal(message, { code: "internal", retryable: false });
}

export function unreachable(message: string, cause?: unknown): Unreachable {
  return new Unreachable(message, { code: "unreachable", retryable: true, cause });
}

export function unauthorized(cause: Error): Unauthorized {
  return new Unauthorized(cause.message, { code: "unauthorized", retryable: false, cause });
}
