from proxy.api.slots import COST, DRY_RUN, ESTIMATE, IDENTITY, USAGE, DryRun, Identity, Slot


def test_slots_are_the_same_only_if_they_are_the_same_object() -> None:
    one: Slot[int] = Slot("x")
    other: Slot[int] = Slot("x")
    assert one != other
    assert {one: 1, other: 2} == {one: 1, other: 2}
    assert len({one, other}) == 2


def test_a_slot_names_itself() -> None:
    assert repr(Slot("mine")) == "Slot('mine')"
    assert [slot.name for slot in (IDENTITY, ESTIMATE, USAGE, COST, DRY_RUN)] == [
        "identity",
        "estimate",
        "usage",
        "cost",
        "dry_run",
    ]


def test_an_identity_needs_a_user_and_an_address_alone() -> None:
    who = Identity(user="alice", address="192.0.2.1")
    assert (who.key_id, who.team, who.end_user, who.limits, who.models) == (None, None, None, (), ())


def test_dry_runs_do_not_share_a_body() -> None:
    one, other = DryRun(), DryRun()
    one.body["admitted"] = True
    assert other.body == {}
