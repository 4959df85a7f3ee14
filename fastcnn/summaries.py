"""The table that `model.summary()` prints."""

from __future__ import annotations

from collections import Counter

from fastcnn.graph import Graph, SymbolicTensor

# Bytes that the first step of any model takes beside its arrays: the engine's code, stacks of threads, Python objects.
# On Linux 2.8 MB for LeNet-5, 4.9 MB for 27 convolutions with batch normalisation.
PROGRAM = 4 << 20


def summary(model, batch_size: int) -> str:
    """Layers, output shapes, parameters, FLOPs, and for graphs that are no chain where inputs come from.

    Below, totals, and the memory of one training step (of a prediction, if the model has no loss yet) at
    `batch_size`.
    """
    rows, flops = layer_rows(model)
    lines = table(rows)
    trainable = sum(v.value.size for v in model.trainable_weights)
    total = model.count_params()
    return "\n".join([
        f"Model: {model.name}", *lines,
        f"Parameters:   {total:,} ({size(4 * total)}), of which {trainable:,} trainable",
        f"Forward pass: {flops / 1e6:.1f} MFLOPs per sample (two per multiply-add)",
        *memory_lines(model, batch_size),
    ])


def memory_lines(model, batch_size: int) -> list[str]:
    """What a step adds to the memory of a process that has imported fastcnn and has the data, and for what."""
    kind, used, stored = model.measure(batch_size)
    training = kind == "training"
    activations, weights = ("activations, their gradients and partial sums", "weights, their gradients and moments") \
        if training else ("activations", "weights, also packed")
    return [f"Memory:       {size(sum(used.values()) + stored + PROGRAM)} for {kind} at batch size {batch_size}:",
            f"              {size(used['activations'])} {activations},",
            f"              {size(stored + used['weights'])} {weights},",
            f"              {size(used['threads'])} of the threads' own, {size(PROGRAM)} of code and Python objects"]


def layer_rows(model) -> tuple[list[tuple[str, ...]], int]:
    """The rows of the table, headings first, and the FLOPs of all layers."""
    graph, names = model.graph, tensor_names(model)
    chain = is_chain(graph)
    rows = [("Layer (type)", "Output shape", "Params", "MFLOPs", "Connected to")]
    if not chain:
        rows += [(f"{names[t]} (Input)", str(t.shape), "0", "0.00", "") for t in graph.inputs]
    seen, flops = set(), 0
    for node in graph.nodes:
        layer, output = node.layer, node.outputs[0]
        work = layer.flops(output.shape)
        flops += work
        parameters = "shared" if layer in seen and layer.variables else f"{layer.count_params():,}"
        rows.append((f"{names[output]} ({type(layer).__name__})", str(output.shape), parameters, f"{work / 1e6:.2f}",
                     ", ".join(names[t] for t in node.inputs)))
        seen.add(layer)
    return [row[:4] for row in rows] if chain else rows, flops


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, numbers to the right, between lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{'>' if i in (2, 3) else '<'}{width}}"
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    return [rule, lines[0], rule, *lines[1:], rule]


def tensor_names(model) -> dict[SymbolicTensor, str]:
    """What each tensor of a graph is called: an input's name or the layer's, numbered where that is called again."""
    calls = Counter(node.layer for node in model.graph.nodes)
    names = dict(zip(model.graph.inputs, model.input_names, strict=True))
    number: Counter = Counter()
    for node in model.graph.nodes:
        suffix = f"[{number[node.layer]}]" if calls[node.layer] > 1 else ""
        names[node.outputs[0]] = node.layer.name + suffix
        number[node.layer] += 1
    return names


def is_chain(graph: Graph) -> bool:
    """Whether every layer reads what the one before it gives."""
    before = [*graph.inputs, *(node.outputs[0] for node in graph.nodes)]
    return len(graph.inputs) == 1 and all(node.inputs == [tensor]
                                          for node, tensor in zip(graph.nodes, before, strict=False))


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GB"
