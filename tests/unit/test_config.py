"""Settings: read once, checked whole, every fault named at once, no secret shown."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pinqueue.config import (
    LOCK_CLOUD,
    LONGEST,
    SECRETS,
    STORE,
    TUYA_REGIONS,
    Settings,
    duration,
    parse_duration,
    parse_instant,
    read_settings,
    unknown_settings,
)
from pinqueue.errors import ConfigInvalid

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
OTHER_KEY = "b29vb29vb29vb29vb29vb29vb29vb29vb29vb29vb28="
PEPPER = "canary-pepper-canary-pepper-canary"
SECRET = "canary0123456789canary0123456789"
URL = "postgresql://someone:canary-password@db.example/pinqueue"
FULL = {
    "database_url": URL,
    "secret_keys": f"{KEY},{OTHER_KEY}",
    "pin_pepper": PEPPER,
    "tuya_access_secret": SECRET,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in: no `.env` of a developer is read."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PINQUEUE_")]:
        monkeypatch.delenv(name)  # the tests' own, which no process of ours has
    return tmp_path


# What there is

DEFAULTS: dict[str, Any] = {
    "database_url": "",
    "secret_keys": (),
    "pin_pepper": SecretStr(""),
    "lead": timedelta(hours=1),
    "worker_concurrency": 5,
    "retries": 3,
    "retry_backoff": timedelta(seconds=2),
    "retention": timedelta(hours=24),
    "patrol_every": timedelta(minutes=10),
    "keep_guests": timedelta(days=30),
    "keep_bodies": timedelta(days=14),
    "keep_audit": timedelta(days=365),
    "source_rate": 1000,
    "stranger_rate": 20,
    "tuya_region": "",
    "tuya_access_id": "",
    "tuya_access_secret": SecretStr(""),
    "tuya_url": "",
    "tuya_ca": "",
    "tuya_grace": timedelta(seconds=90),
    "tuya_rate": 50,
}


def test_there_are_exactly_the_settings_of_the_contract_with_their_defaults() -> None:
    settings = read_settings()
    assert {name: getattr(settings, name) for name in Settings.model_fields} == DEFAULTS


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_says_what_it_is(name: str) -> None:
    assert len(Settings.model_fields[name].description or "") > 10


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().retries = 9


# Where they come from


def test_a_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINQUEUE_LEAD", "2h")
    monkeypatch.setenv("LEAD", "3h")
    assert read_settings().lead == timedelta(hours=2)


def test_dot_env_is_read_and_the_environment_wins_over_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("PINQUEUE_LEAD=2h\nPINQUEUE_RETRIES=7\nOTHER=1\n")
    monkeypatch.setenv("PINQUEUE_LEAD", "3h")
    settings = read_settings()
    assert (settings.lead, settings.retries) == (timedelta(hours=3), 7)


def test_several_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINQUEUE_SECRET_KEYS", f" {KEY} , {OTHER_KEY},")
    assert [key.get_secret_value() for key in read_settings().secret_keys] == [KEY, OTHER_KEY]


# Secrets in files


def named(folder: Path, name: str, text: str) -> str:
    """A setting that names a new file with this text."""
    path = folder / f"{name}-{len(list(folder.iterdir()))}"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_lie_in_a_file_that_a_setting_names(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = named(folder, name, f"{FULL[name]}\n")
    monkeypatch.setenv(f"PINQUEUE_{name.upper()}_FILE", file)
    assert getattr(read_settings(), name) == getattr(read_settings(**{name: FULL[name]}), name)
    assert unknown_settings() == []


def test_every_secret_may_lie_in_a_file() -> None:
    masked = {name for name, f in Settings.model_fields.items() if "Secret" in str(f.annotation)}
    assert set(SECRETS) == masked | {"database_url"}


def test_a_value_wins_over_its_file_and_the_environment_wins_over_dot_env_with_either(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pepper() -> str:
        return read_settings().pin_pepper.get_secret_value()[:1]

    (folder / ".env").write_text(f"PINQUEUE_PIN_PEPPER_FILE={named(folder, 'd', 'd' * 40)}\n")
    assert pepper() == "d"
    with (folder / ".env").open("a") as file:
        file.write(f"PINQUEUE_PIN_PEPPER={'c' * 40}\n")
    assert pepper() == "c"
    monkeypatch.setenv("PINQUEUE_PIN_PEPPER_FILE", named(folder, "b", "b" * 40))
    assert pepper() == "b"
    monkeypatch.setenv("PINQUEUE_PIN_PEPPER", "")
    assert pepper() == "b"
    monkeypatch.setenv("PINQUEUE_PIN_PEPPER", "a" * 40)
    assert pepper() == "a"


def test_an_empty_name_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINQUEUE_PIN_PEPPER_FILE", "")
    assert read_settings().pin_pepper.get_secret_value() == ""


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "its file .+ cannot be read: No such file or directory"),
        (b"\xff\xfe", "its file .+ is not text"),
        (b"canary-too-short", "is shorter than 32 characters"),
    ],
)
def test_a_file_that_holds_no_such_secret_is_refused_beside_all_other_faults(
    content: bytes | None, fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (folder / "pepper").write_bytes(content)
    monkeypatch.setenv("PINQUEUE_PIN_PEPPER_FILE", str(folder / "pepper"))
    monkeypatch.setenv("PINQUEUE_LEAD", "soon")
    with pytest.raises(ConfigInvalid) as refused:
        read_settings()
    pepper, lead = sorted(str(refused.value).splitlines(), reverse=True)
    assert re.search(f"^PINQUEUE_PIN_PEPPER: {fault}", pepper)
    assert lead.startswith("PINQUEUE_LEAD: ")
    assert "canary" not in str(refused.value)


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1.5h", 5400),
        ("1h0m30s", 3630),
        (" 1h ", 3600),
        ("0s", 0),
        ("3650d", 315_360_000),
    ],
)
def test_a_duration_is_written_with_its_units(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1x", "-1h", "h", "1 h", "1h 30m", "1e3s", "PT1H", "1h,", "1:30", "٣h", "infs"],
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="250ms, 90s, 10m, 1h30m or 2d"):
        duration(text)


@pytest.mark.parametrize("text", ["3651d", "3650d1ms", "9" * 400 + "d"])
def test_a_duration_that_leads_out_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most 3650d"):
        duration(text)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h", "d"]))))
def test_any_written_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
    total = timedelta(seconds=sum(number * units[unit] for number, unit in parts))
    text = "".join(f"{number}{unit}" for number, unit in parts)
    if parts and total <= LONGEST:
        assert duration(text) == total
    else:
        with pytest.raises(ValueError, match=r"duration|at most"):
            duration(text)


def test_a_typed_duration_that_is_wrong_names_its_option() -> None:
    assert parse_duration("since", "24h") == timedelta(days=1)
    with pytest.raises(ConfigInvalid, match=r"^--since: "):
        parse_duration("since", "yesterday")


# Faults


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("database_url", "mysql://db/pinqueue", "postgresql://"),
        ("database_url", "postgresql://me:canary word@db/pinqueue", "percent-encoded"),
        ("database_url", "postgresql://a,b/pinqueue", "add target_session_attrs=read-write"),
        ("secret_keys", "c2hvcnQ=", "key 1 is not a Fernet key"),
        ("secret_keys", f"{KEY},canaré", "key 2 is not a Fernet key"),
        ("pin_pepper", "canary-too-short", "shorter than 32"),
        ("lead", "soon", "write a duration"),
        ("retry_backoff", "2h", "less than or equal to 1 hour"),
        ("worker_concurrency", "0", "greater than or equal to 1"),
        ("worker_concurrency", "many", "integer"),
        ("retries", "-1", "greater than or equal to 0"),
        ("retries", "21", "less than or equal to 20"),
        ("tuya_region", "mars", "one of cn, us"),
        ("tuya_ca", "nowhere.pem", "is not a file"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(
    name: str, value: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PINQUEUE_{name.upper()}", value)
    with pytest.raises(ConfigInvalid, match=f"^PINQUEUE_{name.upper()}: .*{fault}") as refused:
        read_settings()
    assert "canar" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_all_faults_are_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"LEAD": "soon", "RETRIES": "x", "TUYA_REGION": "mars", "PIN_PEPPER": "short"}
    for name, value in wrong.items():
        monkeypatch.setenv(f"PINQUEUE_{name}", value)
    with pytest.raises(ConfigInvalid) as refused:
        read_settings()
    named = [line.partition(":")[0] for line in str(refused.value).splitlines()]
    assert sorted(named) == sorted(f"PINQUEUE_{name}" for name in wrong)


@pytest.mark.parametrize(
    "url",
    ["", "https://openapi.tuyaeu.com", "https://tuya.example:8443/"]
    + [f"http://{host}:7777" for host in ("127.0.0.1", "localhost", "[::1]")],
)
def test_another_tuya_endpoint_is_https_or_on_this_machine(url: str) -> None:
    assert read_settings(tuya_url=url).tuya_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://tuya.example", "it carries the access secret"),
        ("http://localhost.tuya.example", "it carries the access secret"),
        ("http://127.0.0.1@tuya.example", "it carries the access secret"),
        ("ftp://127.0.0.1", "it carries the access secret"),
        ("127.0.0.1:7777", "it carries the access secret"),
        ("https://", "scheme://host:port"),
        ("https://tuya.example/v1.0", "scheme://host:port"),
        ("https://tuya.example?region=eu", "scheme://host:port"),
        ("https://tuya.example#eu", "scheme://host:port"),
        ("https://someone:canary@tuya.example", "scheme://host:port"),
        ("https://[", "Invalid IPv6"),
    ],
)
def test_a_tuya_endpoint_that_would_betray_the_secret_or_break_is_refused(
    url: str, fault: str
) -> None:
    with pytest.raises(ConfigInvalid, match=f"^PINQUEUE_TUYA_URL: .*{fault}") as refused:
        read_settings(tuya_url=url)
    assert "canary" not in str(refused.value)


# What is missing


def test_every_missing_setting_is_named_with_what_it_is() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        read_settings(tuya_region="eu").require(*STORE, *LOCK_CLOUD)
    lines = str(refused.value).splitlines()
    assert [line.partition(" is not set: ")[0] for line in lines] == [
        "PINQUEUE_DATABASE_URL",
        "PINQUEUE_SECRET_KEYS",
        "PINQUEUE_PIN_PEPPER",
        "PINQUEUE_TUYA_ACCESS_ID",
        "PINQUEUE_TUYA_ACCESS_SECRET",
    ]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("database_url", "postgresql://user:password@host/database"),
        ("secret_keys", "`pinqueue keys generate`"),
        ("pin_pepper", "`pinqueue keys generate`"),
        ("tuya_region", "us, "),
        ("tuya_access_id", "Tuya project"),
        ("tuya_access_secret", "Tuya project"),
    ],
)
def test_a_missing_setting_says_where_to_get_it(name: str, remedy: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        read_settings().require(name)
    assert remedy in str(refused.value)


def test_nothing_is_missing_where_all_that_is_needed_is_set() -> None:
    read_settings(**FULL).require(*STORE)


# Secrets


@pytest.mark.parametrize(
    "show",
    [repr, str, lambda s: str(s.model_dump()), lambda s: s.model_dump_json(), "{}".format],
    ids=["repr", "str", "dump", "json", "format"],
)
def test_no_secret_is_shown(show: Any) -> None:
    shown = show(read_settings(**FULL))
    assert "worker_concurrency" in shown
    assert not re.search(f"canary|{KEY}|{OTHER_KEY}", shown)


def test_a_fault_is_told_in_our_words_alone() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        read_settings(database_url="mysql://x", lead="soon", tuya_region="mars", _env_file=None)
    assert str(refused.value).splitlines() == [
        "PINQUEUE_DATABASE_URL: must start with postgresql://",
        "PINQUEUE_LEAD: write a duration as 250ms, 90s, 10m, 1h30m or 2d",
        f"PINQUEUE_TUYA_REGION: must be one of {', '.join(TUYA_REGIONS)}",
    ]


@pytest.mark.parametrize(
    ("text", "ahead"), [("2h", 7200), ("-2h", -7200), (" 90s ", 90), ("-1d", -86400)]
)
def test_a_time_may_be_told_by_how_far_it_is_from_now(text: str, ahead: int) -> None:
    expected = datetime.now(UTC) + timedelta(seconds=ahead)
    assert abs(parse_instant("since", text) - expected) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-12-24T15:00:00-03:00", datetime(2026, 12, 24, 18, tzinfo=UTC)),
        ("2026-12-24T15:00Z", datetime(2026, 12, 24, 15, tzinfo=UTC)),
        ("2026-12-24 15:00", datetime(2026, 12, 24, 15, tzinfo=UTC)),
        ("2026-12-24", datetime(2026, 12, 24, tzinfo=UTC)),
    ],
)
def test_a_time_without_offset_is_utc(text: str, instant: datetime) -> None:
    assert parse_instant("due-from", text) == instant


@pytest.mark.parametrize("text", ["", "soon", "--2h", "2026-13-01", "25:00", "-"])
def test_what_is_no_time_is_refused_by_the_name_of_its_option(text: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"^--due-from: write "):
        parse_instant("due-from", text)
