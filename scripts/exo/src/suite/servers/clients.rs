//! curl, ab, wrk and a browser; what tshark says of the packets.

use super::{Asked, holds, output, says, served, site};
use crate::host::tap::MACHINE;
use crate::suite::context::{Context, text};
use crate::suite::platform::Need;
use crate::suite::{Test, Verdict};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// The tests.
pub fn tests() -> Vec<Test> {
    let curl = [Need::Tap, Need::Program("curl"), Need::Program("ab"), Need::Program("tshark")];
    let load = [Need::Tap, Need::Program("wrk")];
    let browser = [Need::Tap, Need::Program("chromium")];
    vec![
        Test::new("web-clients", &curl, clients),
        Test::new("web-load", &load, load_of_wrk),
        Test::new("web-browser", &browser, browser_loads_all),
    ]
}

/// A page that takes many segments.
fn page() -> Vec<u8> {
    (0..100_000_u32).map(|at| b' ' + (at * 7 % 89) as u8).collect()
}

/// Files come whole, in parts, compressed and not at all, as the client asks; what went over the wire is well
/// formed.
fn clients(context: &Context) -> Verdict {
    let page = page();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    let packed = packed.write_all(&page).and_then(|()| packed.finish()).map_err(|error| error.to_string())?;
    let files = [
        ("index.html", &b"<p>here"[..]),
        ("page.txt", &page),
        ("packed.txt", &page),
        ("packed.txt.gz", &packed),
    ];
    let image = site(context, "clients", &files)?;
    let dump = context.scratch.path().join("clients.pcap");
    let pcap = text(&dump);
    let folder = context.scratch.path();
    let asked = served(context, &image, &["--pcap", &pcap], &[], |_| {
        whole_and_kept_alive(&page)?;
        parts(&page)?;
        conditions()?;
        compressed(&page)?;
        bodies(&text(&context.file("body", &page)?))?;
        benchmark_of_apache(&text(&folder.join("ab.csv")))
    });
    asked?;
    well_formed(&pcap)
}

fn url(path: &str) -> String {
    format!("http://{MACHINE}/{path}")
}

/// What curl gets.
fn curl(arguments: &[&str]) -> Asked<Vec<u8>> {
    output("curl", &[&["-sS", "--http1.1", "--max-time", "30"], arguments].concat())
}

fn whole_and_kept_alive(page: &[u8]) -> Verdict {
    let (one, other) = (url("page.txt"), url(""));
    holds(curl(&[&one])? == page, || "another page".into())?;
    let null = ["-o", "/dev/null"];
    let three = [&["-w", "%{num_connects} "], &null[..], &null, &null, &[&one, &other, &one]].concat();
    let connects = String::from_utf8_lossy(&curl(&three)?).into_owned();
    holds(connects == "1 0 0 ", || format!("connections for three pages: {connects}"))?;
    let head = String::from_utf8_lossy(&curl(&["-I", &one])?).into_owned();
    let length = format!("Content-Length: {}", page.len());
    holds(head.starts_with("HTTP/1.1 200 ") && head.contains(&length), || format!("HEAD: {head}"))
}

fn parts(page: &[u8]) -> Verdict {
    let of = |range: &str| curl(&["-r", range, &url("page.txt")]);
    holds(of("1000-1999")? == page[1000..2000], || "another part".into())?;
    holds(of("-77")? == page[page.len() - 77..], || "another end".into())?;
    holds(of("99990-")? == page[99990..], || "another rest".into())?;
    let several = curl(&["-i", "-r", "0-9,5000-5019", &url("page.txt")])?;
    let said = String::from_utf8_lossy(&several).into_owned();
    let has = |part: &[u8]| several.windows(part.len()).any(|window| window == part);
    let kind = said.contains("206 ") && said.contains("multipart/byteranges; boundary=");
    holds(kind && has(&page[..10]) && has(&page[5000..5020]), || format!("two parts: {said}"))?;
    let beyond = curl(&["-o", "/dev/null", "-w", "%{http_code}", "-r", "200000-", &url("page.txt")])?;
    holds(beyond == b"416", || format!("beyond the end: {}", String::from_utf8_lossy(&beyond)))
}

fn conditions() -> Verdict {
    let head = String::from_utf8_lossy(&curl(&["-I", &url("page.txt")])?).into_owned();
    let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).ok_or("no ETag")?.trim().to_owned();
    let status = |field: String, more: &[&str]| {
        let page = url("page.txt");
        let words = ["-o", "/dev/null", "-w", "%{http_code}", "-H", &field, &page];
        Ok::<_, String>(String::from_utf8_lossy(&curl(&[&words, more].concat())?).into_owned())
    };
    for (field, more, expected) in [
        (format!("If-None-Match: {tag}"), &[][..], "304"),
        ("If-None-Match: \"other\"".into(), &[], "200"),
        (format!("If-Match: {tag}"), &[], "200"),
        ("If-Match: \"other\"".into(), &[], "412"),
        (format!("If-Range: {tag}"), &["-r", "0-9"], "206"),
        ("If-Range: \"other\"".into(), &["-r", "0-9"], "200"),
    ] {
        let found = status(field.clone(), more)?;
        holds(found == expected, || format!("{field} {more:?}: {found} instead of {expected}"))?;
    }
    Ok(())
}

