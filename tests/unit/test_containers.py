"""compose.yaml and .env.example know every setting; the example tells each as config.py does."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from pinqueue.config import SECRETS, Settings, duration, read_settings

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
SETTINGS = {
    f"PINQUEUE_{name.upper()}": field.default for name, field in Settings.model_fields.items()
}
FILES = {f"PINQUEUE_{name.upper()}_FILE" for name in SECRETS}
TRIED = {"REGION", "ACCESS_ID", "ACCESS_SECRET", "URL", "CA"}
"""Settings that .env.example has for simulated doors, and not at their default."""


def lines_of(name: str) -> list[str]:
    return re.findall(rf"^#?{name}=(.*)$", EXAMPLE, re.MULTILINE)


@pytest.mark.parametrize("name", [*SETTINGS, *sorted(FILES)])
def test_a_setting_has_one_line_in_the_example_below_a_comment(name: str) -> None:
    assert len(lines_of(name)) == 1
    above = re.search(rf"^# \S.*\n(?:#?[A-Z_]+=.*\n)*#?{name}=", EXAMPLE, re.MULTILINE)
    assert above


@pytest.mark.parametrize(
    "name", sorted(set(SETTINGS) - {f"PINQUEUE_TUYA_{name}" for name in TRIED})
)
def test_a_setting_that_is_commented_out_shows_its_default(name: str) -> None:
    default = SETTINGS[name]
    (shown,) = lines_of(name)
    assert f"\n#{name}={shown}\n" in EXAMPLE
    if isinstance(default, timedelta):
        assert duration(shown) == default
    else:
        assert shown == (str(default) if isinstance(default, int | float) else "")


def test_the_example_is_right_as_it_stands() -> None:
    found = read_settings(_env_file=ROOT / ".env.example", tuya_ca="")
    assert found.tuya_url == "https://simulator:7777"


def test_neither_the_example_nor_compose_names_a_setting_that_is_none() -> None:
    named = set(re.findall(r"PINQUEUE_[A-Z_]*[A-Z]", EXAMPLE + COMPOSE))
    assert named == set(SETTINGS) | FILES


def test_compose_hands_every_setting_on() -> None:
    handed = re.findall(r"^    (PINQUEUE_\w+):(?: \$\{(\w+)-.*)?$", COMPOSE, re.MULTILINE)
    assert {name for name, _ in handed} == set(SETTINGS) | FILES
    assert {(name, told) for name, told in handed if told} == {("PINQUEUE_DATABASE_URL",) * 2}


def test_what_compose_asks_of_the_environment_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE)) | {"COMPOSE_PROFILES", "FORWARDED_ALLOW_IPS"}
    own = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE))
    assert own == asked | set(SETTINGS) | FILES
