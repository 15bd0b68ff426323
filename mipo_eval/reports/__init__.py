"""Reports: what a store says, as frozen records; nothing here asks a model or draws on a screen.

names         what runs, models and trainings are called in tables
labels        what metrics are called, and their decimals
leaderboard   methods x data sets: means, seeds, ranks, tie letters, tie rates, best-of-k guard
comparison    runs against each other: paired, at equal length, and all methods head to head
paper         the published numbers
paper_table   the store laid out as the paper's tables, entry by entry (paper_entries)
paper_grid    such a table as a grid, with what is warned of (warned); in files, paper_files
others        what other people printed
figures       the paper's figures from the store, as data and as pictures
agreement     judge against judge: who agrees with whom, and who favours its own family
correction    a judge's win rate corrected by what people said
plan          before a run: calls, tokens, money, minutes, and what the suite can detect
reproduction  the command behind a number, and whether it came out again
exported_run  a run with all that was said of it, also in other tools' terms
export        runs in files
"""
