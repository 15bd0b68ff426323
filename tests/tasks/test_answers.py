import hashlib
import json
import re
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipo_eval.tasks import extract_choice, extract_number
from tests.laws import tries


@pytest.mark.parametrize(
    ("text", "number"),
    [
        # how a number may be written
        ("#### 18", "18"),
        ("#### 1,080", "1080"),
        ("#### 1,234,567.50", "1234567.5"),
        ("#### -3", "-3"),
        ("#### \u22123", "-3"),
        ("#### $1,500.00 per month", "1500"),
        ("#### -$63", "-63"),
        ("#### $-63", "-63"),
        ("#### 25%", "25"),
        ("#### 12 apples.", "12"),
        ("#### 5km", "5"),
        ("#### .5", "0.5"),
        ("#### 3/4", "0.75"),
        ("#### 1 1/2 cups", "1.5"),
        ("#### 2.5e3", "2500"),
        ("#### 3 million", "3000000"),
        ("#### \u20ac 7", "7"),
        ("#### 0", "0"),
        ("#### 2½", "2.5"),
        ("#### ¾ cup", "0.75"),
        ("#### \uff14\uff12", "42"),
        ("#### 1'234.50", "1234.5"),
        ("#### 1_000", "1000"),
        ("#### 1 234", "1234"),
        ("#### $352 000.", "352000"),
        ("#### 1 234 567", "1234567"),
        ("#### 12,34,567", "1234567"),
        (r"\boxed{12{,}345}", "12345"),
        # notations that are not English: a part of them would be wrong
        ("#### 1.234,5", None),
        ("#### -1.234,5", None),
        ("#### €1.234,50", None),
        ("#### 1.234.567", None),
        ("#### 12,5", None),
        ("The answer is 1.234,56 euros.", None),
        ("The total is 1.234,5", None),
        ("Die Antwort ist 12,5 Euro.", None),
        (r"\boxed{1.234,5}", None),
        ("so 12,34 is a pair", None),
        # equations
        ("The answer is 5 + 7 = 12.", "12"),
        ("The answer is $5 + $7 = $12.", "12"),
        ("The answer is 5 apples + 7 apples = 12 apples.", "12"),
        ("The answer is 12 = 5 + 7.", "12"),
        ("The answer is (5+7)*2 = 24.", "24"),
        ("The answer is 12 (5 + 7 = 12).", "12"),
        ("The answer is 12 because 5 + 7 = 12 and 3 + 1 = 4.", "12"),
        ("The answer is -5 + 7 = 2.", "2"),
        ("The answer is 5 - 7 = -2.", "-2"),
        ("The answer is 10/2 = 5.", "5"),
        ("The answer is x = 12.", "12"),
        (r"The answer is $5 \times 7 = 35$.", "35"),
        ("#### 5 + 7 = 12", "12"),
        ("The answer is 5 + 7.", None),
        ("The answer is 3 + 4 = 7 and 7 + 5 = 12.", None),
        (r"\boxed{x = 5 \text{ or } x = 7}", None),
        # two answers
        ("The answer is 8 or 9.", None),
        ("The answer is 3:1.", None),
        ("The answer is 24 and 12.", None),
        # which mark counts
        ("The answer is 3.\n#### 5", "5"),
        ("#### 5\nNo, wait.\n#### 6", "6"),
        ("#### 6\n####", "6"),
        ("#### 2. Add the costs\nThe answer is 7.", "7"),
        ("#### Step 2: add\nThe answer is 7.", "7"),
        (r"The answer is 3, so \boxed{4}.", "4"),
        (r"\boxed{4} or rather \boxed{5}", "5"),
        ("The answer is 3. No: the answer is 4. I used 99 steps.", "4"),
        ("Answer: 12\nchecked 3 times", "12"),
        ("**Final answer:** $12", "12"),
        ("16 - 7 = 9\nA: 9", "9"),
        ("The answer (in dollars) is 30.", "30"),
        ("The answer is 25%. The answer (as a fraction) is 1/4.", "25"),
        ("The answer to the second question is 8.", "8"),
        ("The answer is not 5 but 6", "6"),
        ("The answer is 8. The answer in words is eight.", "8"),
        ("The answer is _____8142_____.", "8142"),
        ("First 3, then 4, so 7 in all.", "7"),
        ("3 + 4\n<answer>7</answer>\nThat took 2 steps.", "7"),
        ("3 + 4 <answer>7</answer>", "7"),
        (r"Answer: \(42\)", "42"),
        # boxes
        (r"\boxed{1{,}234}", "1234"),
        (r"\boxed{1\,234}", "1234"),
        (r"\boxed{\$34}", "34"),
        (r"\boxed{20\%}", "20"),
        (r"\boxed{\frac{9}{12}}", "0.75"),
        (r"\boxed{6 \frac{1}{2}}", "6.5"),
        (r"\boxed{-\dfrac{1}{2}}", "-0.5"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{3 + 4 = 7}", "7"),
        (r"\boxed{12 \text{ m}^2}", "12"),
        (r"\fbox{70}\%", "70"),
        # what was thought first
        ("The answer is 21 in my first draft.</think>She earns 18 dollars.", "18"),
        ("<think>The answer is 21?</think>\n\n<answer>18</answer>", "18"),
        ("analysisMaybe 21.assistantfinalIt is 18.", "18"),
        ("<think>The answer is 21", None),
        ("Write </think> behind it. The answer is 18.", "18"),
        # signs that are none
        ("16 - 7", "7"),
        ("5-7", "7"),
        ("items:\n- 5", "5"),
        ("model X-200", "200"),
        ("x = -4", "-4"),
        ("x = - 4", "-4"),
        ("H2O", None),
        # no number
        ("", None),
        ("no idea", None),
        ("The answer is two hundred dollars, 200 in digits being unclear", "200"),
        ("Add 3 and 4. The answer is seven.", None),
        (r"3 + 4, so \boxed{\text{seven}}", None),
        (r"2 and 3: \boxed{}", None),
        (r"\boxed{5 - 2M}", None),
        (r"\boxed{9:30 \text{ pm}}", None),
        (r"\boxed{\frac{1}{0}}", None),
    ],
)
def test_numbers(text: str, number: str | None) -> None:
    assert extract_number(text) == (None if number is None else Decimal(number))


def cases() -> list[dict[str, str]]:
    file = Path(__file__).parents[1] / "cases" / "answers.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("case", cases())
def test_every_answer_of_the_cases(case: dict[str, str]) -> None:
    read = extract_number if case["kind"] == "number" else extract_choice
    found = read(case["text"])
    assert (found if found is None else str(found)) == case["want"]


@tries(100)
@given(st.integers(-(10**12), 10**12), st.sampled_from(["#### {}", r"\boxed{{{}}}", "Answer: {}"]))
def test_every_integer_comes_back(number: int, form: str) -> None:
    assert extract_number("First 17 and 4.\n" + form.format(f"{number:,}")) == number
    assert extract_number("First 17 and 4.\n" + form.format(number)) == number


@tries(100)
@given(st.text(alphabet="ABCDa .,:()[]{}*#\n\\$-/0123456789answeriboxdf\u2212"))
def test_any_text_is_answered_without_an_error(text: str) -> None:
    assert isinstance(extract_number(text), Decimal | None)
    assert extract_choice(text) in {"A", "B", "C", "D", None}


@pytest.mark.parametrize(
    "word",
    [
        *(
            "1 ",
            "\n",
            "\\boxed{",
            "-",
            "answer ",
            "9",
            "1,",
            "*",
            "(A",
            "{",
            "#### ",
            "answer is ",
            "#",
        ),
        *("5 + ", "5 = ", "A) red ", "answer: A) ", "1'2", "answer (x", "1 234 ", "5 or "),
    ],
)
def test_degenerate_text_takes_no_time(word: str) -> None:
    def seconds(length: int) -> float:
        """Of the processor, so that a busy machine changes nothing."""
        text = "answer" + word * (length // len(word))
        start = time.process_time()
        extract_number(text)
        extract_choice(text)
        return time.process_time() - start

    short, long = (min(seconds(length) for _ in range(3)) for length in (25_000, 100_000))
    # Four times the text: four times as long, and sixteen where every place looks at all others.
    assert long < 10 * max(short, 0.01)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        # nothing but the letter, or it comes first
        ("B", "B"),
        (" b\n", "B"),
        ("(C)", "C"),
        ("[C]", "C"),
        ("**D**", "D"),
        ("B.", "B"),
        ("B. Light energy is converted.", "B"),
        ("c) Chlorophyll", "C"),
        ("A: the days grow shorter", "A"),
        ("D\n\nBecause it is.", "D"),
        ("B because it is.", "B"),
        ("A because it is.", "A"),
        # phrases
        ("The answer is (b).", "B"),
        ("The answer is c", "C"),
        ("The best answer is A.", "A"),
        ("The answer is A because days grow shorter.", "A"),
        ("**Answer:** B", "B"),
        ("Answer:\n\n(C) Chlorophyll", "C"),
        ("The correct option is **C) Chlorophyll**", "C"),
        ("The answer is option D.", "D"),
        ("The correct choice is the letter B", "B"),
        ("Option C is the most accurate.", "C"),
        ("Therefore option B seems best.", "B"),
        ("I would choose (A).", "A"),
        ("The answer is B. No, the answer is C.", "C"),
        ("B is tempting. The answer is not B. The answer is D.", "D"),
        ("The answer is closest to D, 35%.", "D"),
        ("(A) is wrong and (B) too, so the answer is (C).", "C"),
        (r"so $\boxed{B}$", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"The answer is A. \boxed{B}", "B"),
        ("It must be (C), as the leaf captures light.", "C"),
        ("<answer>A</answer>", "A"),
        ("the answer is b because it is wet", "B"),
        ("Option D", "D"),
        ("C is the correct answer.", "C"),
        ("A is the right one.", "A"),
        ("The answer is D, not A.", "D"),
        # no letter, or several
        ("<think>The answer is A", None),
        ("<think>The answer is A?</think>(B)", "B"),
        ("The answer is A?[/THINK]B", "B"),
        ("C is incorrect.", None),
        ("A is not right.", None),
        ("", None),
        ("A plant grows.", None),
        ("The answer is a plant cell.", None),
        ("The answer is A plant.", None),
        ("The answer is water, although (A) says ice.", None),
        ("The answer is A or B.", None),
        ("The answer is (A) and (C).", None),
        ("The answer is A, B, C, D, or E.", None),
        (r"\boxed{A, B}", None),
        ("Answer: A) red B) blue", None),
        ("Answer: A) red\nB) blue\nC) green", None),
        ("Answer: (A) red, (B) blue", None),
        ("Answer: A. red, B. blue", None),
        ("A) red B) blue", None),
        ("Answer: A) red", "A"),
        ("Answer: B) blue. A) is wrong.", "B"),
        ("The answer is A) red, not B) blue.", "A"),
        ("A) red\nB) blue\n\nAnswer: B", "B"),
        ("A. ice\nB. water\nC. steam\nD. none", None),
        ("(A) ice, (B) water", None),
        ("The answer is E.", None),
        ("I cannot tell.", None),
        ("Dogs bark.", None),
    ],
)
def test_letters(text: str, letter: str | None) -> None:
    assert extract_choice(text) == letter


