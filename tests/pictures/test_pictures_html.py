"""The page as text: it is whole, it needs nothing, and its data is the timeline."""

from __future__ import annotations

import re

import pytest

from asyncpipe.ir import parse_action
from asyncpipe.pictures.counters import counters
from asyncpipe.pictures.html import MOST_BOXES, Panel, html
from asyncpipe.pictures.timeline import Box, Row, Timeline, planned
from tests.pictures.pages import Page, read_timelines
from tests.pictures.timelines import SCHEDULES, compiled, hand_made


def page_text(*panels: Panel, title: str = "x") -> str:
    return "".join(html(title, panels))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=" ".join)
def test_data_of_a_page_is_its_timeline(schedule: tuple[str, ...]) -> None:
    plan = planned(compiled(schedule, 3).program(6))
    data = Page(page_text(Panel("plan", plan))).data
    assert read_timelines(data) == [("plan", plan)]
    expected = [
        {"name": c.name, "stage": c.stage, "most": c.most, "steps": [list(step) for step in c.steps]}
        for c in counters(plan)
    ]
    assert data["panels"][0]["counters"] == expected


def test_page_holds_several_timelines() -> None:
    plans = [(name, planned(compiled((name,), 2).program(4))) for name in ("async-lu", "sgd")]
    text = page_text(*(Panel(name, plan) for name, plan in plans))
    assert read_timelines(Page(text).data) == plans
    assert re.findall(r"<h2>(.*)</h2>", text) == ["async-lu", "sgd"]


def test_page_needs_nothing_from_elsewhere() -> None:
    text = page_text(Panel("plan", planned(compiled(("async-lu",), 3).program(6))))
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(|\ssrc=|\shref=|<link|<img|<iframe|fetch\(|import\(|import ", text
    )
    (policy,) = [a["content"] for a in Page(text).attributes("meta") if a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy


def test_every_element_is_closed() -> None:
    text = page_text(Panel("plan", planned(compiled(("async-lu",), 3).program(6))))
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    open_tags: list[str] = []
    for closing, tag, empty in re.findall(r"<(/?)([a-z][a-z0-9]*)\b[^>]*?(/?)>", markup):
        if closing:
            assert open_tags.pop() == tag
        elif not empty and tag not in ("meta", "input"):
            open_tags.append(tag)
    assert open_tags == []


def test_every_id_that_a_script_asks_for_exists_once() -> None:
    text = page_text(Panel("plan", hand_made(main=[("0F0", 0, 1)])))
    ids = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = set(re.findall(r'getElementById\("([^"]+)"\)', text))
    assert len(asked) > 5
    assert asked <= set(ids)


def test_controls_have_names_for_those_who_do_not_see_them() -> None:
    page = Page(page_text(Panel("plan", hand_made(main=[("0F0", 0, 1)]))))
    assert page.attributes("html") == [{"lang": "en"}]
    for button in page.attributes("button"):
        assert button.get("aria-label") or page.texts[button["id"] or ""].isalpha()
    (picture,) = [a for a in page.attributes("div") if a.get("id") == "picture"]
    assert (picture["tabindex"], bool(picture["aria-label"])) == ("0", True)


def test_no_text_of_the_author_becomes_markup() -> None:
    nasty = "</script><script>alert(1)</script><!--&amp;\u2028"
    timeline = Timeline((Row(nasty, 0, (Box(parse_action("0F0"), 0.0, 1.0),)),), 1.0)
    text = page_text(Panel(nasty, timeline, (("period", nasty),)), title=nasty)
    assert "alert(1)</script>" not in text
    assert text.count("<script") == page_text(Panel("x", timeline)).count("<script") == 6
    page = Page(text)
    assert page.texts["h1"] == nasty
    assert read_timelines(page.data) == [(nasty, timeline)]


def test_summary_is_text() -> None:
    plan = planned(compiled(("async-lu",), 2).program(4))
    text = page_text(Panel("plan", plan, (("period", "2 per microbatch"),)))
    facts = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    assert facts == [("period", "2 per microbatch"), ("makespan", "12"), ("work", "24")]
    rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
        for row in re.findall(r'<tr>(<th scope="row">.*?)</tr>', text)
    ]  # fmt: skip
    assert rows == [
        ["forward", "0", "8", "8", "66.7%", "0"],
        ["backward[0]", "0", "8", "8", "66.7%", "2"],
        ["backward[1]", "0", "8", "8", "66.7%", "4"],
        ["0", "4", "2", "1.25", "3"],
        ["1", "4", "1", "0.75", "2"],
    ]


def test_legend_names_the_ops_that_are_drawn() -> None:
    text = page_text(Panel("plan", hand_made(main=[("0F0", 0, 1), ("0SEND_F0", 1, 2), ("0R0", 2, 3)])))
    assert re.findall(r"</svg>(.*)</li>", text) == ["F forward", "R recompute", "SEND transfer"]


def test_page_of_nothing_is_a_page() -> None:
    assert read_timelines(Page(page_text(Panel("plan", Timeline((), 0.0)))).data) == [("plan", Timeline((), 0.0))]


def test_too_many_boxes_are_refused() -> None:
    many = Timeline((Row("main", 0, (Box(parse_action("0F0"), 0.0, 1.0),) * MOST_BOXES),), 1.0)
    with pytest.raises(ValueError, match="at most 500,000 boxes, not 500,001"):
        page_text(Panel("plan", many), Panel("run", hand_made(main=[("0F0", 0, 1)])))
