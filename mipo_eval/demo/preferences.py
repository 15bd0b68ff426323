"""What users of the demo world want, how they say so, and how an answer does it (data)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Dimension = Literal["tone", "format", "audience", "length", "extra"]

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One value of one dimension, such as a warm tone."""

    dimension: Dimension
    value: str
    statement: str
    """What the judge is asked to rate."""
    wordings: tuple[str, ...]
    """How users say it in their context. The wordings of a preference share a key word, which is
    what a model of 1M parameters can learn to look for."""

    @property
    def name(self) -> str:
        """Key of the preference and of its rule: "tone:warm"."""
        return f"{self.dimension}:{self.value}"


def _preference(name: str, statement: str, *wordings: str) -> Preference:
    dimension, _, value = name.partition(":")
    known = next(known for known in DIMENSIONS if known == dimension)
    return Preference(dimension=known, value=value, statement=statement, wordings=wordings)


_ALL = (
    _preference(
        "tone:warm",
        "Use a warm, encouraging tone.",
        "Please be warm with me, I lose heart easily.",
        "I like answers that sound warm and kind.",
        "A few warm words keep me going.",
        "I do best with a warm voice.",
    ),
    _preference(
        "tone:formal",
        "Use a formal, polite tone.",
        "I prefer a polite and formal tone.",
        "Please be as polite as a business letter.",
        "I like polite words and no slang.",
        "To me, polite language feels right.",
    ),
    _preference(
        "tone:playful",
        "Be playful and a little funny.",
        "I like funny answers.",
        "Make it funny so that I smile.",
        "Something funny helps me remember things.",
        "Please be a bit funny and not too serious.",
    ),
    _preference(
        "format:numbered",
        "Lay the answer out as numbered steps.",
        "I like to see numbered steps.",
        "For me, a numbered list is easiest.",
        "Please give me numbered points.",
        "I work best from numbered lines.",
    ),
    _preference(
        "format:bullets",
        "Lay the answer out as bullet points.",
        "My favourite is a list of bullet points.",
        "Please use bullet points.",
        "I like to skim bullet points.",
        "Put each idea in a bullet point.",
    ),
    _preference(
        "format:summary",
        "Give a one-line summary before the details.",
        "I want a one-line summary first.",
        "Please open with a summary.",
        "It helps me to have a summary at the top.",
        "Give me the summary and then the details.",
    ),
    _preference(
        "format:bold",
        "Put the key words in bold.",
        "Please put the key words in bold.",
        "I look for words in bold when I read.",
        "Highlight what matters in bold.",
        "My eyes need something bold to hold on to.",
    ),
    _preference(
        "audience:beginner",
        "Write for a complete beginner.",
        "I am a complete beginner.",
        "Please explain it to a beginner.",
        "Think of me as a beginner.",
        "At such things I am still a beginner.",
    ),
    _preference(
        "audience:expert",
        "Write for someone with experience.",
        "I have plenty of experience.",
        "With my experience I can skip the basics.",
        "I have years of experience with such things.",
        "You can count on my experience.",
    ),
    _preference(
        "audience:child",
        "Write for a child.",
        "Please write it for a child.",
        "My child will read your answer.",
        "I am asking for a child of nine.",
        "It should be fun for a child.",
    ),
    _preference(
        "audience:budget",
        "Write for someone with little money to spend.",
        "I have very little money.",
        "I want to save money.",
        "This month I am short of money.",
        "I cannot spend much money on this.",
    ),
    _preference(
        "length:brief",
        "Keep the whole answer very short.",
        "Keep it brief, please.",
        "I like brief answers.",
        "I only have time for a brief answer.",
        "Please be brief with me.",
    ),
    _preference(
        "length:detailed",
        "Give a long, detailed answer.",
        "I like plenty of detail.",
        "Please go into detail.",
        "Give me every detail you can think of.",
        "For me, the more detail the better.",
    ),
    _preference(
        "length:short_sentences",
        "Use only short sentences.",
        "Please use short and simple sentences.",
        "I read slowly and need simple sentences.",
        "It is easier for me if the sentences are simple.",
        "English is new to me, so use simple sentences.",
    ),
    _preference(
        "extra:example",
        "Include an example.",
        "Please give me an example.",
        "I only get things once I see an example.",
        "I like it when an answer comes with an example.",
        "Show me an example from real life.",
    ),
    _preference(
        "extra:caution",
        "Include a warning about a risk.",
        "Please point out the risks.",
        "I want to know about the risks.",
        "Tell me about the risks too.",
        "Always name the risks for me.",
    ),
    _preference(
        "extra:question",
        "End with a question to the user.",
        "Please end with a question for me.",
        "Ask me a question at the end.",
        "I like it when you close with a question.",
        "Finish with a question so we can keep talking.",
    ),
    _preference(
        "extra:reason",
        "Explain why the advice works.",
        "Tell me why it works.",
        "I always want to know why.",
        "Please explain why it helps.",
        "I like to understand why, not just how.",
    ),
)

