"""What the people of the demo world ask about, and the plain advice they get: the types.

A *family* is a kind of activity ("clean", "grow", ...). Advice belongs to the family and the kind
of question, never to one topic, and names the topic through a slot; and a topic is a pair of words
that each occur in other topics. That is what lets a model of 1M parameters answer about a topic it
has never seen: the answer is composed from the question.

The sentences are data, in `advice_home.py` and `advice_projects.py`. In a sentence

    "Brush the loose dust off {x}| before any water touches it"

`{x}` is the topic ("the leather bag"), `{X}` the same at the start of a sentence, `{n}` an amount
from `Family.amounts`, and `|` separates the short form from the rest of the full form.

Advice of the demo world about the home: cleaning, growing, cooking (data only).

Advice of the demo world about projects: learning, planning, building, choosing (data only).

What users of the demo world want, how they say so, and how an answer does it (data).

The topics of the demo world and the questions people ask about them.

How an answer of the demo world is put together: plain advice, and a style laid over it.

    opener, summary, audience | advice sentences (a paragraph or a list) | extra, closer, question

What the style adds takes the place of plain advice, so an answer to a user who says nothing is as
long as one that is made for a user, and its sentences are the ones that everybody gets. Otherwise
training against answers without a context would above all teach to write more.

Everything is drawn from `rng`, so an answer follows from topic, kind, style and seed.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

Kind = Literal["how", "need", "avoid", "time"]
"""What is asked about an activity."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The plain sentences that answer one kind of question in one family."""

    first: tuple[str, ...]
    """Opening sentences: each answers the question and names the topic."""
    more: tuple[str, ...]
    """Further sentences, in the order in which they may follow one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of activity: its topics, and everything that can be said about them."""

    verb: str
    """As in "How do I clean a fish tank?"."""
    article: Literal["a", "the", ""]
    """How answers refer to a topic: "a suitcase", "the fish tank", or as in the question."""
    modifiers: tuple[str, ...]
    nouns: tuple[str, ...]
    """Every modifier with every noun is a thing to ask about: "leather bag", "wool hat"."""
    held_out: tuple[str, ...]
    """Things of the test split, asked about nowhere else; their words occur in other pairs."""
    amounts: tuple[str, ...]
    advice: Mapping[Kind, Advice]
    summaries: tuple[str, ...]
    examples: tuple[str, ...]
    cautions: tuple[str, ...]
    reasons: tuple[str, ...]
    questions: tuple[str, ...]


CLEAN = Family(
    verb="clean",
    article="the",
    modifiers=("leather", "wool", "straw", "canvas", "velvet", "suede"),
    nouns=("bag", "hat", "chair", "mat", "cushion"),
    held_out=("straw bag", "leather mat", "velvet chair"),
    amounts=("ten", "fifteen", "twenty", "thirty", "forty"),
    advice={
        "how": Advice(
            first=(
                "Brush the loose dust off {x}| before any water touches it",
                "Wipe {x} with a dry cloth first| and work from top to bottom",
                "Mix warm water and mild soap for {x}| and wring out the cloth well",
            ),
            more=(
                "Test the soap on a hidden spot| and wait a few minutes",
                "Rub gently in small circles| until the cloth stays clean",
                "Use a soft brush in the corners| where dirt likes to hide",
                "Go over it again with plain water| so no soap is left",
                "Let it dry in the open air| before you use it again",
            ),
        ),
        "need": Advice(
            first=(
                "For {x} you need a soft cloth| and a bowl of warm water",
                "Mild soap and a soft brush suit {x}| better than any strong spray",
                "Keep two clean cloths ready for {x}|, one wet and one dry",
            ),
            more=(
                "An old toothbrush reaches the narrow parts| without leaving marks",
                "Gloves keep your hands soft| if the job takes a while",
                "Spread some paper under it| to catch the dirty drops",
                "A dry towel is useful at the end| to lift the last water",
            ),
        ),
        "avoid": Advice(
            first=(
                "Too much water is bad for {x}|, which takes days to dry",
                "Do not scrub {x} with anything rough|, or you will leave marks",
                "Most people hurry with {x}| and forget to test the soap",
            ),
            more=(
                "Never mix two cleaning products|, even when a stain will not move",
                "Change the water when it looks grey|, or you only move the dirt",
                "Keep it away from strong heat| while it is still damp",
                "Do not put it away wet|, or it will start to smell",
            ),
        ),
        "time": Advice(
            first=(
                "Plan about {n} minutes for {x}|, plus some time to dry",
                "{X} takes around {n} minutes| if it is not too dirty",
                "Set aside {n} minutes for {x}| and begin in the morning",
            ),
            more=(
                "Half of that is just waiting| while the soap does its work",
                "Old stains can double the work| and may need a second round",
                "Drying takes longer than cleaning|, so open a window",
                "A quick wipe every week saves time| later in the year",
            ),
        ),
    },
    summaries=(
        "use little water and a soft hand",
        "mild soap and patience will do it",
        "go gently and let it dry",
    ),
    examples=(
        "a soft toothbrush works well in small gaps",
        "my neighbour only uses warm water and soap",
        "a spoon of vinegar lifts most chalk marks",
    ),
    cautions=(
        "strong cleaners can ruin the colour",
        "wet floors get slippery very fast",
        "some sprays are bad for your lungs",
    ),
    reasons=(
        "soft dirt lifts off easily",
        "water hides in small gaps",
        "rough tools leave tiny marks",
    ),
    questions=("Which part of {x} is the dirtiest?", "How old are the stains on {x}?"),
)

