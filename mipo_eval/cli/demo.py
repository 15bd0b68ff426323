"""`mipo-eval demo`: the main job on the embedded world, nothing to download."""

import click

from mipo_eval.cli.options import json_option, store_option


@click.command()
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N items.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of intervals and sampling.")
@store_option
@json_option
def demo(limit: int | None, seed: int, store: str, as_json: bool) -> None:
    """Evaluate the embedded model under default and personalized prompting.

    Builds the demo world's base model (about a minute, once), asks it every test item with and
    without the user's context, has every response rated by rule, and compares the two.
    """
    from mipo_eval.cli.evaluate import Asked, evaluate_asked, result_json
    from mipo_eval.cli.output import Output
    from mipo_eval.cli.tables import score_tables
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    results = []
    with Store.open(store) as opened:
        for prompting in ("default", "personalized"):
            asked = Asked(
                model="demo",
                suite="demo",
                prompting="default" if prompting == "default" else "personalized",
                seed=seed,
                limit=limit,
            )
            results.append(evaluate_asked(asked, opened, output))
            output.show(*score_tables(results[-1].scores, results[-1].run), "")
    if as_json:
        output.document({"runs": [result_json(result) for result in results]})
        return
    output.note(f"Responses and verdicts: mipo-eval show {results[-1].run.run_id[:12]}")
    output.note("Your own model: mipo-eval --model CKPT --suite demo --judge checker")
