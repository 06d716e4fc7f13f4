"""The one clock of simulator and serial back end, on programs written by hand."""

from __future__ import annotations

from asyncpipe.ir import parse_program, replay

HEAD = """program hand
stages 2 every 1 start 0 step 1 iterations 0 microbatches 2
slots 2 2
place 0 0
update racy mean shared all 1
weights latest latest
gradient
recompute none
aux chain
replicas 1
versions 1 1
costs unit 1 F {F} B {B} U {U}
stream a device 0 runs F B U
stream b device 0 runs F B U
warmup
"""


def events(lines: list[str], **costs: str) -> list[str]:
    """`+` an action starts, `-` it ends, with the time at which."""
    text = HEAD.format(**{"F": "1 1", "B": "1 1", "U": "0 0", **costs})
    text += "".join(f"  {line}\n" for line in lines) + "body\ncooldown\n"
    return [f"{event.time}{'-' if event.ends else '+'}{event.action}" for event in replay(parse_program(text))]


def test_streams_run_beside_each_other() -> None:
    assert events(["a launch 0F0", "b launch 0B0"]) == ["0+0F0", "0+0B0", "1-0F0", "1-0B0"]


def test_launch_waits_for_its_stream_and_its_events() -> None:
    found = events(["a launch 0F0", "a record 0F0", "a launch 0F1", "b wait 0F0", "b launch 0B0"], F="2 2")
    assert found == ["0+0F0", "2-0F0", "2+0F1", "2+0B0", "3-0B0", "4-0F1"]


def test_everything_ends_before_anything_starts() -> None:
    found = events(["a launch 0F0", "a launch 0F1", "b launch 0B0", "b launch 0B1"])
    assert found[2:6] == ["1-0F0", "1-0B0", "1+0F1", "1+0B1"]


def test_updates_end_first_and_in_ascending_order() -> None:
    """So a version counts the update before it, and a backward that ends with them matters no more."""
    lines = ["a launch 0U1", "b launch 0U0"]
    assert events(lines, U="1 1") == ["0+0U1", "0+0U0", "1-0U0", "1-0U1"]
    assert events(["a launch 0F0", "b launch 0U1"], U="1 1") == ["0+0F0", "0+0U1", "1-0U1", "1-0F0"]


def test_free_updates_settle_before_free_forwards() -> None:
    """Even before one of an earlier microbatch; both run before what takes time starts."""
    lines = [
        "b launch 0B1",
        "b record 0B1",
        "a wait 0B1",
        "a launch 0F0",
        "a launch 1F0",
        "b launch 0U1",
        "b launch 1B1",
    ]
    found = events(lines, F="0 1")
    assert found == ["0+0B1", "1-0B1", "1+0U1", "1-0U1", "1+0F0", "1-0F0", "1+1F0", "1+1B1", "2-1F0", "2-1B1"]


def test_free_actions_settle_as_far_as_they_can() -> None:
    lines = ["a launch 0F0", "a launch 0F1", "a record 0F1", "b wait 0F1", "b launch 0B0"]
    assert events(lines, F="0 0", B="3 0") == ["0+0F0", "0-0F0", "0+0F1", "0-0F1", "0+0B0", "3-0B0"]
