//! Random commands, from templates.
//!
//! | in a template | what |
//! |---|---|
//! | `s` `l` `h` `t` `z` `y` `p` `x` | a key of strings, lists, hashes, sets, sorted sets, those of equal scores, HyperLogLogs, streams; at times another |
//! | `V` | a value: a number, or a few bytes, or many |
//! | `M` | a member or a field |
//! | `I` | a whole number, mostly small |
//! | `F` | a number |
//! | `U` | a number from 0 to 3 |
//! | `X` `Y` | an end of a range of scores, of strings |
//! | `E` `g` `c` | an id of an entry of a stream, a group, a consumer |
//! | `word*` | one to three of these |
//! | `a\|b` | one of these; an empty one is left out |
//! | `'text'` | the text |

use kv::random::Random;
use kv::value::Value;

/// Templates, by family.
pub const FAMILIES: [(&str, &[&str]); 9] = [
    ("strings", STRINGS),
    ("bits", BITS),
    ("keys", KEYS),
    ("hashes", HASHES),
    ("lists", LISTS),
    ("sets", SETS),
    ("sorted sets", SORTED_SETS),
    ("hyperloglogs", HYPERLOGLOGS),
    ("streams", STREAMS),
];

const STRINGS: &[&str] = &[
    "get s",
    "get s",
    "set s V",
    "set s V |'nx'|'xx' |'get' |'ex'|'px'|'exat'|'keepttl' |I",
    "setnx s V",
    "set s V 'ex' '1000' |'nx'|'xx' |'get'",
    "setex s I V",
    "psetex s '100000' V",
    "getset s V",
    "getdel s",
    "getex s |'persist'|'ex'|'px'|'exat' |'5000'|I",
    "append s V",
    "strlen s",
    "setrange s U V",
    "setrange s I V",
    "getrange s I I",
    "substr s I I",
    "mget s*",
    "mset s V s V",
    "mset s V s",
    "msetnx s V s V",
    "incr s",
    "decr s",
    "incrby s I",
    "decrby s I",
    "incrbyfloat s F",
    "incrby s V",
    "get l",
    "lpush l V",
    "set s I",
    "set s F",
    "ttl s",
    "persist s",
    "nosuch s V",
    "get",
    "exists s*",
    "decrby s '-9223372036854775808'",
    "incrby s '9223372036854775807'",
];

const BITS: &[&str] = &[
    "setbit s I U",
    "setbit s I '1'",
    "setbit s I '1'",
    "getbit s I",
    "bitcount s",
    "bitcount s I I |'bit'|'byte'",
    "bitcount s I",
    "bitpos s U",
    "bitpos s '0'|'1' I",
    "bitpos s '0'|'1' I I |'bit'|'byte'",
    "set s V",
    "get s",
    "bitop 'and'|'or'|'xor'|'not' s s",
    "bitop 'and'|'or'|'xor'|'not' s s*",
    "bitop 'nand' s s",
    "strlen s",
    "bitfield s 'get' 'u8'|'i5'|'u63'|'i64'|'u64' I",
    "bitfield s 'set' 'u8'|'i5'|'i64'|'u63' '#1'|'3'|'17' I",
    "bitfield s 'overflow' 'wrap'|'sat'|'fail'|'none' 'incrby' 'u8'|'i5'|'i64'|'u2' U I 'get' 'i8' U",
    "bitfield s 'incrby' 'i64'|'u63' U '9223372036854775807'",
    "bitfield_ro s 'get' 'u4' U",
    "bitfield s",
    "bitfield_ro s 'set' 'u4' U I",
    "lpush l V",
];

