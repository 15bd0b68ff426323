"""LaMP-QA and Personalized RewardBench: questions of people whose earlier posts are known.

Both have the same rows: a question, what its author wants the answer to cover (aspects taken from
the story they told with it), and their earlier posts. Personalized RewardBench adds a response that
keeps to the aspects and one that does not.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mipo_eval.records import Item, Text
from mipo_eval.tasks.datasets import Columns, Row, checked, prompt_group

FILES = ("lamp_qa/**/*test*.*",)
PAIR_FILES = ("personalized_rewardbench/**/*test*.*",)
"""Where the files of each are in the data folder."""
POSTS = 10
"""Earlier posts that are shown, as in the paper of LaMP-QA."""


class _Post(Columns):
    text: Text


class _Aspect(Columns):
    aspect: Text
    reason: str = ""


class AuthorQuestion(Columns):
    """The columns of both sets that are needed."""

    id: Text
    question: Text
    category: str = ""
    narrative: str = ""
    profile: tuple[_Post, ...]
    rubric_aspects: tuple[_Aspect, ...]

    @property
    def wishes(self) -> tuple[str, ...]:
        """What the author wants the answer to cover."""
        return tuple(
            f"Covers {one.aspect.rstrip('.')}. {one.reason}".strip() for one in self.rubric_aspects
        )


class AuthorPair(AuthorQuestion):
    """A question with a response for its author, and one that passes them by."""

    chosen: Text
    rejected: Text


def lamp_qa_items(path: Path, rows: Iterable[Row]) -> Iterator[Item]:
    """Yield an item per question of a file; there are no references.

    Raises:
        DataError: a row is not in the expected schema.
    """
    for _, row in checked(AuthorQuestion, rows, str(path)):
        yield _item("lamp-qa", path, row)


def rewardbench_items(path: Path, rows: Iterable[Row]) -> Iterator[Item]:
    """Yield an item per question of a file, with the chosen response as the reference.

    Raises:
        DataError: a row is not in the expected schema.
    """
    for _, row in checked(AuthorPair, rows, str(path)):
        item = _item("personalized-rewardbench", path, row)
        meta = {**item.meta, "rejected": row.rejected}
        yield item.model_copy(update={"reference": row.chosen, "meta": meta})


def _item(name: str, path: Path, row: AuthorQuestion) -> Item:
    return Item(
        item_id=f"{name}-{row.id}",
        prompt=row.question,
        context=posts_of(row, ranked="ranked" in path.stem),
        preferences=row.wishes,
        group_id=prompt_group(row.question),
        meta={"category": row.category, "narrative": row.narrative},
    )


def posts_of(row: AuthorQuestion, *, ranked: bool) -> str:
    """Return the earlier posts that have most to do with a question, as a text about its author.

    Args:
        row: the question.
        ranked: whether its posts are already in that order, as the files that LaMP-QA's own script
            ranks by a language model; else they are ranked by the words they share with it.
    """
    posts = [post.text for post in row.profile]
    if not ranked and len(posts) > POSTS:
        posts = _by_words(row.question, posts)
    told = "\n\n".join(posts[:POSTS])
    return f"Earlier posts of mine:\n\n{told}" if told else ""


def _by_words(question: str, posts: Sequence[str]) -> list[str]:
    """Return texts by how near their words are to those of a question (TF-IDF), nearest first."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(token_pattern=r"(?u)\w+").fit_transform([question, *posts])
    near = (weights[1:] @ weights[0].T).toarray().ravel()
    order = sorted(range(len(posts)), key=lambda place: (-round(near[place], 9), place))
    return [posts[place] for place in order]