GROW = Family(
    verb="grow",
    article="the",
    modifiers=("lemon", "olive", "fig", "cherry", "apple", "peach"),
    nouns=("tree", "plant", "bush", "seedling"),
    held_out=("fig bush", "cherry plant", "olive tree"),
    amounts=("two", "three", "four", "six", "eight"),
    advice={
        "how": Advice(
            first=(
                "Give {x} a bright spot| away from cold wind",
                "Choose a pot with holes for {x}| so water can run out",
                "Plant {x} in loose, rich soil| and press it down lightly",
            ),
            more=(
                "Water it when the soil feels dry| and not by the clock",
                "Turn the pot a little every week| so it grows straight",
                "Feed it once a month| while it is growing",
                "Cut off the dry leaves| to keep it healthy",
                "Move it to a bigger pot in spring| when the roots need space",
            ),
        ),
        "need": Advice(
            first=(
                "For {x} you need good soil| and a sunny window",
                "{X} needs light, soil and a pot| that is not too small",
                "Get a pot and soil for {x}|, and you are ready",
            ),
            more=(
                "A few stones at the bottom help| to let the water out",
                "A stick gives it support| when it grows tall",
                "Plain plant food is enough| for the whole summer",
                "A spray bottle is useful| when the air is dry",
            ),
        ),
        "avoid": Advice(
            first=(
                "Too much water harms {x} most|, far more than too little",
                "Do not move {x} around too often|, or it will drop its leaves",
                "Many keep {x} in a dark corner| and wonder why it stays small",
            ),
            more=(
                "Never let it stand in water| for more than an hour",
                "Do not use soil from the street|, where pests may live",
                "Keep it away from a hot heater| in the winter months",
                "Do not cut off too much at once|, even if it looks untidy",
            ),
        ),
        "time": Advice(
            first=(
                "{X} needs about {n} weeks| before you see real growth",
                "Give {x} {n} weeks| to settle in its new place",
                "Expect to wait {n} weeks with {x}| and longer in a cold spring",
            ),
            more=(
                "The care itself takes minutes| on two days of the week",
                "More light makes it faster|, while more water does not",
                "Growth slows down in winter|, and that is quite normal",
                "Mark the date on the pot| so you can see the progress",
            ),
        ),
    },
    summaries=(
        "plenty of light and not too much water",
        "give it light and leave it alone",
        "good soil does half the work",
    ),
    examples=(
        "a kitchen window works well for most plants",
        "my neighbour waters hers only on Sundays",
        "an old yoghurt cup makes a fine pot",
    ),
    cautions=(
        "too much plant food can burn the roots",
        "cold nights can kill young leaves",
        "some leaves can make pets ill",
    ),
    reasons=(
        "roots need air and water",
        "light gives the plant its strength",
        "wet soil makes the roots rot",
    ),
    questions=("How much sun does {x} get?", "Where would you put {x}?"),
)

