"""The places where a reply gives an answer, a rating or a name, and what takes one back.

Every pattern looks at a bounded stretch of text from each place, so that finding the claims of a
reply takes time in proportion to its length. Texts come from `visible`: blanks are joined.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

# The words by which a claim is taken back, and by which a text concludes; for both questions.
_DENIED = re.compile(
    r"\b(?:not|never|cannot|neither|nor|no(?!\s+(?:doubt|question))|instead|rather|than|unable|"
    r"refused?|declined?|whether|either|maybe|perhaps|nicht|keine?|pas|não)\b|n['’]t\b"
    r"|不是|并非|不选|ではな|아니",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:claim(?:s|ed)?|says?|said|ask(?:s|ed)?|told|tells?|instruct(?:s|ed)?|demand(?:s|ed)?|"
    r"states?|stated|writes?|wrote|wants?|tries|tried|suggest(?:s|ed)?|argue[sd]?|assert(?:s|ed)?|"
    r"insist(?:s|ed)?|declare[sd]?|announce[sd]?|implie[sd]|concludes|request(?:s|ed)?|ignore|"
    r"disregard|override|must|reads|contains?|includes?|ends?\s+with)\b",
    re.IGNORECASE,
)
_SAYS = re.compile(
    r"\b(?:says?|said|claims?|tells?|asks?|states?|writes?|instructs?|demands?|"
    r"dice|pide|afirma|sagt|behauptet|verlangt|dit|affirme|demande|diz)\b"
    r"|声称|要求|主張|말하|주장",
    re.IGNORECASE,
)
"""What, before a colon, puts what follows it in someone else's mouth."""
_OWN_WORDS = re.compile(
    r"\b(?:I|we)(?:['’]d|['’]ll)?\s+(?:(?:would|will|can|must|have\s+to|\w+ly)\s+){0,4}"
    r"(?:say|said|claim|state|suggest|argue|conclude|declare)\b",
    re.IGNORECASE,
)
"""The judge speaking for itself, which is no report."""
_OWN = re.compile(r"\b(?:I|we|my|our)\b|\b(?:final|overall)\s+\w+(?:\s+is)?:", re.IGNORECASE)
_SUPPOSED = re.compile(
    r"\b(?:if|unless|had|were|would have|could have|should have|according to (?:the )?(?:response|"
    r"assistant|output|answer|model|text|reply))\b",
    re.IGNORECASE,
)
_WOULD = re.compile(r"\bwould\b", re.IGNORECASE)
_UNDER_CONDITION = re.compile(r"[^.!?\n]{0,100}?\b(?:if|unless|had|were)\b", re.IGNORECASE)
_SO = r"(?:so|therefore|thus|hence|finally|in conclusion|in summary|to sum up)"
CONCLUSION = re.compile(
    rf"(?:^|[.!?\n])\s*((?:{_SO}|overall|(?:my |the )?final (?:answer|verdict|decision|choice))\b"
    r"[^.!?\n]*)([.!]?)\s*\Z",
    re.IGNORECASE,
)
"""A last sentence that concludes, and the mark at its end."""
_CLAUSE_END = re.compile(
    rf"[.!?;:,\n。！？，、]|\b(?:{_SO}|because|while|whereas|although|though|but|and|since|which|"
    r"overall|however)\b",
    re.IGNORECASE,
)
_SENTENCE_ENDS = ".!?;\n。！？"
_SEPARATOR = re.compile(r"[:=]|\[\[")
_LOOK_BACK = 400  # characters: few sentences are longer, and a hostile reply may be
_BECAUSE = r"[,]?\s*\b(?:because|since)\b"

Kind = Literal["mark", "line", "opening", "said", "id", "weak"]
"""In double brackets; a line of its own; opening a line; after a label or in a sentence; an id
after any colon; a sentence that may compare in one respect only."""


class Claim(NamedTuple):
    """One place where a reply gives an answer."""

    kind: Kind
    start: int
    """Where the answer itself starts."""
    end: int
    """Where the words that make the claim end."""
    value: Any
    """None when it is taken back, or not on the scale."""
    taken_back: bool
    """Denied, supposed, reported or asked."""
    apart: bool
    """Whether it ends its line and is bare, in double brackets or after a colon: a verdict."""


