"""Judge-free personalization: how much a response says about the context it was written for.

All three measures start from a scoring model's log-probabilities of one response y to prompt x
under several contexts c. Notation as in the paper (PAPER.md, "Method").
"""

import math
from collections.abc import Sequence

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import Reasons, mean_score, same_length
from mipo_eval.records import ContextLikelihoods, Score
from mipo_eval.signature import join
from mipo_eval.stats.bootstrap import Labels


def context_lift(likelihoods: ContextLikelihoods) -> float:
    """Return log p(y|x,c) - log p(y|x) in nats: the pointwise mutual information of y and c.

    Under the reference model it is what MIPO's implicit reward converges to. 0 where the context
    changes nothing, negative where another response would have been more likely under it.
    """
    return likelihoods.with_contexts[0] - likelihoods.without_context


def context_retrieval(likelihoods: ContextLikelihoods) -> float:
    """Return whether the own context is the best of the K for this response, 0 to 1.

    Contexts that are equally good share the point, so a response that ignores its context gets
    the chance level 1/K.
    """
    values = likelihoods.with_contexts
    best = max(values)
    return (values[0] == best) / values.count(best)


def infonce_term(likelihoods: ContextLikelihoods) -> float:
    """Return log( p(y|x,c) / ((1/K) sum_k p(y|x,c_k)) ) in nats, at most log K (eq. 6, one term).

    Its mean over responses is the InfoNCE lower bound on I(Y;C|X) with log p(y|x,c) as the critic
    and the other contexts as negatives; it is 0 for a response that ignores its context.
    """
    values = likelihoods.with_contexts
    best = max(values)  # K numbers at a time: arrays would take ten times as long
    among = best + math.log(math.fsum(math.exp(value - best) for value in values))
    return values[0] - among + math.log(len(values))


def context_scores(
    likelihoods: Sequence[ContextLikelihoods | None],
    *,
    scorer: str,
    groups: Labels = None,
    reasons: Reasons = None,
) -> list[Score]:
    """Return the judge-free personalization metrics of a set of responses.

    The `scorer` is the scoring model, for the signature; all else is as in `mean_score`.

    Returns:
        `context_lift` and `infonce_bound` (nats), `context_lift_per_token` (nats per token) and
        `context_retrieval` (0-100, chance 100/K).

    Raises:
        DataError: no response has a likelihood, or they have different numbers of contexts.
    """
    same_length("likelihoods", len(likelihoods), "groups", groups)
    sizes = {len(entry.with_contexts) for entry in likelihoods if entry is not None}
    if len(sizes) > 1:
        raise DataError(
            f"responses were scored under {' and '.join(map(str, sorted(sizes)))} contexts; "
            "retrieval and the bound depend on the number, use one for all"
        )
    contexts = max(sizes, default=None)
    spans = {"infonce_bound": (-math.inf, math.log(contexts))} if contexts else {}
    metrics = {
        "context_lift": context_lift,
        "context_lift_per_token": lambda entry: context_lift(entry) / entry.tokens,
        "context_retrieval": lambda entry: 100 * context_retrieval(entry),
        "infonce_bound": infonce_term,
    }
    return [
        mean_score(
            metric,
            [None if entry is None else measure(entry) for entry in likelihoods],
            signature=join(scorer=scorer, contexts=contexts),
            groups=groups,
            reasons=reasons,
            span=spans.get(metric),
        )
        for metric, measure in metrics.items()
    ]
