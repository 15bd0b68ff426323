"""Self-BLEU within prompts: by hand, at a fixed size, and what is left out."""

import pytest

from mipo_eval.metrics import self_bleu
from mipo_eval.metrics.same_prompt import same_prompt_scores

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def by_name(*arguments, **options):
    return {score.metric: score for score in same_prompt_scores(*arguments, **options)}


def test_answers_that_ignore_the_user_have_one() -> None:
    texts = ["tea is a hot drink", "tea is a hot drink", "brew it for a minute", "all is well here"]
    found = by_name(texts, ["a", "a", "b", "b"])
    assert found["self_bleu_4_same_prompt"].value == pytest.approx(
        self_bleu(texts, groups=["a", "a", "b", "b"]).mean
    )
    fixed = found["self_bleu_4_same_prompt_fixed"]
    # Two texts a prompt and two prompts: there is one subset, all of them.
    assert fixed.value == pytest.approx(found["self_bleu_4_same_prompt"].value)
    assert (fixed.n, fixed.ci95) == (4, None)
    assert fixed.signature == "tok:13a|smooth:exp|refs:same-prompt|texts:2|prompts:2|draws:1"
    (same, _) = same_prompt_scores(["tea is a hot drink"] * 2, ["a", "a"])
    assert same.value == pytest.approx(1.0)


def test_more_users_a_prompt_change_the_plain_value_and_not_the_fixed_one() -> None:
    def answers(prompt: int, users: int) -> list[str]:
        return [
            " ".join(WORDS[(prompt * 3 + user * 7 + k * (1 + user % 3)) % 10] for k in range(12))
            for user in range(users)
        ]

    few, many = ([text for p in range(45) for text in answers(p, n)] for n in (4, 9))
    groups = [[p for p in range(45) for _ in range(n)] for n in (4, 9)]
    small, large = by_name(few, groups[0], draws=20), by_name(many, groups[1], draws=20)
    plain, fixed = "self_bleu_4_same_prompt", "self_bleu_4_same_prompt_fixed"
    assert large[plain].value > small[plain].value + 0.1
    assert abs(large[fixed].value - small[fixed].value) < 0.1
    low, high = small[fixed].ci95
    assert low < small[fixed].value < high
    assert small[fixed].signature.endswith("texts:2|prompts:40|draws:20")
    assert by_name(few, groups[0], draws=20)[fixed] == small[fixed]


def test_what_has_no_partner_is_counted() -> None:
    texts = ["a b", "a b", "a b", None, " "]
    reasons = [None, None, None, "timeout", "empty response"]
    for score in same_prompt_scores(texts, ["x", "x", "y", "x", "x"], reasons=reasons)[1:]:
        assert score.n == 2
        assert score.unscored_reasons == {
            "no other text for the prompt": 1,
            "timeout": 1,
            "empty response": 1,
        }


@pytest.mark.parametrize(
    ("texts", "groups"),
    [(["a", "b"], ["x", "y"]), (["a", "b"], [None, None]), (["a", None], ["x", "x"]), ([], [])],
)
def test_without_a_shared_prompt_there_is_nothing(texts, groups) -> None:
    assert same_prompt_scores(texts, groups) == []
