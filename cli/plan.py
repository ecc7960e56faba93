"""`mindgeex plan`."""

from pathlib import Path


def plan(
    recipe: str = "codegeex_13b_1536",
    set: tuple[str, ...] = (),  # noqa: A002
    rank: int = 0,
    out: Path | None = None,
    json: bool = False,
    save_graphs: Path | None = None,
    whole: bool = False,
    search: int = 0,
    confirm: int = 0,
) -> None:
    """Compile a recipe's training step for a simulated cluster: memory, communication and time of one NPU.

    Needs neither NPUs nor CANN; MindSpore's own partitioner does the work. Two models of few layers are
    compiled and extended to the recipe's depth, as every layer says and computes the same. Cached by recipe.

    Args:
        recipe: name of a shipped recipe, or path of a YAML file.
        set: settings that differ from the recipe, such as parallel.mp=4 compute.attention=flash.
        rank: the NPU to compile for.
        out: folder for plan.html and plan.json.
        json: print one JSON object instead of text.
        save_graphs: keep MindSpore's compiled graph, of all layers, in this folder.
        whole: compile all layers.
        search: instead, rank the legal layouts of the recipe's NPUs by predicted time, and show this many, each with
            the best number of optimizer shards.
        confirm: compile the slowest stage of this many of the best of the search.
    """
    import json as json_module

    from mindgeex.common.html import write_page
    from mindgeex.train.config import load_recipe
    from mindgeex.train.dryrun.plan import make_plan
    from mindgeex.train.dryrun.report import as_json, search_json, search_lines, sections, summary_lines

    if search or confirm:
        from mindgeex.train.dryrun.search import best_shards
        from mindgeex.train.dryrun.search import search as rank_layouts

        candidates = rank_layouts(load_recipe(recipe, set))
        shown = best_shards(candidates)[: max(search, confirm)]
        plans = [make_plan(one.config, one.stage * one.setting.parallel.stage_npus) for one in shown[:confirm]]
        if json:
            print(json_module.dumps(search_json(shown, plans), indent=2))
        else:
            print("\n".join(search_lines(candidates, shown, plans)))
        return
    made = make_plan(load_recipe(recipe, set), rank, save_graphs, whole=whole)
    print(json_module.dumps(as_json(made), indent=2) if json else "\n".join(summary_lines(made)))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "plan.json").write_text(json_module.dumps(as_json(made), indent=2), encoding="utf-8")
        write_page(out / "plan.html", f"Plan of {Path(recipe).stem}", sections(made))
        if not json:
            print(f"\nplan: {out / 'plan.html'}")
