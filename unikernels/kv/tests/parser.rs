//! Commands out of bytes: any split gives the same commands, and nothing that is sent stops the parser.

use kv::resp::{Limits, Parser, ProtocolError, write_command};
use proptest::prelude::*;

type Words = Vec<Vec<u8>>;

/// All commands of an input that comes in pieces, as a server reads them, and the error that ended it.
fn commands(pieces: &[&[u8]], limits: Limits) -> (Vec<Words>, Option<ProtocolError>) {
    let (mut parser, mut buffer, mut found) = (Parser::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&buffer, limits) {
                Ok(None) => break,
                Ok(Some(bytes)) => {
                    let words: Words = parser.arguments(&buffer).from(0).map(<[u8]>::to_vec).collect();
                    assert!(!words.is_empty() && bytes > 0);
                    found.push(words);
                    buffer.drain(..bytes);
                }
                Err(error) => return (found, Some(error)),
            }
        }
        let useless = parser.skip();
        buffer.drain(..useless);
    }
    (found, None)
}

fn split<'a>(input: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = at.iter().map(|place| place.index(input.len() + 1)).collect();
    places.extend([0, input.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 1000..5000),
    ]
}

/// What almost makes sense: pieces of the protocol in any order.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let fixed = |bytes: &'static [u8]| Just(bytes.to_vec());
    let piece = prop_oneof![
        fixed(b"*"),
        fixed(b"$"),
        fixed(b"\r\n"),
        fixed(b"\n"),
        fixed(b"\r"),
        fixed(b"\""),
        fixed(b"'"),
        fixed(b"\\x4"),
        fixed(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
        fixed(b"*1\r\n"),
        fixed(b"$4\r\nPING\r\n"),
        fixed(b"*-1\r\n"),
        fixed(b"*0\r\n"),
        fixed(b"PING\r\n"),
        fixed(b"*1048577\r\n"),
        fixed(b"$536870913\r\n"),
        fixed(b"$-1\r\n"),
        fixed(b"\0"),
        prop::collection::vec(any::<u8>(), 0..4),
        (0..12i64).prop_map(|number| format!("{number}").into_bytes()),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_commands_that_were_sent(
        sent in prop::collection::vec(prop::collection::vec(word(), 1..6), 0..6),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut input = Vec::new();
        sent.iter().for_each(|words| write_command(&mut input, words.iter().map(Vec::as_slice)));
        prop_assert_eq!(commands(&split(&input, &at), Limits::FULL), (sent.clone(), None));
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(commands(&bytes, Limits::FULL), (sent, None));
    }

    #[test]
    fn any_split_of_anything_gives_the_same(
        input in nearly(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        for limits in [Limits::FULL, Limits::UNAUTHENTICATED] {
            let whole = commands(&[&input], limits);
            prop_assert_eq!(&commands(&split(&input, &at), limits), &whole);
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            prop_assert_eq!(&commands(&bytes, limits), &whole);
        }
    }

    #[test]
    fn words_of_a_line_come_out_of_quotes(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..5)) {
        let quoted = words.iter().map(|word| {
            let bytes: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{bytes}\"")
        });
        let line = quoted.collect::<Vec<_>>().join(" ") + "\r\n";
        prop_assert_eq!(commands(&[line.as_bytes()], Limits::FULL), (vec![words], None));
    }
}

#[test]
fn limits_are_those_of_redis() {
    let error = |input: &[u8], limits| commands(&[input], limits).1;
    let full = Limits::FULL;
    assert_eq!(error(b"*1048577\r\n", full), Some(ProtocolError::InvalidCount));
    assert_eq!(error(b"*1048576\r\n", full), None);
    assert_eq!(error(b"*1\r\n$536870913\r\n", full), Some(ProtocolError::InvalidBulkLength));
    assert_eq!(error(b"*1\r\n$536870912\r\n", full), None);
    assert_eq!(error(b"*1\r\n$-1\r\n", full), Some(ProtocolError::InvalidBulkLength));
    assert_eq!(error(b"*1\r\n:1\r\n", full), Some(ProtocolError::ExpectedBulk(b':')));
    assert_eq!(error(b"get \"a\r\n", full), Some(ProtocolError::UnbalancedQuotes));
    assert_eq!(error(&[b'a'; 65537], full), Some(ProtocolError::TooBigInline));
    assert_eq!(error(&[b'a'; 65536], full), None);
    assert_eq!(error(&[b"*", &[b'1'; 65537][..]].concat(), full), Some(ProtocolError::TooBigCount));
    assert_eq!(error(&[b"*1\r\n$", &[b'1'; 65537][..]].concat(), full), Some(ProtocolError::TooBigBulkCount));
    assert_eq!(error(b"*11\r\n", Limits::UNAUTHENTICATED), Some(ProtocolError::UnauthenticatedCount));
    let long = error(b"*1\r\n$16385\r\n", Limits::UNAUTHENTICATED);
    assert_eq!(long, Some(ProtocolError::UnauthenticatedBulk));
}

#[test]
fn a_command_of_many_arguments_is_read_once() {
    // A parser that begins again with each piece would need 10^10 steps for this.
    let words: Words = (0..100_000).map(|number| format!("{number}").into_bytes()).collect();
    let mut input = Vec::new();
    write_command(&mut input, words.iter().map(Vec::as_slice));
    let (mut parser, mut end) = (Parser::new(), 0);
    while end < input.len() {
        end = input.len().min(end + 7);
        if let Some(bytes) = parser.next(&input[..end], Limits::FULL).expect("a command") {
            assert_eq!((bytes, parser.arguments(&input).len()), (input.len(), words.len()));
            return;
        }
    }
    panic!("the command has not come");
}
