"""A plan as text, JSON and the sections of a page."""

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from mindgeex.common.html import Section
from mindgeex.model_zoo.sharding import shares_tokens
from mindgeex.train.dryrun.estimate import PUBLISHED
from mindgeex.train.dryrun.memory import Layout
from mindgeex.train.dryrun.plan import Plan
from mindgeex.train.dryrun.search import Candidate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GB = 1e9


def layout_rows(layouts: list[Layout]) -> list[tuple[Any, ...]]:
    """Tensors of all blocks counted together: name, count, shape, slice, HSDP group, bytes of an NPU in float32."""
    groups: dict[tuple[str, tuple[int, ...], tuple[int, ...], int], int] = {}
    for layout in layouts:
        name = re.sub(r"^blocks\.\d+\.", "blocks.*.", layout.name)
        key = (name, layout.shape, layout.slice_shape, layout.shards)
        groups[key] = groups.get(key, 0) + 1
    held = {(layout.shape, layout.slice_shape): layout.values for layout in layouts}
    return [
        (name, count, list(shape), list(piece), shard if shard > 1 else "", 4 * count * held[shape, piece])
        for (name, shape, piece, shard), count in groups.items()
    ]


def as_json(plan: Plan) -> dict[str, Any]:
    """All figures of a plan."""
    times, config = plan.times, plan.config
    return {
        "model": dataclasses.asdict(plan.model),
        "parallel": dataclasses.asdict(config.parallel) | {"dp": config.parallel.dp},
        "compute": dataclasses.asdict(config.compute),
        "rank": plan.rank,
        "cann": plan.compiled.cann,
        "compilation": {key: getattr(plan.compiled, key) for key in ("build_s", "compile_s", "total_s", "peak_bytes")}
        | {"layers": plan.layers, "why_whole": plan.why_whole},
        "parameters_of_npu": sum(layout.values for layout in plan.layouts),
        "memory": [dataclasses.asdict(line) for line in plan.memory],
        "memory_bytes": total_bytes(plan),
        "sequence_parallel_saves_bytes": plan.shared_bytes,
        "fits": total_bytes(plan) <= config.parallel.memory_gb * GB,
        "collectives": [dataclasses.asdict(group) for group in plan.traffic],
        "time": dataclasses.asdict(times)
        | {name: getattr(times, name) for name in ("step_s", "serial_s", "mfu", "tokens_per_day")},
        "published": PUBLISHED,
        "layouts": [dataclasses.asdict(layout) for layout in plan.layouts],
    }


def total_bytes(plan: Plan) -> int:
    """Of one NPU."""
    return sum(line.value for line in plan.memory)


