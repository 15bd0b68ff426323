"""An item's key is of its content, however the item came about."""

from mipo_eval.records import Item


def test_a_copy_with_other_fields_has_a_key_of_its_own() -> None:
    item = Item(item_id="a", prompt="What is tea?", context="Be short.")
    before = item.key  # from now on it is remembered
    bare = item.model_copy(update={"context": ""})
    assert bare.key == Item(item_id="a", prompt="What is tea?").key != before
    assert item.model_copy().key == item.key == before
