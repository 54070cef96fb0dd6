"""The house: imports go down only, and each library has one home."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pinqueue

# A module imports from the rows below its own, never from beside or above.
LAYERS = """
    __main__
    cli
    bench demo
    up
    web worker
    api
    tasks webhooks keys
    sweep patrol
    fetching
    fetchers
    operations health deliveries monitoring
    jobs audit inventory forgetting arrivals
    reservations
    codes ledger pace
    columns outcomes
    alarms ringing hashing rotating migrating
    store mutex schema locks.tuya
    db models sealing embedded processes hooks posting
    lines together
    locks metrics patience trust
    pins schedule lifecycle tellings config logs tables
    errors simulator garbage
"""
RANK = {name: -rank for rank, row in enumerate(LAYERS.strip().splitlines()) for name in row.split()}
HOMES = {
    "alembic": "migrating",
    "bcrypt": "sealing",
    "cryptography": "sealing locks.tuya simulator config up",
    "httpx2": "fetchers locks.tuya simulator processes demo posting bench trust",
    "platformdirs": "embedded",
    "jinja2": "api",
    "procrastinate": "alarms ringing tasks worker",
    "prometheus_client": "metrics",
    "psycopg": "config lines db mutex ringing worker embedded bench",
    "psycopg_pool": "ringing",
    "pydantic": "api config webhooks",
    "pydantic_core": "api webhooks",
    "pydantic_settings": "config",
    "rich": "cli demo up tables",
    "sqlalchemy": "db models store schema migrating bench",
    "standardwebhooks": "webhooks demo posting bench",
    "starlette": "api web webhooks simulator",
    "structlog": "logs",
    "tinytuya": "locks.tuya",
    "typer": "cli",
    "uvicorn": "cli web simulator",
    "uvloop": "cli bench",
}
RULES = {"pins", "schedule", "lifecycle", "tellings"}
ROOT = Path(pinqueue.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}


def _unit(module: str) -> str:
    """The word of LAYERS for a module: its own name or its package's; Tuya's lie in `locks`."""
    first, *rest = module.removeprefix("pinqueue.").split(".")
    return "locks.tuya" if first == "locks" and rest and rest[0].startswith("tuya") else first


def _importer(path: Path) -> str:
    return _unit(".".join(path.relative_to(ROOT).with_suffix("").parts))


def _imports() -> Iterator[tuple[str, str]]:
    """Every import as (importing unit, imported name), those inside functions too."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((_importer(path), alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: write the import in full"
                yield from (
                    (_importer(path), f"{node.module}.{alias.name}") for alias in node.names
                )


OURS = {(a, _unit(name)) for a, name in _imports() if name.startswith("pinqueue.")}
OTHERS = {(a, name.partition(".")[0]) for a, name in _imports()} - {(a, "pinqueue") for a in RANK}


def test_every_module_has_its_place_in_the_layers() -> None:
    assert {_importer(path) for path in TREES} - {"__init__"} == set(RANK)


def test_imports_go_down_only() -> None:
    assert {(a, b) for a, b in OURS if a != b and RANK[b] >= RANK[a]} == set()


def test_a_library_is_used_in_its_home_only_and_every_library_has_one() -> None:
    used = {(a, library) for a, library in OTHERS if library not in sys.stdlib_module_names}
    assert used == {(home, library) for library in HOMES for home in HOMES[library].split()}


def test_rules_know_the_standard_library_and_the_errors_alone_and_never_ask_for_the_time() -> None:
    assert {b for a, b in OURS if a in RULES} <= {"errors"}
    assert {b for a, b in OTHERS if a in RULES} <= sys.stdlib_module_names
    asked = {"now", "utcnow", "today", "time"}
    assert {a for a, attribute in _attributes() if attribute in asked} & RULES == set()


def test_only_what_puts_whole_deployments_together_knows_the_simulator() -> None:
    assert {a for a, b in OURS if b == "simulator"} - {"simulator"} == {
        "cli",
        "demo",
        "up",
        "bench",
    }


def test_the_environment_is_read_by_the_settings_alone_and_handed_on_to_child_processes() -> None:
    asked = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    assert {a for a, attribute in _attributes() if attribute in asked} == {"processes"}
    assert not {name for _, name in _imports() if name in {f"os.{word}" for word in asked}}


def _attributes() -> Iterator[tuple[str, str]]:
    """Every attribute that is used, as (using unit, attribute)."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                yield _importer(path), node.attr
