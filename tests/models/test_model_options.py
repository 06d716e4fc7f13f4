"""Names, options and sample shapes of the built-in models: what is accepted, and how the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.models.plan import NAMES, plan

IMAGE = (1, 8, 8)


def refusal(name: str, options: dict[str, Any], shape: tuple[int, ...] = IMAGE, classes: int = 10) -> UsageError:
    with pytest.raises(UsageError) as caught:
        plan(name, options, shape, classes)
    return caught.value


def test_built_in_models_are_these_four() -> None:
    assert NAMES == ("mlp", "convnet", "lstm", "deep-narrow")


def test_unknown_model_names_the_nearest_and_all() -> None:
    error = refusal("convent", {})
    assert error.message == "no built-in model is called 'convent' (did you mean 'convnet'?)"
    assert error.hint == "models: mlp, convnet, lstm, deep-narrow"


def test_unknown_option_names_the_nearest_and_what_each_accepts() -> None:
    error = refusal("convnet", {"chanels": [4]})
    assert error.message == "model convnet has no option 'chanels' (did you mean 'channels'?)"
    assert error.hint == (
        "options of model convnet: channels: a list of 1 to 16 integers from 1 to 8192; "
        "hidden: an integer from 1 to 65536; norm: batch or none"
    )


def test_all_wrong_options_are_told_at_once() -> None:
    error = refusal("convnet", {"hidden": "wide", "zzz": 1, "norm": "group"})
    assert error.message == (
        "model convnet: option 'hidden' must be an integer from 1 to 65536, found 'wide'; "
        "model convnet has no option 'zzz'; "
        "model convnet: option 'norm' must be batch or none, found 'group'"
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": 128}),
        ("mlp", {"hidden": []}),
        ("mlp", {"hidden": [128, 0]}),
        ("mlp", {"hidden": "128"}),
        ("mlp", {"hidden": [1.0]}),
        ("convnet", {"channels": [8] * 17}),
        ("convnet", {"hidden": True}),
        ("convnet", {"hidden": None}),
        ("convnet", {"norm": None}),
        ("lstm", {"layers": 0}),
        ("lstm", {"layers": 65}),
        ("lstm", {"vocabulary": 0}),
        ("deep-narrow", {"layers": 1001}),
        ("deep-narrow", {"width": 65537}),
        ("deep-narrow", {"residual": 1}),
    ],
)
def test_value_out_of_its_domain_is_refused(name: str, options: dict[str, Any]) -> None:
    ((option, value),) = options.items()
    error = refusal(name, options)
    assert error.message.startswith(f"model {name}: option {option!r} must be ")
    assert error.message.endswith(f", found {value!r}")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": (1, 65536)}),
        ("convnet", {"channels": [1], "hidden": 1, "norm": "none"}),
        ("lstm", {"layers": 64, "vocabulary": None, "embedding": None}),
        ("deep-narrow", {"layers": 1000, "width": 1, "residual": False}),
    ],
)
def test_values_on_the_edges_are_accepted(name: str, options: dict[str, Any]) -> None:
    assert plan(name, options, IMAGE, 1).output_shape(IMAGE) == (1,)


@pytest.mark.parametrize(("name", "shape"), [("convnet", (64,)), ("lstm", (8, 8)), ("convnet", (1, 8, 8, 8))])
def test_model_for_images_refuses_other_samples(name: str, shape: tuple[int, ...]) -> None:
    expected = f"model {name} takes images of shape (channels, height, width), found samples {shape}"
    assert refusal(name, {}, shape).message == expected


def test_image_too_small_for_its_poolings_is_refused() -> None:
    assert plan("convnet", {"channels": [4] * 4}, IMAGE, 10).output_shape(IMAGE) == (10,)
    error = refusal("convnet", {"channels": [4] * 5})
    assert "needs at least 16 x 16 pixels, found samples (1, 8, 8)" in error.message


def test_vocabulary_refuses_images() -> None:
    assert "takes token ids of shape (steps,)" in refusal("lstm", {"vocabulary": 9}).message


def test_embedding_without_vocabulary_is_refused() -> None:
    assert refusal("lstm", {"embedding": 9}).message == "model lstm: option 'embedding' needs 'vocabulary'"


@pytest.mark.parametrize(("shape", "classes"), [((), 10), ((1, 0, 8), 10), (IMAGE, 0)])
def test_sizes_that_are_not_positive_are_refused(shape: tuple[int, ...], classes: int) -> None:
    assert "takes positive sizes" in refusal("mlp", {}, shape, classes).message
