from proxy.demo.store import Store


def test_store_forgets_the_oldest() -> None:
    store: Store[str] = Store(limit=10)
    for name, weight in [("a", 4), ("b", 4), ("a", 4), ("c", 4)]:
        store.put(name, name.upper(), weight)
    assert store.values() == ["A", "C"]
    assert store.pop("a") == "A"
    store.put("d", "D", 6)
    assert (store.get("c"), store.get("d"), store.get("a")) == ("C", "D", None)