COOK = Family(
    verb="cook",
    article="the",
    modifiers=("fish", "bean", "chicken", "mushroom", "potato", "pumpkin", "lentil"),
    nouns=("soup", "stew", "curry", "pie", "bake"),
    held_out=("pumpkin curry", "fish pie", "lentil bake"),
    amounts=("twenty", "thirty", "forty", "fifty", "sixty"),
    advice={
        "how": Advice(
            first=(
                "Cut everything for {x} into even pieces| before you heat the pan",
                "Start {x} with onions and oil| on a gentle heat",
                "Read the recipe for {x} to the end| before you turn on the stove",
            ),
            more=(
                "Add the spices early| so the flavour can grow",
                "Put the hard things in first| and the soft ones last",
                "Stir now and then| so nothing sticks to the bottom",
                "Taste it halfway through| and add salt if needed",
                "Let it rest for a few minutes| before you serve it",
            ),
        ),
        "need": Advice(
            first=(
                "For {x} you need fresh vegetables| and one good pan",
                "A sharp knife is enough for {x}| if you have a large pan too",
                "Have oil, salt and stock ready for {x}| before you begin",
            ),
            more=(
                "Keep a spoon aside for tasting| and use it often",
                "A wooden spoon is kind to the pan| and to your ears",
                "Fresh herbs make a difference| when you add them last",
                "A lemon is worth having| to brighten the taste at the end",
            ),
        ),
        "avoid": Advice(
            first=(
                "The usual mistake in {x} is strong heat| right at the start",
                "Do not overfill the pan for {x}|, or nothing will brown",
                "Most people forget to taste {x}| until it is too late",
            ),
            more=(
                "Do not add all the salt at once|, as you cannot take it out",
                "Never leave hot oil alone|, even for a moment",
                "Do not keep lifting the lid| while it cooks",
                "Keep raw meat away from the rest| and wash the board",
            ),
        ),
        "time": Advice(
            first=(
                "Plan about {n} minutes for {x}| with all the chopping",
                "{X} takes around {n} minutes| from the first cut to the table",
                "Set aside {n} minutes for {x}| and a little more for guests",
            ),
            more=(
                "The chopping takes longer than you think|, so do it the night before",
                "Most of the time it cooks alone|, and you can lay the table",
                "A lid makes everything faster| and saves power",
                "It tastes even better the next day| when the flavours have mixed",
            ),
        ),
    },
    summaries=(
        "low heat and good salt do the work",
        "cut evenly and taste often",
        "prepare everything and then cook slowly",
    ),
    examples=(
        "a pinch of sugar softens sour tomatoes",
        "my neighbour adds a spoon of mustard",
        "a little lemon wakes up a dull sauce",
    ),
    cautions=(
        "hot oil can jump out of the pan",
        "a wet knife slips very easily",
        "steam can burn your hand in a second",
    ),
    reasons=(
        "even pieces cook equally fast",
        "slow heat brings out the flavour",
        "salt needs time to spread",
    ),
    questions=("Who will share {x} with you?", "What would you serve with {x}?"),
)

HOME = (CLEAN, GROW, COOK)