PREFERENCES: Mapping[str, Preference] = {preference.name: preference for preference in _ALL}

BY_STATEMENT: Mapping[str, Preference] = {
    preference.statement: preference for preference in PREFERENCES.values()
}

ABOUT_ME = (
    "I live in a small flat.",
    "I work from home.",
    "I have two cats.",
    "I moved house last spring.",
    "I usually read on my phone.",
    "I live with my sister.",
    "I drink a lot of tea.",
    "I live near the sea.",
    "I sing in a choir.",
    "My weekends are quiet.",
    "I take the train to work.",
    "I grew up on a farm.",
)
"""What users say about themselves that asks for nothing."""

OPENERS: Mapping[str, tuple[str, ...]] = {
    "warm": (
        "How nice that you ask!",
        "Good for you!",
        "Great question!",
        "It is lovely to hear from you!",
    ),
    "formal": (
        "Thank you for your question.",
        "It is a pleasure to advise you.",
        "Allow me to offer some advice.",
        "I am grateful for your question.",
    ),
    "playful": (
        "Drum roll, please!",
        "Hold on to your hat!",
        "Aha, my favourite kind of trouble!",
        "Sleeves up, superstar!",
    ),
}

CLOSERS: Mapping[str, tuple[str, ...]] = {
    "warm": (
        "You will do great!",
        "I am cheering for you!",
        "Enjoy every minute of it!",
        "You have got this!",
    ),
    "formal": (
        "I remain at your disposal.",
        "Please accept my best wishes.",
        "I trust this is of use to you.",
        "Yours faithfully.",
    ),
    "playful": (
        "Ta-da, job done!",
        "Cue the confetti!",
        "High five!",
        "Now go and take a bow!",
    ),
}

FOR_AUDIENCE: Mapping[str, tuple[str, ...]] = {
    "beginner": (
        "No experience is needed for this.",
        "Everyone starts somewhere, so take it slowly.",
        "If this is your first time, go slowly.",
        "You can do this as a complete beginner.",
    ),
    "expert": (
        "You know the basics, so I will skip them.",
        "With your experience, you can move faster.",
        "As an old hand, trust your own routine.",
        "You will know most of this already.",
    ),
    "child": (
        "Ask a grown-up to stay close by.",
        "A parent can help you with the hard bits.",
        "Kids can do most of this themselves.",
        "Think of it as a small mission.",
    ),
    "budget": (
        "None of this has to cost much.",
        "Use what you already have at home.",
        "You do not need to buy anything new.",
        "Borrow what you can from a friend.",
    ),
}

IN_PASSING: Mapping[str, tuple[str, ...]] = {
    "beginner": ("For a beginner: ", "For beginners: "),
    "expert": ("As you know, ", "As you may know, "),
    "child": ("For young readers: ", "For young helpers: "),
    "budget": ("On a small budget: ", "On a tight budget: "),
}

SUMMARY_LEADS = ("In short, ", "The short version: ", "Put simply, ")
EXAMPLE_LEADS = ("For example, ", "For instance, ")
CAUTION_LEADS = ("Be careful: ", "Watch out: ", "Take care: ")
REASON_LEADS = ("This works because ", "It matters because ", "I say this because ")
CLOSING_QUESTIONS = (
    "Would you like more detail on any part?",
    "When do you want to begin?",
    "What have you tried so far?",
    "Shall I say more about one of these points?",
)
