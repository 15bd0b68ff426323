"""What a method is called by, beside the names of recipes."""

from mipo_eval.training.recipes import NEGATIVES


def find_method(
    method: str, negatives: str | None = None, n: int | None = None
) -> tuple[str, tuple[str, ...]]:
    """Return the recipe that is meant, and what negatives and their number change in it.

    `mipo` is mipo-missing or, with other negatives, their recipe.
    """
    overrides = []
    if negatives and negatives not in NEGATIVES and method.split("-", maxsplit=1)[0] == "mipo":
        method = "mipo-missing" if method == "mipo" else method
        overrides += [f"pairs.negatives={negatives}", f"name=mipo-{negatives}"]
    elif method == "mipo" or (negatives and method.startswith("mipo-")):
        method = f"mipo-{negatives or 'missing'}"
    elif negatives:
        overrides.append(f"pairs.negatives={negatives}")
    if n is not None:
        overrides.append(f"pairs.n_negatives={n}")
    return method, tuple(overrides)
