//! What clients get, on connections in memory.

use crate::memory::Machine;
use kv::server::Config;

#[test]
fn a_pipeline_is_answered_in_order_and_whatever_its_pieces() {
    let machine = Machine::new(Config::default());
    let client = machine.client();
    for byte in b"SET a 1\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\nNONE\r\nGET a\r\n" {
        client.send(&[*byte]);
        machine.settle();
    }
    let got = String::from_utf8(client.got()).unwrap();
    assert_eq!(got, "+OK\r\n:2\r\n-ERR unknown command 'NONE', with args beginning with: \r\n$1\r\n2\r\n");
    client.close();
    machine.settle();
    assert!(client.is_alone(), "the connection ends with the client");
}

#[test]
fn a_transaction_is_whole_or_nothing() {
    let machine = Machine::new(Config::default());
    let (one, two) = (machine.client(), machine.client());
    assert_eq!(
        machine.ask(&one, "MULTI\r\nSET a 1\r\nINCR a\r\nEXEC"),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:2\r\n"
    );
    assert!(
        machine
            .ask(&one, "MULTI\r\nNOTHING\r\nSET a 9\r\nEXEC")
            .ends_with("-EXECABORT Transaction discarded because of previous errors.\r\n")
    );
    machine.ask(&one, "WATCH a\r\nMULTI\r\nSET a 5");
    machine.ask(&two, "SET a 7");
    assert_eq!(machine.ask(&one, "EXEC"), "*-1\r\n");
    assert_eq!(machine.ask(&one, "GET a"), "$1\r\n7\r\n");
}

#[test]
fn who_waits_is_served_in_the_order_of_coming() {
    let machine = Machine::new(Config::default());
    let (one, two, three) = (machine.client(), machine.client(), machine.client());
    assert_eq!(machine.ask(&one, "BLPOP q 0"), "");
    assert_eq!(machine.ask(&two, "BLPOP other q 1\r\nPING"), "");
    assert_eq!(machine.ask(&three, "RPUSH q a"), ":1\r\n");
    assert_eq!(String::from_utf8(one.got()).unwrap(), "*2\r\n$1\r\nq\r\n$1\r\na\r\n");
    assert_eq!(two.got(), b"");
    machine.pass_ms(1200);
    assert_eq!(
        String::from_utf8(two.got()).unwrap(),
        "*-1\r\n+PONG\r\n",
        "the time is over, and the pipeline goes on"
    );
    assert_eq!(machine.ask(&three, "RPUSH q b\r\nLLEN q"), ":1\r\n:1\r\n", "nobody waits any more");
    let id = machine.ask(&one, "DEL q\r\nCLIENT ID").lines().nth(1).unwrap()[1..].to_owned();
    assert_eq!(machine.ask(&one, "BLPOP q 0"), "");
    assert_eq!(machine.ask(&three, &format!("CLIENT UNBLOCK {id} ERROR")), ":1\r\n");
    assert!(String::from_utf8(one.got()).unwrap().starts_with("-UNBLOCKED"));
}