const KEYS: &[&str] = &[
    "set s V",
    "lpush l V",
    "hset h M V",
    "sadd t M",
    "zadd z F M",
    "pfadd p M",
    "del s*",
    "unlink l",
    "exists s l h",
    "touch s l",
    "type s",
    "type l",
    "type h",
    "type t",
    "type z",
    "type p",
    "rename s s",
    "rename l l",
    "renamenx s s",
    "renamenx z z",
    "copy s s |'replace' |'db' |'1'",
    "copy h h 'replace'",
    "move s '1'|'0'|'99'|'x'",
    "keys '*'",
    "keys '[ab]*'|'s?'|'*1'|'h*[^2]'",
    "dbsize",
    "randomkey",
    "expire s '-1'|'0'|'100000'|'x' |'nx'|'xx' |'gt'|'nx'|'lt'",
    "expireat s '99999999999'|'99999999998'|'99999999997' |'nx'|'xx'|'gt'|'lt'",
    "pexpireat l '99999999999999'|'99999999999998'|'99999999999997' |'gt'|'lt'",
    "expireat h '99999999999'",
    "expire s 'x'|'9223372036854775807'|'-9223372036854775807'",
    "pexpireat z '99999999999999'",
    "ttl s",
    "pttl l",
    "expiretime h",
    "pexpiretime z",
    "persist s",
    "persist h",
    "object 'encoding' s|l|h|t",
    "object 'refcount' s",
    "object 'nonsense' s",
    "object 'encoding'",
    "flushdb 'x'",
    "swapdb '0'|'x' 'y'|'17'",
    "select '16'|'x'",
    "scan '0' 'count' '1000' 'match' 'nosuch*'",
    "scan 'x'",
    "scan '0' 'count' '0'",
    "scan '0' 'count'",
    "sort l |'alpha' |'desc' |'limit' |'0' |'2'",
    "sort t 'alpha' |'desc'",
    "sort z 'by' 'nosort' |'desc'",
    "sort l 'alpha' 'by' 's*' 'get' 's*' 'get' '#'",
    "sort l 'alpha' 'store' l",
    "sort t 'alpha' 'get' 'h*->a'",
    "sort_ro t 'alpha'",
    "sort s",
    "append s V",
    "echo V",
    "set s V 'keepttl'",
    "rpush l I",
];

const HASHES: &[&str] = &[
    "hset h M V",
    "hset h M V M V",
    "hset h M V M",
    "hmset h M V",
    "hsetnx h M V",
    "hget h M",
    "hget h M",
    "hmget h M*",
    "hdel h M*",
    "hlen h",
    "hexists h M",
    "hstrlen h M",
    "hkeys h",
    "hvals h",
    "hgetall h",
    "hincrby h M I",
    "hincrby h M V",
    "hincrbyfloat h M F",
    "hincrbyfloat h M V",
    "hset h M I",
    "hrandfield h",
    "hrandfield h I |'withvalues'",
    "hrandfield h '100' 'withvalues'",
    "hrandfield h '-5'",
    "object 'encoding' h",
    "hscan h '0' 'count' '1000' 'match' 'nosuch'",
    "hscan h 'x'",
    "get h",
    "hget s M",
    "set s V",
    "del h",
    "type h",
    "hincrby h M '9223372036854775807'",
];

const LISTS: &[&str] = &[
    "lpush l V*",
    "rpush l V*",
    "lpush l M*",
    "rpush l M",
    "lpushx l V",
    "rpushx l V",
    "lpop l",
    "rpop l",
    "lpop l I",
    "rpop l U",
    "llen l",
    "lindex l I",
    "lset l I V",
    "linsert l 'before'|'after'|'x' M V",
    "lrange l I I",
    "lrange l '0' '-1'",
    "ltrim l U I",
    "ltrim l '0' '20'",
    "lrem l I M",
    "lpos l M",
    "lpos l M |'rank'|'count'|'maxlen' |I |'count' |U",
    "lmove l l 'left'|'right' 'left'|'right'|'x'",
    "rpoplpush l l",
    "blmove l l 'left' 'right' '0.001'",
    "brpoplpush l l '0.001'",
    "lmpop U l l 'left'|'right' |'count' |I",
    "lmpop '1' l 'left' |'count' |'2'",
    "blmpop '0.001' '1' l 'right'|'left' |'count' |I",
    "blpop l l '0.001'",
    "brpop l '0.001'|'-1'|'x'",
    "set s V",
    "lpush s V",
    "type l",
    "exists l",
    "del l",
];