LEARN = Family(
    verb="learn",
    article="",
    modifiers=("Spanish", "Italian", "folk", "classical", "modern"),
    nouns=("dancing", "singing", "painting", "cooking", "guitar"),
    held_out=("Spanish guitar", "folk painting", "modern cooking"),
    amounts=("two", "three", "four", "six", "eight"),
    advice={
        "how": Advice(
            first=(
                "Start {x} with ten minutes a day| at the same hour",
                "Pick one small goal for {x}| and write it down",
                "Find a good first lesson for {x}| and follow it to the end",
            ),
            more=(
                "Repeat the easy parts often| until they feel natural",
                "Practise the hard parts slowly| and speed up later",
                "Record yourself now and then| to notice the change",
                "Find a partner to practise with| at least once a week",
                "Take one day off each week| so your mind can rest",
            ),
        ),
        "need": Advice(
            first=(
                "For {x} you need a quiet corner| and a fixed time of day",
                "A good book is enough for {x}| in the first weeks",
                "Get one simple course for {x}| and leave the others for later",
            ),
            more=(
                "A notebook helps you remember| what went well",
                "Good videos can replace a teacher| for the first month",
                "A small recorder is useful| to check yourself",
                "Good light and a firm chair matter| more than fancy tools",
            ),
        ),
        "avoid": Advice(
            first=(
                "The usual mistake with {x} is too much practice|, followed by a long break",
                "Do not rush {x}|, or bad habits will stay",
                "Most people give up {x} too early|, just before it gets easier",
            ),
            more=(
                "Do not skip the boring drills|, as they build the base",
                "Never practise when you are very tired| and cannot focus",
                "Do not buy fancy tools| before you know that you like it",
                "Do not change the method every week|, even if another looks nicer",
            ),
        ),
        "time": Advice(
            first=(
                "Expect about {n} months with {x}| before it feels easy",
                "{X} takes around {n} months| with a little practice each day",
                "Give {x} {n} months| before you decide whether you like it",
            ),
            more=(
                "Short sessions beat long ones| when you do them daily",
                "The first weeks are the hardest|, and then it gets lighter",
                "Some people are faster|, and that means nothing",
                "A week away from it is fine| if you come back to it",
            ),
        ),
    },
    summaries=(
        "a little practice every day is enough",
        "start small and keep going",
        "slow and regular practice wins",
    ),
    examples=(
        "ten minutes before breakfast works well",
        "my neighbour practises on the train",
        "one short piece a week is plenty",
    ),
    cautions=(
        "long sessions can hurt your hands",
        "bad habits are hard to lose",
        "too much practice can kill the fun",
    ),
    reasons=(
        "the mind learns while it rests",
        "small goals are easy to reach",
        "habits grow from small steps",
    ),
    questions=("What draws you to {x}?", "When could you practise {x}?"),
)

PLAN = Family(
    verb="plan",
    article="the",
    modifiers=("garden", "family", "school", "birthday", "summer", "charity", "village"),
    nouns=("party", "picnic", "trip", "lunch", "concert"),
    held_out=("summer picnic", "village lunch", "school concert"),
    amounts=("two", "three", "four", "six", "eight"),
    advice={
        "how": Advice(
            first=(
                "Pick a date for {x} first| and ask who can come",
                "Write a list of what {x} must have| and what would just be nice",
                "Agree on a simple idea for {x}| before you book a place",
            ),
            more=(
                "Share the jobs among friends| so nobody does it all",
                "Make one list for everything| and keep it on the fridge",
                "Book the place early| while there is still a choice",
                "Think about bad weather too| and have a second idea",
                "Send a short reminder two days before| to everyone who is coming",
            ),
        ),
        "need": Advice(
            first=(
                "{X} needs a date and a place|, plus a list of people",
                "One shared list is enough for {x}| if everyone can write in it",
                "Have food and drinks ready for {x}| a day before",
            ),
            more=(
                "A first aid bag is worth the space| wherever you go",
                "Someone with a car is useful| for the heavy things",
                "Bring more water than you think| on a warm day",
                "A phone charger saves the day| more often than you expect",
            ),
        ),
        "avoid": Advice(
            first=(
                "Many people start {x} too late|, when good places are full",
                "Do not plan every minute of {x}|, or nobody will have fun",
                "Most people tell nobody their plan for {x}| and end up doing it all",
            ),
            more=(
                "Do not invite more people| than you can feed",
                "Never count on good weather|, even in July",
                "Do not leave the shopping to the last day|, when shops are full",
                "Keep the speeches short|, as people came to talk",
            ),
        ),
        "time": Advice(
            first=(
                "Start about {n} weeks before {x}| and a little sooner in summer",
                "{X} needs around {n} weeks of planning| with an hour here and there",
                "Give yourself {n} weeks for {x}| if many people are coming",
            ),
            more=(
                "Most of the work comes in the last days|, so keep them free",
                "Answers come in slowly|, and you have to ask twice",
                "Booking takes one evening| once the date is fixed",
                "Add a spare hour at the end| to tidy up",
            ),
        ),
    },
    summaries=(
        "fix the date and share the work",
        "one list and one date are enough",
        "start early and keep it simple",
    ),
    examples=(
        "a shared list on the phone works well",
        "my neighbour lets each guest bring a dish",
        "a park is fine for a small home",
    ),
    cautions=(
        "popular places fill up months before",
        "heat and long queues tire people out",
        "unclear times leave people waiting",
    ),
    reasons=(
        "people need time to say yes",
        "shared work is light work",
        "good places fill up early",
    ),
    questions=("Who would you invite to {x}?", "What matters most to you about {x}?"),
)

