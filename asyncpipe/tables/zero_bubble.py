"""Tables as the zero-bubble project (github.com/sail-sg/zero-bubble-pipeline-parallelism) prints them.

Two forms. `print_schedule` writes one line for each device: `f0 rf1 f1 sf0 b0 w0 ...`, small letters for its first
chunk of layers and capitals for the second; `print(local_order)` writes `ScheduledNode(type=F, stage=0, ...)`.
Its B is our I, its BW our B; the printed line writes both as `b`, so a `b` without a `w` is a whole backward.
Transfers are left out, since the compiler makes its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from asyncpipe.errors import Position, Report
from asyncpipe.ir import Op
from asyncpipe.tables.cells import Place, Rows
from asyncpipe.tables.chunks import Item, place_chunks, whole_backwards
from asyncpipe.tables.wording import counted

__all__ = ["read_zero_bubble"]

_MOST_DEVICES = 4096
_MOST_FINDINGS = 50
_INDEX = "0|[1-9][0-9]{0,8}"
_TOKEN = re.compile(rf"([A-Za-z]+)({_INDEX})")
_NODE = re.compile(r"ScheduledNode\(([^()]*)\)")
_BETWEEN = re.compile(r"[\s\[\],]*")
_FIELD = re.compile(r"(\w+)\s*=\s*('[^']*'|<[^<>]*>|[^,]*)")
_TRANSFERS = ("sf", "rf", "sb", "rb", "send_forward", "recv_forward", "send_backward", "recv_backward")
_LETTERS = {"f": Op.F, "b": Op.I, "w": Op.W, "bw": Op.B}
_REFUSED = {
    "pv": "post-validation takes an update back, which a table cannot say",
    "s": "passes of the vocabulary layers are no stages of a pipeline",
    "r": "the compiler places recomputation itself: `recompute` in the schedule asks for it",
}
_SYNONYMS = {
    "spv": "pv",
    "rpv": "pv",
    "post_validation": "pv",
    "send_post_validation": "pv",
    "recv_post_validation": "pv",
    **dict.fromkeys(("t", "if", "ib", "ss", "rs", "rt", "sif", "rib"), "s"),
}


def read_zero_bubble(text: str, file: str, report: Report, place: str | None = None) -> Rows | None:
    """The rows, or None with AP130 or AP138 in the report. `place`: where second chunks lie, if both is possible."""
    reader = _Reader(file, report)
    nodes = "ScheduledNode" in text
    items = list(reader.nodes(text) if nodes else reader.lines(text))
    reader.summarize()
    if not items and not reader.failed:
        report.error("AP138", "the table is empty", Position(file, 1, 1), "one line for each device: f0 f1 b0 w0 b1 w1")
    if not items or reader.failed:
        return None
    items = items if nodes else whole_backwards(items)
    return place_chunks(items, file, report, place)


class _Reader:
    def __init__(self, file: str, report: Report) -> None:
        self.file = file
        self.report = report
        self.findings = 0
        self.transfers: list[Place] = []

    def lines(self, text: str) -> Iterator[Item]:
        """Items of the one-line form; capitals are the second chunk where there are small letters too."""
        mixed = any(match[1].islower() for match in _TOKEN.finditer(text))
        device = 0
        for number, line in enumerate(re.split(r"\r\n?|\n", text), 1):
            found = list(re.finditer(r"\S+", line))
            for token in found:
                place = Place(number, token.start() + 1, len(token[0]))
                match = _TOKEN.fullmatch(token[0])
                if match is None:
                    message = f"expected an item such as f0, found {token[0][:40]!r}"
                    self._refuse(place, message, "a line is f0 f1 b0 w0 ...")
                    continue
                op = self._op(match[1], place)
                if op is not None:
                    yield Item(device, int(mixed and match[1].isupper()), None, op, int(match[2]), place)
            device += bool(found)

    def nodes(self, text: str) -> Iterator[Item]:
        """Items of the printed Python lists."""
        starts = [match.start() for match in re.finditer("\n", text)]
        position, line = 0, 0
        while position < len(text):
            between = _BETWEEN.match(text, position)
            position = between.end() if between else position
            if position == len(text):
                return
            while line < len(starts) and starts[line] < position:
                line += 1
            column = position - (starts[line - 1] if line else -1)
            node = _NODE.match(text, position)
            if node is None:
                place = Place(line + 1, column, 1)
                hint = "the file holds what `print(local_order)` writes, and no more"
                self._refuse(place, "expected ScheduledNode(...)", hint)
                return
            item = self._node(node[1], Place(line + 1, column, len(node[0])))
            if item is not None:
                yield item
            position = node.end()

    def _node(self, inside: str, place: Place) -> Item | None:
        fields = {match[1]: match[2].strip().strip("'") for match in _FIELD.finditer(inside)}
        fields.setdefault("microbatch", fields.get("minibatch", ""))
        op = self._op(fields.get("type", ""), place)
        if op is None:
            return None
        if fields.get("seq_split_idx", "0") != "0" or fields.get("rollback", "False") != "False":
            message = "parts of a sequence and rollbacks have no form in a table"
            self._refuse(place, message, "print a schedule without them")
            return None
        numbers = [fields.get("stage", ""), fields["microbatch"], fields.get("chunk", "0")]
        if not all(re.fullmatch(_INDEX, number) for number in numbers):
            self._refuse(place, "expected the fields stage and microbatch", "as in stage=0, microbatch=0")
            return None
        stage = fields.get("layer_group_idx", "None")
        device, microbatch, chunk = map(int, numbers)
        if device >= _MOST_DEVICES:
            self._refuse(place, f"device {device} is out of range", f"there are at most {_MOST_DEVICES:,} devices")
            return None
        return Item(device, chunk, int(stage) if re.fullmatch(_INDEX, stage) else None, op, microbatch, place)

    def _op(self, word: str, place: Place) -> Op | None:
        name = word.lower()
        if name in _LETTERS:
            return _LETTERS[name]
        if name in _TRANSFERS:
            self.transfers.append(place)
            return None
        hint = _REFUSED.get(_SYNONYMS.get(name, name), "the items are f, b, w, bw and transfers")
        self._refuse(place, f"expected f, b, w or bw, found {word[:40]!r}", hint)
        return None

    def _refuse(self, place: Place, message: str, hint: str) -> None:
        self.findings += 1
        if self.findings <= _MOST_FINDINGS:
            self.report.error("AP130", message, Position(self.file, *place), hint)

    @property
    def failed(self) -> bool:
        return self.findings > 0

    def summarize(self) -> None:
        """What many items have in common is said once."""
        if self.findings > _MOST_FINDINGS:
            message = f"{self.findings - _MOST_FINDINGS:,} more items are no actions"
            self.report.error("AP130", message, Position(self.file, 1, 1), "is it a printed zero-bubble schedule?")
        if self.transfers and not self.failed:
            message = f"left out: {counted(len(self.transfers), 'transfer')}"
            where = Position(self.file, *self.transfers[0])
            self.report.error("AP130", message, where, "the compiler adds its own", severity="note")
