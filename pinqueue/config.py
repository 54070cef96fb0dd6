"""Settings: read once from the environment and `.env`, validated whole, secrets masked."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pinqueue.errors import ConfigInvalid

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
LONGEST = timedelta(days=3650)
"""Of any duration, so that no date computed with one leaves the calendar."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that http is good enough for: what is sent there stays on this machine."""

TUYA_REGIONS = ("cn", "us", "az", "us-e", "ue", "eu", "eu-w", "we", "in", "sg")
"""Tuya's data centres as tinytuya names them. Any other word would silently mean China there."""


def duration(value: object) -> object:
    """`1h`, `90s`, `1h30m`, `250ms`, `2d` as a timedelta; anything else is left to pydantic."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("write a duration as 250ms, 90s, 10m, 1h30m or 2d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"must be at most {LONGEST.days}d")
    return timedelta(seconds=seconds)


def duration_text(value: timedelta) -> str:
    """A duration as it is written: `1h30m`."""
    left, text = round(value / timedelta(milliseconds=1)), ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(_UNITS[unit] * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_duration(name: str, text: str) -> timedelta:
    """A duration that a person typed; raises ConfigInvalid that names the option."""
    try:
        value = duration(text)
    except ValueError as error:
        raise ConfigInvalid(f"--{name}: {error}") from None
    assert isinstance(value, timedelta)  # noqa: S101  # text always becomes one
    return value


def parse_instant(name: str, text: str) -> datetime:
    """A time that a person typed, or how far from now it is; raises ConfigInvalid that names the
    option."""
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(text.strip())
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        ahead = duration(text.strip().removeprefix("-"))
    except ValueError:
        raise ConfigInvalid(
            f"--{name}: write 2026-12-24T15:00Z, or 2h or -2h for so far from now"
        ) from None
    assert isinstance(ahead, timedelta)  # noqa: S101  # text always becomes one
    return datetime.now(UTC) + (-ahead if text.strip().startswith("-") else ahead)


Duration = Annotated[timedelta, BeforeValidator(duration)]


SECRETS = ("database_url", "secret_keys", "pin_pepper", "tuya_access_secret")
"""Settings that may lie in a file, which the setting's name with `_FILE` names."""