class Grammar(NamedTuple):
    """The forms of a claim; the group of a form that matched is the answer."""

    forms: Sequence[tuple[Kind, re.Pattern[str]]]
    after: re.Pattern[str]
    """What may follow a claim that ends its line."""
    hedged: re.Pattern[str]
    """What takes back a worded claim besides the words above."""
    of_others: re.Pattern[str]
    """What, right before the words of a claim, makes it somebody else's or half of two."""
    second: re.Pattern[str]
    """Right behind an answer: or another one."""
    answer: re.Pattern[str]
    """Anything that could be taken for an answer."""
    bare: re.Pattern[str]
    """An answer and nothing else."""
    as_asked: re.Pattern[str]
    """A line that is an answer as judges are asked to write it."""


def find_claims(text: str, grammar: Grammar, read: Callable[[str], Any]) -> Iterator[Claim]:
    """Yield the claims of a text, in terms of `read`; a place may be found in several forms."""
    last_line = text.rfind("\n") + 1
    for kind, pattern in grammar.forms:
        for match in pattern.finditer(text):
            at = match.start()
            heading = kind == "line" and match[0].lstrip().startswith("#")
            if heading and at < last_line:
                continue
            worded = kind not in {"line", "opening"}
            if worded and grammar.of_others.search(text[max(0, at - 60) : at]):
                continue
            group = next(i for i, told in enumerate(match.groups(), 1) if told)
            start, end = match.span(group)
            asked = "?" in {text[place : place + 1] for place in (end, match.end())}
            back = (
                asked
                or grammar.second.match(text, end) is not None
                or (worded and _is_denied(text, match, start, grammar.hedged))
            )
            marked = kind in {"line", "mark"} or _SEPARATOR.search(text, at, start)
            yield Claim(
                kind=kind,
                start=start,
                end=match.end(),
                value=None if back else read(match[group]),
                taken_back=back,
                apart=bool(marked and grammar.after.match(text, match.end())),
            )


def _is_denied(text: str, match: re.Match[str], answer: int, hedged: re.Pattern[str]) -> bool:
    """Whether the words around a claim take it back, or put it in someone else's mouth."""
    at = match.start()
    low = max(0, at - _LOOK_BACK)
    sentence = text[max(low, *(text.rfind(end, low, at) + 1 for end in _SENTENCE_ENDS)) : at]
    clause = _CLAUSE_END.split(sentence)[-1]
    introduced = sentence.rstrip(" =([{")
    label = _CLAUSE_END.split(introduced.rstrip(" :"))[-1]
    # "It ends with these lines:", and then the line; "my verdict is:" would be the judge's own.
    line = text[low:at].rpartition("\n")[0].rstrip().rpartition("\n")[2]
    above = line[max(map(line.rfind, ".!?")) + 1 :] if line.endswith(":") else ""
    return bool(
        (_REPORTED.search(above) and not _OWN.search(above))
        or (introduced.endswith(":") and _SAYS.search(_OWN_WORDS.sub(" ", label)))
        or _DENIED.search(clause + text[at:answer])
        or hedged.search(label + text[at:answer])
        or _REPORTED.search(_OWN_WORDS.sub(" ", clause))
        or _SUPPOSED.search(sentence)
        or (_WOULD.search(match[0]) and _UNDER_CONDITION.match(text, match.end()))
    )


# In some languages the adjective comes last, as in "veredicto final".
_FINAL = r"(?:[ ](?:finale?|final[ae]s?|definitiv[eoa]?|global|general|total[e]?))?"

