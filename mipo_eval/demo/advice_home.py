"""Advice of the demo world about the home: cleaning, growing, cooking (data only)."""

from mipo_eval.demo.advice import Advice, Family

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
