"""Operations whose results nobody needs, such as the check of `torch.linalg.inv`: tracing orders them by tokens."""

from __future__ import annotations

import operator

from torch import fx

__all__ = ["without_effects"]


def without_effects(graph: fx.Graph) -> None:
    """Calls such operations without tokens, which no caller of the graph has; what nothing reads is dropped later.

    So a singular matrix raises no error: its infinities come to the loss, which is checked. The check itself would
    make the host wait for the device.
    """
    ordered = [node for node in graph.nodes if getattr(node.target, "__name__", "") == "with_effects"]
    for node in ordered:
        token, target, *arguments = node.args
        with graph.inserting_before(node):
            plain = graph.call_function(target, tuple(arguments), node.kwargs)
        _replace_parts(graph, node, token, plain)
    tokens = dict.fromkeys(node.args[0] for node in ordered if node.args[0].op == "placeholder")
    output = graph.output_node()
    output.args = (tuple(one for one in output.args[0] if one not in tokens),)  # type: ignore[union-attr]
    for node in (*reversed(ordered), *tokens):
        graph.erase_node(node)


def _replace_parts(graph: fx.Graph, node: fx.Node, token: fx.Node, plain: fx.Node) -> None:
    """Part 0 is the token for the next one; the others are the operation's results."""
    several = len(plain.target._schema.returns) > 1  # type: ignore[union-attr]
    for part in [user for user in node.users if user.target is operator.getitem]:
        number: int = part.args[1]  # type: ignore[assignment]
        if number == 0:
            part.replace_all_uses_with(token)
        elif several:
            part.args = (plain, number - 1)
            continue
        else:
            plain.meta = dict(part.meta)
            part.replace_all_uses_with(plain)
        graph.erase_node(part)
