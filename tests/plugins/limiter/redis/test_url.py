import pytest

from plugins.limiter.redis.url import place


@pytest.mark.parametrize(
    ("text", "kind", "url", "shown", "hosts", "service"),
    [
        ("redis://h:1/2", "single", "redis://h:1/2", "redis://h:1/2", (), ""),
        ("rediss://u:p@h", "single", "rediss://u:p@h", "rediss://h:6379", (), ""),
        ("redis://[::1]:7/0", "single", "redis://[::1]:7/0", "redis://[::1]:7/0", (), ""),
        ("unix:///run/r.sock?db=1", "single", "unix:///run/r.sock?db=1", "unix:///run/r.sock", (), ""),
        (
            "redis+cluster://:p@a:1,b",
            "cluster",
            "redis://:p@a:1",
            "redis+cluster://a:1,b:6379",
            (("a", 1), ("b", 6379)),
            "",
        ),
        (
            "rediss+sentinel://u:p@a,b:2/main/3?ssl_cert_reqs=none",
            "sentinel",
            "rediss://u:p@a:26379/3?ssl_cert_reqs=none",
            "rediss+sentinel://a:26379,b:2/main",
            (("a", 26379), ("b", 2)),
            "main",
        ),
    ],
)
def test_where_redis_is(
    text: str, kind: str, url: str, shown: str, hosts: tuple[tuple[str, int], ...], service: str
) -> None:
    found = place(text)
    assert (found.kind, found.url, found.shown, found.service) == (kind, url, shown, service)
    if kind != "single":
        assert found.hosts == hosts
    assert "p@" not in repr(found)


def test_sentinels_have_a_login_of_their_own() -> None:
    found = place("redis+sentinel://u:p@a/main?sentinel_password=s&sentinel_username=t&db=1")
    assert (found.url, found.sentinel_login) == ("redis://u:p@a:26379?db=1", ("t", "s"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://:secret@h", "begins with none of redis://"),
        ("redis://:secret@h:x", "has a port that is not a number"),
        ("redis://:secret@", "names no server"),
        ("redis://:secret@a,b", "names several servers"),
        ("redis://:secret@a/db", "names a database that is not a number"),
        ("unix://", "names no socket"),
        ("redis+cluster://:secret@a/1", "a cluster has only one"),
        ("redis+sentinel://:secret@a", "names no master"),
        ("redis+sentinel://:secret@a/main/x", "names a database that is not a number"),
    ],
)
def test_what_will_not_do_is_said_without_the_password(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        place(text)
    assert "secret" not in str(error.value)
