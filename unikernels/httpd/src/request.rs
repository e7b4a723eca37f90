//! The head of a request: read, parsed, and judged.
//!
//! What two servers could understand differently is refused, so that nobody smuggles a request past one of
//! them (RFC 9112, section 11.2): two lengths, bare line feeds, folded lines, a name with a space behind it.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use httparse::Status;

/// Bytes of a head at most.
pub const MOST_BYTES: usize = 8 * 1024;
/// Header fields at most.
pub const MOST_FIELDS: usize = 64;

/// How a request is refused before it is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense, or two.
    Malformed(&'static str),
    /// It asks for something that is not there for anybody.
    NotImplemented,
    /// Its head is too long.
    TooLarge,
    /// It is not HTTP/1.0 or 1.1.
    Version,
    /// It expects something else than to be told to go on.
    Expectation,
}

impl Refusal {
    /// Status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Malformed(_) => 400,
            Refusal::NotImplemented => 501,
            Refusal::TooLarge => 431,
            Refusal::Version => 505,
            Refusal::Expectation => 417,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Malformed(why) => why,
            Refusal::NotImplemented => "this transfer coding is not known here",
            Refusal::TooLarge => "the head of the request is too long",
            Refusal::Version => "this server speaks HTTP/1.1 and 1.0",
            Refusal::Expectation => "this server meets no expectation but 100-continue",
        })
    }
}

/// What a request asks to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// The file.
    Get,
    /// Only what would be said of it.
    Head,
    /// Something that this server does not do.
    Other(String),
}

/// What comes after a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes.
    Bytes(u64),
    /// Chunks, each with its length.
    Chunked,
}

/// A head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The first line, for the log.
    pub line: String,
    /// The path of the target, decoded; begins with `/`.
    pub path: String,
    /// Whether it is of HTTP/1.0.
    pub is_old: bool,
    /// Whether the client wants the connection to go on.
    pub keep_alive: bool,
    /// What comes after it.
    pub body: BodyLength,
    /// Whether the client waits for a word before it sends that.
    pub expects_continue: bool,
    /// Header fields by name in small letters, in their order.
    fields: Vec<(String, String)>,
}

impl Request {
    /// The value of a field; of several, one after the other with commas between them (RFC 9110, section
    /// 5.3).
    pub fn field(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value).collect();
        if values.is_empty() { None } else { Some(values.join(", ")) }
    }

    /// Parses what has come. `None` if the head is not complete yet; else also how many bytes it took.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
        // Empty lines before a request are to be ignored (RFC 9112, section 2.2).
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let text = &bytes[blank..];
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            judge_lines(text)?;
            return if bytes.len() >= MOST_BYTES { Err(Refusal::TooLarge) } else { Ok(None) };
        };
        let head = &text[..end + 4];
        judge_lines(head)?;
        if head.len() > MOST_BYTES {
            return Err(Refusal::TooLarge);
        }
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(head) {
            Ok(Status::Complete(_)) => {}
            Ok(Status::Partial) => return Err(Refusal::Malformed("the head ends too early")),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
            Err(httparse::Error::Version) => return Err(Refusal::Version),
            Err(_) => return Err(Refusal::Malformed("the head makes no sense")),
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let request = understood(&parsed, String::from_utf8_lossy(line).into_owned())?;
        Ok(Some((request, blank + head.len())))
    }
}

