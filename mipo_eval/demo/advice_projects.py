"""Advice of the demo world about projects: learning, planning, building, choosing (data only)."""

from mipo_eval.demo.advice import Advice, Family

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
