//! HTTPS: a page by TLS 1.3, and what is said where the words for it are wrong.

use super::{Asked, Test, Verdict, holds, output, served, site};
use crate::host::tap::{MACHINE, TapNetwork};
use crate::suite::context::{Context, text};
use crate::suite::platform::Need;
use std::path::Path;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("web-tls", &[Need::Tap, Need::Program("curl")], page),
        Test::new("web-tls-words", &[Need::Tap], wrong_words),
    ]
}

/// A certificate that signs itself, for this name, and its key: those of the tests of `libos-net`.
const NAME: &str = "localhost";
const CERTIFICATE: &str = "libos-net/tests/tls/certificate.pem";
const KEY: &str = "libos-net/tests/tls/key.pem";

/// A site with them on it.
fn secret_site(context: &Context, page: &[u8]) -> Asked<std::path::PathBuf> {
    let read = |name: &str| {
        let path = context.checkout.root.join(name);
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    site(context, "secret", &[("page", page), ("c.pem", &read(CERTIFICATE)?), ("k.pem", &read(KEY)?)])
}

/// curl gets the page by TLS 1.3, and by nothing older; the key it does not get.
fn page(context: &Context) -> Verdict {
    let page: Vec<u8> = (0..100_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    let image = secret_site(context, &page)?;
    let authority = text(&context.checkout.root.join(CERTIFICATE));
    let words = ["tls=443", "certificate=/c.pem", "key=/k.pem"];
    let ask = |path: &str, more: &[&str]| {
        let (place, url) = (format!("{NAME}:443:{MACHINE}"), format!("https://{NAME}/{path}"));
        let own = ["-sS", "--max-time", "60", "--cacert", &authority, "--resolve", &place, &url];
        output("curl", &[&own[..], more].concat())
    };
    let said = served(context, &image, &[], &words, |printed| {
        printed.wait_for(":443 with TLS").map_err(|error| error.to_string())?;
        holds(ask("page", &["--tlsv1.3"])? == page, || "another page".into())?;
        holds(ask("page", &["--tls-max", "1.2"]).is_err(), || "TLS 1.2 is spoken".into())?;
        let status = ask("k.pem", &["-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}"])?;
        holds(status == b"404 0", || format!("the key: {}", String::from_utf8_lossy(&status)))
    });
    said.map(drop)
}

/// Wrong words end the server with one line that names them.
fn wrong_words(context: &Context) -> Verdict {
    let image = secret_site(context, b"page")?;
    for (words, said) in [
        (&["certificate=/c.pem"][..], "httpd: with tls= a word key=FILE is wanted"),
        (&["certificate=/c.pem", "key=/none.pem"], "httpd: key=/none.pem: "),
        (
            &["certificate=/page", "key=/k.pem"],
            "httpd: there is no certificate: a part BEGIN CERTIFICATE is wanted",
        ),
    ] {
        refused(context, &image, words)?.shows(said)?.fails_with(&["exit code 1"])?;
    }
    Ok(())
}

fn refused(context: &Context, image: &Path, words: &[&str]) -> Asked<crate::suite::context::Said> {
    let network = TapNetwork::new().map_err(|error| error.to_string())?;
    let (net, disk, address) = (TapNetwork::net(), text(image), TapNetwork::word());
    let own = ["--net", &net, "--disk", &disk, "httpd", "--", &address, "tls=443"];
    network.within(|| context.run(&[&own[..], words].concat()))
}