/// Refuses lines that end by a line feed alone, and folded ones.
fn judge_lines(text: &[u8]) -> Result<(), Refusal> {
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\n' if at == 0 || text[at - 1] != b'\r' => {
                return Err(Refusal::Malformed("a line ends without carriage return"));
            }
            b' ' | b'\t' if at > 0 && text[at - 1] == b'\n' => {
                return Err(Refusal::Malformed("a header field goes on in the next line"));
            }
            b'\r' if text.get(at + 1).is_some_and(|next| *next != b'\n') => {
                return Err(Refusal::Malformed("a carriage return stands alone"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn understood(parsed: &httparse::Request<'_, '_>, line: String) -> Result<Request, Refusal> {
    let method = match parsed.method.unwrap_or_default() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        other => Method::Other(other.to_owned()),
    };
    let is_old = parsed.version == Some(0);
    let mut fields = Vec::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let value = core::str::from_utf8(field.value)
            .map_err(|_| Refusal::Malformed("a header field is not text"))?;
        fields.push((field.name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let mut request = Request {
        method,
        line,
        path: path(parsed.path.unwrap_or_default())?,
        is_old,
        keep_alive: !is_old,
        body: BodyLength::Bytes(0),
        expects_continue: false,
        fields,
    };
    let hosts = request.fields.iter().filter(|(name, _)| name == "host").count();
    if hosts > 1 || hosts == 0 && !is_old {
        return Err(Refusal::Malformed("exactly one Host is wanted"));
    }
    let connection = request.field("connection").unwrap_or_default().to_ascii_lowercase();
    let says = |word: &str| connection.split(',').any(|option| option.trim() == word);
    request.keep_alive = if is_old { says("keep-alive") } else { !says("close") };
    request.body = body_length(&request)?;
    request.expects_continue = !is_old && expects_continue(&request)?;
    Ok(request)
}

/// Whether the client waits for a word before it sends the body (RFC 9110, section 10.1.1).
fn expects_continue(request: &Request) -> Result<bool, Refusal> {
    let Some(expected) = request.field("expect") else { return Ok(false) };
    let known = expected.split(',').all(|one| one.trim().eq_ignore_ascii_case("100-continue"));
    if known { Ok(true) } else { Err(Refusal::Expectation) }
}

/// How long the body is (RFC 9112, section 6.3).
fn body_length(request: &Request) -> Result<BodyLength, Refusal> {
    let lengths: Vec<&str> = request
        .fields
        .iter()
        .filter(|(name, _)| name == "content-length")
        .map(|(_, value)| &**value)
        .collect();
    let coding = request.field("transfer-encoding");
    match (lengths.as_slice(), coding) {
        ([], None) => Ok(BodyLength::Bytes(0)),
        ([length], None) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            length.map(BodyLength::Bytes).ok_or(Refusal::Malformed("Content-Length is no number"))
        }
        ([_, _, ..], None) => Err(Refusal::Malformed("two lengths")),
        ([], Some(_)) if request.is_old => Err(Refusal::Malformed("chunks in HTTP/1.0")),
        ([], Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(BodyLength::Chunked),
        ([], Some(_)) => Err(Refusal::NotImplemented),
        (_, Some(_)) => Err(Refusal::Malformed("a length and chunks")),
    }
}

/// The path of a target (RFC 9112, section 3.2), with `%` decoded. It can't lead out of the root.
fn path(target: &str) -> Result<String, Refusal> {
    let malformed = Err(Refusal::Malformed("the target is no path"));
    let target = match target.strip_prefix("http://") {
        Some(absolute) => absolute.find('/').map_or("/", |at| &absolute[at..]),
        None => target,
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return malformed;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (Some(high), Some(low)) = (digit(), digit()) else { return malformed };
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    let Ok(decoded) = String::from_utf8(decoded) else { return malformed };
    let climbs = decoded.split('/').any(|part| part == "..");
    if climbs || decoded.contains('\0') { malformed } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn parse(text: &str) -> Result<Option<(Request, usize)>, Refusal> {
        Request::parse(text.as_bytes())
    }

    fn good(text: &str) -> Request {
        parse(text).unwrap().unwrap().0
    }

    #[test]
    fn heads_are_understood() {
        let text = "GET /a%20b/c?q#f HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\n\r\nrest";
        let (request, bytes) = parse(text).unwrap().unwrap();
        assert_eq!((&*request.path, bytes), ("/a b/c", text.len() - 4));
        assert_eq!(request.field("x-a").as_deref(), Some("1, 2"));
        assert_eq!((request.keep_alive, request.body), (true, BodyLength::Bytes(0)));
        assert_eq!(request.line, "GET /a%20b/c?q#f HTTP/1.1");
        let old = good("\r\nHEAD / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n");
        assert_eq!((old.is_old, old.keep_alive, old.method), (true, true, Method::Head));
        assert!(!good("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").keep_alive);
        assert_eq!(good("GET http://h:1/x HTTP/1.1\r\nHost: h\r\n\r\n").path, "/x");
        let body =
            good("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n");
        assert_eq!((body.body, body.expects_continue), (BodyLength::Chunked, true));
        for part in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r"] {
            assert_eq!(parse(part), Ok(None), "{part:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /../etc HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /%2e%2e/etc HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /%0 HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        ] {
            assert!(matches!(parse(bad), Err(Refusal::Malformed(_))), "{bad:?}: {:?}", parse(bad));
        }
        assert_eq!(parse("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), Err(Refusal::Version));
        let coded = "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(parse(coded), Err(Refusal::NotImplemented));
    }

    #[test]
    fn only_one_expectation_is_met() {
        let with = |version: &str, expected: &str| {
            parse(&format!("PUT / HTTP/{version}\r\nHost: x\r\nExpect: {expected}\r\n\r\n"))
        };
        for known in ["100-continue", "100-Continue, 100-continue"] {
            assert!(with("1.1", known).unwrap().unwrap().0.expects_continue, "{known}");
        }
        for other in ["200-ok", "100-continue, x", "100-continue=1", ""] {
            assert_eq!(with("1.1", other), Err(Refusal::Expectation), "{other}");
        }
        // A client of HTTP/1.0 can't mean it.
        assert!(!with("1.0", "100-continue").unwrap().unwrap().0.expects_continue);
    }

    #[test]
    fn heads_have_a_largest_size() {
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(MOST_BYTES));
        assert_eq!(parse(&long), Err(Refusal::TooLarge));
        assert_eq!(parse(&long[..MOST_BYTES]), Err(Refusal::TooLarge));
        let many = "a: b\r\n".repeat(MOST_FIELDS);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")), Err(Refusal::TooLarge));
    }
}