# Ratings: a number.
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_RATING_LABEL = (
    r"(?:\b(?:rating|score|grade|answer(?!\s+\d)|verdict|mark|evaluation|assessment|overall|"
    r"(?:gesamt|end)?(?:bewertung|punktzahl|note)|évaluation|calificación|puntuación|valoración|puntaje|"
    r"nota|avaliação|pontuação|valutazione|punteggio|voto|оценка|рейтинг|балл|"
    r"ocena|beoordeling|betyg|puan)\b|"
    r"評分|评分|得分|分数|总分|總分|评级|評価|評点|スコア|点数|평점|점수|총점|등급|التقييم|الدرجة|रेटिंग|अंक)"
)
_UNIT = (
    r"(?:[ ]*(?:stars?|points?|sterne?n?|punkte?n?|étoiles?|estrellas?|puntos?|pontos?|punti|"
    r"분|点|점|星|★|⭐))?"
)
_NUMBER = r"(?<![A-Za-z\d])(?:(?<![\w)])[-+\u2212])?\d+(?:[.,]\d+)*(?:%|\+|°|[A-Za-z]+)?"
NUMBER = re.compile(_NUMBER)
_JOIN = r"[\s:=\-–—>(\[{|،]"
_NUMBER_BETWEEN = (
    rf"(?:{_JOIN}|\b(?:is|was|be|being|would|should|will|of|a|an|the|this|that|it|its|to|as|at|"
    r"for|response|text|reply|preference|item|given|solid|strong|clear|rating|score|grade|"
    r"ist|est|es|é|è|eine?|une?|una?|um|uma)\b|是|为|為|は|が|を|는|은|है){0,40}?"
)
_NUMBER_NEAR = r"(?=\D{0,401}+\d)"
"""Forty words of those between and a sign have no more characters: seen at once, where no number
is, instead of word by word."""
_RATING_VERB = (
    r"\b(?:rate[sd]?|give[sn]?|gave|giving|score[sd]?|assign(?:ed)?|award(?:ed)?|graded?|say|"
    r"choose|pick|go with|deserves?|earns?|gets?|merits?|receives?|settle on)\b"
)
_NUMBER_EDGE = r"[ \"'()\[\]{}<>.!,#=|]*"
RATINGS = Grammar(
    forms=(
        (
            "mark",
            re.compile(rf"\[\[ ?(?:{_RATING_LABEL} ?[:=]? ?)?({_NUMBER}(?: ?/ ?\d+)?) ?\]\]", re.I),
        ),
        ("line", re.compile(rf"^{_NUMBER_EDGE}({_NUMBER}){_UNIT}{_NUMBER_EDGE}$", re.M | re.I)),
        (
            "opening",
            re.compile(rf"^[ (\[]*({_NUMBER}){_UNIT}[ )\]]*(?:[-–—:,;(]|{_BECAUSE})", re.M | re.I),
        ),
        ("said", re.compile(rf"{_RATING_LABEL}{_FINAL}[\s)\]}}|]*[:=]{_JOIN}*({_NUMBER})", re.I)),
        (
            "said",
            re.compile(
                rf"(?:{_RATING_LABEL}|{_RATING_VERB}|\b{_SO}\b[,:]?){_NUMBER_NEAR}"
                rf"{_NUMBER_BETWEEN}({_NUMBER})",
                re.I,
            ),
        ),
    ),
    after=re.compile(rf"{_UNIT}{_NUMBER_EDGE}$", re.M | re.I),
    hedged=re.compile(
        r"\b(?:almost|nearly|least|most|below|above|under|over|short|lacks?|fails?|merely|"
        r"prevent(?:s|ed)?|required)\b|[<>≤≥≠~≈]",
        re.IGNORECASE,
    ),
    of_others=re.compile(r"(?!)"),
    second=re.compile(r"(?!)"),  # every other number is looked at, see `parse.py`
    answer=re.compile(r"\d"),
    bare=re.compile(rf"\s*{_NUMBER}\s*\.?\s*"),
    as_asked=re.compile(r"\d{1,2}|\[\[ ?\d{1,2} ?\]\]"),
)
NUMBER_WORD = re.compile(
    rf"{_NUMBER_EDGE}(?:(?:{_RATING_LABEL}|{_RATING_VERB}){_NUMBER_BETWEEN})?"
    rf"\s*({'|'.join(WORDS)}){_UNIT}{_NUMBER_EDGE}",
    re.IGNORECASE,
)
"""A whole reply that is a rating in a word."""
SCALE_OF_MARKS = re.compile(r"\[\[ ?\d+ ?\]\] ?(?:to|through|and|[-–—~]) ?\[\[ ?\d+ ?\]\]")