const SETS: &[&str] = &[
    "sadd t M*",
    "sadd t I*",
    "sadd t I",
    "srem t M*",
    "srem t I",
    "sismember t M",
    "sismember t I",
    "smismember t M I M",
    "scard t",
    "smembers t",
    "smove t t M",
    "smove t t I",
    "spop t '0'",
    "spop t '-1'|'x'",
    "srandmember t",
    "srandmember t I",
    "srandmember t '3'",
    "sinter t*",
    "sunion t*",
    "sdiff t*",
    "sinterstore t t*",
    "sunionstore t t*",
    "sdiffstore t t*",
    "sintercard U t t |'limit' |U",
    "sintercard '1' t 'limit' '-1'|'1'",
    "object 'encoding' t",
    "sscan t '0' 'count' '1000' 'match' 'nosuch'",
    "set s V",
    "sadd s M",
    "sinter t s",
    "spop t '1000'",
    "del t",
];

const SORTED_SETS: &[&str] = &[
    "zadd z F M",
    "zadd z F M F M",
    "zadd z |'nx'|'xx' |'gt'|'lt' |'ch' |'incr' F M",
    "zadd z F M F",
    "zadd z V M",
    "zadd z U M U M U M",
    "zadd y '0' M '0' M '0' M",
    "zadd y |'nx' '0' M",
    "zincrby z F M",
    "zincrby z 'inf'|'-inf'|'nan' M",
    "zrem z M*",
    "zcard z",
    "zscore z M",
    "zmscore z M*",
    "zrank z M",
    "zrevrank z M",
    "zcount z X X",
    "zlexcount y Y Y",
    "zrange z I I |'withscores' |'rev'",
    "zrange z X X 'byscore' |'rev' |'withscores'",
    "zrange z X X 'byscore' |'rev' 'limit' I I |'withscores'",
    "zrange y Y Y 'bylex' |'rev' |'withscores'",
    "zrange y Y Y 'bylex' |'rev' 'limit' U U",
    "zrange z I I 'limit' U U",
    "zrevrange z I I |'withscores'",
    "zrangebyscore z X X |'withscores'",
    "zrangebyscore z X X 'limit' I I",
    "zrevrangebyscore z X X |'withscores'",
    "zrangebylex y Y Y",
    "zrevrangebylex y Y Y 'limit' U I",
    "zrangestore z z I I |'rev'",
    "zrangestore z z X X 'byscore' |'limit' |U |U",
    "zremrangebyrank z I I",
    "zremrangebyscore z X X",
    "zremrangebylex y Y Y",
    "zpopmin z",
    "zpopmax z",
    "zpopmin z I",
    "zpopmax z U",
    "bzpopmin z z '0.001'",
    "bzpopmax z '0.001'",
    "zmpop U z z 'min'|'max' |'count' |I",
    "bzmpop '0.001' '1' z 'min' |'count' |U",
    "zunion '2' z z|t |'withscores'",
    "zinter '2' z z|t |'withscores'",
    "zdiff '2' z z|t |'withscores'",
    "zunion '2' z z 'weights' U F |'aggregate' |'min'|'max'|'sum' |'withscores'",
    "zunion U z z 'withscores'",
    "zinterstore z '2' z z 'aggregate' 'sum'|'min'|'max'",
    "zunionstore z '2' z t 'weights' F V",
    "zdiffstore z '2' z z",
    "zunionstore z '3' z z z",
    "zintercard '2' z z |'limit' |U",
    "zrandmember z",
    "zrandmember z I |'withscores'",
    "zrandmember z '50' 'withscores'",
    "sadd t M",
    "set s V",
    "zadd s F M",
    "zscan z '0' 'count' '1000' 'match' 'nosuch'",
    "del z",
    "sort z 'by' 'nosort' 'desc'",
];

