//! The key-value store, asked by the programs that people use with Redis.

use super::{Asked, holds, on_network, output, says};
use crate::host::tap::{MACHINE, TapNetwork};
use crate::suite::context::{Context, json_lines, text};
use crate::suite::platform::Need;
use crate::suite::{Test, Verdict};
use results::KvLine;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// The tests.
pub fn tests() -> Vec<Test> {
    let cli = [Need::Tap, Need::Program("redis-cli")];
    let benchmark = [Need::Tap, Need::Program("redis-cli"), Need::Program("redis-benchmark")];
    let python = [Need::Tap, Need::PythonModule("redis")];
    vec![
        Test::new("kv-redis-cli", &cli, command_line),
        Test::new("kv-redis-benchmark", &benchmark, benchmarks),
        Test::new("kv-python-client", &python, python_client),
        Test::new("kv-between-environments", &[Need::Exokernel, Need::Network], between_environments),
        Test::new("compare-kv", &[Need::Exokernel, Need::Speed], |context| compare(context, &[])),
        Test::new("compare-kv-direct", &[Need::Alone, Need::Qemu], |context| compare(context, &["--direct"])),
        Test::new("compare-kv-arguments", &[Need::Alone, Need::Qemu], arguments),
    ]
}

/// Runs `kv` on a tap device with these words, and asks it as soon as it listens.
fn served(
    context: &Context,
    machine: &[&str],
    words: &[&str],
    ask: impl FnOnce() -> Verdict + Send,
) -> Verdict {
    let network = TapNetwork::new().map_err(|error| error.to_string())?;
    let (net, address) = (TapNetwork::net(), TapNetwork::word());
    let arguments = [&["--net", &net][..], machine, &["kv", "--", &address], words].concat();
    on_network(context, &network, &arguments, "kv: listening on", |_| ask())?.shows("kv: ended").map(drop)
}

/// What redis-cli prints.
fn cli(arguments: &[&str]) -> Asked<String> {
    Ok(says("redis-cli", &[&["-h", MACHINE], arguments].concat())?.trim_end().to_owned())
}