class Settings(BaseSettings):
    """Everything a deployment decides. The environment wins over `.env`, and in either a value wins
    over its file."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="PINQUEUE_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: str = Field(
        default="",
        description="PostgreSQL 14 or newer, `postgresql://user:password@host/database`",
        repr=False,  # it holds a password
        exclude=True,
    )
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Fernet keys, separated by commas: the first encrypts, all decrypt. "
        "`pinqueue keys generate` makes one",
    )
    pin_pepper: SecretStr = Field(
        default=SecretStr(""),
        description="At least 32 characters that key PIN hashes and fingerprints; never changes. "
        "`pinqueue keys generate` makes one",
    )
    lead: Duration = Field(
        default=timedelta(hours=1), description="How long before check-in a PIN is programmed"
    )
    worker_concurrency: int = Field(
        default=5, ge=1, le=200, description="Operations one worker runs at a time"
    )
    retries: int = Field(
        default=3, ge=0, le=20, description="Tries after the first, for failures of unknown kind"
    )
    retry_backoff: Duration = Field(
        default=timedelta(seconds=2),
        le=timedelta(hours=1),
        description="Wait before the first of them; doubles each time",
    )
    retention: Duration = Field(
        default=timedelta(hours=24),
        description="How long finished job rows stay; the audit views keep their history",
    )
    keep_guests: Duration = Field(
        default=timedelta(days=30),
        description="How long after check-out names and phones of guests stay",
    )
    keep_bodies: Duration = Field(
        default=timedelta(days=14), description="How long the bodies of webhooks stay"
    )
    keep_audit: Duration = Field(
        default=timedelta(days=365),
        ge=timedelta(days=90),
        description="How long the audit stays, and a webhook that waits for its listing",
    )
    source_rate: float = Field(
        default=1000,
        gt=0,
        le=1_000_000,
        description="Webhooks a second that one web process takes of one source, after a minute's "
        "worth at once",
    )
    stranger_rate: float = Field(
        default=20,
        gt=0,
        le=1_000_000,
        description="Webhooks a second that prove nothing and are answered by one web process to "
        "one address, after ten seconds' worth at once; then it is held off",
    )
    patrol_every: Duration = Field(
        default=timedelta(minutes=10),
        ge=timedelta(seconds=1),
        le=timedelta(days=1),
        description="How often each lock's list of PINs is compared with what should be on it: one "
        "call to its cloud each time",
    )
    tuya_region: str = Field(
        default="", description="Data centre of the Tuya project: " + ", ".join(TUYA_REGIONS)
    )
    tuya_access_id: str = Field(default="", description="Access ID of the Tuya project")
    tuya_access_secret: SecretStr = Field(
        default=SecretStr(""), description="Access Secret of the Tuya project, 32 characters"
    )
    tuya_url: str = Field(
        default="",
        description="Another endpoint, e.g. a simulator: https, or http on loopback",
    )
    tuya_ca: str = Field(default="", description="File of CA certificates to trust for TUYA_URL")
    tuya_grace: Duration = Field(
        default=timedelta(seconds=90),
        description="How long a call whose answer was lost may still take effect",
    )
    tuya_rate: float = Field(
        default=50,
        gt=0,
        le=1_000_000,
        description="Calls a second that all workers together make to the Tuya project",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from, the strongest first."""
        told = (env_settings, dotenv_settings)
        pairs = ((_Files(settings_cls, source), source) for source in told)
        return (init_settings, *(one for pair in pairs for one in pair))

    @field_validator("database_url")
    @classmethod
    def _postgres_only(cls, url: str) -> str:
        if url and not url.startswith(("postgresql://", "postgres://")) and "host=" not in url:
            raise ValueError("must start with postgresql://")
        try:
            told = conninfo_to_dict(url)
        except ProgrammingError:  # whose message may quote the password
            raise ValueError(
                "cannot be read: write postgresql://user:password@host/database, each part "
                "percent-encoded"
            ) from None
        if "," in str(told.get("host", "")) and "target_session_attrs" not in told:
            raise ValueError(
                "names several servers: add target_session_attrs=read-write, or a standby may be "
                "taken for the one that can be written to"
            )
        return url

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        return (
            [k.strip() for k in value.split(",") if k.strip()] if isinstance(value, str) else value
        )

    @field_validator(*SECRETS, mode="before")
    @classmethod
    def _from_file(cls, value: Any) -> Any:
        """Pydantic asks the last of these first: what others check is the text."""
        if not isinstance(value, Path):
            return value
        try:
            return value.read_text().strip()
        except OSError as error:
            raise ValueError(f"its file {value} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"its file {value} is not text") from None

    @field_validator("secret_keys")
    @classmethod
    def _fernet_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, key in enumerate(keys, 1):
            try:
                Fernet(key.get_secret_value())
            except ValueError:
                raise ValueError(
                    f"key {number} is not a Fernet key; `pinqueue keys generate` prints good ones"
                ) from None
        return keys

    @field_validator("pin_pepper")
    @classmethod
    def _long_pepper(cls, pepper: SecretStr) -> SecretStr:
        if 0 < len(pepper.get_secret_value()) < 32:
            raise ValueError(
                "is shorter than 32 characters; `pinqueue keys generate` prints a good one"
            )
        return pepper

    @field_validator("tuya_region")
    @classmethod
    def _known_region(cls, region: str) -> str:
        if region and region not in TUYA_REGIONS:
            raise ValueError("must be one of " + ", ".join(TUYA_REGIONS))
        return region

    @field_validator("tuya_url")
    @classmethod
    def _private_in_transit(cls, url: str) -> str:
        parts = urlsplit(url)
        loopback = parts.hostname in LOOPBACK
        if url and not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
            raise ValueError("must be https, or http on loopback: it carries the access secret")
        if url and (
            not parts.hostname or parts.path.strip("/") or any(mark in url for mark in "?#@")
        ):
            raise ValueError("must be scheme://host:port and nothing more")
        return url.rstrip("/")

    @field_validator("tuya_ca")
    @classmethod
    def _file_exists(cls, path: str) -> str:
        if path and not Path(path).is_file():
            raise ValueError("is not a file")
        return path

    def require(self, *names: str) -> None:
        """Raise ConfigInvalid that lists every one of these settings that is still empty."""
        missing = [name for name in names if not _filled(getattr(self, name))]
        if missing:
            raise ConfigInvalid(
                "\n".join(
                    f"PINQUEUE_{name.upper()} is not set: "
                    f"{type(self).model_fields[name].description}"
                    for name in missing
                )
            )


class _Files(PydanticBaseSettingsSource):
    """The files that a source names for secrets which it does not tell itself, not read yet."""

    def __init__(
        self, settings_cls: type[BaseSettings], source: PydanticBaseSettingsSource
    ) -> None:
        super().__init__(settings_cls)
        assert isinstance(source, EnvSettingsSource)  # noqa: S101  # that of `.env` is one too
        self._told = source.env_vars

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        told = self._told.get(f"pinqueue_{field_name}")
        path = self._told.get(f"pinqueue_{field_name}_file")
        return Path(path) if path and not told else None, field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        found = (self.get_field_value(fields[name], name) for name in SECRETS)
        return {name: path for path, name, _ in found if path is not None}


STORE = ("database_url", "secret_keys", "pin_pepper")
"""What every process that touches bookings needs."""
LOCK_CLOUD = ("tuya_region", "tuya_access_id", "tuya_access_secret")
"""What a process that talks to locks needs besides."""


def read_settings(**overrides: Any) -> Settings:
    """The settings of this process; raises ConfigInvalid with every fault, one a line."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigInvalid(
            "\n".join(
                f"PINQUEUE_{'_'.join(str(p) for p in fault['loc'][:1]).upper()}: "
                + fault["msg"].removeprefix("Value error, ")
                for fault in error.errors()
            )
        ) from None


def unknown_settings() -> list[str]:
    """Names in the environment and `.env` that look like settings and are none: mistyped, maybe."""
    sources = (EnvSettingsSource(Settings), DotEnvSettingsSource(Settings))
    known = {f"pinqueue_{name}" for name in Settings.model_fields}
    known |= {f"pinqueue_{name}_file" for name in SECRETS}
    found = {name for source in sources for name in source.env_vars if name.startswith("pinqueue_")}
    return sorted(name.upper() for name in found - known)


def _filled(value: object) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)