#[test]
fn messages_reach_who_has_subscribed() {
    let machine = Machine::new(Config::default());
    let (one, two) = (machine.client(), machine.client());
    assert_eq!(machine.ask(&one, "SUBSCRIBE a"), "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    assert!(machine.ask(&one, "PSUBSCRIBE n*").ends_with(":2\r\n"));
    assert_eq!(machine.ask(&two, "PUBLISH a hi\r\nPUBLISH news x"), ":1\r\n:1\r\n");
    assert_eq!(
        String::from_utf8(one.got()).unwrap(),
        "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$1\r\nx\r\n"
    );
    assert!(machine.ask(&one, "GET a").starts_with("-ERR Can't execute 'get'"));
    // Who takes nothing is ended when too much waits.
    machine.ask(&two, "CONFIG SET client-output-buffer-limit \"pubsub 10kb 0 0\"");
    one.take_only(Some(0));
    let message = "x".repeat(1000);
    for _ in 0..40 {
        machine.ask(&two, &format!("PUBLISH a {message}"));
    }
    assert!(one.is_alone());
    assert_eq!(machine.ask(&two, "PUBSUB NUMSUB a"), "*2\r\n$1\r\na\r\n:0\r\n");
}

#[test]
fn a_password_is_wanted_before_anything_else() {
    let mut config = Config::default();
    config.set("requirepass", "secret").unwrap();
    let machine = Machine::new(config);
    let client = machine.client();
    assert_eq!(machine.ask(&client, "GET a"), "-NOAUTH Authentication required.\r\n");
    assert!(machine.ask(&client, "AUTH wrong").starts_with("-WRONGPASS"));
    assert!(machine.ask(&client, "HELLO 3").starts_with("-NOAUTH"));
    assert!(machine.ask(&client, "HELLO 3 AUTH default secret").starts_with("%7\r\n"));
    assert_eq!(machine.ask(&client, "GET a"), "_\r\n");
}

#[test]
fn memory_stays_within_its_limit_under_every_policy() {
    for policy in [
        "allkeys-lru",
        "allkeys-s3-fifo",
        "allkeys-w-tinylfu",
        "allkeys-random",
        "allkeys-own",
        "volatile-own",
    ] {
        let mut config = Config::default();
        config.set("maxmemory", "50kb").unwrap();
        config.set("maxmemory-policy", policy).unwrap();
        let machine = Machine::new(config);
        let client = machine.client();
        for number in 0..500 {
            let value = "v".repeat(100 + number % 400);
            let reply =
                machine.ask(&client, &format!("SET k:{number} {value} EX 1000\r\nGET k:{}", number / 2));
            assert!(reply.starts_with("+OK"), "{policy}: {reply}");
        }
        machine.ask(&client, "PING");
        let server = machine.server.borrow();
        // The last command may have exceeded it.
        assert!(
            server.store.used_bytes() <= 51_200 && server.counts.evicted > 300,
            "{policy}: {:?}",
            server.counts
        );
    }
    let mut config = Config::default();
    config.set("maxmemory", "1kb").unwrap();
    let machine = Machine::new(config);
    let client = machine.client();
    let long = "v".repeat(2000);
    assert_eq!(machine.ask(&client, &format!("SET a {long}")), "+OK\r\n");
    assert!(machine.ask(&client, "SET b 1").starts_with("-OOM"), "no key leaves");
    assert_eq!(machine.ask(&client, "DEL a"), ":1\r\n");
}

#[test]
fn expired_keys_go_by_themselves() {
    let machine = Machine::new(Config::default());
    let client = machine.client();
    machine.ask(&client, "SET a 1 PX 300");
    machine.pass_ms(500);
    assert_eq!(machine.server.borrow().store.len(0), 0);
}

#[test]
fn a_key_that_is_added_is_used_once() {
    // By how often a key was used: who is counted twice for coming once would outstay who came back.
    let mut config = Config::default();
    config.set("maxmemory", "50kb").unwrap();
    config.set("maxmemory-policy", "allkeys-lfu").unwrap();
    let machine = Machine::new(config);
    let client = machine.client();
    let value = "v".repeat(1000);
    for number in 0..40 {
        machine.ask(&client, &format!("SET k:{number} {value}\r\nGET k:{number}"));
    }
    // Some six more fit; what makes room for the others was used once. (Counts age: of many, all would go.)
    for number in 100..110 {
        machine.ask(&client, &format!("SET k:{number} {value}"));
    }
    let kept =
        (0..40).filter(|number| machine.ask(&client, &format!("EXISTS k:{number}")) == ":1\r\n").count();
    assert_eq!(kept, 40, "of those that were used again");
}

#[test]
fn all_about_a_stream_is_told() {
    let machine = Machine::new(Config::default());
    let client = machine.client();
    machine.ask(&client, "XADD x 1-1 a b\r\nXADD x 2-1 c d\r\nXADD x 3-1 e f\r\nXGROUP CREATE x g 0");
    machine.ask(&client, "XREADGROUP GROUP g one COUNT 2 STREAMS x >");
    let words = |reply: String| {
        let words = reply.lines().filter(|line| !line.starts_with('$')).map(str::to_owned);
        words.collect::<Vec<_>>().join(" ")
    };
    let now = 1_700_000_000_000_u64;
    // What redis-server 7.0.15 says, but for the times.
    let first = "length :3 radix-tree-keys :1 radix-tree-nodes :2 last-generated-id 3-1 max-deleted-entry-id 0-0 \
                 entries-added :3 recorded-first-entry-id 1-1 entries";
    let group = "groups *1 *14 name g last-delivered-id 2-1 entries-read :2 lag :1 pel-count :2 pending";
    assert_eq!(
        words(machine.ask(&client, "XINFO STREAM x FULL COUNT 1")),
        format!(
            "*18 {first} *1 *2 1-1 *2 a b {group} *1 *4 1-1 one :{now} :1 consumers *1 *8 name one seen-time :{now} \
             pel-count :2 pending *1 *3 1-1 :{now} :1"
        )
    );
    let all = words(machine.ask(&client, "XINFO STREAM x FULL"));
    assert!(all.contains("entries *3 *2 1-1") && all.ends_with("*3 2-1 :1700000000000 :1"), "{all}");
    assert!(machine.ask(&client, "XINFO STREAM x FULL COUNT z").starts_with("-ERR value is not an integer"));
    assert!(machine.ask(&client, "XINFO STREAM x NOPE").contains("Try XINFO HELP."));
    assert!(machine.ask(&client, "XINFO STREAM y FULL COUNT z").starts_with("-ERR no such key"));
}
