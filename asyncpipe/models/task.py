"""What a model is built for, and the refusals that several models share. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpipe.errors import UsageError
from asyncpipe.models.specs import Shape

__all__ = ["LARGE_IMAGE", "Task", "divided", "embedded_ids", "image_of", "patches_of", "refuse_tokens"]

LARGE_IMAGE = 128
"""Pixels of the shorter side from which an image is treated as ImageNet's are, not CIFAR's: from here on 32 halves
leave 4x4 pixels, as many as CIFAR's networks leave of 32x32."""


@dataclass(frozen=True)
class Task:
    """One sample and its classes, for the model called `model`."""

    model: str
    sample_shape: Shape
    classes: int
    vocabulary: int | None = None
    """Samples are token ids below it; None: numbers."""
    target_shape: Shape | None = None
    """() for one class a sample, (steps,) for one a step; None: not known."""

    def refusal(self, message: str, hint: str = "") -> UsageError:
        return UsageError(f"model {self.model} {message}", hint)

    @property
    def every_step(self) -> bool:
        """Whether each step of a sample has a class of its own."""
        return bool(self.target_shape) and self.target_shape == self.sample_shape


def refuse_tokens(task: Task) -> None:
    """UsageError for token ids, and for more than one class a sample."""
    if task.vocabulary is not None:
        raise task.refusal(
            f"takes numbers, found token ids of shape {task.sample_shape}", "take lstm or gpt, or other data"
        )
    if task.target_shape:
        raise task.refusal(f"gives one class for each sample, found targets of shape {task.target_shape}")


def image_of(task: Task) -> Shape:
    """(channels, height, width) of the samples; UsageError for others."""
    refuse_tokens(task)
    if len(task.sample_shape) != 3:
        raise task.refusal(
            f"takes images of shape (channels, height, width), found samples {task.sample_shape}",
            "take another model (mlp and deep-narrow accept any shape) or other data",
        )
    return task.sample_shape


def embedded_ids(task: Task, asked: int | None, needed: int) -> int:
    """How many token ids the embedding knows: the option's, else `needed`; UsageError where `asked` are fewer."""
    if asked is not None and asked < needed:
        raise task.refusal(
            f"has a 'vocabulary' of {asked}, but the data have {needed} token ids",
            "leave 'vocabulary' out: the data tell it",
        )
    return asked or needed


def patches_of(task: Task, asked: int | None) -> tuple[int, int]:
    """(pixels of a patch's side, patches of an image); UsageError where they do not fill it."""
    _, height, width = image_of(task)
    patch = asked or (16 if min(height, width) >= LARGE_IMAGE else 4)
    if height % patch or width % patch:
        raise task.refusal(
            f"cuts images into patches of {patch} x {patch} pixels, which do not fill samples {task.sample_shape}",
            "give a 'patch' that divides height and width",
        )
    return patch, (height // patch) * (width // patch)


def divided(task: Task, width: int, heads: int) -> int:
    """The features of a head; UsageError where `heads` does not divide `width`."""
    if width % heads:
        raise task.refusal(f"needs a 'width' that its heads divide, found width {width} and {heads} heads")
    return width // heads
