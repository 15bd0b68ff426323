"""Reports: what a store says, as frozen records; nothing here asks a model or draws on a screen.

outcomes      one metric of several runs on the items of each task, side by side
catalog       which runs, judges and signatures the store has; what a run is called in a table
comparing     paired comparisons of runs, with what differs in how they were made
leaderboard   methods x data sets: means, seeds, ranks, tie letters, tie rates, best-of-k guard
paper         the published numbers, and the store laid out as the paper's tables
expenses      tokens, money and minutes of asking a judge, each with its source
planning      before a run: calls, tokens, money, minutes, and what the suite can detect
reproducing   the command behind a number, and whether it came out again
"""