const HYPERLOGLOGS: &[&str] = &[
    "pfadd p M*",
    "pfadd p V*",
    "pfadd p I*",
    "pfadd p I*",
    "pfadd p",
    "pfcount p",
    "pfcount p",
    "pfcount p p",
    "pfcount p p p",
    "pfmerge p p",
    "pfmerge p p p",
    "set s V",
    "pfadd s M",
    "pfcount s",
    "lpush l V",
    "pfmerge l p",
    "del p",
    "type p",
];

const STREAMS: &[&str] = &[
    "xadd x E M V",
    "xadd x '1'|'2'|'9' M V",
    "xadd x '3-*'|'x-*'|'12-*' M V M V",
    "xadd x E M",
    "xadd x '0-0' M V",
    "xadd x |'nomkstream' |'maxlen'|'minid' |'=' U E M V",
    "xadd x '20-*' M V",
    "xadd x 'maxlen' '3' 'limit' U '30-*' M V",
    "xlen x",
    "xrange x '-' '+'",
    "xrange x E E",
    "xrange x E E 'count' I",
    "xrevrange x E E |'count' |U",
    "xrevrange x '+' '-'",
    "xdel x E E",
    "xdel x E",
    "xtrim x 'maxlen'|'minid' |'=' U |'limit' |U",
    "xtrim x 'maxlen' I",
    "xread 'count' U 'streams' x x E E",
    "xread 'streams' x E",
    "xread 'streams' x '$'",
    "xread 'streams' x x E",
    "xread 'block' '1' 'streams' x '$'|'>'",
    "xsetid x E |'entriesadded' |U |'maxdeletedid' |E",
    "del x",
    "type x",
    "xgroup 'create' x g E|'$' |'mkstream' |'entriesread' |U",
    "xgroup 'create' x g '0' 'mkstream'",
    "xgroup 'create' x g '0' 'mkstream'",
    "xgroup 'setid' x g E|'$'",
    "xgroup 'destroy' x g",
    "xgroup 'nosuch' x",
    "xgroup 'createconsumer' x g c",
    "xgroup 'delconsumer' x g c",
    "xgroup 'create' x g",
    "xreadgroup 'group' g c |'count' |U |'noack' 'streams' x '>'",
    "xreadgroup 'group' g c 'streams' x E|'0'|'$'",
    "xreadgroup 'group' g c 'count' '2' 'streams' x x '>' '>'",
    "xreadgroup 'group' g c 'block' '1' 'streams' x '>'",
    "xreadgroup 'group' g c 'streams' x '>'",
    "xreadgroup 'group' g c 'streams' x '0'",
    "xack x g E E",
    "xpending x g",
    "xclaim x g c '0' E E |'justid'|'force' |'retrycount' |U",
    "xclaim x g c '0' E 'force' 'justid'",
    "xclaim x g c 'x' E",
    "xautoclaim x g c '0' E |'count' |U |'justid'",
    "xinfo 'groups' x",
    "xinfo 'nosuch' x",
    "xinfo 'groups'",
    "set s V",
    "xadd s E M V",
    "xlen s",
    "xautoclaim x g c '0' '0'",
];

/// A command of one of the templates.
pub fn command(templates: &[&str], random: &mut Random) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for (index, part) in templates[random.below(templates.len())].split(' ').enumerate() {
        if index == 0 {
            words.push(part.as_bytes().to_vec());
            continue;
        }
        let (part, count) = match part.strip_suffix('*').filter(|part| !part.ends_with('\'')) {
            Some(part) => (part, 1 + random.below(3)),
            None => (part, 1),
        };
        for _ in 0..count {
            let choices: Vec<&str> = part.split('|').collect();
            let choice = choices[random.below(choices.len())];
            if !choice.is_empty() {
                words.push(word(choice, random));
            }
        }
    }
    words
}

fn key(kind: u8, random: &mut Random) -> Vec<u8> {
    let kind = if random.below(25) == 0 { b"slhtzpx"[random.below(7)] } else { kind };
    vec![kind, b'0' + random.below(4) as u8]
}