def remedies(plan: Plan) -> list[str]:
    """What to change if the plan does not fit, the largest saving first."""
    parallel, compute = plan.config.parallel, plan.config.compute
    by_name = {line.name: line.value for line in plan.memory}
    found = []
    if not compute.recompute:
        found.append((by_name["activations kept"], "compute.recompute=true"))
    if compute.attention == "matmul":
        scores = plan.rows * plan.model.num_heads // parallel.mp * plan.model.seq_length**2
        found.append((4 * scores, "compute.attention=flash"))
    if not parallel.sequence_parallel and parallel.mp > 1 and shares_tokens(plan.model, parallel.mp, plan.rows):
        found.append((plan.shared_bytes, "parallel.sequence_parallel=true"))
    if plan.rows > 1:
        activations = sum(by_name[name] for name in ("activations kept", "one block at work", "logits", "mask"))
        found.append((activations // 2, f"batch.micro_rows={plan.rows // 2}"))
    if parallel.optimizer_shard < parallel.dp:
        states = by_name["weights"] + by_name["moments"] + by_name["gradients"]
        found.append((states // 2, f"parallel.optimizer_shard={min(parallel.dp, 2 * parallel.optimizer_shard)}"))
    if parallel.pp < min(plan.model.num_layers, plan.batch.accumulate) and parallel.dp % 2 == 0:
        states = by_name["weights"] + by_name["moments"] + by_name["gradients"]
        found.append((states // 2, f"parallel.pp={2 * parallel.pp} (with batch.accumulate doubled)"))
    if parallel.optimizer_shard > 1 and parallel.optimizer_level != "level3":
        found.append((by_name["gathered weights"], "parallel.optimizer_level=level3"))
    return [f"{setting} (about {saved / GB:.1f} GB less)" for saved, setting in sorted(found, reverse=True)]


def compilation_line(plan: Plan) -> str:
    """For which rank, how many layers, how long."""
    made = plan.compiled
    if plan.why_whole:
        how = f"compiled all {plan.model.num_layers} layers ({plan.why_whole})"
    else:
        how = f"compiled at {plan.layers[0]} and {plan.layers[1]} layers, extended to {plan.model.num_layers},"
    return (
        f"{how} for rank {plan.rank} (stage {plan.stage}) in {made.total_s:.1f} s and {made.peak_bytes / GB:.1f} GB "
        f"(CANN: {made.cann})"
    )


def summary_lines(plan: Plan) -> list[str]:
    """What a terminal shows."""
    parallel, times = plan.config.parallel, plan.times
    held, limit = total_bytes(plan), parallel.memory_gb * GB
    lines = [
        f"{plan.config.model} on {parallel.npus:,} NPUs: dp {parallel.dp} x mp {parallel.mp} x pp {parallel.pp}, "
        f"optimizer shard {parallel.optimizer_shard} ({parallel.optimizer_level}), {plan.batch.accumulate} micro "
        f"batches of {plan.rows} rows of {plan.model.seq_length:,}",
        compilation_line(plan),
        "",
        f"memory of an NPU: {held / GB:.1f} of {parallel.memory_gb:g} GB" + ("" if held <= limit else ", does NOT fit"),
        *(f"  {line.name:<18}{line.value / GB:>8.2f} GB   {line.formula}" for line in plan.memory),
    ]
    if parallel.sequence_parallel:
        lines.append(f"  with whole rows between the products: {plan.shared_bytes / GB:.2f} GB more")
    if held > limit:
        lines += ["  what helps:", *(f"    --set {remedy}" for remedy in remedies(plan))]
    lines += ["", "collectives of one micro batch, and of the update:"]
    lines += [
        f"  {group.count:>5} {group.kind:<14}{group.purpose:<15}of {group.group_size:>5}, {group.reach:<7}"
        f"{group.bytes / GB:>9.3f} GB {group.seconds:>8.3f} s"
        for group in plan.traffic
    ]
    lines += [
        "",
        f"time of a step: {times.step_s:.2f} s if weights and gradients travel while products are computed, "
        f"{times.serial_s:.2f} s if nothing overlaps, assuming {parallel.matmul_efficiency:.0%} of "
        f"{parallel.peak_tflops:g} TFLOP/s",
        f"  {times.flops / 1e12:,.0f} TFLOP of matrix products {times.products_s:.2f} s, other operators "
        f"{times.others_s:.2f} s, inside blocks {times.tensor_parallel_s:.2f} s, weights and gradients "
        f"{times.optimizer_s:.2f} s, between stages {times.pipeline_s:.2f} s",
        *(
            [f"  bubble: {times.bubble:.1%} of that again, (pp - 1) / (interleave x micro batches)"]
            if times.bubble
            else []
        ),
        f"  {times.tokens_per_day / 1e9:.1f}B tokens a day, {times.tokens / times.step_s / parallel.npus:,.0f} a "
        f"second and NPU, MFU {times.mfu:.1%}",
        f"  published for CodeGeeX-13B on {PUBLISHED['npus']:,.0f}: {PUBLISHED['tokens_per_day'] / 1e9}B tokens a day, "
        f"{PUBLISHED['step_s']:g} s a step, {PUBLISHED['tokens_per_s_per_npu']:g} a second and NPU",
    ]
    return lines


def sections(plan: Plan) -> list[Section]:
    """The page."""
    times, parallel = plan.times, plan.config.parallel
    top = Section("The plan").code("\n".join(summary_lines(plan)))
    if total_bytes(plan) > parallel.memory_gb * GB:
        top.warning("It does not fit: " + "; ".join(remedies(plan)))
    store = Section("Memory of an NPU").table(
        ("what", "bytes", "how it is counted", "source"),
        [(line.name, line.value, line.formula, line.source) for line in plan.memory],
    )
    store.figure(bars([(line.name, line.value / GB) for line in plan.memory], "GB"))
    store.text(
        "B rows of an NPU, S seq_length, H hidden_size, A heads, F feed_forward_size, V vocab_size, w bytes of a value."
    )
    talk = Section("Collectives").table(
        ("kind", "purpose", "NPUs", "reach", "count", "bytes put in", "seconds"),
        [(g.kind, g.purpose, g.group_size, g.reach, g.count, g.bytes, round(g.seconds, 4)) for g in plan.traffic],
    )
    clock = Section("Time").figure(
        bars(
            [
                ("matrix products", times.products_s),
                ("other operators", times.others_s),
                ("inside blocks", times.tensor_parallel_s),
                ("weights, gradients", times.optimizer_s),
                ("between stages", times.pipeline_s),
                ("bubble", times.busy_s * times.bubble),
            ],
            "seconds",
        )
    )
    clock.text("A roofline: the efficiencies and bandwidths are inputs of the recipe (parallel.*), not measurements.")
    return [top, store, talk, clock, Section("Layouts").table(
        ("tensor", "count", "shape", "slice of an NPU", "HSDP", "bytes"), layout_rows(plan.layouts)
    )]  # fmt: skip


def search_lines(candidates: list[Candidate], shown: list[Candidate], plans: list[Plan]) -> list[str]:
    """A ranking as a terminal shows it: its first, and what the compiled ones of them come to."""
    fitting = sum(candidate.fits for candidate in candidates)
    lines = [f"{len(candidates):,} legal layouts, {fitting:,} of them fit; predicted:", ""]
    lines.append("    dp  mp  pp shard micro x steps recompute      GB   s/step     MFU")
    for one in shown:
        parallel, batch, compute = one.setting
        again = "yes" if compute.recompute else "no"
        lines.append(
            f"{parallel.dp:>6}{parallel.mp:>4}{parallel.pp:>4}{parallel.optimizer_shard:>6}{batch.micro_rows:>6} x "
            f"{batch.accumulate:<5}{again:>10}{one.memory_bytes / GB:>8.1f}{one.times.step_s:>9.2f}"
            + f"{one.times.mfu:>8.1%}"
            + ("" if one.fits else "  does NOT fit")
        )
    lines += ["", "the first: --set " + " ".join(candidates[0].overrides)]
    for plan, one in zip(plans, shown, strict=False):
        predicted = f"predicted {one.times.step_s:.2f} s, {one.memory_bytes / GB:.1f} GB"
        found = f"{plan.times.step_s:.2f} s, {total_bytes(plan) / GB:.1f} GB"
        lines.append(f"compiled stage {plan.stage}: {found} ({predicted}) with " + " ".join(one.overrides))
    return lines


def search_json(shown: list[Candidate], plans: list[Plan]) -> list[dict[str, Any]]:
    """A ranking; what was compiled has `compiled_s`, the time of its slowest stage."""
    compiled = [plan.times.step_s for plan in plans] + [None] * len(shown)
    return [
        {"set": one.overrides, "memory_bytes": one.memory_bytes, "fits": one.fits, "step_s": one.times.step_s,
         "mfu": one.times.mfu, "compiled_s": seconds}
        for one, seconds in zip(shown, compiled, strict=False)
    ]  # fmt: skip


def bars(values: list[tuple[str, float]], unit: str) -> "Figure":
    """Horizontal bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.4 * len(values) + 0.8), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh([name for name, _ in values], [value for _, value in values], color="#3b7dd8")
    axes.bar_label(drawn, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    return figure
