"""Help in sections, for commands with many options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class SectionedCommand(click.Command):
    """A command whose help shows its options by section, in the order in which sections first appear."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section's options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None and not isinstance(one, click.Argument):
                sections.setdefault(getattr(one, "section", "Other"), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


class _Option(click.Option):
    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


def section(name: str) -> Callable[..., Callable[[Any], Any]]:
    """Return what declares options of a section, with the arguments of ``click.option``."""

    def option(*names: str, **about: Any) -> Callable[[Any], Any]:
        return click.option(*names, cls=_Option, section=name, **about)

    return option
