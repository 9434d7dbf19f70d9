"""Enumerations that compare equal to their values, whatever the case."""

from enum import Enum, StrEnum
from typing import Self


class LightningEnum(StrEnum):
    """A string with a few allowed values; compares without regard to case."""

    @classmethod
    def from_str(cls, value: str, source: str = "key") -> Self | None:
        """The member with this name ("key"), value ("value") or either ("any"); None if there is none."""
        for member in cls:
            names = {"key": [member.name], "value": [member.value], "any": [member.name, member.value]}[
                source
            ]
            if value.lower() in (name.lower() for name in names):
                return member
        return None

    def __eq__(self, other: object) -> bool:
        text = other.value if isinstance(other, Enum) else other
        return str(self.value).lower() == str(text).lower()

    def __hash__(self) -> int:
        return hash(self.value.lower())


class GradClipAlgorithmType(LightningEnum):
    """How gradients are bounded."""

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(value: str) -> bool:
        """Whether this is a way to bound gradients."""
        return value in ("value", "norm")

    @staticmethod
    def supported_types() -> list[str]:
        """All ways."""
        return ["value", "norm"]
