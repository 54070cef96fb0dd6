"""`pinqueue demo`: three stays, from signed webhook to revoked PIN, with real processes throughout.

The clock is shortened by the stays' times, not in the product: they begin in seconds, and
PINQUEUE_LEAD is a few seconds instead of an hour.
"""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.markup import escape
from standardwebhooks import Webhook

from pinqueue import audit, embedded, inventory, migrating, sealing, up
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import PinQueueError
from pinqueue.pins import Pin
from pinqueue.processes import Children, answering, finished, free_port
from pinqueue.simulator import Control
from pinqueue.tables import table

LEAD = timedelta(seconds=5)
PATIENCE = 20.0  # seconds for any one thing to happen
GIVE_UP_AFTER = 58.0  # seconds for everything

LOCKS = {
    "street-door": ("demo-street", "zigbee"),
    "flat-7": ("demo-flat-7", "wifi"),
    "studio": ("demo-studio", "zigbee"),
    "cabin": ("demo-cabin", "bluetooth"),
}
LISTINGS = {"apt-7": ("flat-7", "street-door"), "studio": ("studio",), "cabin": ("cabin",)}


@dataclass
class Stay:
    """One of the demo's bookings; seconds count from when its webhook is sent."""

    reservation_id: str
    guest: str
    listing: str
    check_in_after: float
    check_out_after: float
    cancelled: bool = False
    check_in: datetime = field(init=False)
    check_out: datetime = field(init=False)

    def begin(self, now: datetime) -> None:
        whole = now.replace(microsecond=0)
        self.check_in = whole + timedelta(seconds=self.check_in_after)
        self.check_out = whole + timedelta(seconds=self.check_out_after)


STAYS = (
    Stay("res-1", "Ana", "apt-7", 11, 19),
    Stay("res-2", "Bruno", "studio", 13, 21),
    Stay("res-3", "Carla", "cabin", 12, 600, cancelled=True),
)


class DemoFailed(PinQueueError):
    """Something that must happen did not."""