/// redis-cli with a script on its standard input.
fn scripted(arguments: &[&str], script: &str) -> Asked<String> {
    let failed = |error: std::io::Error| format!("redis-cli: {error}");
    let mut command = Command::new("timeout");
    command.args(["60", "redis-cli", "-h", MACHINE]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut input = child.stdin.take().ok_or("no standard input")?;
    let written = std::thread::scope(|scope| {
        // It may answer before it has read all.
        let writing = scope.spawn(move || input.write_all(script.as_bytes()));
        let output = child.wait_with_output().map_err(failed)?;
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(failed)?;
        Ok::<_, String>(output)
    })?;
    Ok(String::from_utf8_lossy(&written.stdout).trim_end().to_owned())
}

/// A machine of 4 MiB and what its data need: a command line as a user has it.
fn command_line(context: &Context) -> Verdict {
    // HyperExo has frames of its own.
    let memory = if context.platform.is_direct() { "8M" } else { "32M" };
    served(context, &["--memory", memory], &["maxmemory=1mb", "maxmemory-policy=allkeys-own"], || {
        values()?;
        many_keys()?;
        messages()?;
        blocked()?;
        waits_for_script()
    })
}

/// Values of all kinds, in both protocols, by a script.
fn values() -> Verdict {
    for (protocol, hash) in [("-2", "1) \"f\"\n2) \"1\""), ("-3", "1# \"f\" => \"1\"")] {
        let script = "FLUSHALL\nSET s hello\nAPPEND s \" world\"\nGET s\nHSET h f 1\nRPUSH l a b c\nLRANGE l 0 -1\n\
                      SADD m x\nSMEMBERS m\nZADD z 1.5 one 2 two\nZRANGEBYSCORE z -inf 1.9 WITHSCORES\nXADD x 1-1 k v\n\
                      XLEN x\nPFADD p a b c\nPFCOUNT p\nMULTI\nINCR n\nINCR n\nEXEC\nGET nothing\nHELLO\n";
        let said = scripted(&[protocol], script)?;
        let starts = "OK\nOK\n11\nhello world\n1\n3\na\nb\nc\n1\nx\n2\none\n1.5\n1-1\n1\n1\n3\nOK\nQUEUED\nQUEUED\n1\n2\n\n";
        holds(said.starts_with(starts) && said.contains("server"), || format!("{protocol}: {said:?}"))?;
        let said = cli(&[protocol, "--no-raw", "HGETALL", "h"])?;
        holds(said == hash, || format!("{protocol}: a hash: {said:?}"))?;
    }
    let said = cli(&["-e", "GET", "h"]);
    holds(said.as_ref().is_err_and(|why| why.contains("WRONGTYPE")), || format!("a wrong type: {said:?}"))
}

/// What redis-cli asks of stores by itself.
fn many_keys() -> Verdict {
    let mut protocol = String::new();
    for number in 0..300 {
        protocol += &format!("*3\r\n$3\r\nSET\r\n$7\r\nkey:{number:03}\r\n$5\r\nvalue\r\n");
    }
    let said = scripted(&["--pipe"], &protocol)?;
    holds(said.contains("errors: 0, replies: 300"), || format!("--pipe: {said}"))?;
    let found = cli(&["--scan", "--pattern", "key:*"])?;
    holds(found.lines().count() == 300, || format!("--scan: {} keys", found.lines().count()))?;
    let items: Vec<String> = (0..100).map(|number| format!("an item, {number}")).collect();
    let items: Vec<&str> = ["RPUSH", "large"].into_iter().chain(items.iter().map(String::as_str)).collect();
    cli(&items)?;
    for (option, wanted) in [("--bigkeys", "Biggest   list found"), ("--memkeys", "Biggest   list found")] {
        let said = cli(&[option])?;
        holds(said.contains(wanted) && said.contains("large"), || format!("{option}: {said}"))?;
    }
    let said = says("timeout", &["20", "redis-cli", "-h", MACHINE, "--raw", "--latency", "-i", "1"])?;
    holds(said.split_whitespace().count() >= 4, || format!("--latency: {said:?}"))?;
    let info = cli(&["INFO", "all"])?;
    holds(info.contains("used_memory:") && info.contains("db0:keys="), || format!("INFO: {info}"))?;
    for (words, wanted) in [
        (&["OBJECT", "ENCODING", "large"][..], "quicklist"),
        (&["MEMORY", "USAGE", "large"], ""),
        (&["MEMORY", "DOCTOR"], "Sam"),
        (&["DEBUG", "OBJECT", "large"], "encoding:"),
        (&["CONFIG", "GET", "maxmemory-policy"], "allkeys-own"),
        (&["COMMAND", "COUNT"], ""),
        (&["CLIENT", "LIST"], "cmd=client"),
    ] {
        let said = cli(&[&["-e"], words].concat())?;
        holds(said.contains(wanted), || format!("{words:?}: {said}"))?;
    }
    Ok(())
}

/// A client that waits; it is ended with this value.
struct Waiting(Child);

impl Waiting {
    fn start(words: &[&str]) -> Asked<Waiting> {
        let mut command = Command::new("redis-cli");
        command.args(["-h", MACHINE]).args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().map(Waiting).map_err(|error| format!("redis-cli: {error}"))
    }

    /// The next lines that it prints.
    fn lines(&mut self, count: usize) -> Asked<Vec<String>> {
        let output = self.0.stdout.as_mut().ok_or("no output")?;
        let lines = BufReader::with_capacity(1, output).lines().take(count);
        lines.collect::<Result<_, _>>().map_err(|error| format!("redis-cli: {error}"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one client says, another hears.
fn messages() -> Verdict {
    let mut waiting = Waiting::start(&["SUBSCRIBE", "news"])?;
    let begun = waiting.lines(3)?;
    holds(begun == ["subscribe", "news", "1"], || format!("SUBSCRIBE: {begun:?}"))?;
    let heard = cli(&["PUBLISH", "news", "hello"])?;
    let told = waiting.lines(3)?;
    holds(heard == "1" && told == ["message", "news", "hello"], || format!("{heard} heard {told:?}"))
}

/// A client that waits for a list gets what another puts there.
fn blocked() -> Verdict {
    let mut waiting = Waiting::start(&["BLPOP", "queue", "30"])?;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !cli(&["INFO", "clients"])?.contains("blocked_clients:1") {
        holds(std::time::Instant::now() < end, || "nobody is blocked".into())?;
    }
    cli(&["RPUSH", "queue", "work"])?;
    let got = waiting.lines(2)?;
    holds(got == ["queue", "work"], || format!("BLPOP: {got:?}"))?;
    let late = cli(&["BLPOP", "queue", "0.1"])?;
    holds(late.is_empty(), || format!("a list that stays empty: {late}"))
}

/// There is no interpreter, and that is what a client hears.
fn waits_for_script() -> Verdict {
    let said = cli(&["-e", "EVAL", "return 1", "0"]);
    holds(said.as_ref().is_err_and(|why| why.contains("unknown command")), || format!("EVAL: {said:?}"))
}

/// Requests by redis-benchmark of all its kinds, one by one and sixteen at once: all are answered well.
fn benchmarks(context: &Context) -> Verdict {
    let tests = "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset";
    served(context, &["--timeout", "90"], &[], || {
        for pipeline in ["1", "16"] {
            let words =
                ["-h", MACHINE, "-c", "10", "-n", "500", "-r", "100", "-P", pipeline, "--csv", "-t", tests];
            let said = String::from_utf8_lossy(&output("redis-benchmark", &words)?).into_owned();
            let rates = said.lines().filter(|line| line.starts_with('"')).skip(1).count();
            let kinds = tests.split(',').count();
            // LRANGE fills its list first, which is a row of its own.
            holds(rates > kinds && !said.contains("ERR"), || format!("{rates} rows of {kinds}: {said}"))?;
        }
        let errors = cli(&["INFO", "stats"])?;
        let none = errors.lines().any(|line| line.trim_end() == "total_error_replies:0");
        holds(none, || format!("errors: {errors}"))
    })
}

/// The client library of Python, by its own operations.
fn python_client(context: &Context) -> Verdict {
    served(context, &[], &[], || {
        let said = says("python3", &["-c", include_str!("store.py"), MACHINE])?;
        holds(said.trim_end() == "all as it should be", || said)
    })
}

/// A store in one environment, a client in another, without a card.
fn between_environments(context: &Context) -> Verdict {
    let client = "client=network:role=store address=10.0.0.2/24 from=10.0.0.1 count=200 bytes=100";
    let said =
        context.run(&["--net", "loopback", "--app", "server=kv:address=10.0.0.1/24", "--app", client])?;
    said.succeeded()?.shows("\"role\":\"store\",\"count\":200,\"wrong\":0")?.shows("kv: ended").map(drop)
}

/// The store's own policy misses less than the default, and less than the best of the library where records
/// differ in size.
fn compare(context: &Context, more: &[&str]) -> Verdict {
    let json = text(&context.scratch.path().join("kv.json"));
    let all = ["compare", "kv", "--no-build", "--quick", "--workloads", "sizes", "--json", &json];
    let policies = ["--policies", "default,own,w-tinylfu"];
    context.exo(&[&all[..], &policies, more].concat())?.succeeded()?.shows("checked and found right")?;
    let lines: Vec<KvLine> = json_lines(&json)?;
    let under = |policy: &str| {
        let found = lines.iter().find(|line| line.policy == policy);
        found.ok_or_else(|| format!("no line under {policy}"))
    };
    let (default, own, best) = (under("default")?, under("own")?, under("w-tinylfu")?);
    holds(own.misses < best.misses && own.misses * 10 < default.misses * 9, || {
        format!("misses: {} own, {} w-tinylfu, {} default", own.misses, best.misses, default.misses)
    })?;
    let within = |line: &&KvLine| line.peak_bytes <= line.memory + (20 << 10) && line.evicted > 0;
    holds(lines.iter().all(|line| within(&line)), || "more memory than there is".into())
}

/// Wrong arguments are one clear line.
fn arguments(context: &Context) -> Verdict {
    for (words, said) in [
        (&["--workloads", "nothing"][..], "traffic \"nothing\""),
        (&["--policies", "nothing"], "policy \"nothing\""),
        (&["--cache", "0%"], "memory \"0%\""),
        (&["--peer", "linux"], "--peer is not for exo compare kv"),
    ] {
        context.exo(&[&["compare", "kv", "--no-build"], words].concat())?.fails_with(&[said])?;
    }
    Ok(())
}