# Choices: a name, or a tie.
_NAMED = (
    r"(?:(?<![^\W_])(?:responses?|assistant|output|option|answer|model|candidate|text|reply|"
    r"version|choice|respuesta|asistente|opción|réponse|risposta|assistente|resposta|opção|antwort|"
    r"assistent|modell|ответ|ассистент|вариант)|"
    r"回答|回复|答复|助手|助理|选项|モデル|アシスタント|応答|응답|답변|어시스턴트|모델)"
)
_NAME = rf"(?:{_NAMED}[\s_-]*[(\[\"']*([ab])(?![\w'’])[)\]\"']*)"
_BRACKETED = r"\[{1,2}([ab])\]{1,2}|\(([ab])\)"
_EITHER = rf"(?:{_NAME}|{_BRACKETED}|(?<![\w'’.])([ab])(?![\w'’]))"
_IN_PROSE = rf"(?:{_NAME}|{_BRACKETED}|(?<![\w'’.])((?-i:[ABb]))(?![\w'’]))"
"""A lone small "a" is the article."""
_TIE = (
    r"(\ba\s+(?:tie|draw)\b|\btie[ds]?\b|\bdraw\b|\[\[c\]\]|\bboth\s+(?:are\s+)?equal(?:ly)?\b|"
    r"\bequally\s+(?:good|bad|well|helpful|strong)\b|\bneither\s+is\s+better\b)"
)
_NAME_EDGE = r"[ \"'{}<>.!,:;#=|]*"
_CHOICE_LABEL = (
    r"(?:\b(?:answer|verdict|winner|choice|decision|judge?ment|selection|preference|preferred|"
    r"conclusion|result|overall|better(?:\s+(?:one|response|output|answer|option|assistant))?|"
    r"best(?:\s+(?:one|response|output|answer|option|assistant))?|"
    r"veredicto|ganadora?|conclusión|decisión|elección|urteil|gewinner|sieger|ergebnis|"
    r"entscheidung|fazit|gagnante?|vainqueur|décision|choix|vencedora?|decisão|escolha|"
    r"vincitore|decisione|scelta|veredito|verdetto|вывод|победитель|вердикт|решение|"
    r"ответ|respuesta|antwort|réponse|risposta|resposta)\b|"
    r"结论|結論|胜者|获胜者|答案|选择|判断|裁决|判决|评判|勝者|判定|最終回答|판정|결론|승자|정답|선택|평가|판단)"
)
_CHOICE_VERB = (
    r"\b(?:choose|chose|prefer|pick|select|go with|favou?r|vote for|say|conclude(?: that)?)\b"
)
_COPULA = (
    rf"{_FINAL}"
    r"(?:\s*(?:[:=\-–—>|\n]|\b(?:is|was|would be|must be|goes to|ist|est|es|é|è|это)\b|"
    r"是|为|為|は|은|는))"
)
_NAME_BETWEEN = (
    r"(?:[\s:=\-–—>|]|\b(?:is|was|would be|must be|the|that|it|this|to|be|la|el|le|die|der|das)\b)"
    r"{0,40}"
)
_ADVERB = (
    r"(?:clearly|slightly|much|overall|definitely|significantly|far|a bit|a little|marginally|"
    r"obviously|therefore|also|still|generally|the|a|one)"
)
_NO_PROSE = (
    r"(?=[ ]?(?:$|[^\w\s]|(?:because|since|as|over|for|due|by|wins)\b"
    rf"|(?:{_ADVERB}\s+){{0,2}}better\b))"
)
"""Behind a name that is an answer: not the predicate of a sentence about it."""
_IS = rf"{_IN_PROSE}\s+(?:(?:is|was|seems|appears|would be|to be)\s+){{1,4}}(?:{_ADVERB}\s+){{0,4}}"
_BETTER = r"(?:better|best|superior|preferred|preferable|stronger|winner)\b"
_FLAW = (
    r"(?:general|generic|verbose|wordy|vague|repetitive|confus|bias|limited|superficial|complex|"
    r"complicated|harmful|formal|casual)"
)
_IN_ONE_RESPECT = r"\s+(?:at|in|on)\b"
CHOICES = Grammar(
    forms=(
        (
            "mark",
            re.compile(
                rf"\[\[ ?(?:{_CHOICE_LABEL} ?: ?)?(?:{_NAMED}[ _-]?)?"
                r"([ab] ?[<>=]{1,2} ?[ab]|[abc]|tie|draw) ?\]\]",
                re.I,
            ),
        ),
        ("line", re.compile(rf"^{_NAME_EDGE}{_EITHER}{_NAME_EDGE}(?<!:)$", re.M | re.I)),
        ("line", re.compile(rf"^{_NAME_EDGE}{_TIE}{_NAME_EDGE}$", re.M | re.I)),
        (
            "opening",
            re.compile(
                rf"^ ?(?:{_NAME} ?\.|"
                rf"{_IN_PROSE} ?(?:[-–—(] ?(?:it|this|because|since|as)\b|{_BECAUSE}))",
                re.M | re.I,
            ),
        ),
        (
            "said",
            re.compile(
                rf"{_CHOICE_LABEL}{_COPULA}{_NAME_BETWEEN}{_IN_PROSE}{_NO_PROSE}", re.M | re.I
            ),
        ),
        ("said", re.compile(rf"{_CHOICE_VERB}{_NAME_BETWEEN}{_IN_PROSE}{_NO_PROSE}", re.M | re.I)),
        (
            "said",
            re.compile(
                rf"{_IS}{_BETTER}(?!{_IN_ONE_RESPECT})|{_IN_PROSE}\s+(?:clearly\s+)?wins\b"
                rf"(?!{_IN_ONE_RESPECT})",
                re.I,
            ),
        ),
        (
            "said",
            re.compile(
                rf"{_IS}more\s+(?!{_FLAW})\w+(?:\s+and\s+\S+)?\s+(?:because|as|since)\b", re.I
            ),
        ),
        ("weak", re.compile(rf"{_IS}(?:more\s+\w+|{_BETTER}{_IN_ONE_RESPECT})", re.I)),
        ("id", re.compile(r"[:=]\s*response_([ab])(?=\W*$)", re.M | re.I)),
        (
            "said",
            re.compile(
                rf"(?:{_CHOICE_LABEL}|{_CHOICE_VERB}|\bit(?:['’]s| is)\b|\bcall it\b)"
                rf"{_NAME_BETWEEN}{_TIE}|(\bboth)\s+(?:of\s+)?(?:the\s+|these\s+)?"
                rf"(?:are|them|{_NAMED}s?)\b[^.\n]{{0,120}}\b(?:equal|equally)\b",
                re.I,
            ),
        ),
    ),
    after=re.compile(rf"{_NAME_EDGE}$", re.M),
    hedged=re.compile(r"\b(?:worse|worst|weaker|weakest|loser|losing|rejected)\b", re.IGNORECASE),
    of_others=re.compile(
        # "the correct answer is B" is about the question, "Response A's answer is B" about a text;
        # of "Response A and B" the second is half.
        r"\b(?:correct|right|own|reference|expected|gold|plausible|likely|appropriate)\s+(?:final\s+)?\Z"
        rf"|{_NAMED}[\s_-]*[(]?[ab][)]?(?:['’]s?)?[ ](?:\w+[ ]){{0,2}}\Z"
        rf"|{_EITHER}\s*(?:and|or|&|/)\s*\Z",
        re.IGNORECASE,
    ),
    second=re.compile(
        rf"[)\]\"']*\s*(?:\b(?:and|or|und|oder|y|o|et|ou)\b|[/&或和])\s*{_IN_PROSE}", re.IGNORECASE
    ),
    answer=re.compile(rf"{_EITHER}|{_TIE}", re.IGNORECASE),
    bare=re.compile(rf"\s*{_EITHER}\s*", re.IGNORECASE),
    as_asked=re.compile(r"response_[ab]|tie|[AB]|\[\[[AB<>=C]{1,4}\]\]"),
)
