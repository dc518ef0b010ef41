"""The access service's settings, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.access.callout import Rules
from services.access.nkey import BadKey, SigningKey
from services.access.token import Keys, Limits
from shared.process.settings import BadSetting, Env, NatsSettings, ProcessSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`keys_file` is looked at again and again, so that a key is revoked by removing its line."""

    nats: NatsSettings
    process: ProcessSettings
    keys_file: Path
    rules: Rules

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """Raises BadSetting, which names the variable."""
        env = Env(environ)
        return cls(
            nats=NatsSettings.from_env(env),
            process=ProcessSettings.from_env(env),
            keys_file=Path(env.text("ACCESS_KEYS_FILE")),
            rules=Rules(
                issuer=_issuer(env.text("ACCESS_ISSUER_SEED")),
                account=env.text("ACCESS_ACCOUNT", "APPS"),
                limits=_limits(env),
                plain_tcp=env.flag("ACCESS_PLAIN_TCP", default=False),
            ),
        )

    def keys(self) -> Keys:
        """As the file has them now; raises BadSetting."""
        return keys_in(self.keys_file, issuer=self.rules.issuer)


def keys_in(file: Path, *, issuer: SigningKey | None = None) -> Keys:
    """Raises BadSetting, which shows no line of the file."""
    try:
        keys = Keys.parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSetting(f"ACCESS_KEYS_FILE: cannot be read: {type(exc).__name__}") from None
    except BadKey as exc:
        raise BadSetting(f"ACCESS_KEYS_FILE: {exc}") from None
    if issuer is not None and issuer.public in keys.public:
        # Whoever mints tokens could then make users of any account.
        raise BadSetting("ACCESS_KEYS_FILE: the issuer's key must not be one of them")
    return keys


def _issuer(seed: str) -> SigningKey:
    try:
        # A comment may say what is public of it, as in the file of keys.
        issuer = SigningKey.from_seed(seed.partition("#")[0].strip())
    except BadKey as exc:
        raise BadSetting(f"ACCESS_ISSUER_SEED: {exc}") from None
    if not issuer.is_of_an_account:
        raise BadSetting("ACCESS_ISSUER_SEED: not the seed of an account (SA…)")
    return issuer


def _limits(env: Env) -> Limits:
    default = Limits()
    return Limits(
        conversations=env.integer(
            "ACCESS_MAX_CONVERSATIONS", default.conversations, minimum=1, maximum=200
        ),
        seconds=env.integer("ACCESS_MAX_TOKEN_SECONDS", default.seconds, minimum=1),
    )
