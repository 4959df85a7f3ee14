"""The table that `model.summary()` prints."""

from __future__ import annotations

from math import prod


def summary(model, batch_size: int) -> str:
    """Layers, output shapes, parameters and FLOPs; totals, and the memory of a training step at `batch_size`."""
    rows = [("Layer (type)", "Output shape", "Params", "MFLOPs")]
    activations = sum(prod(t.sample_shape) for t in model.graph.inputs)
    flops = 0
    for node in model.graph.nodes:
        layer, shape = node.layer, node.outputs[0].shape
        activations += prod(shape[1:])
        work = layer.flops(shape)
        flops += work
        rows.append((f"{layer.name} ({type(layer).__name__})", str(shape), f"{layer.count_params():,}",
                     f"{work / 1e6:.2f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    line = "-" * (sum(widths) + 6)
    table = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    trainable = sum(v.value.size for v in model.trainable_weights)
    total = model.count_params()
    return "\n".join([
        f"Model: {model.name}", line, table[0], line, *table[1:], line,
        f"Parameters:   {total:,} ({size(4 * total)}), of which {trainable:,} trainable",
        f"Forward pass: {flops / 1e6:.1f} MFLOPs per sample (two per multiply-add)",
        f"Activations:  {size(4 * activations)} per sample, {size(4 * activations * batch_size)} at batch size "
        f"{batch_size} if every layer's output is kept",
    ])


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GB"