BUILD = Family(
    verb="build",
    article="the",
    modifiers=("garden", "wooden", "corner", "kitchen", "toy", "folding"),
    nouns=("shelf", "box", "bench", "rack", "table"),
    held_out=("toy box", "garden table", "corner shelf"),
    amounts=("two", "three", "four", "six", "eight"),
    advice={
        "how": Advice(
            first=(
                "Draw {x} on paper with all sizes| before you cut any wood",
                "Measure the place for {x} twice| and write the numbers down",
                "Lay out {x} on the floor| to see how all parts fit",
            ),
            more=(
                "Cut the long pieces first| and the short ones from the rest",
                "Smooth the edges with sandpaper| until nothing catches",
                "Drill small holes before the screws| so the wood does not split",
                "Put it together without glue once| to see that it stands straight",
                "Paint it in two thin coats| and let the first one dry",
            ),
        ),
        "need": Advice(
            first=(
                "{X} needs wood, screws and a saw| and a quiet afternoon",
                "Saw, drill and glue are enough for {x}| in most homes",
                "Have a ruler and pencil ready for {x}| before you pick up the saw",
            ),
            more=(
                "Sandpaper makes a big difference| with very little effort",
                "Two clamps hold the parts still| like a second pair of hands",
                "Weather paint is worth it| if it will stand outside",
                "Leftover boards are often good enough| for the parts nobody sees",
            ),
        ),
        "avoid": Advice(
            first=(
                "The usual mistake with {x} is poor measuring| right at the start",
                "Do not tighten {x} too early|, or it will not stand straight",
                "Most people hurry the glue on {x}| and have to start again",
            ),
            more=(
                "Never cut towards your own hand|, even for a small piece",
                "Do not use damp wood|, as it bends when it dries",
                "Do not paint over dust|, or the coat will peel",
                "Do not use nails where screws fit|, as screws hold far longer",
            ),
        ),
        "time": Advice(
            first=(
                "Plan about {n} hours for {x}| without the paint",
                "{X} takes around {n} hours|, spread over a weekend",
                "Set aside {n} hours for {x}| if the parts are cut already",
            ),
            more=(
                "Measuring takes longer than sawing|, and that is time well spent",
                "Glue needs one night| before it can carry weight",
                "Paint adds half a day|, as each coat has to dry",
                "A helper makes it much faster| when long parts must be held",
            ),
        ),
    },
    summaries=(
        "measure twice and cut once",
        "good plans make straight corners",
        "draw it, cut it, then join it",
    ),
    examples=(
        "an old door makes three good boards",
        "my neighbour used wood from a crate",
        "a cereal box makes a handy paper model",
    ),
    cautions=(
        "a saw can slip on wet wood",
        "fine dust is bad for your lungs",
        "loose sleeves can catch in a drill",
    ),
    reasons=(
        "wood cannot be made longer again",
        "small errors add up",
        "dry glue holds far more weight",
    ),
    questions=("Where will you put {x}?", "What wood do you have for {x}?"),
)

