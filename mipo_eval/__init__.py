"""mipo-eval: evaluate, judge, train and compare personalized language models.

Built around Mutual Information Preference Optimization (MIPO, arXiv 2603.19294). The folders
`tasks/`, `judges/`, `training/` and `dashboards/` at the top of the repository are the packages
`mipo_eval.tasks`, `mipo_eval.judges`, `mipo_eval.training` and `mipo_eval.dashboards`.
"""

__version__ = "0.1.0"
