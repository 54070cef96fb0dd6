"""What Prometheus reads out of a scrape."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Exposition:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: list[Sample] = [s for f in self.families.values() for s in f.samples]

    def value(self, name: str, **labels: object) -> float | None:
        """Of the one sample with exactly these labels; None where there is none."""
        wanted = {label: str(text) for label, text in labels.items()}
        found = [s.value for s in self.samples if s.name == name and s.labels == wanted]
        assert len(found) < 2, f"{name} {wanted} is told {len(found)} times"
        return found[0] if found else None

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of that name that are not 0, by their label values."""
        return {
            tuple(s.labels.values()): s.value for s in self.samples if s.name == name and s.value
        }