CHOOSE = Family(
    verb="choose",
    article="a",
    modifiers=("travel", "school", "office", "sports", "garden", "work"),
    nouns=("bag", "jacket", "chair", "lamp", "bottle"),
    held_out=("office chair", "travel bottle", "garden lamp"),
    amounts=("two", "three", "four", "six", "eight"),
    advice={
        "how": Advice(
            first=(
                "Think about how often you will use {x}| before you look at prices",
                "Write down what {x} must do for you| and where it will go",
                "Try {x} in a shop first|, even if you order it later",
            ),
            more=(
                "Compare three models and no more|, or you will never decide",
                "Read the bad reviews first|, as they show the weak points",
                "Measure the space at home| and write the numbers down",
                "Ask how long the maker sells spare parts| and does repairs",
                "Sleep on it for one night| before you pay",
            ),
        ),
        "need": Advice(
            first=(
                "To pick {x} you need clear wishes| and an honest price limit",
                "A list of needs helps you find {x}| without stress",
                "Measure your space before you order {x}| and bring the numbers along",
            ),
            more=(
                "Reviews from real buyers help| more than shiny photos",
                "A friend who owns one is a good source| of small truths",
                "Bring the old one along| to compare size and weight",
                "Keep a note on your phone| with the models you liked",
            ),
        ),
        "avoid": Advice(
            first=(
                "Many people pay for {x} with extras| that they never use",
                "Do not order {x} too fast| just for a sale",
                "Most people pick {x} by its looks| and regret it in a month",
            ),
            more=(
                "Do not trust a single review|, however well it is written",
                "Never skip the return rules| when you order from far away",
                "Do not forget the weight| if you have to carry it",
                "Stay away from makers without spare parts|, as a small fault ends it",
            ),
        ),
        "time": Advice(
            first=(
                "Give yourself about {n} days to find {x}| with one visit to a shop",
                "Finding {x} takes around {n} days| if you know what you want",
                "Set aside {n} days for {x}| and then make up your mind",
            ),
            more=(
                "The first hour teaches you the most|, and the rest is detail",
                "One good shop visit beats ten evenings online| most of the time",
                "Waiting for a sale can take months| and is rarely worth it",
                "Order early in the week| to have it by Saturday",
            ),
        ),
    },
    summaries=(
        "know your needs and then compare",
        "size and use matter more than looks",
        "try it first and pay later",
    ),
    examples=(
        "a plain model often lasts the longest",
        "my neighbour always tries two in the shop",
        "last year's model is just as good",
    ),
    cautions=(
        "some online photos hide the real size",
        "fake reviews are very common",
        "returns can be slow and costly",
    ),
    reasons=(
        "needs last longer than looks",
        "reviews show the weak points",
        "guessing the size is hard",
    ),
    questions=("How often would you use {x}?", "What matters most to you in {x}?"),
)

PROJECTS = (LEARN, PLAN, BUILD, CHOOSE)


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


Split = Literal["train", "test"]

FAMILIES: tuple[Family, ...] = (*HOME, *PROJECTS)

QUESTIONS: Mapping[Kind, tuple[str, ...]] = {
    "how": (
        "How do I {do}?",
        "What is the best way to {do}?",
        "I want to {do}. Where do I start?",
        "Can you explain how to {do}?",
    ),
    "need": (
        "What do I need to {do}?",
        "Which things should I have ready to {do}?",
        "I would like to {do}. What should I get first?",
    ),
    "avoid": (
        "What mistakes should I avoid when I {do}?",
        "What usually goes wrong when people {do}?",
        "I am going to {do}. What should I not do?",
    ),
    "time": (
        "How long does it take to {do}?",
        "How much time should I set aside to {do}?",
        "I want to {do} soon. How long will it take?",
    ),
}
"""Wordings of each kind of question; `{do}` is "clean a leather bag"."""


