"""Blocks that bring their own markup, for pages that show more than prose, tables and figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar


class Element(ABC):
    """A block of the page that writes itself.

    Attributes:
        assets: style sheets and scripts of this package that it needs; a page holds each once.
    """

    assets: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def to_html(self) -> str:
        """Markup without style attributes, event handlers or addresses of any host."""
