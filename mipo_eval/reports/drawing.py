"""Figures as pictures: Vega-Lite for the web, SVG and PNG for papers; no network is needed."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipo_eval.errors import ConfigError
from mipo_eval.reports.figures import Figure, figure_json, series_name

if TYPE_CHECKING:
    import altair as alt

_WIDTH, _ROW, _HEIGHT, _LABEL = 520, 26, 320, 420
"""Pixels."""


def draw(found: Figure, path: Path) -> None:
    """Write a figure to a file whose ending says in which form.

    Raises:
        ConfigError: an ending that means nothing, nothing to draw, or a library is missing.
    """
    form = next((form for form in FORMS if path.name.endswith(form)), None)
    if form is None:
        raise ConfigError(f"{path.name}: a figure ends in {', '.join(FORMS)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: the folder {path.parent} is not there")
    if not found.rows:
        raise ConfigError(f"the store has nothing for figure {found.number}: nothing is drawn")
    made = FORMS[form](found)
    path.write_bytes(made if isinstance(made, bytes) else made.encode())


def vega(found: Figure) -> dict[str, Any]:
    """Return a figure as a Vega-Lite specification with its data inside."""
    spec: dict[str, Any] = _chart(found).to_dict()
    return spec


def _chart(found: Figure) -> "alt.LayerChart":
    try:
        import altair as alt
    except ModuleNotFoundError:
        raise ConfigError("a picture needs Altair: pip install 'mipo-eval[board]'") from None
    rows = [{**row, "series": series_name(row)} for row in found.rows]
    base = alt.Chart(alt.InlineData(values=rows))
    names = list(dict.fromkeys(row["series"] for row in rows))
    layers = {2: _line_marks, 3: _points}.get(found.number, _boxes)(base, names, found.value)
    height = _HEIGHT if found.number == 2 else _ROW * max(len(names), 2)
    return alt.LayerChart(layer=layers, title=found.title, width=_WIDTH, height=height)


def _line_marks(base: "alt.Chart", names: list[str], value: str) -> list["alt.Chart"]:
    import altair as alt

    legend = alt.Legend(orient="bottom", columns=1, labelLimit=_WIDTH)
    return [
        base.mark_line().encode(
            x=alt.X("step:Q", title="optimizer steps"),
            y=alt.Y("value:Q", title=value, scale=alt.Scale(zero=False)),
            color=alt.Color("series:N", title=None, sort=names, legend=legend),
        )
    ]


def _points(base: "alt.Chart", names: list[str], value: str) -> list["alt.Chart"]:
    import altair as alt

    y = alt.Y("series:N", title=None, sort=names, axis=alt.Axis(labelLimit=_LABEL))
    x = alt.X("value:Q", title=value, scale=alt.Scale(zero=False))
    ends = {"low": "datum.ci95 ? datum.ci95[0] : null", "high": "datum.ci95 ? datum.ci95[1] : null"}
    even = alt.Chart(alt.InlineData(values=[{"even": 50}]))
    return [
        even.mark_rule(strokeDash=[4, 3], color="grey").encode(x="even:Q"),
        base.transform_calculate(**ends).mark_rule().encode(x="low:Q", x2="high:Q", y=y),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y),
    ]


def _boxes(base: "alt.Chart", names: list[str], value: str) -> list["alt.Chart"]:
    import altair as alt

    y = alt.Y("series:N", title=None, sort=names, axis=alt.Axis(labelLimit=_LABEL))
    x = alt.X("value:Q", title=f"{value}; diamond: mean", scale=alt.Scale(domainMin=0))
    mean = base.mark_point(shape="diamond", filled=True, size=60, color="black", opacity=1)
    return [
        base.mark_boxplot(extent="min-max", size=14).encode(x=x, y=y),
        mean.encode(x="mean(value):Q", y=y),
    ]


def _picture(found: Figure, form: str) -> str | bytes:
    chart = _chart(found)
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise ConfigError(
            "SVG and PNG need vl-convert: pip install 'mipo-eval[board]', or write .vl.json"
        ) from None
    spec = chart.to_dict()
    if form == "svg":
        text: str = vl_convert.vegalite_to_svg(spec)
        return text
    pixels: bytes = vl_convert.vegalite_to_png(spec, scale=2)
    return pixels


def _rows_csv(found: Figure) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(found.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)
    return stream.getvalue()


FORMS: Mapping[str, Callable[[Figure], str | bytes]] = {
    ".vl.json": lambda found: json.dumps(vega(found), indent=1, ensure_ascii=False) + "\n",
    ".json": lambda found: json.dumps(figure_json(found), indent=1, ensure_ascii=False) + "\n",
    ".csv": _rows_csv,
    ".svg": lambda found: _picture(found, "svg"),
    ".png": lambda found: _picture(found, "png"),
}
"""Ending of a file to what is written; the first that fits counts."""