async def run(console: Console) -> int:
    """Returns the exit code: 0 only if every PIN did all it should."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="pinqueue-demo-", ignore_cleanup_errors=True) as folder:
        log_file = Path(folder) / "processes.log"
        try:
            async with asyncio.timeout(GIVE_UP_AFTER), _stage(console, Path(folder)) as stage:
                await stage.play()
        except (PinQueueError, httpx2.HTTPError, TimeoutError) as error:
            why = str(error) or f"not done within {GIVE_UP_AFTER:.0f} s"
            console.print(f"\n[bold red]The demo failed:[/] {escape(why)}", highlight=False)
            _show_log(console, log_file)
            return 1
        except asyncio.CancelledError:
            console.print("\nstopped")
            return 130
    return 0


@asynccontextmanager
async def _stage(console: Console, folder: Path) -> AsyncIterator[Stage]:
    """Database, simulator, web and worker, running and set up; all gone when the block ends."""
    async with AsyncExitStack() as stack:
        started = time.monotonic()
        with console.status("starting PostgreSQL from its wheel"):
            postgres = embedded.EmbeddedPostgres(folder / "data")
            # Registered first: a Ctrl-C in the middle of starting must leave no server behind.
            stack.callback(postgres.stop)
            url = await finished(postgres.start)
            await finished(lambda: migrating.migrate(url))
        simulator_port, web_port = free_port(), free_port()
        environment = {
            "PINQUEUE_DATABASE_URL": url,
            "PINQUEUE_LEAD": f"{LEAD.total_seconds()}s",
            **up.new_secrets(),
            **up.simulated_tuya(simulator_port),
        }
        settings = up.read_settings_with(environment)
        children = Children(environment, folder / "processes.log")
        stack.push_async_callback(children.stop)
        devices = [f"--device={device}:{protocol}" for device, protocol in LOCKS.values()]
        with console.status("starting simulator, web and worker"):
            await children.start("simulator", "simulator", f"--port={simulator_port}", *devices)
            await children.start("web", "web", f"--port={web_port}")
            await children.start("worker", "worker")
            await answering(f"http://127.0.0.1:{web_port}/readyz", children)
            await answering(f"http://127.0.0.1:{simulator_port}/_sim/devices", children)
        db = Database(url, pool_size=4, name="pinqueue-demo")
        stack.push_async_callback(db.close)
        door = stack.enter_context(Control(f"http://127.0.0.1:{simulator_port}"))
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=10, trust_env=False))
        secret = await _set_up(db, settings)
        console.print(
            "PostgreSQL, Tuya simulator, web and worker started in "
            f"{time.monotonic() - started:.1f} s"
        )
        yield Stage(
            console, settings, db, door, client, f"http://127.0.0.1:{web_port}", secret, children
        )


async def _set_up(db: Database, settings: Settings) -> str:
    """Locks, listings and a source, as a person would add them; returns the signing secret."""
    async with db.transaction() as session:
        for lock, (device_id, protocol) in LOCKS.items():
            await inventory.add_lock(session, "demo", lock, device_id, protocol)
        await session.flush()
        for listing, locks in LISTINGS.items():
            await inventory.add_listing(session, "demo", listing, "America/Sao_Paulo", locks, None)
        return await inventory.add_source(
            session, sealing.sealer(settings), "demo", "demo", "pinqueue", None
        )


@dataclass
class Stage:
    """The running system, and what the demo does and sees there."""

    console: Console
    settings: Settings
    db: Database
    door: Control
    client: httpx2.AsyncClient
    web: str
    secret: str
    children: Children
    began: float = field(default_factory=time.monotonic)

    async def play(self) -> None:
        """All stays at once, then the audit."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch_processes())
                playing = [group.create_task(self._follow(stay)) for stay in STAYS]
                await asyncio.wait(playing)
                watch.cancel()
        except ExceptionGroup as failed:
            await self._blame_process()
            raise failed.exceptions[0] from None
        await self._print_audit()

    async def _follow(self, stay: Stay) -> None:
        """One stay from its webhook to its end, asked at every door on the way."""
        stay.begin(datetime.now(UTC))
        await self._post(stay, "reservation.created", "confirmed")
        codes = await self._codes(stay)
        await asyncio.gather(*(self._programmed(stay, code) for code in codes))
        pins = {lock: await self._reveal(code) for code, lock in codes}
        for _, lock in codes:
            self._insist(not self._opens(lock, pins[lock]), stay, lock, "refused before check-in")
        await _until(stay.check_in)
        for _, lock in codes:
            self._insist(self._opens(lock, pins[lock]), stay, lock, "opens after check-in")
            wrong = Pin("0" * len(pins[lock].digits()))
            self._insist(not self._opens(lock, wrong), stay, lock, "refused with a wrong PIN")
        if stay.cancelled:
            await self._post(stay, "reservation.cancelled", "cancelled")
        else:
            await _until(stay.check_out)
        await asyncio.gather(*(self._revoked(stay, code) for code in codes))
        for _, lock in codes:
            self._insist(not self._opens(lock, pins[lock]), stay, lock, "refused afterwards")
            held = {pin["pin"] for pin in self.door.pins(LOCKS[lock][0])}
            self._insist(pins[lock].digits() not in held, stay, lock, "gone from the lock itself")

    async def _post(self, stay: Stay, kind: str, status: str) -> None:
        now = datetime.now(UTC)
        body = json.dumps(
            {
                "type": kind,
                "timestamp": now.isoformat(),
                "data": {
                    "reservation_id": stay.reservation_id,
                    "listing_id": stay.listing,
                    "status": status,
                    "check_in": stay.check_in.isoformat(),
                    "check_out": stay.check_out.isoformat(),
                    "updated_at": now.isoformat(),
                    "guest": {"name": stay.guest},
                },
            }
        )
        event_id = f"msg_{stay.reservation_id}_{status}"
        sent = time.monotonic()
        answer = await self.client.post(
            f"{self.web}/webhooks/demo",
            content=body,
            headers={
                "Content-Type": "application/json",
                "webhook-id": event_id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(self.secret).sign(event_id, now, body),
            },
        )
        took = (time.monotonic() - sent) * 1000
        if answer.status_code != 200:
            raise DemoFailed(f"the webhook of {stay.reservation_id} was answered {answer.text}")
        self._say(stay, "", f"webhook {kind} → {answer.json()['status']} in {took:.0f} ms")
        if status == "confirmed":
            due = (stay.check_in - LEAD).astimezone()
            self._say(stay, "", f"PIN due {due:%H:%M:%S}, works {_span(stay)}")

    async def _programmed(self, stay: Stay, code: tuple[int, str]) -> None:
        at = await self._reaches(stay, code, "active")
        _, lock = code
        late = (at - (stay.check_in - LEAD)).total_seconds()
        pin = (await self._reveal(code[0])).digits()
        self._say(stay, lock, f"PIN [bold cyan]{pin}[/] on the door {late:.2f} s after it was due")

    async def _revoked(self, stay: Stay, code: tuple[int, str]) -> None:
        at = await self._reaches(stay, code, "revoked")
        since = (
            ""
            if stay.cancelled
            else f" {(at - stay.check_out).total_seconds():.2f} s after it was due"
        )
        self._say(stay, code[1], f"PIN confirmed off the door{since}")

    async def _reaches(self, stay: Stay, code: tuple[int, str], state: str) -> datetime:
        """When the code came to that state. A sleeping Wi-Fi lock is touched meanwhile, as by a
        guest: only then does it ask its cloud what has changed."""
        code_id, lock = code
        device, protocol = LOCKS[lock]
        deadline = (stay.check_in if state == "active" else _end(stay)) + timedelta(
            seconds=PATIENCE
        )
        while True:
            row = (await self._ask(audit.CODES, reservation=None, code=code_id))[0]
            if row["state"] == state:
                at: datetime = row[f"{state}_at"]
                return at
            if row["state"] == "failed" or datetime.now(UTC) > deadline:
                raise DemoFailed(
                    f"{stay.reservation_id} at {lock}: still {row['state']}, should be {state}"
                )
            if protocol == "wifi" and row["state"] in ("sent", "revoking"):
                self.door.wake(device)
            await asyncio.sleep(0.1)

    async def _codes(self, stay: Stay) -> list[tuple[int, str]]:
        rows = await self._ask(audit.CODES, reservation=stay.reservation_id, code=None)
        if {row["lock_id"] for row in rows} != set(LISTINGS[stay.listing]):
            raise DemoFailed(f"{stay.reservation_id} has access codes {rows}")
        return [(row["code"], row["lock_id"]) for row in rows]

    async def _reveal(self, code: int | tuple[int, str]) -> Pin:
        code_id = code if isinstance(code, int) else code[0]
        async with self.db.transaction() as session:
            return await audit.reveal(session, sealing.sealer(self.settings), "demo", code_id)

    def _opens(self, lock: str, pin: Pin) -> bool:
        return self.door.open(LOCKS[lock][0], pin.digits())

    def _insist(self, fact: bool, stay: Stay, lock: str, what: str) -> None:
        self._say(stay, lock, f"{'[green]✓[/]' if fact else '[red]✗[/]'} {what}")
        if not fact:
            raise DemoFailed(f"{stay.reservation_id} at {lock}: should be {what}, and is not")

    def _say(self, stay: Stay, lock: str, what: str) -> None:
        at = time.monotonic() - self.began
        self.console.print(
            f"[dim]{at:5.1f} s[/]  {stay.guest:<6} {lock or stay.listing:<12} {what}",
            highlight=False,
        )

    async def _watch_processes(self) -> None:
        while True:
            await self._blame_process()

    async def _blame_process(self) -> None:
        """Where a process has gone, that is what went wrong, whatever else broke by it. Its end is
        noticed a moment later than the connection that broke with it."""
        await asyncio.sleep(0.2)
        if name := self.children.exited():
            raise DemoFailed(f"the process `pinqueue {name}` exited in the middle")

    async def _print_audit(self) -> None:
        jobs = await self._ask(
            "SELECT reservation_id AS stay, lock_id AS lock, task, state, attempts AS tries,"
            " scheduled_at::time(0) AS due, late_by, ran_for"
            " FROM audit_jobs ORDER BY scheduled_at, job_id"
        )
        timeline = await self._ask(
            "SELECT reservation_id AS stay, to_char(at, 'HH24:MI:SS.MS') AS at, actor, event,"
            " detail->>'lock_id' AS lock FROM audit_timeline WHERE reservation_id = 'res-1'"
        )
        self.console.print(table(jobs, "\nSELECT * FROM audit_jobs"))
        self.console.print(
            table(timeline, "\nSELECT * FROM audit_timeline WHERE reservation_id = 'res-1'")
        )
        overdue = await self._ask("SELECT * FROM audit_overdue_pins")
        if overdue:
            raise DemoFailed(f"audit_overdue_pins is not empty: {overdue}")
        took = time.monotonic() - self.began
        self.console.print(
            f"\naudit_overdue_pins: empty, after {took:.0f} s. "
            "[bold green]Every PIN worked when it should, and only then.[/]",
            soft_wrap=True,
        )

    async def _ask(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        async with self.db.transaction() as session:
            return await audit.rows(session, query, **parameters)


def _span(stay: Stay) -> str:
    return f"{stay.check_in.astimezone():%H:%M:%S}-{stay.check_out.astimezone():%H:%M:%S}"


def _end(stay: Stay) -> datetime:
    return datetime.now(UTC) if stay.cancelled else stay.check_out


async def _until(moment: datetime) -> None:
    await asyncio.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()) + 0.2)


def _show_log(console: Console, log_file: Path) -> None:
    if log_file.exists():
        console.print("Last lines of the processes' log:", style="dim")
        for line in log_file.read_text(errors="replace").splitlines()[-15:]:
            console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