@pytest.mark.parametrize(
    ("text", "letters", "letter"),
    [
        ("The answer is E.", "ABCDE", "E"),
        ("The answer is D.", "ABC", None),
        ("The answer is 3.", "1234", "3"),
        ("2) water", "1234", "2"),
        ("The answer is 3.5", "1234", None),
        ("The answer is B", "ab", "b"),
    ],
)
def test_other_labels(text: str, letters: str, letter: str | None) -> None:
    assert extract_choice(text, letters) == letter


def test_extraction_is_light() -> None:
    code = (
        "import sys, mipo_eval.tasks;"
        "print([m for m in ('torch', 'lm_eval', 'datasets', 'transformers') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


# --- real replies of real models, with the accuracy their authors recorded ---


def records(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".json":
        details: list[dict[str, Any]] = json.loads(path.read_text())["details"]
        return details
    return [json.loads(line) for line in path.read_text().splitlines()]


def gold(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


COMMAS = ["40,000", "5,600", "6,250", "2,125"]


def test_gold_answers_of_gsm8k(shared_data: Path) -> None:
    truth = json.loads((shared_data / "GROUND_TRUTH_math_mcq.json").read_text())["gsm8k_train"]
    answers = [extract_number(row["answer"]) for row in records(shared_data / "gsm8k/train.jsonl")]
    assert len(answers) == truth["rows"]
    lines = "\n".join(str(answer) for answer in answers)
    assert hashlib.sha256(lines.encode()).hexdigest() == truth["sha256_of_gold_joined_by_newline"]


def test_qwen_on_gsm8k(shared_data: Path) -> None:
    """The record drops minus signs: it takes -40 for 40. Nothing else differs."""
    rows = records(shared_data / "model_outputs_qwen/gsm8k_Qwen2.5-0.5B-Instruct.json")
    ours = [extract_number(row["generated"]) == gold(row["reference"]) for row in rows]
    differing = [row for row, right in zip(rows, ours, strict=True) if right != row["correct"]]
    assert [row["prediction"] for row in differing] == ["-40", "-16", "-14", "-64800"]
    assert all(row["correct"] and not row["reference"].startswith("-") for row in differing)
    unsigned = [
        (number := extract_number(row["generated"])) is not None
        and abs(number) == abs(gold(row["reference"]))
        for row in rows
    ]
    assert sum(unsigned) / len(rows) == pytest.approx(0.4981046247156937, abs=1e-12)


def test_gpt3_on_gsm8k(shared_data: Path) -> None:
    """The record misses four right answers whose gold is written with a comma.

    It also takes the first number of an equation: "the answer is 1600*3.5 = $5600" for 1600.
    """
    rows = records(shared_data / "model_outputs_gpt3/gsm8k_zero_shot_cot.jsonl")
    ours = [extract_number(row["completion"]) == gold(row["gt"]) for row in rows]
    differing = [
        row for row, right in zip(rows, ours, strict=True) if right != row["correct_numeric"]
    ]
    equations = [row for row in differing if "," not in row["gt"]]
    assert [row["gt"] for row in differing if "," in row["gt"]] == COMMAS
    said = [row["completion"].rpartition("numerals)")[2] for row in equations]
    assert all(re.search(r"\d\D{0,9}[=+]", each) or "$352 000" in each for each in said)
    assert not any(row["correct_numeric"] for row in differing)
    rest = sum(ours) - len(differing)
    assert 100 * rest / len(rows) == pytest.approx(40.78847611827142, abs=1e-9)


def test_gpt3_on_svamp(shared_data: Path) -> None:
    rows = records(shared_data / "model_outputs_gpt3/svamp_zero_shot.jsonl")
    ours = [extract_number(row["completion"]) == gold(row["gt"]) for row in rows]
    differing = [
        row for row, right in zip(rows, ours, strict=True) if right != row["correct_numeric"]
    ]
    # The record takes the first number of "the answer is 63 - 30 = 33".
    assert len(differing) == 7
    assert all(
        f"= {row['gt']}" in row["completion"].replace("=", "= ").replace("  ", " ")
        for row in differing
    )
    assert 100 * (sum(ours) - 7) / len(rows) == pytest.approx(58.8)


def test_gpt3_on_aqua(shared_data: Path) -> None:
    """The record reads "the answer is A, B, C, D, or E" as A, and is lucky once."""
    rows = records(shared_data / "model_outputs_gpt3/aqua_zero_shot_cot.jsonl")
    ours = [extract_choice(row["completion"], "ABCDE") == row["gt"] for row in rows]
    differing = [
        row for row, right in zip(rows, ours, strict=True) if right != row["correct_string"]
    ]
    assert [row["completion"].rpartition("is ")[2] for row in differing] == ["A, B, C, D, or E."]
    assert 100 * (sum(ours) + 1) / len(rows) == pytest.approx(33.46456692913386)


def test_gemma_on_arc(shared_data: Path) -> None:
    rows = records(shared_data / "model_outputs_qwen/arc_challenge_gemma-3-1b-it.json")
    assert [extract_choice(row["generated"]) for row in rows] == [row["prediction"] for row in rows]


def test_every_flag_of_gsm8ks_example_solutions(shared_data: Path) -> None:
    rows = records(shared_data / "gsm8k/example_model_solutions.jsonl")
    for row in rows:
        right = extract_number(row["ground_truth"])
        for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            assert (extract_number(row[name]["solution"]) == right) is row[name]["is_correct"]