fn compressed(page: &[u8]) -> Verdict {
    let path = url("packed.txt");
    holds(curl(&["--compressed", &path])? == page, || "another page, compressed".into())?;
    let sizes = curl(&["--compressed", "-o", "/dev/null", "-w", "%{size_download}", &path])?;
    let size: usize = String::from_utf8_lossy(&sizes).parse().map_err(|_| "no size")?;
    holds(size < page.len() / 2, || format!("{size} bytes came, compressed"))?;
    holds(curl(&[&path])? == page, || "another page, not compressed".into())
}

/// Bodies that are of no use are taken, and the connection goes on.
fn bodies(file: &str) -> Verdict {
    let data = format!("@{file}");
    let page = url("page.txt");
    for more in
        [&["-H", "Expect: 100-continue"][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect:"]]
    {
        let common = ["-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} %{num_connects} "];
        let words = [&common[..], more, &["--data-binary", &data, &page, &page]].concat();
        let found = String::from_utf8_lossy(&curl(&words)?).into_owned();
        holds(found == "405 1 405 0 ", || format!("{more:?}: {found}"))?;
    }
    Ok(())
}

/// Clients of HTTP/1.0 that ask for connections to stay open.
fn benchmark_of_apache(csv: &str) -> Verdict {
    let said = says("ab", &["-q", "-k", "-n", "400", "-c", "8", "-e", csv, &url("page.txt")])?;
    let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let found = ["Complete requests:", "Failed requests:", "Keep-Alive requests:"].map(value);
    holds(found == [Some("400"), Some("0"), Some("400")], || format!("ab: {found:?}"))
}

fn well_formed(dump: &str) -> Verdict {
    let packets = |filter: &str| says("tshark", &["-r", dump, "-Y", filter]);
    let bad = packets("_ws.malformed")?;
    holds(bad.trim().is_empty(), || format!("malformed packets: {bad}"))?;
    let parts = packets("http.response.code == 206")?;
    holds(parts.lines().count() >= 5, || format!("tshark sees too few answers: {parts:?}"))
}

/// As many requests as there can be, on 64 connections; all are answered.
fn load_of_wrk(context: &Context) -> Verdict {
    let image = site(context, "load", &[("small", &[b'x'; 1024]), ("large", &page())])?;
    let asked = served(context, &image, &[], &[], |_| {
        for (page, clients) in [("small", "-c64"), ("large", "-c16")] {
            let said = says("wrk", &["-t1", clients, "-d1s", "--timeout", "20s", &url(page)])?;
            let failed = said.contains("Socket errors") || said.contains("Non-2xx");
            holds(!failed && said.contains("requests in"), || format!("wrk: {said}"))?;
        }
        Ok(())
    });
    asked.map(drop)
}

/// Resources of the page for the browser: scripts and pictures.
const SCRIPTS: usize = 30;
const PICTURES: usize = 20;

/// A page with 50 resources is loaded by a browser, on the connections that it likes.
fn browser_loads_all(context: &Context) -> Verdict {
    let mut index =
        "<!DOCTYPE html><title>t</title><script>var there = 0, absent = ''</script><body>".to_owned();
    let mut files = Vec::new();
    for number in 0..SCRIPTS {
        files.push((format!("s{number}.js"), format!("there += 1; // {}", "x".repeat(number * 100))));
        index += &format!("<script src=\"s{number}.js\" onerror=\"absent += this.src\"></script>");
    }
    for number in 0..PICTURES {
        let picture =
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><circle r=\"4\"/></svg>";
        files.push((format!("p{number}.svg"), picture.to_owned()));
        index += &format!("<img src=\"p{number}.svg\" onload=\"there += 1\" onerror=\"absent += this.src\">");
    }
    index += "<pre></pre><script>onload = () => document.querySelector('pre').textContent = there + ' are here' + absent</script>";
    files.push(("index.html".into(), index));
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let image = site(context, "browser", &files)?;
    let profile = context.scratch.path().join(format!("profile-{}", context.platform.name()));
    let profile = format!("--user-data-dir={}", profile.display());
    let asked = served(context, &image, &[], &[], |_| {
        // The page is our own. Root, as which tests run in containers, has no sandbox.
        let own = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", &profile, &url("")];
        let dom = says("chromium", &own)?;
        let wanted = format!("<pre>{} are here</pre>", SCRIPTS + PICTURES);
        let shown = dom.split_once("<pre>").map_or(dom.as_str(), |(_, rest)| rest);
        holds(dom.contains(&wanted), || format!("the browser shows {shown}"))
    });
    asked.map(drop)
}
