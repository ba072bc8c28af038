import asyncio
from collections.abc import Iterator

import pytest

from plugins.limiter.redis.connection import FAILURES, SCRIPT, Connection, has_moved, is_ours, is_refusal
from plugins.limiter.redis.url import place
from tests.plugins.limiter.redis.servers import Server, cluster, server
from tests.ports import free_ports

pytestmark = pytest.mark.slow
NOTHING = b"[0,30000000,[],[],[],0,[]]"
WRITES = b"[1,30000000,[],[],[],0,[]]"


@pytest.fixture
def redis() -> Iterator[Server]:
    with server() as made:
        yield made


async def fails(connection: Connection, argument: bytes = WRITES, wait: float = 5) -> BaseException:
    with pytest.raises(FAILURES) as error:
        async with asyncio.timeout(wait):
            await connection.run(["{a}"], argument)
    return error.value


async def test_the_script_is_sent_when_redis_does_not_know_it(redis: Server) -> None:
    connection = Connection(place(redis.url))
    with redis.client() as client:
        for _ in range(2):
            assert await connection.run(["{a}"], NOTHING) == b""
            assert client.info("commandstats")["cmdstat_eval"]["calls"] == 1
        client.script_flush()
        assert await connection.run(["{a}"], NOTHING) == b""
        assert client.info("commandstats")["cmdstat_eval"]["calls"] == 2
    await connection.close()


async def test_a_restart_is_noticed_by_nobody(redis: Server) -> None:
    connection = Connection(place(redis.url))
    assert await connection.run(["{a}"], NOTHING) == b""
    redis.stop()
    assert not is_ours(await fails(connection))
    redis.start()
    assert await connection.run(["{a}"], NOTHING) == b""
    await connection.close()


async def test_what_is_cut_off_is_not_taken_for_the_next_answer(redis: Server) -> None:
    connection = Connection(place(redis.url), "return ARGV[1]")
    assert await connection.run(["{a}"], b"one") == b"one"
    for number in range(20):
        task = asyncio.create_task(connection.run(["{a}"], b"lost"))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        said = b"%d" % number
        assert await connection.run(["{a}"], said) == said
    await connection.close()


@pytest.mark.fault("E8")
async def test_a_refused_login_is_told_from_other_failures() -> None:
    with server("--requirepass", "right") as locked:
        for login in ("", ":wrong@", "nobody:right@"):
            connection = Connection(place(locked.url.replace("//", f"//{login}")))
            error = await fails(connection)
            assert is_refusal(error), error
            assert not is_ours(error)
            await connection.close()
        connection = Connection(place(locked.url.replace("//", "//:right@")))
        assert await connection.run(["{a}"], WRITES) == b""
        await connection.close()


async def test_an_acl_user_needs_no_more_than_these_commands(redis: Server) -> None:
    commands = "+evalsha +eval +get +set +del +zadd +zrem +zcount +zremrangebyscore +pexpire +time"
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "weir", "on", ">secret", "~weir:*", *commands.split())
    connection = Connection(place(redis.url.replace("//", "//weir:secret@")))
    limits = b'[["r",1,1,5],["b",5,0],["l",5]]'
    asks = b'[[1,"a",1,2,1,0,2,3,1,0,3,4,1,0]]'
    asked = b'[1,30000000,%b,[[3,4,1,0,"a"]],%b,0,[]]' % (limits, asks)
    keys = [f"weir:{{a}}:{name}" for name in "prbl"]
    assert (await connection.run(keys, asked)).startswith(b"1 0 4 1 ")
    await connection.close()


async def test_a_replica_and_a_full_redis_fail_without_being_our_fault(redis: Server) -> None:
    connection = Connection(place(redis.url))
    (nobody,) = free_ports(1)
    with redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", nobody)
        error = await fails(connection)
        assert has_moved(error)
        assert not is_ours(error)
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("maxmemory", 1)
        error = await fails(connection)
        assert not is_ours(error), error
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 1)
        error = await fails(connection)
        assert not is_ours(error), error
        client.config_set("min-replicas-to-write", 0)
        client.execute_command("ACL", "SETUSER", "default", "-hset", "-set")
        error = await fails(connection)
        assert is_refusal(error), error
        assert not is_ours(error)
        client.execute_command("ACL", "SETUSER", "default", "+@all")
        client.set("{a}:other", "not a struct")
    with pytest.raises(FAILURES) as ours:
        await connection.run(["{a}", "{a}:other"], b'[2,1,[["r",1,1,5]],[[1,2,1,0,0]],[],0,[]]')
    assert is_ours(ours.value), ours.value
    await connection.close()


@pytest.mark.fault("E10")
async def test_a_clusters_node_is_found_and_found_again() -> None:
    with cluster() as nodes:
        connection = Connection(place(f"redis+cluster://127.0.0.1:{nodes[2].port}"))
        for tag in "abcdef":  # on different nodes
            assert await connection.run([f"{{{tag}}}:p"], WRITES) == b""
        counts = []
        for node in nodes:
            with node.client() as client:
                counts.append(client.dbsize())
        assert sum(counts) == 6
        assert min(counts) > 0
        connection.forget()
        assert await connection.run(["{a}:p"], NOTHING) == b""
        await connection.close()


@pytest.mark.fault("E9")
async def test_a_sentinel_names_the_master() -> None:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    (port,) = free_ports(1)
    with server() as master, TemporaryDirectory(prefix="weir-sentinel-") as folder:
        config = Path(folder) / "sentinel.conf"
        config.write_text(f"sentinel monitor main 127.0.0.1 {master.port} 1\n")
        sentinel = Server(Path(folder), port)
        sentinel.use(str(config), "--sentinel")
        sentinel.start()
        try:
            connection = Connection(place(f"redis+sentinel://127.0.0.1:{port}/main"))
            assert await connection.run(["{a}:p"], WRITES) == b""
            with master.client() as client:
                assert client.dbsize() == 1
            await connection.close()
            other = Connection(place(f"redis+sentinel://127.0.0.1:{port}/other"))
            assert not is_ours(await fails(other))
            await other.close()
        finally:
            sentinel.stop()


def test_the_script_touches_no_key_that_it_was_not_given() -> None:
    assert "redis.call('" in SCRIPT
    for line in SCRIPT.splitlines():
        if "redis.call(" in line and "'TIME'" not in line:
            assert "KEYS[" in line, line
