"""What holds for every sender that a secret in the path proves and whose API is read."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pinqueue.errors import SourceBusy, SourceError, SourceRefused, SourceUnreachable
from tests.senders import playing
from tests.senders.playing import (
    Fault,
    Played,
    compare,
    day,
    fetch,
    live_codes,
    stays,
    tell,
)
from tests.serving import Web

MAINTENANCE = Fault(200, "<html>maintenance</html>")
FAULTS: dict[Fault, type[SourceError]] = {
    Fault(500): SourceUnreachable,
    Fault(503): SourceUnreachable,
    Fault(302, headers=(("location", "https://example.com"),)): SourceUnreachable,
    Fault(401): SourceRefused,
    Fault(403): SourceRefused,
    Fault(429): SourceBusy,
    MAINTENANCE: SourceUnreachable,
    Fault(200, ""): SourceUnreachable,
    Fault(200, "[]"): SourceUnreachable,
    Fault(200, "{}"): SourceUnreachable,
    Fault(200, "null"): SourceUnreachable,
    Fault(200, '{"a":'): SourceUnreachable,
}


class Proof:
    """Where a request comes from."""

    def test_with_basic_auth_besides_both_are_needed(self, web: Web, played: Played) -> None:
        playing.set_up(web, played, secret=f"{playing.SECRET} hook:pass")
        event = played.event("13")
        assert tell(web, event).status == 401
        assert tell(web, event, login="hook:wrong").status == 401
        assert tell(web, event, secret="", login="hook:pass").status == 401
        assert tell(web, event, login="hook:pass").status == 200

    def test_the_same_bytes_again_are_a_duplicate(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        event = played.event("13")
        assert tell(web, event).outcome == "fetching"
        before = web.counts()
        assert [tell(web, event).outcome for _ in range(3)] == ["duplicate"] * 3
        assert web.added(before) == {}

    def test_the_same_bytes_after_the_booking_was_read_have_it_read_again(
        self, web: Web, played: Played
    ) -> None:
        """Another change may be told in the same words: only the API knows."""
        playing.set_up(web, played)
        played.put("13")
        tell(web, played.event("13"))
        fetch(web)
        played.put("13", status=played.CANCELLED)
        assert tell(web, played.event("13")).outcome == "duplicate"
        assert fetch(web) == "fetched"
        assert stays(web)["pms:13"][0] == "cancelled"


class Reading:
    """A booking that an event names is read from the API."""

    def test_a_named_booking_becomes_a_stay_with_its_codes(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        played.put("13", ahead=10)
        before = web.counts()
        assert tell(web, played.event("13")).outcome == "fetching"
        assert web.added(before) == {"webhook_events": 1, "procrastinate_jobs": 1}
        assert fetch(web) == "fetched"
        assert stays(web)["pms:13"][0] == "confirmed"
        assert [moment[:10] for moment in stays(web)["pms:13"][1:]] == [day(10), day(13)]
        assert live_codes(web) == 1

    def test_a_change_of_dates_moves_it(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        for ahead in (10, 20):
            played.put("13", ahead=ahead)
            tell(web, {**played.event("13"), "attempt": ahead})
            fetch(web)
        assert stays(web)["pms:13"][1][:10] == day(20)
        assert live_codes(web) == 1

    def test_a_cancellation_takes_its_codes_back(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        for status in ("", played.CANCELLED):
            played.put("13", status=status)
            tell(web, {**played.event("13"), "attempt": status})
            fetch(web)
        assert stays(web)["pms:13"][0] == "cancelled"
        assert live_codes(web) == 0

    def test_a_booking_that_the_api_has_not_keeps_its_codes(self, web: Web, played: Played) -> None:
        self.a_stay(web, played)
        played.bookings.clear()
        tell(web, {**played.event("13"), "attempt": 2})
        assert fetch(web) == "fetched"
        assert live_codes(web) == 1
        assert len(web.audited("source:booking_missing")) == 1

    def test_f1_a_bad_answer_changes_nothing_and_the_event_waits(
        self, web: Web, played: Played
    ) -> None:
        self.a_stay(web, played)
        tell(web, {**played.event("13"), "attempt": 2})
        before = {**web.counts(), "audit_events": None}
        for fault, error in FAULTS.items():
            played.faults[:] = [fault] * 3
            with pytest.raises(error):
                fetch(web)
        assert {**web.counts(), "audit_events": None} == before
        assert web.audited("source:api_failed")
        assert (
            web.value("SELECT outcome FROM webhook_events ORDER BY id DESC LIMIT 1") == "fetching"
        )
        assert live_codes(web) == 1
        played.faults.clear()
        assert fetch(web) == "fetched"

    def test_a_rate_limit_says_how_long_to_wait(self, web: Web, played: Played) -> None:
        self.a_stay(web, played)
        tell(web, {**played.event("13"), "attempt": 2})
        played.faults.append(Fault(429, headers=(("retry-after", "17"),)))
        with pytest.raises(SourceBusy) as caught:
            fetch(web)
        assert caught.value.retry_after == 17

    def test_a_wrong_token_is_for_a_person(self, web: Web, played: Played) -> None:
        playing.set_up(web, played, api=False)
        playing.set_api(web, played, token="another-token")
        tell(web, played.event("13"))
        with pytest.raises(SourceRefused) as caught:
            fetch(web)
        assert "another-token" not in str(caught.value)

    def test_an_api_that_is_away_is_asked_again(self, web: Web, played: Played) -> None:
        playing.set_up(web, played, api=False)
        playing.set_api(web, played, url="http://127.0.0.1:9")
        tell(web, played.event("13"))
        with pytest.raises(SourceUnreachable):
            fetch(web)

    def a_stay(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        played.put("13")
        tell(web, played.event("13"))
        assert fetch(web) == "fetched"
        assert live_codes(web) == 1


class Comparing:
    """What a webhook missed is found in the list of bookings."""

    def test_f15_missed_bookings_are_found_on_every_page(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        for number in range(5):
            played.put(str(13 + number), ahead=10 + 4 * number)
        compare(web)
        assert set(stays(web)) == {f"pms:{13 + number}" for number in range(5)}
        assert live_codes(web) == 5
        assert web.value("SELECT bookings_listed FROM sources WHERE id = 'pms'") == 5

    def test_a_missed_change_and_a_missed_cancellation_are_applied(
        self, web: Web, played: Played
    ) -> None:
        playing.set_up(web, played)
        played.put("13", ahead=10)
        played.put("14", ahead=20)
        compare(web)
        played.put("13", ahead=11)
        played.put("14", ahead=20, status=played.CANCELLED)
        compare(web)
        assert stays(web)["pms:13"][1][:10] == day(11)
        assert stays(web)["pms:14"][0] == "cancelled"
        assert live_codes(web) == 1

    def test_what_is_as_it_was_is_left_alone(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        played.put("13")
        compare(web)
        before = web.counts()
        compare(web)
        assert web.added(before) == {}
        assert web.counts()["audit_events"] == before["audit_events"]

    def test_f1_an_absent_booking_is_never_removed(self, web: Web, played: Played) -> None:
        playing.set_up(web, played)
        for number in range(4):
            played.put(str(13 + number), ahead=10 + 4 * number)
        compare(web)
        del played.bookings["13"]
        compare(web)
        assert live_codes(web) == 4
        assert web.audited("source:list_shrunken") == []

    @pytest.mark.parametrize("left", [0, 1])
    def test_f1_an_empty_or_shrunken_list_is_an_alarm_and_removes_nothing(
        self, web: Web, played: Played, left: int
    ) -> None:
        playing.set_up(web, played)
        for number in range(4):
            played.put(str(13 + number), ahead=10 + 4 * number)
        compare(web)
        played.bookings = dict(list(played.bookings.items())[:left])
        compare(web)
        assert live_codes(web) == 4
        assert web.audited("source:list_shrunken") == [{"before": 4, "listed": left}]
        assert web.value("SELECT bookings_listed FROM sources WHERE id = 'pms'") == 4

    def test_f1_a_list_that_is_empty_from_the_start_is_an_alarm_where_webhooks_told_of_stays(
        self, web: Web, played: Played
    ) -> None:
        playing.set_up(web, played)
        compare(web)
        assert web.audited("source:list_shrunken") == [], "nobody told of any yet"
        web.execute("UPDATE sources SET bookings_listed = NULL")
        played.put("13")
        tell(web, played.event("13"))
        fetch(web)
        played.clear()
        compare(web)
        assert web.audited("source:list_shrunken") == [{"before": 1, "listed": 0}]
        assert live_codes(web) == 1

    def test_f1_a_list_that_breaks_off_is_told_and_read_again_soon(
        self, web: Web, played: Played
    ) -> None:
        playing.set_up(web, played)
        played.put("13")
        compare(web)
        faults = [*FAULTS, Fault(404)]
        for fault in faults:
            played.faults[:] = [fault] * 3
            compare(web)
        assert live_codes(web) == 1
        told = [each["reason"] for each in web.audited("source:api_failed")]
        assert told
        assert all(one != other for one, other in pairwise(told)), "told when it changes"
        assert web.value("SELECT bookings_listed FROM sources WHERE id = 'pms'") == 1
        played.faults.clear()
        compare(web)
        assert web.value("SELECT api_error FROM sources WHERE id = 'pms'") is None
        assert len(web.audited("source:api_answers")) == 1