fn word(part: &str, random: &mut Random) -> Vec<u8> {
    let text = match part {
        "s" | "l" | "h" | "t" | "z" | "y" | "p" | "x" => return key(part.as_bytes()[0], random),
        "g" => format!("group{}", random.below(2)),
        "c" => format!("consumer{}", random.below(3)),
        "V" => return value(random),
        "M" => return member(random),
        "I" => match random.below(12) {
            0 => String::from("x"),
            1 => format!("{}", random.below(200)),
            _ => format!("{}", random.below(16) as i64 - 6),
        },
        "U" => format!("{}", random.below(4)),
        "F" => match random.below(12) {
            0 => String::from("x"),
            1 => String::from("1e3"),
            2 => String::from("-0.25"),
            3 => format!("{}.{}", random.below(20), random.below(10)),
            _ => format!("{}", random.below(12) as i64 - 4),
        },
        "X" => match random.below(8) {
            0 => String::from("-inf"),
            1 => String::from("+inf"),
            2 => format!("({}", random.below(8)),
            3 => String::from("x"),
            _ => format!("{}", random.below(12) as i64 - 4),
        },
        "Y" => match random.below(6) {
            0 => String::from("-"),
            1 => String::from("+"),
            2 => String::from("x"),
            choice => {
                let mut text = if choice == 3 { vec![b'('] } else { vec![b'['] };
                text.extend(member(random));
                return text;
            }
        },
        "E" => match random.below(8) {
            0 => String::from("-"),
            1 => String::from("+"),
            2 => format!("({}-{}", random.below(9), random.below(4)),
            3 => format!("{}", random.below(9)),
            4 => String::from("x-1"),
            _ => format!("{}-{}", random.below(9), random.below(4)),
        },
        quoted => return quoted.trim_matches('\'').as_bytes().to_vec(),
    };
    text.into_bytes()
}

fn member(random: &mut Random) -> Vec<u8> {
    match random.below(30) {
        0 => vec![b'm'; 70],
        1..5 => format!("member{}", random.below(400)).into_bytes(),
        _ => vec![b'a' + random.below(8) as u8],
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => Vec::new(),
        1 => vec![b'v'; 20 + random.below(60)],
        2 => vec![0xff, 0, b'\r', b'\n', random.below(256) as u8],
        3..6 => format!("{}", random.below(1000) as i64 - 300).into_bytes(),
        _ => format!("value{}", random.below(20)).into_bytes(),
    }
}

/// What a value has, written so that equal ones are equal.
pub fn content(value: &Value) -> String {
    match value {
        // The estimate of a HyperLogLog is a note, and nothing of what it holds.
        Value::String(text) if text.starts_with(b"HYLL") => format!("{}", text[16..].escape_ascii()),
        Value::String(text) => format!("{text:?}"),
        Value::List(list) => format!("{:?}", list.iter().collect::<Vec<_>>()),
        Value::Set(set) => {
            let mut members = set.members();
            members.sort();
            format!("{members:?}")
        }
        Value::Hash(hash) => {
            let mut pairs = Vec::new();
            hash.collect_into(&mut pairs);
            pairs.sort();
            format!("{pairs:?}")
        }
        Value::SortedSet(sorted) => {
            let mut pairs = Vec::new();
            sorted.visit(0..sorted.len(), false, |member, score| pairs.push((member.clone(), score)));
            format!("{pairs:?}")
        }
        Value::Stream(stream) => {
            let entries: Vec<_> = stream.range(kv::value::Id::LEAST, kv::value::Id::GREATEST).collect();
            let groups = stream.groups.iter().map(|(name, group)| {
                let consumers: Vec<_> =
                    group.consumers.iter().map(|(name, one)| (name, &one.pending)).collect();
                format!("{name:?} {:?} {:?} {consumers:?}; ", group.last, group.pending)
            });
            format!("{:?} {entries:?} {}", stream.last, groups.collect::<String>())
        }
    }
}
