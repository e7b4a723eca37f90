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
//! | `O` `L` `R` | a longitude, a latitude, a distance |
//! | `E` `g` `c` | an id of an entry of a stream, a group, a consumer |
//! | `word*` | one to three of these |
//! | `a\|b` | one of these; an empty one is left out |
//! | `'text'` | the text |

use kv::random::Random;
use kv::value::Value;

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
        "O" => match random.below(4) {
            0 => format!("{}.{}", 178 + random.below(2), random.below(1000)),
            1 => format!("-{}.{}", 178 + random.below(2), random.below(1000)),
            _ => format!("{}.{:03}", 12 + random.below(4), random.below(1000)),
        },
        "L" => format!("{}.{:03}", 36 + random.below(4), random.below(1000)),
        "R" => match random.below(3) {
            0 => format!("{}", random.below(30)),
            1 => format!("{}.5", random.below(400)),
            _ => format!("{}", 300 + random.below(3000)),
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