@dataclass(frozen=True, slots=True)
class DemoTopic:
    """An activity with its object, such as cleaning a leather bag."""

    family: Family
    thing: str
    """The object as the tables list it: "leather bag", "Spanish cooking"."""

    @property
    def object(self) -> str:
        """The object as a question names it: "a leather bag", "Spanish cooking"."""
        if not self.family.article:
            return self.thing
        return f"{'an' if self.thing[0] in 'aeiou' else 'a'} {self.thing}"

    @property
    def reference(self) -> str:
        """The object as an answer refers to it: "the leather bag", "a school bag"."""
        return f"the {self.thing}" if self.family.article == "the" else self.object

    @property
    def slug(self) -> str:
        """Name for identifiers: "clean-leather-bag"."""
        return "-".join([self.family.verb, *self.thing.lower().split()])

    def question(self, kind: Kind, wording: int) -> str:
        """Return one wording of a kind of question about this topic."""
        return QUESTIONS[kind][wording].format(do=f"{self.family.verb} {self.object}")


@cache
def topics(split: Split) -> tuple[DemoTopic, ...]:
    """Return the topics of a split; no topic is in both."""
    return tuple(
        DemoTopic(family, thing)
        for family in FAMILIES
        for modifier in family.modifiers
        for noun in family.nouns
        if ((thing := f"{modifier} {noun}") in family.held_out) == (split == "test")
    )


def odd_topic(rng: random.Random) -> DemoTopic:
    """Return a topic of any two words of the world, such as cooking a velvet concert.

    A model that has only met sensible pairs guesses the second word from the first, and is wrong
    about a new pair; here it has to read the question. No topic of the test split comes out.
    """
    while True:
        family = rng.choice(FAMILIES)
        modifier = rng.choice(rng.choice(FAMILIES).modifiers)
        thing = f"{modifier} {rng.choice(rng.choice(FAMILIES).nouns)}"
        if thing not in family.held_out:
            return DemoTopic(family, thing)


def questions(split: Split) -> list[tuple[DemoTopic, Kind, int]]:
    """Return every question of a split: topic, kind and wording."""
    return [
        (topic, kind, wording)
        for topic in topics(split)
        for kind in KINDS
        for wording in range(len(QUESTIONS[kind]))
    ]


def topic_heads(query: str) -> set[str]:
    """Return the head nouns of the topics a query names: {"tank"} for "clean a leather bag".

    Empty for a query about something else than the demo world's topics.
    """
    asked = set(_topic_pattern().findall(query.lower()))
    return {thing.split()[-1] for thing in asked}


@cache
def _topic_pattern() -> re.Pattern[str]:
    names = {
        f"{topic.family.verb} {topic.object}".lower()
        for split in ("train", "test")
        for topic in topics(split)
    }
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(names))) + r")\b")


_DETAILED_WORDS = 60
_TAIL_SHARE = 0.7
"""How often a sentence of a plain answer has its second half."""
_LIST = 3
"""The least number of points in a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Which preferences an answer follows; None: nothing special in that dimension."""

    tone: str | None = None
    format: str | None = None
    audience: str | None = None
    length: str | None = None
    extra: str | None = None
    half_hearted: bool = False
    """Tone and audience are only hinted at, which the rules rate 4 and 3 instead of 5."""

    @property
    def hints(self) -> bool:
        """True if tone and audience are hinted at; a hint would make a short sentence long."""
        return self.half_hearted and self.length != "short_sentences"

    @property
    def is_list(self) -> bool:
        """True if the advice is laid out as points."""
        return self.format in {"numbered", "bullets"}

    @classmethod
    def of(cls, names: Sequence[str], *, half_hearted: bool = False) -> "Style":
        """Return the style that follows the named preferences ("tone:warm", ...)."""
        values = dict(name.split(":") for name in names)
        return cls(half_hearted=half_hearted, **values)


