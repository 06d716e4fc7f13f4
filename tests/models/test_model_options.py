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


KNOWN = "mlp, convnet, lstm, deep-narrow, resnet18, resnet50, resnet, wrn, wrn-28-10, revnet, gpt, vit-tiny, mixer"


def test_built_in_models_are_these() -> None:
    assert ", ".join(NAMES) == KNOWN


def test_unknown_model_names_the_nearest_and_all() -> None:
    error = refusal("convent", {})
    assert error.message == "no built-in model is called 'convent' (did you mean 'convnet'?)"
    assert error.hint == f"models: {KNOWN}"


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
        ("resnet18", {"stem": "tiny"}),
        ("resnet50", {"zero_init": 0}),
        ("resnet", {"depth": 1208}),
        ("resnet", {"shortcut": "A"}),
        ("wrn", {"dropout": 1.0}),
        ("gpt", {"tied": "yes"}),
        ("gpt", {"context": 0}),
        ("revnet", {"blocks": []}),
        ("revnet", {"channels": 1}),
        ("vit-tiny", {"heads": 0}),
        ("mixer", {"token_hidden": None}),
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
        ("resnet18", {"stem": "imagenet"}),
        ("resnet", {"depth": 1202}),
        ("wrn", {"depth": 10, "width": 1, "dropout": 0}),
        ("revnet", {"channels": 2, "blocks": [1, 1, 1, 1]}),
        ("vit-tiny", {"patch": 8}),
        ("mixer", {"patch": 1, "layers": 1}),
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


@pytest.mark.parametrize("name", ["mlp", "convnet", "deep-narrow", "resnet", "revnet", "vit-tiny", "mixer"])
def test_token_ids_are_refused_by_models_of_numbers(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(name, {}, (12,), 2, vocabulary=30)
    assert caught.value.message == f"model {name} takes numbers, found token ids of shape (12,)"
    assert caught.value.hint == "take lstm or gpt, or other data"


def test_classes_of_every_step_are_refused_by_models_of_samples() -> None:
    with pytest.raises(UsageError, match=r"gives one class for each sample, found targets of shape \(12,\)"):
        plan("mlp", {}, (12,), 2, target_shape=(12,))


@pytest.mark.parametrize(
    ("name", "depth", "hint"),
    [("resnet", 18, "take 14 or 20"), ("resnet", 21, "take 20 or 26"), ("wrn", 30, "take 28 or 34")],
)
def test_depth_that_blocks_cannot_make_is_refused(name: str, depth: int, hint: str) -> None:
    error = refusal(name, {"depth": depth})
    assert error.message.startswith(f"model {name} needs a depth of 6n + ")
    assert error.message.endswith(f", found {depth}")
    assert error.hint == hint


@pytest.mark.parametrize("channels", [5, 2])
def test_channels_without_halves_or_room_for_the_image_are_refused(channels: int) -> None:
    error = refusal("revnet", {"channels": channels}, (3, 8, 8))
    assert error.message == f"model revnet needs an even number of at least 3 channels, found {channels}"


def test_every_further_group_of_a_revnet_halves_the_image() -> None:
    error = refusal("revnet", {"blocks": [1, 1, 1]}, (1, 8, 6))
    assert error.message == "model revnet needs height and width that 4 divides, found samples (1, 8, 6)"


@pytest.mark.parametrize("name", ["vit-tiny", "mixer"])
def test_patches_must_fill_the_image(name: str) -> None:
    error = refusal(name, {"patch": 3})
    assert error.message == (
        f"model {name} cuts images into patches of 3 x 3 pixels, which do not fill samples (1, 8, 8)"
    )


@pytest.mark.parametrize(("name", "shape"), [("gpt", (8,)), ("vit-tiny", IMAGE)])
def test_heads_must_divide_the_width(name: str, shape: tuple[int, ...]) -> None:
    error = refusal(name, {"width": 20, "heads": 3}, shape)
    assert error.message == f"model {name} needs a 'width' that its heads divide, found width 20 and 3 heads"


@pytest.mark.parametrize(("name", "options"), [("gpt", {}), ("lstm", {"hidden": 4})])
def test_vocabulary_comes_from_the_data_and_may_only_be_larger(name: str, options: dict[str, Any]) -> None:
    own = plan(name, options, (8,), 30, 30, (8,))
    assert plan(name, {**options, "vocabulary": 30}, (8,), 30, 30, (8,)) == own
    assert plan(name, {**options, "vocabulary": 32}, (8,), 30, 30, (8,)).parameters() > own.parameters()
    with pytest.raises(UsageError) as caught:
        plan(name, {**options, "vocabulary": 29}, (8,), 30, 30, (8,))
    assert caught.value.message == f"model {name} has a 'vocabulary' of 29, but the data have 30 token ids"


def test_gpt_refuses_images() -> None:
    assert refusal("gpt", {}).message == "model gpt takes token ids of shape (steps,), found samples (1, 8, 8)"


def test_gpt_refuses_one_class_for_a_whole_text() -> None:
    with pytest.raises(UsageError) as caught:
        plan("gpt", {}, (8,), 2, vocabulary=30, target_shape=())
    assert caught.value.message == "model gpt gives a class for each step, found targets of shape () for (8,)"


def test_context_must_hold_the_samples() -> None:
    assert "has a 'context' of 7, but the samples have 8 steps" in refusal("gpt", {"context": 7}, (8,)).message
    assert plan("gpt", {"context": 9}, (8,), 10).parameters() - plan("gpt", {}, (8,), 10).parameters() == 768
