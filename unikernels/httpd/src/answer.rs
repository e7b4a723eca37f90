//! What is answered: a head, and what is sent after it.

use crate::condition::{Verdict, judge, range_holds};
use crate::range::{Parts, parts};
use crate::request::{Method, Refusal, Request};
use crate::site::{Found, Place, Site};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::Range;
use libos_fs::File;

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Lines of its head, without the first and those that belong to the connection.
    fields: String,
    /// What is sent after the head.
    pub body: Body,
    /// Whether only the head is sent.
    pub head_only: bool,
}

/// What is sent after a head.
pub enum Body {
    /// These bytes.
    Text(String),
    /// Parts of a file, each after a text; and a text at the end.
    File {
        /// The file.
        file: File,
        /// Its length.
        length: u64,
        /// Text and part.
        parts: Vec<(String, Range<u64>)>,
        /// At the end.
        end: String,
    },
}

impl Body {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        match self {
            Body::Text(text) => text.len() as u64,
            Body::File { parts, end, .. } => {
                let each = parts.iter().map(|(text, part)| text.len() as u64 + part.end - part.start);
                each.sum::<u64>() + end.len() as u64
            }
        }
    }
}

/// What stands between the parts of an answer. It can't occur in a text by chance; in bytes it does no harm,
/// as the length of each part is told.
const BOUNDARY: &str = "hyperexo-part-4f1c8e0b7a29d653";

impl Answer {
    /// What a request gets.
    pub fn to(request: &Request, site: &Site) -> Answer {
        let mut answer = match &request.method {
            Method::Get | Method::Head => match site.find(request) {
                Ok(Place::File(found)) => file(request, found),
                Ok(Place::Moved(path)) => moved(&path),
                Ok(Place::Nowhere) => plain(404, "there is nothing here"),
                Err(_) => plain(500, "the file can't be read"),
            },
            Method::Other(_) => {
                let mut answer = plain(405, "this server has only GET and HEAD");
                answer.fields.push_str("Allow: GET, HEAD\r\n");
                answer
            }
        };
        answer.head_only = request.method == Method::Head;
        answer
    }

    /// What a request gets that was not understood.
    pub fn refusing(refusal: Refusal) -> Answer {
        plain(refusal.status(), &refusal.to_string())
    }

    /// What a client gets that is too slow.
    pub fn too_slow() -> Answer {
        plain(408, "the request did not come in time")
    }

    /// What a request gets whose body is too long.
    pub fn too_long() -> Answer {
        plain(413, "the body is too long")
    }

    /// The head as it is sent.
    pub fn head(&self, keep_alive: bool) -> String {
        let mut head =
            format!("HTTP/1.1 {} {}\r\nServer: httpd\r\n{}", self.status, reason(self.status), self.fields);
        // Writing to a string does not fail.
        if self.status != 304 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.bytes());
        }
        head.push_str(if keep_alive {
            "Connection: keep-alive\r\n\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        head
    }
}

fn plain(status: u16, text: &str) -> Answer {
    Answer {
        status,
        fields: "Content-Type: text/plain; charset=utf-8\r\n".into(),
        body: Body::Text(format!("{status} {}: {text}\n", reason(status))),
        head_only: false,
    }
}

fn moved(path: &str) -> Answer {
    let mut answer = plain(301, "this is a directory");
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    let _ = write!(answer.fields, "Location: {encoded}\r\n");
    answer
}

/// A file, or parts of it, or that the client has it.
fn file(request: &Request, found: Found) -> Answer {
    let mut fields = format!("ETag: {}\r\nAccept-Ranges: bytes\r\n", found.tag);
    if found.varies {
        fields.push_str("Vary: Accept-Encoding\r\n");
    }
    match judge(request, &found.tag) {
        Verdict::NotModified => {
            return Answer { status: 304, fields, body: Body::Text(String::new()), head_only: false };
        }
        Verdict::Failed => return plain(412, "it is not what you think"),
        Verdict::Send => {}
    }
    if let Some(coding) = found.coding {
        // Writing to a string does not fail.
        let _ = write!(fields, "Content-Encoding: {coding}\r\n");
    }
    let length = found.length;
    let wanted =
        request.field("range").filter(|_| request.method == Method::Get && range_holds(request, &found.tag));
    match wanted.map_or(Parts::Whole, |value| parts(&value, length)) {
        Parts::Whole => {
            let _ = write!(fields, "Content-Type: {}\r\n", found.media_type);
            let parts = vec![(String::new(), 0..length)];
            let body = Body::File { file: found.file, length, parts, end: String::new() };
            Answer { status: 200, fields, body, head_only: false }
        }
        Parts::NotSatisfiable => {
            let mut answer = plain(416, "the file has no such part");
            let _ = write!(answer.fields, "Content-Range: bytes */{length}\r\n");
            answer
        }
        Parts::These(these) => {
            let (parts, end) = match these.as_slice() {
                [one] => {
                    let _ = write!(
                        fields,
                        "Content-Type: {}\r\nContent-Range: {}\r\n",
                        found.media_type,
                        content_range(one, length)
                    );
                    (vec![(String::new(), one.clone())], String::new())
                }
                several => {
                    let _ = write!(fields, "Content-Type: multipart/byteranges; boundary={BOUNDARY}\r\n");
                    let with_head = |part: &Range<u64>| {
                        let head = format!(
                            "\r\n--{BOUNDARY}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
                            found.media_type,
                            content_range(part, length)
                        );
                        (head, part.clone())
                    };
                    (several.iter().map(with_head).collect(), format!("\r\n--{BOUNDARY}--\r\n"))
                }
            };
            Answer {
                status: 206,
                fields,
                body: Body::File { file: found.file, length, parts, end },
                head_only: false,
            }
        }
    }
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// The phrase of a status (RFC 9110, section 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