def compose(
    topic: DemoTopic, kind: Kind, style: Style, rng: random.Random, *, sentences: int = 4
) -> str:
    """Return an answer to a kind of question about a topic, in a style.

    `sentences` is how many there are in all when nobody asks for more or less; at least one of
    them, or the points of a list, is advice.
    """
    before = _before(topic, style, rng)
    after = _after(topic, style, rng)
    around = sum(len(part.split()) for part in (*before, *after))
    least = _LIST if style.is_list else 1
    room = max(least, sentences - len(before) - len(after))
    templates = _choose(topic, kind, style, rng, room)
    advice = _say(templates, topic, style, rng, around)
    if style.audience and style.hints:
        lead = rng.choice(IN_PASSING[style.audience])
        advice[0] = lead + _lower_first(advice[0], topic)
    if style.format == "bold":
        advice[0] = _embolden(advice[0], topic.thing)
    if style.is_list:
        marks = [f"{i}." if style.format == "numbered" else "-" for i in range(1, len(advice) + 1)]
        lines = [f"{mark} {sentence}" for mark, sentence in zip(marks, advice, strict=True)]
        return "\n".join(part for part in (" ".join(before), *lines, " ".join(after)) if part)
    return " ".join([*before, *advice, *after])


def _before(topic: DemoTopic, style: Style, rng: random.Random) -> list[str]:
    parts = []
    # A half-hearted tone is one sign of it, at one of the two ends (see `_after`).
    if style.tone and not style.hints:
        parts.append(rng.choice(OPENERS[style.tone]))
    if style.format == "summary":
        parts.append(rng.choice(SUMMARY_LEADS) + rng.choice(topic.family.summaries) + ".")
    if style.audience and not style.hints:
        parts.append(rng.choice(FOR_AUDIENCE[style.audience]))
    return parts


def _after(topic: DemoTopic, style: Style, rng: random.Random) -> list[str]:
    family = topic.family
    extras = {
        "example": (EXAMPLE_LEADS, family.examples),
        "caution": (CAUTION_LEADS, family.cautions),
        "reason": (REASON_LEADS, family.reasons),
    }
    parts = []
    if style.extra in extras:
        leads, contents = extras[style.extra]
        parts.append(rng.choice(leads) + rng.choice(contents) + ".")
    if style.tone:
        parts.append(rng.choice(CLOSERS[style.tone]))
    if style.extra == "question":
        own = [question.format(x=topic.reference) for question in family.questions]
        parts.append(rng.choice([*own, *CLOSING_QUESTIONS]))
    return parts


def _choose(
    topic: DemoTopic, kind: Kind, style: Style, rng: random.Random, sentences: int
) -> list[str]:
    """Return the sentences of the advice as the tables have them, in a sensible order."""
    advice = topic.family.advice[kind]
    count = {"brief": 1, "detailed": 1 + len(advice.more)}.get(style.length or "", sentences)
    first = rng.choice(advice.first)
    more = sorted(rng.sample(range(len(advice.more)), count - 1))
    return [first, *(advice.more[index] for index in more)]


def _say(
    templates: Sequence[str], topic: DemoTopic, style: Style, rng: random.Random, words_around: int
) -> list[str]:
    """Return the advice in full or short form; `words_around` is what the style adds to it."""
    amount = rng.choice(topic.family.amounts)
    said: list[str] = []
    words = words_around
    for template in templates:
        if style.length == "detailed" and words >= _DETAILED_WORDS:
            break
        full = (
            style.length == "detailed"
            or (style.length == "brief" and words_around <= 8)
            or (style.length is None and rng.random() < _TAIL_SHARE)
        )
        said.append(_sentence(template, topic, amount, full=full))
        words += len(said[-1].split())
    return said


def _sentence(template: str, topic: DemoTopic, amount: str, *, full: bool) -> str:
    short, _, rest = template.partition("|")
    name = topic.reference
    text = short + rest if full else short
    return text.format(x=name, X=name[0].upper() + name[1:], n=amount) + "."


def _embolden(sentence: str, thing: str) -> str:
    at = sentence.lower().index(thing.lower())
    end = at + len(thing)
    return f"{sentence[:at]}**{sentence[at:end]}**{sentence[end:]}"


def _lower_first(sentence: str, topic: DemoTopic) -> str:
    """Return the sentence as it goes on after a lead: only names keep their capital."""
    if sentence.startswith(topic.reference):
        return sentence
    return sentence[0].lower() + sentence[1:]
