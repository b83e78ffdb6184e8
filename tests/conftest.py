"""What every test run shares: slow tests apart, temporary homes, and a closing line that says how it went."""

import os

import pytest

SLOW = os.environ.get("SEDSOFT_SLOW", "") not in ("", "0")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what is marked slow, or what is not: `make slow` and `make test` share nothing."""
    chosen = [item for item in items if (item.get_closest_marker("slow") is not None) == SLOW]
    left = [item for item in items if item not in chosen]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = chosen


def pytest_unconfigure(config: pytest.Config) -> None:
    """End with one plain line, `N passed`, with what failed or was skipped beside it."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or config.option.collectonly:
        return
    passed, failed, skipped = (
        sum(len(reporter.stats.get(outcome, [])) for outcome in outcomes)
        for outcomes in (("passed",), ("failed", "error"), ("skipped",))
    )
    words = [f"{passed} passed"]
    if failed:
        words.append(f"{failed} failed")
    if skipped:
        words.append(f"{skipped} skipped")
    reporter.write_line(", ".join(words))
