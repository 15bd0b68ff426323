"""What lm-eval's served model types need: the key that belongs to their server, and no other."""

from typing import Any

from mipo_eval.models.credentials import PLACEHOLDER, SentKey, credential, demanded, set_key


class Keyed:
    """A served lm-eval model whose key is chosen by its server; goes before lm-eval's class."""

    base_url: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        demanded(self.base_url or "")  # now, and not after many tries of every request

    @property
    def api_key(self) -> str:
        """The key; lm-eval's own types read one variable whatever the server."""
        return credential(self.base_url).key or PLACEHOLDER

    @property
    def header(self) -> dict[str, str]:
        """The headers of each request, without a key where none belongs there."""
        own: dict[str, str] = super().header  # type: ignore[misc]
        headers = {name.lower(): value for name, value in own.items()}
        form = ("x-api-key", "") if "x-api-key" in headers else ("authorization", "Bearer ")
        sent = SentKey(credential=credential(self.base_url), header=form[0], before=form[1])
        set_key(headers, self.base_url, self.base_url, sent)
        return headers


def keyed(kind: type) -> type:
    """Return an lm-eval model type with the right key, where it is one that asks a server."""
    from lm_eval.models.api_models import TemplateAPI

    if not issubclass(kind, TemplateAPI) or issubclass(kind, Keyed):
        return kind
    return type(kind.__name__, (Keyed, kind), {})
