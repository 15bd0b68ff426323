"""Dashboards: the Streamlit board over plain table-building functions."""

if (
    __name__ != "mipo_eval.dashboards"
):  # a second copy of every class would not be equal to the first
    raise ImportError("this folder is mipo_eval.dashboards: import that, not a bare `dashboards`")
