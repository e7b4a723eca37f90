"""Operations of the client library `redis` on a server; says so if all came out as they should."""
import sys
import threading
import redis

for protocol in (2, 3):
    store = redis.Redis(host=sys.argv[1], protocol=protocol, decode_responses=True, socket_timeout=20)
    store.flushall()
    assert store.ping() and store.info()["redis_mode"] == "standalone"
    assert store.set("s", "one", ex=100) and store.get("s") == "one" and 0 < store.ttl("s") <= 100
    assert store.set("s", "two", nx=True) is None and store.getdel("s") == "one"
    assert store.mset({"a": 1, "b": 2}) and store.mget("a", "b", "c") == ["1", "2", None]
    assert store.incrbyfloat("a", 0.5) == 1.5 and store.setbit("bits", 7, 1) == 0 and store.bitcount("bits") == 1
    assert store.hset("h", mapping={"x": "1", "y": "2"}) == 2 and store.hgetall("h") == {"x": "1", "y": "2"}
    assert store.rpush("l", "a", "b", "c") == 3 and store.lrange("l", 0, -1) == ["a", "b", "c"]
    assert store.sadd("m", "p", "q") == 2 and store.smembers("m") == {"p", "q"}
    assert store.zadd("z", {"one": 1, "two": 2.5}) == 2
    ranked = [tuple(pair) for pair in store.zrange("z", 0, -1, withscores=True)]
    assert ranked == [("one", 1.0), ("two", 2.5)], ranked
    assert store.xadd("x", {"k": "v"}, id="1-1") == "1-1" and store.xlen("x") == 1
    assert store.xgroup_create("x", "g", id="0") and store.xreadgroup("g", "me", {"x": ">"})
    assert store.xack("x", "g", "1-1") == 1
    assert store.pfadd("p", "a", "b") and store.pfcount("p") == 2
    assert sorted(store.scan_iter(match="[a-c]")) == ["a", "b"] and store.type("z") == "zset"
    with store.pipeline(transaction=True) as pipe:
        assert pipe.incr("n").incr("n").execute() == [1, 2]
    with store.pipeline() as pipe:
        pipe.watch("n")
        store.set("n", 7)
        pipe.multi()
        pipe.incr("n")
        try:
            pipe.execute()
            raise AssertionError("a transaction over a changed key")
        except redis.WatchError:
            pass
    try:
        store.lpush("s2", 1) and store.get("s2")
        raise AssertionError("a list as a string")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error
    listening = store.pubsub()
    listening.subscribe("news")
    assert listening.get_message(timeout=10)["type"] == "subscribe"
    assert store.publish("news", "hello") == 1
    assert listening.get_message(timeout=10)["data"] == "hello"
    listening.close()
    got = []
    waiting = threading.Thread(target=lambda: got.append(store.blpop("queue", timeout=15)))
    waiting.start()
    while store.info("clients")["blocked_clients"] == 0:
        pass
    store.rpush("queue", "work")
    waiting.join()
    assert [tuple(pair) for pair in got] == [("queue", "work")], got
    assert store.config_get("maxmemory")["maxmemory"] == "0" and store.dbsize() > 5
    assert store.memory_usage("h") > 0 and store.object("encoding", "h") == "listpack"
    store.client_setname("python")
    assert store.client_getname() == "python" and any(one["name"] == "python" for one in store.client_list())
    assert store.command_count() > 200 and store.time()[0] > 0
print("all as it should be")
